//! A template that is ready for queries.
//!
//! Invariant: a response of constant records is written without allocating. One that is made for
//! its query allocates, within the bounds of `program`.

use std::sync::Arc;

use domain::base::iana::Rtype;
use regex::bytes::CaptureLocations;
use wire::edit::{self, EdnsOption, OPTION_EDE};
use wire::header::{CLASS_IN, HEADER_LEN, Rcode, TYPE_ANY};
use wire::reply::{self, MadeRecords};
use wire::zone::ZoneSet;

use super::counters::{FailureSort, TemplateCounters};
use super::program::{EvalError, TemplateFacts};
use super::record::{RecordOutcome, RecordTemplate, compile};
use super::{CLASS_ANY, ExtendedError, Template, class_name};
use crate::corefile::value::zone::Zone;
use crate::metrics::answerer::Answerer;
use crate::plugin::ServerBlock;
use crate::plugin::draft::BlockDraft;
use crate::plugin::exchange::Exchange;
use crate::plugin::gate::{CnameTarget, Passage};
use crate::plugin::go_regex::GoRegex;
use crate::plugin::metadata::QueryLabels;
use crate::plugin::pattern::PatternSlot;
use crate::plugin::pursuit::Pursuit;
use crate::plugin::targets::TargetPursuit;

/// One `template` block.
#[derive(Debug)]
pub struct TemplateRule {
    template: Arc<Template>,
    zones: ZoneSet,
    /// As `Template::patterns`.
    patterns: Vec<PatternSlot>,
    fallthrough: ZoneSet,
    /// Of a template whose records are all constant: in wire format, by section.
    constant: Option<ConstantRecords>,
    /// It may make CNAMEs, whose targets are looked up.
    may_pursue: bool,
    reads_peer: bool,
    /// Data of the option for an extended error.
    extended_error: Option<Vec<u8>>,
    counters: TemplateCounters,
    /// The block's.
    labels: Option<QueryLabels>,
}

#[derive(Debug, Default)]
struct ConstantRecords {
    bytes: Vec<u8>,
    counts: [u16; 3],
}

impl TemplateRule {
    /// `draft`: gets the patterns and the counters.
    pub(super) fn new(
        template: &Arc<Template>,
        block: &ServerBlock,
        draft: &mut BlockDraft,
    ) -> Self {
        let patterns =
            template.patterns.iter().map(|pattern| draft.pattern(pattern.regex().clone()));
        let patterns = patterns.collect();
        let programs =
            template.records.iter().flatten().filter_map(|record| match &record.outcome {
                RecordOutcome::Constant(_) => None,
                RecordOutcome::Made(program) => Some(program),
            });
        let may_pursue = template.records[0].iter().any(|record| match &record.outcome {
            RecordOutcome::Constant(record) => record.rtype == Rtype::CNAME,
            RecordOutcome::Made(_) => true,
        });
        Self {
            zones: Zone::set(&template.zones),
            patterns,
            fallthrough: Zone::set(&template.fallthrough),
            constant: constant_records(&template.records),
            reads_peer: may_pursue || programs.clone().any(|program| program.names("Remote")),
            may_pursue,
            extended_error: template.extended_error.as_ref().map(ExtendedError::option_data),
            counters: TemplateCounters::new(template, draft),
            labels: QueryLabels::of(block),
            template: Arc::clone(template),
        }
    }

    /// Whether a name may be both in a zone of the template and in one of these.
    pub(in crate::plugin) fn meets(&self, zones: &[Zone]) -> bool {
        Zone::any_meet(&self.template.zones, zones)
    }

    /// Whether it may answer a question of class IN.
    pub(in crate::plugin) fn takes(&self, target: CnameTarget<'_>) -> bool {
        matches_any(self.template.qclass, CLASS_IN, CLASS_ANY)
            && matches_any(self.template.qtype.to_int(), target.qtype, TYPE_ANY)
            && self.zones.find(target.name).is_some()
    }

