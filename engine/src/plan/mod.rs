//! A compiled Corefile: which block takes a name, and what the block does with it.
//!
//! A plan is immutable: a reload compiles a new one. Invariant: every index in it is in range.

pub mod draft;

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;

use regex::bytes::Regex;
use wire::name::Name;
use wire::query::Query;
use wire::zone::ZoneSet;

use crate::cache::settings::CacheSettings;
use crate::client::ListenerId;
use crate::corefile::value::key::Scheme;
use crate::corefile::value::zone::Zone;
use crate::forward::ForwardSettings;
use crate::limits::{GLANCE_TABLES_MAX, TABLES_MAX};
use crate::metrics::CacheMetrics;
use crate::metrics::answerer::Answerer;
use crate::plugin::draft::TableSource;
use crate::plugin::finish::Finish;
use crate::plugin::gate::Gate;
use crate::plugin::https::HttpsListener;
use crate::plugin::no_aaaa::AaaaDenial;
use crate::plugin::rewrite::Rules;
use crate::plugin::timeouts::Timeouts;
use crate::plugin::tls::config::ServerTls;
use crate::plugin::view::{ViewFilter, ViewId};

/// A table of a shard, by index: one for each source of local names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableSlot(pub usize);

/// A cache of a shard, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheSlot(pub usize);

/// The upstreams of one `forward` line in a shard, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardSlot(pub usize);

/// The compiled Corefile.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By `ListenerId`: the blocks that share the address. Empty if the server no longer listens
    /// there.
    pub listeners: Vec<ListenerPlan>,
    /// Where the search for a free `ListenerId` begins. Below `LISTENERS_MAX`.
    pub next_listener: usize,
    pub blocks: Vec<Block>,
    /// By block: where the Corefile has it.
    pub origins: Vec<BlockOrigin>,
    /// A gate or a finish of some block reads the client's address.
    pub reads_peers: bool,
    /// By `TableSlot`. A table is kept across reloads as long as its source is the same.
    pub tables: Vec<Option<PlanTable>>,
    /// By `CacheSlot`. A shard keeps a cache across reloads as long as this `Arc` is the same.
    pub caches: Vec<Arc<CachePlan>>,
    /// By `ForwardSlot`; kept across reloads likewise.
    pub forwards: Vec<Arc<ForwardSettings>>,
}

/// A block of the Corefile under one of its zones, at one of its addresses.
#[derive(Clone, Debug)]
pub struct BlockOrigin {
    /// Index of the block in the Corefile.
    pub index: usize,
    pub zone: Zone,
}

/// What a table is built from.
#[derive(Clone, Debug)]
pub struct PlanTable {
    pub source: Arc<TableSource>,
    /// The cluster that feeds it, for external zones.
    pub cluster: Option<TableSlot>,
}

/// The server blocks of one address and port.
#[derive(Clone, Debug, Default)]
pub struct ListenerPlan {
    /// As in the Corefile; `None` if the server no longer listens there.
    pub address: Option<SocketAddr>,
    pub scheme: Scheme,
    /// For the handshakes of a `tls://` or `https://` address; without it such an address is plain
    /// TCP.
    pub tls: Option<Arc<ServerTls>>,
    /// Of an `https://` address.
    pub https: Option<HttpsListener>,
    /// Empty if some block has a view.
    pub zones: ZoneSet,
    /// The block that takes every name, if the root zone is the only one.
    pub only_block: Option<usize>,
    /// By zone index: the block's index.
    pub blocks: Vec<usize>,
    /// The blocks, if some of them have a view.
    pub viewed: Option<Box<ViewedBlocks>>,
    /// The label set that counts queries which no block takes; none without `prometheus`.
    pub dropped_as: Option<usize>,
    /// Of TCP connections.
    pub timeouts: Timeouts,
}

/// The blocks of an address where some have a view.
#[derive(Clone, Debug)]
pub struct ViewedBlocks {
    zones: ZoneSet,
    /// By zone, the blocks to try: those of the zone in the order of the Corefile, then those of
    /// the closest zone around it, and so on.
    candidates: Vec<Box<[usize]>>,
}

