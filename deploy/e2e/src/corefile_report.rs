//! What the comparison of two servers under one Corefile found, and its row of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use domain::base::iana::{Class, Rtype};

use crate::answer::{Answer, Record};
use crate::comparison::{differences, reply_differences};
use crate::corefile_words::Block;
use crate::difference::Oracle;
use crate::query::{Query, Reply};
use crate::question::Question;
use crate::quirk::is_at_or_below;
use crate::rule::{OutsideRule, SourceRule};

/// How many of a file's unnamed differences are shown.
const SHOWN: usize = 12;

/// By how much the two servers' records may have aged differently: less than any TTL differs.
const AGE_SECS_MAX: u32 = 3;

/// One file's results.
pub struct Row {
    pub file: String,
    /// Why ringdns did not start, if it did not.
    pub failure: Option<String>,
    pub questions: usize,
    pub equal: usize,
    /// How many of ringdns's responses have records in the answer section.
    pub positive: usize,
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
            positive: 0,
            named: BTreeMap::new(),
            unnamed: Vec::new(),
        }
    }

    /// Compares the two replies, CoreDNS's first. `None` is no reply. `block`: whose
    /// answer it is.
    pub fn add(
        &mut self,
        query: &Query,
        replies: [Option<&Reply>; 2],
        oracle: &Oracle<'_>,
        block: &Block,
    ) {
        self.questions += 1;
        let (theirs, ours) = match replies {
            [Some(theirs), Some(ours)] => (theirs, ours),
            [theirs, _] => {
                let who = if theirs.is_some() { "ringdns" } else { "CoreDNS" };
                self.unnamed.push(format!("{}: no response from {who}", title(query)));
                return;
            }
        };
        let (theirs, ours) = (&without_port(theirs, block), &as_old_as(theirs, ours));
        let ours = &without_port(ours, block);
        self.positive += usize::from(!ours.answer.answer.is_empty());
        let found = reply_differences(theirs, ours);
        if found.is_empty() {
            self.equal += 1;
            return;
        }
        let is_in_answer = differences(&theirs.answer, &ours.answer) == found;
        let name = named(query, [&theirs.answer, &ours.answer], oracle, block);
        match name.filter(|_| is_in_answer) {
            Some(name) => *self.named.entry(name).or_default() += 1,
            None => self.unnamed.push(format!("{}: {}", title(query), found.join("; "))),
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
    [theirs, ours]: [&Answer; 2],
    oracle: &Oracle<'_>,
    block: &Block,
) -> Option<String> {
    let is_refused = ours.rcode == "REFUSED" && ours.records().next().is_none();
    if query.class != Class::IN && is_refused {
        Some(format!("{:?}", SourceRule::OtherClass))
    } else if block.has("autopath") && has_more_alias(&query.question, theirs, ours) {
        Some(format!("{:?}", SourceRule::AutopathAlias))
    } else if has_own_ttls(theirs, ours) {
        Some(format!("{:?}", OutsideRule::OwnTtl))
    } else if has_whole_ttls(theirs, ours, block) {
        Some(format!("{:?}", SourceRule::WholeTtl))
    } else if block.has("file") && has_alias_soa(theirs, ours) {
        Some(format!("{:?}", SourceRule::AliasSoa))
    } else if !oracle.zones.iter().any(|zone| is_below(&query.question, zone)) {
        None
    } else {
        let [theirs, ours] = [theirs, ours].map(|answer| comparable(answer, block));
        oracle.explain(&query.question, &theirs, &ours).map(|rule| format!("{rule:?}"))
    }
}

fn is_below(question: &Question, zone: &str) -> bool {
    zone == "." || is_at_or_below(&question.key(), zone)
}

/// The two are the same except that ours has a CNAME from the client's name.
fn has_more_alias(question: &Question, theirs: &Answer, ours: &Answer) -> bool {
    let mut rest = ours.clone();
    rest.answer.retain(|record| record.owner() != question.key() || record.rtype() != "CNAME");
    rest.answer.len() + 1 == ours.answer.len() && differences(theirs, &rest).is_empty()
}

/// The two are the same except for the authority section below a chain of CNAMEs without an end:
/// ours has the SOA, CoreDNS's the NS records.
fn has_alias_soa(theirs: &Answer, ours: &Answer) -> bool {
    let with_theirs = Answer { authority: theirs.authority.clone(), ..ours.clone() };
    let are = |records: &[Record], rtype| {
        !records.is_empty() && records.iter().all(|record| record.rtype() == rtype)
    };
    are(&ours.answer, "CNAME")
        && are(&ours.authority, "SOA")
        && are(&theirs.authority, "NS")
        && differences(theirs, &with_theirs).is_empty()
}

/// An answer for [`Oracle`]: without TTLs if `cache` changes those of CoreDNS.
pub fn comparable(answer: &Answer, block: &Block) -> Answer {
    let mut answer = answer.clone();
    if block.has("cache") {
        let sections = [&mut answer.answer, &mut answer.authority, &mut answer.additional];
        for record in sections.into_iter().flatten() {
            record.2 = 0;
        }
    }
    answer
}

/// The two are the same except for TTLs, and ours are those of the block's own records, which
/// CoreDNS has cached.
fn has_whole_ttls(theirs: &Answer, ours: &Answer, block: &Block) -> bool {
    let own = block.own_ttls();
    let is_own = |record: &Record| own.contains(&record.2) || theirs.records().any(|r| r == record);
    block.has("cache")
        && ours.records().all(is_own)
        && differences(&comparable(theirs, block), &comparable(ours, block)).is_empty()
}

/// The two are the same except for TTLs, and CoreDNS gives all records the lowest of ours.
fn has_own_ttls(theirs: &Answer, ours: &Answer) -> bool {
    let lowest = ours.records().map(|record| record.2).min();
    let mut lowered = ours.clone();
    for record in lowered.answer.iter_mut().chain(&mut lowered.authority) {
        record.2 = lowest.unwrap_or_default();
    }
    differences(theirs, &lowered).is_empty()
}

/// `whoami` returns the client's port, which differs from query to query.
fn without_port(reply: &Reply, block: &Block) -> Reply {
    let mut reply = reply.clone();
    for Record(_, rtype, _, data) in &mut reply.answer.additional {
        if rtype == "SRV" && block.has("whoami") {
            data.retain(|letter| !letter.is_ascii_digit());
        }
    }
    reply
}

/// Ours with CoreDNS's TTLs where the two are almost the same: what a server was asked before, by
/// another block for instance, has aged.
fn as_old_as(theirs: &Reply, ours: &Reply) -> Reply {
    let mut ours = ours.clone();
    let sections = |answer: &Answer| [answer.answer.clone(), answer.authority.clone()];
    let theirs = sections(&theirs.answer).concat();
    for record in ours.answer.answer.iter_mut().chain(&mut ours.answer.authority) {
        let is_same = |other: &&Record| {
            (other.owner(), other.rtype(), other.data())
                == (record.owner(), record.rtype(), record.data())
        };
        if let Some(Record(_, _, ttl, _)) = theirs.iter().find(is_same)
            && ttl.abs_diff(record.2) <= AGE_SECS_MAX
        {
            record.2 = *ttl;
        }
    }
    ours
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

/// A question that a server can answer only after reading the cluster with this zone. It is asked
/// once only: a second response would have aged.
pub fn probe(zone: Option<&String>) -> Question {
    match zone {
        Some(zone) => {
            let below = if zone == "." { "" } else { zone };
            Question::new(format!("ready-probe.default.svc.{below}"), Rtype::A)
        }
        None => Question::new("ready-probe.", Rtype::A),
    }
}
