//! Decides whether a rule lets two responses differ.
//!
//! Each rule checks both sides: that CoreDNS is wrong in the known way and that ringdns is right in
//! the known way. A difference without a rule is a failure.

use std::collections::BTreeSet;

use domain::base::iana::Rtype;

use crate::answer::{Answer, Record};
use crate::comparison::differences;
use crate::question::Question;
use crate::quirk::is_at_or_below;
use crate::reverse;
use crate::rule::Rule;

/// Labels that may exist below an empty non-terminal in the tests' clusters: a port's name below
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

/// Labels that CoreDNS has in each of its zones, including reverse zones.
const LABELS_IN_EACH_ZONE: [&str; 3] = ["svc", "pod", "dns-version"];

/// Most labels in front of an IPv6 address's that CoreDNS overlooks: it parses groups of four.
const LABELS_UNSEEN_MAX: usize = 3;

/// Further facts about CoreDNS that the rules need beside the two responses: its responses to other
/// questions, and the names that it knows.
pub struct Oracle<'a> {
    /// Returns CoreDNS's response to one more question.
    pub ask: &'a dyn Fn(&Question) -> Answer,
    /// Owners of records in all of CoreDNS's responses.
    pub existing: BTreeSet<String>,
    /// The zones of the Corefile, in lower case, with their final dots.
    pub zones: Vec<String>,
}

