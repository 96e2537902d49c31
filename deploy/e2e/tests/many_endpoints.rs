//! 10,000 endpoints behind one headless Service: every response is bounded, and a client that
//! cannot get all of them gets some, and not always the same.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::ask::{Transport, ask_as};
use e2e::corefile::{Corefile, STOCK};
use e2e::deadline::poll;
use e2e::fake_api::FakeApi;
use e2e::fake_api::object::{FakeObject, service, slice};
use e2e::query::{Edns, Query, Reply};
use e2e::question::Question;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;

const ENDPOINT_COUNT: u32 = 10_000;
/// As Kubernetes makes them.
const ENDPOINTS_PER_SLICE: u32 = 100;

const LIMIT: Duration = Duration::from_secs(5);
const READ_LIMIT: Duration = Duration::from_secs(60);

/// Without EDNS (RFC 1035, section 4.2.1), and with it: what ringdns sends at most.
const UDP_LEN_MAX: usize = 512;
const EDNS_LEN_MAX: usize = 1_232;
const TCP_LEN_MAX: usize = 65_535;

/// How often each question is asked.
const ROUNDS: usize = 20;

/// What the endpoints may add to the memory, with the answers of 64 KiB each that are being sent:
/// 3 KiB each, which is far more than they need.
const GROWTH_KIB_MAX: u64 = 30 * 1_024;

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0A64_0000 + number)
}

/// A cluster with that Service, and a ringdns that has read it.
fn crowd() -> (FakeApi, Corefile, Server) {
    let fake = FakeApi::start();
    fake.put(service("default", "crowd", None));
    let corefile = Corefile::new(STOCK).with_kubeconfig(&fake.kubeconfig());
    let ringdns = Server::start(Kind::Ringdns, &corefile, None);
    (fake, corefile, ringdns)
}

fn endpoints(slice_number: u32) -> FakeObject {
    let first = slice_number * ENDPOINTS_PER_SLICE;
    let addresses: Vec<Ipv4Addr> = (first..first + ENDPOINTS_PER_SLICE).map(address).collect();
    slice("default", &format!("crowd-{slice_number}"), "crowd", &addresses).into()
}

#[test]
fn ten_thousand_endpoints() {
    let (fake, corefile, ringdns) = crowd();
    let before = ringdns.resident_kib();
    fake.put_all((0..ENDPOINT_COUNT / ENDPOINTS_PER_SLICE).map(endpoints));
    wait_for(&ringdns, ENDPOINT_COUNT - 1, true);

    let mut first_seen = BTreeSet::new();
    for rtype in [Rtype::A, Rtype::SRV] {
        for (what, edns_len, transport, len_max) in [
            ("UDP", None, Transport::Udp, UDP_LEN_MAX),
            ("UDP, EDNS 1232", Some(1_232), Transport::Udp, EDNS_LEN_MAX),
            ("UDP, EDNS 65535", Some(65_535), Transport::Udp, EDNS_LEN_MAX),
            ("TCP", None, Transport::Tcp, TCP_LEN_MAX),
        ] {
            let replies: Vec<Reply> =
                (0..ROUNDS).map(|_| ask(&ringdns, rtype, edns_len, transport)).collect();
            for reply in &replies {
                assert_eq!(reply.answer.rcode, "NOERROR", "{what} {rtype}");
                assert!(reply.len <= len_max, "{what} {rtype}: {} bytes", reply.len);
                // Some arrive in any case: a client that knows no TCP can use them.
                assert!(!reply.answer.answer.is_empty(), "{what} {rtype}: no record");
                let has_tc = reply.answer.tc || transport == Transport::Tcp;
                assert!(has_tc, "{what} {rtype}: not all fit");
            }
            let distinct: BTreeSet<&str> =
                replies.iter().flat_map(|reply| reply.answer.data_of(rtype)).collect();
            let most = replies.iter().map(|reply| reply.answer.answer.len()).max();
            let longest = replies.iter().map(|reply| reply.len).max();
            say(&format!(
                "10,000 endpoints, {rtype} over {what}: {} records in {} bytes at most, {} \
                 distinct ones in {ROUNDS} responses, tc {}",
                most.unwrap_or(0),
                longest.unwrap_or(0),
                distinct.len(),
                replies[0].answer.tc
            ));
            // As in CoreDNS, SRV records are in a fixed order: their weights are for the client.
            if rtype == Rtype::A {
                let is_rotated = distinct.len() > most.unwrap_or(0) || transport == Transport::Tcp;
                assert!(is_rotated, "{what} {rtype}: always the same records");
                first_seen.extend(distinct.iter().map(|data| (*data).to_owned()));
            }
        }
    }
    let all: BTreeSet<String> =
        (0..ENDPOINT_COUNT).map(|number| address(number).to_string()).collect();
    assert!(first_seen.is_subset(&all), "addresses of no endpoint");

    let after = ringdns.resident_kib();
    say(&format!("10,000 endpoints: {before} KiB became {after} KiB"));
    assert!(after < before + GROWTH_KIB_MAX, "{before} KiB became {after} KiB");

    // One of them goes, with its name.
    let without: Vec<Ipv4Addr> = (1..ENDPOINTS_PER_SLICE).map(address).collect();
    fake.put(slice("default", "crowd-0", "crowd", &without));
    wait_for(&ringdns, 0, false);
    beside_coredns(&corefile);
}

