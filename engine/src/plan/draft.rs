//! A plan before it is in force: compiled from a Corefile in one pass, with the unchanged parts of
//! the current plan.
//!
//! Invariant: a part that a reload does not change stays the same `Arc`. That is how a shard knows
//! that it may keep its cache and its connections.

mod listening;

use std::net::SocketAddr;
use std::sync::Arc;

use wire::zone::ZoneSet;

use super::{
    Block, CachePlan, CacheSlot, ForwardSlot, ForwardStep, GlanceTables, ListenerPlan, Own,
    OwnTable, Plan, PlanTable, TableSlot, ViewedBlocks,
};
use crate::config::Config;
use crate::corefile::Place;
use crate::corefile::value::zone::Zone;
use crate::forward::options::ForwardOptions;
use crate::forward::{ForwardSettings, Upstream, Way};
use crate::limits::TABLES_MAX;
use crate::metrics::{LabelSet, Metrics, PluginCounter};
use crate::plugin::ServerBlock;
use crate::plugin::draft::{
    BlockDraft, CacheDraft, ForwardDraft, LoadError, OwnDraft, TableDraft, TableSource,
};
use crate::plugin::finish::Finish;
use crate::plugin::gate::Gate;
use crate::plugin::https::{Https, HttpsStatus};
use crate::plugin::no_aaaa::AaaaDenial;
use crate::plugin::timeouts::Timeouts;
use crate::plugin::tls::config::ServerTls;

pub use listening::Listen;

use listening::CountedBlock;

/// Everything that a Corefile requires.
#[derive(Default)]
pub struct PlanDraft {
    pub plan: Plan,
    /// Every address to listen on, in the order of first mention.
    pub listens: Vec<Listen>,
    /// The tables that the current plan does not have.
    pub new_tables: Vec<NewTable>,
    /// Blocks with `loop fatal`.
    pub fatal_loops: Vec<FatalLoop>,
    /// For the log.
    pub warnings: Vec<String>,
    lost: Vec<TableSlot>,
    counted: Vec<CountedBlock>,
    plugin_counters: Vec<CountingBlock>,
    /// Listeners that go away, each after the one that takes its packets.
    heirs: Vec<(usize, usize)>,
}

/// A block whose plugins count, before its counters have indexes, as for `CountedBlock`.
struct CountingBlock {
    block: usize,
    labels: LabelSet,
    counters: Arc<[PluginCounter]>,
}

/// A table that must be created.
#[derive(Debug)]
pub struct NewTable {
    pub slot: TableSlot,
    pub table: PlanTable,
    /// The line that requires it.
    pub place: Place,
}

/// A block with `loop fatal`: the process ends if an upstream sends its queries back.
#[derive(Debug)]
pub struct FatalLoop {
    pub zone: Zone,
    /// The block's address, as CoreDNS spells it.
    pub served_at: String,
    pub forwards: Vec<ForwardSlot>,
}

impl PlanDraft {
    /// Reads the files and resolves the host names that the lines refer to. `before`: the current
    /// plan. `lost`: its tables whose feeds have ended. They are made again in other slots, because
    /// shards answer from the old ones until the new plan is in force.
    ///
    /// # Errors
    /// The first line that cannot be used, and why.
    pub async fn new(
        config: &Config,
        before: &Plan,
        lost: &[TableSlot],
        metrics: &Metrics,
    ) -> Result<Self, LoadError> {
        let mut draft = Self { lost: lost.to_vec(), ..Self::default() };
        draft.plan.tables = vec![None; before.tables.len()];
        draft.plan.listeners.resize_with(before.listeners.len(), ListenerPlan::default);
        draft.plan.next_listener = before.next_listener;
        let mut zones = Vec::new();
        for (index, block) in config.blocks.iter().enumerate() {
            let lines = block.draft(metrics).await?;
            let step = draft.add_block(index, block, lines, before)?;
            draft.listen(block, &step, &mut zones, before)?;
        }
        let Plan { listeners, blocks, .. } = &mut draft.plan;
        for (listener, zones) in listeners.iter_mut().zip(&zones) {
            if listener.blocks.iter().any(|index| blocks[*index].view.is_some()) {
                listener.viewed = Some(Box::new(ViewedBlocks::new(zones, &listener.blocks)));
                continue;
            }
            listener.zones = ZoneSet::new(zones);
            let is_root_alone = matches!(zones.as_slice(), [zone] if **zone == *b"\0");
            listener.only_block = listener.blocks.first().copied().filter(|_| is_root_alone);
        }
        draft.warn_of_plain_tls();
        draft.leave_to_heirs(before);
        Ok(draft)
    }

