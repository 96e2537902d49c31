//! Very many clients at once in front of a slow upstream, and floods of new names: how many queries
//! go upstream, what is refused, and what is left for other clients.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::answer::Answer;
use e2e::corefile::Corefile;
use e2e::crowd::ask_at_once;
use e2e::deadline::poll;
use e2e::http::metric;
use e2e::knot::Knot;
use e2e::port;
use e2e::pulse::Pulse;
use e2e::question::Question;
use e2e::relay::{Behaviour, Relay};
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::Upstreams;

/// The upstream's delay: the whole crowd has sent its queries before the first response.
const LATE: Behaviour = Behaviour::Late(Duration::from_millis(600));

/// How long the clients of a crowd wait.
const PATIENCE: Duration = Duration::from_secs(6);

/// New names that are queried at once.
const FLOOD_COUNT: usize = 256;

/// How much 16,384 new names may add to the process's memory if the cache holds 4,096 entries: a
/// quarter of what keeping all of them would add.
const FLOOD_GROWTH_KIB_MAX: u64 = 3 * 1024;

const RECORDS: &str = "@ 300 SOA ns hostmaster 1 3600 600 86400 300
@ 300 NS ns
ns 300 A 127.0.0.1
*.any 300 A 192.0.2.1
";

#[test]
fn a_question_is_in_flight_once() {
    let Some(scene) = Scene::new("crowds::a_question_is_in_flight_once") else { return };
    scene.relay.behave(".", LATE);
    let distinct = names("any", 1_000);
    let same = vec![distinct[0].clone(); 500];
    for shards in ["1", "2"] {
        // Hedging is off: it would send late queries again.
        let server = scene.start("", "hedge off", &["--shards", shards]);
        // Without a cache, any room lost the first time shows the second time.
        for round in 1..=2 {
            scene.relay.forget();
            let answers = ask_at_once(server.address(), &distinct, PATIENCE);
            let mut received = scene.relay.queries();
            // If a datagram was lost, the upstream's health is checked too.
            received.retain(|query| query.question.rtype == Rtype::A);
            let upstream: BTreeSet<String> =
                received.iter().map(|query| query.question.key()).collect();
            say(&format!(
                "crowds, {shards} shard(s), round {round}: 1,000 clients queried 1,000 names: {}; \
                 upstream {} queries for {} names",
                Counted::of(&answers),
                received.len(),
                upstream.len(),
            ));
            assert_eq!(Counted::of(&answers).addresses, 1_000);
            assert_eq!((received.len(), upstream.len()), (1_000, 1_000));
            check_unpredictable("ids", received.iter().map(|query| query.id));
            check_unpredictable("ports", received.iter().map(|query| query.port));

            scene.relay.forget();
            let answers = ask_at_once(server.address(), &same, PATIENCE);
            let count = scene.relay.count(&same[0].name);
            say(&format!(
                "crowds, {shards} shard(s), round {round}: 500 clients queried one name: {}; \
                 upstream {count} queries",
                Counted::of(&answers),
            ));
            assert_eq!(Counted::of(&answers).addresses, 500);
            // Each shard has its own queries in flight.
            let count_max: usize = shards.parse().expect("a number");
            assert!((1..=count_max).contains(&count), "{count} queries from {shards} shard(s)");
        }
    }
}

/// Of a thousand values, few are equal and half are greater than their predecessor.
fn check_unpredictable(what: &str, numbers: impl Iterator<Item = u16>) {
    let numbers: Vec<u16> = numbers.collect();
    let distinct: BTreeSet<u16> = numbers.iter().copied().collect();
    assert!(distinct.len() > 900, "{} of 1,000 {what} are distinct", distinct.len());
    let rising = numbers.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((400..600).contains(&rising), "{rising} of 1,000 {what} rise");
}

#[test]
fn max_concurrent_refuses_and_frees_its_room() {
    let Some(scene) = Scene::new("crowds::max_concurrent_refuses_and_frees_its_room") else {
        return;
    };
    let metrics = loopback(port::free());
    // One shard: several shards divide the number among them.
    let options = "max_concurrent 100\nread_timeout 900ms\nmax_fails 0";
    let more = format!("prometheus {metrics}");
    let server = scene.start(&more, options, &["--shards", "1"]);
    let rejects = || metric(metrics, "coredns_forward_max_concurrent_rejects_total", &[]);
    let crowd = names("any", 150);
    let expect = |what: &str, behaviour: Behaviour, patience: Duration, expected: Counted| {
        scene.relay.behave(".", behaviour);
        let before = rejects();
        let counted = Counted::of(&ask_at_once(server.address(), &crowd, patience));
        let rejected = rejects() - before;
        say(&format!(
            "crowds, max_concurrent 100, {what}: {counted}; {rejected} rejections were counted"
        ));
        assert_eq!(counted, expected, "{what}");
        assert!((rejected - 50.0).abs() < 0.5, "{what}: {rejected} rejections were counted");
    };
    let late = Counted { addresses: 100, refused: 50, ..Counted::default() };
    expect("the upstream is late", LATE, PATIENCE, late);
    expect("once more", LATE, PATIENCE, late);
    let silent = Counted { failed: 100, refused: 50, ..Counted::default() };
    expect("the upstream is silent", Behaviour::Silent, PATIENCE, silent);
    // Room returns when the query has ended, not when its client has left.
    let left = Counted { lost: 100, refused: 50, ..Counted::default() };
    expect("the clients leave", LATE, Duration::from_millis(300), left);
    poll(PATIENCE, "the abandoned queries to end", || {
        let count = metric(metrics, "coredns_proxy_request_duration_seconds_count", &[]);
        (count >= 300.0).then_some(())
    });
    expect("after all that", LATE, PATIENCE, late);
}

