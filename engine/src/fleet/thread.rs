//! A shard's thread: how it starts, the first time and after a failure.
//!
//! Invariant: a shard has one thread that its updates go to.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use core_affinity::CoreId;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rustix::process::Pid;
use rustix::thread::gettid;

use super::mailbox::Inbox;
use super::{Backend, FleetSettings};
use crate::answer::exit::Reports;
use crate::heart::Heart;
use crate::io::DatagramIo;
use crate::io::mmsg::Mmsg;
use crate::io::uring::Uring;
use crate::limits::SHARD_START_TIMEOUT;
use crate::metrics::ShardMetrics;
use crate::resolve::fills::Fills;
use crate::responder::Responder;
use crate::shard::serve;
use crate::tcp::TcpService;

/// What all threads of one shard have in common.
#[derive(Clone)]
pub(super) struct ShardParts {
    pub(super) settings: FleetSettings,
    pub(super) core: Option<CoreId>,
    pub(super) index: usize,
    pub(super) reports: Reports,
    pub(super) fills: Fills,
    pub(super) metrics: Arc<ShardMetrics>,
}

/// A shard's running thread.
pub(super) struct ShardThread {
    pub(super) handle: JoinHandle<()>,
    pub(super) id: Pid,
    pub(super) heart: Arc<Heart>,
}

impl ShardThread {
    /// Starts a thread and waits until it has its ring.
    ///
    /// # Errors
    /// The kernel's, for the ring or the thread.
    pub(super) fn start(parts: ShardParts, inbox: Inbox, heart: Arc<Heart>) -> io::Result<Self> {
        let index = parts.index;
        let (report, started) = bounded(1);
        let own_heart = Arc::clone(&heart);
        let handle =
            std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                let _lifetime = own_heart.begin();
                if let Err(error) = run(parts, inbox, own_heart, &report) {
                    tracing::error!("shard {index} has ended: {error}");
                }
            })?;
        let id = started.recv_timeout(SHARD_START_TIMEOUT).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
                RecvTimeoutError::Disconnected => io::Error::other("the shard's thread ended"),
            })
        })?;
        Ok(Self { handle, id, heart })
    }
}

/// The thread's main function. Sends one result to `report`: whether the backend started, and in
/// which thread.
fn run(
    parts: ShardParts,
    inbox: Inbox,
    heart: Arc<Heart>,
    report: &Sender<io::Result<Pid>>,
) -> io::Result<()> {
    let ShardParts { settings, core, index, reports, fills, metrics } = parts;
    let Inbox { updates, bell } = inbox;
    if let Some(core) = core
        && !core_affinity::set_for_current(core)
    {
        tracing::warn!(core = core.id, "a shard could not be pinned to its core");
    }
    let io_metrics = Arc::clone(&metrics);
    let responder = Rc::new(RefCell::new(Responder::new(index, reports, fills, metrics)));
    let bell = Rc::new(bell);
    let tcp = TcpService::new(Rc::clone(&bell));
    let busy_poll = settings.busy_poll;
    match settings.backend {
        // The ring is created first: if io_uring is denied it returns an error, while tokio-uring
        // would panic.
        Backend::Uring => reported(Uring::new(Rc::clone(&bell), io_metrics), report, |ring| {
            run_beside_ring(serve(responder, heart, updates, &bell, ring, tcp, busy_poll))
        }),
        Backend::Mmsg => reported(Mmsg::new(Rc::clone(&bell), io_metrics), report, |batches| {
            run_in_tokio(serve(responder, heart, updates, &bell, batches, tcp, busy_poll))
        }),
    }
}

#[cfg(not(target_env = "musl"))]
fn run_beside_ring(serving: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio_uring::start(serving)
}

/// tokio-uring 0.5 does not compile with musl's `msghdr`. Nothing but its runtime is used, and the
/// ring of the datagrams is separate from it.
#[cfg(target_env = "musl")]
fn run_beside_ring(serving: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    run_in_tokio(serving)
}

fn run_in_tokio(serving: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serving)
}

/// Reports whether the backend could be created, and serves with it.
fn reported<I: DatagramIo>(
    backend: io::Result<I>,
    report: &Sender<io::Result<Pid>>,
    serve: impl FnOnce(I) -> io::Result<()>,
) -> io::Result<()> {
    match backend {
        Ok(io) => {
            let _ = report.send(Ok(gettid()));
            serve(io)
        }
        Err(error) => {
            let _ = report.send(Err(error));
            Ok(())
        }
    }
}
