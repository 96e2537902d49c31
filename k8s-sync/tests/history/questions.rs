//! Every possible name of the small world, and the comparison of two tables.

use wire::name::Name;
use wire::pod_index::PodIndex;
use wire::table::{Found, Table};

use crate::objects::name;
use crate::world::{ENDPOINTS, NAMESPACES, SERVICES};

/// A name, and the types to query.
pub(crate) type Questions = (Name, &'static [u16]);

/// For each table.
pub(crate) struct AllQuestions {
    pub(crate) cluster: Vec<Questions>,
    pub(crate) external: Vec<Questions>,
}

const OF_ZONE: &[u16] = &[1, 28, 33, 5, 16, 12, 2, 15];
/// A, AAAA, SRV, CNAME, and MX for all types without data.
const OF_SERVICE: &[u16] = &[1, 28, 33, 5, 15];
const OF_ADDRESS: &[u16] = &[12];

/// Labels below a Service: ports, endpoints, and spellings of addresses that are not labels of
/// endpoints.
pub(crate) const BELOW_SERVICE: &[&str] = &[
    "_tcp",
    "_udp",
    "_sctp",
    "_http._tcp",
    "_dns._udp",
    "_web._sctp",
    "_any._tcp",
    "h0",
    "h1",
    "p0",
    "10-1-0-1",
    "10-1-0-2",
    "10-1-0-3",
    "10-1-0-9",
    "10-96-0-1",
    "10-1-1-0",
    "10-1-1-15",
    "010-1-0-1",
    "10-1-0-01",
    "10-1-0-1-",
    "10-1-0",
    "10-1-0-256",
    "1-0-1-10",
    "fd00--1",
    "fd00--01",
    "fd00-0--1",
    "fd00-0-0-0-0-0-0-1",
    "fd00-0-0-1--0",
    "fd00-0-0-1--",
    "fd00--1-0-0-0-0",
    "--ffff-10-1-0-3",
    "--ffff-a01-3",
    "x.10-1-0-1",
    "x.h0",
];

impl AllQuestions {
    pub(crate) fn new() -> Self {
        Self { cluster: of_cluster(), external: of_external() }
    }
}

fn of_cluster() -> Vec<Questions> {
    let (mut zones, mut services) = (Vec::new(), Vec::new());
    for zone in ["one.zone", "two.zone"] {
        let below = ["", "svc.", "pod.", "dns.", "ns.dns.", "dns-version."];
        zones.extend(below.map(|labels| format!("{labels}{zone}")));
        for namespace in NAMESPACES {
            services.extend(["svc", "pod"].map(|tree| format!("{namespace}.{tree}.{zone}")));
            for address in ["10-1-0-1", "10-1-0-2", "10-1-0-3"] {
                services.push(format!("{address}.{namespace}.pod.{zone}"));
            }
            for service in SERVICES {
                let base = format!("{service}.{namespace}.svc.{zone}");
                services.extend(BELOW_SERVICE.iter().map(|below| format!("{below}.{base}")));
                services.push(base);
            }
        }
    }
    let v4 = ["1.0.1", "2.0.1", "3.0.1", "15.1.1", "1.0.96", "2.0.96", "3.0.96"];
    let mut addresses = vec![
        format!("1.{}d.f.ip6.arpa", "0.".repeat(29)),
        format!("{}1.{}d.f.ip6.arpa", "0.".repeat(16), "0.".repeat(13)),
    ];
    addresses.extend(v4.map(|labels| format!("{labels}.10.in-addr.arpa")));
    with_types([(zones, OF_ZONE), (services, OF_SERVICE), (addresses, OF_ADDRESS)])
}

/// The same for external zones.
fn of_external() -> Vec<Questions> {
    let (mut zones, mut services) = (Vec::new(), Vec::new());
    for zone in ["out.zone", "b.out.zone"] {
        zones.extend(["", "dns.", "ns1.dns."].map(|labels| format!("{labels}{zone}")));
        for namespace in NAMESPACES {
            services.push(format!("{namespace}.{zone}"));
            for service in SERVICES {
                let base = format!("{service}.{namespace}.{zone}");
                for below in
                    ["_http._tcp", "_dns._udp", "h0", "p0", "10-1-0-1", "010-1-0-1", "fd00--1", "x"]
                {
                    services.push(format!("{below}.{base}"));
                }
                services.push(base);
            }
        }
    }
    let addresses = ["1.2.0.192.in-addr.arpa", "2.2.0.192.in-addr.arpa", "1.0.1.10.in-addr.arpa"];
    let mut addresses: Vec<String> = addresses.map(str::to_owned).into();
    addresses.push(format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
    with_types([(zones, OF_ZONE), (services, OF_SERVICE), (addresses, OF_ADDRESS)])
}

fn with_types(groups: [(Vec<String>, &'static [u16]); 3]) -> Vec<Questions> {
    let questions = groups
        .into_iter()
        .flat_map(|(names, types)| names.into_iter().map(move |text| (name(&text), types)));
    questions.collect()
}

/// The first question that the two tables answer differently.
pub(crate) fn difference(questions: &[Questions], one: &Table, other: &Table) -> Option<String> {
    assert_eq!(one.is_synced(), other.is_synced());
    for (name, types) in questions {
        if matches!(one.look_up(name, 1), Found::Outside) {
            continue;
        }
        for rtype in *types {
            let is_same = match (one.look_up(name, *rtype), other.look_up(name, *rtype)) {
                (Found::Answer(one), Found::Answer(other)) => {
                    one.body == other.body
                        && (one.answer_count(), one.additional_count())
                            == (other.answer_count(), other.additional_count())
                }
                (Found::Endpoint(one), Found::Endpoint(other)) => one == other,
                (Found::Pointer(one), Found::Pointer(other)) => one == other,
                (one, other) => std::mem::discriminant(&one) == std::mem::discriminant(&other),
            };
            if !is_same {
                let text = domain::base::Name::from_octets(name.bytes()).unwrap().to_string();
                return Some(format!("{text} type {rtype}"));
            }
        }
    }
    None
}

/// The first address whose namespace differs.
pub(crate) fn pod_difference(one: Option<&PodIndex>, other: Option<&PodIndex>) -> Option<String> {
    let addresses = ENDPOINTS.iter().find(|address| {
        let address = address.parse().unwrap();
        let namespace = |index: Option<&PodIndex>| {
            index.and_then(|index| index.namespace_of(address).map(<[u8]>::to_vec))
        };
        namespace(one) != namespace(other)
    });
    addresses.map(|address| format!("the namespace of {address}"))
}
