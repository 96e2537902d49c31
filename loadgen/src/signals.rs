//! The signals that end a run early.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

/// Flags set by the signals that normally end a process.
pub(crate) struct Signals {
    /// A signal arrived: stop and write the report.
    pub(crate) stop: Arc<AtomicBool>,
    /// Once true, the next signal ends the process in the default way.
    pub(crate) next_ends_process: Arc<AtomicBool>,
}

/// The first Ctrl-C stops the run and writes the report; the second ends the process. If loadgen
/// started servers, it stops them before a signal may end the process.
pub(crate) fn stop_on_signals(has_servers: bool) -> io::Result<Signals> {
    let stop = Arc::new(AtomicBool::new(false));
    let next_ends_process =
        if has_servers { Arc::new(AtomicBool::new(false)) } else { Arc::clone(&stop) };
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        flag::register_conditional_default(signal, Arc::clone(&next_ends_process))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(Signals { stop, next_ends_process })
}
