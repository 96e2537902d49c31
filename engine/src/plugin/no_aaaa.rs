//! `no_aaaa`: queries for IPv6 addresses find none, whatever the sources after it have.
//!
//! Tables are asked whether the name exists. For other names the response is made here, and no
//! upstream is asked. CoreDNS has no such plugin. Invariant: every other type is answered as
//! without it.

use std::future::ready;
use std::sync::Arc;

use wire::header::{CLASS_IN, Rcode, TYPE_AAAA, TYPE_SOA};
use wire::name::Name;
use wire::query::Query;
use wire::reply::{self, Envelope, MadeRecords, Stamped};
use wire::zone::ZoneSet;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::statement::Statement;
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;
use crate::metrics::answerer::Answerer;

/// One `no_aaaa` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAaaa {
    /// Whose names have no IPv6 addresses [the block's keys].
    pub zones: Vec<Zone>,
}

impl Plugin for NoAaaa {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.no_aaaa = Some(Arc::new(AaaaDenial::new(&self.zones)));
        Box::pin(ready(Ok(())))
    }
}

const NAME: &str = "no_aaaa";
pub(crate) const USAGE: &str = "no_aaaa [ZONE…]";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let zones = key::zones_or_keys(&statement.args, &block.keys, context);
    block.push(NoAaaa { zones });
}

/// A type that no name has (RFC 6895, section 3.1). What a table has for it is what it has for a
/// name without IPv6 addresses.
pub const TYPE_NONE: u16 = 0xFF00;

/// Seconds for which other caches may keep the response: long enough to spare queries, short enough
/// that nobody waits for the end of a line that was deleted.
const TTL_SECS: u32 = 60;
/// RFC 1035, section 3.3.13: serial, refresh, retry and expire. No server transfers the zone.
const SOA_TIMERS: [u32; 4] = [1, 7200, 1800, 86400];

/// A `no_aaaa` line that is ready for queries.
#[derive(Debug)]
pub struct AaaaDenial {
    zones: Vec<Zone>,
    zone_set: ZoneSet,
    /// By zone: its SOA, for names that no table has.
    soas: Vec<Vec<u8>>,
}

impl AaaaDenial {
    fn new(zones: &[Zone]) -> Self {
        let soas = zones.iter().map(|zone| soa(&zone.wire)).collect();
        Self { zone_set: Zone::set(zones), zones: zones.to_vec(), soas }
    }

    /// Whether a query for this name gets no address.
    #[must_use]
    pub fn denies(&self, query: &Query, name: &Name) -> bool {
        query.qtype == TYPE_AAAA && query.qclass == CLASS_IN && self.zone_set.find(name).is_some()
    }

    /// Whether a name may be both in a zone of the line and in one of these.
    #[must_use]
    pub fn meets(&self, zones: &[Zone]) -> bool {
        Zone::any_meet(&self.zones, zones)
    }

    /// Writes NODATA for a name that no table has. The SOA says how long to believe it (RFC 2308,
    /// section 5). With AA: glibc takes an empty response without AA and RA for a broken server's.
    pub fn respond(
        &self,
        query: &Query,
        name: &Name,
        envelope: Envelope,
        message: &mut [u8],
    ) -> (Stamped, Answerer) {
        let zone = self.zone_set.find(name);
        let soa = zone.and_then(|zone| self.soas.get(zone.index));
        let records = MadeRecords {
            bytes: soa.map_or(&[], Vec::as_slice),
            counts: [0, u16::from(soa.is_some()), 0],
        };
        let stamped = reply::stamp_made(query, Rcode::NoError, records, envelope, message);
        (stamped, const { Answerer::plugin(NAME) })
    }
}

/// The SOA of a zone, `ns.dns.ZONE` and `hostmaster.ZONE` in it as `kubernetes` has them. Where the
/// zone leaves no room for these labels, its own name stands for both.
fn soa(zone: &[u8]) -> Vec<u8> {
    let below = |labels: &[u8]| {
        let name = [labels, zone].concat();
        if Name::from_wire(&name).is_some() { name } else { zone.to_vec() }
    };
    let [primary, mailbox] = [below(b"\x02ns\x03dns"), below(b"\x0ahostmaster")];
    let [serial, refresh, retry, expire] = SOA_TIMERS;
    let timers = [serial, refresh, retry, expire, TTL_SECS].map(u32::to_be_bytes);
    let rdata = [&primary, &mailbox, timers.as_flattened()].concat();
    [
        zone,
        &TYPE_SOA.to_be_bytes(),
        &CLASS_IN.to_be_bytes(),
        &TTL_SECS.to_be_bytes(),
        &(rdata.len() as u16).to_be_bytes(),
        &rdata,
    ]
    .concat()
}
