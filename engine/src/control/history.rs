//! What has changed lately, for the status page: each tick is compared with the one before.
//!
//! Invariant: a state that lasts is listed once, when it begins, and once when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::SystemTime;

use engine::admin::{Readiness, ReadyVerdict};
use engine::limits::STATUS_CHANGES_MAX;
use engine::metrics::served::{ChangeFacts, ChangeKind};
use engine::metrics::{Facts, Metrics, TableFacts};

/// What the last tick saw.
#[derive(Debug, Default)]
pub(crate) struct History(Option<Snapshot>);

/// What may change, at one time.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    corefile_sha512: String,
    is_ready: bool,
    /// By zone: whether the table is complete, and whether it is kept up to date.
    tables: BTreeMap<String, (bool, bool)>,
    unhealthy: BTreeSet<SocketAddr>,
    notes: BTreeSet<String>,
    panics: u64,
}

impl History {
    /// Puts what has changed since the last tick into the facts, newest first.
    pub(crate) fn tick(&mut self, metrics: &Metrics, readiness: &Readiness) {
        let mut facts = metrics.facts();
        let upstreams = facts.upstreams.iter().map(|upstream| upstream.address);
        let unhealthy = upstreams.filter(|to| metrics.upstream(*to).down_count() > 0).collect();
        let next = Snapshot::new(&facts, unhealthy, readiness);
        let changes = match &self.0 {
            None => vec![(ChangeKind::News, "the server has started".to_owned())],
            Some(last) => last.changes(&next),
        };
        self.0 = Some(next);
        list(&mut facts, changes, SystemTime::now());
    }
}

fn list(facts: &mut Facts, changes: Vec<(ChangeKind, String)>, at: SystemTime) {
    for (kind, text) in changes {
        facts.changes.push_front(ChangeFacts { at, kind, text });
    }
    facts.changes.truncate(STATUS_CHANGES_MAX);
}

impl Snapshot {
    fn new(facts: &Facts, unhealthy: BTreeSet<SocketAddr>, readiness: &Readiness) -> Self {
        let table = |table: &TableFacts| (table.zone.clone(), (table.is_synced, table.is_current));
        Self {
            corefile_sha512: facts.corefile_sha512.clone().unwrap_or_default(),
            is_ready: readiness.verdict() == ReadyVerdict::Ready,
            tables: facts.tables.iter().map(table).collect(),
            unhealthy,
            notes: readiness.notes().into_iter().collect(),
            panics: facts.panics,
        }
    }

    /// What is different in the next one.
    fn changes(&self, next: &Self) -> Vec<(ChangeKind, String)> {
        let mut changes = Vec::new();
        let mut add = |kind, text: String| changes.push((kind, text));
        if self.corefile_sha512 != next.corefile_sha512 {
            let digest = next.corefile_sha512.get(..12).unwrap_or_default();
            add(ChangeKind::News, format!("a new Corefile is in force, SHA512 {digest}"));
        }
        for (zone, (is_synced, is_current)) in &next.tables {
            match self.tables.get(zone) {
                None => add(ChangeKind::News, format!("{zone} has a table")),
                Some((false, _)) if *is_synced => {
                    add(ChangeKind::Solved, format!("{zone} has been read completely"));
                }
                Some((_, true)) if !is_current => add(
                    ChangeKind::Problem,
                    format!("{zone} may be stale: its watches are interrupted"),
                ),
                Some((_, false)) if *is_current => {
                    add(ChangeKind::Solved, format!("{zone} is kept up to date"));
                }
                Some(_) => {}
            }
        }
        for zone in self.tables.keys().filter(|zone| !next.tables.contains_key(*zone)) {
            add(ChangeKind::News, format!("{zone} has no table any more"));
        }
        for upstream in next.unhealthy.difference(&self.unhealthy) {
            add(ChangeKind::Problem, format!("upstream {upstream} is unhealthy"));
        }
        for upstream in self.unhealthy.difference(&next.unhealthy) {
            add(ChangeKind::Solved, format!("upstream {upstream} is healthy again, or gone"));
        }
        for note in next.notes.difference(&self.notes) {
            add(ChangeKind::Problem, note.clone());
        }
        for note in self.notes.difference(&next.notes) {
            add(ChangeKind::Solved, format!("no longer: {note}"));
        }
        if next.panics > self.panics {
            add(ChangeKind::Problem, "a thread has panicked; the log has the reason".to_owned());
        }
        match (self.is_ready, next.is_ready) {
            (false, true) => add(ChangeKind::Solved, "the server is ready".to_owned()),
            (true, false) => add(ChangeKind::Problem, "the server is not ready".to_owned()),
            (true, true) | (false, false) => {}
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_listed() {
        let table = |is_synced, is_current| ("cluster.local.".to_owned(), (is_synced, is_current));
        let upstream: SocketAddr = ([10, 0, 0, 1], 53).into();
        let calm = Snapshot {
            corefile_sha512: "0123456789abcdef".to_owned(),
            is_ready: true,
            tables: [table(true, true)].into(),
            ..Snapshot::default()
        };
        let changed = |change: &dyn Fn(&mut Snapshot)| {
            let mut next = calm.clone();
            change(&mut next);
            next
        };
        use ChangeKind::{News, Problem, Solved};
        let stale = changed(&|next| next.tables = [table(true, false)].into());
        let down = changed(&|next| next.unhealthy = [upstream].into());
        let noted = changed(&|next| next.notes = ["hosts: no file".to_owned()].into());
        for (from, to, expected) in [
            (&calm, &calm, vec![]),
            (&stale, &stale, vec![]),
            (
                &calm,
                &changed(&|next| next.corefile_sha512 = "fedcba9876543210".to_owned()),
                vec![(News, "a new Corefile is in force, SHA512 fedcba987654")],
            ),
            (
                &calm,
                &stale,
                vec![(Problem, "cluster.local. may be stale: its watches are interrupted")],
            ),
            (&stale, &calm, vec![(Solved, "cluster.local. is kept up to date")]),
            (&calm, &down, vec![(Problem, "upstream 10.0.0.1:53 is unhealthy")]),
            (&down, &calm, vec![(Solved, "upstream 10.0.0.1:53 is healthy again, or gone")]),
            (&calm, &noted, vec![(Problem, "hosts: no file")]),
            (&noted, &calm, vec![(Solved, "no longer: hosts: no file")]),
            (
                &calm,
                &changed(&|next| next.panics = 1),
                vec![(Problem, "a thread has panicked; the log has the reason")],
            ),
            (
                &calm,
                &changed(&|next| next.is_ready = false),
                vec![(Problem, "the server is not ready")],
            ),
        ] {
            let found = from.changes(to);
            let found: Vec<_> = found.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_newest_changes_are_kept() {
        let mut facts = Facts::default();
        for number in 0..STATUS_CHANGES_MAX + 5 {
            list(&mut facts, vec![(ChangeKind::News, number.to_string())], SystemTime::now());
        }
        assert_eq!(facts.changes.len(), STATUS_CHANGES_MAX);
        assert_eq!(facts.changes[0].text, (STATUS_CHANGES_MAX + 4).to_string());
    }
}
