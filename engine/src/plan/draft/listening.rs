//! The addresses that a Corefile listens on: which blocks share one, and what becomes of those that
//! go away.
//!
//! Invariant: an address keeps its id across reloads, and an id that the current plan uses is not
//! given to another address.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{BlockLines, CountingBlock, PlanDraft};
use crate::client::ListenerId;
use crate::corefile::Place;
use crate::corefile::value::key::{Key, Scheme};
use crate::limits::LISTENERS_MAX;
use crate::metrics::LabelSet;
use crate::plan::{BlockOrigin, ListenerPlan, Plan};
use crate::plugin::ServerBlock;
use crate::plugin::draft::LoadError;
use crate::plugin::https::HttpsListener;
use crate::ports;

/// A block whose queries are counted, before it has label sets: those of a draft that is discarded
/// would stay for the life of the process.
pub(super) struct CountedBlock {
    pub(super) listener: usize,
    pub(super) block: usize,
    pub(super) dropped: LabelSet,
    pub(super) labels: LabelSet,
}

/// An address that the Corefile listens on.
#[derive(Clone, Debug)]
pub struct Listen {
    pub id: ListenerId,
    pub address: SocketAddr,
    pub scheme: Scheme,
    /// The first line that requires it: `bind`, or the zone.
    pub place: Place,
    /// The line states the port; otherwise it is the default one.
    pub names_port: bool,
    /// The current plan does not listen on it.
    pub is_new: bool,
}