/// Popular names stay in a cache that is flooded with other names, and the flood uses no more
/// memory than the cache may.
#[test]
fn a_flood_evicts_no_popular_names_and_bounds_memory() {
    let Some(scene) = Scene::new("crowds::a_flood_evicts_no_popular_names_and_bounds_memory")
    else {
        return;
    };
    let metrics = loopback(port::free());
    let more = format!("prometheus {metrics}\ncache {{\nsuccess 1024\ndenial 1024\n}}");
    let server = scene.start(&more, "", &["--shards", "2"]);
    let address = server.address();
    let popular = names("popular.any", 50);
    let ask_popular = || Counted::of(&ask_at_once(address, &popular, PATIENCE)).addresses;
    // Make them popular first: a cache cannot know it before.
    for _ in 0..10 {
        assert_eq!(ask_popular(), 50);
    }
    let flood = |rounds: std::ops::Range<usize>| {
        for round in rounds {
            // Half of them exist.
            let zone = ["any", "none"][round % 2];
            let crowd = names(&format!("flood{round}.{zone}"), FLOOD_COUNT);
            let counted = Counted::of(&ask_at_once(address, &crowd, PATIENCE));
            assert_eq!(counted.addresses + counted.denials, FLOOD_COUNT, "{counted}");
            assert_eq!(ask_popular(), 50);
        }
    };
    // Twice as many as the cache holds.
    flood(0..32);
    let hits = || metric(metrics, "coredns_cache_hits_total", &["type=\"success\""]);
    let entries = || metric(metrics, "coredns_cache_entries", &[]);
    let (kib_before, entries_before, hits_before) = (server.resident_kib(), entries(), hits());
    let cluster = Question::new("kubernetes.default.svc.cluster.local.", Rtype::A);
    let pulse = Pulse::start(address, cluster, Duration::from_millis(5));
    flood(32..96);
    let delays = pulse.end();
    let (kib, entries, hits) = (server.resident_kib(), entries(), hits() - hits_before);
    let received = scene.relay.queries();
    let of_popular =
        received.iter().filter(|query| query.question.key().contains("popular")).count();
    say(&format!(
        "crowds, a flood of {} names through a full cache: of {} queries for popular names \
         {hits} were hits, and {of_popular} of all went upstream; {entries_before} entries became \
         {entries}, and {kib_before} KiB {kib} KiB; cluster answers meanwhile: p99.9 {:?}, \
         max {:?}",
        64 * FLOOD_COUNT,
        64 * popular.len(),
        delays.at_per_mille(999),
        delays.at(100),
    ));
    assert!(hits >= 0.99 * 64.0 * popular.len() as f64, "{hits} hits");
    // Each shard may query upstream itself, and once more for names that the flood evicted before
    // they became popular.
    assert!(of_popular <= 4 * popular.len(), "{of_popular} queries for popular names");
    // Two shards, two kinds of answers.
    assert!(entries <= 4.0 * 1024.0, "{entries} entries");
    assert!(kib < kib_before + FLOOD_GROWTH_KIB_MAX, "{kib_before} KiB became {kib} KiB");
}

/// A slow or fast counting relay in front of a real server.
struct Scene {
    relay: Relay,
    _knot: Knot,
}

impl Scene {
    /// `None` without Knot; the log says so.
    fn new(test: &str) -> Option<Self> {
        let programs = Upstreams::find(test)?;
        let knot = Knot::start(&programs.knotd, "example.", RECORDS);
        Some(Self { relay: Relay::start(knot.address()), _knot: knot })
    }

    /// Starts ringdns in front of it, with a cluster. `more`: lines of the block; `options`:
    /// options of `forward`.
    fn start(&self, more: &str, options: &str, flags: &[&str]) -> Server {
        let upstream = self.relay.address();
        let corefile = Corefile::new(format!(
            ".:5353 {{
    bind 127.0.0.1
    {more}
    kubernetes cluster.local {{
        manifests -
    }}
    forward . {upstream} {{
        {options}
    }}
}}
"
        ));
        let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("../example/cluster");
        Server::start_with(Kind::Ringdns, &corefile.with_manifests(&cluster), None, flags)
    }
}

/// The responses to a crowd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    addresses: usize,
    /// NXDOMAIN
    denials: usize,
    /// REFUSED
    refused: usize,
    /// SERVFAIL
    failed: usize,
    lost: usize,
}

impl Counted {
    fn of(answers: &[Option<(Answer, Duration)>]) -> Self {
        let mut counted = Self::default();
        for answer in answers {
            let answer = answer.as_ref().map(|(answer, _)| answer);
            let count = match answer.map(|answer| (answer.rcode.as_str(), answer.answer.len())) {
                Some(("NOERROR", 1)) => &mut counted.addresses,
                Some(("NXDOMAIN", 0)) => &mut counted.denials,
                Some(("REFUSED", 0)) => &mut counted.refused,
                Some(("SERVFAIL", 0)) => &mut counted.failed,
                None => &mut counted.lost,
                Some(_) => panic!("neither an address nor an error: {answer:?}"),
            };
            *count += 1;
        }
        counted
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { addresses, denials, refused, failed, lost } = self;
        write!(
            f,
            "{addresses} × NOERROR, {denials} × NXDOMAIN, {refused} × REFUSED, \
             {failed} × SERVFAIL, {lost} lost"
        )
    }
}

fn names(zone: &str, count: usize) -> Vec<Question> {
    let name = |index| format!("n{index}.{zone}.example.");
    (0..count).map(|index| Question::new(name(index), Rtype::A)).collect()
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