/// What a client sees of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vantage {
    pub listener: ListenerId,
    /// The view of its block. Blocks with other views are hidden from it.
    pub view: Option<ViewId>,
}

/// A server block: its plugins that act on packets, in CoreDNS's fixed order.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Some plugin of the block sees queries. Without one they are REFUSED, as in CoreDNS. With
    /// one, queries that no plugin answers get SERVFAIL.
    pub has_plugins: bool,
    /// The queries that it takes; `None`: all.
    pub view: Option<Arc<ViewFilter>>,
    /// The label set that counts its queries; none without `prometheus`.
    pub counted_as: Option<usize>,
    /// `loadbalance`: addresses are rotated.
    pub rotates: bool,
    /// `errors`: failures are logged as the Corefile's block of this index says.
    pub logged_as: Option<usize>,
    /// The tables that the fast path asks; none if a gate or a finish could change its responses.
    pub glance: GlanceTables,
    pub gates: Box<[Gate]>,
    /// The table of its `kubernetes`. The pod index in the same slot has the namespaces of clients.
    pub cluster: Option<TableSlot>,
    /// `no_aaaa`: tables are asked for another type, and upstreams not at all.
    pub no_aaaa: Option<Arc<AaaaDenial>>,
    /// Local sources, in the order in which they are asked. Their answers are never cached.
    pub own: Box<[Own]>,
    /// The cache of upstream responses.
    pub cache: Option<CacheSlot>,
    /// In the order of the Corefile: the first that takes a name is queried.
    pub forwards: Vec<ForwardStep>,
    /// Asked for names that no `forward` takes.
    pub last: Box<[Gate]>,
    pub finishes: Box<[Finish]>,
    /// By `PatternSlot`. Each shard searches with its own copies.
    pub patterns: Box<[Regex]>,
    /// By `CounterSlot`: the counters of its plugins.
    pub counters: Box<[Option<usize>]>,
}

/// The tables of the fast path: the first few of `Block::own`, in their order. It skips the gates
/// between them.
#[derive(Clone, Copy, Debug)]
pub struct GlanceTables {
    /// Unused ones have no table.
    slots: [TableSlot; GLANCE_TABLES_MAX],
    last: TableSlot,
    /// Where `Block::own` has each of them.
    indexes: [usize; GLANCE_TABLES_MAX],
    answerers: [Answerer; GLANCE_TABLES_MAX],
}

/// A slot that never has a table.
const NO_SLOT: TableSlot = TableSlot(TABLES_MAX);

impl Default for GlanceTables {
    fn default() -> Self {
        Self::new(&[], |_, _| true)
    }
}

impl GlanceTables {
    /// The first tables of a block, up to the first that comes after a gate which may answer one of
    /// its names. `may_skip`: whether the gate answers none of the table's names.
    #[must_use]
    pub fn new(own: &[Own], may_skip: impl Fn(&Gate, TableSlot) -> bool) -> Self {
        let mut glance = Self {
            slots: [NO_SLOT; GLANCE_TABLES_MAX],
            last: NO_SLOT,
            indexes: [0; GLANCE_TABLES_MAX],
            answerers: [Answerer::SERVER; GLANCE_TABLES_MAX],
        };
        let mut gates = Vec::new();
        let mut count = 0;
        for (index, own) in own.iter().enumerate() {
            let own = match own {
                Own::Gate(gate) => {
                    gates.push(gate);
                    continue;
                }
                Own::Table(own) => own,
            };
            if count == GLANCE_TABLES_MAX || !gates.iter().all(|gate| may_skip(gate, own.table)) {
                break;
            }
            glance.slots[count] = own.table;
            glance.indexes[count] = index;
            glance.answerers[count] = own.answerer;
            glance.last = own.table;
            count += 1;
            // The fast path does not see which names an authority passes on.
            if own.is_authority {
                break;
            }
        }
        glance
    }

    /// The first, or a slot without a table.
    #[inline(always)]
    pub(crate) fn first(&self) -> TableSlot {
        self.slots[0]
    }

    /// The last, or a slot without a table.
    #[inline(always)]
    pub(crate) fn last(&self) -> TableSlot {
        self.last
    }

