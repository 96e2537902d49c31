//! The API server restarts.
//!
//! Both servers list everything again after a restart: objects change while they cannot see it, so
//! the version that they would watch from is older than all that the new API server remembers, and
//! it answers 410 Gone.

use std::time::{Duration, Instant};

use e2e::deadline::poll;
use e2e::server::{Kind, Server};
use serde_json::json;

use crate::scene::{KINDS, SETTLED, Scene};
use crate::table::Row;
use crate::world::{ports, question, service};

/// How long a server may need to be up to date after the API server's return. CoreDNS's watches
/// back off for up to 30 s.
const RETURN_LIMIT: Duration = Duration::from_secs(120);

/// Memory around a restart, in KiB.
#[derive(Clone, Copy, Debug)]
struct Restart {
    before: u64,
    peak: u64,
    after: u64,
    up_to_date: Duration,
}

pub(crate) fn measure(scene: &mut Scene, rounds: usize) -> Vec<Row> {
    let mut restarts: [Vec<Restart>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (kind, restart) in KINDS.into_iter().zip(restart(scene, round)) {
            println!("restart {round}: {kind:?} {restart:?}");
            restarts[usize::from(kind == Kind::CoreDns)].push(restart);
        }
    }
    let kib = |of: fn(&Restart) -> u64| {
        [&restarts[0], &restarts[1]].map(|restarts| restarts.iter().map(of).collect())
    };
    let times = [&restarts[0], &restarts[1]]
        .map(|restarts| restarts.iter().map(|restart| restart.up_to_date).collect());
    vec![
        Row::mebibytes("resident before the API server restarts", kib(|restart| restart.before)),
        Row::mebibytes("peak while all is listed again", kib(|restart| restart.peak)),
        Row::mebibytes("resident after the restart", kib(|restart| restart.after)),
        Row::millis("API server ready again → up to date", times),
    ]
}

/// Both servers see the same restart.
fn restart(scene: &mut Scene, round: usize) -> [Restart; 2] {
    let servers = KINDS.map(|kind| scene.launch(kind, &scene.corefile).0);
    std::thread::sleep(SETTLED);
    let before = [&servers[0], &servers[1]].map(Server::resident_kib);
    servers.iter().for_each(Server::reset_peak);
    scene.cluster.kill_api_server();
    let name = format!("unseen-{round}");
    let other = scene.cluster.second_api_server();
    other.objects().create(&service("team-0", &name, json!({ "ports": ports(80) })));
    drop(other);
    scene.cluster.start_api_server();
    let up_to_date = when_answered(&servers, &name);
    std::thread::sleep(SETTLED);
    servers.iter().for_each(|server| scene.check(server));
    scene.cluster.objects().delete("Service", Some("team-0"), &name);
    std::array::from_fn(|index| Restart {
        before: before[index],
        peak: servers[index].peak_kib(),
        after: servers[index].resident_kib(),
        up_to_date: up_to_date[index],
    })
}

/// When each server has an address for the name of a Service, counted from now.
fn when_answered(servers: &[Server; 2], name: &str) -> [Duration; 2] {
    let began = Instant::now();
    let question = question(&format!("{name}.team-0"));
    let mut times = [None; 2];
    poll(RETURN_LIMIT, "both servers to answer", || {
        for (server, time) in servers.iter().zip(&mut times) {
            let asked = server.ask(&question, e2e::ask::Transport::Udp);
            if time.is_none() && asked.is_ok_and(|answer| !answer.answer.is_empty()) {
                *time = Some(began.elapsed());
            }
        }
        times.iter().all(Option::is_some).then_some(())
    });
    times.map(|time| time.expect("both have answered"))
}