    /// The plan that is to be in force, its blocks counted from now on.
    pub fn into_plan(mut self, metrics: &Metrics) -> Plan {
        for CountedBlock { listener, block, dropped, labels } in &self.counted {
            self.plan.blocks[*block].counted_as = metrics.label_set(labels);
            let listener = &mut self.plan.listeners[*listener];
            if listener.dropped_as.is_none() {
                listener.dropped_as = metrics.label_set(dropped);
            }
        }
        for CountingBlock { block, labels, counters } in &self.plugin_counters {
            let indexes = counters.iter().map(|counter| metrics.plugin_counter(labels, counter));
            self.plan.blocks[*block].counters = indexes.collect();
        }
        for listener in &mut self.plan.listeners {
            if let (Some(address), Some(https)) = (listener.address, &mut listener.https) {
                let labels = LabelSet::new(address, "").over(listener.scheme);
                https.counters =
                    HttpsStatus::ALL.map(|one| metrics.plugin_counter(&labels, &one.counter()));
            }
        }
        for (heir, id) in &self.heirs {
            self.plan.listeners[*id].dropped_as = self.plan.listeners[*heir].dropped_as;
        }
        self.plan
    }

    /// The block, except for the parts that differ between its addresses. `index`: in the Corefile.
    fn add_block(
        &mut self,
        index: usize,
        block: &ServerBlock,
        lines: BlockDraft,
        before: &Plan,
    ) -> Result<BlockLines, LoadError> {
        let (own, cluster) = self.add_own(lines.own, before)?;
        let cache = lines.cache.map(|cache| self.add_cache(cache, before));
        let forwards = lines.forwards.into_iter().map(|forward| self.add_forward(forward, before));
        let forwards: Vec<ForwardStep> = forwards.collect();
        if let (true, Some(key)) = (lines.ends_at_loop, block.keys.first()) {
            let served_at = match block.bound().first() {
                Some(bind) => SocketAddr::new(bind.address.ip, key.port).to_string(),
                None => format!(":{}", key.port),
            };
            let forwards = forwards.iter().map(|step| step.upstreams).collect();
            self.fatal_loops.push(FatalLoop { zone: key.zone.clone(), served_at, forwards });
        }
        self.warnings.extend(lines.warnings);
        let finishes: Box<[Finish]> = lines.finishes.into_iter().rev().collect();
        let own_gates = own.iter().filter_map(|own| match own {
            Own::Table(_) => None,
            Own::Gate(gate) => Some(gate),
        });
        let mut gates = lines.gates.iter().chain(own_gates).chain(&lines.last);
        self.plan.reads_peers |= gates.any(Gate::reads_peer);
        self.plan.reads_peers |= finishes.iter().any(Finish::reads_peer) || lines.view.is_some();
        let glance = self.glance(&lines.gates, &own, lines.no_aaaa.as_deref(), &finishes);
        Ok(BlockLines {
            index,
            is_counted: lines.is_counted,
            timeouts: lines.timeouts,
            tls: lines.tls,
            https: lines.https,
            counters: lines.counters.into(),
            block: Block {
                has_plugins: block.plugins().any(|plugin| plugin.sees_queries()),
                view: lines.view,
                counted_as: None,
                rotates: lines.rotates,
                logged_as: lines.is_logged.then_some(index),
                glance,
                gates: lines.gates.into(),
                cluster,
                no_aaaa: lines.no_aaaa,
                own: own.into(),
                cache,
                forwards,
                last: lines.last.into(),
                finishes,
                patterns: lines.patterns.into(),
                counters: Box::default(),
            },
        })
    }

    /// The tables of a block that the fast path may ask.
    fn glance(
        &self,
        gates: &[Gate],
        own: &[Own],
        no_aaaa: Option<&AaaaDenial>,
        finishes: &[Finish],
    ) -> GlanceTables {
        let zones = |slot: TableSlot| {
            let source = self.plan.tables.get(slot.0).and_then(Option::as_ref);
            source.map(|table| table.source.zones()).unwrap_or_default()
        };
        let tables = own.iter().filter_map(|own| match own {
            Own::Table(own) => Some(own.table),
            Own::Gate(_) => None,
        });
        let all_zones: Vec<Zone> = tables.flat_map(zones).collect();
        let denies_aaaa = no_aaaa.is_some_and(|no_aaaa| no_aaaa.meets(&all_zones));
        let is_open = !denies_aaaa
            && gates.iter().all(|gate| gate.allows_fast_path(&all_zones))
            && finishes.iter().all(Finish::allows_fast_path);
        if !is_open {
            return GlanceTables::default();
        }
        GlanceTables::new(own, |gate, table| gate.allows_fast_path(&zones(table)))
    }

