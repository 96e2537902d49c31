//! From events to tables in the hands of the shards: the one loop of the k8s-sync thread.
//!
//! ```text
//!   events ─→ Cluster ─→ dirty keys ─→ RecordWriter ─→ TableBuilder ─→ Generations ─→ one Deliver per shard
//! ```
//! Invariant: a table that is published holds, for every key, what the model says at that moment; only names whose answer
//! differs are written. `Publisher` knows no clock and no channel; `run` has both.

mod generations;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use wire::compile::{NameHash, Table, TableBuilder, TableOptions};

pub use generations::Deliver;
use generations::Generations;

use crate::cluster::{AnswerKey, Cluster};
use crate::object::{Event, ObjectKey};
use crate::options::Options;
use crate::records::{EntryChange, RecordWriter, Refused};

/// Events taken in between two publications: those that are there already, so that a burst costs one table. The bound keeps
/// a change waiting no longer than such a batch takes.
const EVENT_BATCH_MAX: usize = 4096;
/// A shard whose channel was full is offered the newest table again after this long.
const DELIVER_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// Tables that shards have let go are freed, and figures that cost a walk are brought up to date, this often.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);
/// Where nothing happens and nothing is owed.
const IDLE_AT_MOST: Duration = Duration::from_secs(3600);

/// Pause between two log lines about names that are left out.
const LOG_REFUSED_EVERY_SECS: u32 = 60;

/// How the answers of one `kubernetes` block are, for /ready and /metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether a table has been handed over that holds the whole cluster. Never taken back.
    pub is_synced: bool,
    /// The kinds that are wanting, by their resource names.
    pub unsynced_kinds: Vec<&'static str>,
    pub services: usize,
    /// Addresses of ready endpoints, counted once a slice.
    pub endpoints: usize,
    /// Names in the newest table.
    pub names: usize,
    /// Bytes of its answers.
    pub table_bytes: usize,
    /// Things that cannot be names and were left out, each time they were met.
    pub refused_names: u64,
    /// Tables published, the first and empty one included.
    pub generation: u64,
    /// Tables that a shard may still hold.
    pub tables_alive: usize,
    /// Unix seconds of the newest table that differs from the one before: the SOA serial.
    pub changed_unix_secs: u32,
}

/// The model and the table that is made from it.
pub struct Publisher {
    cluster: Cluster,
    builder: TableBuilder,
    records: RecordWriter,
    /// Names that each Service has in the table. The other keys' names follow from the keys.
    services: BTreeMap<Arc<ObjectKey>, Box<[PublishedName]>>,
    fingerprints: RandomState,
    refused_names: u64,
    refused_log: RefusedLog,
    is_synced: bool,
    generation: u64,
    changed_unix_secs: u32,
}

/// When names that are left out are logged: once a minute at most, for a Service that changes brings the same ones each time.
#[derive(Default)]
struct RefusedLog {
    unlogged_count: u64,
    logged_unix_secs: Option<u32>,
}

impl RefusedLog {
    /// How many to log now, those that were held back included.
    fn take(&mut self, count: u64, now_unix_secs: u32) -> Option<u64> {
        self.unlogged_count += count;
        let is_due = self
            .logged_unix_secs
            .is_none_or(|then| now_unix_secs.abs_diff(then) >= LOG_REFUSED_EVERY_SECS);
        (is_due && count > 0).then(|| {
            self.logged_unix_secs = Some(now_unix_secs);
            std::mem::take(&mut self.unlogged_count)
        })
    }
}

/// A name of the table: the fingerprint of its whole entry, and what removes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PublishedName {
    fingerprint: u64,
    name: NameHash,
}

impl Publisher {
    /// `seed`: random; it decides where names lie in the table.
    #[must_use]
    pub fn new(options: Arc<Options>, seed: u64) -> Self {
        let table = TableOptions::kubernetes(options.zones.clone(), options.pods, options.ttl_secs);
        Self {
            cluster: Cluster::new(options),
            builder: TableBuilder::new(table, seed),
            records: RecordWriter::new(),
            services: BTreeMap::new(),
            fingerprints: RandomState::new(),
            refused_names: 0,
            refused_log: RefusedLog::default(),
            is_synced: false,
            generation: 0,
            changed_unix_secs: 0,
        }
    }

