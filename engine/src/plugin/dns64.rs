//! `dns64`: IPv6 addresses for names that have only IPv4 ones (RFC 6147), for clients behind NAT64.
//!
//! It is a gate that pursues: AAAA after it first, then A in the whole server. Invariant: a prefix
//! has one of the lengths of RFC 6052, section 2.2.

use std::future::ready;
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, Ttl};
use domain::rdata::{A, Aaaa, AllRecordData, Soa};
use ipnet::Ipv6Net;
use wire::edit;
use wire::header::{TYPE_A, TYPE_AAAA};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::{CounterSlot, Exchange};
use super::gate::{Gate, Passage};
use super::joined::Joined;
use super::pursuit::{Found, InsideQuestion, Pursuit, Scope, Step};
use super::{Plugin, ServerBlock};
use crate::client::Family;
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::statement::{Setting, Statement, sets};
use crate::corefile::word::quoted;
use crate::metrics::answerer::Answerer;
use crate::metrics::{BlockLabels, CounterFamily, PluginCounter};

/// One `dns64` line; defaults in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns64 {
    /// Of 32, 40, 48, 56, 64 or 96 bits [64:ff9b::/96].
    pub prefix: Ipv6Net,
    /// `translate_all`: also where the name has IPv6 addresses of its own.
    pub translates_all: bool,
    /// `allow_ipv4`: also for clients that ask over IPv4.
    pub allows_ipv4: bool,
}

impl Plugin for Dns64 {
    fn name(&self) -> &'static str {
        "dns64"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        let translated = PluginCounter { family: &TRANSLATED, labels: Vec::new() };
        let translated = block.counter(translated);
        block.gates.push(Gate::Dns64(Dns64Gate { settings: self.clone(), translated }));
        Box::pin(ready(Ok(())))
    }
}

const TRANSLATED: CounterFamily = CounterFamily {
    name: "coredns_dns64_requests_translated",
    help: "Queries whose answers were made from IPv4 addresses",
    block_labels: BlockLabels::Server,
};

pub(crate) const USAGE: &str = "dns64 [PREFIX] { … }";

const PREFIX_DEFAULT: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

pub(crate) const SETTINGS: &[Setting<Dns64>] = &[
    sets("prefix", "prefix PREFIX", |line, dns64, context| {
        if let Some([word]) = line.exactly("prefix PREFIX", context) {
            set_prefix(word, dns64, context);
        }
    }),
    sets("translate_all", "translate_all", |_, dns64, _| dns64.translates_all = true),
    sets("allow_ipv4", "allow_ipv4", |_, dns64, _| dns64.allows_ipv4 = true),
];

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let default = Dns64 { prefix: PREFIX_DEFAULT, translates_all: false, allows_ipv4: false };
    // Of several lines CoreDNS takes each option that any of them sets.
    let dns64 = block.line_or(default);
    match statement.args.as_slice() {
        [] => {}
        [word] => set_prefix(word, dns64, context),
        [_, _, ..] => statement.wrong_count(1, USAGE, context),
    }
    statement.read_settings(SETTINGS, dns64, context);
}

fn set_prefix(word: &Token, dns64: &mut Dns64, context: &mut Context<'_>) {
    match prefix(&word.text) {
        Ok(prefix) => dns64.prefix = prefix,
        Err(refusal) => context.refuse(word.span, refusal),
    }
}

fn prefix(text: &str) -> Result<Ipv6Net, Refusal> {
    let help = "a prefix such as `64:ff9b::/96`";
    let prefix: Ipv6Net = text.parse().map_err(|_| {
        let message = format!("invalid CIDR address: {}", quoted(text));
        Refusal::new(message, "not an IPv6 prefix").help(help)
    })?;
    match prefix.prefix_len() {
        32 | 40 | 48 | 56 | 64 | 96 => Ok(prefix.trunc()),
        _ => {
            let message = format!("invalid prefix length \"{}\"", prefix.trunc());
            let refusal = Refusal::new(message, "not 32, 40, 48, 56, 64 or 96 bits");
            Err(refusal.help(help))
        }
    }
}

