//! The control plane's view of what runs: shards, listeners, k8s-sync threads, HTTP endpoints; and how a Corefile is put to
//! work, the first time and every time after.
//!
//! Invariant: `apply` either puts the whole Corefile to work or leaves everything as it was.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use engine::client::ListenerId;
use engine::config::Config;
use engine::corefile::value::zone::Zone;
use engine::fleet::Fleet;
use engine::io::socket::ListenerSockets;
use engine::limits::{HAND_OVER_TIMEOUT, LISTENERS_MAX, TABLES_MAX};
use engine::metrics::{LabelSet, Metrics};
use engine::plan::{Block, KubernetesStep, ListenerPlan, Plan, TableSlot};
use engine::plugin::ServerBlock;
use engine::plugin::errors::Errors;
use engine::plugin::kubernetes::Kubernetes;
use engine::plugin::loadbalance::LoadBalance;
use engine::plugin::prometheus::Prometheus;
use engine::plugin::timeouts::Timeouts;
use engine::ports;
use wire::zone::ZoneSet;

use super::endpoints::{labels, plugins};
use super::listening::{self, Asked, addresses};
use super::outward::Outward;
use super::sync::{self, Sync};

/// Everything that serves.
pub(crate) struct Server {
    fleet: Fleet,
    metrics: Arc<Metrics>,
    /// By `ListenerId`: the address as the Corefile asks for it, and the one that it became.
    listeners: Vec<Option<Listener>>,
    /// By `TableSlot`.
    syncs: Vec<Option<Sync>>,
    outward: Outward,
    /// The plan in force, and those before it that a shard may still hold: freed here, not there.
    plans: Vec<Arc<Plan>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    asked: SocketAddr,
    bound: SocketAddr,
}

/// What a Corefile needs beside what runs already; thrown away whole if any of it cannot be had.
struct Prepared {
    /// By block: the slot of its table.
    slots: Vec<Option<TableSlot>>,
    new_syncs: Vec<Sync>,
    outward: Outward,
    /// What is listened on, in the order of first mention.
    asked: Vec<Asked>,
    new_sockets: Vec<(ListenerId, Listener, Vec<ListenerSockets>)>,
}

impl Server {
    /// Shards that serve nothing yet.
    pub(crate) fn new(fleet: Fleet, metrics: Arc<Metrics>) -> Self {
        Self {
            fleet,
            metrics,
            listeners: Vec::new(),
            syncs: Vec::new(),
            outward: Outward::default(),
            plans: vec![Arc::default()],
        }
    }

    /// Puts a Corefile to work. Sockets open when the clusters have been read, or when `startup_timeout` is over.
    ///
    /// # Errors
    /// The first thing that cannot be had: an address, a manifest. What ran goes on running.
    pub(crate) async fn apply(&mut self, config: &Config) -> anyhow::Result<()> {
        let mut prepared = match self.prepare(config).await {
            Ok(prepared) => prepared,
            Err((error, new_syncs)) => {
                self.drop_syncs(new_syncs);
                return Err(error);
            }
        };
        for sync in std::mem::take(&mut prepared.new_syncs) {
            let slot = sync.slot.0;
            self.syncs.resize_with(self.syncs.len().max(slot + 1), || None);
            self.syncs[slot] = Some(sync);
        }
        if self.is_overlapped(&prepared) {
            // What came before the new sockets is answered by the old plan, what comes after by the new one.
            tokio::time::sleep(HAND_OVER_TIMEOUT).await;
        }
        for (id, listener, _) in &prepared.new_sockets {
            self.listeners.resize(self.listeners.len().max(id.0 + 1), None);
            self.listeners[id.0] = Some(*listener);
        }
        self.outward = prepared.outward;
        let plan = Arc::new(self.plan(config, &prepared.slots));
        self.fleet.set_plan(&plan);
        self.plans.push(plan);
        for (id, _, sockets) in prepared.new_sockets {
            self.fleet.open(id, sockets);
        }
        self.close_all_but(&prepared.asked);
        self.drop_tables_but(&prepared.slots);
        self.housekeep();
        Ok(())
    }