    /// The local sources of a block. Tables that its cluster feeds get their slots last, when the
    /// slot of the cluster is known. Returns that slot too.
    fn add_own(
        &mut self,
        drafts: Vec<OwnDraft>,
        before: &Plan,
    ) -> Result<(Vec<Own>, Option<TableSlot>), LoadError> {
        let mut cluster = None;
        let mut slots = vec![None; drafts.len()];
        for is_fed in [false, true] {
            for (slot, draft) in slots.iter_mut().zip(&drafts) {
                let OwnDraft::Table(table) = draft else { continue };
                if table.source.is_fed_by_cluster() != is_fed {
                    continue;
                }
                let feed = cluster.filter(|_| is_fed);
                let added = self.add_table(table, feed, before)?;
                *slot = Some(added);
                if matches!(table.source, TableSource::Kubernetes(_)) {
                    cluster = Some(added);
                }
            }
        }
        let own = drafts.into_iter().zip(slots).map(|(draft, slot)| match (draft, slot) {
            (OwnDraft::Gate(gate), _) => Own::Gate(gate),
            (OwnDraft::Table(draft), slot) => Own::Table(OwnTable {
                table: slot.expect("every table has got a slot"),
                answerer: draft.answerer,
                is_authority: draft.is_authority,
                passes_unsupported: draft.passes_unsupported,
                refused: Zone::set(&draft.refused),
                fallthrough: Zone::set(&draft.fallthrough),
            }),
        });
        Ok((own.collect(), cluster))
    }

    fn add_table(
        &mut self,
        draft: &TableDraft,
        cluster: Option<TableSlot>,
        before: &Plan,
    ) -> Result<TableSlot, LoadError> {
        let TableDraft { source, place, .. } = draft;
        let mut known = before.tables.iter().enumerate();
        let kept = known.find_map(|(slot, kept)| {
            let kept = kept.as_ref()?;
            let is_same = *kept.source == *source && kept.cluster == cluster;
            let is_taken = |taken: &PlanTable| Arc::ptr_eq(&taken.source, &kept.source);
            let is_free = !self.lost.contains(&TableSlot(slot))
                && !self.plan.tables.iter().flatten().any(is_taken);
            (is_same && is_free).then(|| (TableSlot(slot), kept.clone()))
        });
        if let Some((slot, kept)) = kept {
            self.plan.tables[slot.0] = Some(kept);
            return Ok(slot);
        }
        let is_free = |slot: &usize| {
            let is_taken = |tables: &[Option<_>]| tables.get(*slot).is_some_and(Option::is_some);
            !is_taken(&self.plan.tables) && !is_taken(&before.tables)
        };
        let Some(slot) = (0..TABLES_MAX).find(is_free) else {
            let problem = format!(
                "more than {TABLES_MAX} tables: each `kubernetes`, `hosts`, `file`, `auto` and \
                 `k8s_external` has one, and a reload keeps those that it changes until its end"
            )
            .into();
            return Err(LoadError { place: place.clone(), problem });
        };
        let table = PlanTable { source: Arc::new(source.clone()), cluster };
        self.plan.tables.resize(self.plan.tables.len().max(slot + 1), None);
        self.plan.tables[slot] = Some(table.clone());
        let slot = TableSlot(slot);
        self.new_tables.push(NewTable { slot, table, place: place.clone() });
        Ok(slot)
    }

    fn add_cache(&mut self, cache: CacheDraft, before: &Plan) -> CacheSlot {
        let CacheDraft { settings, metrics } = cache;
        let kept = take_over(&before.caches, &self.plan.caches, |plan| {
            plan.settings == settings && Arc::ptr_eq(&plan.metrics, &metrics)
        });
        let cache = kept.unwrap_or_else(|| Arc::new(CachePlan { settings, metrics }));
        self.plan.caches.push(cache);
        CacheSlot(self.plan.caches.len() - 1)
    }