/// The settings of a block's `dns64`, and its counter.
#[derive(Clone, Debug)]
pub struct Dns64Gate {
    settings: Dns64,
    translated: CounterSlot,
}

impl Dns64Gate {
    pub(super) fn pass(&self, exchange: &Exchange<'_>) -> Passage {
        let is_family = self.settings.allows_ipv4 || exchange.arrival.family == Family::V6;
        if exchange.query.qtype != TYPE_AAAA || !is_family {
            return Passage::Pass;
        }
        let state = PursuitState::Begins;
        let name = exchange.name.bytes().into();
        let pursuit = Dns64Pursuit { gate: self.clone(), name, state };
        Passage::Pursue(Box::new(Pursuit::Dns64(pursuit)))
    }
}

/// One query for IPv6 addresses.
#[derive(Debug)]
pub struct Dns64Pursuit {
    gate: Dns64Gate,
    name: Box<[u8]>,
    state: PursuitState,
}

/// What has been asked.
#[derive(Debug)]
enum PursuitState {
    Begins,
    AsksIpv6,
    /// `ipv6`: the response that has no IPv6 addresses.
    AsksIpv4 {
        ipv6: Box<[u8]>,
    },
}

/// The longest TTL of a made address if no SOA limits it (RFC 6147, section 5.1.7).
const TTL_SECS_MAX: u32 = 600;

impl Dns64Pursuit {
    pub(super) fn next(&mut self, last: Option<Box<[u8]>>) -> Step {
        let last = last.unwrap_or_default();
        match std::mem::replace(&mut self.state, PursuitState::AsksIpv6) {
            PursuitState::Begins => self.ask(TYPE_AAAA, Scope::Behind),
            PursuitState::AsksIpv6 => {
                if self.gate.settings.wants_ipv4(&last) {
                    self.state = PursuitState::AsksIpv4 { ipv6: last };
                    return self.ask(TYPE_A, Scope::Server);
                }
                found(last)
            }
            PursuitState::AsksIpv4 { ipv6 } => {
                // Also with `translate_all`: other addresses than its own it cannot have.
                if has_ipv6(&ipv6) && !has_ipv4(&last) {
                    return found(ipv6);
                }
                match translate(&ipv6, &last, self.gate.settings.prefix) {
                    Some(message) => {
                        // Those of the response that it is made from.
                        let options = edit::option_data(&last).into();
                        let counts = Some(self.gate.translated);
                        Step::Respond(Found { options, counts, ..Found::new(message, ANSWERER) })
                    }
                    None => found(ipv6),
                }
            }
        }
    }

    fn ask(&self, qtype: u16, scope: Scope) -> Step {
        Step::Ask(InsideQuestion { name: self.name.clone(), qtype, scope })
    }
}

const ANSWERER: Answerer = Answerer::plugin("dns64");

fn found(message: Box<[u8]>) -> Step {
    Step::Respond(Found::new(message, ANSWERER))
}

impl Dns64 {
    /// Whether the response to AAAA is to be replaced: the name exists, and it has no IPv6 address
    /// of its own (RFC 6147, sections 5.1.1, 5.1.2 and 5.1.4).
    fn wants_ipv4(&self, ipv6: &[u8]) -> bool {
        let Ok(message) = Message::from_octets(ipv6) else { return false };
        if message.header().rcode() == Rcode::NXDOMAIN {
            return false;
        }
        self.translates_all || !has_ipv6(ipv6)
    }
}

/// Whether an answer has IPv6 addresses. An IPv4-mapped one counts as none (RFC 6147, section
/// 5.1.4).
fn has_ipv6(message: &[u8]) -> bool {
    let Ok(message) = Message::from_octets(message) else { return false };
    message.answer().is_ok_and(|answer| {
        let mut addresses = answer.limit_to::<Aaaa>().filter_map(Result::ok);
        addresses.any(|record| record.data().addr().to_ipv4_mapped().is_none())
    })
}

fn has_ipv4(message: &[u8]) -> bool {
    let Ok(message) = Message::from_octets(message) else { return false };
    message.answer().is_ok_and(|answer| answer.limit_to::<A>().any(|record| record.is_ok()))
}

