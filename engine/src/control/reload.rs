//! Reads a changed Corefile and applies it, or keeps the last one.
//!
//! Invariant: however often its folders change, a Corefile that failed is applied again no sooner
//! than `reload` says or a signal asks for it, and the log has each failure once.

use std::time::Instant;

use engine::config::Config;

use super::slow::Reread;
use super::{Control, endpoints, start};

/// Why the Corefile is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is time to check whether it has changed, or something has changed in its folders.
    Change,
    /// An operator requested it, and wants the result in the log.
    Signal,
}

/// Why the Corefile in its file is not the one in force.
pub(crate) struct FailedReload {
    pub(super) message: String,
    /// Of the Corefile, if that could be read.
    digest: Option<String>,
    /// When the same Corefile is tried again. `None`: only a signal reloads.
    retry_at: Option<tokio::time::Instant>,
}

impl FailedReload {
    /// `None` if that time has come, or never will.
    pub(super) fn retry_at(&self) -> Option<tokio::time::Instant> {
        self.retry_at.filter(|at| tokio::time::Instant::now() < *at)
    }
}

impl Control {
    /// Reads the Corefile again, and applies it if its words have changed. A signal has the files
    /// that it names read again in any case, as in CoreDNS, which starts anew.
    pub(super) async fn reload(&mut self, cause: Cause) {
        let is_requested = cause == Cause::Signal;
        if is_requested {
            tracing::info!("SIGUSR1: Reloading");
        }
        let reread = self.errors.beside(&self.metrics, self.source.reread()).await;
        self.log_base();
        let (digest, message) = match reread {
            Reread::Read(next) if next.digest == self.config.digest => {
                self.failed_reload = None;
                if is_requested {
                    tracing::info!(
                        "plugin/reload: the Corefile has not changed; the files that it names are \
                         read again"
                    );
                    self.reload_files().await;
                }
                return;
            }
            // It was emptied by mistake. At start-up there is nothing better to serve.
            Reread::Read(next) if next.is_empty => (
                Some(next.digest),
                "no server block: only a server that starts serves this as if there were no \
                 Corefile; write a server block"
                    .to_owned(),
            ),
            Reread::Read(next) => {
                let failed = self.failed_reload.as_ref();
                let again = failed.filter(|failed| failed.digest.as_ref() == Some(&next.digest));
                if !is_requested && again.is_some_and(|failed| failed.retry_at().is_some()) {
                    return;
                }
                if again.is_none() {
                    tracing::info!("Reloading");
                }
                let digest = next.digest.clone();
                match self.apply_next(*next).await {
                    Ok(()) => return,
                    Err(error) => (Some(digest), format!("{error:#}")),
                }
            }
            Reread::Unrepeatable => {
                if is_requested {
                    tracing::warn!(
                        "plugin/reload: the Corefile was read from a pipe, which cannot be read \
                         again; the files that it names are"
                    );
                    self.reload_files().await;
                }
                return;
            }
            Reread::Failed(message) => (None, message),
        };
        self.note_failure(digest, message, is_requested);
    }

    /// Counts and logs a failure, unless it is known.
    fn note_failure(&mut self, digest: Option<String>, message: String, is_requested: bool) {
        let failed = self.failed_reload.as_ref();
        let known =
            failed.filter(|failed| (&failed.digest, &failed.message) == (&digest, &message));
        if !is_requested && known.is_some_and(|failed| failed.retry_at().is_some()) {
            return;
        }
        self.metrics.reload_failed();
        self.count_base_failure();
        if is_requested || known.is_none() {
            tracing::error!(
                "plugin/reload: cannot load the Corefile; still serving the last one:\n{message}"
            );
        }
        self.failed_reload = Some(FailedReload { message, digest, retry_at: self.next_reload() });
    }

    async fn apply_next(&mut self, next: Config) -> anyhow::Result<()> {
        let began = Instant::now();
        self.queries.open_for(&next);
        // Old and new endpoints listen until it is certain which of them stay.
        let endpoints_before = self.admin.layout();
        let endpoints = endpoints::of(&next, self.metrics_address.as_ref());
        let endpoints = self.errors.beside(&self.metrics, self.admin.open(&endpoints)).await?;
        let prepared = self.errors.beside(&self.metrics, self.server.prepare(&next)).await;
        self.admin.keep(if prepared.is_ok() { &endpoints } else { &endpoints_before });
        self.errors.log_waiting(Instant::now());
        self.server.put_in_force(prepared?).await;
        self.server.reload_files(began);
        self.errors.reload(&next);
        start::log_warnings(&next.warnings);
        self.config = next;
        self.failed_reload = None;
        self.file_failure = None;
        self.file_retry_at = None;
        self.note_problems(&self.loops());
        endpoints::publish_facts(&self.metrics, &self.config);
        self.readiness.set_monitor(endpoints::monitor(&self.config));
        tracing::info!("plugin/reload: Running configuration SHA512 = {}", self.config.digest);
        tracing::info!("Reloading complete");
        Ok(())
    }

    /// Reads every file that the running Corefile names.
    async fn reload_files(&mut self) {
        let began = Instant::now();
        let is_applied = self.apply_again(true).await;
        self.server.reload_files(began);
        if is_applied {
            tracing::info!("Reloading complete");
        }
    }
}
