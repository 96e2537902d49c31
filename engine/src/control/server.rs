//! The control plane's view of what runs: shards, listeners, k8s-sync threads; and how a Corefile is put
//! to work, the first time and every time after.
//!
//! Invariant: `apply` either puts the whole Corefile to work or leaves everything as it was.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use engine::client::ListenerId;
use engine::config::Config;
use engine::fleet::Fleet;
use engine::io::socket::ListenerSockets;
use engine::limits::HAND_OVER_TIMEOUT;
use engine::metrics::Metrics;
use engine::plan::draft::{FatalLoop, Listen, NewTable, PlanDraft};
use engine::plan::{Plan, TableSlot};
use engine::ports;

use super::listening;
use super::sync::Sync;
use super::upstreams::UpstreamFiles;

/// Everything that serves.
pub(crate) struct Server {
    fleet: Fleet,
    metrics: Arc<Metrics>,
    /// By `ListenerId`.
    listeners: Vec<Option<BoundListener>>,
    /// By `TableSlot`.
    syncs: Vec<Option<Sync>>,
    upstream_files: UpstreamFiles,
    fatal_loops: Vec<FatalLoop>,
    /// The plan in force, and older ones that a shard may still hold: they are freed here, not there.
    plans: Vec<Arc<Plan>>,
}

/// The address as the Corefile names it, and the one that it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BoundListener {
    asked: SocketAddr,
    bound: SocketAddr,
}

type NewSockets = Vec<(ListenerId, BoundListener, Vec<ListenerSockets>)>;

impl Server {
    /// Shards that serve nothing yet.
    pub(crate) fn new(fleet: Fleet, metrics: Arc<Metrics>) -> Self {
        Self {
            fleet,
            metrics,
            listeners: Vec::new(),
            syncs: Vec::new(),
            upstream_files: UpstreamFiles::default(),
            fatal_loops: Vec::new(),
            plans: vec![Arc::default()],
        }
    }

    /// Puts a Corefile to work. Sockets open when the clusters have been read, or when `startup_timeout` is
    /// over.
    ///
    /// # Errors
    /// The first thing that is unavailable: an upstream's address, a manifest, a socket. What ran goes on
    /// running.
    pub(crate) async fn apply(&mut self, config: &Config) -> anyhow::Result<()> {
        let draft = PlanDraft::new(config, &self.plan_to_keep(), &self.metrics).await?;
        for warning in &draft.warnings {
            tracing::warn!("{warning}");
        }
        let upstream_files = self.upstream_files.next(&draft.plan).await;
        let mut new_syncs = Vec::new();
        let prepared = match self.start_syncs(&draft.new_tables, &mut new_syncs).await {
            Ok(()) => self.bind(&draft.listens).await,
            Err(error) => Err(error),
        };
        let new_sockets = match prepared {
            Ok(new_sockets) => new_sockets,
            Err(error) => {
                self.drop_syncs(new_syncs).await;
                return Err(error);
            }
        };
        for sync in new_syncs {
            let slot = sync.slot.0;
            self.syncs.resize_with(self.syncs.len().max(slot + 1), || None);
            self.syncs[slot] = Some(sync);
        }
        if self.is_overlapped(&new_sockets) {
            // What came before the new sockets is answered by the old plan, what comes after by the new one.
            tokio::time::sleep(HAND_OVER_TIMEOUT).await;
        }
        self.put_to_work(draft, new_sockets).await;
        self.upstream_files = upstream_files;
        Ok(())
    }

    /// The plan in force, without the tables whose threads are lost: their sources are read anew.
    fn plan_to_keep(&self) -> Plan {
        let mut kept = self.plan().clone();
        for sync in self.syncs().filter(|sync| sync.is_lost()) {
            kept.tables[sync.slot.0] = None;
        }
        kept
    }

    /// A k8s-sync thread for each new table, and its first whole generation if it comes in time.
    async fn start_syncs(
        &self,
        new_tables: &[NewTable],
        new_syncs: &mut Vec<Sync>,
    ) -> anyhow::Result<()> {
        for NewTable { slot, source, place } in new_tables {
            let sync = Sync::start(source, *slot, self.fleet.deliveries(*slot)).await;
            new_syncs.push(sync.with_context(|| place.to_string())?);
        }
        for sync in new_syncs {
            if !sync.settled().await {
                let wanting = sync.status.borrow().unsynced_kinds.join(", ");
                tracing::warn!(
                    "plugin/kubernetes: starting without the cluster: not read yet: {wanting}; its names \
                     are SERVFAIL until then"
                );
            }
        }
        Ok(())
    }

