//! All shards, as the control plane sees them: it starts them, sends them updates, stops them.
//!
//! Invariant: the control plane reaches a shard only through the shard's bounded channel.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::Pid;
use rustix::thread::gettid;
use tokio::time::sleep;
use wire::pod_index::PodIndex;
use wire::table::Table;

use crate::answer::exit::Reports;
use crate::cli::Steer;
use crate::client::ListenerId;
use crate::forward::ShardNumber;
use crate::io::DatagramIo;
use crate::io::mmsg::Mmsg;
use crate::io::socket::ListenerSockets;
use crate::io::uring::Uring;
use crate::limits::{SYNC_STOP_LOOK_EVERY, UPDATES_WAITING_MAX};
use crate::metrics::{ShardMetrics, SteeringFacts};
use crate::plan::{Plan, TableSlot};
use crate::resolve::fills::Fills;
use crate::responder::Responder;
use crate::responder::explaining::ExplainRequest;
use crate::shard::{Update, serve};
use crate::steering::Steering;
use crate::steering::load::LoadMeter;
use crate::tcp::TcpService;

/// Sends a generation of a table, or of a pod index, to one shard. False if its channel is full:
/// the caller then retries later with its newest generation.
pub type Deliver<T = Table> = Box<dyn Fn(Arc<T>) -> bool + Send>;

/// How shards move datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring, in a tokio-uring runtime.
    Uring,
    /// recvmmsg and sendmmsg, in a plain tokio runtime.
    Mmsg,
}

impl Backend {
    /// Its name on the command line, in logs and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// What all shards have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    pub backend: Backend,
    /// How long a shard polls before it sleeps. Zero: it does not poll.
    pub busy_poll: Duration,
    pub steer: Steer,
}

/// The running shards.
pub struct Fleet {
    members: Vec<Member>,
    steering: Steering,
}

struct Member {
    mailbox: Mailbox,
    thread: JoinHandle<io::Result<()>>,
}

/// A shard's channel, and the eventfd that wakes the shard to read it.
#[derive(Clone)]
struct Mailbox {
    updates: Sender<Update>,
    wake: Arc<OwnedFd>,
}

impl Mailbox {
    fn try_send(&self, update: Update) -> Result<(), TrySendError<Update>> {
        self.updates.try_send(update)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // Fails only when the counter is at its limit: the shard is being woken already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// Sends an update that must not be lost. The shard empties its channel before each batch, so
    /// the wait is short. A shard that has ended gets nothing.
    fn send(&self, mut update: Update) {
        while let Err(TrySendError::Full(back)) = self.try_send(update) {
            update = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Has a shard answer questions, and report each decision.
#[derive(Clone)]
pub struct Asker(Option<Mailbox>);

impl Asker {
    /// A shard that has ended drops the request.
    pub fn ask(&self, request: ExplainRequest) {
        if let Some(mailbox) = &self.0 {
            mailbox.send(Update::Explain(Box::new(request)));
        }
    }
}

/// Shows whether all shards have dropped a table: each drops its copy of this token afterwards.
#[derive(Debug)]
pub struct Forgotten(Arc<()>);

impl Forgotten {
    #[must_use]
    pub fn by_all_shards(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Waits until no shard holds the table, or until the deadline.
    pub async fn wait_until(&self, deadline: Instant) {
        while !self.by_all_shards() && Instant::now() < deadline {
            sleep(SYNC_STOP_LOOK_EVERY).await;
        }
    }
}

impl Fleet {
    /// Starts one shard per core and waits until all have their rings.
    ///
    /// # Errors
    /// The kernel's, for the first ring or thread that could not be created.
    pub fn start(
        settings: FleetSettings,
        cores: &[Option<CoreId>],
        metrics: &[Arc<ShardMetrics>],
        reports: &Reports,
    ) -> io::Result<Self> {
        let mut members = Vec::with_capacity(cores.len());
        let mut threads = Vec::with_capacity(cores.len());
        let fills = Fills::between(cores.len());
        for (index, ((core, metrics), fills)) in cores.iter().zip(metrics).zip(fills).enumerate() {
            let (updates, receiver) = bounded(UPDATES_WAITING_MAX);
            let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
            let start = Start {
                settings,
                core: *core,
                wake: Arc::clone(&wake),
                number: ShardNumber { index, count: cores.len() },
                updates: receiver,
                reports: reports.clone(),
                fills,
                metrics: Arc::clone(metrics),
            };
            let (report, started) = bounded(1);
            let thread =
                std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                    let ended = start.run(&report);
                    ended.inspect_err(|error| tracing::error!("shard {index} has ended: {error}"))
                })?;
            let ended = |_| Err(io::Error::other("the shard's thread ended"));
            threads.push(started.recv().unwrap_or_else(ended)?);
            let mailbox = Mailbox { updates, wake };
            members.push(Member { mailbox, thread });
        }
        let meters = metrics.iter().zip(threads);
        let meters = meters.map(|(metrics, thread)| LoadMeter::new(Arc::clone(metrics), thread));
        let is_polling = !settings.busy_poll.is_zero();
        let steering = Steering::new(settings.steer, is_polling, cores, meters);
        Ok(Self { members, steering })
    }

    /// The number of shards.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.members.len()
    }

    /// The senders of this table's generations, one per shard.
    #[must_use]
    pub fn deliveries(&self, slot: TableSlot) -> Vec<Deliver> {
        self.deliver(slot, Update::Table)
    }

    /// The senders of the generations of a cluster's pod index, one per shard. `slot`: that of the
    /// cluster's table.
    #[must_use]
    pub fn pod_deliveries(&self, slot: TableSlot) -> Vec<Deliver<PodIndex>> {
        self.deliver(slot, Update::Pods)
    }

    fn deliver<T: 'static>(
        &self,
        slot: TableSlot,
        update: fn(TableSlot, Arc<T>) -> Update,
    ) -> Vec<Deliver<T>> {
        let deliver = |member: &Member| -> Deliver<T> {
            let mailbox = member.mailbox.clone();
            Box::new(move |new| {
                !matches!(mailbox.try_send(update(slot, new)), Err(TrySendError::Full(_)))
            })
        };
        self.members.iter().map(deliver).collect()
    }

    /// Sends a plan to all shards.
    pub fn set_plan(&self, plan: &Arc<Plan>) {
        for member in &self.members {
            member.mailbox.send(Update::Plan(Arc::clone(plan)));
        }
    }

    /// Serves these sockets, one pair per shard.
    pub fn open(&mut self, listener: ListenerId, sockets: Vec<ListenerSockets>) {
        debug_assert_eq!(sockets.len(), self.members.len());
        self.steering.open(listener, &sockets);
        for (member, sockets) in self.members.iter().zip(sockets) {
            member.mailbox.send(Update::Open(listener, sockets));
        }
    }

    /// Asks questions of the first shard.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker(self.members.first().map(|member| member.mailbox.clone()))
    }

