//! The feed of external zones: a second table of the k8s-sync thread that serves the block's
//! cluster. The thread watches the cluster once for both, and a reload that changes only
//! `k8s_external` does not list it again.
//!
//! Invariant: once closed, the feed publishes nothing more, because another block may have its
//! slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::anyhow;
use engine::fleet::{Fleet, Forgotten};
use engine::limits::SYNC_STOP_TIMEOUT;
use engine::metrics::TableFacts;
use engine::plan::TableSlot;
use engine::plugin::k8s_external::ExternalSettings;
use k8s_sync::options::{ExternalOptions, Options};
use k8s_sync::publish::{ExternalNumber, NewExternal, Request, Status};
use k8s_sync::status::SourceStatus;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::timeout;

use super::sync::{KubernetesFeed, gated, lock, table_facts};

/// Feeds started so far.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// The table of one `k8s_external` line.
pub(crate) struct ExternalFeed {
    pub(crate) slot: TableSlot,
    zone: Vec<u8>,
    status: watch::Receiver<Status>,
    /// Those of the cluster.
    options: Arc<Options>,
    source: Arc<SourceStatus>,
    requests: mpsc::Sender<Request>,
    started_at: Instant,
    /// Whether the thread may hand over tables.
    publishes: Arc<Mutex<bool>>,
}

impl ExternalFeed {
    /// Has the cluster's thread make this table too.
    ///
    /// # Errors
    /// The thread has ended, or too many requests wait for it.
    pub(super) fn start(
        settings: &ExternalSettings,
        slot: TableSlot,
        fleet: &Fleet,
        cluster: &KubernetesFeed,
    ) -> anyhow::Result<Self> {
        let number = ExternalNumber(STARTED.fetch_add(1, Ordering::Relaxed));
        let (sender, status) = watch::channel(Status::default());
        let publishes = Arc::new(Mutex::new(true));
        let options = ExternalOptions {
            zones: settings.zones.iter().map(|zone| zone.wire.clone()).collect(),
            apex: settings.apex,
            ttl_secs: settings.ttl_secs,
            is_headless: settings.is_headless,
        };
        let zone = options.zones.first().cloned().unwrap_or_default();
        let shards = gated(fleet.deliveries(slot), &publishes);
        let new = NewExternal { number, options, shards, status: sender };
        let requests = cluster.requests.clone();
        requests.try_send(Request::AddExternal(Box::new(new))).map_err(|error| {
            let why = match error {
                TrySendError::Closed(_) => "the k8s-sync thread has ended",
                TrySendError::Full(_) => "the k8s-sync thread is busy; try again later",
            };
            anyhow!("plugin/k8s_external: {why}")
        })?;
        let source = Arc::clone(&cluster.source);
        let options = Arc::clone(&cluster.options);
        Ok(Self {
            slot,
            zone,
            status,
            options,
            source,
            requests,
            started_at: Instant::now(),
            publishes,
        })
    }

    /// Waits for the first complete table, at most until `startup_timeout` after the start.
    pub(super) async fn settle(&mut self) {
        let synced = self.status.wait_for(|status| status.is_synced);
        let rest = self.options.startup_timeout.saturating_sub(self.started_at.elapsed());
        // If it does not come, `kubernetes` has logged why.
        let _ = timeout(rest, synced).await;
    }

    /// Whether the thread has ended by itself.
    pub(super) fn is_lost(&self) -> bool {
        self.requests.is_closed()
    }

    /// Publishes nothing more: another feed may have the slot next.
    pub(super) fn close(&self) {
        *lock(&self.publishes) = false;
    }

    /// Has the thread free the table once the shards have dropped it.
    pub(super) async fn stop(self, forgotten: Forgotten) {
        forgotten.wait_until(Instant::now() + SYNC_STOP_TIMEOUT).await;
        let Self { requests, status, .. } = self;
        drop(status);
        // A thread that has ended has freed it, and one with many requests will.
        let _ = requests.try_send(Request::FreeExternals);
    }

    pub(super) fn facts(&self) -> TableFacts {
        let Self { slot, zone, options, source, .. } = self;
        let facts = table_facts(*slot, zone, options, &self.status.borrow(), source);
        // Those of the objects and of the snapshot are the cluster's.
        TableFacts { faults: Vec::new(), snapshot: None, ..facts }
    }
}
