//! A DNS load generator: open loop with latency from the intended send time, or closed loop for the highest throughput.
//!
//! ```text
//!   query file | manifests ─→ Workload ─┐
//!   rate, spacing ─────────→ Schedule ──┴→ sender threads (UDP | TCP) ─intervals→ Collector ─→ report
//!                                              │ Flight: id ─→ what was asked, and when
//! ```
//! In reading order. `schedule`, `flight` and `answer` are pure: no socket, clock or thread can be named there. The sending and
//! receiving loops allocate nothing once they run; what they need is built before the clock starts.
#![forbid(unsafe_code)]

pub mod cli;
pub mod command;
mod dnsperf_flags;
pub mod plan;
pub mod schedule;
pub mod workload;

pub mod answer;
pub mod flight;
pub mod sender;
pub mod tally;

pub mod collect;
pub mod compare;
mod compare_command;
pub mod drops;
pub mod output;
pub mod process;
pub mod report;
pub mod run;
pub mod watch;
