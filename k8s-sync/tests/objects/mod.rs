//! Test objects written as one line of text each, and the answers of a table as text.
//!
//! ```text
//!   ns  NS
//!   svc NS/NAME IP,IP|headless|=TARGET [PORT…] [@EXTERNAL…]
//!                                                 PORT: name:80/tcp, or :80/tcp without a name
//!   eps NS/NAME SERVICE ADDRESS… [PORT…]          ADDRESS: 10.1.0.1, +hostname, ^pod-name, or
//!                                                 =host.example; PORT: http:*/tcp for all
//!   pod NS/NAME IP,IP [host]
//! ```
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::base::name::Name;
use domain::base::{Message, Rtype};
use domain::rdata::AllRecordData;
use k8s_sync::object::{
    Change, Endpoint, EndpointSlice, Event, ExternalTarget, Namespace, ObjectKey, Pod, Port,
    Protocol, Service, ServiceKind,
};
use k8s_sync::options::{ApiServer, ExternalOptions, Options, Source};
use k8s_sync::publish::{ExternalNumber, Publisher};
use wire::answer::Answer;
use wire::apex::ApexLabel;
use wire::endpoint::{AddressLabel, AddressName};
use wire::hash::HashSeed;
use wire::pod::PodMode;
use wire::reverse::Pointer;
use wire::table::{Found, Table};

pub(crate) fn options(zones: &[&str]) -> Options {
    let wire = |zone: &&str| zone.parse::<Name<Vec<u8>>>().unwrap().into_octets();
    Options {
        zones: zones.iter().map(wire).collect(),
        source: Source::ApiServer(ApiServer::default()),
        namespaces: vec![],
        namespace_labels: None,
        labels: None,
        pods: PodMode::Disabled,
        indexes_pods: false,
        endpoint_pod_names: false,
        ttl_secs: 5,
        no_endpoints: false,
        ignore_empty_service: false,
        server_addresses: vec![],
        startup_timeout: Duration::from_secs(5),
    }
}

/// The usual zones, reverse ones included.
pub(crate) fn usual() -> Options {
    options(&["cluster.local", "in-addr.arpa", "ip6.arpa"])
}

pub(crate) fn external_options(zones: &[&str]) -> ExternalOptions {
    ExternalOptions {
        zones: options(zones).zones,
        apex: ApexLabel::new(b"dns").expect("a label"),
        ttl_secs: 5,
        is_headless: false,
    }
}

pub(crate) fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').expect("NS/NAME");
    ObjectKey { namespace: namespace.into(), name: name.into() }
}

fn addresses(text: &str) -> Box<[IpAddr]> {
    text.split(',').filter(|one| !one.is_empty()).map(|one| one.parse().expect(one)).collect()
}

/// `name:number/protocol`
fn port(text: &str) -> Option<Port> {
    let (name, rest) = text.rsplit_once(':')?;
    let (number, protocol) = rest.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => panic!("no protocol: {other}"),
    };
    Some(Port { name: name.into(), protocol, number: number.parse().ok() })
}

fn endpoint(text: &str) -> Endpoint {
    let named = |sign| text.split_once(sign).map(|(address, name)| (address, Some(name.into())));
    let (address, hostname) = named('+').unwrap_or((text, None));
    let (address, pod_name) = named('^').unwrap_or((address, None));
    Endpoint { addresses: addresses(address), hostname, pod_name }
}

/// `@192.0.2.1` or `@host.example`
fn external_target(text: &str) -> ExternalTarget {
    let text = &text[1..];
    text.parse().map_or_else(|_| ExternalTarget::Host(text.into()), ExternalTarget::Address)
}

/// The line's object, as an `Apply` event.
pub(crate) fn apply(line: &str) -> Event {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["ns", name] => Event::Namespace(Change::Apply(Namespace { name: (*name).into() })),
        ["svc", name, kind, ports @ ..] => {
            let kind = match (*kind, kind.strip_prefix('=')) {
                ("headless", _) => ServiceKind::Headless,
                (_, Some(target)) => ServiceKind::ExternalName(target.into()),
                (ips, None) => ServiceKind::ClusterIp(addresses(ips)),
            };
            let (external, ports): (Vec<&str>, Vec<&str>) =
                ports.iter().partition(|text| text.starts_with('@'));
            let ports = ports.into_iter().map(|text| port(text).expect(text));
            let mut external: Vec<_> = external.iter().map(|text| external_target(text)).collect();
            external.sort();
            external.dedup();
            let external = external.into();
            let ports = ports.collect();
            let service = Service { key: key(name), kind, ports, external };
            Event::Service(Change::Apply(service))
        }
        ["eps", name, service, rest @ ..] => {
            let (ports, endpoints): (Vec<&str>, Vec<&str>) =
                rest.iter().partition(|text| port(text).is_some());
            let (hosts, endpoints): (Vec<&str>, Vec<&str>) =
                endpoints.into_iter().partition(|text| text.starts_with('='));
            Event::EndpointSlice(Change::Apply(EndpointSlice {
                key: key(name),
                service: (*service).into(),
                endpoints: endpoints.into_iter().map(endpoint).collect(),
                hosts: hosts.into_iter().map(|text| text[1..].into()).collect(),
                ports: ports.into_iter().map(|text| port(text).unwrap()).collect(),
                triggered: None,
            }))
        }
        ["pod", name, ips, host @ ..] => Event::Pod(Change::Apply(Pod {
            key: key(name),
            ips: addresses(ips),
            is_on_host_network: host == ["host"],
        })),
        _ => panic!("no object: {line}"),
    }
}

