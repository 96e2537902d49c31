//! A client's search path, and the names that it makes of a question.
//!
//! A client appends the domains of its search path to a short name, one after the other, and asks
//! for each until one exists. Bytes in, names out: nothing here asks anyone. Invariant: a path ends
//! with the root, so the last name is the short name alone.

use wire::name::{NAME_LEN_MAX, Name};
use wire::zone::ZoneSet;

/// Where the search path of a client comes from.
#[derive(Clone, Debug)]
pub enum SearchDomains {
    /// A file: the same path for all clients. Names in wire format, lower case, at least one.
    File(Box<[Box<[u8]>]>),
    /// The cluster: the path that the kubelet gives a pod.
    Cluster {
        /// The zones of the cluster, and their names in the same order.
        zones: ZoneSet,
        zone_names: Box<[Box<[u8]>]>,
        /// The server's own search domains, which the kubelet gives pods too.
        rest: Box<[Box<[u8]>]>,
    },
}

/// The search path for one question.
#[derive(Clone, Copy, Debug)]
pub struct SearchPath<'p> {
    /// The domains that begin it, if it is a pod's.
    pod: Option<PodDomains<'p>>,
    rest: &'p [Box<[u8]>],
    /// Bytes of the question's name before the first domain. More than 0.
    short_len: usize,
}

/// `NS.svc.ZONE`, `svc.ZONE` and `ZONE`.
#[derive(Clone, Copy, Debug)]
struct PodDomains<'p> {
    /// A label in wire format.
    namespace: &'p [u8],
    zone: &'p [u8],
}

const SVC: &[u8] = b"\x03svc";
/// The domains of a pod's path that name the cluster.
pub(super) const POD_DOMAIN_COUNT: usize = 3;

impl SearchDomains {
    /// The path of the client that asks for this name. `None` if the name does not end in the
    /// path's first domain: then the client is not searching, or further down its path.
    /// `namespace_of_client`: of its pod, as a label in wire format.
    pub fn path<'p>(
        &'p self,
        name: &Name,
        namespace_of_client: impl FnOnce() -> Option<&'p [u8]>,
    ) -> Option<SearchPath<'p>> {
        let (pod, rest) = match self {
            Self::File(domains) => (None, domains),
            Self::Cluster { zones, zone_names, rest } => {
                let zone = zone_names.get(zones.find(name)?.index)?;
                (Some(PodDomains { namespace: namespace_of_client()?, zone }), rest)
            }
        };
        let mut path = SearchPath { pod, rest, short_len: 0 };
        let mut domain = Bytes::new();
        path.push_domain(0, &mut domain)?;
        let short_len = name.bytes().len().checked_sub(domain.as_slice().len())?;
        let ends_in_domain = name.bytes().get(short_len..)? == domain.as_slice();
        let is_label = short_len > 0 && name.label_starting_at(short_len).is_some();
        path.short_len = short_len;
        (ends_in_domain && is_label).then_some(path)
    }
}

impl SearchPath<'_> {
    /// The number of names: one for each domain, and the short name alone.
    #[must_use]
    pub fn name_count(&self) -> usize {
        let of_pod = if self.pod.is_some() { POD_DOMAIN_COUNT } else { 0 };
        of_pod + self.rest.len() + 1
    }

    /// The name with this index; the first is the question's. `None` after the last, and for one
    /// that is too long.
    #[must_use]
    pub fn name(&self, question: &Name, index: usize) -> Option<Name> {
        let mut bytes = Bytes::new();
        bytes.push(question.bytes().get(..self.short_len)?)?;
        self.push_domain(index, &mut bytes)?;
        Name::from_wire(bytes.as_slice())
    }

    fn push_domain(&self, index: usize, bytes: &mut Bytes) -> Option<()> {
        let index = match self.pod {
            Some(PodDomains { namespace, zone }) if index < POD_DOMAIN_COUNT => {
                if index == 0 {
                    bytes.push(namespace)?;
                }
                if index < 2 {
                    bytes.push(SVC)?;
                }
                return bytes.push(zone);
            }
            Some(_) => index - POD_DOMAIN_COUNT,
            None => index,
        };
        match self.rest.get(index) {
            Some(domain) => bytes.push(domain),
            None if index == self.rest.len() => bytes.push(b"\0"),
            None => None,
        }
    }
}

