//! CoreDNS's counters of a template.
//!
//! Invariant: a template has at most `TEMPLATE_COUNTERS_MAX` of them, whatever its zones and types.

use domain::base::iana::Rtype;
use wire::header::CLASS_IN;

use super::record::RecordOutcome;
use super::{CLASS_ANY, Template, class_name};
use crate::limits::TEMPLATE_COUNTERS_MAX;
use crate::metrics::plugin::{type_label_index, type_labels};
use crate::metrics::{BlockLabels, CounterFamily, PluginCounter};
use crate::plugin::draft::BlockDraft;
use crate::plugin::exchange::CounterSlot;

const MATCHES: CounterFamily = CounterFamily {
    name: "coredns_template_matches",
    help: "Queries that a template matched",
    block_labels: BlockLabels::ServerView,
};

/// By `FailureSort`.
const FAILURES: [CounterFamily; 2] = [
    CounterFamily {
        name: "coredns_template_template_failures",
        help: "Templates that failed for a query",
        block_labels: BlockLabels::ServerView,
    },
    CounterFamily {
        name: "coredns_template_rr_failures",
        help: "Records that a template wrote and that are not valid",
        block_labels: BlockLabels::ServerView,
    },
];

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureSort {
    Template = 0,
    Record = 1,
}

/// The counters of one template.
#[derive(Debug, Default)]
pub(super) struct TemplateCounters {
    /// By zone, then by label of class and type.
    matches: Vec<CounterSlot>,
    /// Labels of class and type.
    label_count: usize,
    /// The labels are those of the query's type.
    is_by_type: bool,
    /// The labels are those of the query's class.
    is_by_class: bool,
    /// By record, then by `FailureSort`.
    failures: Vec<CounterSlot>,
}

impl TemplateCounters {
    /// `block`: gets the counters.
    pub(super) fn new(template: &Template, block: &mut BlockDraft) -> Self {
        let (qclass, qtype) = (template.qclass, template.qtype);
        let own_type = qtype.to_mnemonic_str().unwrap_or_default();
        let mut counters = Self {
            is_by_type: qtype == Rtype::ANY,
            is_by_class: qclass == CLASS_ANY,
            ..Self::default()
        };
        let first_class =
            if counters.is_by_class { class_name(CLASS_IN) } else { class_name(qclass) };
        let mut labels: Vec<_> = match counters.is_by_type {
            true => type_labels().map(|rtype| (first_class, rtype)).collect(),
            false => vec![(first_class, own_type)],
        };
        if counters.is_by_class {
            labels.push((OTHER, if counters.is_by_type { OTHER } else { own_type }));
        }
        counters.label_count = labels.len();
        let mut left = TEMPLATE_COUNTERS_MAX;
        for zone in template.zones.iter().take(left / labels.len()) {
            left -= labels.len();
            for (class, rtype) in &labels {
                let labels = labels_of(class, rtype, &zone.text);
                let counter = PluginCounter { family: &MATCHES, labels };
                counters.matches.push(block.counter(counter));
            }
        }
        let zone = template.zones.first().map_or("", |zone| &zone.text);
        for (section, records) in SECTIONS.into_iter().zip(&template.records) {
            for record in records {
                if matches!(record.outcome, RecordOutcome::Constant(_)) || left < FAILURES.len() {
                    continue;
                }
                left -= FAILURES.len();
                for family in &FAILURES {
                    let mut labels = labels_of(class_name(qclass), own_type, zone);
                    labels.push(("section", section.to_owned()));
                    labels.push(("template", record.text.clone()));
                    counters.failures.push(block.counter(PluginCounter { family, labels }));
                }
            }
        }
        counters
    }

    /// Of a match in this zone, by index.
    pub(super) fn of_match(&self, zone: usize, qclass: u16, qtype: u16) -> Option<CounterSlot> {
        let is_other = self.is_by_class && qclass != CLASS_IN && qclass != CLASS_ANY;
        let label = match (is_other, self.is_by_type) {
            (true, _) => self.label_count - 1,
            (false, true) => type_label_index(qtype),
            (false, false) => 0,
        };
        self.matches.get(zone * self.label_count + label).copied()
    }

    /// Of a failure of this record, by index among those that are made for each query.
    pub(super) fn of_failure(&self, record: usize, sort: FailureSort) -> Option<CounterSlot> {
        self.failures.get(record * FAILURES.len() + sort as usize).copied()
    }
}

/// Of the sections, in their order.
const SECTIONS: [&str; 3] = ["answer", "authority", "additional"];

/// The label of classes other than IN where a template takes every class.
const OTHER: &str = "other";

fn labels_of(class: &str, rtype: &str, zone: &str) -> Vec<(&'static str, String)> {
    vec![("class", class.to_owned()), ("type", rtype.to_owned()), ("zone", zone.to_owned())]
}