    async fn prepare(&self, config: &Config) -> Result<Prepared, (anyhow::Error, Vec<Sync>)> {
        let mut new_syncs = Vec::new();
        let slots = match self.start_syncs(config, &mut new_syncs).await {
            Ok(slots) => slots,
            Err(error) => return Err((error, new_syncs)),
        };
        for sync in &mut new_syncs {
            if !sync.settled().await {
                let wanting = sync.status.borrow().unsynced_kinds.join(", ");
                tracing::warn!(
                    "plugin/kubernetes: starting without the cluster: not read yet: {wanting}; its names are SERVFAIL until then"
                );
            }
        }
        let outward = match Outward::load(config, &self.outward, &self.metrics).await {
            Ok(outward) => outward,
            Err(error) => return Err((error, new_syncs)),
        };
        let asked = listening::asked(config);
        match self.bind(&asked).await {
            Ok(new_sockets) => Ok(Prepared { slots, new_syncs, outward, asked, new_sockets }),
            Err(error) => Err((error, new_syncs)),
        }
    }

    /// A k8s-sync thread for each `kubernetes` block whose like does not run already.
    async fn start_syncs(
        &self,
        config: &Config,
        new_syncs: &mut Vec<Sync>,
    ) -> anyhow::Result<Vec<Option<TableSlot>>> {
        let mut slots = Vec::with_capacity(config.blocks.len());
        for block in &config.blocks {
            let Some(kubernetes) = block.line::<Kubernetes>() else {
                slots.push(None);
                continue;
            };
            let options = sync::options(kubernetes, listening::known_addresses(block));
            let like = self.syncs.iter().flatten().chain(&*new_syncs).find(|sync| {
                *sync.options == options && !sync.is_lost() && !slots.contains(&Some(sync.slot))
            });
            if let Some(sync) = like {
                slots.push(Some(sync.slot));
                continue;
            }
            let is_free = |slot: &usize| {
                self.syncs.get(*slot).is_none_or(Option::is_none)
                    && !new_syncs.iter().any(|sync| sync.slot.0 == *slot)
            };
            let Some(slot) = (0..TABLES_MAX).find(is_free).map(TableSlot) else {
                bail!("{}: more than {TABLES_MAX} kubernetes blocks", kubernetes.place);
            };
            let sync = Sync::start(options, slot, self.fleet.deliveries(slot))
                .await
                .with_context(|| kubernetes.source_place.to_string())?;
            new_syncs.push(sync);
            slots.push(Some(slot));
        }
        Ok(slots)
    }

    /// Sockets for the addresses that are not served yet.
    async fn bind(
        &self,
        asked: &[Asked],
    ) -> anyhow::Result<Vec<(ListenerId, Listener, Vec<ListenerSockets>)>> {
        let mut taken: Vec<bool> = self.listeners.iter().map(Option::is_some).collect();
        let mut bound = Vec::new();
        for asked in asked {
            let address = asked.address;
            if self.listener_at(address).is_some() {
                continue;
            }
            let id = taken.iter().position(|taken| !taken).unwrap_or(taken.len());
            if id >= LISTENERS_MAX {
                bail!("{}: more than {LISTENERS_MAX} addresses to listen on", asked.place);
            }
            taken.resize(taken.len().max(id + 1), false);
            taken[id] = true;
            let shards = self.fleet.shard_count();
            let sockets = asked.bind(shards).await?;
            let first = sockets.first().context("a fleet has at least one shard")?;
            let listener = Listener { asked: address, bound: first.udp.local_addr()? };
            bound.push((ListenerId(id), listener, sockets));
        }
        Ok(bound)
    }

    /// Whether packets that were a listener's until now are a new one's.
    fn is_overlapped(&self, prepared: &Prepared) -> bool {
        let new = prepared.new_sockets.iter().map(|(_, listener, _)| listener.asked);
        let mut pairs =
            new.flat_map(|new| self.listeners.iter().flatten().map(move |old| (new, old.asked)));
        pairs.any(|(new, old)| new.port() == old.port() && ports::overlap(new.ip(), old.ip()))
    }

    fn listener_at(&self, asked: SocketAddr) -> Option<ListenerId> {
        let is_asked = |listener: &Option<Listener>| listener.is_some_and(|one| one.asked == asked);
        self.listeners.iter().position(is_asked).map(ListenerId)
    }

