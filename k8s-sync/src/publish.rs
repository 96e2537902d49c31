//! Turns events into tables and hands them to the shards: the one loop of the k8s-sync thread.
//!
//! ```text
//!   events → Cluster → dirty keys → RecordWriter → TableBuilder → Generations → Deliver per shard
//! ```
//! Invariant: for every key, a published table matches the model at that moment, and only changed
//! names are written. `Publisher` has no clock and no channel; `run` has both.

mod generations;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use wire::compile::{TableBuilder, TableOptions};
use wire::hash::{HashSeed, NameHash};
use wire::table::Table;

pub use generations::{Deliver, Generations};

use crate::cluster::{AnswerKey, Cluster};
use crate::object::{Event, ObjectKey};
use crate::options::Options;
use crate::records::{EntryChange, RecordWriter, Refused};

/// Events per publication. All events that are waiting are taken, so that a burst costs one table.
/// The limit bounds how long a change waits for its batch.
const EVENT_BATCH_MAX: usize = 4096;
/// A shard whose channel was full is offered the newest table again after this long.
const DELIVER_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// Interval for freeing tables that shards have released, and for updating metrics that cost a walk
/// over the table.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);
/// Wake-up interval when nothing is pending.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// Minimum interval between two log lines about invalid names.
const LOG_REFUSED_EVERY_SECS: u32 = 60;

/// The state of the answers of one `kubernetes` block, for /ready and /metrics.
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

/// The model, and the table that is made from it.
pub struct Publisher {
    cluster: Cluster,
    builder: TableBuilder,
    records: RecordWriter,
    /// The names of each Service in the table. Those of other keys follow from the key.
    services: BTreeMap<Arc<ObjectKey>, Box<[PublishedName]>>,
    fingerprints: RandomState,
    refused_names: u64,
    refused_log: RefusedLog,
    is_synced: bool,
    generation: u64,
    changed_unix_secs: u32,
}

/// Limits log lines about invalid names to one per minute, because a Service that changes reports
/// the same ones each time.
#[derive(Default)]
struct RefusedLog {
    unlogged_count: u64,
    logged_unix_secs: Option<u32>,
}

impl RefusedLog {
    /// The number to log now, including those held back.
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

/// A name in the table: the fingerprint of its whole entry, and the hash that removes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PublishedName {
    fingerprint: u64,
    name: NameHash,
}

impl Publisher {
    /// `seed`: the process's, so that all tables share the hash of a name.
    #[must_use]
    pub fn new(options: Arc<Options>, seed: HashSeed) -> Self {
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

    /// Whether all watched kinds have been listed completely.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.cluster.unsynced_kinds().next().is_none()
    }

    /// The table of the current state, or `None` if it equals the last one. The first call always
    /// returns one.
    ///
    /// Before all kinds are synced, the table contains what is known for certain, and look-ups of
    /// missing names fail with SERVFAIL. Since a kind counts only when complete, its answers are
    /// correct.
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

    /// Returns the number of changed names, and the invalid ones.
    fn publish_key(&mut self, key: &AnswerKey) -> (usize, Refused) {
        let builder = &mut self.builder;
        let mut changes = 0;
        let refused = self.records.write(&self.cluster, key, &mut |change| {
            changes += 1;
            match change {
                EntryChange::Put(entry) => {
                    builder.insert(entry);
                }
                // Inserting returns the hash that removes. Of two calls for a name, the last
                // counts.
                EntryChange::Remove(entry) => {
                    let name = builder.insert(entry);
                    builder.remove(name);
                }
            }
        });
        (changes, refused)
    }

    /// A Service with a thousand endpoints has as many names, and a change affects a few: only
    /// those are written.
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
            EntryChange::Remove(_) => unreachable!("a Service does not report removed names"),
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
                "invalid names are left out; everything else is served; first one: {first}"
            );
        }
    }

    /// Bytes of answers in the newest table. Walks the table's spine.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.builder.table_bytes()
    }

    /// `run` fills in `table_bytes` and `tables_alive`, which are zero here.
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

/// Takes events and hands over tables until all sources are gone.
///
/// Every shard gets a first table at once, in which cluster names are SERVFAIL. The second one
/// follows when all kinds are synced, or after `startup_timeout` with what is known by then. From
/// then on, each batch of events that changes an answer makes one.
pub async fn run(
    options: Arc<Options>,
    seed: HashSeed,
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
            let deadline = if may_publish { now + IDLE_MAX } else { deadline };
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

/// Work that is done from time to time, while no change waits.
#[derive(Default)]
struct Housekeeping {
    last: Option<Instant>,
    /// The last generation that was measured, and its bytes.
    measured: (u64, usize),
}

impl Housekeeping {
    /// When it has to run again.
    fn due(&self, generations: &Generations, now: Instant) -> Instant {
        let is_idle = generations.alive_count() <= 1;
        let wait = if is_idle { IDLE_MAX } else { HOUSEKEEPING_EVERY };
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

/// Seconds since 1970. Like any serial, it wraps (RFC 1982), in 2106.
fn unix_secs() -> u32 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.unwrap_or_default().as_secs() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_logged_once_per_minute() {
        let mut log = RefusedLog::default();
        for (now_secs, count, expected) in [
            (100, 0, None),
            (100, 2, Some(2)),
            (100, 2, None),
            (159, 2, None),
            (160, 0, None),
            (161, 2, Some(6)),
            (220, 1, None),
            // A clock that was set back does not suppress the log for longer.
            (60, 1, Some(2)),
        ] {
            assert_eq!(log.take(count, now_secs), expected, "{now_secs} s");
        }
    }
}
