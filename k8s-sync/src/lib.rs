#![deny(
    clippy::dbg_macro,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they panic where the output is closed, and wait where nobody reads it"
)]

pub mod cluster;
pub mod convert;
pub mod fault;
pub mod manifests;
pub mod object;
pub mod options;
pub mod publish;
pub mod raw;
pub mod records;
pub mod selector;
pub mod status;
pub mod watch;
