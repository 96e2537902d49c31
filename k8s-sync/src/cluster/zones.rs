//! The zones of one `kubernetes` block, and those of a `k8s_external` line: zones of names, and
//! reverse zones.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::name::Name;
use wire::reverse::{self, ReverseName, TREES, is_in_tree};
use wire::zone::ZoneSet;

#[derive(Debug)]
pub struct Zones {
    forward: Vec<Name>,
    reverse: Vec<Name>,
    /// In the order of the Corefile.
    is_reverse: Vec<bool>,
    all: ZoneSet,
    /// The first zone that is a whole reverse tree.
    tree: Option<Name>,
    /// Whether the zones contain all IPv4 addresses, and all IPv6 addresses.
    whole_trees: [bool; 2],
    /// The reverse zones that are the name of one address, as of `10.96.0.8/29`.
    of_addresses: BTreeMap<IpAddr, Name>,
}

/// The zone that encloses a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclosingZone {
    pub is_reverse: bool,
    /// Number of labels of the name to the left of the zone.
    pub labels_left: usize,
}

impl Zones {
    /// `zones`: wire format, lower case, in the order of the Corefile.
    #[must_use]
    pub fn new(zones: &[Vec<u8>]) -> Self {
        let names = zones.iter().map(|zone| whole_name(zone));
        let (reverse, forward): (Vec<_>, Vec<_>) = names.clone().partition(is_in_tree);
        let is_reverse = names.map(|name| is_in_tree(&name)).collect();
        let whole_trees = TREES.map(|tree| zones.iter().any(|zone| zone == tree));
        let tree = reverse.iter().find(|zone| TREES.contains(&zone.bytes())).cloned();
        let of_address = |zone: &Name| Some((reverse::address(zone)?, zone.clone()));
        let of_addresses = reverse.iter().filter_map(of_address).collect();
        let all = ZoneSet::new(zones);
        Self { forward, reverse, is_reverse, all, tree, whole_trees, of_addresses }
    }

    /// The zones of Services and pods, in the order of the Corefile.
    #[must_use]
    pub fn forward(&self) -> &[Name] {
        &self.forward
    }

    /// The reverse zones, in the order of the Corefile.
    #[must_use]
    pub fn reverse(&self) -> &[Name] {
        &self.reverse
    }

    /// Whether a name below this zone belongs to it, and not to a longer one of the zones.
    #[must_use]
    pub fn is_own(&self, name: &Name, zone: &Name) -> bool {
        is_own(&self.all, name, zone)
    }

    /// The zone that PTR records point into. Without a zone of names it is a whole reverse tree, as
    /// in CoreDNS.
    #[must_use]
    pub fn primary(&self) -> Option<&Name> {
        self.forward.first().or(self.tree.as_ref())
    }

    #[must_use]
    pub fn enclosing(&self, name: &Name) -> Option<EnclosingZone> {
        let (zone, labels_left) = self.all.find_below(name)?;
        Some(EnclosingZone { is_reverse: self.is_reverse[zone.index], labels_left })
    }

    /// Whether this address has a reverse name in one of the zones.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.whole_trees[usize::from(address.is_ipv6())] || self.reverse_name(address).is_some()
    }

    /// The owner of this address's PTR records, if it is in one of the zones.
    #[must_use]
    pub fn reverse_name(&self, address: IpAddr) -> Option<Name> {
        let name = ReverseName::new(address).into_name();
        self.enclosing(&name).filter(|zone| zone.is_reverse)?;
        Some(name)
    }

    /// The zone that is this address's reverse name itself.
    #[must_use]
    pub fn of_address(&self, address: IpAddr) -> Option<&Name> {
        self.of_addresses.get(&address)
    }
}

/// The zones of one `k8s_external` line.
#[derive(Debug)]
pub struct ExternalZones {
    /// In the order of the Corefile.
    names: Vec<Name>,
    all: ZoneSet,
}

impl ExternalZones {
    /// `zones`: wire format, lower case, in the order of the Corefile, at least one.
    #[must_use]
    pub fn new(zones: &[Vec<u8>]) -> Self {
        let names = zones.iter().map(|zone| whole_name(zone)).collect();
        Self { names, all: ZoneSet::new(zones) }
    }

    /// All of them, reverse zones too.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The zones of Services, in the order of the Corefile.
    pub fn forward(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().filter(|zone| !is_in_tree(zone))
    }

    /// The zone that PTR records point into: the first that is not a reverse zone, if there is one.
    #[must_use]
    pub fn primary(&self) -> Option<&Name> {
        self.forward().next().or_else(|| self.names.first())
    }

    /// Whether a name below this zone belongs to it, and not to a longer one of the zones.
    #[must_use]
    pub fn is_own(&self, name: &Name, zone: &Name) -> bool {
        is_own(&self.all, name, zone)
    }

    /// The owner of this address's PTR records, if it is in one of the zones.
    #[must_use]
    pub fn reverse_name(&self, address: IpAddr) -> Option<Name> {
        let name = ReverseName::new(address).into_name();
        self.all.find(&name).filter(|zone| zone.name_offset > 0)?;
        Some(name)
    }
}

fn whole_name(wire: &[u8]) -> Name {
    Name::from_wire(wire).expect("a whole name in wire format")
}

fn is_own(all: &ZoneSet, name: &Name, zone: &Name) -> bool {
    let found = all.find(name);
    found.is_some_and(|found| name.bytes().len() - found.name_offset == zone.bytes().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    type DomainName = domain::base::Name<Vec<u8>>;

    fn check(zones: &[&str], address: &str, expected: Option<&str>) {
        let zones: Vec<Vec<u8>> =
            zones.iter().map(|zone| zone.parse::<DomainName>().unwrap().into_octets()).collect();
        let name = Zones::new(&zones).reverse_name(address.parse().unwrap());
        assert_eq!(name.map(|name| name.to_string()).as_deref(), expected, "{address}");
    }

    #[test]
    fn reverse_names_in_the_zones() {
        let zones = ["cluster.local", "96.10.in-addr.arpa", "0.0.d.f.ip6.arpa"];
        check(&zones, "10.96.0.1", Some("1.0.96.10.in-addr.arpa"));
        check(&zones, "10.97.0.1", None);
        check(
            &zones,
            "fd00::1",
            Some("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"),
        );
        check(&zones, "fd01::1", None);
        check(&["9.0.96.10.in-addr.arpa"], "10.96.0.9", Some("9.0.96.10.in-addr.arpa"));
        check(&["."], "10.96.0.1", None);
        check(&["cluster.local", "in-addr.arpa"], "10.96.0.1", Some("1.0.96.10.in-addr.arpa"));
    }

    #[test]
    fn the_primary_zone_is_the_first_zone_of_names() {
        const TREE: &[u8] = b"\x07in-addr\x04arpa\0";
        let check = |zones: &[&[u8]], expected: Option<&str>| {
            let zones: Vec<_> = zones.iter().map(|zone| zone.to_vec()).collect();
            let primary = Zones::new(&zones).primary().map(ToString::to_string);
            assert_eq!(primary.as_deref(), expected);
        };
        check(&[TREE, b"\x01a\0", b"\x01b\0"], Some("a"));
        check(&[b"\x0210\x07in-addr\x04arpa\0"], None);
        // Without zones of names, PTR records point into the reverse tree.
        check(&[b"\x0210\x07in-addr\x04arpa\0", TREE], Some("in-addr.arpa"));
    }
}
