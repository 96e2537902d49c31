//! Where ringdns may answer otherwise than CoreDNS 1.15.0, and nowhere else: the names of the
//! reasons, and what the documentation says of each. When one applies: `difference.rs`.

/// A named reason for a difference.
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
                "An ExternalName's CNAME answers every type (RFC 1034, section 4.3.2); CoreDNS \
                 leaves it out for types other than A, AAAA and CNAME, and where the target has \
                 no such record."
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
                "What `namespaces` and `namespace_labels` hide is not told of; with \
                 `namespace_labels` CoreDNS still names hidden Services in PTR records."
            }
            Self::LetterCase => {
                "Capitals in a name change nothing (RFC 4343); where the zone's own labels have \
                 some, CoreDNS does not find ns.dns nor the zone's NS record."
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
        for rule in Rule::ALL {
            assert!(readme.contains(rule.sentence()), "{path} does not say: {}", rule.sentence());
        }
    }
}
