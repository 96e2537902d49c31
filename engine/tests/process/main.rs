//! The binary from an operator's view: start-up, changes under load, broken files, shutdown.

mod changes;
mod hanging;
#[path = "../rig/port.rs"]
mod port;
#[path = "../rig/query.rs"]
mod query;
mod server;
mod signals;
mod start_up;
mod status;
