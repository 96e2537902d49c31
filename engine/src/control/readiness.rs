//! What `/ready` says: which clusters have not been read, and what is not served as the files say.
//!
//! Invariant: only clusters and the start-up decide whether the server is ready; problems are
//! notes.

use std::collections::BTreeSet;

use engine::admin::Readiness;
use engine::forward::Upstream;

use super::Control;
use super::hosts::HostsFeed;
use super::sync::KubernetesFeed;
use super::upstreams;
use super::zones::ZonesFeed;

impl Control {
    /// The messages of upstreams that loop.
    pub(super) fn loops(&self) -> BTreeSet<String> {
        upstreams::loops(self.server.plan()).map(Upstream::loop_message).collect()
    }

    /// Shows in `/ready` what is not served as the files say.
    pub(super) fn note_problems(&self, loops: &BTreeSet<String>) {
        let failure = self.last_failure.iter().map(|failure| {
            let first_line = failure.lines().next().unwrap_or_default();
            format!("reload: the last Corefile is still served: {first_line}")
        });
        let of_files = self.file_failure.iter().map(|failure| {
            format!("the last files of upstreams and of `tls` are still used: {failure}")
        });
        let of_base = self.base_note().into_iter();
        let late = self.server.late_upstream_file().into_iter();
        let hosts = self.server.hosts().map(HostsFeed::facts);
        let of_hosts = hosts.filter_map(|hosts| Some(format!("hosts: {}", hosts.problem?)));
        let zones = self.server.zones().flat_map(ZonesFeed::facts);
        let of_zones =
            zones.filter_map(|zone| Some(format!("file: zone {}: {}", zone.zone, zone.problem?)));
        let of_loops = loops.iter().map(|message| format!("loop: {message}"));
        let of_snapshots = self.server.syncs().flat_map(KubernetesFeed::snapshot_notes);
        let of_tables = of_snapshots.chain(of_hosts).chain(of_zones);
        let of_files = failure.chain(of_base).chain(of_files).chain(late);
        self.readiness.note(of_files.chain(of_loops).chain(of_tables));
    }
}

/// Reports to `/ready` whether this cluster has been read.
pub(crate) fn report_readiness(readiness: &Readiness, sync: &KubernetesFeed) {
    let part = sync.to_string();
    let status = sync.status.borrow();
    if status.is_synced && !sync.is_lost() {
        readiness.ready("kubernetes", &part);
        return;
    }
    let reports = sync.source.reports();
    let error = reports.iter().find_map(|report| report.error.clone());
    let missing = status.unsynced_kinds.join(", ");
    let cause = match error {
        Some(error) => format!("{missing}: {error}"),
        None => missing,
    };
    readiness.wait_for("kubernetes", &part, &cause);
}
