//! The snapshot files of clusters: what `/ready` says about them, and their last writing at
//! shutdown.

use std::time::SystemTime;

use k8s_sync::publish::Request;
use tokio::sync::oneshot;

use super::endpoints::zone_text;
use super::readiness::errors;
use super::sync::KubernetesFeed;

impl KubernetesFeed {
    /// Has the snapshot written, if the block has one and it is not up to date. The receiver ends
    /// when that has ended.
    pub(crate) fn write_snapshot(&self) -> Option<oneshot::Receiver<()>> {
        self.options.snapshot()?;
        let (report, written) = oneshot::channel();
        // A thread with many requests is not waited for.
        self.requests.try_send(Request::WriteSnapshot(report)).ok()?;
        Some(written)
    }

    /// What `/ready` says about the snapshot, if it is served or cannot be written.
    pub(crate) fn snapshot_notes(&self) -> impl Iterator<Item = String> {
        let file = self.options.snapshot().map(|file| file.display().to_string());
        let report = file.is_some().then(|| self.source.snapshot.report());
        let (file, report) = (file.unwrap_or_default(), report.unwrap_or_default());
        let zone = zone_text(self.first_zone());
        let served = report.served.filter(|_| self.source.is_snapshot_served()).map(|confirmed| {
            let reports = self.source.reports();
            let missing = reports.iter().filter(|report| !report.is_synced);
            let missing: Vec<&str> = missing.map(|report| report.kind.plural()).collect();
            let error = errors(&missing, &reports).map(|error| format!(": {error}"));
            let error = error.unwrap_or_default();
            let confirmed = shown(confirmed);
            format!("kubernetes: {zone} is served from the snapshot {file} of {confirmed}{error}")
        });
        let error = report.error;
        let unwritten =
            error.map(|error| format!("kubernetes: cannot write the snapshot {file}: {error}"));
        served.into_iter().chain(unwritten)
    }
}

/// A time, to the second.
fn shown(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
