//! Corefiles of Kubernetes distributions and of public repositories, unchanged: CoreDNS 1.15.0 and
//! ringdns run each of them on a machine of its own, with the same API server and the same
//! upstreams, and get the same questions. Every difference must have a name.
//!
//! `COREFILE=NAME` runs one file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use e2e::ask::{AskError, ask_as};
use e2e::cluster::Cluster;
use e2e::corefile_questions::{self as made, Asked};
use e2e::corefile_report::{Row, comparable, no_answer, owners, probe};
use e2e::corefile_words::CorefileWords;
use e2e::difference::Oracle;
use e2e::internet::{self, Internet};
use e2e::machine::{Equipment, Machine, ServiceAccount};
use e2e::query::{Query, Reply};
use e2e::question::Question;
use e2e::sample_cluster;
use e2e::say::say;
use e2e::server::Kind;
use e2e::tools::{self, Tools};
use fastrand::Rng;

/// Files at a time: most of the time, a server waits for the cluster.
const WORKER_COUNT: usize = 4;

/// Fewest questions for a file.
const QUESTION_COUNT_MIN: usize = 40;

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long a server may take to read the cluster.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The resolver of resolv.conf.
const RESOLVER: &str = "192.0.2.53";

struct Fixture {
    name: String,
    /// `None`: the server gets no Corefile at all.
    text: Option<String>,
    words: CorefileWords,
}

