//! The CNAMEs of a template or a table whose targets this server looks up as a client would: other
//! plugins may answer or change the question. What it finds is added.
//!
//! Invariant: a pursuit asks for each target once.

use std::collections::{HashMap, HashSet, VecDeque};

use domain::base::iana::Rcode;
use domain::base::{Message, Rtype, ToName};
use domain::rdata::Cname;
use wire::edit::EdnsOption;
use wire::header::{HEADER_LEN, QR, TYPE_A, TYPE_AAAA};
use wire::name::Name;
use wire::reply::MadeRecords;

use super::exchange::Exchange;
use super::joined::Joined;
use super::pursuit::{Found, InsideQuestion, Scope, Step};
use crate::metrics::answerer::Answerer;

/// One query whose answer has CNAMEs.
#[derive(Debug)]
pub struct TargetPursuit {
    /// The response with the CNAMEs.
    own: Box<[u8]>,
    qtype: u16,
    /// The plugin that has them.
    by: Answerer,
    /// As an option.
    extended_error: Option<Box<[u8]>>,
    /// Names that have not been looked up.
    targets: VecDeque<Box<[u8]>>,
    /// The responses for the others.
    found: Vec<Box<[u8]>>,
}

impl TargetPursuit {
    /// Of CNAMEs in a table. `own`: the response with them.
    pub(crate) fn of_table(own: &[u8], target: &Name, qtype: u16, by: Answerer) -> Self {
        let targets = VecDeque::from([target.bytes().into()]);
        Self { own: own.into(), qtype, by, extended_error: None, targets, found: Vec::new() }
    }

    /// Of a template. `None` if there is nothing to look up: as in CoreDNS, only queries for
    /// addresses follow its CNAMEs. `message` holds the query.
    pub(super) fn of_template(
        by: Answerer,
        records: MadeRecords<'_>,
        rcode: wire::header::Rcode,
        extended_error: Option<EdnsOption<'_>>,
        exchange: &Exchange<'_>,
        message: &[u8],
    ) -> Option<Self> {
        let qtype = exchange.query.qtype;
        if !matches!(qtype, TYPE_A | TYPE_AAAA) {
            return None;
        }
        let question_end = HEADER_LEN + exchange.query.question_len();
        let mut own = Vec::with_capacity(question_end + records.bytes.len());
        own.extend_from_slice(message.get(..2)?);
        own.extend_from_slice(&(QR | rcode as u16).to_be_bytes());
        own.extend_from_slice(&1u16.to_be_bytes());
        for count in records.counts {
            own.extend_from_slice(&count.to_be_bytes());
        }
        own.extend_from_slice(message.get(HEADER_LEN..question_end)?);
        own.extend_from_slice(records.bytes);
        let parsed = Message::from_octets(own.as_slice()).ok()?;
        let cnames = parsed.answer().ok()?.limit_to::<Cname<_>>().filter_map(Result::ok);
        let targets = cnames.map(|record| {
            let target = record.data().cname().to_name::<Vec<u8>>();
            Box::from(target.into_octets())
        });
        // A circle ends where it began.
        let mut targets: VecDeque<Box<[u8]>> = targets.collect();
        targets.retain(|target| **target != *exchange.name.bytes());
        let own = own.into();
        let extended_error = extended_error.map(|option| {
            let head = [option.code, option.data.len() as u16].map(u16::to_be_bytes);
            [head.as_flattened(), option.data].concat().into()
        });
        let found = Vec::new();
        (!targets.is_empty()).then_some(Self { own, qtype, by, extended_error, targets, found })
    }

    pub(in crate::plugin) fn next(&mut self, last: Option<Box<[u8]>>) -> Step {
        self.found.extend(last);
        match self.targets.pop_front() {
            Some(name) => {
                Step::Ask(InsideQuestion { name, qtype: self.qtype, scope: Scope::Server })
            }
            None => {
                let message = self.joined().unwrap_or_else(|| self.own.clone());
                let options = self.extended_error.take().unwrap_or_default();
                Step::Respond(Found { options, ..Found::new(message, self.by) })
            }
        }
    }

    /// The plugin's records and those of the targets in one response. The response code, and the
    /// SOA of a negative response, are those of the target (RFC 6604), unless the plugin has a
    /// code. CNAMEs that lead in a circle have no target, so that is no error.
    fn joined(&self) -> Option<Box<[u8]>> {
        let own = Message::from_octets(&*self.own).ok()?;
        let found: Vec<_> =
            self.found.iter().filter_map(|found| Message::from_octets(&**found).ok()).collect();
        let all: Vec<_> = std::iter::once(&own).chain(&found).collect();
        let rcode = match own.header().rcode() {
            Rcode::NOERROR if is_circle(&own, &all) => Rcode::NOERROR,
            Rcode::NOERROR => found.last().map_or(Rcode::NOERROR, |found| found.header().rcode()),
            rcode => rcode,
        };
        let mut answer = Joined::begin(&own.first_question()?, |header| {
            header.set_qr(true);
            header.set_aa(true);
            header.set_rcode(rcode);
            header.set_tc(found.iter().any(|found| found.header().tc()));
        })?;
        answer.copy_answers(&all)?;
        let mut authority = answer.authority();
        let denial = found.last().filter(|found| found.header_counts().ancount() == 0);
        for message in std::iter::once(&own).chain(denial) {
            authority.copy(message.authority().ok()?, |_| true)?;
        }
        let mut additional = authority.additional();
        additional.copy(own.additional().ok()?, |rtype| rtype != Rtype::OPT)?;
        Some(additional.finish())
    }
}

/// Whether the CNAMEs of these answers lead from the question of `own` back to a name that they
/// come from.
fn is_circle(own: &Message<&[u8]>, all: &[&Message<&[u8]>]) -> bool {
    let answers = all.iter().filter_map(|message| message.answer().ok());
    let cnames = answers.flat_map(|answer| answer.limit_to::<Cname<_>>()).filter_map(Result::ok);
    let lower = |name: &dyn std::fmt::Display| name.to_string().to_ascii_lowercase();
    let mut targets: HashMap<String, String> =
        cnames.map(|cname| (lower(cname.owner()), lower(cname.data().cname()))).collect();
    let Some(question) = own.first_question() else { return false };
    let mut name = lower(question.qname());
    let mut owners = HashSet::new();
    while let Some(target) = targets.remove(&name) {
        owners.insert(name);
        name = target;
    }
    owners.contains(&name)
}
