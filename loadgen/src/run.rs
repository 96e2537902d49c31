//! A run: opens sockets, starts threads, measures, and collects everything that the reports need.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use core_affinity::CoreId;

use crate::collect::{Second, Totals, collect};
use crate::drops;
use crate::plan::{Load, Plan};
use crate::process::{NoSuchProcess, process_cpu_ns};
use crate::schedule::Schedule;
use crate::sender::mixed::Mixed;
use crate::sender::tcp::{Tcp, TcpOptions};
use crate::sender::udp::{Udp, UdpOptions, UdpSockets};
use crate::sender::{self, Clock, Driver, Pace, Share};
use crate::tally::recorders;
use crate::transport::{Mode, Transport};
use crate::workload::Workload;

/// Time for the threads to start before the first send.
const START_AHEAD: Duration = Duration::from_millis(10);

/// The result of a run.
pub struct Outcome {
    pub started: SystemTime,
    /// The longest `ThreadUse::run_ns`; 0 if nothing was sent.
    pub run_ns: u64,
    pub totals: Totals,
    /// CPU time that the server's process used during the run.
    pub server_cpu_ns: Option<u64>,
    /// The process named by `server_pid` ended during the run.
    pub server_exited: bool,
    /// Queries dropped because the server's UDP socket buffers were full; known for servers on
    /// loopback.
    pub server_drops: Option<u64>,
    pub interrupted: bool,
}

#[derive(Debug)]
pub enum RunError {
    Socket { server: SocketAddr, error: io::Error },
    NoSuchCore { core: usize, count: usize },
    Thread(io::Error),
    Server(NoSuchProcess),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { server, error } => {
                write!(f, "cannot open a socket to {server}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(f, "; the local port (-x) is in use"),
                    io::ErrorKind::AddrNotAvailable => {
                        write!(f, "; the local address (-a) must belong to this machine")
                    }
                    io::ErrorKind::PermissionDenied => {
                        write!(f, "; local ports (-x) below 1024 need root")
                    }
                    _ if error.raw_os_error() == Some(24) => {
                        write!(f, "; use fewer sockets (-c) or raise 'ulimit -n'")
                    }
                    _ => Ok(()),
                }
            }
            Self::NoSuchCore { core, count } => {
                write!(
                    f,
                    "cannot pin to core {core}: it is not among the {count} cores that this \
                     process may use"
                )
            }
            Self::Thread(error) => {
                write!(f, "cannot start a thread: {error}; use fewer threads (-T)")
            }
            Self::Server(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs the plan; `stop` ends it early, `each_second` receives each second's figures.
pub fn run(
    plan: &Plan,
    workload: &Workload,
    stop: &AtomicBool,
    each_second: impl FnMut(&Second),
) -> Result<Outcome, RunError> {
    assert!(plan.thread_count > 0 && plan.socket_count >= plan.thread_count);
    let cores = find_cores(&plan.cores)?;
    let mut prepared = Vec::with_capacity(plan.thread_count);
    for thread in 0..plan.thread_count {
        prepared.push(
            prepare(plan, thread)
                .map_err(|error| RunError::Socket { server: plan.server, error })?,
        );
    }
    let server_cpu_ns =
        || plan.server_pid.map(process_cpu_ns).transpose().map_err(RunError::Server);
    let cpu_before_ns = server_cpu_ns()?;
    let drops_before = drops::of_server(plan.server);
    let (recorders, intervals) = recorders(plan.thread_count);
    let started = SystemTime::now() + START_AHEAD;
    let clock = Clock::Monotonic(Instant::now() + START_AHEAD);
    let totals = std::thread::scope(|scope| {
        for (thread, (sockets, recorder)) in prepared.into_iter().zip(recorders).enumerate() {
            let driver = Driver::new(share(plan, workload, clock, stop, thread), recorder);
            let core = cores.get(thread % cores.len().max(1)).copied();
            let work = move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                sockets.run(driver);
            };
            if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                // Stops the threads that are already running.
                stop.store(true, Ordering::Relaxed);
                return Err(RunError::Thread(error));
            }
        }
        Ok(collect(&intervals, plan.thread_count, each_second))
    })?;
    // An error: the server has exited, and its CPU time is unknown.
    let cpu_after_ns = server_cpu_ns();
    let server_drops = drops::of_server(plan.server)
        .zip(drops_before)
        .map(|(after, before)| after.saturating_sub(before));
    Ok(Outcome {
        started,
        server_drops,
        run_ns: totals.run_ns(),
        totals,
        server_exited: cpu_after_ns.is_err(),
        server_cpu_ns: cpu_after_ns
            .unwrap_or(None)
            .zip(cpu_before_ns)
            .map(|(after, before)| after.saturating_sub(before)),
        interrupted: stop.load(Ordering::Relaxed),
    })
}

/// Part `index` of `whole`, divided evenly by `count`.
fn part(whole: usize, index: usize, count: usize) -> usize {
    whole / count + usize::from(index < whole % count)
}