    /// All but the first. Unused ones have no table.
    #[inline(always)]
    pub(crate) fn behind_first(&self) -> &[TableSlot] {
        &self.slots[1..]
    }

    /// The table of this number, or a slot without a table.
    #[inline(always)]
    pub(crate) fn slot(&self, number: usize) -> TableSlot {
        self.slots.get(number).copied().unwrap_or(NO_SLOT)
    }

    /// The plugin whose table it is.
    #[inline(always)]
    pub(crate) fn answerer(&self, number: usize) -> Answerer {
        self.answerers.get(number).copied().unwrap_or(Answerer::SERVER)
    }

    /// Where `Block::own` has it.
    pub(crate) fn index(&self, number: usize) -> usize {
        self.indexes.get(number).copied().unwrap_or_default()
    }
}

/// One `cache` line.
#[derive(Debug)]
pub struct CachePlan {
    pub settings: CacheSettings,
    pub metrics: Arc<CacheMetrics>,
}

/// One `forward` line's step.
#[derive(Clone, Debug)]
pub struct ForwardStep {
    pub from: ZoneSet,
    pub except: ZoneSet,
    pub upstreams: ForwardSlot,
}

/// A local source.
#[derive(Clone, Debug)]
pub enum Own {
    Table(OwnTable),
    /// It makes its answers itself.
    Gate(Gate),
}

/// A local source whose names are a table.
#[derive(Clone, Debug)]
pub struct OwnTable {
    pub table: TableSlot,
    /// The plugin whose table it is.
    pub answerer: Answerer,
    /// The table is the authority for its zones. CNAMEs in an upstream's response end there.
    pub is_authority: bool,
    /// Types that the plugin does not support fall through too, even at names that the table has.
    pub passes_unsupported: bool,
    /// Names under these zones that are in none of the table's are REFUSED, because no plugin comes
    /// after it.
    pub refused: ZoneSet,
    /// Names under these zones that the table does not have go to the next plugin; none without
    /// `fallthrough`.
    pub fallthrough: ZoneSet,
}

impl Plan {
    /// The listener of an address.
    #[must_use]
    pub fn listener_at(&self, address: SocketAddr, scheme: Scheme) -> Option<ListenerId> {
        let at = self
            .listeners
            .iter()
            .position(|listener| listener.address == Some(address) && listener.scheme == scheme);
        at.map(ListenerId)
    }

    /// The label set that counts queries which no block of this listener takes.
    #[must_use]
    pub fn dropped_as(&self, listener: ListenerId) -> Option<usize> {
        self.listeners.get(listener.0)?.dropped_as
    }

    /// The index of the block that takes a name on this listener: the one with the longest zone.
    /// `None` if some block of the listener has a view.
    #[must_use]
    #[inline(always)]
    pub fn block_index_for(&self, listener: ListenerId, name: &Name) -> Option<usize> {
        let listener = self.listeners.get(listener.0)?;
        if let Some(block) = listener.only_block {
            return Some(block);
        }
        let zone = listener.zones.find(name)?;
        listener.blocks.get(zone.index).copied()
    }
}

impl Plan {
    /// Whether blocks of this listener have views.
    #[must_use]
    pub fn has_views(&self, listener: ListenerId) -> bool {
        self.listeners.get(listener.0).is_some_and(|listener| listener.viewed.is_some())
    }

    /// The index of the block that takes a query: the first one with the longest zone whose view,
    /// if it has one, takes the query. `takes`: asked with the block's index and its view.
    pub fn block_index_where(
        &self,
        listener: ListenerId,
        name: &Name,
        takes: &mut impl FnMut(usize, &ViewFilter) -> bool,
    ) -> Option<usize> {
        let Some(viewed) = &self.listeners.get(listener.0)?.viewed else {
            return self.block_index_for(listener, name);
        };
        let zone = viewed.zones.find(name)?;
        let mut candidates = viewed.candidates.get(zone.index)?.iter().copied();
        candidates.find(|index| {
            let block = self.blocks.get(*index);
            block.is_some_and(|block| block.view.as_ref().is_none_or(|view| takes(*index, view)))
        })
    }

