//! Questions that the conformance comparison skips, each group with its reason: `quirk()` of the
//! recording's `check.py`, and responses from a forwarder that does not exist here.

use domain::base::iana::Rtype;

use crate::answer::Answer;
use crate::question::Question;

/// Why a response of CoreDNS 1.15.0 is not authoritative: it deviates from an RFC or from the
/// Kubernetes DNS specification, so either response is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quirk {
    /// `_tcp.SVC.NS.svc.ZONE` and the zone's `dns` label have names below them, so NODATA is right
    /// (RFC 8020).
    EmptyNonTerminal,
    /// A CNAME answers every type; CoreDNS returns it only for A, AAAA and CNAME.
    ExternalNameType,
    /// An ExternalName whose target does not exist, or is itself, still has its CNAME, with
    /// NXDOMAIN if the target does not exist (RFC 6604); CoreDNS responds NODATA without the CNAME.
    ExternalNameLost,
    /// TXT at an existing name is NODATA; CoreDNS responds NXDOMAIN.
    TxtAtExistingName,
    /// `ns.dns` depends on the server's own address.
    OwnAddress,
    /// SRV weights are shares among distinct entries; CoreDNS also counts duplicates.
    SrvWeights,
}

impl Quirk {
    pub fn of(question: &Question) -> Option<Self> {
        let name = question.key();
        let first = question.first_label();
        let rtype = question.rtype;
        if ["_tcp", "_udp", "_sctp"].contains(&first.as_str()) || name == "dns.cluster.local." {
            Some(Self::EmptyNonTerminal)
        } else if first.starts_with("extnx") || first.starts_with("extself") {
            Some(Self::ExternalNameLost)
        } else if first.starts_with("ext") && rtype != Rtype::A && rtype != Rtype::CNAME {
            Some(Self::ExternalNameType)
        } else if (rtype == Rtype::TXT
            && (name == "cluster.local." || name.matches('.').count() == 3))
            || (first == "dns-version" && rtype != Rtype::TXT)
        {
            Some(Self::TxtAtExistingName)
        } else if name == "ns.dns.cluster.local." {
            Some(Self::OwnAddress)
        } else if (name.contains("slices-") || name.contains("hldual-")) && rtype == Rtype::SRV {
            Some(Self::SrvWeights)
        } else {
            None
        }
    }
}

/// Whether the recorded response came from the forwarder behind CoreDNS: it owns or points to a
/// name outside `zones`, which only the forwarder knew.
pub fn is_from_the_forwarder(answer: &Answer, zones: &[String]) -> bool {
    let outside = |name: &str| !zones.iter().any(|zone| is_at_or_below(name, zone));
    answer.records().any(|record| {
        outside(record.owner()) || (record.rtype() == "PTR" && outside(record.data()))
    })
}

/// Whether `name` is `zone` or below it; both in lower case with their final dots.
pub fn is_at_or_below(name: &str, zone: &str) -> bool {
    let above = name.strip_suffix(zone);
    above.is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Record;

    #[test]
    fn zones_end_at_labels() {
        for (name, zone, expected) in [
            ("a.cluster.local.", "cluster.local.", true),
            ("cluster.local.", "cluster.local.", true),
            ("acluster.local.", "cluster.local.", false),
            (".", "cluster.local.", false),
        ] {
            assert_eq!(is_at_or_below(name, zone), expected, "{name} {zone}");
        }
    }

    #[test]
    fn names_outside_come_from_the_forwarder() {
        let zones = ["cluster.local.".to_owned(), "in-addr.arpa.".to_owned()];
        for (owner, rtype, data, expected) in [
            ("a.cluster.local.", "A", "10.0.0.1", false),
            ("1.0.96.10.in-addr.arpa.", "PTR", "a.cluster.local.", false),
            ("1.2.0.192.in-addr.arpa.", "PTR", "host.example.org.", true),
            (".", "SOA", "a.root. nstld. 1 1800 900 604800 60", true),
        ] {
            let record = Record(owner.to_owned(), rtype.to_owned(), 30, data.to_owned());
            let answer = Answer {
                rcode: "NOERROR".to_owned(),
                aa: true,
                tc: false,
                ra: false,
                udp_tc: false,
                qname_kept: Some(true),
                answer: vec![record],
                authority: Vec::new(),
                additional: Vec::new(),
            };
            assert_eq!(is_from_the_forwarder(&answer, &zones), expected, "{owner}");
        }
    }
}