impl PlanDraft {
    /// Adds the block to the listeners of its keys. As in CoreDNS, each address and each key of a
    /// block is counted separately.
    pub(super) fn listen<'c>(
        &mut self,
        block: &'c ServerBlock,
        lines: &BlockLines,
        zones: &mut Vec<Vec<&'c [u8]>>,
        before: &Plan,
    ) -> Result<(), LoadError> {
        for key in &block.keys {
            for (address, place) in block.addresses(key.port) {
                let ListenerId(id) = self.listener(address, key, place, before)?;
                zones.resize(zones.len().max(self.plan.listeners.len()), Vec::new());
                zones[id].push(&key.zone.wire);
                let listener = &mut self.plan.listeners[id];
                listener.blocks.push(self.plan.blocks.len());
                if let Some(timeouts) = lines.timeouts {
                    listener.timeouts = timeouts;
                }
                if let (Some(https), Some(limits)) = (&mut listener.https, lines.https) {
                    https.limits = limits;
                }
                let is_encrypted = matches!(key.scheme, Scheme::Tls | Scheme::Https);
                if is_encrypted && listener.tls.is_none() {
                    listener.tls.clone_from(&lines.tls);
                }
                if lines.is_counted {
                    let counted = CountedBlock {
                        listener: id,
                        block: self.plan.blocks.len(),
                        dropped: LabelSet::new(address, LabelSet::DROPPED).over(key.scheme),
                        labels: block.labels(address, key),
                    };
                    self.counted.push(counted);
                }
                if !lines.counters.is_empty() {
                    self.plugin_counters.push(CountingBlock {
                        block: self.plan.blocks.len(),
                        labels: block.labels(address, key),
                        counters: Arc::clone(&lines.counters),
                    });
                }
                self.plan.blocks.push(lines.block.clone());
                let zone = key.zone.clone();
                self.plan.origins.push(BlockOrigin { index: lines.index, zone });
            }
        }
        Ok(())
    }

    /// The listener of an address: the current plan's, if it has one.
    fn listener(
        &mut self,
        address: SocketAddr,
        key: &Key,
        place: &Place,
        before: &Plan,
    ) -> Result<ListenerId, LoadError> {
        let Key { scheme, names_port, .. } = *key;
        if let Some(known) = self.listens.iter().find(|listen| listen.address == address) {
            if known.scheme == scheme {
                return Ok(known.id);
            }
            let [one, other] = [scheme, known.scheme].map(Scheme::name);
            let problem = format!(
                "cannot serve {one}:// and {other}:// on {address}: both need its TCP port; write \
                 another port after the zone"
            );
            return Err(LoadError { place: place.clone(), problem: problem.into() });
        }
        let kept = before.listener_at(address, scheme);
        // An id that the current plan uses is not given to another address.
        let is_free = |id: &usize| {
            let is_taken =
                |plan: &Plan| plan.listeners.get(*id).is_some_and(|l| l.address.is_some());
            !is_taken(&self.plan) && !is_taken(before)
        };
        // The longest unused ids first: late answers may still leave for clients of the others.
        let next = self.plan.next_listener;
        let free = || (next..LISTENERS_MAX).chain(0..next).find(is_free);
        let id = kept.map(|id| id.0).or_else(free);
        let Some(id) = id else {
            let problem = format!("more than {LISTENERS_MAX} addresses to listen on").into();
            return Err(LoadError { place: place.clone(), problem });
        };
        let count = self.plan.listeners.len().max(id + 1);
        self.plan.listeners.resize_with(count, ListenerPlan::default);
        self.plan.listeners[id].address = Some(address);
        self.plan.listeners[id].scheme = scheme;
        if scheme == Scheme::Https {
            let kept = kept.and_then(|kept| before.listeners[kept.0].https.as_ref());
            let open_count = kept.map(|kept| Arc::clone(&kept.open_count)).unwrap_or_default();
            let https = HttpsListener { open_count, ..HttpsListener::default() };
            self.plan.listeners[id].https = Some(https);
        }
        let id = ListenerId(id);
        let is_new = kept.is_none();
        if is_new {
            self.plan.next_listener = (id.0 + 1) % LISTENERS_MAX;
        }
        self.listens.push(Listen { id, address, scheme, place: place.clone(), names_port, is_new });
        Ok(id)
    }

    /// As in CoreDNS, `tls://` and `https://` without a certificate are plain.
    pub(super) fn warn_of_plain_tls(&mut self) {
        for Listen { id, address, scheme, place, .. } in &self.listens {
            let plain = match scheme {
                Scheme::Tls => "TCP",
                Scheme::Https => "HTTP",
                Scheme::Dns | Scheme::Quic | Scheme::Grpc | Scheme::Https3 => continue,
            };
            if self.plan.listeners[id.0].tls.is_none() {
                let scheme = scheme.name();
                self.warnings.push(format!(
                    "plugin/tls: {place}: {scheme}://{address} is served over plain {plain}: none \
                     of its blocks has a `tls` line"
                ));
            }
        }
    }

    /// Decides how queries are answered that a closing address still holds, or that its connections
    /// still send: as at the wildcard address that gets its packets from now on. A closing wildcard
    /// has no such heir, since its packets go to several addresses or nowhere. Its queries are
    /// REFUSED, because their clients may not be allowed to see the answers of another address.
    pub(super) fn leave_to_heirs(&mut self, before: &Plan) {
        for (id, gone) in before.listeners.iter().enumerate() {
            let is_gone = |old: &SocketAddr| self.plan.listener_at(*old, gone.scheme).is_none();
            let Some(old) = gone.address.filter(is_gone) else {
                continue;
            };
            let covers = |heir: &ListenerPlan| {
                heir.scheme == gone.scheme
                    && heir.address.is_some_and(|heir| {
                        heir.port() == old.port() && ports::covers(heir.ip(), old.ip())
                    })
            };
            if let Some(heir) = self.plan.listeners.iter().position(covers) {
                let heirs = self.plan.listeners[heir].clone();
                self.plan.listeners[id] = ListenerPlan { address: None, ..heirs };
                self.heirs.push((heir, id));
            }
            // Connections that wait to be accepted have begun as they were.
            self.plan.listeners[id].scheme = gone.scheme;
            self.plan.listeners[id].tls.clone_from(&gone.tls);
            self.plan.listeners[id].https.clone_from(&gone.https);
        }
    }
}
