//! `rewrite cname`: a CNAME of the response leads to another name, which is looked up anew.
//!
//! The look-up is a pursuit: the query is answered first, and if its answer has a CNAME that a
//! rule matches, this server is asked for the new target. Invariant: of an answer, one CNAME is
//! changed, the first that a rule matches.

use std::sync::Arc;

use domain::base::name::Name;
use domain::base::{Message, MessageBuilder, Rtype, StaticCompressor, ToName};
use domain::rdata::{AllRecordData, Cname};
use wire::text::{NameText, PlainName};

use super::rules::Rules;
use super::{NameMatch, Replacement};
use crate::metrics::answerer::Answerer;
use crate::plugin::pursuit::{Found, InsideQuestion, Scope, Step};

/// `cname [TYPE] FROM TO`.
#[derive(Clone, Debug, PartialEq)]
pub struct CnameRule {
    /// The target, in the case in which it was received.
    pub from: NameMatch,
    pub to: Replacement,
}

impl CnameRule {
    /// The new target, in wire format; `None` if the rule does not match this one, or if the new
    /// one is not a name.
    fn changed(&self, target: &str) -> Option<Vec<u8>> {
        let to = self.to.as_text().unwrap_or_default();
        let text = match &self.from {
            NameMatch::Exact(from) => (target == from).then(|| to.to_owned())?,
            NameMatch::Prefix(from) => format!("{to}{}", target.strip_prefix(from)?),
            NameMatch::Suffix(from) => format!("{}{to}", target.strip_suffix(from)?),
            NameMatch::Substring(from) => {
                target.contains(from).then(|| target.replace(from, to))?
            }
            NameMatch::Regex(from) => self.to.expanded(&from.regex().captures(target.as_bytes())?),
        };
        let (mut read, mut name) = (NameText::default(), PlainName::default());
        read.push(text.as_bytes());
        read.read_into(&mut name).then(|| name.bytes().to_vec())
    }
}

/// One query whose answer may have a CNAME.
#[derive(Debug)]
pub struct CnamePursuit {
    rules: Arc<Rules>,
    /// Those that matched the query, by index.
    matched: Box<[u16]>,
    name: Box<[u8]>,
    qtype: u16,
    state: CnameState,
}

/// What has been asked.
#[derive(Debug)]
enum CnameState {
    Begins,
    AsksForAnswer,
    AsksForTarget { answer: Box<[u8]>, change: CnameChange },
}

/// A CNAME's place in the answer, and its new target in wire format.
#[derive(Debug)]
struct CnameChange {
    index: usize,
    target: Vec<u8>,
}

impl CnamePursuit {
    #[must_use]
    pub(super) fn new(rules: Arc<Rules>, matched: &[u16], name: &[u8], qtype: u16) -> Self {
        Self { rules, matched: matched.into(), name: name.into(), qtype, state: CnameState::Begins }
    }

    pub(in crate::plugin) fn next(&mut self, last: Option<Box<[u8]>>) -> Step {
        let last = last.unwrap_or_default();
        match std::mem::replace(&mut self.state, CnameState::AsksForAnswer) {
            CnameState::Begins => self.ask(self.name.clone(), Scope::Behind),
            CnameState::AsksForAnswer => match self.change(&last) {
                Some(change) => {
                    let step = self.ask(change.target.as_slice().into(), Scope::Server);
                    self.state = CnameState::AsksForTarget { answer: last, change };
                    step
                }
                None => found(last),
            },
            CnameState::AsksForTarget { answer, change } => {
                found(joined(&answer, &change, &last).unwrap_or(answer))
            }
        }
    }

    fn ask(&self, name: Box<[u8]>, scope: Scope) -> Step {
        Step::Ask(InsideQuestion { name, qtype: self.qtype, scope })
    }

    /// The first CNAME of an answer that a rule matches.
    fn change(&self, answer: &[u8]) -> Option<CnameChange> {
        let message = Message::from_octets(answer).ok()?;
        let mut records = message.answer().ok()?.enumerate();
        records.find_map(|(index, record)| {
            let record = record.ok()?.into_record::<Cname<_>>().ok()??;
            let name: Name<Vec<u8>> = record.data().cname().try_to_name().ok()?;
            let mut text = NameText::default();
            text.set_name(name.as_slice());
            let text = String::from_utf8_lossy(text.bytes()).into_owned();
            let mut rules = self.rules.cnames(&self.matched);
            let target = rules.find_map(|rule| rule.changed(&text))?;
            Some(CnameChange { index, target })
        })
    }
}

fn found(message: Box<[u8]>) -> Step {
    // CoreDNS counts the plugin that answers the client's query.
    let by = const { Answerer::plugin("forward") };
    Step::Respond(Found { message, cnames: None, by, counts: None })
}

/// The CNAMEs of the answer up to the one that changes, then what was found for its new target.
/// `None` if a message cannot be read.
fn joined(answer: &[u8], change: &CnameChange, found: &[u8]) -> Option<Box<[u8]>> {
    let answer = Message::from_octets(answer).ok()?;
    let found = Message::from_octets(found).ok()?;
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).ok()?;
    *builder.header_mut() = answer.header();
    builder.header_mut().set_tc(found.header().tc());
    let mut builder = builder.question();
    builder.push(answer.first_question()?).ok()?;
    let mut builder = builder.answer();
    for record in answer.answer().ok()?.take(change.index + 1).enumerate() {
        let (index, Ok(record)) = record else { return None };
        let (owner, class, ttl) = (record.owner(), record.class(), record.ttl());
        let Some(cname) = record.to_record::<Cname<_>>().ok()? else { continue };
        if index == change.index {
            let target = Name::from_octets(change.target.as_slice()).ok()?;
            builder.push((owner, class, ttl, Cname::new(target))).ok()?;
        } else {
            builder.push(cname).ok()?;
        }
    }
    for record in found.answer().ok()?.limit_to::<AllRecordData<_, _>>() {
        builder.push(record.ok()?).ok()?;
    }
    let mut builder = builder.authority();
    for record in answer.authority().ok()?.limit_to::<AllRecordData<_, _>>() {
        builder.push(record.ok()?).ok()?;
    }
    let mut builder = builder.additional();
    for record in answer.additional().ok()?.limit_to::<AllRecordData<_, _>>() {
        let record = record.ok()?;
        if record.rtype() != Rtype::OPT {
            builder.push(record).ok()?;
        }
    }
    Some(builder.finish().into_target().into())
}