    pub(in crate::plugin) const fn reads_peer(&self) -> bool {
        self.reads_peer
    }

    /// Answers if class, type, zone and pattern match.
    pub(in crate::plugin) fn pass(
        &self,
        exchange: &mut Exchange<'_>,
        message: &mut [u8],
    ) -> Passage {
        let (query, template) = (exchange.query, &*self.template);
        if !matches_any(template.qclass, query.qclass, CLASS_ANY)
            || !matches_any(template.qtype.to_int(), query.qtype, TYPE_ANY)
        {
            return Passage::Pass;
        }
        let Some(zone) = self.zones.find(exchange.name) else { return Passage::Pass };
        let name = &mut exchange.texts.name;
        name.set_name(exchange.name.bytes());
        let matched = self.patterns.iter().position(|slot| {
            exchange.patterns.get(slot.0).is_some_and(|pattern| pattern.matches(name.bytes()))
        });
        if matched.is_none() && !self.patterns.is_empty() {
            return match self.fallthrough.find(exchange.name) {
                Some(_) => Passage::Pass,
                None => fail(exchange, message),
            };
        }
        if let Some(slot) = self.counters.of_match(zone.index, query.qclass, query.qtype) {
            exchange.counters.count(slot);
        }
        if template.rcode == Rcode::ServFail {
            return fail(exchange, message);
        }
        if let Some(constant) = &self.constant {
            return self.respond(constant, exchange, message);
        }
        match self.make(Matched { zone: zone.index, pattern: matched }, exchange, message) {
            Ok(made) => self.respond(&made, exchange, message),
            Err(failure) => {
                if let Some(slot) = self.counters.of_failure(failure.record, failure.sort) {
                    exchange.counters.count(slot);
                }
                exchange.trail.problem = Some(failure.problem);
                Passage::Fail
            }
        }
    }

    fn respond(
        &self,
        records: &ConstantRecords,
        exchange: &Exchange<'_>,
        message: &mut [u8],
    ) -> Passage {
        let (query, rcode) = (&exchange.query, self.template.rcode);
        let records = MadeRecords { bytes: &records.bytes, counts: records.counts };
        let extended_error = self.extended_error.as_deref();
        let extended_error = extended_error.map(|data| EdnsOption { code: OPTION_EDE, data });
        if self.may_pursue
            && let Some(pursuit) = TargetPursuit::of_template(
                ANSWERER,
                records,
                rcode,
                extended_error,
                exchange,
                message,
            )
        {
            return Passage::Pursue(Box::new(Pursuit::Targets(pursuit)));
        }
        let envelope = exchange.arrival.envelope(query, 0, exchange.is_changed());
        let mut stamped = reply::stamp_made(query, rcode, records, envelope, message);
        if let Some(option) = extended_error {
            stamped.len = edit::add_option(message, stamped.len, option, envelope.len_max);
        }
        Passage::Answer(stamped, ANSWERER)
    }

