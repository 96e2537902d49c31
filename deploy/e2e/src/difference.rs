//! Where ringdns may answer otherwise than CoreDNS 1.15.0, and nowhere else.
//!
//! Each rule checks both answers: that CoreDNS is wrong in the known way and that ringdns is right
//! in the known way. What no rule explains is a failure.

use std::collections::BTreeSet;

use domain::base::iana::Rtype;

use crate::answer::{Answer, Record};
use crate::comparison::differences;
use crate::question::Question;
use crate::quirk::is_at_or_below;

/// What may stand below an empty non-terminal in the clusters of the tests: a port's name below
/// `_tcp.SVC…`, the name server below `dns.ZONE`.
const LABELS_BELOW: [(&str, Rtype); 7] = [
    ("_http", Rtype::SRV),
    ("_https", Rtype::SRV),
    ("_dns", Rtype::SRV),
    ("_dns-tcp", Rtype::SRV),
    ("_sctp", Rtype::SRV),
    ("_m2pa", Rtype::SRV),
    ("ns", Rtype::A),
];

/// A named reason for a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    EmptyNonTerminal,
    TxtAtExistingName,
    ExternalNameType,
    SrvWeights,
}

impl Rule {
    pub const ALL: [Self; 4] =
        [Self::EmptyNonTerminal, Self::TxtAtExistingName, Self::ExternalNameType, Self::SrvWeights];

    /// The sentence that stands in the documentation.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::EmptyNonTerminal => {
                "A name that has names below it exists, so it is NODATA (RFC 8020); \
                 CoreDNS says NXDOMAIN."
            }
            Self::TxtAtExistingName => {
                "A name that exists without the type asked for is NODATA; CoreDNS says NXDOMAIN \
                 for TXT at the zone and at namespaces, and for all other types at dns-version."
            }
            Self::ExternalNameType => {
                "An ExternalName's CNAME answers every type (RFC 1034, section 4.3.2); CoreDNS \
                 leaves it out for types other than A, AAAA and CNAME, and where the target has \
                 no such record."
            }
            Self::SrvWeights => {
                "SRV weights are 100 divided by the distinct pairs of address and port; CoreDNS \
                 counts an address that stands in two EndpointSlices twice."
            }
        }
    }
}

/// What CoreDNS says to other questions, and which names it knows: what the rules need beside the
/// two answers.
pub struct Oracle<'a> {
    /// Answers one more question as CoreDNS does.
    pub ask: &'a dyn Fn(&Question) -> Answer,
    /// Owners of records in all of CoreDNS's answers.
    pub existing: BTreeSet<String>,
}

impl Oracle<'_> {
    /// The rule by which `ours` may differ from `theirs`, if there is one.
    pub fn explain(&self, question: &Question, theirs: &Answer, ours: &Answer) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| match rule {
            Rule::EmptyNonTerminal => self.is_empty_non_terminal(question, theirs, ours),
            Rule::TxtAtExistingName => self.is_txt_at_existing_name(question, theirs, ours),
            Rule::ExternalNameType => self.is_external_name(question, ours),
            Rule::SrvWeights => is_weights_alone(theirs, ours),
        })
    }

    fn is_empty_non_terminal(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let name = question.key();
        let is_below = |other: &String| *other != name && is_at_or_below(other, &name);
        let has_below = |(label, rtype): &(&str, Rtype)| {
            let below = Question::new(format!("{label}.{name}"), *rtype);
            (self.ask)(&below).rcode == "NOERROR"
        };
        nxdomain_became_nodata(theirs, ours)
            && (self.existing.iter().any(is_below) || LABELS_BELOW.iter().any(has_below))
    }

    fn is_txt_at_existing_name(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let other_type = if question.rtype == Rtype::TXT { Rtype::A } else { Rtype::TXT };
        let at_other_type = || (self.ask)(&Question::new(question.name.clone(), other_type));
        let may_be = question.rtype == Rtype::TXT || question.first_label() == "dns-version";
        may_be && nxdomain_became_nodata(theirs, ours) && at_other_type().rcode == "NOERROR"
    }

    /// The CNAME that CoreDNS gives for the type CNAME, and behind it what CoreDNS says about the
    /// target.
    fn is_external_name(&self, question: &Question, ours: &Answer) -> bool {
        let mut rest: BTreeSet<&Record> = ours.answer.iter().collect();
        let mut name = question.name.clone();
        let mut seen = BTreeSet::new();
        let mut is_alias = false;
        while seen.insert(name.to_ascii_lowercase()) {
            let cname = (self.ask)(&Question::new(name.clone(), Rtype::CNAME));
            let Some(record) = cname.answer.iter().find(|record| record.rtype() == "CNAME") else {
                let target = (self.ask)(&Question::new(name, question.rtype));
                for record in &target.answer {
                    rest.remove(record);
                }
                break;
            };
            is_alias |= rest.remove(record);
            name = record.data().to_owned();
        }
        is_alias && rest.is_empty() && ours.rcode == "NOERROR"
    }
}

