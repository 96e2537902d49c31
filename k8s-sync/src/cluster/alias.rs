//! What an ExternalName points at: an external name, or one of ours, parsed back to the object that
//! answers for it.
//!
//! The grammar of names (Kubernetes DNS specification, sections 2.3 to 2.5) is here from right to
//! left; in `records` it is from left to right.

use std::net::IpAddr;

use wire::name::Name;
use wire::pod::dashed_address;

use super::zones::Zones;
use crate::object::{ObjectKey, Protocol};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub name: Name,
    pub target: AliasTarget,
}

/// What the name of an alias leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AliasTarget {
    /// A name outside our zones.
    Outside,
    /// A name in our zones that has no address.
    Nowhere,
    /// `ns.dns`.
    NameServers,
    Service(ObjectKey, ServicePart),
    /// `label` is the address as spelled in the name.
    Pod {
        namespace: Box<str>,
        label: Box<str>,
        address: IpAddr,
    },
}

/// Which of the names of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePart {
    Whole,
    Endpoint(Box<str>),
    Port(Box<str>, Protocol),
}

impl Alias {
    /// `None` if the text is not a host name, or is an IP address: a CNAME cannot express those.
    #[must_use]
    pub fn read(external_name: &str, zones: &Zones) -> Option<Self> {
        let name = Self::name(external_name)?;
        let target = target(&name, zones)?;
        Some(Self { name, target })
    }

    /// The name alone.
    #[must_use]
    pub fn name(external_name: &str) -> Option<Name> {
        if external_name.parse::<IpAddr>().is_ok() {
            return None;
        }
        let labels = external_name.strip_suffix('.').unwrap_or(external_name).split('.');
        let labels: Vec<&[u8]> = labels.map(str::as_bytes).collect();
        let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !labels.iter().all(|label| label.iter().all(is_host)) {
            return None;
        }
        let root = Name::default();
        Name::compose(&labels, &root)
    }
}

fn target(name: &Name, zones: &Zones) -> Option<AliasTarget> {
    let Some(zone) = zones.enclosing(name) else { return Some(AliasTarget::Outside) };
    let text = |index: usize| String::from_utf8_lossy(name.label(index));
    let left = zone.labels_left;
    let is =
        |from_zone: usize, label: &[u8]| from_zone <= left && name.label(left - from_zone) == label;
    if zone.is_reverse {
        return Some(AliasTarget::Nowhere);
    }
    if left == 2 && is(1, b"dns") && is(2, b"ns") {
        return Some(AliasTarget::NameServers);
    }
    if left >= 3 && is(1, b"pod") {
        let label = name.label(left - 3);
        let Some(address) = dashed_address(label) else { return Some(AliasTarget::Nowhere) };
        return Some(AliasTarget::Pod {
            namespace: text(left - 2).into(),
            label: text(left - 3).into(),
            address,
        });
    }
    if left < 3 || !is(1, b"svc") {
        return Some(AliasTarget::Nowhere);
    }
    let service = ObjectKey { namespace: text(left - 2).into(), name: text(left - 3).into() };
    let part = match left - 3 {
        0 => ServicePart::Whole,
        1 => ServicePart::Endpoint(text(0).into()),
        2 => match protocol(bare(&text(1))) {
            Some(protocol) => ServicePart::Port(bare(&text(0)).into(), protocol),
            None => return Some(AliasTarget::Nowhere),
        },
        _ => return Some(AliasTarget::Nowhere),
    };
    Some(AliasTarget::Service(service, part))
}

/// As in CoreDNS, port and protocol also work without their underscores.
fn bare(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

fn protocol(label: &str) -> Option<Protocol> {
    match label {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(external_name: &str, expected: Option<AliasTarget>) {
        let zones = Zones::new(&[b"\x07cluster\x05local\0".to_vec(), b"\x04arpa\0".to_vec()]);
        let alias = Alias::read(external_name, &zones);
        assert_eq!(alias.map(|alias| alias.target), expected, "{external_name}");
    }

    fn service(part: ServicePart) -> Option<AliasTarget> {
        Some(AliasTarget::Service(ObjectKey { namespace: "ns".into(), name: "web".into() }, part))
    }

    #[test]
    fn targets() {
        check("www.example.org", Some(AliasTarget::Outside));
        check("WWW.example.org.", Some(AliasTarget::Outside));
        check("cluster.local", Some(AliasTarget::Nowhere));
        check("web.ns.cluster.local", Some(AliasTarget::Nowhere));
        check("ns.svc.cluster.local", Some(AliasTarget::Nowhere));
        check("ns.dns.cluster.local", Some(AliasTarget::NameServers));
        check("web.ns.svc.cluster.local", service(ServicePart::Whole));
        check("Web.NS.Svc.Cluster.Local.", service(ServicePart::Whole));
        check("web-0.web.ns.svc.cluster.local", service(ServicePart::Endpoint("web-0".into())));
        for name in ["_http._tcp.web.ns.svc.cluster.local", "http.tcp.web.ns.svc.cluster.local"] {
            check(name, service(ServicePart::Port("http".into(), Protocol::Tcp)));
        }
        check("_http._quic.web.ns.svc.cluster.local", Some(AliasTarget::Nowhere));
        check("a.b.c.web.ns.svc.cluster.local", Some(AliasTarget::Nowhere));
        let pod = AliasTarget::Pod {
            namespace: "ns".into(),
            label: "10-1-0-1".into(),
            address: [10, 1, 0, 1].into(),
        };
        check("10-1-0-1.ns.pod.cluster.local", Some(pod.clone()));
        check("any.10-1-0-1.ns.pod.cluster.local", Some(pod));
        check("web.ns.pod.cluster.local", Some(AliasTarget::Nowhere));
    }

    #[test]
    fn texts_that_are_not_host_names() {
        for text in ["", ".", "a..b", "192.0.2.1", "2001:db8::1", "a b", "a\\.b", "é.example"] {
            check(text, None);
        }
        check(&format!("{}.example", "a".repeat(63)), Some(AliasTarget::Outside));
        check(&format!("{}.example", "a".repeat(64)), None);
        check(&vec!["a".repeat(63); 4].join("."), None);
    }
}
