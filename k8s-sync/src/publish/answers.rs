//! One table, and what it has published of the model: the cluster's own table, or that of external
//! zones.
//!
//! Invariant: for every key, a published table matches the model at that moment, and only changed
//! names are written.

use std::sync::Arc;

use wire::compile::{TableBuilder, TableOptions};
use wire::hash::{HashSeed, NameHash};
use wire::table::Table;

use super::Status;
use crate::cluster::{AnswerKey, Cluster, Dirty, ObjectId};
use crate::options::{ExternalOptions, Options};
use crate::records::{EntryChange, External, RecordWriter, Refused};

/// Minimum interval between two log lines about invalid names.
const LOG_REFUSED_EVERY_SECS: u32 = 60;

/// A table and its builder.
pub(super) struct Answers {
    builder: TableBuilder,
    /// The external zones; `None` for the cluster's own table.
    external: Option<External>,
    /// The names of each Service in the table, by number. Those of other keys follow from the key.
    services: Vec<Box<[PublishedName]>>,
    /// Of the Service that is being written. Here so that the memory is used again.
    names: Vec<PublishedName>,
    seed: HashSeed,
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

impl Answers {
    pub(super) fn of_cluster(options: &Options, seed: HashSeed) -> Self {
        let table = TableOptions::kubernetes(options.zones.clone(), options.pods, options.ttl_secs);
        Self::new(TableBuilder::new(table, seed), seed, None)
    }

    pub(super) fn of_external(options: &ExternalOptions, seed: HashSeed) -> Self {
        let table =
            TableOptions::k8s_external(options.zones.clone(), options.apex, options.ttl_secs);
        Self::new(TableBuilder::new(table, seed), seed, Some(External::new(options)))
    }

    fn new(builder: TableBuilder, seed: HashSeed, external: Option<External>) -> Self {
        Self {
            builder,
            external,
            services: Vec::new(),
            names: Vec::new(),
            seed,
            refused_names: 0,
            refused_log: RefusedLog::default(),
            is_synced: false,
            generation: 0,
            changed_unix_secs: 0,
        }
    }

    /// The table of the current state, or `None` if it equals the last one. The first call always
    /// returns one, which is made of the whole model. `dirty`: the answers that may have changed
    /// since the last call.
    pub(super) fn publish(
        &mut self,
        cluster: &Cluster,
        dirty: &Dirty,
        records: &mut RecordWriter,
        now_unix_secs: u32,
    ) -> Option<Arc<Table>> {
        let mut changes = 0;
        let mut refused = Refused::default();
        let is_external = self.external.is_some();
        let changed = match dirty {
            Dirty::Keys(keys) if self.generation > 0 => Some(keys),
            Dirty::Keys(_) | Dirty::Everything => None,
        };
        if changed.is_none() {
            self.builder.clear();
            self.builder.reserve(2 * cluster.service_count() + cluster.endpoint_count());
            self.services.clear();
        }
        let mut write = |key: &AnswerKey| {
            let (names, more) = self.publish_key(cluster, key, records);
            changes += names;
            refused.add(more);
        };
        match changed {
            Some(keys) => keys.iter().for_each(write),
            None if is_external => cluster.external_keys().for_each(|key| write(&key)),
            None => cluster.keys().for_each(|key| write(&key)),
        }
        self.note_refused(&refused, now_unix_secs);
        let is_now_synced = !self.is_synced && cluster.unsynced_kinds().next().is_none();
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
    fn publish_key(
        &mut self,
        cluster: &Cluster,
        key: &AnswerKey,
        records: &mut RecordWriter,
    ) -> (usize, Refused) {
        if let AnswerKey::Service(service) = key {
            return self.publish_service(cluster, *service, records);
        }
        let builder = &mut self.builder;
        let mut changes = 0;
        let refused = write(records, cluster, self.external.as_ref(), key, &mut |change| {
            changes += 1;
            match change {
                EntryChange::Put(entry) => {
                    builder.insert(entry);
                }
                EntryChange::Point { address, service } => {
                    builder.insert_pointer(address, service);
                }
                EntryChange::Pod { pod, address } => builder.insert_pod(pod, address),
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
    fn publish_service(
        &mut self,
        cluster: &Cluster,
        service: ObjectId,
        records: &mut RecordWriter,
    ) -> (usize, Refused) {
        let Self { builder, services, names: now, seed, .. } = self;
        if services.len() <= service.index() {
            services.resize_with(service.index() + 1, Box::default);
        }
        let before = std::mem::take(&mut services[service.index()]);
        let mut written = Vec::new();
        now.clear();
        let dirty = AnswerKey::Service(service);
        let external = self.external.as_ref();
        let refused = write(records, cluster, external, &dirty, &mut |change| match change {
            EntryChange::Put(entry) => {
                let fingerprint = seed.fingerprint(entry);
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
            EntryChange::Point { .. } | EntryChange::Pod { .. } | EntryChange::Remove(_) => {
                unreachable!("a Service reports only its own names")
            }
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
        services[service.index()] = now.as_slice().into();
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

    /// Takes a table that nothing holds any more, whose memory the next one uses.
    pub(super) fn recycle(&mut self, table: Table) {
        self.builder.recycle(table);
    }

    /// Number of published tables.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes of answers in the newest table. Walks the table's spine.
    pub(super) fn table_bytes(&self) -> usize {
        self.builder.table_bytes()
    }

    /// `run` fills in `table_bytes` and `tables_alive`, which are zero here.
    pub(super) fn status(&self, cluster: &Cluster) -> Status {
        Status {
            is_synced: self.is_synced,
            unsynced_kinds: cluster.unsynced_kinds().collect(),
            services: cluster.service_count(),
            endpoints: cluster.endpoint_count(),
            names: self.builder.name_count(),
            table_bytes: 0,
            refused_names: self.refused_names,
            generation: self.generation,
            tables_alive: 0,
            changed_unix_secs: self.changed_unix_secs,
        }
    }
}

fn write(
    records: &mut RecordWriter,
    cluster: &Cluster,
    external: Option<&External>,
    key: &AnswerKey,
    change: &mut dyn FnMut(EntryChange<'_>),
) -> Refused {
    match external {
        Some(external) => records.write_external(cluster, external, key, change),
        None => records.write(cluster, key, change),
    }
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
