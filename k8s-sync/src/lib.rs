//! Reads a cluster's objects and turns them into tables of DNS answers.
//!
//! Objects come from the API server (`watch`) or from files (`manifests`), are validated in
//! `convert`, kept in a model (`cluster`), turned into records (`records`), and published to the
//! shards of the server (`publish`). This crate knows neither Corefiles nor queries.

#![deny(
    clippy::dbg_macro,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "they panic if the output is closed, and block if nobody reads it"
)]

pub mod cluster;
pub mod convert;
pub mod fault;
pub mod folders;
pub mod manifests;
pub mod object;
pub mod options;
pub mod origin;
pub mod publish;
pub mod raw;
pub mod records;
pub mod selector;
pub mod snapshot;
pub mod status;
pub mod watch;
