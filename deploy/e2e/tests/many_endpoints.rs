//! 10,000 endpoints behind one headless Service: every response is bounded, and clients that cannot
//! get all of them at once get some, and soon each of them.

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
/// Of each slice.
const PORT_COUNT: usize = 2;

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

/// A cluster with that Service, and a ringdns with these flags that has read it.
fn crowd(flags: &[&str]) -> (FakeApi, Corefile, Server) {
    let fake = FakeApi::start();
    fake.put(service("default", "crowd", None));
    let corefile = Corefile::new(STOCK).with_kubeconfig(&fake.kubeconfig());
    let ringdns = Server::start_with(Kind::Ringdns, &corefile, None, flags);
    (fake, corefile, ringdns)
}

fn endpoints(slice_number: u32) -> FakeObject {
    let first = slice_number * ENDPOINTS_PER_SLICE;
    let addresses: Vec<Ipv4Addr> = (first..first + ENDPOINTS_PER_SLICE).map(address).collect();
    slice("default", &format!("crowd-{slice_number}"), "crowd", &addresses).into()
}

#[test]
fn ten_thousand_endpoints() {
    let (fake, corefile, ringdns) = crowd(&[]);
    let before = ringdns.resident_kib();
    gather(&fake, &ringdns);

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
                // RFC 2181, section 9: a part of the records is marked as such, over TCP too.
                assert!(reply.answer.tc, "{what} {rtype}: not all fit");
                let distinct: BTreeSet<&str> = reply.answer.data_of(rtype).into_iter().collect();
                assert_eq!(distinct.len(), reply.answer.answer.len(), "{what} {rtype}: twice");
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
            assert!(distinct.len() > most.unwrap_or(0), "{what} {rtype}: always the same records");
            if rtype == Rtype::A {
                first_seen.extend(distinct.iter().map(|data| (*data).to_owned()));
            }
        }
    }
    assert!(first_seen.is_subset(&all_addresses()), "addresses of no endpoint");

    let after = ringdns.resident_kib();
    say(&format!("10,000 endpoints: {before} KiB became {after} KiB"));
    assert!(after < before + GROWTH_KIB_MAX, "{before} KiB became {after} KiB");

    // One of them goes, with its name.
    let without: Vec<Ipv4Addr> = (1..ENDPOINTS_PER_SLICE).map(address).collect();
    fake.put(slice("default", "crowd-0", "crowd", &without));
    wait_for(&ringdns, 0, false);
    beside_coredns(&corefile);
}

/// After a bounded number of queries, each endpoint was in a response: over UDP alone, over TCP
/// alone, and over TCP by a client that asks over UDP first.
#[test]
fn every_endpoint_has_its_turn() {
    // Each shard counts its own queries.
    let (fake, _, ringdns) = crowd(&["--shards", "1"]);
    gather(&fake, &ringdns);
    for (rtype, transport) in [
        (Rtype::A, Transport::Tcp),
        (Rtype::A, Transport::UdpThenTcp),
        (Rtype::SRV, Transport::Tcp),
        (Rtype::SRV, Transport::UdpThenTcp),
        (Rtype::A, Transport::Udp),
    ] {
        let over_tcp = ask(&ringdns, rtype, None, Transport::Tcp).answer.answer.len();
        let in_response = ask(&ringdns, rtype, None, transport).answer.answer.len();
        // The parts are nearly equal.
        let record_count =
            (if rtype == Rtype::A { 1 } else { PORT_COUNT }) * ENDPOINT_COUNT as usize;
        let part_count = (record_count + over_tcp / 2) / over_tcp;
        let queries_max = match transport {
            // Each part begins with each address in turn.
            Transport::Udp => part_count * (over_tcp + 3 - in_response),
            // Three queries per part are enough, whatever the step from one to the next.
            Transport::Tcp | Transport::UdpThenTcp | Transport::Http => 3 * part_count,
        };
        let mut seen = BTreeSet::new();
        let mut query_count = 0;
        while seen.len() < record_count && query_count < queries_max {
            let reply = ask(&ringdns, rtype, None, transport);
            seen.extend(reply.answer.data_of(rtype).into_iter().map(str::to_owned));
            query_count += 1;
        }
        say(&format!(
            "10,000 endpoints, {rtype} over {transport:?}: {} seen in {query_count} responses, \
             {queries_max} at most, of {in_response} records",
            seen.len()
        ));
        assert_eq!(seen.len(), record_count, "{rtype} over {transport:?}: {query_count} queries");
        assert!(rtype != Rtype::A || seen == all_addresses(), "addresses of no endpoint");
    }
}

/// Creates the endpoints, and waits until they are served.
fn gather(fake: &FakeApi, ringdns: &Server) {
    fake.put_all((0..ENDPOINT_COUNT / ENDPOINTS_PER_SLICE).map(endpoints));
    wait_for(ringdns, ENDPOINT_COUNT - 1, true);
}

fn all_addresses() -> BTreeSet<String> {
    (0..ENDPOINT_COUNT).map(|number| address(number).to_string()).collect()
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