    /// Closes a listener on all shards.
    pub fn close(&mut self, listener: ListenerId) {
        self.steering.close(listener);
        for member in &self.members {
            member.mailbox.send(Update::Close(listener));
        }
    }

    /// Checks whether a shard is overloaded while others idle. Call this every 200 ms or so;
    /// returns when to call it sooner.
    pub fn balance(&mut self, now: Instant) -> Option<Instant> {
        self.steering.balance(now)
    }

    /// How queries at each address find their shard.
    #[must_use]
    pub fn steering_facts(&self) -> Vec<SteeringFacts> {
        self.steering.facts()
    }

    /// Has all shards drop a table.
    #[must_use]
    pub fn forget(&self, slot: TableSlot) -> Forgotten {
        let forgotten = Forgotten(Arc::new(()));
        for member in &self.members {
            member.mailbox.send(Update::NoTable(slot, Arc::clone(&forgotten.0)));
        }
        forgotten
    }

    /// Whether a shard has ended by itself, which happens only if its ring fails.
    #[must_use]
    pub fn has_lost_a_shard(&self) -> bool {
        self.members.iter().any(|member| member.thread.is_finished())
    }

    /// Stops the shards: they answer the queries that their sockets hold. Waits for them at most
    /// `timeout`.
    pub fn stop(self, timeout: Duration) {
        // Its copies would keep the sockets of the shards open.
        drop(self.steering);
        let deadline = Instant::now() + timeout;
        for member in &self.members {
            while matches!(member.mailbox.try_send(Update::Stop), Err(TrySendError::Full(_)))
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        while Instant::now() < deadline && self.members.iter().any(|one| !one.thread.is_finished())
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Everything that a shard's thread needs.
struct Start {
    settings: FleetSettings,
    core: Option<CoreId>,
    wake: Arc<OwnedFd>,
    number: ShardNumber,
    updates: Receiver<Update>,
    reports: Reports,
    fills: Fills,
    metrics: Arc<ShardMetrics>,
}

impl Start {
    /// The thread's main function. Sends one result to `report`: whether the backend started, and
    /// in which thread.
    fn run(self, report: &Sender<io::Result<Pid>>) -> io::Result<()> {
        if let Some(core) = self.core
            && !core_affinity::set_for_current(core)
        {
            tracing::warn!(core = core.id, "a shard could not be pinned to its core");
        }
        let io_metrics = Arc::clone(&self.metrics);
        let responder = Responder::new(self.number, self.reports, self.fills, self.metrics);
        let responder = Rc::new(RefCell::new(responder));
        let updates = self.updates;
        let busy_poll = self.settings.busy_poll;
        match self.settings.backend {
            // The ring is created first: if io_uring is denied it returns an error, while
            // tokio-uring would panic.
            Backend::Uring => reported(Uring::new(self.wake, io_metrics), report, |ring| {
                run_beside_ring(serve(responder, updates, ring, TcpService::default(), busy_poll))
            }),
            Backend::Mmsg => reported(Mmsg::new(self.wake, io_metrics), report, |batches| {
                run_in_tokio(serve(responder, updates, batches, TcpService::default(), busy_poll))
            }),
        }
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