/// RFC 2181, section 9: a part of the records is marked as such, over TCP too.
#[test]
fn a_part_of_the_answer_over_tcp_has_tc() {
    let (fake, _, ringdns) = crowd();
    fake.put_all((0..ENDPOINT_COUNT / ENDPOINTS_PER_SLICE).map(endpoints));
    wait_for(&ringdns, ENDPOINT_COUNT - 1, true);
    let reply = ask(&ringdns, Rtype::A, None, Transport::Tcp);
    assert!(reply.answer.tc, "{} addresses", reply.answer.answer.len());
}

/// What CoreDNS does with the same objects.
fn beside_coredns(corefile: &Corefile) {
    let Some(tools) = Tools::find("many_endpoints beside CoreDNS") else { return };
    let coredns = Server::start(Kind::CoreDns, corefile, Some(&tools));
    for rtype in [Rtype::A, Rtype::SRV] {
        for (what, edns_len, transport) in [
            ("UDP", None, Transport::Udp),
            ("UDP, EDNS 65535", Some(65_535), Transport::Udp),
            ("TCP", None, Transport::Tcp),
        ] {
            let query = query(rtype, edns_len);
            let found = match ask_as(coredns.address(), &query, transport, LIMIT) {
                Ok(reply) => format!(
                    "{} records in {} bytes, tc {}",
                    reply.answer.answer.len(),
                    reply.len,
                    reply.answer.tc
                ),
                Err(error) => error.to_string(),
            };
            say(&format!("10,000 endpoints, CoreDNS, {rtype} over {what}: {found}"));
        }
    }
    say(&format!("10,000 endpoints, CoreDNS: {} KiB", coredns.resident_kib()));
}

fn ask(server: &Server, rtype: Rtype, edns_len: Option<u16>, transport: Transport) -> Reply {
    let reply = ask_as(server.address(), &query(rtype, edns_len), transport, LIMIT);
    reply.unwrap_or_else(|error| panic!("{rtype} over {transport:?}: {error}\n{}", server.log()))
}

fn query(rtype: Rtype, edns_len: Option<u16>) -> Query {
    let question = Question::new("crowd.default.svc.cluster.local.", rtype);
    let edns = edns_len.map(|udp_len| Edns { udp_len, dnssec_ok: false });
    Query { edns, ..Query::plain(question) }
}

/// Waits until an endpoint's own name is there, or gone.
fn wait_for(server: &Server, number: u32, exists: bool) {
    let label = address(number).to_string().replace('.', "-");
    let name = format!("{label}.crowd.default.svc.cluster.local.");
    let question = Question::new(name, Rtype::A);
    poll(READ_LIMIT, "an endpoint's name", || {
        let answer = server.answer(&question);
        let is_right = match exists {
            true => answer.data_of(Rtype::A) == [address(number).to_string()],
            false => answer.is_nxdomain(),
        };
        is_right.then_some(())
    });
}
