//! A query as the plugins of its block see it, and what they note about it for its response.
//!
//! Invariant: once a gate has changed the question, the message, the query and the name agree on
//! the new one, and the trail has the client's. The query's records still follow the question.

use std::net::SocketAddr;
use std::sync::Arc;

use wire::header::HEADER_LEN;
use wire::name::{NAME_LEN_MAX, Name};
use wire::pod_index::PodIndex;
use wire::query::{self, Query};
use wire::text::{NameText, PlainName};

use super::pattern::{BlockPatterns, Pattern};
use super::pursuit::PursuitFailure;
use crate::client::Arrival;
use crate::limits::{PURSUIT_DEPTH_MAX, REWRITES_MAX};
use crate::metrics::ShardMetrics;

/// A query on its way through the stages of its block.
pub struct Exchange<'e> {
    pub arrival: &'e Arrival,
    pub query: Query,
    /// The question's name, in lower case.
    pub name: &'e mut Name,
    pub trail: &'e mut Trail,
    /// The block's, by `PatternSlot`. Each shard has its own.
    pub patterns: &'e mut [Pattern],
    /// Those of the other blocks, by block.
    pub of_blocks: &'e [BlockPatterns],
    pub texts: &'e mut NameTexts,
    pub counters: PluginCounts<'e>,
    /// Of the block's cluster: the namespaces of clients.
    pub pods: Option<&'e PodIndex>,
}

/// A counter of a block's plugin, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterSlot(pub usize);

/// The counters of a block's plugins in this shard.
#[derive(Clone, Copy)]
pub struct PluginCounts<'e> {
    pub metrics: &'e ShardMetrics,
    /// By `CounterSlot`: from `Metrics::plugin_counter`.
    pub indexes: &'e [Option<usize>],
}

impl PluginCounts<'_> {
    pub fn count(self, slot: CounterSlot) {
        if let Some(index) = self.indexes.get(slot.0).copied().flatten() {
            self.metrics.count_plugin(index);
        }
    }
}

/// Memory for names as text. A shard has one for all queries.
#[derive(Clone, Default)]
pub struct NameTexts {
    /// The question's name, once a gate has written it here.
    pub name: NameText,
    pub other: NameText,
    pub plain: PlainName,
}

/// What gates note about a query, for the finishes of its response.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The client's address; `None` if no gate and no finish of the plan reads it.
    pub peer: Option<SocketAddr>,
    /// The client's question, if a gate has changed it.
    pub asked: Option<AskedQuestion>,
    /// The rules of `rewrite` that matched.
    pub rewrites: MatchedRules,
    /// Those of the block, if a finish needs them.
    pub patterns: Option<BlockPatterns>,
    /// Why the query failed, if a gate let it fail.
    pub problem: Option<Box<str>>,
    /// Of an inside query: the options that `rewrite` has given to the query that needs it, as an
    /// OPT has them. Queries to upstreams get them.
    pub upstream_options: Option<Arc<[u8]>>,
}

/// Rules that matched a query, by index, in their order.
#[derive(Clone, Debug, Default)]
pub struct MatchedRules {
    indices: [u16; REWRITES_MAX],
    count: usize,
}

impl MatchedRules {
    /// False if there is no room.
    pub fn push(&mut self, index: u16) -> bool {
        let Some(to) = self.indices.get_mut(self.count) else { return false };
        *to = index;
        self.count += 1;
        true
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[must_use]
    pub fn indices(&self) -> &[u16] {
        &self.indices[..self.count]
    }
}

impl Trail {
    /// Resets it for a query from this client.
    pub fn begin(&mut self, peer: Option<SocketAddr>) {
        self.peer = peer;
        self.asked = None;
        self.rewrites.clear();
        self.patterns = None;
        self.problem = None;
        self.upstream_options = None;
    }
}

/// Bytes of the longest question: name, type and class.
const QUESTION_LEN_MAX: usize = NAME_LEN_MAX + 4;

/// The question as the client spelled it, in wire format.
#[derive(Clone, Debug)]
pub struct AskedQuestion {
    bytes: [u8; QUESTION_LEN_MAX],
    len: usize,
}

impl AskedQuestion {
    /// The question at offset 12 of this message; `None` if it is not that long.
    #[must_use]
    pub fn of(message: &[u8], question_len: usize) -> Option<Self> {
        let question = message.get(HEADER_LEN..HEADER_LEN + question_len)?;
        let mut bytes = [0; QUESTION_LEN_MAX];
        bytes.get_mut(..question_len)?.copy_from_slice(question);
        Some(Self { bytes, len: question_len })
    }

    /// Name, type and class.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The name, in lower case.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        Name::from_wire(self.bytes())
    }

    #[must_use]
    pub fn qtype(&self) -> u16 {
        let fixed = self.bytes().last_chunk::<4>();
        fixed.map_or(0, |[high, low, _, _]| u16::from_be_bytes([*high, *low]))
    }
}

impl Exchange<'_> {
    /// Whether a gate has changed the question.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.trail.asked.is_some()
    }

    /// Whether a pursuit for this query would be nested too deep. The trail says so then.
    pub fn is_too_deep(&mut self) -> bool {
        let is_too_deep =
            self.arrival.inside.is_some_and(|inside| inside.depth >= PURSUIT_DEPTH_MAX);
        if is_too_deep {
            self.trail.problem = Some(PursuitFailure::TooDeep.to_string().into());
        }
        is_too_deep
    }

    /// The later stages answer another question in place of the client's. `name`: uncompressed, at
    /// most 255 bytes, root label included. False, and nothing changed, if it is not a name.
    pub fn ask_instead(
        &mut self,
        name: &[u8],
        qtype: u16,
        qclass: u16,
        message: &mut [u8],
    ) -> bool {
        let Some(new) = Name::from_wire(name) else { return false };
        if self.trail.asked.is_none() {
            self.trail.asked = AskedQuestion::of(message, self.query.question_len());
        }
        if name.len() != self.query.name_len && message.get(6..HEADER_LEN) != Some(&[0; 6]) {
            query::move_records(message, &self.query, name.len() + 4);
        }
        let name_end = HEADER_LEN + name.len();
        let Some(question) = message.get_mut(HEADER_LEN..name_end + 4) else { return false };
        let (name_room, fixed) = question.split_at_mut(name.len());
        name_room.copy_from_slice(name);
        fixed[..2].copy_from_slice(&qtype.to_be_bytes());
        fixed[2..].copy_from_slice(&qclass.to_be_bytes());
        *self.name = new;
        self.query = Query { qtype, qclass, name_len: name.len(), ..self.query };
        true
    }
}
