//! The running server as the control plane sees it: shards, listeners and the feeds of the tables.
//! Applies a Corefile, at start-up and at each reload.
//!
//! Invariant: a Corefile is applied as a whole, or nothing changes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use engine::client::ListenerId;
use engine::config::Config;
use engine::corefile::value::key::Scheme;
use engine::fleet::{Asker, Fleet};
use engine::io::socket::{PortClaim, ShardSockets};
use engine::limits::{ALONE_LOOK_EVERY, DRAIN_TIMEOUT, HAND_OVER_TIMEOUT, SNAPSHOT_TIMEOUT};
use engine::metrics::served::ListenerFacts;
use engine::metrics::{Metrics, SteeringFacts};
use engine::plan::draft::{FatalLoop, Listen, NewTable, PlanDraft};
use engine::plan::{Plan, TableSlot};
use engine::ports::{self, PortProtocol};
use engine::steering::Company;

use super::external::ExternalFeed;
use super::feed::TableFeed;
use super::hosts::HostsFeed;
use super::listening;
use super::query_log::ListenerAddresses;
use super::sync::KubernetesFeed;
use super::upstreams::UpstreamFiles;
use super::zones::ZonesFeed;

/// The running server.
pub(crate) struct Server {
    fleet: Fleet,
    metrics: Arc<Metrics>,
    claim: PortClaim,
    /// When to look whether the process that this one replaces has ended. `None`: there is none.
    alone_check_at: Option<Instant>,
    /// By `ListenerId`.
    listeners: Vec<Option<BoundListener>>,
    /// By `TableSlot`.
    feeds: Vec<Option<TableFeed>>,
    upstream_files: UpstreamFiles,
    listener_addresses: ListenerAddresses,
    fatal_loops: Vec<FatalLoop>,
    /// The digest of the Corefile that was applied last, and its warnings. A changed certificate
    /// applies the same Corefile again.
    warned: (String, Vec<String>),
    /// The current plan, last, and older ones that a shard may still hold. They are freed here, not
    /// by a shard.
    plans: Vec<Arc<Plan>>,
}

/// An address as in the Corefile, and the one that was bound for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BoundListener {
    requested: SocketAddr,
    bound: SocketAddr,
    scheme: Scheme,
    company: Company,
}

/// What a Corefile needs, read and open, but not served yet.
pub(crate) struct Prepared {
    draft: PlanDraft,
    new_feeds: Vec<TableFeed>,
    new_sockets: NewSockets,
    upstream_files: UpstreamFiles,
}

/// What applying a Corefile opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Sockets,
    Nothing,
}

type NewSockets = Vec<(ListenerId, BoundListener, Vec<ShardSockets>)>;

impl Server {
    /// `fleet`: shards that serve nothing yet.
    pub(crate) fn new(
        fleet: Fleet,
        metrics: Arc<Metrics>,
        listener_addresses: ListenerAddresses,
        claim: PortClaim,
    ) -> Self {
        Self {
            fleet,
            metrics,
            claim,
            alone_check_at: None,
            listeners: Vec::new(),
            feeds: Vec::new(),
            upstream_files: UpstreamFiles::default(),
            listener_addresses,
            fatal_loops: Vec::new(),
            warned: Default::default(),
            plans: vec![Arc::default()],
        }
    }

    /// Applies a Corefile.
    ///
    /// # Errors
    /// As `prepare`.
    pub(crate) async fn apply(&mut self, config: &Config) -> anyhow::Result<()> {
        let prepared = self.prepare(config).await?;
        self.put_in_force(prepared).await;
        Ok(())
    }

    /// The same without sockets: nobody but `explain` can ask.
    pub(crate) async fn apply_unserved(&mut self, config: &Config) -> anyhow::Result<()> {
        let prepared = self.prepare_with(config, Opening::Nothing).await?;
        self.put_in_force(prepared).await;
        Ok(())
    }

    /// Reads and opens what a Corefile needs. Its new tables have been read then, or
    /// `startup_timeout` has passed.
    ///
    /// # Errors
    /// The first unavailable thing: an upstream's address, a manifest, a socket. The last Corefile
    /// stays in force.
    pub(crate) async fn prepare(&mut self, config: &Config) -> anyhow::Result<Prepared> {
        self.prepare_with(config, Opening::Sockets).await
    }

