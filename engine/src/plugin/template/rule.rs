//! A template that is ready for queries.
//!
//! Invariant: a response of constant records is written without allocating.

use wire::header::{Rcode, TYPE_ANY};

use wire::name::{NAME_LEN_MAX, Name};
use wire::reply::{self, MadeRecords};
use wire::zone::ZoneSet;

use super::record::RecordTemplate;
use super::{CLASS_ANY, Template};
use crate::corefile::value::zone::Zone;
use crate::metrics::answerer::Answerer;
use crate::plugin::draft::BlockDraft;
use crate::plugin::exchange::Exchange;
use crate::plugin::gate::Passage;
use crate::plugin::pattern::PatternSlot;

/// One `template` block.
#[derive(Debug)]
pub struct TemplateRule {
    qclass: u16,
    qtype: u16,
    zones: Vec<Zone>,
    zone_set: ZoneSet,
    /// Empty: every name matches.
    patterns: Vec<PatternSlot>,
    fallthrough: ZoneSet,
    rcode: Rcode,
    records: Records,
}

/// The records of the response.
#[derive(Debug)]
enum Records {
    /// In wire format, in the order of the sections.
    Constant { bytes: Vec<u8>, counts: [u16; 3] },
}

impl TemplateRule {
    /// `block`: gets the patterns.
    pub(super) fn new(template: &Template, block: &mut BlockDraft) -> Self {
        let patterns = template.patterns.iter().map(|pattern| block.pattern(pattern.clone()));
        let mut bytes = Vec::new();
        let counts = [0, 1, 2].map(|section| {
            for RecordTemplate::Constant(record) in &template.records[section] {
                bytes.extend_from_slice(record);
            }
            template.records[section].len() as u16
        });
        Self {
            qclass: template.qclass,
            qtype: template.qtype.to_int(),
            zones: template.zones.clone(),
            zone_set: Zone::set(&template.zones),
            patterns: patterns.collect(),
            fallthrough: Zone::set(&template.fallthrough),
            rcode: template.rcode,
            records: Records::Constant { bytes, counts },
        }
    }

    /// Whether a name may be both in a zone of the template and in one of these.
    pub(in crate::plugin) fn meets(&self, zones: &[Zone]) -> bool {
        let is_shared = |one: &Zone, other: &Zone| one.contains(other) || other.contains(one);
        self.zones.iter().any(|own| zones.iter().any(|other| is_shared(own, other)))
    }

    /// Answers if class, type, zone and pattern match.
    pub(in crate::plugin) fn pass(&self, exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
        let query = exchange.query;
        if !matches_any(self.qclass, query.qclass, CLASS_ANY)
            || !matches_any(self.qtype, query.qtype, TYPE_ANY)
            || self.zone_set.find(exchange.name).is_none()
        {
            return Passage::Pass;
        }
        let name = NameText::new(exchange.name);
        let is_match = self.patterns.is_empty()
            || self.patterns.iter().any(|slot| {
                exchange.patterns.get(slot.0).is_some_and(|pattern| pattern.matches(name.bytes()))
            });
        if !is_match && self.fallthrough.find(exchange.name).is_some() {
            return Passage::Pass;
        }
        if !is_match || self.rcode == Rcode::ServFail {
            let stamped = reply::stamp_reject(&query.reject(Rcode::ServFail), message);
            return Passage::Answer(stamped, Answerer::SERVER);
        }
        let Records::Constant { bytes, counts } = &self.records;
        let envelope = exchange.arrival.envelope(&query, 0);
        let records = MadeRecords { bytes, counts: *counts };
        let stamped = reply::stamp_made(&query, self.rcode, records, envelope, message);
        Passage::Answer(stamped, const { Answerer::plugin("template") })
    }
}

/// Whether a template's class or type and a query's are the same. `any` on either side is.
fn matches_any(own: u16, asked: u16, any: u16) -> bool {
    own == asked || own == any || asked == any
}

/// Characters of the longest name: each byte of it may need four.
const NAME_TEXT_LEN_MAX: usize = 4 * NAME_LEN_MAX;

/// A name as text, as CoreDNS writes it: in lower case, with a final dot.
struct NameText {
    bytes: [u8; NAME_TEXT_LEN_MAX],
    len: usize,
}

impl NameText {
    fn new(name: &Name) -> Self {
        let mut text = Self { bytes: [0; NAME_TEXT_LEN_MAX], len: 0 };
        for index in 0..name.label_count() {
            for byte in name.label(index) {
                text.push_escaped(*byte);
            }
            text.push(b'.');
        }
        if text.len == 0 {
            text.push(b'.');
        }
        text
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push_escaped(&mut self, byte: u8) {
        match byte {
            b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                self.push(b'\\');
                self.push(byte);
            }
            b'!'..=b'~' => self.push(byte),
            0..=b' ' | 0x7F.. => {
                self.push(b'\\');
                for digit in [byte / 100, byte / 10 % 10, byte % 10] {
                    self.push(b'0' + digit);
                }
            }
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}
