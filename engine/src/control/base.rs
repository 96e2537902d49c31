//! What the control loop does for a base Corefile: it logs and counts what becomes of kube-dns's
//! ConfigMap.
//!
//! Invariant: the log has each state once.

use std::time::Duration;

use engine::base_corefile::KubeDnsState;

use super::Control;

/// How often files are looked at without `reload`, if no event says that they have changed: as
/// often as node-cache does.
pub(super) const BASE_CHECK_EVERY: Duration = Duration::from_secs(10);

impl Control {
    /// Logs what the base Corefile was rendered with, if that is new.
    pub(super) fn log_base(&mut self) {
        let Some(base) = self.source.base() else { return };
        let state = self.source.kube_dns().clone();
        let KubeDnsState { settings, notes, problem } = &state;
        let last = self.source.logged_kube_dns.as_ref();
        if let Some(problem) = problem {
            self.count_base_failure();
            if last.is_none_or(|last| last.problem.as_ref() != Some(problem)) {
                tracing::error!(
                    "node mode: cannot use the ConfigMap of kube-dns; still using the last valid \
                     one, if there was one: {problem}"
                );
            }
        } else if last != Some(&state) {
            let upstreams = match settings.upstreams.as_slice() {
                [] => "/etc/resolv.conf".to_owned(),
                servers => servers.join(" "),
            };
            tracing::info!(
                "node mode: the Corefile is rendered from {} with {} stub domain(s) and the \
                 upstreams {upstreams}",
                base.path().display(),
                settings.stubs.len()
            );
            for note in notes {
                tracing::warn!("node mode: the ConfigMap of kube-dns: {note}");
            }
        }
        self.source.logged_kube_dns = Some(state);
    }

    /// Counts a Corefile of node mode that cannot be used as it is.
    pub(super) fn count_base_failure(&self) {
        if self.source.base().is_some() {
            self.metrics.facts().node_errors.get_or_insert_default().configmap += 1;
        }
    }

    /// Whether changes are followed without `reload`.
    pub(super) fn follows_base(&self) -> bool {
        self.source.base().is_some_and(|base| base.always_reloads)
    }

    /// For `/ready`.
    pub(super) fn base_note(&self) -> Option<String> {
        let problem = self.source.kube_dns().problem.as_ref()?;
        Some(format!("node mode: the last ConfigMap of kube-dns is still used: {problem}"))
    }
}
