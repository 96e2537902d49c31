//! The rules of a block, made ready, and what they do to a query.
//!
//! Rules about one whole name are found by its hash, the others are tried in turn. Invariant: rules
//! apply in the order of the Corefile, each at most once, and to the question that earlier rules
//! have made.

use std::slice;
use std::sync::Arc;

use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use wire::header::{CLASS_IN, TYPE_ANY};
use wire::name::Name;
use wire::query::Query;
use wire::text::{NameText, PlainName};

use super::cname::{CnamePursuit, CnameRule};
use super::edns::{EdnsRule, OptionCodes};
use super::matcher::{Matcher, Search};
use super::replacement::{LabelSource, Replacement};
use super::{AnswerPart, Field, Mode, NameMatch, NameRule, Rewrite};
use crate::corefile::value::zone::Zone;
use crate::limits::REWRITES_MAX;
use crate::plugin::draft::BlockDraft;
use crate::plugin::exchange::{AskedQuestion, Exchange, NameTexts, Trail};
use crate::plugin::gate::{CnameTarget, Passage};
use crate::plugin::metadata::QueryLabels;
use crate::plugin::pattern::Pattern;
use crate::plugin::pursuit::Pursuit;

/// The rules of a block.
#[derive(Debug)]
pub struct Rules {
    pub(super) rules: Box<[ReadyRule]>,
    /// By name in wire format: the rules about exactly this name, in their order.
    exact: HashMap<Box<[u8]>, Vec<u16>, RandomState>,
    /// The other rules, in their order.
    open: Box<[u16]>,
    /// Of the block's `metadata`.
    pub(super) labels: Option<QueryLabels>,
    has_edns: bool,
    reads_peer: bool,
    /// By rule: which queries of the fast path it may be about.
    scopes: Box<[RuleScope]>,
}

/// The queries of the fast path that a rule may match, and that then get another response.
#[derive(Debug)]
enum RuleScope {
    None,
    /// Those for names of this zone.
    Zone(Zone),
    All,
}

/// What is known about the query while rules apply.
struct MatchState<'r> {
    /// The texts have the question's name.
    has_text: bool,
    /// Of the query's options, if there are rules about them.
    codes: OptionCodes,
    /// Of the block's `metadata`.
    labels: Option<&'r QueryLabels>,
}

#[derive(Debug)]
pub(super) struct ReadyRule {
    mode: Mode,
    pub(super) action: RuleAction,
}

/// A `Field`, made ready.
#[derive(Debug)]
pub(super) enum RuleAction {
    Name(ReadyName),
    Type { from: u16, to: u16 },
    Class { from: u16, to: u16 },
    Ttl { names: Matcher, min_secs: u32, max_secs: u32 },
    Rcode { names: Matcher, from: u16, to: u16 },
    Cname(CnameRule),
    Edns(EdnsRule),
}

/// A `NameRule`, made ready.
#[derive(Debug)]
pub(super) struct ReadyName {
    pub(super) from: Matcher,
    pub(super) to: Replacement,
    /// `to` in wire format, if it is the same for all names.
    to_wire: Option<Box<[u8]>>,
    /// What happens to names in the response, in the order of the rule.
    pub(super) back: Box<[Back]>,
}

/// How names of a response change back.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) part: AnswerPart,
    pub(super) how: BackHow,
}

#[derive(Debug)]
pub(super) enum BackHow {
    /// The name that the rule asked for becomes the one before, and names below it follow.
    Remap,
    Suffix {
        from: Box<[u8]>,
        to: Box<[u8]>,
    },
    Search(Box<Search>, Replacement),
}

/// What a rule did to a query.
enum Outcome {
    Ignored,
    Done,
    /// The question is another name now.
    Renamed,
    /// What it made of the name is no name.
    Invalid,
}

impl Rules {
    pub(super) fn new(
        rewrite: &Rewrite,
        labels: Option<QueryLabels>,
        block: &mut BlockDraft,
    ) -> Self {
        let mut exact: HashMap<Box<[u8]>, Vec<u16>, RandomState> = HashMap::default();
        let mut open = Vec::new();
        let mut rules = Vec::with_capacity(rewrite.rules.len());
        for (index, rule) in rewrite.rules.iter().enumerate() {
            let index = index as u16;
            match rule.field.exact_name() {
                Some(text) => {
                    // In CoreDNS too, a name that is spelled differently never matches.
                    if let Some(name) = to_wire(text).filter(|name| shown(name) == text) {
                        exact.entry(name).or_default().push(index);
                    }
                }
                None => open.push(index),
            }
            rules.push(ReadyRule { mode: rule.mode, action: RuleAction::new(&rule.field, block) });
        }
        let may_pursue = rules.iter().any(|rule| matches!(rule.action, RuleAction::Cname(_)));
        let edns = |rule: &ReadyRule| match &rule.action {
            RuleAction::Edns(rule) => Some(rule.reads_peer()),
            RuleAction::Name(_)
            | RuleAction::Type { .. }
            | RuleAction::Class { .. }
            | RuleAction::Ttl { .. }
            | RuleAction::Rcode { .. }
            | RuleAction::Cname(_) => None,
        };
        Self {
            has_edns: rules.iter().any(|rule| edns(rule).is_some()),
            reads_peer: may_pursue || rules.iter().filter_map(edns).any(|reads_peer| reads_peer),
            labels,
            scopes: rewrite.rules.iter().map(|rule| rule.field.scope()).collect(),
            rules: rules.into(),
            exact,
            open: open.into(),
        }
    }