/// The response to AAAA made from the one to A: the same records, with IPv6 addresses in place of
/// the IPv4 ones (RFC 6147, sections 5.1.6 to 5.3.3). `None` if it cannot be read.
fn translate(ipv6: &[u8], ipv4: &[u8], prefix: Ipv6Net) -> Option<Box<[u8]>> {
    let ipv6 = Message::from_octets(ipv6).ok()?;
    let ipv4 = Message::from_octets(ipv4).ok()?;
    let ttl_max = Ttl::from_secs(ttl_secs_max(&ipv6));
    // No server is the authority for what is made here.
    let mut answer = Joined::begin(&ipv6.first_question()?, |header| {
        header.set_qr(true);
        header.set_rcode(ipv4.header().rcode());
        header.set_tc(ipv4.header().tc());
    })?;
    for record in ipv4.answer().ok()?.limit_to::<AllRecordData<_, _>>() {
        let record = record.ok()?;
        let (owner, ttl) = (record.owner(), record.ttl());
        match record.data() {
            AllRecordData::A(address) => {
                let address = Aaaa::new(embed(prefix, address.addr()));
                answer.push((owner, Class::IN, ttl.min(ttl_max), address));
            }
            data => answer.push((owner, record.class(), ttl, data)),
        }
    }
    answer.finish_with(&ipv4, |_| true)
}

/// The TTL of the SOA in the response to AAAA, which says how long there is no IPv6 address.
fn ttl_secs_max(ipv6: &Message<&[u8]>) -> u32 {
    let Ok(authority) = ipv6.authority() else { return TTL_SECS_MAX };
    let mut soas = authority.limit_to::<Soa<_>>().filter_map(Result::ok);
    soas.next().map_or(TTL_SECS_MAX, |soa| soa.ttl().as_secs())
}

/// The address with the prefix before it (RFC 6052, section 2.2). Bits 64 to 71 are zero.
fn embed(prefix: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    let mut octets = prefix.addr().octets();
    let start = usize::from(prefix.prefix_len() / 8);
    let places = (start..octets.len()).filter(|place| *place != 8);
    for (place, octet) in places.zip(address.octets()) {
        octets[place] = octet;
    }
    octets.into()
}

#[cfg(test)]
mod tests {
    use domain::base::{MessageBuilder, Name, Question, Rtype, StaticCompressor};

    use super::*;

    /// The response for a name with this many IPv4 addresses.
    fn translated(ipv4_count: u32) -> Box<[u8]> {
        let name: Name<Vec<u8>> = "many.test".parse().unwrap();
        let mut ipv6 = MessageBuilder::new_vec().question();
        ipv6.push(Question::new_in(&name, Rtype::AAAA)).unwrap();
        let mut ipv4 = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).unwrap();
        ipv4.header_mut().set_qr(true);
        let mut ipv4 = ipv4.question();
        ipv4.push(Question::new_in(&name, Rtype::A)).unwrap();
        let mut ipv4 = ipv4.answer();
        for number in 0..ipv4_count {
            let address = A::new(Ipv4Addr::from(number));
            ipv4.push((&name, Class::IN, Ttl::from_secs(60), address)).unwrap();
        }
        let (ipv6, ipv4) = (ipv6.finish(), ipv4.finish().into_target());
        translate(&ipv6, &ipv4, PREFIX_DEFAULT).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_truncated() {
        for (ipv4_count, count, is_truncated) in
            [(1, 1, false), (2339, 2339, false), (2340, 2339, true), (4000, 2339, true)]
        {
            let message = translated(ipv4_count);
            let message = Message::from_octets(&*message).unwrap();
            assert_eq!(message.header_counts().ancount(), count, "{ipv4_count}");
            assert_eq!(message.header().tc(), is_truncated, "{ipv4_count}");
        }
    }

    /// The examples of RFC 6052, section 2.4.
    #[test]
    fn addresses_are_embedded() {
        for (prefix, expected) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ] {
            let embedded = embed(prefix.parse().unwrap(), Ipv4Addr::new(192, 0, 2, 33));
            assert_eq!(embedded, expected.parse::<Ipv6Addr>().unwrap(), "{prefix}");
        }
    }
}