    /// The block for a question of type DS, which the zone above knows (RFC 4035, section 3.1.4.1).
    /// `takes` as for `block_index_where`.
    pub fn block_index_above(
        &self,
        listener: ListenerId,
        name: &Name,
        takes: &mut impl FnMut(usize, &ViewFilter) -> bool,
    ) -> Option<usize> {
        let above = (name.label_count() > 0).then(|| Name::from_wire(name.suffix(1))).flatten();
        let index = above.and_then(|above| self.block_index_where(listener, &above, takes));
        index.or_else(|| self.block_index_where(listener, name, takes))
    }

    /// What the clients of a block see. `block`: its index.
    #[must_use]
    pub fn vantage(&self, listener: ListenerId, block: usize) -> Vantage {
        let view = self.blocks.get(block).and_then(|block| block.view.as_ref());
        Vantage { listener, view: view.map(|view| view.id) }
    }

    /// The index of the block that has a name, for a client that sees this.
    #[must_use]
    pub fn block_index_from(&self, vantage: Vantage, name: &Name) -> Option<usize> {
        let mut takes = |_, view: &ViewFilter| Some(view.id) == vantage.view;
        self.block_index_where(vantage.listener, name, &mut takes)
    }

    /// Whether a question for HINFO is this server's own loop probe, sent back by an upstream of
    /// the block.
    #[must_use]
    pub fn is_own_probe(&self, block: &Block, name: &Name) -> bool {
        block
            .forwards
            .iter()
            .filter_map(|step| self.forwards.get(step.upstreams.0))
            .any(|settings| settings.is_own_probe(name.bytes()))
    }
}

impl ViewedBlocks {
    /// `zones`: in wire format, each with the block of the same index in `blocks`.
    fn new(zones: &[&[u8]], blocks: &[usize]) -> Self {
        let candidates_of = |zone: &&[u8]| {
            let mut around: Vec<_> = zones.iter().zip(blocks).collect();
            around.retain(|(other, _)| encloses(other, zone));
            around.sort_by_key(|(other, _)| Reverse(other.len()));
            around.into_iter().map(|(_, block)| *block).collect()
        };
        Self { zones: ZoneSet::new(zones), candidates: zones.iter().map(candidates_of).collect() }
    }
}

/// Whether `inner` is `zone` or below it.
fn encloses(zone: &[u8], inner: &[u8]) -> bool {
    let mut rest = inner;
    while rest.len() > zone.len() {
        let below = rest.split_first().and_then(|(len, rest)| rest.get(usize::from(*len)..));
        let Some(below) = below else { return false };
        rest = below;
    }
    rest == zone
}

impl Block {
    /// Its tables, in the order in which they are asked.
    pub fn tables(&self) -> impl Iterator<Item = &OwnTable> {
        self.own.iter().filter_map(|own| match own {
            Own::Table(table) => Some(table),
            Own::Gate(_) => None,
        })
    }

    /// The gates among its local sources, in their order.
    pub fn own_gates(&self) -> impl Iterator<Item = &Gate> {
        self.own.iter().filter_map(|own| match own {
            Own::Table(_) => None,
            Own::Gate(gate) => Some(gate),
        })
    }

    /// Whether a query gets no IPv6 addresses, although it is for them.
    #[must_use]
    pub fn denies_aaaa(&self, query: &Query, name: &Name) -> Option<&AaaaDenial> {
        self.no_aaaa.as_deref().filter(|no_aaaa| no_aaaa.denies(query, name))
    }

    /// The rules of its `rewrite`.
    #[must_use]
    pub fn rewrite(&self) -> Option<&Arc<Rules>> {
        self.gates.iter().find_map(Gate::rewrite)
    }

    /// Whether the block has upstreams for a name.
    #[must_use]
    pub fn has_upstreams_for(&self, name: &Name) -> bool {
        self.forwards_for(name).next().is_some()
    }

    /// The upstreams for a name, in the order in which they are queried.
    pub fn forwards_for(&self, name: &Name) -> impl Iterator<Item = ForwardSlot> {
        self.forwards
            .iter()
            .filter(|step| step.from.find(name).is_some() && step.except.find(name).is_none())
            .map(|step| step.upstreams)
    }
}