/// The numbers of a thread's sockets, among those of all threads.
fn sockets_of(plan: &Plan, thread: usize) -> Range<usize> {
    let count = |thread| part(plan.socket_count, thread, plan.thread_count);
    let first = (0..thread).map(count).sum();
    first..first + count(thread)
}

/// A thread's bound on queries in flight: in proportion to its sockets, since each has its own ids.
/// If there are fewer queries than sockets, an even part, so that each thread has one.
fn outstanding_max(plan: &Plan, thread: usize) -> u32 {
    let whole = plan.outstanding_max as usize;
    let part: usize = if whole < plan.socket_count {
        part(whole, thread, plan.thread_count)
    } else {
        sockets_of(plan, thread).map(|socket| part(whole, socket, plan.socket_count)).sum()
    };
    part as u32
}

/// Sockets that are ready to be handed to their thread.
enum Prepared {
    Udp(UdpSockets),
    Tcp(Tcp),
    Both(UdpSockets, Tcp),
}

impl Prepared {
    fn run(self, driver: Driver<'_>) {
        match self {
            Self::Udp(sockets) => sender::run(Udp::new(sockets), driver),
            Self::Tcp(tcp) => sender::run(tcp, driver),
            Self::Both(sockets, tcp) => {
                sender::run(Mixed { udp: Udp::new(sockets), tcp }, driver);
            }
        }
    }
}

fn prepare(plan: &Plan, thread: usize) -> io::Result<Prepared> {
    let sockets = sockets_of(plan, thread);
    let outstanding_max = outstanding_max(plan, thread);
    let local = plan.local.map(|local| sender::nth_local(local, sockets.start));
    let udp = || {
        UdpSockets::open(&UdpOptions {
            server: plan.server,
            local,
            buffer_len: plan.buffer_len,
            socket_count: sockets.len(),
            outstanding_max,
            is_segmenting: plan.is_segmenting,
        })
    };
    let tcp = || {
        Tcp::new(TcpOptions {
            server: plan.server,
            local,
            connection_count: sockets.len(),
            outstanding_max,
            reconnect_after: plan.reconnect_after,
        })
    };
    Ok(match plan.mode {
        Mode::One(Transport::Udp) => Prepared::Udp(udp()?),
        Mode::One(Transport::Tcp) => Prepared::Tcp(tcp()?),
        Mode::Both { .. } => Prepared::Both(udp()?, tcp()?),
    })
}

fn share<'w>(
    plan: &Plan,
    workload: &'w Workload,
    clock: Clock,
    stop: &'w AtomicBool,
    thread: usize,
) -> Share<'w> {
    let (index, count) = (thread as u64, plan.thread_count as u64);
    let pace = match &plan.load {
        Load::Closed => Pace::Closed,
        Load::Open { rate, spacing } => {
            Pace::Open(Schedule::new(rate, *spacing, index, count, plan.seed))
        }
    };
    Share {
        clock,
        workload,
        pace,
        outstanding_max: outstanding_max(plan, thread),
        index,
        count,
        sends_max: plan.sends_max,
        end_ns: plan.duration.as_nanos() as u64,
        timeout_ns: plan.timeout.as_nanos() as u64,
        late_after_ns: plan.late_after.as_nanos() as u64,
        mode: plan.mode,
        seed: plan.seed,
        spin: plan.spin,
        stop,
    }
}

/// The cores with these numbers; an error if this process may not use one of them.
pub fn find_cores(numbers: &[usize]) -> Result<Vec<CoreId>, RunError> {
    let there = core_affinity::get_core_ids().unwrap_or_default();
    numbers
        .iter()
        .map(|&core| {
            let found = there.iter().find(|id| id.id == core).copied();
            found.ok_or(RunError::NoSuchCore { core, count: there.len() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::flight::SOCKET_OUTSTANDING_MAX;

    #[test]
    fn no_socket_gets_more_queries_than_it_has_ids() {
        let socket_max = SOCKET_OUTSTANDING_MAX as usize;
        let check = |threads: usize, sockets: usize, outstanding: usize| {
            let flags = format!("loadgen -T {threads} -c {sockets} -q {outstanding}");
            let plan = Cli::parse_from(flags.split(' ')).run.plan(1).unwrap();
            let mut sum = 0;
            for thread in 0..threads {
                let part = outstanding_max(&plan, thread) as usize;
                assert!(part > 0, "{flags}: thread {thread}");
                let per_socket = part.div_ceil(sockets_of(&plan, thread).len());
                assert!(per_socket <= socket_max, "{flags}: {per_socket} on a socket");
                sum += part;
            }
            assert_eq!(sum, outstanding, "{flags}");
            assert_eq!(sockets_of(&plan, threads - 1).end, sockets, "{flags}");
        };
        for threads in 1..=6 {
            for sockets in threads..=14 {
                let most = sockets * socket_max;
                for outstanding in (threads..=sockets + 1).chain([100, 1_000, most - 1, most]) {
                    check(threads, sockets, outstanding);
                }
            }
        }
    }
}
