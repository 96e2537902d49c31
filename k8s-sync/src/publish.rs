//! Turns events into tables and hands them to the shards: the one loop of the k8s-sync thread.
//!
//! ```text
//!   events → Cluster → dirty keys → Answers per table → Generations → Deliver per shard
//! ```
//! External zones come and go while the cluster is served; they share its model. Invariant: all
//! tables of a batch come from the same state of the model. `Publisher` has no clock and no
//! channel; `run` has both.

mod answers;
mod generations;
mod programming;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use wire::hash::HashSeed;
use wire::pod_index::PodIndex;
use wire::table::Table;

pub use generations::{Deliver, Generations};
pub use programming::{ProgrammedKind, ReportProgrammed};

use crate::cluster::Cluster;
use crate::object::Event;
use crate::options::{ExternalOptions, Options};
use crate::records::RecordWriter;
use crate::snapshot::SnapshotKeeper;
use answers::Answers;
use programming::Programming;

/// Events per publication. All events that are waiting are taken, so that a burst costs one table.
/// The limit bounds how long a change waits for its batch.
const EVENT_BATCH_MAX: usize = 4096;
/// A shard whose channel was full is offered the newest table again after this long.
const DELIVER_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// Interval for looking whether shards have released a table, if no change comes, and for updating
/// metrics that cost a walk over the table.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);
/// Least time between two pod indexes. One is made of all pods, which takes milliseconds in a large
/// cluster.
const POD_INDEX_EVERY: Duration = Duration::from_millis(100);
/// Wake-up interval when nothing is pending.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// The state of one table, for /ready and /metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether a table with the whole cluster has been handed over. Never reset.
    pub is_synced: bool,
    /// The kinds that have not been listed yet, by their resource names.
    pub unsynced_kinds: Vec<&'static str>,
    pub services: usize,
    /// Addresses of ready endpoints. An address counts once per slice.
    pub endpoints: usize,
    /// Names in the newest table.
    pub names: usize,
    /// Bytes of answers in the newest table.
    pub table_bytes: usize,
    /// Invalid names that were left out, counted each time.
    pub refused_names: u64,
    /// Number of published tables, including the first, empty one.
    pub generation: u64,
    /// Tables that a shard may still hold.
    pub tables_alive: usize,
    /// Unix seconds of the newest table that differs from the previous one: the SOA serial.
    pub changed_unix_secs: u32,
}

/// The shards, as receivers of the cluster's table and of its pod index.
pub struct Shards {
    pub tables: Vec<Deliver>,
    pub pods: Vec<Deliver<PodIndex>>,
}

/// What the loop does beside publishing.
pub struct Aside {
    pub snapshot: Option<SnapshotKeeper>,
    pub programmed: ReportProgrammed,
}

/// Names external zones among those of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalNumber(pub u64);

/// What the thread is asked to do while it runs.
pub enum Request {
    /// Serve these external zones too.
    AddExternal(Box<NewExternal>),
    /// Wake up, and free the external zones whose status nobody reads any more. It may be lost if
    /// many requests wait, since each of them wakes the thread.
    FreeExternals,
    /// Write the snapshot soon if it is not up to date, and tell the sender when that has ended.
    WriteSnapshot(oneshot::Sender<()>),
}

/// External zones, and where their tables go. They are served while `status` has a receiver.
pub struct NewExternal {
    pub number: ExternalNumber,
    pub options: ExternalOptions,
    pub shards: Vec<Deliver>,
    pub status: watch::Sender<Status>,
}

/// The model, and the tables that are made from it.
pub struct Publisher {
    cluster: Cluster,
    seed: HashSeed,
    records: RecordWriter,
    answers: Answers,
    externals: Vec<ExternalTable>,
}

/// The table of external zones.
struct ExternalTable {
    number: ExternalNumber,
    answers: Answers,
    /// Made by the last `publish`, and not taken yet.
    newest: Option<Arc<Table>>,
}

impl Publisher {
    /// `seed`: the process's, so that all tables share the hash of a name.
    #[must_use]
    pub fn new(options: Arc<Options>, seed: HashSeed) -> Self {
        Self {
            answers: Answers::of_cluster(&options, seed),
            cluster: Cluster::new(options),
            seed,
            records: RecordWriter::new(),
            externals: Vec::new(),
        }
    }

    pub fn apply(&mut self, event: Event) {
        self.cluster.apply(event);
    }

    /// From the next `publish` on, these zones have a table too.
    pub fn add_external(&mut self, number: ExternalNumber, options: &ExternalOptions) {
        let answers = Answers::of_external(options, self.seed);
        self.externals.push(ExternalTable { number, answers, newest: None });
    }

    pub fn remove_external(&mut self, number: ExternalNumber) {
        self.externals.retain(|external| external.number != number);
    }

