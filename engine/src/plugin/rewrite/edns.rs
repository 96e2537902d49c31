//! `rewrite edns0`: options in the OPT of queries to upstreams.
//!
//! The rules match as the query passes the gate; the options are written when an upstream is asked,
//! because no other source reads them. Invariant: responses to clients have none of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wire::edit;
use wire::name::Name;
use wire::text::NameText;

use super::replacement::LabelSource;
use super::rules::{RuleAction, Rules};
use crate::client::Transport;
use crate::limits::{EDNS_CODES_MAX, EDNS_OPTIONS_LEN_MAX};
use crate::plugin::exchange::{AskedQuestion, Trail};
use crate::plugin::pattern::Pattern;

/// The server's identifier (RFC 5001).
const OPTION_NSID: u16 = 3;
/// The client's subnet (RFC 7871).
const OPTION_SUBNET: u16 = 8;

/// `edns0 local|nsid|subnet set|append|replace|unset …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdnsRule {
    pub action: EdnsAction,
    pub option: RuleOption,
    /// `revert`: the option is not in the response, which is so in any case.
    pub reverts: bool,
}

/// What happens to the option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdnsAction {
    /// It replaces one with its code, or is added.
    Set,
    Append,
    /// It replaces one with its code, if there is one.
    Replace,
    Unset,
}

/// An option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleOption {
    Local {
        code: u16,
        data: Vec<u8>,
    },
    Variable {
        code: u16,
        variable: Variable,
    },
    Nsid,
    /// The bits of the client's address that are sent.
    Subnet {
        ipv4_bits: u8,
        ipv6_bits: u8,
    },
}

/// Data that depends on the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    Qname,
    Qtype,
    ClientIp,
    ClientPort,
    Protocol,
    ServerIp,
    ServerPort,
    /// `{plugin/label}`, a label of `metadata`.
    Label(String),
}

/// Where a query comes from and arrived.
#[derive(Clone, Copy)]
pub struct Ends {
    pub peer: Option<SocketAddr>,
    /// The listener's.
    pub server: Option<SocketAddr>,
    pub transport: Transport,
}

impl EdnsRule {
    const fn code(&self) -> u16 {
        match &self.option {
            RuleOption::Local { code, .. } | RuleOption::Variable { code, .. } => *code,
            RuleOption::Nsid => OPTION_NSID,
            RuleOption::Subnet { .. } => OPTION_SUBNET,
        }
    }

    /// Whether the client's address is needed.
    pub(super) const fn reads_peer(&self) -> bool {
        match &self.option {
            RuleOption::Variable { variable, .. } => {
                matches!(variable, Variable::ClientIp | Variable::ClientPort)
            }
            RuleOption::Subnet { .. } => true,
            RuleOption::Local { .. } | RuleOption::Nsid => false,
        }
    }

    /// Whether it matches a query with options of these codes, which it updates.
    pub(super) fn matches(&self, codes: &mut OptionCodes, labels: LabelSource<'_>) -> bool {
        let code = self.code();
        let has_code = codes.contains(code);
        // Its data is known, so CoreDNS appends it even beside an equal one.
        let is_constant = matches!(self.option, RuleOption::Local { .. } | RuleOption::Nsid);
        let is_unknown = match &self.option {
            RuleOption::Variable { variable: Variable::Label(label), .. } => {
                labels.value(label).is_none()
            }
            RuleOption::Variable { .. }
            | RuleOption::Local { .. }
            | RuleOption::Nsid
            | RuleOption::Subnet { .. } => false,
        };
        let is_match = match self.action {
            EdnsAction::Unset => {
                codes.remove(code);
                return true;
            }
            EdnsAction::Set => true,
            EdnsAction::Append => is_constant || !has_code,
            EdnsAction::Replace => has_code,
        };
        if is_match && !is_unknown {
            codes.add(code);
        }
        is_match && !is_unknown
    }

    /// The option's data; `None` if it is unknown.
    fn data(
        &self,
        question: &QuestionSoFar,
        labels: LabelSource<'_>,
        ends: Ends,
    ) -> Option<Vec<u8>> {
        match &self.option {
            RuleOption::Local { data, .. } => Some(data.clone()),
            RuleOption::Variable { variable, .. } => variable.data(question, labels, ends),
            RuleOption::Nsid => Some(Vec::new()),
            RuleOption::Subnet { ipv4_bits, ipv6_bits } => {
                let (family, bits) = match ends.peer?.ip().to_canonical() {
                    IpAddr::V4(_) => (1, *ipv4_bits),
                    IpAddr::V6(_) => (2, *ipv6_bits),
                };
                // RFC 7871, section 6: only as many bytes as the prefix has, the last one masked.
                let mut address = octets(ends.peer?.ip());
                address.truncate(usize::from(bits.div_ceil(8)));
                if let Some(last) = address.last_mut() {
                    *last &= 0xFF << ((8 - bits % 8) % 8);
                }
                Some([&[0, family, bits, 0], address.as_slice()].concat())
            }
        }
    }
}

