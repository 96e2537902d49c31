//! What the comparison of two servers under one Corefile found, and its row of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use domain::base::iana::Rtype;

use crate::answer::{Answer, Record};
use crate::comparison::reply_differences;
use crate::difference::Oracle;
use crate::query::{Query, Reply};
use crate::question::Question;

/// How many of a file's unnamed differences are shown.
const SHOWN: usize = 12;

/// One file's results.
pub struct Row {
    pub file: String,
    /// Why ringdns did not start, if it did not.
    pub failure: Option<String>,
    pub questions: usize,
    pub equal: usize,
    /// How often each named reason applied.
    pub named: BTreeMap<String, usize>,
    pub unnamed: Vec<String>,
}

impl Row {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            failure: None,
            questions: 0,
            equal: 0,
            named: BTreeMap::new(),
            unnamed: Vec::new(),
        }
    }

    /// Compares the two replies, CoreDNS's first. `None` is no reply.
    pub fn add(&mut self, query: &Query, replies: [Option<&Reply>; 2], oracle: &Oracle<'_>) {
        self.questions += 1;
        let (theirs, ours) = match replies {
            [Some(theirs), Some(ours)] => (theirs, ours),
            [None, None] => {
                self.equal += 1;
                return;
            }
            [theirs, _] => {
                let who = if theirs.is_some() { "ringdns" } else { "CoreDNS" };
                self.unnamed.push(format!("{}: no response from {who}", title(query)));
                return;
            }
        };
        let found = reply_differences(theirs, ours);
        if found.is_empty() {
            self.equal += 1;
        } else if let Some(name) = named(query, theirs, ours, found.clone(), oracle) {
            *self.named.entry(name).or_default() += 1;
        } else {
            self.unnamed.push(format!("{}: {}", title(query), found.join("; ")));
        }
    }

    pub fn is_good(&self) -> bool {
        self.failure.is_none() && self.unnamed.is_empty()
    }

    /// Its line of the table.
    pub fn line(&self) -> String {
        let starts = if self.failure.is_none() { "yes" } else { "NO" };
        let named: Vec<String> =
            self.named.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let mut line = format!(
            "| {} | {starts} | {} | {} | {} |",
            self.file,
            self.questions,
            self.equal,
            named.join(", ")
        );
        if !self.unnamed.is_empty() {
            let _ = write!(line, " UNNAMED {}", self.unnamed.len());
        }
        line
    }

    /// What is wrong, for a person.
    pub fn details(&self) -> String {
        let mut text = format!("{}:\n", self.file);
        if let Some(failure) = &self.failure {
            let _ = writeln!(text, "    does not start: {failure}");
        }
        for difference in self.unnamed.iter().take(SHOWN) {
            let _ = writeln!(text, "    {difference}");
        }
        text
    }
}

fn title(query: &Query) -> String {
    let edns = match query.edns {
        Some(edns) if edns.dnssec_ok => " with DO",
        Some(_) => " with EDNS",
        None => "",
    };
    format!("{} {}{edns}", query.question, query.class)
}

/// The reason for which they may differ.
fn named(
    query: &Query,
    theirs: &Reply,
    ours: &Reply,
    mut found: Vec<String>,
    oracle: &Oracle<'_>,
) -> Option<String> {
    let mut reasons = Vec::new();
    if let (Some(of_theirs), Some(of_ours), Some(_)) = (theirs.edns, ours.edns, query.edns)
        && of_theirs.dnssec_ok == of_ours.dnssec_ok
        && of_ours.udp_len <= 1232
    {
        let before = found.len();
        found.retain(|field| !field.starts_with("edns:"));
        if found.len() < before {
            reasons.push("OwnUdpSize".to_owned());
        }
    }
    if !found.is_empty() {
        let reason = oracle.explain(&query.question, &theirs.answer, &ours.answer);
        reasons.push(format!("{:?}", reason?));
    }
    Some(reasons.join("+"))
}

/// Owners of all records that CoreDNS returned.
pub fn owners<'a>(replies: impl Iterator<Item = &'a Reply>) -> BTreeSet<String> {
    replies.flat_map(|reply| &reply.answer.answer).map(Record::owner).map(str::to_owned).collect()
}

/// A response that stands for none.
pub fn no_answer() -> Answer {
    Answer {
        rcode: "NONE".to_owned(),
        aa: false,
        tc: false,
        ra: false,
        udp_tc: false,
        qname_kept: None,
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
    }
}

/// A question that a server can answer only after reading the cluster with this zone.
pub fn probe(zone: Option<&String>) -> Question {
    match zone {
        Some(zone) => {
            let below = if zone == "." { "" } else { zone };
            Question::new(format!("kubernetes.default.svc.{below}"), Rtype::A)
        }
        None => Question::new(".", Rtype::A),
    }
}
