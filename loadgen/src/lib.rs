//! A DNS load generator: open loop for true latency, or closed loop for the highest throughput.
//!
//! ```text
//!   query file | manifests ─→ Workload ─┐
//!   rate, spacing ─────────→ Schedule ──┴→ sender threads (UDP | TCP) ─→ Collector ─→ report
//!                                              │ Flight: id ─→ query and send time
//! ```
//! Modules are in reading order. `schedule`, `flight` and `answer` are pure: no socket, clock or
//! thread. The send and receive loops do not allocate: everything they need is built before the
//! clock starts.
#![forbid(unsafe_code)]

pub mod cli;
mod dnsperf_flags;
pub mod flag_error;
pub mod plan;
pub mod schedule;
pub mod transport;
pub mod workload;

pub mod answer;
pub mod flight;
pub mod rcode;
pub mod sender;
pub mod tally;

pub mod collect;
pub mod drops;
pub mod process;
pub mod report;
pub mod run;
pub mod watch;

pub mod command;
pub mod command_error;
pub mod compare;
mod compare_command;
mod input;
pub mod output;
mod signals;