impl Variable {
    fn data(
        &self,
        question: &QuestionSoFar,
        labels: LabelSource<'_>,
        ends: Ends,
    ) -> Option<Vec<u8>> {
        let port = |address: SocketAddr| address.port().to_be_bytes().to_vec();
        match self {
            Self::Qname => Some(question.name.bytes().to_vec()),
            Self::Qtype => Some(question.qtype.to_be_bytes().to_vec()),
            Self::ClientIp => Some(octets(ends.peer?.ip())),
            Self::ClientPort => ends.peer.map(port),
            Self::Protocol => Some(
                match ends.transport {
                    Transport::Udp => "udp",
                    Transport::Tcp => "tcp",
                }
                .into(),
            ),
            Self::ServerIp => ends
                .server
                .filter(|server| !server.ip().is_unspecified())
                .map(|server| octets(server.ip())),
            Self::ServerPort => ends.server.map(port),
            Self::Label(label) => labels.value(label).map(String::into_bytes),
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// The codes of a query's options. Further ones are not noted.
#[derive(Default)]
pub(super) struct OptionCodes {
    codes: [u16; EDNS_CODES_MAX],
    count: usize,
}

impl OptionCodes {
    /// `inherited`: see `Trail::upstream_options`.
    pub(super) fn of(query: &[u8], inherited: Option<&[u8]>) -> Self {
        let mut codes = Self::default();
        let inherited = edit::options_in(inherited.unwrap_or_default());
        edit::options(query).chain(inherited).for_each(|option| codes.add(option.code));
        codes
    }

    fn contains(&self, code: u16) -> bool {
        self.codes[..self.count].contains(&code)
    }

    fn add(&mut self, code: u16) {
        if !self.contains(code)
            && let Some(to) = self.codes.get_mut(self.count)
        {
            *to = code;
            self.count += 1;
        }
    }

    fn remove(&mut self, code: u16) {
        if let Some(at) = self.codes[..self.count].iter().position(|other| *other == code) {
            self.count -= 1;
            self.codes.swap(at, self.count);
        }
    }
}

impl Rules {
    /// The options that the matched rules give to a query to upstreams, as an OPT has them, beside
    /// those that the trail has; `None` without any. `name`, `qtype`: of the question that is
    /// asked.
    pub(crate) fn edns_options(
        &self,
        trail: &Trail,
        name: &[u8],
        qtype: u16,
        ends: Ends,
    ) -> Option<Arc<[u8]>> {
        let indices = trail.rewrites.indices();
        let is_edns = |action: &RuleAction| matches!(action, RuleAction::Edns(_));
        let inherited = trail.upstream_options.as_ref();
        if !self.backwards(indices).any(is_edns) {
            return inherited.cloned();
        }
        let mut patterns = trail.patterns.as_ref().map(|patterns| patterns.borrow());
        let patterns = patterns.as_deref_mut().map_or(&mut [][..], |patterns| &mut patterns[..]);
        let mut question = QuestionSoFar::of(trail, name, qtype);
        let client = trail.asked.as_ref().and_then(AskedQuestion::name);
        let client = client.or_else(|| Name::from_wire(name));
        let labels = LabelSource { labels: self.labels.as_ref(), name: client.as_ref() };
        let inherited = edit::options_in(inherited.map_or(&[], |options| &options[..]));
        let mut options: Vec<(u16, Vec<u8>)> =
            inherited.map(|option| (option.code, option.data.to_vec())).collect();
        for index in indices {
            let Some(rule) = self.rules.get(usize::from(*index)) else { continue };
            match &rule.action {
                RuleAction::Edns(rule) => {
                    let data = rule.data(&question, labels, ends);
                    put(&mut options, rule, data);
                }
                action => question.follow(action, labels, patterns),
            }
        }
        let mut written = Vec::new();
        for (code, data) in options {
            if written.len() + 4 + data.len() > EDNS_OPTIONS_LEN_MAX {
                continue;
            }
            written.extend(code.to_be_bytes());
            written.extend((data.len() as u16).to_be_bytes());
            written.extend(data);
        }
        (!written.is_empty()).then(|| written.into())
    }
}

fn put(options: &mut Vec<(u16, Vec<u8>)>, rule: &EdnsRule, data: Option<Vec<u8>>) {
    let code = rule.code();
    let Some(data) = data else { return };
    let known = options.iter_mut().find(|(other, _)| *other == code);
    match (rule.action, known) {
        (EdnsAction::Unset, _) => options.retain(|(other, _)| *other != code),
        (EdnsAction::Set | EdnsAction::Replace, Some((_, known))) => *known = data,
        (EdnsAction::Set | EdnsAction::Replace, None) | (EdnsAction::Append, _) => {
            options.push((code, data));
        }
    }
}

/// The question as it is when a rule applies.
struct QuestionSoFar {
    name: NameText,
    qtype: u16,
}

impl QuestionSoFar {
    /// The client's.
    fn of(trail: &Trail, name: &[u8], qtype: u16) -> Self {
        let mut text = NameText::default();
        let asked = trail.asked.as_ref();
        match asked.and_then(|asked| asked.name()) {
            Some(client) => text.set_name(client.bytes()),
            None => text.set_name(name),
        }
        Self { name: text, qtype: asked.map_or(qtype, |asked| asked.qtype()) }
    }

    fn follow(&mut self, action: &RuleAction, labels: LabelSource<'_>, patterns: &mut [Pattern]) {
        match action {
            RuleAction::Name(rule) => {
                let mut changed = NameText::default();
                if rule.from.replace(&rule.to, labels, self.name.bytes(), patterns, &mut changed) {
                    self.name = changed;
                }
            }
            RuleAction::Type { to, .. } => self.qtype = *to,
            RuleAction::Class { .. }
            | RuleAction::Ttl { .. }
            | RuleAction::Rcode { .. }
            | RuleAction::Cname(_)
            | RuleAction::Edns(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a.test.`, AAAA.
    fn question() -> QuestionSoFar {
        let mut name = NameText::default();
        name.push(b"a.test.");
        QuestionSoFar { name, qtype: 28 }
    }

    #[test]
    fn subnets() {
        let check = |peer: &str, bits: (u8, u8), expected: &[u8]| {
            let option = RuleOption::Subnet { ipv4_bits: bits.0, ipv6_bits: bits.1 };
            let rule = EdnsRule { action: EdnsAction::Set, option, reverts: false };
            let peer = Some(peer.parse().unwrap());
            let ends = Ends { peer, server: None, transport: Transport::Udp };
            assert_eq!(
                rule.data(&question(), LabelSource::default(), ends).as_deref(),
                Some(expected),
                "{peer:?} {bits:?}"
            );
        };
        check("192.0.2.77:1", (24, 56), &[0, 1, 24, 0, 192, 0, 2]);
        check("192.0.2.77:1", (27, 56), &[0, 1, 27, 0, 192, 0, 2, 64]);
        check("[::ffff:192.0.2.77]:1", (32, 56), &[0, 1, 32, 0, 192, 0, 2, 77]);
        check("192.0.2.77:1", (0, 56), &[0, 1, 0, 0]);
        check("[2001:db8:1:2ff::1]:1", (24, 57), &[0, 2, 57, 0, 0x20, 1, 0xd, 0xb8, 0, 1, 2, 0x80]);
    }

    #[test]
    fn variables() {
        let peer = Some("192.0.2.1:5353".parse().unwrap());
        let server = Some("[2001:db8::1]:53".parse().unwrap());
        let ends = Ends { peer, server, transport: Transport::Tcp };
        let check = |variable: Variable, expected: Option<&[u8]>| {
            assert_eq!(
                variable.data(&question(), LabelSource::default(), ends).as_deref(),
                expected,
                "{variable:?}"
            );
        };
        check(Variable::Qname, Some(b"a.test."));
        check(Variable::Qtype, Some(&[0, 28]));
        check(Variable::ClientIp, Some(&[192, 0, 2, 1]));
        check(Variable::ClientPort, Some(&[0x14, 0xE9]));
        check(Variable::Protocol, Some(b"tcp"));
        check(Variable::ServerIp, Some(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"));
        check(Variable::ServerPort, Some(&[0, 53]));
        check(Variable::Label("a/b".to_owned()), None);
        let wildcard = Ends { server: Some("0.0.0.0:53".parse().unwrap()), ..ends };
        assert_eq!(Variable::ServerIp.data(&question(), LabelSource::default(), wildcard), None);
    }
}