/// Apart from the code the two are the same, authority and all. Where CoreDNS let its NXDOMAIN fall
/// through to nothing, it has no authority to compare with: then ours is one SOA.
fn nxdomain_became_nodata(theirs: &Answer, ours: &Answer) -> bool {
    let mut corrected = Answer { rcode: "NOERROR".to_owned(), ..theirs.clone() };
    let fell_through =
        theirs.rcode == "SERVFAIL" && !theirs.aa && theirs.records().next().is_none();
    if fell_through {
        corrected.aa = true;
        corrected.authority = ours.authority.clone();
    }
    let one_soa = ours.authority.len() == 1 && ours.authority[0].rtype() == "SOA";
    (theirs.is_nxdomain() || (fell_through && one_soa))
        && ours.is_nodata()
        && differences(&corrected, ours).is_empty()
}

fn is_weights_alone(theirs: &Answer, ours: &Answer) -> bool {
    let without_weights = |answer: &Answer| {
        let mut answer = answer.clone();
        for Record(_, rtype, _, data) in &mut answer.answer {
            if rtype == "SRV" {
                let [priority, _, port, target] = srv(data);
                *data = format!("{priority} - {port} {target}");
            }
        }
        answer.answer.sort();
        answer
    };
    let entries: usize =
        ours.data_of(Rtype::SRV).iter().map(|data| address_count(ours, data)).sum();
    let weight = (100 / entries.max(1)).max(1).to_string();
    let weights_right = ours.data_of(Rtype::SRV).iter().all(|data| srv(data)[1] == weight);
    weights_right && differences(&without_weights(theirs), &without_weights(ours)).is_empty()
}

/// Addresses of an SRV record's target among the additional records.
fn address_count(answer: &Answer, data: &str) -> usize {
    let target = srv(data)[3];
    answer.additional.iter().filter(|record| record.owner() == target).count()
}

fn srv(data: &str) -> [&str; 4] {
    let words: Vec<&str> = data.split(' ').collect();
    words.try_into().expect("four words of an SRV record")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rcode: &str, answer: &[(&str, &str, &str)], additional: &[(&str, &str)]) -> Answer {
        let record = |owner: &str, rtype: &str, data: &str| {
            Record(owner.to_owned(), rtype.to_owned(), 5, data.to_owned())
        };
        Answer {
            rcode: rcode.to_owned(),
            aa: true,
            tc: false,
            ra: false,
            udp_tc: false,
            qname_kept: Some(true),
            answer: answer.iter().map(|(owner, rtype, data)| record(owner, rtype, data)).collect(),
            authority: Vec::new(),
            additional: additional.iter().map(|(owner, data)| record(owner, "A", data)).collect(),
        }
    }

    fn explained(question: &str, theirs: &Answer, ours: &Answer) -> Option<Rule> {
        let (name, rtype) = question.split_once(' ').expect("a name and a type");
        let question = Question::new(name, rtype.parse().expect("a type"));
        let ask = |question: &Question| match (question.key().as_str(), question.rtype) {
            ("ext.z.", Rtype::CNAME) => answer("NOERROR", &[("ext.z.", "CNAME", "t.z.")], &[]),
            ("t.z.", Rtype::A) => answer("NOERROR", &[("t.z.", "A", "10.0.0.1")], &[]),
            ("ns.z.", Rtype::A) => answer("NOERROR", &[], &[]),
            _ => answer("NXDOMAIN", &[], &[]),
        };
        let existing = BTreeSet::from(["_http._tcp.s.z.".to_owned()]);
        Oracle { ask: &ask, existing }.explain(&question, theirs, ours)
    }

    #[test]
    fn nodata_needs_a_reason() {
        let (missing, nodata) = (answer("NXDOMAIN", &[], &[]), answer("NOERROR", &[], &[]));
        for (question, expected) in [
            ("_tcp.s.z. SRV", Some(Rule::EmptyNonTerminal)),
            ("_udp.s.z. SRV", None),
            ("ns.z. TXT", Some(Rule::TxtAtExistingName)),
            ("ns.z. MX", None),
            ("nothing.z. TXT", None),
        ] {
            assert_eq!(explained(question, &missing, &nodata), expected, "{question}");
            assert_eq!(explained(question, &nodata, &missing), None, "{question} the other way");
        }
    }

    #[test]
    fn a_cname_answers_every_type() {
        let nodata = answer("NOERROR", &[], &[]);
        let cname = ("ext.z.", "CNAME", "t.z.");
        let address = ("t.z.", "A", "10.0.0.1");
        for (question, ours, expected) in [
            ("ext.z. MX", vec![cname], true),
            ("ext.z. A", vec![cname, address], true),
            ("ext.z. MX", vec![cname, address], false),
            ("ext.z. MX", vec![("ext.z.", "CNAME", "other.z.")], false),
            ("ext.z. A", vec![address], false),
        ] {
            let rule = explained(question, &nodata, &answer("NOERROR", &ours, &[]));
            assert_eq!(rule.is_some(), expected, "{question} {ours:?}");
        }
    }

    #[test]
    fn weights_may_differ_and_nothing_else() {
        let srv = |weight: u32, port: u32| {
            let data = format!("0 {weight} {port} e.s.z.");
            answer("NOERROR", &[("s.z.", "SRV", data.as_str())], &[("e.s.z.", "10.0.0.1")])
        };
        assert_eq!(explained("s.z. SRV", &srv(50, 80), &srv(100, 80)), Some(Rule::SrvWeights));
        assert_eq!(explained("s.z. SRV", &srv(50, 80), &srv(33, 80)), None);
        assert_eq!(explained("s.z. SRV", &srv(50, 80), &srv(100, 81)), None);
    }
}