impl Oracle<'_> {
    /// The rule by which `ours` may differ from `theirs`, if there is one.
    pub fn explain(&self, question: &Question, theirs: &Answer, ours: &Answer) -> Option<Rule> {
        let may_differ = |rule: &Rule| match rule {
            Rule::EmptyNonTerminal => self.is_empty_non_terminal(question, theirs, ours),
            Rule::TypeAtExistingName => self.is_type_at_existing_name(question, theirs, ours),
            Rule::ExternalNameType => self.is_external_name(question, theirs, ours),
            Rule::SrvWeights => is_weights_alone(theirs, ours),
            Rule::UnnamedPort => self.is_unnamed_port(question, theirs, ours),
            Rule::ReverseZone => self.is_label_in_reverse_zone(question, theirs, ours),
            Rule::ReverseName => self.is_other_reverse_name(question, theirs, ours),
            Rule::HiddenNamespace => self.is_hidden_namespace(question, theirs, ours),
            Rule::LetterCase => self.is_letter_case(question, theirs, ours),
        };
        Rule::ALL.into_iter().find(|rule| theirs.ra == ours.ra && may_differ(rule))
    }

    fn is_empty_non_terminal(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let name = question.key();
        let is_below = |other: &String| {
            *other != name && is_at_or_below(other, &name) && !has_empty_word(other)
        };
        let has_below = |(label, rtype): &(&str, Rtype)| {
            let parent = if name == "." { "" } else { &name };
            let below = Question::new(format!("{label}.{parent}"), *rtype);
            (self.ask)(&below).rcode == "NOERROR"
        };
        self.nxdomain_became_nodata(theirs, ours)
            && (self.existing.iter().any(is_below) || LABELS_BELOW.iter().any(has_below))
    }

    fn is_type_at_existing_name(
        &self,
        question: &Question,
        theirs: &Answer,
        ours: &Answer,
    ) -> bool {
        let name = question.key();
        let is_version = question.first_label() == "dns-version";
        let may_be = is_version
            || question.rtype == Rtype::TXT
            || (question.rtype == Rtype::PTR && name.starts_with("ns.dns."));
        let right_type = if is_version { Rtype::TXT } else { Rtype::A };
        may_be
            && self.nxdomain_became_nodata(theirs, ours)
            && (self.ask)(&Question::new(name, right_type)).rcode == "NOERROR"
    }

    /// Ours is the CNAME chain that CoreDNS gives for type CNAME, then CoreDNS's records for its
    /// target, or an SOA and the target's response code if there are none; theirs has less of it.
    fn is_external_name(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let mut rest: BTreeSet<&Record> = ours.answer.iter().collect();
        let mut name = question.name.clone();
        let mut seen = BTreeSet::new();
        let mut is_alias = false;
        let mut is_gone = false;
        while seen.insert(name.to_ascii_lowercase()) {
            let cname = (self.ask)(&Question::new(name.clone(), Rtype::CNAME));
            let Some(record) = cname.answer.iter().find(|record| record.rtype() == "CNAME") else {
                let target = (self.ask)(&Question::new(name, question.rtype));
                for record in &target.answer {
                    rest.remove(record);
                }
                is_gone = target.is_nxdomain();
                break;
            };
            is_alias |= rest.remove(record);
            name = record.data().to_owned();
        }
        let has_soa = ours.authority.len() == 1 && ours.authority[0].rtype() == "SOA";
        let is_code_right = ours.rcode == "NOERROR" || (ours.is_nxdomain() && is_gone && has_soa);
        let is_right = is_alias && rest.is_empty() && is_code_right && ours.aa;
        let has_less = (theirs.answer.len() < ours.answer.len() || has_soa)
            && theirs.answer.iter().all(|record| ours.answer.contains(record));
        is_right && has_less && theirs.rcode == "NOERROR" && theirs.aa
    }

    /// CoreDNS has records although a word is empty; ours is CoreDNS's response for words that do
    /// not exist.
    fn is_unnamed_port(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let name = question.key();
        let service = name.splitn(3, '.').nth(2).unwrap_or_default();
        has_empty_word(&name)
            && theirs.rcode == "NOERROR"
            && theirs.aa
            && self.is_as_missing(&format!("_missing._missing.{service}"), question.rtype, ours)
    }

    fn is_label_in_reverse_zone(
        &self,
        question: &Question,
        theirs: &Answer,
        ours: &Answer,
    ) -> bool {
        let Some(zone) = self.reverse_zone(question) else { return false };
        let name = question.key();
        LABELS_IN_EACH_ZONE.iter().any(|label| name == format!("{label}.{zone}"))
            && theirs.rcode == "NOERROR"
            && theirs.aa
            && self.is_as_missing(&format!("missing.{zone}"), question.rtype, ours)
    }

    /// CoreDNS returns PTR records of another name: that of the address that it parsed.
    fn is_other_reverse_name(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let name = question.key();
        let Some(zone) = self.reverse_zone(question) else { return false };
        let true_name = (0..=LABELS_UNSEEN_MAX)
            .filter_map(|unseen| name.splitn(unseen + 1, '.').nth(unseen))
            .find_map(reverse::address)
            .map(|address| reverse::name(address.to_canonical()));
        let Some(true_name) = true_name.filter(|true_name| *true_name != name) else {
            return false;
        };
        let known = theirs.data_of(Rtype::PTR);
        !known.is_empty()
            && known == (self.ask)(&Question::new(true_name, Rtype::PTR)).data_of(Rtype::PTR)
            && self.is_as_missing(&format!("missing.{zone}"), question.rtype, ours)
    }

    /// All of CoreDNS's PTR records point into namespaces that do not exist according to CoreDNS.
    fn is_hidden_namespace(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let Some(zone) = self.reverse_zone(question) else { return false };
        let is_hidden = |target: &str| {
            let service = self.zones.iter().find_map(|zone| {
                target.strip_suffix(zone.as_str())?.strip_suffix(".svc.").map(|head| (head, zone))
            });
            let namespace = service.and_then(|(head, zone)| Some((head.rsplit('.').next()?, zone)));
            namespace.is_some_and(|(namespace, zone)| {
                let name = format!("{namespace}.svc.{zone}");
                (self.ask)(&Question::new(name, Rtype::A)).is_nxdomain()
            })
        };
        let targets = theirs.data_of(Rtype::PTR);
        !targets.is_empty()
            && targets.into_iter().all(is_hidden)
            && self.is_as_missing(&format!("missing.{zone}"), question.rtype, ours)
    }

    /// Ours is CoreDNS's response to the name in lower case; in capitals CoreDNS responds
    /// differently.
    fn is_letter_case(&self, question: &Question, theirs: &Answer, ours: &Answer) -> bool {
        let small = Question::new(question.key(), question.rtype);
        let in_small = (self.ask)(&small);
        small != *question
            && differences(&in_small, ours).is_empty()
            && !differences(&in_small, theirs).is_empty()
    }

    /// The longest reverse zone that contains the name.
    fn reverse_zone(&self, question: &Question) -> Option<&str> {
        let name = question.key();
        let zones = self.zones.iter().filter(|zone| zone.ends_with(".arpa."));
        let zone = zones.filter(|zone| is_at_or_below(&name, zone)).max_by_key(|zone| zone.len());
        zone.map(String::as_str)
    }

    /// The two are the same except for the response code, including the authority section. If
    /// CoreDNS's NXDOMAIN fell through to nothing, it has no authority section, and if it fell
    /// through to an upstream, it is the upstream's response; then ours must have one SOA.
    fn nxdomain_became_nodata(&self, theirs: &Answer, ours: &Answer) -> bool {
        let mut corrected = Answer { rcode: "NOERROR".to_owned(), ..theirs.clone() };
        let is_servfail =
            theirs.rcode == "SERVFAIL" && !theirs.aa && theirs.records().next().is_none();
        let is_upstreams = theirs.answer.is_empty()
            && theirs
                .authority
                .iter()
                .any(|soa| !self.zones.iter().any(|zone| is_at_or_below(soa.owner(), zone)));
        let fell_through = is_servfail || is_upstreams;
        if fell_through {
            corrected.aa = true;
            corrected.authority = ours.authority.clone();
        }
        let one_soa = ours.authority.len() == 1 && ours.authority[0].rtype() == "SOA";
        (theirs.is_nxdomain() || (fell_through && one_soa))
            && ours.is_nodata()
            && differences(&corrected, ours).is_empty()
    }

    /// Ours is CoreDNS's response to `missing`, a name that does not exist: NXDOMAIN, or the next
    /// plugin's response after `fallthrough`.
    fn is_as_missing(&self, missing: &str, rtype: Rtype, ours: &Answer) -> bool {
        let missing = (self.ask)(&Question::new(missing, rtype));
        missing.rcode != "NOERROR" && differences(&missing, ours).is_empty()
    }
}