    pub fn apply(&mut self, event: Event) {
        self.cluster.apply(event);
    }

    /// Whether all watched kinds have been read whole.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.cluster.unsynced_kinds().next().is_none()
    }

    /// The table of what is known now; `None` where that is no other than the last. The first call gives one always.
    ///
    /// Before all kinds are synced it holds what can be said already, and names that it lacks are SERVFAIL. As each kind
    /// counts only when it is whole, what it says is right.
    pub fn publish(&mut self, now_unix_secs: u32) -> Option<Arc<Table>> {
        let mut changes = 0;
        let mut refused = Refused::default();
        for key in self.cluster.take_dirty() {
            let (changed, more) = match &key {
                AnswerKey::Service(service) => self.publish_service(service),
                AnswerKey::Apex
                | AnswerKey::Namespace(_)
                | AnswerKey::Address(_)
                | AnswerKey::Pod(..) => self.publish_key(&key),
            };
            changes += changed;
            refused.add(more);
        }
        self.note_refused(&refused, now_unix_secs);
        let is_now_synced = !self.is_synced && self.is_synced();
        if is_now_synced {
            self.is_synced = true;
            self.builder.set_synced();
        }
        if changes == 0 && !is_now_synced && self.generation > 0 {
            return None;
        }
        self.changed_unix_secs = now_unix_secs;
        self.generation += 1;
        Some(self.builder.publish(now_unix_secs))
    }

    /// How many names differ, and what could not be one.
    fn publish_key(&mut self, key: &AnswerKey) -> (usize, Refused) {
        let builder = &mut self.builder;
        let mut changes = 0;
        let refused = self.records.write(&self.cluster, key, &mut |change| {
            changes += 1;
            match change {
                EntryChange::Put(entry) => {
                    builder.insert(entry);
                }
                // Inserting tells the hash that removes; of two calls for a name the last counts.
                EntryChange::Remove(entry) => {
                    let name = builder.insert(entry);
                    builder.remove(name);
                }
            }
        });
        (changes, refused)
    }

    /// A Service of a thousand endpoints has as many names, of which a change touches a few: only those are written.
    fn publish_service(&mut self, key: &Arc<ObjectKey>) -> (usize, Refused) {
        let before = self.services.remove(key).unwrap_or_default();
        let (builder, fingerprints) = (&mut self.builder, &self.fingerprints);
        let (mut now, mut written) = (Vec::with_capacity(before.len()), Vec::new());
        let dirty = AnswerKey::Service(Arc::clone(key));
        let refused = self.records.write(&self.cluster, &dirty, &mut |change| match change {
            EntryChange::Put(entry) => {
                let fingerprint = fingerprints.hash_one(entry);
                let known = before.binary_search_by_key(&fingerprint, |one| one.fingerprint);
                now.push(match known {
                    Ok(index) => before[index],
                    Err(_) => {
                        let name = builder.insert(entry);
                        written.push(name);
                        PublishedName { fingerprint, name }
                    }
                });
            }
            EntryChange::Remove(_) => unreachable!("a Service does not know what it no longer has"),
        });
        now.sort_unstable();
        written.sort_unstable();
        let mut changes = written.len();
        for one in before.iter().filter(|one| now.binary_search(one).is_err()) {
            if written.binary_search(&one.name).is_err() {
                builder.remove(one.name);
                changes += 1;
            }
        }
        if !now.is_empty() {
            self.services.insert(Arc::clone(key), now.into());
        }
        (changes, refused)
    }

    fn note_refused(&mut self, refused: &Refused, now_unix_secs: u32) {
        self.refused_names += refused.count;
        if let Some(count) = self.refused_log.take(refused.count, now_unix_secs)
            && let Some(first) = &refused.first
        {
            tracing::warn!(
                count,
                "left out what cannot be answered; all else is served. The first: {first}"
            );
        }
    }

    /// Bytes of the newest table's answers. Walks the table's spine.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.builder.table_bytes()
    }

    /// Without what `run` knows better: `table_bytes` and `tables_alive` are zero.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            is_synced: self.is_synced,
            unsynced_kinds: self.cluster.unsynced_kinds().collect(),
            services: self.cluster.service_count(),
            endpoints: self.cluster.endpoint_count(),
            names: self.builder.name_count(),
            table_bytes: 0,
            refused_names: self.refused_names,
            generation: self.generation,
            tables_alive: 0,
            changed_unix_secs: self.changed_unix_secs,
        }
    }
}

