//! `local`: answers for localhost and for the reverse names of 0.0.0.0/8, 127.0.0.0/8 and
//! 255.0.0.0/8, so that no such query leaves the machine.

use std::future::ready;

use wire::header::{Rcode, TYPE_A, TYPE_AAAA, TYPE_NS, TYPE_PTR, TYPE_SOA};
use wire::name::Name;
use wire::reply::listing::{ListedRecord, Listing, Owner};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::{CounterSlot, Exchange};
use super::gate::{Gate, Passage};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::report::Refusal;
use crate::corefile::statement::{Setting, Statement, sets};
use crate::corefile::word::quoted;
use crate::metrics::answerer::Answerer;
use crate::metrics::{BlockLabels, CounterFamily, PluginCounter};

/// `local { localhost_prefix on|off }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Names that begin with the label localhost are answered too [true].
    pub takes_prefix: bool,
}

impl Plugin for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        let counter = block.counter(PluginCounter { family: &HOSTS, labels: Vec::new() });
        block.gates.push(Gate::Local(LocalNames { takes_prefix: self.takes_prefix, counter }));
        Box::pin(ready(Ok(())))
    }
}

const HOSTS: CounterFamily = CounterFamily {
    name: "coredns_local_localhost_requests",
    help: "Queries for names below localhost, and for names that begin with it",
    block_labels: BlockLabels::None,
};

pub(crate) const USAGE: &str = "local { … }";

pub(crate) const SETTINGS: &[Setting<Local>] = &[sets("localhost_prefix", PREFIX, prefix)];

const PREFIX: &str = "localhost_prefix on|off";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.exactly::<0>(USAGE, context);
    let local = block.line_or(Local { takes_prefix: true });
    statement.read_settings(SETTINGS, local, context);
}

fn prefix(line: &Statement, local: &mut Local, context: &mut Context<'_>) {
    let Some([word]) = line.exactly::<1>(PREFIX, context) else { return };
    match word.text.as_str() {
        "on" => local.takes_prefix = true,
        "off" => local.takes_prefix = false,
        other => {
            let message =
                format!("localhost_prefix expects 'on' or 'off', got \"{}\"", quoted(other));
            let refusal = Refusal::new(message, "neither on nor off");
            context.refuse(word.span, refusal.help(format!("usage: `{PREFIX}`")));
        }
    }
}

/// The names that the gate takes.
#[derive(Clone, Copy, Debug)]
pub struct LocalNames {
    takes_prefix: bool,
    /// Of names below localhost and those that begin with it.
    counter: CounterSlot,
}

const LOCALHOST: &[u8] = b"\x09localhost\0";
const LOCALHOST_LABEL: &[u8] = b"\x09localhost";
const REVERSE_ZONES: [&[u8]; 3] = [
    b"\x010\x07in-addr\x04arpa\0",
    b"\x03127\x07in-addr\x04arpa\0",
    b"\x03255\x07in-addr\x04arpa\0",
];
const REVERSE_NAME: &[u8] = b"\x011\x010\x010\x03127\x07in-addr\x04arpa\0";

/// A week, in seconds.
const TTL_SECS: u32 = 604_800;
/// localhost, root.localhost; serial 1; refresh, retry and expire 0; the TTL of negative responses.
const SOA: &[u8] = b"\x09localhost\0\x04root\x09localhost\0\
    \0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\x3a\x80";
const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What a name stands for.
#[derive(Clone, Copy)]
enum LocalName {
    /// localhost.
    Apex,
    /// Below localhost, or begins with it.
    Host,
    ReverseApex,
    /// 1.0.0.127.in-addr.arpa, whose zone begins at this offset.
    Reverse {
        zone_at: usize,
    },
    /// A name that does not exist. Its zone begins at this offset.
    Absent {
        zone_at: usize,
    },
}

impl LocalNames {
    pub(super) fn pass(self, exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
        let Exchange { arrival, query, name, .. } = exchange;
        let Some(local) = self.find(name) else { return Passage::Pass };
        if let LocalName::Host = local {
            exchange.counters.count(self.counter);
        }
        let mut listing = Listing::begin(query, arrival.len_max(query.edns), message);
        let whole = Owner::Question { from: 0 };
        let soa = listed(TYPE_SOA, SOA);
        let mut rcode = Rcode::NoError;
        match (local, query.qtype) {
            (LocalName::Apex | LocalName::Host, TYPE_A) => {
                listing.answer(whole, listed(TYPE_A, &[127, 0, 0, 1]));
            }
            (LocalName::Apex | LocalName::Host, TYPE_AAAA) => {
                listing.answer(whole, listed(TYPE_AAAA, &LOOPBACK_V6));
            }
            (LocalName::Apex | LocalName::ReverseApex, TYPE_SOA) => listing.answer(whole, soa),
            (LocalName::Apex | LocalName::ReverseApex, TYPE_NS) => {
                listing.answer(whole, listed(TYPE_NS, LOCALHOST));
            }
            (LocalName::Apex | LocalName::Host | LocalName::ReverseApex, _) => {
                listing.authority(whole, soa);
            }
            (LocalName::Reverse { .. }, TYPE_PTR) => {
                listing.answer(whole, listed(TYPE_PTR, LOCALHOST));
            }
            (LocalName::Reverse { zone_at }, _) => {
                listing.authority(Owner::Question { from: zone_at }, soa);
            }
            (LocalName::Absent { zone_at }, _) => {
                rcode = Rcode::NxDomain;
                listing.authority(Owner::Question { from: zone_at }, soa);
            }
        }
        Passage::Answer(listing.finish(0, rcode), const { Answerer::plugin("local") })
    }

    /// Whether it answers queries for this name.
    pub(super) fn takes(self, name: &Name) -> bool {
        self.find(name).is_some()
    }

    fn find(self, name: &Name) -> Option<LocalName> {
        let bytes = name.bytes();
        if bytes == LOCALHOST {
            return Some(LocalName::Apex);
        }
        if self.takes_prefix && bytes.starts_with(LOCALHOST_LABEL)
            || zone_at(name, LOCALHOST).is_some()
        {
            return Some(LocalName::Host);
        }
        let zone_at = REVERSE_ZONES.iter().find_map(|zone| zone_at(name, zone))?;
        Some(match bytes {
            REVERSE_NAME => LocalName::Reverse { zone_at },
            _ if zone_at == 0 => LocalName::ReverseApex,
            _ => LocalName::Absent { zone_at },
        })
    }
}

/// Where this zone begins in a name; `None` if the name is not in it.
fn zone_at(name: &Name, zone: &[u8]) -> Option<usize> {
    let at = name.bytes().len().checked_sub(zone.len())?;
    (name.bytes().ends_with(zone) && name.label_starting_at(at).is_some()).then_some(at)
}

fn listed(rtype: u16, rdata: &[u8]) -> ListedRecord<'_> {
    ListedRecord { rtype, ttl_secs: TTL_SECS, rdata }
}
