//! The only reasons for which ringdns may respond differently from CoreDNS 1.15.0, and the sentence
//! of docs/differences.md for each.

/// A named reason for a difference about the cluster. `difference.rs` decides when one applies.
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

    /// The sentence in docs/differences.md.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::EmptyNonTerminal => {
                "A name that has names below it exists, so the response is NODATA (RFC 8020); \
                 CoreDNS responds NXDOMAIN."
            }
            Self::TypeAtExistingName => {
                "A name that exists without the queried type is NODATA; CoreDNS responds NXDOMAIN \
                 for TXT at the zone apex and at namespaces, for TXT and PTR at ns.dns, and for \
                 all other types at dns-version."
            }
            Self::ExternalNameType => {
                "An ExternalName's CNAME answers every type (RFC 1034, section 4.3.2), and where \
                 it leads into the cluster, the response code and the SOA of a negative response \
                 are those of its target (RFC 6604; RFC 2308, section 2); CoreDNS omits the CNAME \
                 for types other than A, AAAA and CNAME and where the target has no such record, \
                 and responds NOERROR."
            }
            Self::SrvWeights => {
                "SRV weights are 100 divided by the number of distinct pairs of address and port; \
                 CoreDNS counts an address twice if it is in two EndpointSlices."
            }
            Self::UnnamedPort => {
                "A port is found by its name and its protocol, and an unnamed port has no name of \
                 its own (Kubernetes DNS specification, section 2.3.2), so `_._udp.SVC` and \
                 `_http._.SVC` are NXDOMAIN; CoreDNS takes an empty port or protocol to mean any."
            }
            Self::ReverseZone => {
                "A reverse zone contains the names of addresses and its name server, ns.dns; \
                 CoreDNS also has svc, pod and dns-version there, and its NS records name the name \
                 server's Service."
            }
            Self::ReverseName => {
                "An address has one reverse name, with exactly its labels (RFC 1035, section 3.5; \
                 RFC 3596, section 2.5); CoreDNS accepts an IPv6 address with up to three extra \
                 labels, and takes an IPv4-mapped address for the IPv4 address."
            }
            Self::HiddenNamespace => {
                "No response reveals what `namespaces` and `namespace_labels` hide, except the \
                 names of the zone's own name servers; with `namespace_labels` CoreDNS still \
                 names hidden Services in PTR records."
            }
            Self::LetterCase => {
                "The letter case of a name makes no difference (RFC 4343); where the zone's own \
                 labels contain capitals, CoreDNS finds neither ns.dns nor the zone's NS record."
            }
        }
    }
}

/// A named reason for a difference in upstreams' answers, where `cache` or `forward` is involved.
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

    /// Its word in a scenario (`timeline.rs`).
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

    /// The sentence in docs/differences.md.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::OwnTtl => {
                "Each record keeps its own TTL, within the bounds of `cache`; CoreDNS gives all \
                 records of a response the lowest of their TTLs."
            }
            Self::UnkeptTtl => {
                "A response that is not cached keeps the TTLs it arrived with, none longer than \
                 the cap of `cache`, and none longer than `servfail` if it is a CNAME chain \
                 without an end or a negative response without an SOA; CoreDNS applies only the \
                 cap, and raises short TTLs."
            }
            Self::LostAlias => {
                "A CNAME whose target does not exist is cached like any other negative response \
                 (RFC 2308, section 2.1); CoreDNS asks upstreams each time."
            }
            Self::CutAnswer => {
                "A response that an upstream truncates over UDP is requested again over TCP, and \
                 cached; CoreDNS passes on the truncated response, unless `prefer_udp` is set, \
                 and caches nothing."
            }
            Self::CheckingDisabled => {
                "The CD bit comes back as the client sent it (RFC 4035, section 3.2.2); CoreDNS \
                 passes on the upstream's."
            }
            Self::FailurePause => {
                "If refreshing an expired response fails, or brings a negative response that \
                 `prefer_positive` rejects, the next clients get the expired response without \
                 another query upstream: for RECHECK, for the time of `servfail`, or for as long \
                 as the negative response would have been cached (RFC 9520, section 3.2); CoreDNS \
                 asks each time unless RECHECK is set."
            }
            Self::TargetsCode => {
                "The response for an ExternalName has the response code of its target, NXDOMAIN \
                 and SERVFAIL included (RFC 6604), and the SOA of a negative response; CoreDNS \
                 responds NOERROR and adds nothing."
            }
            Self::ParentForDs => {
                "With several server blocks, a DS query goes to the block above if it is for a \
                 block's own zone apex, and only then (RFC 4035, section 3.1.4.1); CoreDNS sends \
                 it to the highest block above, except the root's."
            }
        }
    }
}

/// A named reason for a difference in answers of other plugins than `kubernetes` and `forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceRule {
    WholeTtl,
    OtherClass,
    AutopathAlias,
    AliasSoa,
}

impl SourceRule {
    pub const ALL: [Self; 4] =
        [Self::WholeTtl, Self::OtherClass, Self::AutopathAlias, Self::AliasSoa];

    /// The sentence in docs/differences.md.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::WholeTtl => {
                "Only responses from upstreams are cached, so the answers of other plugins always \
                 carry their whole TTL; CoreDNS caches those of `kubernetes`, `hosts`, `template` \
                 and `file` too, within the bounds of `cache`."
            }
            Self::OtherClass => {
                "Questions of a class other than IN, and zone transfers, are REFUSED; CoreDNS \
                 forwards them."
            }
            Self::AutopathAlias => {
                "The CNAME from the client's name leads to the name that exists, once, also if \
                 that name lacks the type or is itself an alias; CoreDNS omits it without a record."
            }
            Self::AliasSoa => {
                "An answer with CNAMEs that lead to no record of the type has the SOA in its \
                 authority section (RFC 2308, section 2.2); CoreDNS has the NS records there."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page may break lines anywhere.
    #[test]
    fn the_page_of_differences_lists_every_rule() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/differences.md");
        let text = std::fs::read_to_string(path).expect("the repository's docs/differences.md");
        let words: Vec<&str> = text.split_whitespace().collect();
        let page = words.join(" ");
        let outside = OutsideRule::ALL.map(OutsideRule::sentence);
        let sources = SourceRule::ALL.map(SourceRule::sentence);
        let all = Rule::ALL.map(Rule::sentence).into_iter().chain(outside).chain(sources);
        for sentence in all {
            assert!(page.contains(sentence), "{path} does not say: {sentence}");
        }
    }
}
