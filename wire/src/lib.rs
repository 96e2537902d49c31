//! DNS bytes: a question is parsed, looked up in a table of answers already in wire format, and stamped.
//!
//! ```text
//!   packet ─→ query::read ─→ Table::look_up ─→ reply::stamp ─→ packet
//!                                 ▲
//!              records ─→ EntryWriter ─→ TableBuilder::publish       (compile: the control plane's side)
//!
//!   an upstream's packet ─→ response::read ─→ Response ─→ response::stamp ─→ packet
//! ```
//! No socket, clock, thread or random source can be named here. `query`, `zone`, `table` and `reply` are the packet path:
//! they borrow what they read, write into what they are given, and neither allocate nor panic. So does `response::stamp`.
//! `compile` and `response::read` build what is kept, and may allocate.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod apex;
pub mod compile;
pub mod edit;
pub mod hash;
pub mod header;
mod hosts;
pub mod kubernetes;
pub mod name;
pub mod query;
mod record;
pub mod reply;
pub mod response;
mod segment;
pub mod table;
pub mod zone;
