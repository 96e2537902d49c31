//! The server, in reading order: what a packet meets, then what prepares it.
#![deny(unsafe_code)]
#![deny(
    clippy::dbg_macro,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they panic where the output is closed, and wait where nobody reads it"
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

// Rings, system calls and socket options: each block says who owns the memory.
#[allow(unsafe_code)]
pub mod io;

pub mod ports;

pub mod limits;

pub mod metrics;

pub mod admin;

pub mod fleet;

pub mod config;

pub mod plugin;

pub mod corefile;

pub mod convert;

pub mod cli;
