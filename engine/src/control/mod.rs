//! The control loop: signals, reloads, readiness, the shards' log lines, and facts for the metrics.
//!
//! It runs on the main thread. Invariant: nothing here stops answers that the server already gives;
//! after a failed reload everything stays as it was.

mod base;
pub(crate) mod checking;
pub(crate) mod conversion;
pub(crate) mod endpoints;
pub(crate) mod error_log;
pub(crate) mod explaining;
mod external;
mod feed;
mod file_feed;
mod hash_seed;
pub(crate) mod history;
mod hosts;
mod lameduck;
mod listening;
pub(crate) mod log;
mod lost;
mod memory_limit;
pub(crate) mod node;
pub(crate) mod output;
pub(crate) mod placement;
pub(crate) mod query_log;
pub(crate) mod readiness;
mod reload;
pub(crate) mod restarts;
pub(crate) mod server;
pub(crate) mod signals;
pub(crate) mod slow;
mod snapshots;
pub(crate) mod start;
pub(crate) mod supervision;
mod sync;
mod upstreams;
mod watched_zone;
mod zone_folder;
mod zones;

use std::collections::BTreeSet;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::admin::{Admin, ExplainCall, Readiness};
use engine::config::Config;
use engine::corefile::value::http_address::HttpAddress;
use engine::limits::LOG_FLUSH_TIMEOUT;
use engine::metrics::Metrics;
use engine::plugin::health::Health;
use engine::plugin::reload::Reload;
use k8s_sync::folders::FolderWatcher;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use base::BASE_CHECK_EVERY;
use error_log::ErrorLog;
use explaining::{ExplainCalls, Explainer, remote};
use external::ExternalFeed;
use history::History;
use hosts::HostsFeed;
use node::NodeMode;
use placement::Placement;
use query_log::QueryLog;
use readiness::report_readiness;
use reload::{Cause, FailedReload};
use restarts::Restarts;
use server::Server;
use signals::{End, SignalRequest, Signals};
use slow::CorefileSource;
use sync::KubernetesFeed;
use zones::ZonesFeed;

/// How often facts are updated, the shards' log lines written, and old plans freed.
const TICK: Duration = Duration::from_millis(200);
/// How long after a failure the changed files of upstreams and of `tls` are tried again, even if
/// they have not changed since.
const FILE_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The running process.
pub(crate) struct Control {
    pub(crate) server: Server,
    pub(crate) admin: Admin,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) errors: ErrorLog,
    pub(crate) log: log::LogQueue,
    pub(crate) queries: QueryLog,
    pub(crate) source: CorefileSource,
    pub(crate) config: Config,
    /// Requests for `/explain`.
    pub(crate) explain_calls: ExplainCalls,
    /// The folders of the Corefile and its imports.
    pub(crate) folders: FolderWatcher,
    pub(crate) failed_reload: Option<FailedReload>,
    /// Why the changed files of upstreams and of `tls` are not in use.
    pub(crate) file_failure: Option<String>,
    /// When they are tried again after a failure, whose cause may be a host that could not be
    /// resolved at that moment.
    pub(crate) file_retry_at: Option<Instant>,
    pub(crate) restarts: Restarts,
    pub(crate) history: History,
    pub(crate) placement: Placement,
    /// When to look at the shards' loads again, before the next tick.
    pub(crate) balance_at: Option<Instant>,
    /// The clusters that were reported to `/ready`.
    pub(crate) parts: Vec<String>,
    /// `-metrics-listen-address`.
    pub(crate) metrics_address: Option<HttpAddress>,
    /// Last, so that it is taken down after everything else has ended.
    pub(crate) node: Option<NodeMode>,
}

/// What the control loop handles next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopEvent {
    Tick,
    /// A shard may be overloaded.
    Balance,
    Reload(Cause),
}