/// A name on the stack.
struct Bytes {
    bytes: [u8; NAME_LEN_MAX],
    len: usize,
}

impl Bytes {
    const fn new() -> Self {
        Self { bytes: [0; NAME_LEN_MAX], len: 0 }
    }

    /// `None` if it would be too long.
    fn push(&mut self, part: &[u8]) -> Option<()> {
        self.bytes.get_mut(self.len..self.len + part.len())?.copy_from_slice(part);
        self.len += part.len();
        Some(())
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::value::zone::Zone;

    fn wire(text: &str) -> Box<[u8]> {
        Zone::from_name(text).unwrap().wire.into()
    }

    fn wires(texts: &[&str]) -> Box<[Box<[u8]>]> {
        texts.iter().map(|text| wire(text)).collect()
    }

    fn cluster(zones: &[&str]) -> SearchDomains {
        let zone_names = wires(zones);
        SearchDomains::Cluster {
            zones: ZoneSet::new(&zone_names),
            zone_names,
            rest: wires(&["node.example"]),
        }
    }

    /// The names of the path of a pod in the namespace `web`; empty if there is no path.
    fn check(domains: &SearchDomains, name: &str, expected: &[&str]) {
        let name = Name::from_wire(&wire(name)).unwrap();
        let path = domains.path(&name, || Some(b"\x03web"));
        let names: Vec<Option<Name>> = path
            .map(|path| (0..path.name_count()).map(|index| path.name(&name, index)).collect())
            .unwrap_or_default();
        let bytes: Vec<Option<&[u8]>> =
            names.iter().map(|name| name.as_ref().map(Name::bytes)).collect();
        let expected = wires(expected);
        let expected: Vec<Option<&[u8]>> = expected.iter().map(|name| Some(&**name)).collect();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_path_of_a_pod() {
        let domains = cluster(&["cluster.local", "lan"]);
        check(
            &domains,
            "www.example.org.web.svc.cluster.local",
            &[
                "www.example.org.web.svc.cluster.local",
                "www.example.org.svc.cluster.local",
                "www.example.org.cluster.local",
                "www.example.org.node.example",
                "www.example.org",
            ],
        );
        check(
            &domains,
            "a.web.svc.lan",
            &["a.web.svc.lan", "a.svc.lan", "a.lan", "a.node.example", "a"],
        );
        // Another namespace, another domain of the path, and the domain itself.
        check(&domains, "a.db.svc.cluster.local", &[]);
        check(&domains, "a.svc.cluster.local", &[]);
        check(&domains, "web.svc.cluster.local", &[]);
        check(&domains, "a.xweb.svc.cluster.local", &[]);
        check(&domains, "a.example.org", &[]);
    }

    #[test]
    fn the_path_of_a_file() {
        let domains = SearchDomains::File(wires(&["a.example", "b.example"]));
        check(&domains, "www.a.example", &["www.a.example", "www.b.example", "www"]);
        check(&domains, "a.example", &[]);
        check(&domains, "www.b.example", &[]);
    }

    #[test]
    fn a_client_without_a_pod_has_no_path() {
        let name = Name::from_wire(&wire("a.web.svc.cluster.local")).unwrap();
        assert!(cluster(&["cluster.local"]).path(&name, || None).is_none());
    }

    #[test]
    fn a_name_that_is_too_long_is_left_out() {
        let long = format!("{}.{}.{}", "x".repeat(60), "x".repeat(60), "x".repeat(60));
        let longer = format!("{0}.{0}", "y".repeat(40));
        let domains = SearchDomains::File(wires(&["a", &longer, "b"]));
        let name = Name::from_wire(&wire(&format!("{long}.a"))).unwrap();
        let path = domains.path(&name, || None).unwrap();
        let is_name: Vec<bool> =
            (0..=path.name_count()).map(|index| path.name(&name, index).is_some()).collect();
        assert_eq!(is_name, [true, false, true, true, false]);
    }
}
