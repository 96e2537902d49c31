//! `acl`: allows, refuses, empties or drops queries by client address and type.
//!
//! Rules are read from the Corefile's `acl` blocks and compiled into sorted ranges of addresses.
//! Invariant: the first policy that matches decides; a query that none matches is allowed.

use std::future::ready;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;

use domain::base::iana::Rtype;
use ipnet::IpNet;
use wire::edit::{self, EdnsOption, OPTION_EDE};
use wire::header::Rcode;
use wire::name::Name;
use wire::reply;
use wire::zone::ZoneSet;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::{CounterSlot, Exchange};
use super::gate::{Gate, Passage};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::statement::Statement;
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;
use crate::corefile::word::quoted;
use crate::metrics::answerer::Answerer;
use crate::metrics::{BlockLabels, CounterFamily, PluginCounter};

/// All `acl` lines of a block, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    pub rules: Vec<AclRule>,
}

/// One `acl` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclRule {
    /// [the block's keys]
    pub zones: Vec<Zone>,
    pub policies: Vec<AclPolicy>,
}

/// One line between its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclPolicy {
    pub action: AclAction,
    /// `None`: every type.
    pub types: Option<Vec<u16>>,
    /// `None`: every address.
    pub nets: Option<Vec<IpNet>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclAction {
    Allow,
    /// REFUSED
    Block,
    /// NOERROR without data
    Filter,
    /// No response.
    Drop,
}

impl AclAction {
    const ALL: [(&str, Self); 4] = [
        ("allow", Self::Allow),
        ("block", Self::Block),
        ("filter", Self::Filter),
        ("drop", Self::Drop),
    ];

    /// Its counter; those of allowed queries have no zone.
    const fn family(self) -> &'static CounterFamily {
        match self {
            Self::Allow => &ALLOWED,
            Self::Block => &BLOCKED,
            Self::Filter => &FILTERED,
            Self::Drop => &DROPPED,
        }
    }
}

const ALLOWED: CounterFamily = CounterFamily {
    name: "coredns_acl_allowed_requests",
    help: "Queries that acl passed on",
    block_labels: BlockLabels::Server,
};
const BLOCKED: CounterFamily = CounterFamily {
    name: "coredns_acl_blocked_requests",
    help: "Queries that acl refused",
    block_labels: BlockLabels::Server,
};
const FILTERED: CounterFamily = CounterFamily {
    name: "coredns_acl_filtered_requests",
    help: "Queries that acl answered without data",
    block_labels: BlockLabels::Server,
};
const DROPPED: CounterFamily = CounterFamily {
    name: "coredns_acl_dropped_requests",
    help: "Queries that acl dropped",
    block_labels: BlockLabels::Server,
};

impl Plugin for Acl {
    fn name(&self) -> &'static str {
        "acl"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let view = || ("view", context.block.view().to_owned());
        let allowed = PluginCounter { family: AclAction::Allow.family(), labels: vec![view()] };
        let allowed = block.counter(allowed);
        let mut count = |action: AclAction, zone: &Zone| {
            let labels = vec![view(), ("zone", zone.text.clone())];
            block.counter(PluginCounter { family: action.family(), labels })
        };
        let rules = self.rules.iter().map(|rule| CompiledRule::new(rule, &mut count)).collect();
        block.gates.push(Gate::Acl(AccessRules { rules, allowed }));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "acl [ZONES…] { … }";

pub(crate) fn options() -> Vec<&'static str> {
    AclAction::ALL.map(|(name, _)| name).to_vec()
}

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let zones = key::zones_or_keys(&statement.args, &block.keys, context);
    let lines = statement.body.iter().flat_map(|body| &body.lines);
    let policies = lines.filter_map(|line| policy(line, context)).collect();
    block.line_or(Acl { rules: Vec::new() }).rules.push(AclRule { zones, policies });
}

const POLICY: &str = "allow|block|filter|drop [type QTYPE…] [net SOURCE…]";

