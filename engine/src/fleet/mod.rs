//! All shards, as the control plane sees them: it starts them, sends them updates, stops them.
//!
//! Invariant: the control plane reaches a shard only through the shard's bounded channel.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use rustix::process::Pid;
use tokio::sync::Notify;
use tokio::time::sleep;
use wire::pod_index::PodIndex;
use wire::table::Table;

mod clock;
mod mailbox;
mod pulse;
mod supervisor;
mod thread;

use crate::answer::exit::Reports;
use crate::cli::Steer;
use crate::client::ListenerId;
use crate::heart::Heart;
use crate::io::socket::ShardSockets;
use crate::limits::SYNC_STOP_LOOK_EVERY;
use crate::metrics::{ShardMetrics, SteeringFacts};
use crate::plan::{Plan, TableSlot};
use crate::resolve::fills::Fills;
use crate::responder::explaining::ExplainRequest;
use crate::shard::Update;
use crate::steering::load::LoadMeter;
use crate::steering::{Company, Steering};
use mailbox::{Mailbox, Successor};
use supervisor::Member;
pub use supervisor::{ShardReport, Supervisor};
use thread::{ShardParts, ShardThread};

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
    mailboxes: Vec<Mailbox>,
    supervisor: Supervisor,
    steering: Steering,
    /// The thread of each shard that `steering` measures.
    measured: Vec<Pid>,
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
        let trouble = Arc::new(Notify::new());
        let mut members = Vec::with_capacity(cores.len());
        let mut mailboxes = Vec::with_capacity(cores.len());
        let mut measured = Vec::with_capacity(cores.len());
        let fills = Fills::between(cores.len());
        for (index, ((core, metrics), fills)) in cores.iter().zip(metrics).zip(fills).enumerate() {
            let parts = ShardParts {
                settings,
                core: *core,
                index,
                reports: reports.clone(),
                fills,
                metrics: Arc::clone(metrics),
            };
            let (first, inbox) = Successor::new()?;
            let heart = Heart::new(Arc::clone(&trouble));
            let thread = ShardThread::start(parts.clone(), inbox, heart)?;
            let mailbox = Mailbox::new(first);
            mailboxes.push(mailbox.clone());
            measured.push(thread.id);
            members.push(Member::new(parts, mailbox, thread));
        }
        let meters = metrics.iter().zip(&measured);
        let meters = meters.map(|(metrics, thread)| LoadMeter::new(Arc::clone(metrics), *thread));
        let is_polling = !settings.busy_poll.is_zero();
        let steering = Steering::new(settings.steer, is_polling, cores, meters);
        Ok(Self { mailboxes, supervisor: Supervisor::new(members, trouble), steering, measured })
    }

    /// Replaces the threads that fail.
    #[must_use]
    pub fn supervisor(&self) -> Supervisor {
        self.supervisor.clone()
    }

    /// The number of shards.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.mailboxes.len()
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
        let deliver = |mailbox: &Mailbox| -> Deliver<T> {
            let mailbox = mailbox.clone();
            Box::new(move |new| mailbox.offer(update(slot, new)))
        };
        self.mailboxes.iter().map(deliver).collect()
    }

    /// Sends a plan to all shards.
    pub fn set_plan(&self, plan: &Arc<Plan>) {
        for mailbox in &self.mailboxes {
            mailbox.send(Update::Plan(Arc::clone(plan)));
        }
    }

    /// Serves these sockets, one pair per shard.
    pub fn open(&mut self, listener: ListenerId, sockets: Vec<ShardSockets>, company: Company) {
        debug_assert_eq!(sockets.len(), self.mailboxes.len());
        self.steering.open(listener, &sockets, company);
        for (mailbox, sockets) in self.mailboxes.iter().zip(sockets) {
            mailbox.send(Update::Open(listener, sockets));
        }
    }

    /// The other process at the addresses of this listener has ended.
    pub fn now_alone(&mut self, listener: ListenerId) {
        self.steering.now_alone(listener);
    }

    /// Asks questions of the first shard.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker(self.mailboxes.first().cloned())
    }

    /// Closes a listener on all shards. `company`: who else has sockets at its addresses.
    pub fn close(&mut self, listener: ListenerId, company: Company) {
        self.steering.close(listener, company);
        for mailbox in &self.mailboxes {
            mailbox.send(Update::Close(listener, company));
        }
    }

    /// Checks whether a shard is overloaded while others idle. Call this every 200 ms or so;
    /// returns when to call it sooner.
    pub fn balance(&mut self, now: Instant) -> Option<Instant> {
        for (shard, (thread, measured)) in
            self.supervisor.threads().ids().zip(&mut self.measured).enumerate()
        {
            if *measured != thread {
                *measured = thread;
                self.steering.measure(shard, thread);
            }
        }
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
        for mailbox in &self.mailboxes {
            mailbox.send(Update::NoTable(slot, Arc::clone(&forgotten.0)));
        }
        forgotten
    }

    /// Has a shard's thread call this function, between two batches. Tests make a shard panic or
    /// hang in this way; a feature of cargo would test another build than the one that is shipped.
    #[doc(hidden)]
    pub fn call(&self, shard: usize, function: fn()) {
        self.mailboxes[shard].send(Update::Call(function));
    }

    /// Stops the shards: they answer the queries that their sockets hold. Waits for them at most
    /// `timeout`.
    pub fn stop(self, timeout: Duration) {
        self.supervisor.stop();
        // A program would choose the sockets of a shard that has ended already.
        self.steering.release();
        // Its copies would keep the sockets of the shards open.
        drop(self.steering);
        let deadline = Instant::now() + timeout;
        // All at once: one that hangs must not take the others' time.
        let mut not_told: Vec<_> = self.mailboxes.iter().collect();
        loop {
            not_told.retain(|mailbox| !mailbox.stop());
            if Instant::now() >= deadline || self.supervisor.threads().have_ended() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