    /// Changes the question.
    pub(in crate::plugin) fn pass(
        &self,
        exchange: &mut Exchange<'_>,
        message: &mut [u8],
    ) -> Passage {
        let mut queue = Queue { exact: self.exact_at(exchange.name), open: &self.open };
        let mut state = MatchState {
            has_text: false,
            codes: OptionCodes::default(),
            labels: self.labels.as_ref(),
        };
        if self.has_edns {
            let query = message.get(..exchange.arrival.len).unwrap_or_default();
            state.codes = OptionCodes::of(query, exchange.trail.upstream_options.as_deref());
        }
        while let Some(index) = queue.next() {
            let Some(rule) = self.rules.get(usize::from(index)) else { break };
            let outcome = rule.action.apply(exchange, message, &mut state);
            match outcome {
                Outcome::Ignored => continue,
                Outcome::Done => {}
                Outcome::Renamed => {
                    state.has_text = false;
                    queue.exact = behind(self.exact_at(exchange.name), index);
                }
                Outcome::Invalid => {
                    let name = String::from_utf8_lossy(exchange.texts.other.bytes());
                    return fail(exchange, format!("invalid name after rewrite: {name}"));
                }
            }
            if !exchange.trail.rewrites.push(index) {
                return fail(exchange, format!("more than {REWRITES_MAX} rules of rewrite match"));
            }
            match rule.mode {
                Mode::Continue => {}
                Mode::Stop => break,
            }
        }
        Passage::Pass
    }

    /// Whether a rule may match a query that the fast path answers from a table of these zones.
    pub(in crate::plugin) fn meets(&self, zones: &[Zone]) -> bool {
        self.scopes.iter().any(|scope| match scope {
            RuleScope::None => false,
            RuleScope::Zone(zone) => Zone::any_meet(slice::from_ref(zone), zones),
            RuleScope::All => true,
        })
    }

    /// Whether a rule changes a question of class IN, or the CNAMEs of its response.
    pub(in crate::plugin) fn changes(&self, target: CnameTarget<'_>) -> bool {
        let exact = self.exact_at(target.name).iter();
        exact.chain(&self.open).any(|index| {
            let Some(rule) = self.rules.get(usize::from(*index)) else { return false };
            match &rule.action {
                RuleAction::Name(rule) => rule.from.may_match(target.text, target.patterns),
                RuleAction::Type { from, .. } => *from == target.qtype,
                RuleAction::Class { from, .. } => *from == CLASS_IN,
                RuleAction::Cname(_) => true,
                RuleAction::Ttl { .. } | RuleAction::Rcode { .. } | RuleAction::Edns(_) => false,
            }
        })
    }

    /// Whether a rule reads the client's address, or may start a pursuit, which keeps it.
    #[must_use]
    pub fn reads_peer(&self) -> bool {
        self.reads_peer
    }

    /// Whether the CNAMEs of the response are looked at.
    pub(crate) fn follows_cnames(&self, trail: &Trail) -> bool {
        self.cnames(trail.rewrites.indices()).next().is_some()
    }

    /// Asks what `exchange` asks, and looks at the CNAMEs of the answer. `by`: the pursuit that
    /// another plugin has for the answer.
    pub(crate) fn cname_pursuit(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        by: Option<Box<Pursuit>>,
    ) -> Box<Pursuit> {
        let matched = exchange.trail.rewrites.indices();
        let question = (exchange.name.bytes(), exchange.query.qtype);
        let pursuit = CnamePursuit::new(Arc::clone(self), matched, question, by);
        Box::new(Pursuit::Cname(pursuit))
    }

    /// The rules about CNAMEs out of these, last first.
    pub(super) fn cnames(&self, indices: &[u16]) -> impl Iterator<Item = &CnameRule> {
        self.backwards(indices).filter_map(|action| match action {
            RuleAction::Cname(rule) => Some(rule),
            RuleAction::Name(_)
            | RuleAction::Type { .. }
            | RuleAction::Class { .. }
            | RuleAction::Ttl { .. }
            | RuleAction::Rcode { .. }
            | RuleAction::Edns(_) => None,
        })
    }

