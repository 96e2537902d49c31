//! The log on standard output, in the format that users' scripts and parsers know from CoreDNS.
//!
//! Invariant: logging never waits for the reader (`queue`), and a failing output ends nothing.

mod line;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::cli::LogFormat;
use engine::heart::note_panic;
use tracing_subscriber::EnvFilter;

pub(crate) use line::{QueryLine, Weight, line};
pub(crate) use queue::LogQueue;

/// The first panics are all logged, then only every 2^n-th: a panic that a query causes may recur
/// with every query.
const PANICS_LOGGED: u64 = 10;

/// Starts logging, of levels from INFO up or as RUST_LOG says. Panics are logged too.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(format: LogFormat) -> io::Result<LogQueue> {
    let queue = LogQueue::start(io::stdout(), format)?;
    // kube warns about every refused request and every watch that ends. k8s-sync reports the cause
    // once.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=off,kube_runtime=off"));
    tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .event_format(line::Lines(format))
        .with_writer(queue.clone())
        .init();
    // std's own hook writes to standard error and waits for it.
    std::panic::set_hook(Box::new(log_panic));
    Ok(queue)
}

/// Panics so far, of all threads.
static PANIC_COUNT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn panic_count() -> u64 {
    PANIC_COUNT.load(Ordering::Relaxed)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    note_panic();
    let number = PANIC_COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    if number > PANICS_LOGGED && !number.is_power_of_two() {
        return;
    }
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("?");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    tracing::error!(
        "panic {number} of this process, a bug: please report it. Thread {thread} \
         {panic}{backtrace}"
    );
}