    /// Sockets for the addresses that are not served yet.
    async fn bind(&self, listens: &[Listen]) -> anyhow::Result<NewSockets> {
        let mut bound = Vec::new();
        for listen in listens.iter().filter(|listen| listen.is_new) {
            let sockets = listening::bind(listen, self.fleet.shard_count()).await?;
            let first = sockets.first().context("a fleet has at least one shard")?;
            let listener = BoundListener { asked: listen.address, bound: first.udp.local_addr()? };
            bound.push((listen.id, listener, sockets));
        }
        Ok(bound)
    }

    /// Whether a new listener takes packets that went to another one until now.
    fn is_overlapped(&self, new_sockets: &NewSockets) -> bool {
        let new = new_sockets.iter().map(|(_, listener, _)| listener.asked);
        let mut pairs =
            new.flat_map(|new| self.listeners.iter().flatten().map(move |old| (new, old.asked)));
        pairs.any(|(new, old)| new.port() == old.port() && ports::overlap(new.ip(), old.ip()))
    }

    async fn put_to_work(&mut self, draft: PlanDraft, new_sockets: NewSockets) {
        for (id, listener, _) in &new_sockets {
            self.listeners.resize(self.listeners.len().max(id.0 + 1), None);
            self.listeners[id.0] = Some(*listener);
        }
        self.fatal_loops = draft.fatal_loops;
        let plan = Arc::new(draft.plan);
        self.fleet.set_plan(&plan);
        self.plans.push(Arc::clone(&plan));
        for (id, _, sockets) in new_sockets {
            self.fleet.open(id, sockets);
        }
        for (id, listener) in self.listeners.iter_mut().enumerate() {
            let is_gone = |listener: &mut BoundListener| plan.listener_at(listener.asked).is_none();
            if listener.take_if(is_gone).is_some() {
                self.fleet.close(ListenerId(id));
            }
        }
        let has_table = |slot: TableSlot| plan.tables.get(slot.0).is_some_and(Option::is_some);
        let syncs = self.syncs.iter_mut();
        let gone = syncs.filter_map(|sync| sync.take_if(|sync| !has_table(sync.slot))).collect();
        self.drop_syncs(gone).await;
        self.housekeep();
    }

    async fn drop_syncs(&self, syncs: Vec<Sync>) {
        for sync in syncs {
            let forgotten = self.fleet.forget(sync.slot);
            sync.stop(forgotten).await;
        }
    }

    /// Frees plans that no shard holds any more.
    pub(crate) fn housekeep(&mut self) {
        let newest = self.plans.len() - 1;
        let mut index = 0;
        self.plans.retain(|plan| {
            index += 1;
            index > newest || Arc::strong_count(plan) > 1
        });
    }

    /// The k8s-sync threads that run.
    pub(crate) fn syncs(&self) -> impl Iterator<Item = &Sync> {
        self.syncs.iter().flatten()
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> &Plan {
        self.plans.last().expect("there is always a plan in force")
    }

    /// CoreDNS's last words, where a block with `loop fatal` loops.
    pub(crate) fn fatal_loop(&self) -> Option<String> {
        let plan = self.plan();
        self.fatal_loops.iter().find_map(|block| {
            let settings = block.forwards.iter().filter_map(|slot| plan.forwards.get(slot.0));
            let mut upstreams = settings.flat_map(|settings| &settings.upstreams);
            upstreams.find_map(|one| one.fatal_loop_message(&block.zone, &block.served_at))
        })
    }

    /// The files that upstreams come from.
    pub(crate) fn upstream_files(&mut self) -> &mut UpstreamFiles {
        &mut self.upstream_files
    }

    /// The addresses that are served.
    pub(crate) fn bound_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().flatten().map(|listener| listener.bound)
    }

    /// Whether a shard has ended by itself.
    pub(crate) fn has_lost_a_shard(&self) -> bool {
        self.fleet.has_lost_a_shard()
    }

    /// Answers what has come in, then ends.
    pub(crate) fn stop(self) {
        self.fleet.stop(engine::limits::DRAIN_TIMEOUT);
    }
}