    /// Makes the records for a query.
    fn make(
        &self,
        Matched { zone, pattern }: Matched,
        exchange: &mut Exchange<'_>,
        message: &[u8],
    ) -> Result<ConstantRecords, MakeFailure> {
        let (query, template) = (exchange.query, &*self.template);
        let asked_name = message.get(HEADER_LEN..HEADER_LEN + query.name_len);
        exchange.texts.other.set_name(asked_name.unwrap_or_default());
        let [name, asked_name] = [&exchange.texts.name, &exchange.texts.other]
            .map(|text| str::from_utf8(text.bytes()).unwrap_or_default());
        let regex = pattern.and_then(|index| template.patterns.get(index));
        let slot = pattern.and_then(|index| self.patterns.get(index));
        let groups = match slot.and_then(|slot| exchange.patterns.get_mut(slot.0)) {
            None => vec![(None, name)],
            Some(pattern) => {
                let names = regex.map(|regex| regex.regex().capture_names());
                groups(name, pattern.search(name.as_bytes()), names.into_iter().flatten())
            }
        };
        let one = |own: u16, asked: u16, any: u16| if asked == any { own } else { asked };
        let rtype = one(template.qtype.to_int(), query.qtype, TYPE_ANY);
        self.records_for(&TemplateFacts {
            zone: template.zones.get(zone).map_or("", |zone| &zone.text),
            name,
            class: class_name(one(template.qclass, query.qclass, CLASS_ANY)),
            rtype: Rtype::from_int(rtype).to_mnemonic_str().unwrap_or_default(),
            regex: regex.map_or(".*", GoRegex::text),
            groups: &groups,
            peer: exchange.trail.peer.map(|peer| peer.ip()),
            query: Some(&query),
            asked_name,
            id: message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id)),
            labels: self.labels.as_ref().map(|labels| (labels, &*exchange.name)),
        })
    }

    fn records_for(&self, facts: &TemplateFacts<'_>) -> Result<ConstantRecords, MakeFailure> {
        let mut made = ConstantRecords::default();
        let mut made_count = 0;
        for (section, records) in self.template.records.iter().enumerate() {
            for record in records {
                let failure = |sort, why: &str| MakeFailure {
                    record: made_count,
                    sort,
                    problem: format!("template: {}: {why}", record.text).into(),
                };
                let own;
                made.bytes.extend_from_slice(match &record.outcome {
                    RecordOutcome::Constant(record) => &record.bytes,
                    RecordOutcome::Made(program) => {
                        let text = program.run(facts);
                        let text =
                            text.map_err(|EvalError(why)| failure(FailureSort::Template, why))?;
                        own = compile(&text).map_err(|why| failure(FailureSort::Record, &why))?;
                        made_count += 1;
                        &own.bytes
                    }
                });
                made.counts[section] += 1;
            }
        }
        Ok(made)
    }
}

pub(super) const ANSWERER: Answerer = Answerer::plugin("template");

/// What is known about a query that matched: by index.
struct Matched {
    zone: usize,
    /// `None` if there is none to match.
    pattern: Option<usize>,
}

/// Why there are no records.
struct MakeFailure {
    /// By index among those that are made.
    record: usize,
    sort: FailureSort,
    /// For the log.
    problem: Box<str>,
}

/// SERVFAIL. As in CoreDNS, it is counted as the server's.
fn fail(exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
    let stamped = reply::stamp_reject(&exchange.query.reject(Rcode::ServFail), message);
    Passage::Answer(stamped, Answerer::SERVER)
}

impl ExtendedError {
    /// RFC 8914, section 2.
    fn option_data(&self) -> Vec<u8> {
        [&self.code.to_be_bytes(), self.text.as_bytes()].concat()
    }
}

/// The records, if all are constant.
fn constant_records(records: &[Vec<RecordTemplate>; 3]) -> Option<ConstantRecords> {
    let mut constant = ConstantRecords::default();
    for (section, records) in records.iter().enumerate() {
        for record in records {
            match &record.outcome {
                RecordOutcome::Constant(record) => constant.bytes.extend_from_slice(&record.bytes),
                RecordOutcome::Made(_) => return None,
            }
            constant.counts[section] += 1;
        }
    }
    Some(constant)
}

/// Whether a template's class or type and a query's are the same. `any` on either side is.
fn matches_any(own: u16, asked: u16, any: u16) -> bool {
    own == asked || own == any || asked == any
}

/// The text of each group of a match, with its name. A group that took no part is empty.
fn groups<'g>(
    text: &'g str,
    found: Option<&CaptureLocations>,
    names: impl Iterator<Item = Option<&'g str>>,
) -> Vec<(Option<&'g str>, &'g str)> {
    let span = |index| found.and_then(|found| found.get(index));
    let text_of = |index| span(index).and_then(|(start, end)| text.get(start..end));
    names.enumerate().map(|(index, name)| (name, text_of(index).unwrap_or_default())).collect()
}
