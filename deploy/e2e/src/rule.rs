//! Where ringdns may answer otherwise than CoreDNS 1.15.0, and nowhere else: the names of the
//! reasons, and what the documentation says of each.

/// A named reason for a difference in what is said of the cluster. When one applies:
/// `difference.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    EmptyNonTerminal,
    TypeAtExistingName,
    ExternalNameType,
    SrvWeights,
    UnnamedPort,
    ReverseZone,
    ReverseName,
    HiddenNamespace,
    LetterCase,
}

impl Rule {
    pub const ALL: [Self; 9] = [
        Self::EmptyNonTerminal,
        Self::TypeAtExistingName,
        Self::ExternalNameType,
        Self::SrvWeights,
        Self::UnnamedPort,
        Self::ReverseZone,
        Self::ReverseName,
        Self::HiddenNamespace,
        Self::LetterCase,
    ];

    /// The sentence that stands in the repository's README.md.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::EmptyNonTerminal => {
                "A name that has names below it exists, so it is NODATA (RFC 8020); \
                 CoreDNS says NXDOMAIN."
            }
            Self::TypeAtExistingName => {
                "A name that exists without the type asked for is NODATA; CoreDNS says NXDOMAIN \
                 for TXT at the zone and at namespaces, for TXT and PTR at ns.dns, and for all \
                 other types at dns-version."
            }
            Self::ExternalNameType => {
                "An ExternalName's CNAME answers every type (RFC 1034, section 4.3.2), and where it \
                 leads into the cluster the code and the SOA of a denial are its target's (RFC \
                 6604; RFC 2308, section 2); CoreDNS leaves it out for types other than A, AAAA \
                 and CNAME, and where the target has no such record, and says NOERROR."
            }
            Self::SrvWeights => {
                "SRV weights are 100 divided by the distinct pairs of address and port; CoreDNS \
                 counts an address that stands in two EndpointSlices twice."
            }
            Self::UnnamedPort => {
                "A port is found by its name and its protocol, and a port without a name has none \
                 (Kubernetes DNS specification, section 2.3.2), so `_._udp.SVC` and `_http._.SVC` \
                 are NXDOMAIN; to CoreDNS an empty word means any."
            }
            Self::ReverseZone => {
                "A reverse zone holds the names of addresses and nothing else; CoreDNS has svc, \
                 pod, ns.dns and dns-version there too."
            }
            Self::ReverseName => {
                "An address has one reverse name, with exactly its labels (RFC 1035, section 3.5; \
                 RFC 3596, section 2.5); CoreDNS lets an IPv6 address have up to three labels \
                 more, and takes an IPv4-mapped one for the IPv4 address."
            }
            Self::HiddenNamespace => {
                "What `namespaces` and `namespace_labels` hide is not told of, but for the names \
                 of the zone's own name servers; with `namespace_labels` CoreDNS still names \
                 hidden Services in PTR records."
            }
            Self::LetterCase => {
                "Capitals in a name change nothing (RFC 4343); where the zone's own labels have \
                 some, CoreDNS does not find ns.dns nor the zone's NS record."
            }
        }
    }
}

/// A named reason for a difference in what others said: where `cache` or `forward` is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutsideRule {
    OwnTtl,
    UnkeptTtl,
    LostAlias,
    CutAnswer,
    CheckingDisabled,
    FailurePause,
    TargetsCode,
    ParentForDs,
}

impl OutsideRule {
    pub const ALL: [Self; 8] = [
        Self::OwnTtl,
        Self::UnkeptTtl,
        Self::LostAlias,
        Self::CutAnswer,
        Self::CheckingDisabled,
        Self::FailurePause,
        Self::TargetsCode,
        Self::ParentForDs,
    ];

    /// The word for it in a scenario (`timeline.rs`).
    pub fn word(self) -> &'static str {
        match self {
            Self::OwnTtl => "own_ttl",
            Self::UnkeptTtl => "unkept_ttl",
            Self::LostAlias => "lost_alias",
            Self::CutAnswer => "cut_answer",
            Self::CheckingDisabled => "checking_disabled",
            Self::FailurePause => "failure_pause",
            Self::TargetsCode => "targets_code",
            Self::ParentForDs => "parent_for_ds",
        }
    }

    /// The sentence that stands in the repository's README.md.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::OwnTtl => {
                "Each record keeps a TTL of its own, within the bounds of `cache`; CoreDNS gives \
                 all records of an answer the least of their TTLs."
            }
            Self::UnkeptTtl => {
                "What is not kept goes out with the TTLs that it came with, none longer than the \
                 cap of `cache`, and in a CNAME without an end or a denial without an SOA none \
                 longer than `servfail`; CoreDNS has the cap alone, and raises short TTLs."
            }
            Self::LostAlias => {
                "A CNAME whose target does not exist is kept like any other denial (RFC 2308, \
                 section 2.1); CoreDNS asks anew each time."
            }
            Self::CutAnswer => {
                "What an upstream cuts over UDP is asked for again over TCP, and kept; CoreDNS \
                 hands on the cut answer, unless `prefer_udp` is set, and keeps nothing."
            }
            Self::CheckingDisabled => {
                "CD comes back as the client sent it (RFC 4035, section 3.2.2); CoreDNS hands on \
                 what the upstream made of it."
            }
            Self::FailurePause => {
                "Where asking for an expired answer has failed, or brought a denial that \
                 `prefer_positive` does not believe, the next client is given the expired answer \
                 without asking again: for RECHECK, for the time of `servfail`, or as long as the \
                 denial would have been kept (RFC 9520, section 3.2); CoreDNS asks each time \
                 unless RECHECK is set."
            }
            Self::TargetsCode => {
                "An ExternalName's answer has the response code of its target's, NXDOMAIN and \
                 SERVFAIL too (RFC 6604), and the SOA of a denial; CoreDNS says NOERROR and \
                 nothing more."
            }
            Self::ParentForDs => {
                "Of several server blocks a question for DS goes to the one above where it is for \
                 a block's own zone, and nowhere else (RFC 4035, section 3.1.4.1); CoreDNS sends \
                 it to the highest block above, save that of the root."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its lines may break anywhere.
    #[test]
    fn the_readme_lists_every_rule() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let text = std::fs::read_to_string(path).expect("the repository's README.md");
        let words: Vec<&str> = text.split_whitespace().collect();
        let readme = words.join(" ");
        let outside = OutsideRule::ALL.map(OutsideRule::sentence);
        for sentence in Rule::ALL.map(Rule::sentence).into_iter().chain(outside) {
            assert!(readme.contains(sentence), "{path} does not say: {sentence}");
        }
    }
}