#[test]
fn corefiles_start_unchanged_and_answer_like_corednss() {
    let Some(tools) = Tools::find("corefiles") else { return };
    if !Machine::is_possible("corefiles") {
        return;
    }
    let mut fixtures = fixtures();
    let cluster = Cluster::start(&tools);
    let mut objects = sample_cluster::make(&mut Rng::with_seed(53));
    let all: Vec<CorefileWords> =
        fixtures.iter().filter_map(|one| one.text.as_deref()).map(CorefileWords::read).collect();
    objects.extend(made::objects(&all));
    cluster.objects().apply(&objects);
    if let Ok(only) = std::env::var("COREFILE") {
        fixtures.retain(|fixture| fixture.name.starts_with(&only));
    }
    let names = all.iter().flat_map(CorefileWords::server_names).collect();
    let world = World {
        internet: Internet::new(&zone(&all), names),
        authority: std::fs::read_to_string(cluster.credentials().authority()).expect("a file"),
        programs: [
            tools.coredns.clone(),
            match Kind::subject() {
                Kind::Ringdns => tools::ringdns(),
                Kind::CoreDns => tools.coredns,
            },
        ],
        port: cluster.port(),
        objects,
    };
    let began = Instant::now();
    let queue = Mutex::new(fixtures.iter());
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKER_COUNT {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no worker panics").next();
                    let Some(fixture) = next else { return };
                    let row = world.run(fixture);
                    rows.lock().expect("no worker panics").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no worker panics");
    rows.sort_by(|one: &Row, other| one.file.cmp(&other.file));
    report(&rows, began.elapsed());
}

fn report(rows: &[Row], took: Duration) {
    say("| file | starts | questions | equal | named differences |\n|---|---|---|---|---|");
    for row in rows {
        say(&row.line());
    }
    let questions: usize = rows.iter().map(|row| row.questions).sum();
    let positive: usize = rows.iter().map(|row| row.positive).sum();
    let bad: Vec<&Row> = rows.iter().filter(|row| !row.is_good()).collect();
    say(&format!(
        "corefiles: {} files, {questions} questions, {positive} with records in the answer, \
         {} files without mistakes, in {took:?}",
        rows.len(),
        rows.len() - bad.len()
    ));
    let details: String = bad.iter().map(|row| row.details()).collect();
    assert!(bad.is_empty(), "(want is CoreDNS's)\n{details}");
    for row in rows {
        assert!(row.questions >= QUESTION_COUNT_MIN, "{}: {}", row.file, row.questions);
    }
}

/// What all servers share.
struct World {
    internet: Internet,
    /// The API server's.
    authority: String,
    port: u16,
    /// CoreDNS and the subject.
    programs: [PathBuf; 2],
    objects: Vec<serde_json::Value>,
}

impl World {
    fn run(&self, fixture: &Fixture) -> Row {
        let mut row = Row::new(&fixture.name);
        let mut machines = [(); 2].map(|()| self.machine(fixture));
        for (machine, program) in machines.iter_mut().zip(&self.programs) {
            let arguments: &[&str] = match fixture.text {
                Some(_) => &["-conf", "/etc/coredns/Corefile"],
                None => &[],
            };
            machine.start(program, arguments, self.port);
        }
        let [theirs, ours] = machines.each_mut().map(|machine| wait_until_ready(machine, fixture));
        if let Err(failure) = &theirs {
            row.unnamed.push(format!("CoreDNS does not start: {failure}"));
        }
        row.failure = ours.err();
        if !row.is_good() {
            return row;
        }
        self.compare(fixture, &machines, &mut row);
        for (machine, who) in machines.iter_mut().zip(["CoreDNS", "ringdns"]) {
            if machine.exit_code().is_some() {
                row.unnamed.push(format!("{who} has ended:\n{}", machine.log_tail()));
            }
        }
        row
    }

    fn compare(&self, fixture: &Fixture, machines: &[Machine; 2], row: &mut Row) {
        let all = made::make(&fixture.words, &self.objects);
        // The rules ask CoreDNS more, which caches it, so all replies come first.
        let replies: Vec<_> = all.iter().map(|(_, asked)| of_both(machines, asked)).collect();
        for ((index, asked), [theirs, ours]) in all.iter().zip(&replies) {
            let block = &fixture.words.blocks[*index];
            let Some(Asked { to, .. }) = asked.first() else { continue };
            let Some(transport) = block.transport else { continue };
            let ask = |question: &Question| {
                // CoreDNS caches answers with CD apart. In its cache the letter case makes no
                // difference, but in its zones it may.
                let checking_disabled = question.name == question.key();
                let query = Query { checking_disabled, ..Query::plain(question.clone()) };
                let ask = || ask_as(*to, &query, transport, PATIENCE);
                let answer = machines[0].inside(ask);
                let answer = answer.map_or_else(|_| no_answer(), |reply| reply.answer);
                comparable(&answer, block)
            };
            let existing = owners(theirs.iter().flatten());
            let oracle = Oracle { ask: &ask, existing, zones: block.cluster_zones() };
            for (asked, (theirs, ours)) in asked.iter().zip(theirs.iter().zip(ours)) {
                let pair = [theirs, ours].map(|reply| reply.as_ref().ok());
                row.add(&asked.query, pair, &oracle, block);
            }
        }
    }

    fn machine(&self, fixture: &Fixture) -> Machine {
        let own = fixture.words.own_addresses();
        let mut upstreams = fixture.words.upstreams();
        upstreams.push(internet::upstream(RESOLVER.parse().expect("an address"), None));
        upstreams.retain(|upstream| !own.contains(&upstream.ip()));
        upstreams.sort_unstable();
        upstreams.dedup();
        let addresses: BTreeSet<_> = upstreams.iter().map(|upstream| upstream.ip()).collect();
        let mut files = fixture.words.files();
        files.push(("/etc/resolv.conf".to_owned(), format!("nameserver {RESOLVER}\n")));
        let authorities = "/etc/ssl/certs/ca-certificates.crt".to_owned();
        files.push((authorities, self.internet.authority().to_owned()));
        if let Some(text) = &fixture.text {
            files.push(("/etc/coredns/Corefile".to_owned(), text.clone()));
        }
        let upstream_addresses: Vec<_> = addresses.into_iter().collect();
        let equipment = Equipment { own: &own, upstreams: &upstream_addresses, files: &files };
        let machine = Machine::new(&equipment);
        machine.admit(&ServiceAccount {
            port: self.port,
            token: "e2e-token",
            authority: &self.authority,
        });
        self.internet.serve(&machine, &upstreams);
        self.internet.relay(&machine, self.port);
        machine
    }
}

/// Waits until each block answers, and the cluster is read.
fn wait_until_ready(machine: &mut Machine, fixture: &Fixture) -> Result<(), String> {
    let end = Instant::now() + START_LIMIT;
    for block in &fixture.words.blocks {
        let (Some(transport), Some(to)) = (block.transport, block.address()) else { continue };
        let zones = block.cluster_zones();
        let zone = zones.iter().find(|zone| !zone.ends_with("arpa."));
        let query = Query::plain(probe(zone));
        loop {
            let ask = || ask_as(to, &query, transport, Duration::from_millis(500));
            let reply = machine.inside(ask);
            if let Some(code) = machine.exit_code() {
                return Err(format!("it ended with {code}:\n{}", machine.log_tail()));
            }
            let failed = |reply: &Reply| reply.answer.rcode == "SERVFAIL";
            let is_ready = reply.as_ref().is_ok_and(|reply| zone.is_none() || !failed(reply));
            if is_ready {
                break;
            }
            if Instant::now() > end {
                let log = machine.log_tail();
                return Err(format!("not ready at {to} after {START_LIMIT:?}: {reply:?}\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

type Replies = Vec<Result<Reply, AskError>>;

/// The replies of both machines, which are asked at the same time.
fn of_both(machines: &[Machine; 2], asked: &[Asked]) -> [Replies; 2] {
    let ask = |asked: &Asked| ask_as(asked.to, &asked.query, asked.transport, PATIENCE);
    let of = |machine: &Machine| machine.inside(|| asked.iter().map(ask).collect());
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| of(&machines[0]));
        let ours = of(&machines[1]);
        [theirs.join().expect("an asker"), ours]
    })
}

/// The fixtures in the order of their names, and the one without a Corefile.
fn fixtures() -> Vec<Fixture> {
    let mut all = read(&folder("corefiles"));
    let no_corefile = Fixture {
        name: "no Corefile at all".to_owned(),
        text: None,
        words: CorefileWords::read(".:53 {\n    whoami\n    log\n}\n"),
    };
    all.push(no_corefile);
    all
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(folder: &Path) -> Vec<Fixture> {
    let entries = std::fs::read_dir(folder).expect("the folder of the Corefiles");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "Corefile"));
    paths.sort();
    let fixture = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a Corefile");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        Fixture { name, words: CorefileWords::read(&text), text: Some(text) }
    };
    paths.iter().map(fixture).collect()
}

/// What the upstreams know: a few names below each zone and each name of the Corefiles.
fn zone(all: &[CorefileWords]) -> String {
    let blocks = || all.iter().flat_map(|words| &words.blocks);
    let zones = blocks().flat_map(|block| &block.keys).map(|(zone, _)| zone.clone());
    let names: BTreeSet<String> = zones.chain(blocks().flat_map(|block| block.names())).collect();
    let mut text = "@ SOA a.root. nstld. 1 1800 900 604800 60\n@ NS a.root.\n".to_owned();
    let more = ["example.org.", "server.example.", "hosts.example."].map(str::to_owned);
    for name in names.iter().chain(&more).filter(|name| *name != ".") {
        text += &format!(
            "{name} A 198.51.100.1\n{name} MX 10 mail.{name}\nwww.{name} A 198.51.100.2\n\
             www.{name} A 198.51.100.3\nwww.{name} AAAA 2001:db8::2\n\
             alias.{name} CNAME www.{name}\ntext.{name} TXT some-text\n"
        );
    }
    text + "dns.quad9.net. A 9.9.9.9\n1.2.0.192.in-addr.arpa. PTR host.example.org.\n"
}

/// What `ringdns check` says of each is in the same folder, and tests of `check` compare it.
#[test]
fn corefiles_that_coredns_refuses_are_refused_with_what_to_write() {
    let Some(tools) = Tools::find("refused Corefiles") else { return };
    let folder = folder("../../engine/tests/check/refused");
    for fixture in read(&folder) {
        let path = folder.join(format!("{}.Corefile", fixture.name));
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(&path).output();
            let output = output.expect("a program that runs");
            let text = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8_lossy(&text).into_owned())
        };
        for program in [&tools.coredns, &tools::ringdns()] {
            let (code, text) = run(program, &["-dns.port", "0", "-conf"]);
            assert_eq!(code, Some(1), "{} starts with {}: {text}", program.display(), fixture.name);
        }
        let (code, text) = run(&tools::ringdns(), &["check"]);
        let has_hint = text.contains("Help: ");
        assert_eq!((code, has_hint), (Some(1), true), "{}: {text}", fixture.name);
        say(&format!("corefiles: CoreDNS and ringdns refuse {}, and check says why", fixture.name));
    }
}
