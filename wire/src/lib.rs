//! DNS messages: queries are parsed, answers are looked up in wire format, responses are stamped.
//! ```text
//! packet ─→ query::read ─→ Table::look_up ─→ reply::stamp ─→ packet
//!                               ▲
//!            records ─→ EntryWriter ─→ TableBuilder::publish       (compile: control plane)
//! an upstream's packet ─→ response::read ─→ Response ─→ response::stamp ─→ packet
//! ```
//! Invariant: no socket, clock, thread or random source. The packet path neither allocates nor
//! panics: all of `query`, `table`, `reply`, `edit`, `rename` and `summary`, and
//! `response::stamp`. Only `compile` and `response::read` allocate.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod answer;
pub mod apex;
pub mod compile;
mod cut;
pub mod edit;
pub mod endpoint;
pub mod hash;
pub mod header;
pub mod name;
pub mod pod;
pub mod pod_index;
pub mod query;
mod record;
pub mod rename;
pub mod reply;
pub mod response;
pub mod reverse;
mod segment;
pub mod summary;
pub mod table;
pub mod text;
mod turn;
pub mod zone;