/// Takes events and hands tables over until the sources are gone.
///
/// Every shard gets a first table at once, in which cluster names are SERVFAIL. The next one comes when all kinds are synced
/// or, with what there is, after `startup_timeout`. From then on, each batch of events that changes an answer makes one.
pub async fn run(
    options: Arc<Options>,
    seed: u64,
    mut events: mpsc::Receiver<Event>,
    shards: Vec<Deliver>,
    status: watch::Sender<Status>,
) {
    let deadline = Instant::now() + options.startup_timeout;
    let mut publisher = Publisher::new(options, seed);
    let mut generations = Generations::new(shards);
    let mut housekeeping = Housekeeping::default();
    generations.publish(publisher.publish(0).expect("the first table is always one"));
    let mut batch = Vec::new();
    loop {
        report(&publisher, &generations, &housekeeping, &status);
        let now = Instant::now();
        let wake_at = if generations.is_delivered() {
            let may_publish = publisher.is_synced() || now >= deadline;
            let deadline = if may_publish { now + IDLE_AT_MOST } else { deadline };
            housekeeping.due(&generations, now).min(deadline)
        } else {
            now + DELIVER_AGAIN_AFTER
        };
        tokio::select! {
            biased;
            taken = events.recv_many(&mut batch, EVENT_BATCH_MAX) => if taken == 0 { break },
            () = sleep_until(wake_at) => {}
        }
        for event in batch.drain(..) {
            publisher.apply(event);
        }
        let may_publish = publisher.is_synced() || Instant::now() >= deadline;
        match may_publish.then(|| publisher.publish(unix_secs())).flatten() {
            Some(table) => generations.publish(table),
            None => generations.deliver(),
        }
        housekeeping.run(&mut generations, &publisher, Instant::now());
    }
}

/// What is done now and then, and not while a change waits.
#[derive(Default)]
struct Housekeeping {
    last: Option<Instant>,
    /// The generation that was measured last, and its bytes.
    measured: (u64, usize),
}

impl Housekeeping {
    /// When there is something to do again.
    fn due(&self, generations: &Generations, now: Instant) -> Instant {
        let is_idle = generations.alive_count() <= 1;
        let wait = if is_idle { IDLE_AT_MOST } else { HOUSEKEEPING_EVERY };
        self.last.map_or(now + HOUSEKEEPING_EVERY, |last| last + wait)
    }

    fn run(&mut self, generations: &mut Generations, publisher: &Publisher, now: Instant) {
        if self.last.is_some_and(|last| now < last + HOUSEKEEPING_EVERY) {
            return;
        }
        self.last = Some(now);
        generations.retire();
        if self.measured.0 != publisher.generation {
            self.measured = (publisher.generation, publisher.table_bytes());
        }
    }
}

fn report(
    publisher: &Publisher,
    generations: &Generations,
    housekeeping: &Housekeeping,
    status: &watch::Sender<Status>,
) {
    let now = Status {
        tables_alive: generations.alive_count(),
        table_bytes: housekeeping.measured.1,
        ..publisher.status()
    };
    status.send_if_modified(|before| {
        let is_modified = *before != now;
        *before = now;
        is_modified
    });
}

/// Seconds since 1970; a serial wraps after 2106 as serials do (RFC 1982).
fn unix_secs() -> u32 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.unwrap_or_default().as_secs() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_left_out_are_logged_once_a_minute() {
        let mut log = RefusedLog::default();
        for (now_secs, count, expected) in [
            (100, 0, None),
            (100, 2, Some(2)),
            (100, 2, None),
            (159, 2, None),
            (160, 0, None),
            (161, 2, Some(6)),
            (220, 1, None),
            // A clock that was set back does not silence it for longer.
            (60, 1, Some(2)),
        ] {
            assert_eq!(log.take(count, now_secs), expected, "{now_secs} s");
        }
    }
}