    /// Whether all watched kinds have been listed completely.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.cluster.unsynced_kinds().next().is_none()
    }

    /// The cluster's table of the current state, or `None` if it equals the last one. The first
    /// call always returns one. Makes the tables of external zones too, for `take_external`.
    ///
    /// Before all kinds are synced, the table contains what is known for certain, and look-ups of
    /// missing names fail with SERVFAIL. Since a kind counts only when complete, its answers are
    /// correct.
    pub fn publish(&mut self, now_unix_secs: u32) -> Option<Arc<Table>> {
        let Self { cluster, records, answers, externals, .. } = self;
        let dirty = cluster.take_dirty();
        for external in externals {
            let table = external.answers.publish(cluster, &dirty, records, now_unix_secs);
            external.newest = table.or_else(|| external.newest.take());
        }
        answers.publish(cluster, &dirty, records, now_unix_secs)
    }

    /// The newest table of these zones, unless it has been taken already.
    pub fn take_external(&mut self, number: ExternalNumber) -> Option<Arc<Table>> {
        self.externals.iter_mut().find(|external| external.number == number)?.newest.take()
    }

    /// The index of the pods as they are now, if it differs from the last one.
    pub fn take_pod_index(&mut self) -> Option<Arc<PodIndex>> {
        self.cluster.take_pod_index().map(Arc::new)
    }

    /// Bytes of answers in the newest table. Walks the table's spine.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.answers.table_bytes()
    }

    /// `run` fills in `table_bytes` and `tables_alive`, which are zero here.
    #[must_use]
    pub fn status(&self) -> Status {
        self.answers.status(&self.cluster)
    }

    /// Takes a table of external zones or of the cluster that nothing holds any more. The next one
    /// uses its memory.
    pub fn recycle(&mut self, number: Option<ExternalNumber>, table: Table) {
        let mut externals = self.externals.iter_mut();
        match externals.find(|external| Some(external.number) == number) {
            Some(external) => external.answers.recycle(table),
            None if number.is_none() => self.answers.recycle(table),
            None => {}
        }
    }

    /// The answers of external zones, or of the cluster.
    fn answers(&self, number: Option<ExternalNumber>) -> &Answers {
        let external = self.externals.iter().find(|external| Some(external.number) == number);
        external.map_or(&self.answers, |external| &external.answers)
    }
}

/// Takes events and hands over tables until all sources are gone.
///
/// Every shard gets a first table at once, in which cluster names are SERVFAIL. The second one
/// follows when all kinds are synced, or after `startup_timeout` with what is known by then. From
/// then on, each batch of events that changes an answer makes one.
pub async fn run(
    options: Arc<Options>,
    seed: HashSeed,
    mut events: mpsc::Receiver<Event>,
    mut requests: mpsc::Receiver<Request>,
    shards: Shards,
    status: watch::Sender<Status>,
    aside: Aside,
) {
    let Aside { mut snapshot, programmed } = aside;
    let mut programming = Programming::new(programmed);
    let deadline = Instant::now() + options.startup_timeout;
    let mut publisher = Publisher::new(options, seed);
    let mut outlets = vec![Outlet::new(None, shards.tables, status)];
    let mut pods = PodOutlet::new(shards.pods);
    outlets[0].generations.publish(publisher.publish(0).expect("the first table is always one"));
    let mut batch = Vec::new();
    loop {
        for outlet in &outlets {
            outlet.report(&publisher);
        }
        let now = Instant::now();
        let wake_at = if is_delivered(&outlets, &pods) {
            let may_publish = publisher.is_synced() || now >= deadline;
            let deadline = if may_publish { now + IDLE_MAX } else { deadline };
            let due = outlets.iter().map(|outlet| outlet.housekeeping_due(&publisher, now));
            let due = due.chain(snapshot.as_ref().map(|snapshot| snapshot.due(now)));
            let due = due.chain([pods.due(&publisher, now), deadline]);
            due.min().unwrap_or(deadline)
        } else {
            now + DELIVER_AGAIN_AFTER
        };
        tokio::select! {
            biased;
            Some(request) = requests.recv() => match request {
                Request::AddExternal(new) => add_external(*new, &mut publisher, &mut outlets),
                Request::FreeExternals => {}
                // Without a snapshot, dropping it reports the end.
                Request::WriteSnapshot(written) => {
                    if let Some(snapshot) = &mut snapshot {
                        snapshot.flush(written);
                    }
                }
            },
            taken = take(&mut events, &mut batch, &mut publisher, &mut snapshot) => {
                if !taken { break }
            }
            () = sleep_until(wake_at) => {}
        }
        remove_unread(&mut publisher, &mut outlets);
        outlets.iter_mut().for_each(|outlet| outlet.retire(&mut publisher));
        let may_publish = publisher.is_synced() || Instant::now() >= deadline;
        let table = may_publish.then(|| publisher.publish(unix_secs())).flatten();
        for outlet in &mut outlets {
            let table = match outlet.number {
                Some(number) => publisher.take_external(number),
                None => table.clone(),
            };
            match table {
                Some(table) => outlet.generations.publish(table),
                None => outlet.generations.deliver(),
            }
            outlet.housekeep(&publisher, Instant::now());
        }
        pods.publish(&mut publisher, Instant::now());
        programming.step(&mut publisher, is_delivered(&outlets, &pods));
        if let Some(snapshot) = &mut snapshot {
            snapshot.step(&publisher.cluster, Instant::now());
        }
    }
}