impl Control {
    /// Serves until a signal ends the process, then shuts down.
    ///
    /// # Errors
    /// An upstream of a block with `loop fatal` loops.
    pub(crate) async fn run(mut self, mut signals: Signals) -> anyhow::Result<()> {
        self.log_base();
        let mut reload_at = self.watch_folders();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            let event = tokio::select! {
                request = signals.next() => match request {
                    SignalRequest::End(end) => break end,
                    SignalRequest::Reload => LoopEvent::Reload(Cause::Signal),
                },
                () = until(reload_at) => LoopEvent::Reload(Cause::Change),
                () = self.folders.changed() => LoopEvent::Reload(Cause::Change),
                _ = tick.tick() => LoopEvent::Tick,
                () = until(self.balance_at) => LoopEvent::Balance,
                Some((call, permit)) = self.explain_calls.next() => {
                    self.explain(call, permit);
                    continue;
                }
            };
            // A reload may wait for files, resolvers and clusters. A signal that ends the process
            // does not wait for it.
            tokio::select! {
                handled = self.handle(event) => handled?,
                end = signals.end() => break end,
            }
            if matches!(event, LoopEvent::Reload(_)) {
                reload_at = self.watch_folders();
            }
        };
        tracing::info!("{}", end.message());
        match end {
            End::Terminate | End::Interrupt => self.shut_down(&mut signals).await,
            End::Quit => {}
        }
        Ok(())
    }

    /// Explains an answer in a task of its own, which waits for upstreams and API servers.
    fn explain(&self, call: ExplainCall, permit: OwnedSemaphorePermit) {
        let ExplainCall { query, answer } = call;
        let explainer = Explainer::new(&self.server, &self.config);
        tokio::spawn(async move {
            let _permit = permit;
            let explained = match remote::read(&query) {
                Ok(options) => explainer.explain(&options).await,
                Err(error) => Err(error),
            };
            // The client may have given up.
            let _ = answer.send(explained.map_err(|error| format!("{error:#}")));
        });
    }

    async fn handle(&mut self, event: LoopEvent) -> anyhow::Result<()> {
        match event {
            LoopEvent::Reload(cause) => self.reload(cause).await,
            LoopEvent::Balance => self.balance(),
            LoopEvent::Tick => {
                self.balance();
                self.tick();
                self.restart_feeds().await;
                self.check_upstreams().await?;
            }
        }
        Ok(())
    }

    /// Reports that the server is not ready, but serves until lameduck ends and the snapshots are
    /// written, for the clients that have not noticed yet. Then stops the shards.
    async fn shut_down(mut self, signals: &mut Signals) {
        self.readiness.shut_down();
        self.admin.hand_over();
        let lameducks = self.config.blocks.iter().filter_map(|block| block.line::<Health>());
        let lameduck = lameducks.map(|health| health.lameduck).max().unwrap_or_default();
        let snapshots = self.server.write_snapshots();
        lameduck::wait(lameduck, snapshots, signals.end()).await;
        self.node.iter().for_each(NodeMode::sockets_close);
        self.server.stop();
        self.errors.tick(std::time::Instant::now(), self.metrics.error_lines_lost());
        self.errors.finish();
        self.queries.finish(LOG_FLUSH_TIMEOUT);
    }

    fn next_reload(&self) -> Option<Instant> {
        let reload = self.config.blocks.iter().find_map(|block| block.line::<Reload>());
        let Some(reload) = reload else {
            return self.follows_base().then(|| Instant::now() + BASE_CHECK_EVERY);
        };
        // Spread over the interval ± jitter/2, so that replicas do not reload at once.
        let jitter_ms = reload.jitter.as_millis() as u64;
        let offset_ms = if jitter_ms == 0 { 0 } else { random_u64() % jitter_ms };
        let interval = reload.interval + Duration::from_millis(offset_ms);
        Some(Instant::now() + interval.saturating_sub(reload.jitter / 2))
    }

    /// Watches the folders that the running Corefile came from, if it is to be followed. Returns
    /// when it is read again without a sign of a change: at once if it may have changed between its
    /// reading and the watch.
    fn watch_folders(&mut self) -> Option<Instant> {
        let reloads = self.config.blocks.iter().any(|block| block.line::<Reload>().is_some())
            || self.follows_base();
        let Config { files, folders, .. } = &self.config;
        let folders = files.iter().filter_map(|file| folder_of(file)).chain(folders.clone());
        let folders = if reloads { folders.collect() } else { BTreeSet::new() };
        if self.folders.watch(folders) {
            return Some(Instant::now());
        }
        let retry_at = self.failed_reload.as_ref().and_then(FailedReload::retry_at);
        retry_at.or_else(|| self.next_reload())
    }

    /// Starts feeds again that have ended by themselves. Their last tables are served meanwhile.
    async fn restart_feeds(&mut self) {
        if self.server.has_lost_a_feed() && self.restarts.is_due(std::time::Instant::now()) {
            tracing::error!(
                "a thread or task that feeds a table has ended, which is a bug; its last table is \
                 served, and it is started again"
            );
            let applied = self.server.apply(&self.config);
            if let Err(error) = self.errors.beside(&self.metrics, applied).await {
                tracing::error!("it cannot be started again yet: {error:#}");
            }
        }
    }

    /// Reads the files that name upstreams again if they have changed, and reports upstreams that
    /// loop.
    ///
    /// # Errors
    /// An upstream of a block with `loop fatal` loops.
    async fn check_upstreams(&mut self) -> anyhow::Result<()> {
        if let Some(message) = self.server.fatal_loop() {
            anyhow::bail!("plugin/loop: {message}");
        }
        let loops = self.loops();
        self.note_problems(&loops);
        for message in self.server.upstream_files().unlogged_loops(loops) {
            tracing::error!("plugin/loop: {message}");
        }
        if let Some(late) = self.server.upstream_files().newly_late() {
            self.metrics.reload_failed();
            tracing::warn!("{late}");
        }
        let has_changed = self.server.upstream_files().is_out_of_date().await;
        if (has_changed || self.file_retry_at.is_some_and(|at| Instant::now() >= at))
            && self.apply_again(has_changed).await
        {
            tracing::info!("the files of upstreams and of `tls` have been read again");
        }
        Ok(())
    }

    /// Applies the running Corefile, so that the files of upstreams and of `tls` are read again;
    /// false if one cannot be used. `is_news`: the log is to say why, even if it did before.
    async fn apply_again(&mut self, is_news: bool) -> bool {
        let applied = self.server.apply(&self.config);
        let Err(error) = self.errors.beside(&self.metrics, applied).await else {
            self.file_failure = None;
            self.file_retry_at = None;
            return true;
        };
        self.server.upstream_files().accept_files();
        self.metrics.reload_failed();
        let failure = format!("{error:#}");
        if is_news || self.file_failure.as_ref() != Some(&failure) {
            tracing::error!(
                "cannot use the changed files of upstreams or of `tls`; still using the last ones: \
                 {failure}"
            );
        }
        self.file_failure = Some(failure);
        self.file_retry_at = Some(Instant::now() + FILE_RETRY_AFTER);
        false
    }

    fn balance(&mut self) {
        self.balance_at = self.server.balance().map(Instant::from_std);
    }

    fn tick(&mut self) {
        self.server.housekeep();
        self.server.look_for_company(std::time::Instant::now());
        let parts: Vec<String> = self
            .server
            .syncs()
            .map(|sync| {
                report_readiness(&self.readiness, sync);
                sync.to_string()
            })
            .collect();
        for gone in self.parts.iter().filter(|part| !parts.contains(part)) {
            self.readiness.forget("kubernetes", gone);
        }
        self.parts = parts;
        let tables = self.server.syncs().map(KubernetesFeed::facts);
        let tables = tables.chain(self.server.externals().map(ExternalFeed::facts)).collect();
        let hosts = self.server.hosts().map(HostsFeed::facts).collect();
        let zones = self.server.zones().flat_map(ZonesFeed::facts).collect();
        let mut facts = self.metrics.facts();
        facts.tables = tables;
        facts.hosts = hosts;
        facts.zones = zones;
        facts.steering = self.server.steering();
        facts.listeners = self.server.listener_facts();
        facts.upstreams = upstreams::facts(self.server.plan());
        facts.log_lines_lost = self.log.lost_count();
        facts.query_lines_lost = self.queries.lost_count();
        facts.panics = log::panic_count();
        drop(facts);
        let now = std::time::Instant::now();
        self.metrics.sample(now);
        self.history.tick(&self.metrics, &self.readiness);
        self.placement.tick(now);
        self.errors.tick(now, self.metrics.error_lines_lost());
    }
}

/// A watcher for the folders of the Corefile.
pub(crate) fn corefile_folders() -> FolderWatcher {
    FolderWatcher::new("a changed Corefile is found by `reload`'s interval")
}

/// The folder that has this file.
fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_path_buf() })
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Unpredictable enough to spread timers.
fn random_u64() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}
