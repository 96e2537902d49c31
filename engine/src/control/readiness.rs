//! What `/ready` says: which clusters have not been read, and what is not served as the files say.
//!
//! Invariant: only clusters and the start-up decide whether the server is ready; problems are
//! notes.

use std::collections::BTreeSet;

use engine::admin::Readiness;
use engine::forward::Upstream;
use engine::metrics::ZoneFacts;
use k8s_sync::status::KindReport;

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
        let failure = self.failed_reload.iter().map(|failed| {
            let first_line = failed.message.lines().next().unwrap_or_default();
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
        let of_zones = zones.filter_map(|facts| {
            let ZoneFacts { plugin, zone, problem, .. } = &*facts;
            match (zone.as_str(), problem.as_ref()?) {
                ("", problem) => Some(format!("{plugin}: {problem}")),
                (zone, problem) => Some(format!("{plugin}: zone {zone}: {problem}")),
            }
        });
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
    let cause = if sync.is_lost() {
        "its thread has ended, which is a bug; it is started again".to_owned()
    } else {
        cause(&status.unsynced_kinds, &sync.source.reports())
    };
    readiness.wait_for("kubernetes", &part, &cause);
}

/// The kinds that are missing, with their errors.
fn cause(missing: &[&str], reports: &[KindReport]) -> String {
    let has_error = |kind: &str| {
        reports.iter().any(|report| report.kind.plural() == kind && report.error.is_some())
    };
    let kinds: Vec<&str> = missing.iter().copied().filter(|kind| !has_error(kind)).collect();
    let kinds = Some(kinds.join(", ")).filter(|kinds| !kinds.is_empty());
    kinds.into_iter().chain(errors(missing, reports)).collect::<Vec<_>>().join("; ")
}

/// `KINDS: ERROR` for the kinds that are missing. If none of them has an error, that of another
/// kind: they may wait for the same server.
pub(super) fn errors(missing: &[&str], reports: &[KindReport]) -> Option<String> {
    let failed: Vec<(&str, &str)> = reports
        .iter()
        .filter_map(|report| Some((report.kind.plural(), report.error.as_deref()?)))
        .collect();
    let mut kinds_by_error: Vec<(&str, Vec<&str>)> = Vec::new();
    for (kind, error) in failed.iter().filter(|(kind, _)| missing.contains(kind)) {
        match kinds_by_error.iter_mut().find(|(same, _)| same == error) {
            Some((_, kinds)) => kinds.push(kind),
            None => kinds_by_error.push((error, vec![kind])),
        }
    }
    if kinds_by_error.is_empty() {
        return failed.first().map(|(kind, error)| format!("{kind}: {error}"));
    }
    let shown =
        kinds_by_error.iter().map(|(error, kinds)| format!("{}: {error}", kinds.join(", ")));
    Some(shown.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use k8s_sync::raw::Kind;

    use super::*;

    #[test]
    fn each_missing_kind_has_its_own_error() {
        let check = |missing: &[&str], errors: &[(Kind, &str)], expected: &str| {
            let report = |(kind, error): &(Kind, &str)| KindReport {
                kind: *kind,
                is_synced: false,
                error: Some((*error).to_owned()),
                since_contact: None,
                lists: 0,
                repaired: 0,
                failures: 0,
                refused: 0,
                odd_parts: 0,
            };
            let reports: Vec<KindReport> = errors.iter().map(report).collect();
            assert_eq!(cause(missing, &reports), expected);
        };
        let (namespaces, services, slices) = (Kind::Namespace, Kind::Service, Kind::EndpointSlice);
        check(&["services"], &[], "services");
        check(
            &["endpointslices"],
            &[(namespaces, "leader changed"), (slices, "forbidden")],
            "endpointslices: forbidden",
        );
        check(
            &["namespaces", "services", "endpointslices", "pods"],
            &[(namespaces, "refused"), (services, "refused"), (slices, "forbidden")],
            "pods; namespaces, services: refused; endpointslices: forbidden",
        );
        check(&["services"], &[(namespaces, "refused")], "services; namespaces: refused");
    }
}
