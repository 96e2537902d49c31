//! The servers start while the API server is down: ringdns, CoreDNS, and ringdns with a snapshot of
//! what the API server has.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::ask::over_udp;
use e2e::corefile::Corefile;
use e2e::server::{Kind, Server};
use e2e::{http, port};

use crate::scene::{SETTLED, Scene};
use crate::table::{Row, spread};
use crate::world::{is_right, service_question};

/// How long the API server is down.
const DOWN: Duration = Duration::from_secs(10);
/// How long a server may need after its return.
const RETURN_LIMIT: Duration = Duration::from_secs(120);
/// Less than it takes a server to answer from memory.
const QUERY_LIMIT: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(2);

/// A server, and whether it has a snapshot.
const SUBJECTS: [(Kind, bool); 3] =
    [(Kind::Ringdns, false), (Kind::CoreDns, false), (Kind::Ringdns, true)];

/// When a server first answered rightly, and when it was first ready.
#[derive(Clone, Copy, Debug)]
struct Moments {
    answered: Instant,
    ready: Instant,
}

struct Booting {
    server: Server,
    ready: SocketAddr,
}

pub(crate) fn measure(scene: &mut Scene, rounds: usize) -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.jsonl");
    // Makes the snapshot.
    let first = Booting::launch(scene, SUBJECTS[2], &file);
    first.follow(Instant::now() + RETURN_LIMIT);
    std::thread::sleep(SETTLED);
    first.server.end();
    let mut answers: [Vec<f64>; 2] = Default::default();
    let mut ready: [Vec<f64>; 2] = Default::default();
    let mut from_snapshot: [Vec<f64>; 2] = Default::default();
    for round in 1..=rounds {
        scene.cluster.kill_api_server();
        let began = Instant::now();
        let servers = SUBJECTS.map(|subject| Booting::launch(scene, subject, &file));
        let (moments, returned) = std::thread::scope(|scope| {
            let end = began + DOWN + RETURN_LIMIT;
            let following = servers.each_ref().map(|one| scope.spawn(move || one.follow(end)));
            std::thread::sleep((began + DOWN).saturating_duration_since(Instant::now()));
            scene.cluster.start_api_server();
            let returned = Instant::now();
            (following.map(|one| one.join().expect("no panic")), returned)
        });
        let [ringdns, coredns, snapshot] = moments;
        for (index, moments) in [ringdns, coredns].into_iter().enumerate() {
            answers[index].push(millis_after(moments.answered, returned));
            ready[index].push(millis_after(moments.ready, returned));
        }
        for (all, at) in from_snapshot.iter_mut().zip([snapshot.answered, snapshot.ready]) {
            all.push(millis_after(at, began));
        }
        println!("boot {round}: {answers:.0?}, ready {ready:.0?}, snapshot {from_snapshot:.0?} ms");
    }
    let spread = |all: [Vec<f64>; 2]| all.map(|millis| spread(millis, "ms"));
    let [answered, is_ready] = spread(from_snapshot);
    let with_snapshot = |cell| [cell, "-".to_owned()];
    vec![
        Row::new("10 s outage at boot: API server ready → first answer", spread(answers)),
        Row::new("10 s outage at boot: API server ready → /ready is 200", spread(ready)),
        Row::new("the same with a snapshot: start → first answer", with_snapshot(answered)),
        Row::new("the same with a snapshot: start → /ready is 200", with_snapshot(is_ready)),
    ]
}

/// Negative if it was before: the API server serves a little before it says that it is ready.
fn millis_after(at: Instant, reference: Instant) -> f64 {
    let before = reference.saturating_duration_since(at).as_secs_f64();
    (at.saturating_duration_since(reference).as_secs_f64() - before) * 1_000.0
}

impl Booting {
    fn launch(scene: &Scene, (kind, has_snapshot): (Kind, bool), file: &Path) -> Self {
        let ready = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
        let mut corefile = scene.corefile.clone().with_line(&format!("ready {ready}"));
        if has_snapshot {
            let option = format!("snapshot {}\n        ttl 30", file.display());
            corefile = Corefile::new(corefile.text().replace("ttl 30", &option));
        }
        Self { server: Server::launch(kind, &corefile, Some(&scene.tools)), ready }
    }

    /// Panics if it takes longer than until `end`.
    fn follow(&self, end: Instant) -> Moments {
        let question = service_question(1);
        let (mut answered, mut ready) = (None, None);
        loop {
            answered = answered.or_else(|| {
                let answer = over_udp(self.server.address(), &question, QUERY_LIMIT);
                answer.is_ok_and(|answer| is_right(1, &answer)).then(Instant::now)
            });
            ready = ready.or_else(|| {
                let is_ready = http::status(self.ready, "/ready").is_ok_and(|code| code == 200);
                is_ready.then(Instant::now)
            });
            if let (Some(answered), Some(ready)) = (answered, ready) {
                return Moments { answered, ready };
            }
            assert!(Instant::now() < end, "{:?}:\n{}", self.server.kind(), self.server.log());
            std::thread::sleep(PAUSE);
        }
    }
}