    /// The rules with these indices, last first.
    pub(super) fn backwards(&self, indices: &[u16]) -> impl Iterator<Item = &RuleAction> {
        let rules = indices.iter().rev().filter_map(|index| self.rules.get(usize::from(*index)));
        rules.map(|rule| &rule.action)
    }

    /// The rules about exactly this name.
    fn exact_at(&self, name: &Name) -> &[u16] {
        if self.exact.is_empty() {
            return &[];
        }
        self.exact.get(name.bytes()).map_or(&[], Vec::as_slice)
    }
}

/// The response has the client's question, and no rule changes it.
#[cold]
fn fail(exchange: &mut Exchange<'_>, problem: String) -> Passage {
    exchange.trail.rewrites.clear();
    exchange.trail.problem = Some(problem.into());
    Passage::Fail
}

/// The indices of rules that may match, lowest first.
struct Queue<'r> {
    exact: &'r [u16],
    open: &'r [u16],
}

impl Queue<'_> {
    fn next(&mut self) -> Option<u16> {
        let list = match (self.exact.first(), self.open.first()) {
            (Some(exact), Some(open)) if open < exact => &mut self.open,
            (Some(_), _) => &mut self.exact,
            (None, _) => &mut self.open,
        };
        let (first, rest) = list.split_first()?;
        *list = rest;
        Some(*first)
    }
}

/// The indices above `index`.
fn behind(list: &[u16], index: u16) -> &[u16] {
    let count = list.iter().take_while(|other| **other <= index).count();
    list.get(count..).unwrap_or_default()
}

impl RuleAction {
    fn new(field: &Field, block: &mut BlockDraft) -> Self {
        match field {
            Field::Name(rule) => Self::Name(ReadyName::new(rule, block)),
            Field::Type { from, to } => Self::Type { from: *from, to: *to },
            Field::Class { from, to } => Self::Class { from: *from, to: *to },
            Field::Ttl { names, min_secs, max_secs } => Self::Ttl {
                names: Matcher::new(names, block),
                min_secs: *min_secs,
                max_secs: *max_secs,
            },
            Field::Rcode { names, from, to } => {
                Self::Rcode { names: Matcher::new(names, block), from: *from, to: *to }
            }
            Field::Cname(rule) => Self::Cname(rule.clone()),
            Field::Edns(rule) => Self::Edns(rule.clone()),
        }
    }

    fn apply(
        &self,
        exchange: &mut Exchange<'_>,
        message: &mut [u8],
        state: &mut MatchState<'_>,
    ) -> Outcome {
        let Query { qtype, qclass, .. } = exchange.query;
        match self {
            Self::Name(rule) => rule.apply(exchange, message, state),
            Self::Type { from, to } if *from == qtype => ask(exchange, *to, qclass, message),
            Self::Class { from, to } if *from == qclass => ask(exchange, qtype, *to, message),
            Self::Type { .. } | Self::Class { .. } => Outcome::Ignored,
            // It is about the response, so it matches every query.
            Self::Cname(_) => Outcome::Done,
            Self::Edns(rule) => {
                let name = client_name(exchange);
                let labels = LabelSource { labels: state.labels, name: Some(&name) };
                if rule.matches(&mut state.codes, labels) {
                    Outcome::Done
                } else {
                    Outcome::Ignored
                }
            }
            Self::Ttl { names, .. } | Self::Rcode { names, .. } => {
                let is_match = match names {
                    // It was found by the name.
                    Matcher::Exact(_) => true,
                    Matcher::Prefix(_)
                    | Matcher::Suffix(_)
                    | Matcher::Substring(_)
                    | Matcher::Regex(_) => {
                        let (text, patterns) = text(exchange, &mut state.has_text);
                        names.matches(text, patterns)
                    }
                };
                if is_match { Outcome::Done } else { Outcome::Ignored }
            }
        }
    }
}

/// The client's name.
fn client_name(exchange: &Exchange<'_>) -> Name {
    let asked = exchange.trail.asked.as_ref().and_then(AskedQuestion::name);
    asked.unwrap_or_else(|| exchange.name.clone())
}

/// Asks the same name with another type or class.
fn ask(exchange: &mut Exchange<'_>, qtype: u16, qclass: u16, message: &mut [u8]) -> Outcome {
    let name = exchange.name.clone();
    exchange.ask_instead(name.bytes(), qtype, qclass, message);
    Outcome::Done
}

