//! The API server goes away and comes back: what is answered meanwhile, and that no change made
//! unseen is missed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::ask::over_udp;
use e2e::cluster::Cluster;
use e2e::comparison::differences;
use e2e::corefile::Corefile;
use e2e::deadline::poll;
use e2e::objects::service;
use e2e::question::Question;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use e2e::{http, port, questions, sample_cluster};
use fastrand::Rng;
use serde_json::json;

/// How long the server may take to be exact again once the API server is ready: its watches back
/// off while they fail.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// `startup_timeout` of the Corefile below.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for a process to start and bind its sockets, on top of what it waits for.
const START_SLACK: Duration = Duration::from_secs(3);

/// How long a starting server may take to answer a query before the query is repeated.
const QUERY_LIMIT: Duration = Duration::from_millis(100);

const COREFILE: &str = ".:5353 {
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests -
        pods verified
        ttl 30
        startup_timeout 2s
    }
    loadbalance
}
";

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn an_api_server_that_returns_is_caught_up_with() {
    let Some(tools) = Tools::find("outage::an_api_server_that_returns_is_caught_up_with") else {
        return;
    };
    let _alone = ALONE.lock();
    let mut rng = Rng::with_seed(7);
    let dump = sample_cluster::make(&mut rng);
    let mut cluster = Cluster::start(&tools);
    cluster.objects().apply(&dump);
    cluster.objects().create(&service("before", "10.96.1.1"));
    let corefile = Corefile::new(COREFILE).with_kubeconfig(&cluster.kubeconfig());
    let server = Server::start(Kind::subject(), &corefile, Some(&tools));
    let questions = questions::make(&dump, &corefile.zones(), &mut rng, 1_000);
    let before: Vec<_> = questions.iter().map(|question| server.answer(question)).collect();

    cluster.kill_api_server();
    for (question, before) in questions.iter().zip(&before) {
        let found = differences(before, &server.answer(question));
        assert!(found.is_empty(), "without an API server, {question}: {found:?}");
    }

    // The server under test cannot see changes made while its API server is down.
    let other = cluster.second_api_server();
    other.objects().delete("Service", Some("default"), "before");
    other.objects().create(&service("meanwhile", "10.96.1.2"));
    let changed = json!({ "spec": { "externalName": "other.example.org" } });
    other.objects().patch("Service", "default", "chained", changed);
    drop(other);

    cluster.start_api_server();
    let began = Instant::now();
    let answered = |name: &str| server.answer(&in_default(name));
    poll(RECOVERY_LIMIT, "a Service created meanwhile", || {
        (!answered("meanwhile").answer.is_empty()).then_some(())
    });
    poll(RECOVERY_LIMIT, "a Service deleted meanwhile to disappear", || {
        answered("before").is_nxdomain().then_some(())
    });
    say(&format!(
        "outage, {:?}: exact {:?} after the API server was ready again",
        server.kind(),
        began.elapsed()
    ));
    cluster.objects().create(&service("after", "10.96.1.3"));
    poll(RECOVERY_LIMIT, "a Service created afterwards", || {
        (!answered("after").answer.is_empty()).then_some(())
    });

    // Exact: compared with a new server that has just read everything.
    let fresh = Server::start(Kind::subject(), &corefile, Some(&tools));
    for question in &questions {
        let found = differences(&fresh.answer(question), &server.answer(question));
        assert!(found.is_empty(), "after an outage, {question}: {found:?}");
    }
}

#[test]
fn an_api_server_that_hangs_stops_no_answer() {
    let Some(tools) = Tools::find("outage::an_api_server_that_hangs_stops_no_answer") else {
        return;
    };
    let _alone = ALONE.lock();
    let cluster = Cluster::start(&tools);
    cluster.objects().create(&service("before", "10.96.1.5"));
    let corefile = Corefile::new(COREFILE).with_kubeconfig(&cluster.kubeconfig());
    let server = Server::start(Kind::subject(), &corefile, Some(&tools));
    let answered = |name: &str| server.answer(&in_default(name));
    poll(RECOVERY_LIMIT, "a Service", || (!answered("before").answer.is_empty()).then_some(()));

    // Its connections stay open, so only its silence can be noticed.
    cluster.suspend_api_server();
    if Kind::subject() == Kind::Ringdns {
        poll(RECOVERY_LIMIT, "the silence to be noticed", || {
            assert_eq!(answered("before").data_of(Rtype::A), ["10.96.1.5"]);
            server.log().contains("cannot update objects").then_some(())
        });
    }
    cluster.resume_api_server();
    cluster.objects().create(&service("after", "10.96.1.6"));
    poll(RECOVERY_LIMIT, "a Service created afterwards", || {
        assert_eq!(answered("before").data_of(Rtype::A), ["10.96.1.5"]);
        (!answered("after").answer.is_empty()).then_some(())
    });
}

#[test]
fn a_server_starts_without_an_api_server() {
    let Some(tools) = Tools::find("outage::a_server_starts_without_an_api_server") else { return };
    let _alone = ALONE.lock();
    let mut cluster = Cluster::start(&tools);
    cluster.objects().create(&service("early", "10.96.1.4"));
    cluster.kill_api_server();
    let [ready, health] =
        [port::free(), port::free()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let corefile = Corefile::new(COREFILE)
        .with_kubeconfig(&cluster.kubeconfig())
        .with_line(&format!("ready {ready}"))
        .with_line(&format!("health {health}"));
    let began = Instant::now();
    let mut server = Server::launch(Kind::subject(), &corefile, Some(&tools));

    // First no response, then SERVFAIL: either way a client's resolver tries the next server.
    let early = in_default("early");
    let first = poll(STARTUP_TIMEOUT + START_SLACK, "the sockets to be bound", || {
        over_udp(server.address(), &early, QUERY_LIMIT).ok()
    });
    let bound = began.elapsed();
    assert_eq!(first.rcode, "SERVFAIL", "before the first sync: {first:?}");
    assert!(
        bound >= STARTUP_TIMEOUT,
        "without a cluster, the sockets were bound after only {bound:?}"
    );
    let nothing = server.answer(&in_default("nothing"));
    assert_eq!(nothing.rcode, "SERVFAIL", "a name is not missing before the first sync");
    assert_eq!(http::status(ready, "/ready").expect("/ready"), 503);
    assert_eq!(http::status(health, "/health").expect("/health"), 200);
    assert!(!server.has_exited(), "it must wait for the API server:\n{}", server.log());

    cluster.start_api_server();
    let began = Instant::now();
    poll(RECOVERY_LIMIT, "the first answer", || {
        (server.answer(&early).rcode == "NOERROR").then_some(())
    });
    let answered = began.elapsed();
    poll(RECOVERY_LIMIT, "/ready", || {
        http::status(ready, "/ready").is_ok_and(|code| code == 200).then_some(())
    });
    let found = server.answer(&early);
    assert_eq!(found.data_of(Rtype::A), ["10.96.1.4"]);
    assert!(server.answer(&in_default("nothing")).is_nxdomain());
    say(&format!(
        "outage, {:?}: sockets bound {bound:?} after start-up, \
         first answer {answered:?} after the API server was ready",
        server.kind()
    ));
}

fn in_default(name: &str) -> Question {
    Question::new(format!("{name}.default.svc.cluster.local."), Rtype::A)
}