    fn add_forward(&mut self, forward: ForwardDraft, before: &Plan) -> ForwardStep {
        let ForwardDraft { settings, is_probed } = forward;
        let from = Zone::set(&settings.options.from);
        let except = Zone::set(&settings.options.except);
        let kept = take_over(&before.forwards, &self.plan.forwards, |other| {
            !is_probed && asks_the_same(other, &settings)
        });
        self.plan.forwards.push(kept.unwrap_or_else(|| Arc::new(settings)));
        ForwardStep { from, except, upstreams: ForwardSlot(self.plan.forwards.len() - 1) }
    }
}

/// The parts of a block that are the same at all its addresses.
struct BlockLines {
    /// Of the block in the Corefile.
    index: usize,
    is_counted: bool,
    timeouts: Option<Timeouts>,
    tls: Option<Arc<ServerTls>>,
    https: Option<Https>,
    counters: Arc<[PluginCounter]>,
    block: Block,
}

/// What the current plan has of the same kind, unless the draft has taken it over already.
fn take_over<T>(
    before: &[Arc<T>],
    taken: &[Arc<T>],
    is_same: impl Fn(&T) -> bool,
) -> Option<Arc<T>> {
    let kept = before.iter().find(|one| is_same(one))?;
    (!taken.iter().any(|one| Arc::ptr_eq(one, kept))).then(|| Arc::clone(kept))
}