    /// Asks questions of a shard.
    pub(crate) fn asker(&self) -> Asker {
        self.fleet.asker()
    }

    /// The current plan, for a task that outlives it.
    pub(crate) fn shared_plan(&self) -> Arc<Plan> {
        self.plans.last().map(Arc::clone).unwrap_or_default()
    }

    async fn prepare_with(
        &mut self,
        config: &Config,
        opening: Opening,
    ) -> anyhow::Result<Prepared> {
        // A feed that has ended by itself is replaced; its table is served until then.
        let feeds = self.feeds.iter().flatten();
        let lost: Vec<_> = feeds.filter(|feed| feed.is_lost()).map(TableFeed::slot).collect();
        let draft = PlanDraft::new(config, self.plan(), &lost, &self.metrics).await?;
        self.log_new(&draft.warnings, &config.digest);
        let upstream_files = self.upstream_files.next(&draft.plan).await;
        let mut new_feeds = Vec::new();
        let prepared = match self.start_feeds(&draft.new_tables, &mut new_feeds).await {
            Ok(()) => match opening {
                Opening::Sockets => self.bind(&draft.listens).await,
                Opening::Nothing => Ok(Vec::new()),
            },
            Err(error) => Err(error),
        };
        let new_sockets = match prepared {
            Ok(new_sockets) => new_sockets,
            Err(error) => {
                self.drop_feeds(new_feeds).await;
                return Err(error);
            }
        };
        if self.is_overlapped(&new_sockets) {
            // Queries from before the new sockets are answered by the old plan, later ones by the
            // new one.
            tokio::time::sleep(HAND_OVER_TIMEOUT).await;
        }
        Ok(Prepared { draft, new_feeds, new_sockets, upstream_files })
    }

