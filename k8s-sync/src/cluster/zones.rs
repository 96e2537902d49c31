//! The zones of one `kubernetes` block, and those of a `k8s_external` line: zones of names, and
//! reverse zones.

use std::net::IpAddr;

use domain::base::Name;
use domain::dep::octseq::array::Array;
use wire::reverse::ReverseName;
use wire::zone::ZoneSet;

/// A whole name in wire format, on the stack.
pub type WireName = Name<Array<255>>;

#[derive(Debug)]
pub struct Zones {
    forward: Vec<Name<Vec<u8>>>,
    reverse: Vec<Name<Vec<u8>>>,
    /// In the order of the Corefile.
    is_reverse: Vec<bool>,
    all: ZoneSet,
    /// The first zone that is a whole reverse tree.
    tree: Option<Name<Vec<u8>>>,
    /// Whether the zones contain all IPv4 addresses, and all IPv6 addresses.
    whole_trees: [bool; 2],
}

/// The reverse trees of both families.
const TREES: [&[u8]; 2] = [b"\x07in-addr\x04arpa\0", b"\x03ip6\x04arpa\0"];

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
        let names = zones.iter().map(|zone| {
            Name::from_octets(zone.clone()).expect("a zone is a whole name in wire format")
        });
        let (reverse, forward): (Vec<_>, Vec<_>) = names.clone().partition(is_reverse_zone);
        let is_reverse = names.map(|name| is_reverse_zone(&name)).collect();
        let whole_trees = TREES.map(|tree| zones.iter().any(|zone| zone == tree));
        let tree = zones.iter().find(|zone| TREES.contains(&zone.as_slice()));
        let tree = tree.and_then(|tree| Name::from_octets(tree.clone()).ok());
        Self { forward, reverse, is_reverse, all: ZoneSet::new(zones), tree, whole_trees }
    }

    /// The zones of Services and pods, in the order of the Corefile.
    #[must_use]
    pub fn forward(&self) -> &[Name<Vec<u8>>] {
        &self.forward
    }

    /// The reverse zones, in the order of the Corefile.
    #[must_use]
    pub fn reverse(&self) -> &[Name<Vec<u8>>] {
        &self.reverse
    }

    /// Whether a name below this zone belongs to it, and not to a longer one of the zones.
    #[must_use]
    pub fn is_own(&self, name: &WireName, zone: &Name<Vec<u8>>) -> bool {
        is_own(&self.all, name, zone)
    }

    /// The zone that PTR records point into. Without a zone of names it is a whole reverse tree, as
    /// in CoreDNS.
    #[must_use]
    pub fn primary(&self) -> Option<&Name<Vec<u8>>> {
        self.forward.first().or(self.tree.as_ref())
    }

    #[must_use]
    pub fn enclosing(&self, name: &wire::name::Name) -> Option<EnclosingZone> {
        let zone = self.all.find(name)?;
        let labels_left = name.label_starting_at(zone.name_offset)?;
        Some(EnclosingZone { is_reverse: self.is_reverse[zone.index], labels_left })
    }

    /// Whether this address has a reverse name in one of the zones.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.whole_trees[usize::from(address.is_ipv6())] || self.reverse_name(address).is_some()
    }

    /// The owner of this address's PTR records, if it is in one of the zones.
    #[must_use]
    pub fn reverse_name(&self, address: IpAddr) -> Option<WireName> {
        let (name, read) = reverse_name(address)?;
        self.enclosing(&read).filter(|zone| zone.is_reverse && zone.labels_left > 0)?;
        Some(name)
    }
}

/// The zones of one `k8s_external` line.
#[derive(Debug)]
pub struct ExternalZones {
    /// In the order of the Corefile.
    names: Vec<Name<Vec<u8>>>,
    all: ZoneSet,
}

impl ExternalZones {
    /// `zones`: wire format, lower case, in the order of the Corefile, at least one.
    #[must_use]
    pub fn new(zones: &[Vec<u8>]) -> Self {
        let names = zones.iter().map(|zone| {
            Name::from_octets(zone.clone()).expect("a zone is a whole name in wire format")
        });
        Self { names: names.collect(), all: ZoneSet::new(zones) }
    }

    /// All of them, reverse zones too.
    #[must_use]
    pub fn names(&self) -> &[Name<Vec<u8>>] {
        &self.names
    }

    /// The zones of Services, in the order of the Corefile.
    pub fn forward(&self) -> impl Iterator<Item = &Name<Vec<u8>>> {
        self.names.iter().filter(|zone| !is_reverse_zone(zone))
    }

    /// The zone that PTR records point into: the first that is not a reverse zone, if there is one.
    #[must_use]
    pub fn primary(&self) -> Option<&Name<Vec<u8>>> {
        self.forward().next().or_else(|| self.names.first())
    }

    /// Whether a name below this zone belongs to it, and not to a longer one of the zones.
    #[must_use]
    pub fn is_own(&self, name: &WireName, zone: &Name<Vec<u8>>) -> bool {
        is_own(&self.all, name, zone)
    }

    /// The owner of this address's PTR records, if it is in one of the zones.
    #[must_use]
    pub fn reverse_name(&self, address: IpAddr) -> Option<WireName> {
        let (name, read) = reverse_name(address)?;
        self.all.find(&read).filter(|zone| zone.name_offset > 0)?;
        Some(name)
    }
}

fn reverse_name(address: IpAddr) -> Option<(WireName, wire::name::Name)> {
    let name = ReverseName::new(address);
    let octets = Array::try_from(name.as_slice()).ok()?;
    let read = wire::name::Name::from_wire(name.as_slice())?;
    Some((WireName::from_octets(octets).ok()?, read))
}

fn is_own(all: &ZoneSet, name: &WireName, zone: &Name<Vec<u8>>) -> bool {
    let read = wire::name::Name::from_wire(name.as_slice());
    let found = read.and_then(|read| all.find(&read));
    found.is_some_and(|found| name.len() - found.name_offset == zone.len())
}

fn is_reverse_zone(zone: &Name<Vec<u8>>) -> bool {
    TREES.iter().any(|tree| {
        let tree = Name::<[u8]>::from_slice(tree).expect("a name in wire format");
        zone.ends_with(tree)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zones: &[&str], address: &str, expected: Option<&str>) {
        let zones: Vec<Vec<u8>> =
            zones.iter().map(|zone| zone.parse::<Name<Vec<u8>>>().unwrap().into_octets()).collect();
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