/// The question's name as text, written once per name, and the patterns to search it with.
fn text<'e>(exchange: &'e mut Exchange<'_>, has_text: &mut bool) -> (&'e [u8], &'e mut [Pattern]) {
    let Exchange { name, texts, patterns, .. } = exchange;
    if !*has_text {
        texts.name.set_name(name.bytes());
        *has_text = true;
    }
    (texts.name.bytes(), patterns)
}

impl ReadyName {
    fn new(rule: &NameRule, block: &mut BlockDraft) -> Self {
        let to_wire = match (&rule.from, rule.to.as_text()) {
            (NameMatch::Exact(_), Some(to)) => to_wire(to),
            _ => None,
        };
        let from = Matcher::new(&rule.from, block);
        let parts = [AnswerPart::Owner, AnswerPart::Value];
        let mut back: Vec<Back> = Vec::new();
        if rule.is_auto {
            back.extend(parts.map(|part| Back { part, how: BackHow::of_auto(rule) }));
        }
        back.extend(rule.answers.iter().map(|answer| {
            let search = Box::new(Search::new(&answer.from, block));
            Back { part: answer.part, how: BackHow::Search(search, answer.to.clone()) }
        }));
        Self { from, to: rule.to.clone(), to_wire, back: back.into() }
    }

    fn apply(
        &self,
        exchange: &mut Exchange<'_>,
        message: &mut [u8],
        state: &mut MatchState<'_>,
    ) -> Outcome {
        let Query { qtype, qclass, .. } = exchange.query;
        if let Some(to) = &self.to_wire {
            exchange.ask_instead(to, qtype, qclass, message);
            return Outcome::Renamed;
        }
        text(exchange, &mut state.has_text);
        let client = (self.to.has_labels()).then(|| client_name(exchange));
        let labels = LabelSource { labels: state.labels, name: client.as_ref() };
        let Exchange { texts, patterns, .. } = exchange;
        let NameTexts { name, other, plain } = &mut **texts;
        if !self.from.replace(&self.to, labels, name.bytes(), patterns, other) {
            return Outcome::Ignored;
        }
        if !other.read_into(plain) {
            return Outcome::Invalid;
        }
        let plain = plain.clone();
        exchange.ask_instead(plain.bytes(), qtype, qclass, message);
        Outcome::Renamed
    }
}

impl BackHow {
    /// `answer auto`. A suffix changes back wherever it occurs.
    fn of_auto(rule: &NameRule) -> Self {
        match (&rule.from, rule.to.as_text()) {
            (NameMatch::Suffix(suffix), Some(to)) => {
                Self::Suffix { from: to.as_bytes().into(), to: suffix.as_bytes().into() }
            }
            _ => Self::Remap,
        }
    }
}

impl Field {
    fn scope(&self) -> RuleScope {
        let names = match self {
            // The fast path answers neither ANY nor classes other than IN.
            Self::Type { from: TYPE_ANY, .. } => return RuleScope::None,
            Self::Class { from, .. } if *from != CLASS_IN => return RuleScope::None,
            Self::Type { .. } | Self::Class { .. } | Self::Cname(_) => return RuleScope::All,
            // Only queries to upstreams have options.
            Self::Edns(_) => return RuleScope::None,
            Self::Name(rule) => &rule.from,
            Self::Ttl { names, .. } | Self::Rcode { names, .. } => names,
        };
        let zone = match names {
            NameMatch::Exact(name) => Some(name.as_str()),
            // Without a dot before it, it ends names of other zones too.
            NameMatch::Suffix(suffix) => suffix.strip_prefix('.').filter(|zone| !zone.is_empty()),
            NameMatch::Prefix(_) | NameMatch::Substring(_) | NameMatch::Regex(_) => None,
        };
        zone.and_then(|zone| Zone::from_name(zone).ok()).map_or(RuleScope::All, RuleScope::Zone)
    }

    /// The name that the rule matches, if it is one whole name.
    fn exact_name(&self) -> Option<&str> {
        let names = match self {
            Self::Name(rule) => &rule.from,
            Self::Ttl { names, .. } | Self::Rcode { names, .. } => names,
            Self::Type { .. } | Self::Class { .. } | Self::Cname(_) | Self::Edns(_) => return None,
        };
        match names {
            NameMatch::Exact(name) => Some(name),
            NameMatch::Prefix(_)
            | NameMatch::Suffix(_)
            | NameMatch::Substring(_)
            | NameMatch::Regex(_) => None,
        }
    }
}

fn to_wire(text: &str) -> Option<Box<[u8]>> {
    let (mut read, mut name) = (NameText::default(), PlainName::default());
    read.push(text.as_bytes());
    read.read_into(&mut name).then(|| name.bytes().into())
}

fn shown(name: &[u8]) -> String {
    let mut text = NameText::default();
    text.set_name(name);
    String::from_utf8_lossy(text.bytes()).into_owned()
}
