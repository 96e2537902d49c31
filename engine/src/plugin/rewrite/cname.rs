//! `rewrite cname`: a CNAME of the response leads to another name, which is looked up anew.
//!
//! The look-up is a pursuit: the query is answered first, maybe by the pursuit of another plugin,
//! and if its answer has a CNAME that a rule matches, this server is asked for the new target.
//! Invariant: of an answer, one CNAME is changed, the first that a rule matches.

use std::sync::Arc;

use domain::base::iana::{Class, Rcode};
use domain::base::name::Name;
use domain::base::{Message, Question, Rtype, ToName, Ttl};
use domain::rdata::Cname;
use wire::text::{NameText, PlainName};

use super::rules::Rules;
use super::{NameMatch, Replacement};
use crate::metrics::answerer::Answerer;
use crate::plugin::joined::Joined;
use crate::plugin::pursuit::{Found, InsideQuestion, Pursuit, Scope, Step};

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
    /// The first answer, or what the pursuit of another plugin needs for it.
    AsksForAnswer(Option<Box<Pursuit>>),
    /// `answer`: the first.
    AsksForTarget { answer: Found, change: CnameChange },
}

/// A CNAME's place in the answer, and its new target in wire format.
#[derive(Debug)]
struct CnameChange {
    index: usize,
    target: Vec<u8>,
}

impl CnamePursuit {
    /// `by`: the pursuit that another plugin has for the answer.
    #[must_use]
    pub(super) fn new(
        rules: Arc<Rules>,
        matched: &[u16],
        (name, qtype): (&[u8], u16),
        by: Option<Box<Pursuit>>,
    ) -> Self {
        let state = CnameState::AsksForAnswer(by);
        Self { rules, matched: matched.into(), name: name.into(), qtype, state }
    }

    pub(in crate::plugin) fn next(&mut self, last: Option<Box<[u8]>>) -> Step {
        match std::mem::replace(&mut self.state, CnameState::AsksForAnswer(None)) {
            CnameState::AsksForAnswer(Some(mut pursuit)) => match pursuit.next(last) {
                Step::Ask(question) => {
                    self.state = CnameState::AsksForAnswer(Some(pursuit));
                    Step::Ask(question)
                }
                Step::Wait(delay) => {
                    self.state = CnameState::AsksForAnswer(Some(pursuit));
                    Step::Wait(delay)
                }
                Step::Respond(found) => self.follow(self.whole(found)),
            },
            CnameState::AsksForAnswer(None) => match last {
                None => self.ask(self.name.clone(), Scope::Behind),
                // CoreDNS counts the plugin that answers the client's query.
                Some(message) => {
                    let by = const { Answerer::plugin("forward") };
                    self.follow(Found::new(message, by))
                }
            },
            CnameState::AsksForTarget { answer, change } => {
                let joined = joined(&answer.message, &change, &last.unwrap_or_default());
                let message = joined.unwrap_or_else(|| answer.message.clone());
                Step::Respond(Found { message, ..answer })
            }
        }
    }

    /// Asks for the new target, if there is one.
    fn follow(&mut self, answer: Found) -> Step {
        match self.change(&answer.message) {
            Some(change) => {
                let step = self.ask(change.target.as_slice().into(), Scope::Server);
                self.state = CnameState::AsksForTarget { answer, change };
                step
            }
            None => Step::Respond(answer),
        }
    }

    /// The same answer with all its CNAMEs in the message.
    fn whole(&self, found: Found) -> Found {
        let Some(ttl_secs) = found.cname_ttl_secs else { return found };
        match with_first_cname(&self.name, ttl_secs, &found.message) {
            Some(message) => Found { message, cname_ttl_secs: None, ..found },
            None => found,
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

/// A message whose question is the target of a CNAME of `name`, with that CNAME in it. `None` if it
/// cannot be read.
fn with_first_cname(name: &[u8], ttl_secs: u32, message: &[u8]) -> Option<Box<[u8]>> {
    let message = Message::from_octets(message).ok()?;
    let (question, name) = (message.first_question()?, Name::from_octets(name).ok()?);
    let own = Question::new_in(&name, question.qtype());
    let mut answer = Joined::begin(&own, |header| *header = message.header())?;
    let cname = Cname::new(question.qname());
    answer.push((&name, Class::IN, Ttl::from_secs(ttl_secs), cname));
    answer.copy(message.answer().ok()?, |_| true)?;
    answer.finish_with(&message, |_| true)
}

/// The CNAMEs of the answer up to the one that changes, then what was found for its new target.
/// The code and the SOA of a negative answer are about the old target, so they are left out.
/// `None` if a message cannot be read.
fn joined(answer: &[u8], change: &CnameChange, found: &[u8]) -> Option<Box<[u8]>> {
    let old = Message::from_octets(answer).ok()?;
    let found = Message::from_octets(found).ok()?;
    let mut answer = Joined::begin(&old.first_question()?, |header| {
        *header = old.header();
        header.set_tc(found.header().tc());
        header.set_rcode(Rcode::NOERROR);
    })?;
    for (index, record) in old.answer().ok()?.take(change.index + 1).enumerate() {
        let record = record.ok()?;
        let (owner, class, ttl) = (record.owner(), record.class(), record.ttl());
        let Some(cname) = record.to_record::<Cname<_>>().ok()? else { continue };
        if index == change.index {
            let target = Name::from_octets(change.target.as_slice()).ok()?;
            answer.push((owner, class, ttl, Cname::new(target)));
        } else {
            answer.push(cname);
        }
    }
    answer.copy(found.answer().ok()?, |_| true)?;
    answer.finish_with(&old, |rtype| rtype != Rtype::SOA)
}