fn policy(line: &Statement, context: &mut Context<'_>) -> Option<AclPolicy> {
    line.takes_no_block(POLICY, context);
    let word = &line.name.text;
    let is_named = |(name, _): &&(&str, AclAction)| word.eq_ignore_ascii_case(name);
    let Some((_, action)) = AclAction::ALL.iter().find(is_named) else {
        let message = format!(
            "unexpected token \"{}\"; expect 'allow', 'block', 'filter' or 'drop'",
            quoted(word)
        );
        unexpected(&line.name, message, "not an action", context);
        return None;
    };
    let mut policy = AclPolicy { action: *action, types: None, nets: None };
    // `*` stands until the end of the line, whatever else is listed.
    let (mut has_all_types, mut has_all_nets) = (false, false);
    let is_section = |word: &Token| {
        word.text.eq_ignore_ascii_case("type") || word.text.eq_ignore_ascii_case("net")
    };
    let mut rest = line.args.as_slice();
    while let [section, after @ ..] = rest {
        if !is_section(section) {
            let text = quoted(&section.text);
            let message = format!("unexpected token \"{text}\"; expect 'type | net'");
            unexpected(section, message, "neither `type` nor `net`", context);
            return None;
        }
        let count = after.iter().position(is_section).unwrap_or(after.len());
        let (words, next) = after.split_at(count);
        rest = next;
        let name = section.text.to_ascii_lowercase();
        if words.is_empty() {
            let message = format!("no token specified in \"{name}\" section");
            unexpected(section, message, "something is missing after this", context);
            return None;
        }
        match name.as_str() {
            "type" => {
                let types = policy.types.get_or_insert_default();
                has_all_types |= read_list(words, types, qtype, context)?;
            }
            _ => {
                let nets = policy.nets.get_or_insert_default();
                has_all_nets |= read_list(words, nets, net, context)?;
            }
        }
    }
    policy.types = policy.types.filter(|_| !has_all_types);
    policy.nets = policy.nets.filter(|_| !has_all_nets);
    Some(policy)
}