/// Applies events until some may have changed an answer. False once all sources are gone. Dropping
/// the future loses nothing.
async fn take(
    events: &mut mpsc::Receiver<Event>,
    batch: &mut Vec<Event>,
    publisher: &mut Publisher,
    snapshot: &mut Option<SnapshotKeeper>,
) -> bool {
    let mut is_of_lists = true;
    while is_of_lists {
        if events.recv_many(batch, EVENT_BATCH_MAX).await == 0 {
            return false;
        }
        for event in batch.drain(..) {
            is_of_lists &= event.is_of_list();
            snapshot.iter_mut().for_each(|snapshot| snapshot.note(&event));
            publisher.apply(event);
        }
    }
    true
}

fn is_delivered(outlets: &[Outlet], pods: &PodOutlet) -> bool {
    outlets.iter().all(|outlet| outlet.generations.is_delivered())
        && pods.generations.is_delivered()
}

fn add_external(new: NewExternal, publisher: &mut Publisher, outlets: &mut Vec<Outlet>) {
    let NewExternal { number, options, shards, status } = new;
    publisher.add_external(number, &options);
    outlets.push(Outlet::new(Some(number), shards, status));
}

/// Removes the external zones whose status nobody reads any more.
fn remove_unread(publisher: &mut Publisher, outlets: &mut Vec<Outlet>) {
    outlets.retain(|outlet| match outlet.number {
        Some(number) if outlet.status.is_closed() => {
            publisher.remove_external(number);
            false
        }
        Some(_) | None => true,
    });
}

/// Where the generations of one table go.
struct Outlet {
    /// `None` for the cluster's own table.
    number: Option<ExternalNumber>,
    generations: Generations,
    status: watch::Sender<Status>,
    /// When housekeeping last ran: work that is done from time to time, while no change waits.
    housekept: Option<Instant>,
    /// The last generation that was measured, and its bytes.
    measured: (u64, usize),
}

impl Outlet {
    fn new(
        number: Option<ExternalNumber>,
        shards: Vec<Deliver>,
        status: watch::Sender<Status>,
    ) -> Self {
        let generations = Generations::new(shards);
        Self { number, generations, status, housekept: None, measured: (0, 0) }
    }

    /// When housekeeping has to run again.
    fn housekeeping_due(&self, publisher: &Publisher, now: Instant) -> Instant {
        let is_measured = self.measured.0 == publisher.answers(self.number).generation();
        let is_idle = is_measured && self.generations.alive_count() <= 1;
        let wait = if is_idle { IDLE_MAX } else { HOUSEKEEPING_EVERY };
        self.housekept.map_or(now + HOUSEKEEPING_EVERY, |last| last + wait)
    }

    /// Frees tables that the shards have released.
    fn retire(&mut self, publisher: &mut Publisher) {
        if let Some(table) = self.generations.retire() {
            publisher.recycle(self.number, table);
        }
    }

    fn housekeep(&mut self, publisher: &Publisher, now: Instant) {
        if self.housekept.is_some_and(|last| now < last + HOUSEKEEPING_EVERY) {
            return;
        }
        self.housekept = Some(now);
        let answers = publisher.answers(self.number);
        if self.measured.0 != answers.generation() {
            self.measured = (answers.generation(), answers.table_bytes());
        }
    }

    fn report(&self, publisher: &Publisher) {
        let now = Status {
            tables_alive: self.generations.alive_count(),
            table_bytes: self.measured.1,
            ..publisher.answers(self.number).status(&publisher.cluster)
        };
        self.status.send_if_modified(|before| {
            let is_modified = *before != now;
            *before = now;
            is_modified
        });
    }
}

/// Where the pod indexes go.
struct PodOutlet {
    generations: Generations<PodIndex>,
    /// When the last one was made.
    made: Option<Instant>,
}

impl PodOutlet {
    fn new(shards: Vec<Deliver<PodIndex>>) -> Self {
        Self { generations: Generations::new(shards), made: None }
    }

    /// When `publish` has to be called again.
    fn due(&self, publisher: &Publisher, now: Instant) -> Instant {
        let is_idle = !publisher.cluster.has_pod_index_changed();
        match self.made {
            _ if is_idle && self.generations.alive_count() <= 1 => now + IDLE_MAX,
            Some(made) => made + POD_INDEX_EVERY,
            None => now,
        }
    }

    /// Makes an index if pods have changed, and frees those that no shard holds.
    fn publish(&mut self, publisher: &mut Publisher, now: Instant) {
        self.generations.deliver();
        if self.made.is_some_and(|made| now < made + POD_INDEX_EVERY) {
            return;
        }
        self.generations.retire();
        self.made = Some(now);
        if let Some(index) = publisher.take_pod_index() {
            self.generations.publish(index);
        }
    }
}

/// Seconds since 1970. Like any serial, it wraps (RFC 1982), in 2106.
fn unix_secs() -> u32 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.unwrap_or_default().as_secs() as u32
}
