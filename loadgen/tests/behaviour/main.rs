//! Runs loadgen, as a library and as a command, against servers with known behaviour.

mod command;
mod compare;
mod launched;
mod server;
mod truth;