    fn plan(&self, config: &Config, slots: &[Option<TableSlot>]) -> Plan {
        let mut plan = Plan {
            caches: self.outward.caches.clone(),
            forwards: self.outward.forwards.clone(),
            ..Plan::default()
        };
        let mut zones: Vec<Vec<&[u8]>> = vec![Vec::new(); self.listeners.len()];
        plan.listeners.resize_with(self.listeners.len(), ListenerPlan::default);
        for ((index, block), slot) in config.blocks.iter().enumerate().zip(slots) {
            for key in &block.keys {
                for address in addresses(block, key.port) {
                    let Some(ListenerId(id)) = self.listener_at(address) else { continue };
                    let listener = &mut plan.listeners[id];
                    zones[id].push(&key.zone.wire);
                    listener.blocks.push(plan.blocks.len());
                    if let Some(timeouts) = block.line::<Timeouts>() {
                        listener.timeouts = *timeouts;
                    }
                    // CoreDNS counts each address and each key of a block apart.
                    let count = |zone: &str| self.metrics.label_set(&labels(address, zone));
                    let is_counted = block.line::<Prometheus>().is_some();
                    if is_counted && listener.dropped_as.is_none() {
                        listener.dropped_as = count(LabelSet::DROPPED);
                    }
                    plan.blocks.push(Block {
                        has_plugins: plugins(block).next().is_some(),
                        counted_as: is_counted.then(|| count(&key.zone.text)).flatten(),
                        rotates: block.line::<LoadBalance>().is_some(),
                        logged_as: block.line::<Errors>().map(|_| index),
                        kubernetes: slot.map(|table| kubernetes_step(block, table)),
                        cache: self.outward.cache(index),
                        forwards: self.outward.forwards(index),
                    });
                }
            }
        }
        for (listener, zones) in plan.listeners.iter_mut().zip(&zones) {
            listener.zones = ZoneSet::new(zones);
        }
        self.leave_to_heirs(&mut plan);
        plan
    }

    /// What an address that goes away still holds, its connections too, is answered as at the one that its packets go to from now on:
    /// at a wildcard. Those of a wildcard go to several others, or nowhere; what it still holds then is REFUSED, for it may be from
    /// clients who must not see what another address says.
    fn leave_to_heirs(&self, plan: &mut Plan) {
        let is_asked = |plan: &Plan, id: usize| !plan.listeners[id].blocks.is_empty();
        for (id, listener) in self.listeners.iter().enumerate() {
            let Some(Listener { asked: old, .. }) = listener else { continue };
            if is_asked(plan, id) {
                continue;
            }
            let heir = self.listeners.iter().enumerate().find(|(heir, listener)| {
                is_asked(plan, *heir)
                    && listener.is_some_and(|Listener { asked, .. }| {
                        asked.port() == old.port() && ports::covers(asked.ip(), old.ip())
                    })
            });
            if let Some((heir, _)) = heir {
                plan.listeners[id] = plan.listeners[heir].clone();
            }
        }
    }

    fn close_all_but(&mut self, asked: &[Asked]) {
        for (id, listener) in self.listeners.iter_mut().enumerate() {
            let is_asked =
                |listener: Listener| asked.iter().any(|one| one.address == listener.asked);
            if listener.is_some_and(|listener| !is_asked(listener)) {
                *listener = None;
                self.fleet.close(ListenerId(id));
            }
        }
    }

    fn drop_tables_but(&mut self, slots: &[Option<TableSlot>]) {
        let gone: Vec<Sync> = self
            .syncs
            .iter_mut()
            .filter_map(|sync| sync.take_if(|sync| !slots.contains(&Some(sync.slot))))
            .collect();
        self.drop_syncs(gone);
    }

    fn drop_syncs(&self, syncs: Vec<Sync>) {
        for sync in syncs {
            self.fleet.forget(sync.slot);
            sync.stop();
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

    /// Upstreams, caches and loops.
    pub(crate) fn outward(&mut self) -> &mut Outward {
        &mut self.outward
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

fn kubernetes_step(block: &ServerBlock, table: TableSlot) -> KubernetesStep {
    let zones = block.lines::<Kubernetes>().flat_map(|kubernetes| &kubernetes.fallthrough);
    KubernetesStep { table, fallthrough: Zone::set(zones) }
}