/// Whether the name has an empty word: `_` in place of the port or the protocol, in front of a
/// Service's name.
fn has_empty_word(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    labels.get(4) == Some(&"svc") && labels[..2].contains(&"_")
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
    entries > 0
        && weights_right
        && differences(&without_weights(theirs), &without_weights(ours)).is_empty()
}

/// Number of addresses of an SRV record's target in the additional section.
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
            ("ns.z." | "n.svc.z.", Rtype::A) => answer("NOERROR", &[], &[]),
            ("1.0.0.10.in-addr.arpa.", Rtype::PTR) => ptr("s.n.svc.z."),
            _ => answer("NXDOMAIN", &[], &[]),
        };
        let existing = BTreeSet::from(["_http._tcp.s.z.".to_owned()]);
        let zones = vec!["z.".to_owned(), "10.in-addr.arpa.".to_owned(), "ip6.arpa.".to_owned()];
        Oracle { ask: &ask, existing, zones }.explain(&question, theirs, ours)
    }

    #[test]
    fn capitals_make_no_difference() {
        let (missing, nodata) = (answer("NXDOMAIN", &[], &[]), answer("NOERROR", &[], &[]));
        for (question, theirs, ours, expected) in [
            ("Ns.z. A", &missing, &nodata, Some(Rule::LetterCase)),
            ("Ns.z. A", &nodata, &missing, None),
            ("ns.z. A", &missing, &nodata, None),
            ("Nothing.z. A", &missing, &nodata, None),
        ] {
            assert_eq!(explained(question, theirs, ours), expected, "{question} {ours:?}");
        }
    }

    fn ptr(target: &str) -> Answer {
        answer("NOERROR", &[("any.", "PTR", target)], &[])
    }

    #[test]
    fn nodata_needs_a_rule() {
        let (missing, nodata) = (answer("NXDOMAIN", &[], &[]), answer("NOERROR", &[], &[]));
        for (question, expected) in [
            ("_tcp.s.z. SRV", Some(Rule::EmptyNonTerminal)),
            ("_udp.s.z. SRV", None),
            ("ns.z. TXT", Some(Rule::TypeAtExistingName)),
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
        let (less, other) = (
            answer("NOERROR", &[cname], &[]),
            answer("NOERROR", &[("ext.z.", "CNAME", "other.z.")], &[]),
        );
        for (question, theirs, ours, expected) in [
            ("ext.z. MX", &nodata, vec![cname], true),
            ("ext.z. A", &nodata, vec![cname, address], true),
            ("ext.z. A", &less, vec![cname, address], true),
            ("ext.z. A", &other, vec![cname, address], false),
            ("ext.z. MX", &nodata, vec![cname, address], false),
            ("ext.z. MX", &nodata, vec![("ext.z.", "CNAME", "other.z.")], false),
            ("ext.z. A", &nodata, vec![address], false),
        ] {
            let rule = explained(question, theirs, &answer("NOERROR", &ours, &[]));
            assert_eq!(rule.is_some(), expected, "{question} {theirs:?} {ours:?}");
        }
        // The target's NXDOMAIN, with its SOA.
        let soa = Record("z.".to_owned(), "SOA".to_owned(), 5, String::new());
        for (question, theirs, authority, expected) in [
            ("ext.z. MX", &nodata, vec![soa.clone()], true),
            ("ext.z. MX", &less, vec![soa.clone()], true),
            ("ext.z. MX", &nodata, vec![], false),
            ("ext.z. A", &less, vec![soa], false),
        ] {
            let ours = Answer { authority, ..answer("NXDOMAIN", &[cname], &[]) };
            let rule = explained(question, theirs, &ours);
            assert_eq!(rule.is_some(), expected, "{question} {theirs:?} {ours:?}");
        }
    }

    #[test]
    fn only_weights_may_differ() {
        let srv = |weight: u32, port: u32| {
            let data = format!("0 {weight} {port} e.s.z.");
            answer("NOERROR", &[("s.z.", "SRV", data.as_str())], &[("e.s.z.", "10.0.0.1")])
        };
        assert_eq!(explained("s.z. SRV", &srv(50, 80), &srv(100, 80)), Some(Rule::SrvWeights));
        assert_eq!(explained("s.z. SRV", &srv(50, 80), &srv(33, 80)), None);
        assert_eq!(explained("s.z. SRV", &srv(50, 80), &srv(100, 81)), None);
    }

    #[test]
    fn records_that_coredns_reveals_may_be_missing() {
        let mapped = reverse::name("::ffff:10.0.0.1".parse().unwrap());
        let (missing, nodata) = (answer("NXDOMAIN", &[], &[]), answer("NOERROR", &[], &[]));
        for (question, theirs, expected) in [
            ("_._udp.s.n.svc.z. A", &nodata, Some(Rule::UnnamedPort)),
            ("_a._.s.n.svc.z. A", &nodata, Some(Rule::UnnamedPort)),
            ("_a._udp.s.n.svc.z. A", &nodata, None),
            ("_._udp.s.n.pod.z. A", &nodata, None),
            ("svc.10.in-addr.arpa. MX", &nodata, Some(Rule::ReverseZone)),
            ("dns-version.ip6.arpa. MX", &nodata, Some(Rule::ReverseZone)),
            ("svc.z. MX", &nodata, None),
            ("other.10.in-addr.arpa. MX", &nodata, None),
            (&format!("{mapped} PTR"), &ptr("s.n.svc.z."), Some(Rule::ReverseName)),
            (&format!("a.b.c.{mapped} PTR"), &ptr("s.n.svc.z."), Some(Rule::ReverseName)),
            (&format!("a.b.c.d.{mapped} PTR"), &ptr("s.n.svc.z."), None),
            (&format!("{mapped} PTR"), &ptr("t.n.svc.z."), None),
            ("1.0.0.10.in-addr.arpa. PTR", &ptr("s.n.svc.z."), None),
            ("1.0.0.10.in-addr.arpa. PTR", &ptr("s.m.svc.z."), Some(Rule::HiddenNamespace)),
            ("1.0.0.10.in-addr.arpa. PTR", &ptr("e.s.m.svc.z."), Some(Rule::HiddenNamespace)),
            ("1.0.0.10.in-addr.arpa. PTR", &ptr("elsewhere."), None),
        ] {
            assert_eq!(explained(question, theirs, &missing), expected, "{question}");
            assert_eq!(explained(question, theirs, &nodata), None, "{question} NODATA");
            assert_eq!(explained(question, &missing, theirs), None, "{question} the other way");
        }
    }
}