/// The line's object, as a `Delete` event.
pub(crate) fn delete(line: &str) -> Event {
    match apply(line) {
        Event::Namespace(Change::Apply(gone)) => Event::Namespace(Change::Delete(gone.name)),
        Event::Service(Change::Apply(gone)) => Event::Service(Change::Delete(gone.key)),
        Event::EndpointSlice(Change::Apply(gone)) => Event::EndpointSlice(Change::Delete(gone.key)),
        Event::Pod(Change::Apply(gone)) => Event::Pod(Change::Delete(gone.key)),
        other => panic!("not applied: {other:?}"),
    }
}

/// Empty lists of all kinds, after which the model is synced.
pub(crate) fn synced() -> [Event; 8] {
    [
        Event::Namespace(Change::Init),
        Event::Namespace(Change::InitDone),
        Event::Service(Change::Init),
        Event::Service(Change::InitDone),
        Event::EndpointSlice(Change::Init),
        Event::EndpointSlice(Change::InitDone),
        Event::Pod(Change::Init),
        Event::Pod(Change::InitDone),
    ]
}

/// A synced publisher with these objects.
pub(crate) fn publisher(options: Options, objects: &[&str]) -> Publisher {
    let mut publisher = Publisher::new(Arc::new(options), HashSeed::new(7));
    synced().into_iter().chain(objects.iter().map(|line| apply(line))).for_each(|event| {
        publisher.apply(event);
    });
    publisher
}

/// The table of a cluster with these objects.
pub(crate) fn table(options: Options, objects: &[&str]) -> Arc<Table> {
    publisher(options, objects).publish(1).expect("a first table")
}

pub(crate) fn name(text: &str) -> wire::name::Name {
    let octets = text.parse::<Name<Vec<u8>>>().expect(text).into_octets();
    let mut name = wire::name::Name::default();
    name.read(&octets).expect(text);
    name
}

/// What the table answers: `A 10.1.0.1, A 10.1.0.2 + web.ns.svc… A 10.1.0.1`, `NODATA`, `NXDOMAIN`
/// and so on.
///
/// Owners equal to the question's name and TTLs of 5 are omitted. Records are sorted, because
/// `wire` rotates them, except after a CNAME. If CNAMEs lead on, the result there follows: `CNAME
/// web.ns.svc…, then NODATA`.
pub(crate) fn ask(table: &Table, question: &str) -> String {
    let (owner, rtype) = question.split_once(' ').expect("NAME TYPE");
    let rtype: Rtype = rtype.parse().expect(rtype);
    let name = name(owner);
    let mut behind = "";
    let answer = match table.look_up(&name, rtype.to_int()) {
        Found::Answer(answer) => answer,
        Found::Alias(cnames) => {
            behind = then(table, cnames, rtype);
            cnames
        }
        Found::Pod(pod) => return format!("POD {}", pod.address),
        Found::Endpoint(endpoint) => return endpoint_text(&endpoint, owner, rtype),
        Found::Pointer(pointer) => return pointer_text(&pointer),
        Found::Soa(_) => return "SOA".into(),
        Found::NoData(_) => return "NODATA".into(),
        Found::NxDomain(_) => return "NXDOMAIN".into(),
        Found::Unsynced(_) => return "UNSYNCED".into(),
        Found::Unlisted => return "UNLISTED".into(),
        Found::Expanded(..) | Found::Denied(_) | Found::Referral(_) | Found::Unloaded => {
            unreachable!("of a zone file")
        }
        Found::Outside => return "OUTSIDE".into(),
    };
    let owner = stored_name(owner, answer.name_len);
    let name = self::name(&owner);
    let mut message = vec![0, 1, 0x84, 0, 0, 1];
    message.extend(answer.answer_count().to_be_bytes());
    message.extend([0, 0]);
    message.extend(answer.additional_count().to_be_bytes());
    message.extend(name.bytes());
    message.extend(rtype.to_int().to_be_bytes());
    message.extend([0, 1]);
    message.extend(answer.body);
    let message = Message::from_octets(message).unwrap();
    let text = |section: domain::base::message::RecordSection<'_, Vec<u8>>| {
        let mut lines: Vec<String> = section
            .limit_to::<AllRecordData<_, _>>()
            .map(|record| {
                let record = record.expect(question);
                let mut text = String::new();
                let of = record.owner().to_string();
                if !of.eq_ignore_ascii_case(&owner) {
                    text += &format!("{of} ");
                }
                if record.ttl().as_secs() != 5 {
                    text += &format!("{} ", record.ttl().as_secs());
                }
                text += &format!("{} {}", record.rtype(), record.data());
                text.trim_end_matches('.').to_owned()
            })
            .collect();
        if !lines.iter().any(|line| line.contains("CNAME ")) {
            lines.sort();
        }
        lines.join(", ")
    };
    let sections = [text(message.answer().unwrap()), text(message.additional().unwrap())];
    sections.join(" + ").trim_end_matches(" + ").to_owned() + behind
}