    /// Logs the warnings that the same Corefile did not have when it was applied last.
    fn log_new(&mut self, warnings: &[String], digest: &str) {
        let (last_digest, logged) = &self.warned;
        for warning in warnings {
            if last_digest != digest || !logged.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        self.warned = (digest.to_owned(), warnings.to_vec());
    }

    /// Starts a feed for each new table, and waits for its first complete table or its time-out.
    async fn start_feeds(
        &self,
        new_tables: &[NewTable],
        new_feeds: &mut Vec<TableFeed>,
    ) -> anyhow::Result<()> {
        for new in new_tables {
            let is_cluster = |feed: &&TableFeed| Some(feed.slot()) == new.table.cluster;
            let mut feeds = new_feeds.iter().chain(self.feeds.iter().flatten());
            let cluster = feeds.find(is_cluster).and_then(TableFeed::kubernetes);
            let feed = TableFeed::start(new, &self.fleet, &self.metrics, cluster).await?;
            new_feeds.push(feed);
        }
        for (feed, new) in new_feeds.iter_mut().zip(new_tables) {
            feed.settle().await.with_context(|| new.place.to_string())?;
        }
        Ok(())
    }

    /// Sockets for the addresses that are not served yet. Those that take packets away from others
    /// are bound last, once all the rest is certain to be free.
    async fn bind(&self, listens: &[Listen]) -> anyhow::Result<NewSockets> {
        let mut new: Vec<_> = listens.iter().filter(|listen| listen.is_new).collect();
        new.sort_by_cached_key(|listen| {
            self.is_served(listen.address)
                || (self.claim == PortClaim::TakeOver && is_of_others(listen.address))
        });
        let sockets = listening::bind(&new, self.fleet.shard_count(), self.claim).await?;
        let mut bound = Vec::new();
        for (listen, sockets) in new.into_iter().zip(sockets) {
            let first = sockets.first().context("a fleet has at least one shard")?;
            let bound_to = first.own.tcp.local_addr()?;
            let Listen { address: requested, scheme, .. } = *listen;
            let company = match self.claim {
                PortClaim::TakeOver => company_at(bound_to),
                PortClaim::Alone => Company::None,
            };
            let listener = BoundListener { requested, bound: bound_to, scheme, company };
            bound.push((listen.id, listener, sockets));
        }
        Ok(bound)
    }

    /// Whether a listener gets packets for this address, or some of them.
    fn is_served(&self, address: SocketAddr) -> bool {
        self.listeners.iter().flatten().any(|BoundListener { requested, .. }| {
            requested.port() == address.port() && ports::overlap(requested.ip(), address.ip())
        })
    }

    /// Whether a new listener takes over packets from an existing one.
    fn is_overlapped(&self, new_sockets: &NewSockets) -> bool {
        new_sockets.iter().any(|(_, new, _)| self.is_served(new.requested))
    }

    /// Serves what was prepared, and nothing else.
    pub(crate) async fn put_in_force(&mut self, prepared: Prepared) {
        let Prepared { mut draft, new_feeds, new_sockets, upstream_files } = prepared;
        self.upstream_files = upstream_files;
        for feed in new_feeds {
            let slot = feed.slot().0;
            self.feeds.resize_with(self.feeds.len().max(slot + 1), || None);
            self.feeds[slot] = Some(feed);
        }
        for (id, listener, _) in &new_sockets {
            self.listeners.resize(self.listeners.len().max(id.0 + 1), None);
            self.listeners[id.0] = Some(*listener);
            if listener.company == Company::OtherProcess {
                listening::log_company(listener.bound);
                self.alone_check_at = Some(Instant::now() + ALONE_LOOK_EVERY);
            }
        }
        self.fatal_loops = std::mem::take(&mut draft.fatal_loops);
        let plan = Arc::new(draft.into_plan(&self.metrics));
        self.listener_addresses.add(&plan);
        self.fleet.set_plan(&plan);
        self.plans.push(Arc::clone(&plan));
        for (id, listener, sockets) in new_sockets {
            self.fleet.open(id, sockets, listener.company);
        }
        for (id, listener) in self.listeners.iter_mut().enumerate() {
            let is_gone =
                |old: &mut BoundListener| plan.listener_at(old.requested, old.scheme).is_none();
            if let Some(gone) = listener.take_if(is_gone) {
                self.fleet.close(ListenerId(id), gone.company);
            }
        }
        let has_table = |slot: TableSlot| plan.tables.get(slot.0).is_some_and(Option::is_some);
        let feeds = self.feeds.iter_mut();
        let gone = feeds.filter_map(|feed| feed.take_if(|feed| !has_table(feed.slot()))).collect();
        self.drop_feeds(gone).await;
        self.housekeep();
    }

    async fn drop_feeds(&self, feeds: Vec<TableFeed>) {
        for feed in feeds {
            feed.close();
            let forgotten = self.fleet.forget(feed.slot());
            feed.stop(forgotten).await;
        }
    }

    /// Has the hosts and zone files read again by the feeds that run since before `began`.
    pub(crate) fn reload_files(&self, began: Instant) {
        self.feeds.iter().flatten().for_each(|feed| feed.reload(began));
    }

    /// Whether a feed has ended by itself.
    pub(crate) fn has_lost_a_feed(&self) -> bool {
        self.feeds.iter().flatten().any(TableFeed::is_lost)
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

    /// Spreads queries over the shards by hash where one shard is overloaded. Returns when to call
    /// this sooner than at the next tick.
    pub(crate) fn balance(&mut self) -> Option<Instant> {
        self.fleet.balance(Instant::now())
    }

    /// How queries at each address find their shard.
    pub(crate) fn steering(&self) -> Vec<SteeringFacts> {
        self.fleet.steering_facts()
    }

    /// The running k8s-sync threads.
    pub(crate) fn syncs(&self) -> impl Iterator<Item = &KubernetesFeed> {
        self.feeds.iter().flatten().filter_map(TableFeed::kubernetes)
    }

    /// Has the snapshots of all clusters written, and waits for them, but not for a slow disk.
    pub(crate) fn write_snapshots(&self) -> impl Future<Output = ()> + use<> {
        let written: Vec<_> = self.syncs().filter_map(KubernetesFeed::write_snapshot).collect();
        async move {
            let all = async {
                for one in written {
                    // A thread that has ended writes nothing.
                    let _ = one.await;
                }
            };
            if tokio::time::timeout(SNAPSHOT_TIMEOUT, all).await.is_err() {
                tracing::warn!("plugin/kubernetes: the snapshot is not written yet; ending anyway");
            }
        }
    }

    /// The feeds of external zones.
    pub(crate) fn externals(&self) -> impl Iterator<Item = &ExternalFeed> {
        self.feeds.iter().flatten().filter_map(TableFeed::external)
    }

    /// The feeds of hosts files.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostsFeed> {
        self.feeds.iter().flatten().filter_map(TableFeed::hosts)
    }

    /// The feeds of zone files.
    pub(crate) fn zones(&self) -> impl Iterator<Item = &ZonesFeed> {
        self.feeds.iter().flatten().filter_map(TableFeed::zones)
    }

    /// The current plan.
    pub(crate) fn plan(&self) -> &Plan {
        self.plans.last().expect("there is always a plan in force")
    }

    /// CoreDNS's final error, if an upstream of a block with `loop fatal` loops.
    pub(crate) fn fatal_loop(&self) -> Option<String> {
        let plan = self.plan();
        self.fatal_loops.iter().find_map(|block| {
            let settings = block.forwards.iter().filter_map(|slot| plan.forwards.get(slot.0));
            let mut upstreams = settings.flat_map(|settings| &settings.upstreams);
            upstreams.find_map(|one| one.fatal_loop_message(&block.zone, &block.served_at))
        })
    }

    /// The file of upstreams or of `tls` that hangs, as a sentence.
    pub(crate) fn late_upstream_file(&self) -> Option<String> {
        self.upstream_files.late(Instant::now())
    }

    /// The files that the upstreams depend on.
    pub(crate) fn upstream_files(&mut self) -> &mut UpstreamFiles {
        &mut self.upstream_files
    }

    /// The addresses that the server listens on.
    pub(crate) fn bound_addresses(&self, scheme: Scheme) -> impl Iterator<Item = SocketAddr> {
        let listeners = self.listeners.iter().flatten();
        listeners.filter(move |listener| listener.scheme == scheme).map(|listener| listener.bound)
    }

    /// The sockets that queries arrive at.
    pub(crate) fn listener_facts(&self) -> Vec<ListenerFacts> {
        let facts = |listener: &BoundListener| ListenerFacts {
            address: listener.bound,
            transports: match listener.scheme {
                Scheme::Tls => "TLS",
                Scheme::Https => "HTTPS",
                Scheme::Dns | Scheme::Quic | Scheme::Grpc | Scheme::Https3 => "UDP and TCP",
            },
        };
        self.listeners.iter().flatten().map(facts).collect()
    }

    /// Steers by CPU again where the process that this one replaces has ended.
    pub(crate) fn look_for_company(&mut self, now: Instant) {
        if self.alone_check_at.is_none_or(|at| now < at) {
            return;
        }
        self.alone_check_at = None;
        for (id, listener) in self.listeners.iter_mut().enumerate() {
            let Some(listener) = listener else { continue };
            if listener.company == Company::None {
                continue;
            }
            listener.company = company_at(listener.bound);
            match listener.company {
                Company::OtherProcess => self.alone_check_at = Some(now + ALONE_LOOK_EVERY),
                Company::None => {
                    tracing::info!("{}: taken over; this process serves alone", listener.bound);
                    self.fleet.now_alone(ListenerId(id));
                }
            }
        }
    }

    /// Answers the queries received so far, then ends the shards. Where another process has the
    /// address too, it gets all later queries.
    pub(crate) fn stop(mut self) {
        for (id, listener) in self.listeners.iter().enumerate() {
            let Some(BoundListener { bound, .. }) = listener else { continue };
            match company_at(*bound) {
                Company::None => {}
                Company::OtherProcess => {
                    tracing::info!("{bound}: handed over to the other process that listens there");
                    self.fleet.close(ListenerId(id), Company::OtherProcess);
                }
            }
        }
        self.fleet.stop(DRAIN_TIMEOUT);
    }
}

/// Whether another process gets packets for this address, or some of them.
fn is_of_others(address: SocketAddr) -> bool {
    PortProtocol::ALL.into_iter().any(|protocol| ports::is_of_others(address, protocol))
}

/// Whether another process has sockets at this address.
fn company_at(address: SocketAddr) -> Company {
    if PortProtocol::ALL.into_iter().any(|protocol| ports::is_shared(address, protocol)) {
        Company::OtherProcess
    } else {
        Company::None
    }
}