/// Whether both query the same upstreams in the same way. Changed certificates cannot be detected
/// here, so TLS is always set up again.
fn asks_the_same(one: &ForwardSettings, other: &ForwardSettings) -> bool {
    let facts = |upstream: &Upstream| (upstream.address, upstream.origin.clone());
    let is_plain = |upstream: &Upstream| matches!(upstream.way, Way::Dns);
    let ForwardOptions { place, tls_place, .. } = other.options.clone();
    let moved = ForwardOptions { place, tls_place, ..one.options.clone() };
    moved == other.options
        && one.upstreams.iter().all(is_plain)
        && other.upstreams.iter().all(is_plain)
        && one.upstreams.iter().map(facts).eq(other.upstreams.iter().map(facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::corefile::Surroundings;
    use crate::metrics::Build;

    /// The draft of a block with these lines, and its counters.
    fn draft(lines: &str, before: &Plan, lost: &[TableSlot]) -> (PlanDraft, Metrics) {
        let surroundings = Surroundings::empty();
        let text = format!(". {{\n{lines}\n}}");
        let config = config::parse("Corefile", &text, &surroundings).expect("no mistakes");
        let build = Build::default();
        let metrics = Metrics::new(build, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let draft = runtime.block_on(PlanDraft::new(&config, before, lost, &metrics));
        let draft = draft.expect("lines that can be put to work");
        (draft, metrics)
    }

    fn plan(lines: &str) -> Plan {
        let (draft, metrics) = draft(lines, &Plan::default(), &[]);
        draft.into_plan(&metrics)
    }

    const CLUSTER: &str = "kubernetes cluster.local {\nmanifests none\n}";

    /// The old table is served until the new plan is in force, so its slot is not free before.
    #[test]
    fn a_lost_feed_is_replaced_in_another_slot() {
        let before = plan(CLUSTER);
        for (lines, lost, new, own) in [
            (CLUSTER.to_owned(), vec![], vec![], vec![0]),
            (CLUSTER.to_owned(), vec![TableSlot(0)], vec![1], vec![1]),
            (format!("hosts names\n{CLUSTER}"), vec![TableSlot(0)], vec![1, 2], vec![1, 2]),
            (format!("hosts names\n{CLUSTER}"), vec![], vec![1], vec![1, 0]),
        ] {
            let (draft, _) = draft(&lines, &before, &lost);
            let new_slots: Vec<_> = draft.new_tables.iter().map(|table| table.slot.0).collect();
            assert_eq!(new_slots, new, "{lines} {lost:?}");
            let slots: Vec<_> = draft.plan.blocks[0].tables().map(|own| own.table.0).collect();
            assert_eq!(slots, own, "{lines} {lost:?}");
        }
    }

    /// A cluster stays if only its external zones change, and these belong to that cluster alone.
    #[test]
    fn external_zones_have_a_slot_beside_their_cluster() {
        let one = format!("{CLUSTER}\nk8s_external one.example");
        let slots = |draft: &PlanDraft| {
            let tables = draft.plan.blocks[0].tables().map(|own| own.table.0);
            let clusters = draft.plan.tables.iter().map(|table| table.as_ref()?.cluster);
            let new: Vec<_> = draft.new_tables.iter().map(|new| new.slot.0).collect();
            (tables.collect::<Vec<_>>(), clusters.collect::<Vec<_>>(), new)
        };
        let before = plan(&one);
        let of = |slot| Some(TableSlot(slot));
        let other = one.replace("one.example", "two.example");
        let kept = draft(&one, &before, &[]).0;
        assert_eq!(slots(&kept), (vec![0, 1], vec![None, of(0)], vec![]));
        let changed = draft(&other, &before, &[]).0;
        assert_eq!(slots(&changed), (vec![0, 2], vec![None, None, of(0)], vec![2]));
        // The thread that feeds both has ended.
        let lost = draft(&one, &before, &[TableSlot(0), TableSlot(1)]).0;
        assert_eq!(slots(&lost), (vec![2, 3], vec![None, None, None, of(2)], vec![2, 3]));
        // Another cluster.
        let moved = draft(&one.replace("none", "some"), &before, &[]).0;
        assert_eq!(slots(&moved), (vec![2, 3], vec![None, None, None, of(2)], vec![2, 3]));
        // Zones that contain the cluster's are asked first.
        let wide = plan(&one.replace("one.example", "local"));
        let order: Vec<_> = wide.blocks[0].tables().map(|own| own.table.0).collect();
        assert_eq!(order, [1, 0]);
    }

    /// A discarded draft leaves no label set behind.
    #[test]
    fn blocks_are_counted_once_the_plan_is_to_be_in_force() {
        let (draft, metrics) = draft("prometheus", &Plan::default(), &[]);
        assert_eq!(draft.plan.blocks[0].counted_as, None);
        assert_eq!(metrics.label_set(&LabelSet::new(([0; 16], 53).into(), "first.")), Some(0));
        let plan = draft.into_plan(&metrics);
        assert!(plan.blocks[0].counted_as.is_some_and(|index| index > 0));
        assert!(plan.listeners[0].dropped_as.is_some_and(|index| index > 0));
    }

    /// A row for every gate and every finish: whether the block keeps its fast path.
    #[test]
    fn what_could_matter_on_the_fast_path_closes_it() {
        for (lines, tables) in [
            (CLUSTER, 1),
            ("hosts names {\nfallthrough\n}", 1),
            (&format!("hosts names {{\nfallthrough\n}}\n{CLUSTER}"), 2),
            (&format!("any\n{CLUSTER}"), 1),
            (&format!("k8s_external one.example\n{CLUSTER}"), 1),
            (&format!("autopath @kubernetes\n{CLUSTER}"), 1),
            (&format!("bufsize\n{CLUSTER}"), 0),
            (&format!("no_aaaa\n{CLUSTER}"), 0),
            (&format!("no_aaaa example\n{CLUSTER}"), 1),
            (&format!("log\n{CLUSTER}"), 0),
            (&format!("chaos\n{CLUSTER}"), 1),
            (&format!("acl {{\nblock type MX\n}}\n{CLUSTER}"), 0),
            (&format!("header {{\nquery set rd\n}}\n{CLUSTER}"), 0),
            (&format!("header {{\nresponse set ra\n}}\n{CLUSTER}"), 0),
            (&format!("minimal\n{CLUSTER}"), 0),
            (&format!("local\n{CLUSTER}"), 0),
            (&format!("nsid\n{CLUSTER}"), 1),
            (&format!("whoami\n{CLUSTER}"), 1),
            (&format!("metadata\n{CLUSTER}"), 1),
            ("errors", 0),
            (&format!("template ANY ANY internal.cloudapp.net\n{CLUSTER}"), 1),
            (&format!("template ANY ANY local\n{CLUSTER}"), 0),
            (&format!("template IN A\n{CLUSTER}"), 0),
            ("template IN A 10.in-addr.arpa\nhosts names example", 0),
            ("template IN A 10.in-addr.arpa\nhosts names example {\nno_reverse\n}", 1),
            (&format!("template IN A test\nhosts names test {{\nfallthrough\n}}\n{CLUSTER}"), 0),
            (&format!("template IN A test\nhosts names example {{\nfallthrough\n}}\n{CLUSTER}"), 2),
        ] {
            let plan = plan(lines);
            let glance = &plan.blocks[0].glance;
            let slots = std::iter::once(glance.first()).chain(glance.behind_first().to_vec());
            let found = slots.filter(|slot| slot.0 < TABLES_MAX).count();
            assert_eq!(found, tables, "{lines}");
            assert_eq!(glance.last().0 < TABLES_MAX, tables > 0, "{lines}");
        }
    }
}