/// The records that a response has for an endpoint whose name is not stored.
fn endpoint_text(endpoint: &AddressName<'_>, owner: &str, rtype: Rtype) -> String {
    let family = if endpoint.address.is_ipv4() { "A" } else { "AAAA" };
    let address = format!("{family} {}", endpoint.address);
    if rtype != Rtype::SRV {
        return address;
    }
    let owner = owner.to_ascii_lowercase();
    let ports = endpoint.ports.iter().map(|port| u16::from_be_bytes(*port));
    let records = ports.map(|port| format!("SRV 0 {} {port} {owner}", endpoint.weight));
    let mut records: Vec<String> = records.collect();
    records.sort();
    format!("{} + {address}", records.join(", "))
}

/// The PTR record that a response has for an endpoint's address.
fn pointer_text(pointer: &Pointer<'_>) -> String {
    let label = AddressLabel::of_endpoint(pointer.address);
    let label = std::str::from_utf8(label.as_slice()).unwrap();
    let service: Name<&[u8]> = Name::from_octets(pointer.service).unwrap();
    format!("PTR {label}.{service}")
}

/// The table's result for the target of CNAMEs that the entry does not follow itself.
fn then(table: &Table, cnames: Answer<'_>, rtype: Rtype) -> &'static str {
    let target = wire::name::Name::from_wire(cnames.target()).expect("a whole name");
    match table.look_up(&target, rtype.to_int()) {
        Found::Unlisted | Found::Outside => "",
        Found::Answer(_)
        | Found::Pod(_)
        | Found::Endpoint(_)
        | Found::Pointer(_)
        | Found::Soa(_) => ", then more",
        Found::Alias(_) => ", then CNAMEs",
        Found::NoData(_) => ", then NODATA",
        Found::NxDomain(_) => ", then NXDOMAIN",
        Found::Unsynced(_) => ", then UNSYNCED",
        Found::Expanded(..) | Found::Denied(_) | Found::Referral(_) | Found::Unloaded => {
            unreachable!("of a zone file")
        }
    }
}

/// The stored name of an answer. The question may omit the underscores of a port, or have labels
/// before that of a pod.
fn stored_name(question: &str, name_len: usize) -> String {
    let spellings = [
        question.to_owned(),
        format!("_{question}"),
        question.replacen('.', "._", 1),
        format!("_{}", question.replacen('.', "._", 1)),
        question.split_once('.').map_or_else(String::new, |(_, rest)| format!("*.{rest}")),
        question.split_once('.').map_or_else(String::new, |(_, rest)| rest.to_owned()),
    ];
    let of_this_len = |spelling: &&String| name(spelling).bytes().len() == name_len;
    spellings.iter().find(of_this_len).expect(question).clone()
}

/// The same with the table of external zones.
pub(crate) fn check_external(
    options: Options,
    external: &ExternalOptions,
    objects: &[&str],
    rows: &[(&str, &str)],
) {
    let mut publisher = publisher(options, objects);
    publisher.add_external(ExternalNumber(0), external);
    publisher.publish(1);
    let table = publisher.take_external(ExternalNumber(0)).expect("a first table");
    for (question, expected) in rows {
        assert_eq!(ask(&table, question), *expected, "{question} of {objects:#?}");
    }
}

/// Asks the question of each row and compares the answer.
pub(crate) fn check(options: Options, objects: &[&str], rows: &[(&str, &str)]) {
    let table = table(options, objects);
    for (question, expected) in rows {
        assert_eq!(ask(&table, question), *expected, "{question} of {objects:#?}");
    }
}
