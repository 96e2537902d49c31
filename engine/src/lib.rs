//! The server's modules in reading order: first the packet path, then the modules that prepare it.
//!
//! Invariant: `unsafe` is in `io` only.
#![deny(unsafe_code)]
#![deny(
    clippy::dbg_macro,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they panic if the output is closed, and wait if nobody reads it"
)]

pub mod shard;

pub mod responder;

pub mod client;

pub mod question;

pub mod answer;

pub mod plan;

pub mod cache;

pub mod tcp;

pub mod resolve;

pub mod forward;

pub mod trust;

// Rings, system calls and socket options. Each `unsafe` block says who owns the memory.
#[allow(unsafe_code)]
pub mod io;

mod pem;
pub mod ports;

pub mod heart;

pub mod limits;

pub mod metrics;

pub mod admin;

pub mod fleet;

pub mod steering;

pub mod check;

pub mod base_corefile;

pub mod config;

pub mod lint;

pub mod plugin;

pub mod corefile;

pub mod convert;

pub mod cli;
