//! Which namespace the pod of a client's address is in: one immutable index of a cluster's pods.
//!
//! An address is a prefix of 96 bits and 32 further bits, IPv4 as IPv6 maps it. The pods of a node
//! share a prefix, so an address takes six bytes. Invariant: an address is in the index once, and
//! every namespace is a DNS label.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Namespaces of one index: what its two bytes per address can tell apart. Kubernetes is tested
/// with ten thousand.
const NAMESPACES_MAX: usize = 1 << 16;

/// The namespaces of the pods of a cluster, by address.
#[derive(Debug, Default)]
pub struct PodIndex {
    /// Sorted.
    prefixes: Box<[Prefix]>,
    /// The lower 32 bits of each address, sorted within a prefix.
    addresses: Box<[u32]>,
    /// The namespace of each address, by index.
    namespaces: Box<[u16]>,
    /// Where each namespace begins in `labels`.
    labels_at: Box<[u32]>,
    /// Labels in wire format, one after the other.
    labels: Box<[u8]>,
}

/// The addresses that begin with the same 96 bits.
#[derive(Debug)]
struct Prefix {
    bits: [u32; 3],
    /// Index of the first of them. The next prefix begins after the last.
    first: u32,
}

impl PodIndex {
    /// `pods`: an address and its namespace, a DNS label; without one, the address is not a pod's
    /// own. Of different entries for one address none counts. Namespaces after the first 65,536 are
    /// left out.
    #[must_use]
    pub fn new<'n>(pods: impl IntoIterator<Item = (IpAddr, Option<&'n str>)>) -> Self {
        let mut pods: Vec<(u128, Option<&str>)> =
            pods.into_iter().map(|(address, namespace)| (bits_of(address), namespace)).collect();
        pods.sort_unstable();
        pods.dedup();
        let mut index = Self::default();
        let mut numbers: BTreeMap<&str, u16> = BTreeMap::new();
        let (mut prefixes, mut addresses, mut namespaces) =
            (Vec::<Prefix>::new(), Vec::new(), Vec::new());
        let (mut labels_at, mut labels) = (Vec::new(), Vec::new());
        for same in pods.chunk_by(|one, next| one.0 == next.0) {
            let [(bits, Some(namespace))] = same else { continue };
            let count = numbers.len();
            let number = match numbers.get(namespace) {
                Some(number) => *number,
                None if count == NAMESPACES_MAX || !(1..=63).contains(&namespace.len()) => continue,
                None => {
                    numbers.insert(namespace, count as u16);
                    labels_at.push(labels.len() as u32);
                    labels.push(namespace.len() as u8);
                    labels.extend(namespace.bytes().map(|byte| byte.to_ascii_lowercase()));
                    count as u16
                }
            };
            let (bits, low) = split(*bits);
            if prefixes.last().is_none_or(|last| last.bits != bits) {
                prefixes.push(Prefix { bits, first: addresses.len() as u32 });
            }
            addresses.push(low);
            namespaces.push(number);
        }
        index.prefixes = prefixes.into();
        index.addresses = addresses.into();
        index.namespaces = namespaces.into();
        index.labels_at = labels_at.into();
        index.labels = labels.into();
        index
    }

    /// The namespace of the pod with this address, as a label in wire format.
    #[must_use]
    pub fn namespace_of(&self, address: IpAddr) -> Option<&[u8]> {
        let (bits, low) = split(bits_of(address));
        let at = self.prefixes.binary_search_by_key(&bits, |prefix| prefix.bits).ok()?;
        let first = self.prefixes.get(at)?.first as usize;
        let end =
            self.prefixes.get(at + 1).map_or(self.addresses.len(), |next| next.first as usize);
        let at = first + self.addresses.get(first..end)?.binary_search(&low).ok()?;
        let namespace = usize::from(*self.namespaces.get(at)?);
        let label = self.labels.get(*self.labels_at.get(namespace)? as usize..)?;
        label.get(..=usize::from(*label.first()?))
    }

    /// The number of addresses.
    #[must_use]
    pub fn address_count(&self) -> usize {
        self.addresses.len()
    }

    /// Bytes of the whole index.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.prefixes)
            + size_of_val(&*self.addresses)
            + size_of_val(&*self.namespaces)
            + size_of_val(&*self.labels_at)
            + self.labels.len()
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The upper 96 bits of an address, and the lower 32.
fn split(bits: u128) -> ([u32; 3], u32) {
    ([(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32], bits as u32)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;

    use super::*;

    fn check(pods: &[(&str, &str)], address: &str, expected: Option<&[u8]>) {
        let pods = pods.iter().map(|(address, namespace)| {
            (address.parse().unwrap(), Some(*namespace).filter(|name| *name != "node"))
        });
        let index = PodIndex::new(pods);
        assert_eq!(index.namespace_of(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn namespaces_by_address() {
        let pods = [
            ("10.1.0.1", "web"),
            ("10.1.0.2", "db"),
            ("fd00::1", "web"),
            ("fd00:1::1", "db"),
            ("10.1.0.9", "one"),
            ("10.1.0.9", "two"),
            ("10.1.0.8", "same"),
            ("10.1.0.8", "same"),
            ("192.0.2.1", "node"),
            ("192.0.2.2", "node"),
            ("192.0.2.2", "web"),
        ];
        check(&pods, "10.1.0.1", Some(b"\x03web"));
        check(&pods, "::ffff:10.1.0.1", Some(b"\x03web"));
        check(&pods, "10.1.0.2", Some(b"\x02db"));
        check(&pods, "10.1.0.3", None);
        check(&pods, "fd00::1", Some(b"\x03web"));
        check(&pods, "fd00:1::1", Some(b"\x02db"));
        check(&pods, "fd00:2::1", None);
        check(&pods, "::1", None);
        // Two pods of different namespaces claim it.
        check(&pods, "10.1.0.9", None);
        check(&pods, "10.1.0.8", Some(b"\x04same"));
        check(&pods, "192.0.2.1", None);
        check(&pods, "192.0.2.2", None);
        check(&[], "10.1.0.1", None);
        check(&[("10.1.0.1", ""), ("10.1.0.2", &"x".repeat(64))], "10.1.0.1", None);
    }

    /// Ten thousand pods on a hundred nodes in two hundred namespaces.
    fn bytes_per_pod(addresses: impl Fn(u8, u8) -> Vec<IpAddr>) -> f64 {
        let names: Vec<String> = (0..200).map(|number| format!("team-{number}")).collect();
        let (mut pods, mut count) = (Vec::new(), 0);
        for node in 0..100_u8 {
            for pod in 1..=100_u8 {
                let namespace = &*names[usize::from(node) * 7 % 200];
                pods.extend(
                    addresses(node, pod).into_iter().map(|address| (address, Some(namespace))),
                );
                count += 1;
            }
        }
        let index = PodIndex::new(pods.iter().copied());
        assert_eq!(index.address_count(), pods.len());
        index.byte_count() as f64 / f64::from(count)
    }

    #[test]
    fn a_pod_takes_at_most_sixteen_bytes() {
        let v4 = |node, pod| IpAddr::from([10, 244, node, pod]);
        let v6 = |node: u8, pod: u8| {
            IpAddr::from([0xFD00, 0x10, 0x244, node.into(), 0, 0, 0, u16::from(pod)])
        };
        for (what, bytes) in [
            ("IPv4", bytes_per_pod(|node, pod| [v4(node, pod)].into())),
            ("IPv6", bytes_per_pod(|node, pod| [v6(node, pod)].into())),
            ("both", bytes_per_pod(|node, pod| [v4(node, pod), v6(node, pod)].into())),
        ] {
            std::println!("{what}: {bytes:.2} bytes per pod");
            assert!(bytes <= 16.0, "{what}: {bytes} bytes per pod");
        }
    }
}