/// Adds what the words stand for, up to a `*`; whether there is one. `None` after a mistake.
fn read_list<T>(
    words: &[Token],
    list: &mut Vec<T>,
    read: fn(&Token, &mut Context<'_>) -> Option<T>,
    context: &mut Context<'_>,
) -> Option<bool> {
    for word in words {
        if word.text == "*" {
            return Some(true);
        }
        list.push(read(word, context)?);
    }
    Some(false)
}

fn unexpected(word: &Token, message: String, label: &'static str, context: &mut Context<'_>) {
    let refusal = Refusal::new(message, label).help(format!("usage: `{POLICY}`"));
    context.refuse(word.span, refusal);
}

fn qtype(word: &Token, context: &mut Context<'_>) -> Option<u16> {
    let text = &word.text;
    // CoreDNS knows types by their names in capitals, and by no number.
    let known = Rtype::from_str(text).ok();
    let known = known.filter(|rtype| rtype.to_string() == *text && !text.starts_with("TYPE"));
    if known.is_none() {
        let message = format!("unexpected token \"{}\"; expect legal QTYPE", quoted(text));
        let refusal = Refusal::new(message, "not the name of a type");
        context.refuse(word.span, refusal.help("names of types are in capitals: `type A AAAA`"));
    }
    known.map(Rtype::to_int)
}

fn net(word: &Token, context: &mut Context<'_>) -> Option<IpNet> {
    let text = &word.text;
    let parsed = match text.contains('/') {
        true => text.parse::<IpNet>().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    if parsed.is_none() {
        // As CoreDNS completes it.
        let completed = match (text.contains('/'), text.contains(':')) {
            (true, _) => "",
            (false, true) => "/128",
            (false, false) => "/32",
        };
        let message = format!("illegal CIDR notation \"{}{completed}\"", quoted(text));
        let refusal = Refusal::new(message, "neither an address nor a network");
        context.refuse(word.span, refusal.help("write `192.0.2.1`, `10.0.0.0/8` or `*`"));
    }
    parsed
}

/// The rules of a block, ready for queries.
#[derive(Clone, Debug)]
pub struct AccessRules {
    rules: Arc<[CompiledRule]>,
    allowed: CounterSlot,
}

#[derive(Debug)]
struct CompiledRule {
    zones: ZoneSet,
    /// By zone: the counters of `policies`, in their order.
    counters: Box<[Box<[Option<CounterSlot>]>]>,
    policies: Box<[CompiledPolicy]>,
}

#[derive(Debug)]
struct CompiledPolicy {
    action: AclAction,
    /// Sorted; `None`: every type.
    types: Option<Box<[u16]>>,
    /// `None`: every address.
    addresses: Option<AddressSet>,
}

impl CompiledRule {
    fn new(rule: &AclRule, count: &mut impl FnMut(AclAction, &Zone) -> CounterSlot) -> Self {
        let counters = rule.zones.iter().map(|zone| {
            let mut known: Vec<(AclAction, CounterSlot)> = Vec::new();
            let mut counter = |policy: &AclPolicy| match policy.action {
                AclAction::Allow => None,
                action @ (AclAction::Block | AclAction::Filter | AclAction::Drop) => {
                    let found = known.iter().find(|(other, _)| *other == action);
                    Some(found.map(|(_, slot)| *slot).unwrap_or_else(|| {
                        let slot = count(action, zone);
                        known.push((action, slot));
                        slot
                    }))
                }
            };
            rule.policies.iter().map(&mut counter).collect()
        });
        let counters = counters.collect();
        let policies = rule.policies.iter().map(CompiledPolicy::new).collect();
        Self { zones: Zone::set(&rule.zones), counters, policies }
    }
}

impl CompiledPolicy {
    fn new(AclPolicy { action, types, nets }: &AclPolicy) -> Self {
        let types = types.as_ref().map(|types| {
            let mut types = types.clone();
            types.sort_unstable();
            types.into()
        });
        Self { action: *action, types, addresses: nets.as_deref().map(AddressSet::new) }
    }

    fn matches(&self, qtype: u16, ip: IpAddr) -> bool {
        self.types.as_ref().is_none_or(|types| types.binary_search(&qtype).is_ok())
            && self.addresses.as_ref().is_none_or(|addresses| addresses.contains(ip))
    }
}

/// Info codes of RFC 8914: section 4.16 (Blocked) and section 4.18 (Filtered).
const BLOCKED_CODE: [u8; 2] = [0, 15];
const FILTERED_CODE: [u8; 2] = [0, 17];

impl AccessRules {
    pub(super) fn pass(&self, exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
        let Some(peer) = exchange.trail.peer else {
            debug_assert!(false, "a gate that reads the client's address has it");
            return Passage::Drop;
        };
        let ip = peer.ip().to_canonical();
        let (rcode, code) = match self.decide(exchange, ip) {
            AclAction::Allow => {
                exchange.counters.count(self.allowed);
                return Passage::Pass;
            }
            AclAction::Drop => return Passage::Drop,
            AclAction::Block => (Rcode::Refused, &BLOCKED_CODE),
            AclAction::Filter => (Rcode::NoError, &FILTERED_CODE),
        };
        let query = &exchange.query;
        let mut stamped = reply::stamp_reject(&query.reject(rcode), message);
        let option = EdnsOption { code: OPTION_EDE, data: code };
        let len_max = exchange.arrival.len_max(query.edns);
        stamped.len = edit::add_option(message, stamped.len, option, len_max);
        Passage::Answer(stamped, const { Answerer::plugin("acl") })
    }

    /// Whether a client with this address may ask for this name and type. Nothing is counted.
    pub(super) fn allows(&self, name: &Name, qtype: u16, ip: IpAddr) -> bool {
        match self.find(name, qtype, ip.to_canonical()) {
            Some((AclAction::Allow, _)) | None => true,
            Some((AclAction::Block | AclAction::Filter | AclAction::Drop, _)) => false,
        }
    }

    /// What to do with the query. What is not allowed has been counted.
    fn decide(&self, exchange: &Exchange<'_>, ip: IpAddr) -> AclAction {
        let found = self.find(exchange.name, exchange.query.qtype, ip);
        let Some((action, counter)) = found else { return AclAction::Allow };
        if let Some(counter) = counter {
            exchange.counters.count(counter);
        }
        action
    }

    /// What the first policy that matches does, and its counter.
    fn find(
        &self,
        name: &Name,
        qtype: u16,
        ip: IpAddr,
    ) -> Option<(AclAction, Option<CounterSlot>)> {
        self.rules.iter().find_map(|rule| {
            let zone = rule.zones.find(name)?;
            let at = rule.policies.iter().position(|policy| policy.matches(qtype, ip))?;
            let counters = rule.counters.get(zone.index);
            let counter = counters.and_then(|by_policy| *by_policy.get(at)?);
            Some((rule.policies.get(at)?.action, counter))
        })
    }
}

/// Networks as ranges of addresses, from first to last, in order and without overlap. IPv4-mapped
/// addresses are IPv4 here, and no network of IPv6 contains them, as in CoreDNS.
#[derive(Debug, Default)]
struct AddressSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AddressSet {
    fn new(nets: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => is_in(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => is_in(&self.v6, ip.to_bits()),
        }
    }
}

/// Of two networks that overlap, one contains the other.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable_by(|one, other| (one.0, other.1).cmp(&(other.0, one.1)));
    let mut last = None;
    ranges.retain(|(_, end)| {
        let is_new = last.is_none_or(|last| *end > last);
        if is_new {
            last = Some(*end);
        }
        is_new
    });
    ranges.into()
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let count = ranges.partition_point(|(start, _)| *start <= value);
    count.checked_sub(1).is_some_and(|at| value <= ranges[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_their_networks() {
        let nets = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "10.1.2.3/24", "fd00::/8"];
        let nets = nets.map(|net| net.parse().unwrap());
        let set = AddressSet::new(&nets);
        assert_eq!(set.v4.len(), 2);
        let check = |ip: &str, expected: bool| {
            assert_eq!(set.contains(ip.parse().unwrap()), expected, "{ip}");
        };
        for ip in ["10.0.0.0", "10.1.2.3", "10.255.255.255", "192.0.2.7", "fd00::", "fdff::1"] {
            check(ip, true);
        }
        for ip in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "fc00::1", "fe00::"] {
            check(ip, false);
        }
        assert!(!AddressSet::new(&[]).contains("10.0.0.1".parse().unwrap()));
        let all = ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap());
        let all = AddressSet::new(&all);
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        assert!(all.contains("::".parse().unwrap()));
    }
}
