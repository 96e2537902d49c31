//! `loadgen compare` with servers that are slow, silent, missing, or exit during the measurement.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::command::{loadgen, text};
use crate::launched::{
    Life, folder, is_running, path, program, server, wait_for_clients, wait_until,
};
use crate::server::{Behaviour, CLOSED_PORT, Server, Twist};

#[test]
fn a_server_that_does_not_start_is_reported_at_once() {
    let folder = folder();
    let cluster = path(&folder, "cluster.yaml");
    let taken =
        program(&folder, "taken", "echo 'listen udp: bind: address already in use' >&2; exit 3");
    let silent = program(&folder, "silent", "exit 0");
    let killed = program(&folder, "killed", "kill -9 $$");
    let good = server(&folder, "good", Life::Long);
    let (plain, absent) = (path(&folder, "queries"), path(&folder, "absent"));
    let rows: &[(&str, &str, &[&str])] = &[
        (&taken, &good, &["CoreDNS (", "exit status: 3", "address already in use"]),
        (&silent, &good, &["CoreDNS (", "exit status: 0", "it printed nothing"]),
        (&killed, &good, &["CoreDNS (", "signal: 9 (SIGKILL)"]),
        (&good, &taken, &["ringdns (", "exit status: 3", "address already in use"]),
        (&plain, &good, &["is not executable", "chmod +x", "--coredns"]),
        (&good, &plain, &["is not executable", "chmod +x", "--ringdns"]),
        (&absent, &good, &["no CoreDNS binary at"]),
        (&good, &absent, &["no ringdns binary at"]),
    ];
    for (coredns, ringdns, parts) in rows {
        let output = loadgen(&[
            "compare",
            "--against",
            "coredns",
            "--from",
            &cluster,
            "--coredns",
            coredns,
            "--ringdns",
            ringdns,
        ]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{coredns} {ringdns}: {error}");
        for part in *parts {
            assert!(error.contains(part), "{coredns} {ringdns}: {part} in {error}");
        }
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
    // A bare name means the file here, not one in PATH.
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["compare", "--against", "coredns", "--from", &cluster])
        .args(["--coredns", "taken", "--ringdns", "good"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("address already in use"), "{}", text(&output.stderr));
}

#[test]
fn flags_are_checked_before_a_server_is_started() {
    let folder = folder();
    let cluster = path(&folder, "cluster.yaml");
    let good = server(&folder, "good", Life::Long);
    let rows: &[(&[&str], i32, &str)] = &[
        (&["-T", "0"], 2, "-T must be"),
        (&["--same-node", "--rates", "10"], 2, "cannot be used with"),
        (&["--same-node", "--server-core", "0"], 2, "cannot be used with"),
        (&["--same-node", "-q", "5"], 2, "cannot be used with"),
        (&["--ringdns", "'open"], 2, "a quotation mark is not closed"),
        (&["-c", "2", "-T", "4"], 2, "-c must not be below -T"),
        (&["--cores", "4000"], 1, "cannot pin to core 4000"),
        (&["--server-core", "4000"], 1, "cannot pin to core 4000"),
        (&["--html", "/no/such/folder/page"], 1, "there is no folder /no/such/folder"),
    ];
    for (words, code, part) in rows {
        let all = [
            "compare",
            "--against",
            "coredns",
            "--from",
            &cluster,
            "--coredns",
            &good,
            "--ringdns",
            &good,
        ];
        let output = loadgen(&all.iter().chain(*words).copied().collect::<Vec<_>>());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{words:?}: {error}");
        assert!(error.contains(part), "{words:?}: {error}");
        assert!(!folder.path().join("good.pid").exists(), "{words:?}: a server was started");
    }
    let gone = format!("A=127.0.0.1:1@{}", u32::MAX);
    let output = loadgen(&["compare", "B=127.0.0.1:1", &gone, "-d", &path(&folder, "queries")]);
    assert!(text(&output.stderr).contains("process 4294967295: there is no such process"));
}

#[test]
fn rates_that_were_not_met_are_bounds() {
    let folder = folder();
    let (queries, html, json) =
        (path(&folder, "queries"), path(&folder, "c.html"), path(&folder, "c.json"));
    let spec = |name: &str, server: &Server| format!("{name}={}", server.address());
    let good = Server::udp("127.0.0.1:0", Behaviour::default());
    let lossy =
        Server::udp("127.0.0.1:0", Behaviour { drop_every: Some(2), ..Behaviour::default() });
    let silent =
        Server::udp("127.0.0.1:0", Behaviour { twist: Twist::Garbage, ..Behaviour::default() });
    // First and second server, exit code, text in the table.
    let rows: [(String, String, i32, &[&str]); 4] = [
        (
            spec("bad", &lossy),
            spec("good", &good),
            0,
            &[
                "< 100 per second",
                ">= 200 per second",
                "× more than 2.00",
                "% was lost (limit 0.1 %)",
                "use lower --rates",
            ],
        ),
        (
            spec("good", &good),
            spec("bad", &lossy),
            0,
            &["× less than 0.50", "met the highest rate tested", "At half of good's saturation"],
        ),
        (spec("silent", &silent), spec("good", &good), 3, &["all lost", "all was lost"]),
        (spec("silent", &silent), spec("silent2", &silent), 3, &["< 100 per second  –"]),
    ];
    for (first, second, code, parts) in &rows {
        // A good server may respond late on a busy machine; no test waits for a silent one.
        let timeout = if *code == 0 { 5.0 } else { 0.5 };
        let flags = format!("--rates 100,200 --rounds 1 -l 0.3 -t {timeout} --p99-max 60000");
        let words = ["compare", first, second, "-d", &queries, "--html", &html, "--json", &json];
        let output = loadgen(&words.into_iter().chain(flags.split(' ')).collect::<Vec<_>>());
        let report = text(&output.stdout);
        assert_eq!(output.status.code(), Some(*code), "{report}{}", text(&output.stderr));
        for part in *parts {
            assert!(report.contains(part), "{part} in {report}");
        }
        let page = fs::read_to_string(&html).unwrap();
        for text in [&report, &page] {
            for figure in [" 0 ns", "NaN", "inf", "× 0.00 ", "× 0.00<"] {
                assert!(!text.contains(figure), "{figure} in {text}");
            }
            // The ratio that a server without a figure used to get.
            let saturation = text.split("aturation").nth(1).unwrap();
            assert!(!saturation.contains("× 1.00"), "{text}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let is_met = report.contains("met the highest rate tested");
        let standings = json["standings"].as_array().unwrap();
        assert_eq!(standings.iter().any(|one| one["saturation_qps"] == 200.0), is_met, "{json}");
    }
}

#[test]
fn rounds_without_queries_give_no_figures() {
    let folder = folder();
    let (server, queries) =
        (Server::udp("127.0.0.1:0", Behaviour::default()), path(&folder, "queries"));
    let closed = format!("127.0.0.1:{CLOSED_PORT}");
    let rows: [(String, &[&str], &str, i32); 2] = [
        // The first query of one per ten seconds is not due within a tenth of a second.
        (format!("A={}", server.address()), &["--rates", "0.1"], "nothing was sent", 0),
        // Nothing listens there.
        (format!("A={closed}"), &["--rates", "50", "-m", "tcp"], "all was lost", 3),
    ];
    for (spec, words, part, code) in rows {
        let all: &[&str] = &["compare", &spec, &spec, "-d", &queries, "-l", "0.1", "-t", "0.2"];
        let output = loadgen(&[all, &["--rounds", "2"], words].concat());
        let report = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{report}{}", text(&output.stderr));
        assert!(report.contains(part), "{part} in {report}");
        for figure in ["0.000 %  ", "NaN", "inf", " 0 ns", "× 0.00 "] {
            let open_loop = report.split("Closed loop").next().unwrap();
            assert!(!open_loop.contains(figure), "{figure} in {report}");
        }
    }
}

#[test]
fn a_comparison_says_how_it_was_measured() {
    let folder = folder();
    let (html, json) = (path(&folder, "c.html"), path(&folder, "c.json"));
    let output = loadgen(&[
        "compare",
        "--against",
        "coredns",
        "--from",
        &path(&folder, "cluster.yaml"),
        "--coredns",
        &server(&folder, "first", Life::Long),
        "--ringdns",
        &server(&folder, "second", Life::Long),
        "--rates",
        "100",
        "--rounds",
        "3",
        "-l",
        "0.3",
        "--p99-max",
        "5000",
        "--html",
        &html,
        "--json",
        &json,
    ]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}{}", text(&output.stderr));
    let page = fs::read_to_string(&html).unwrap();
    for part in [" UTC", "Linux ", "first-1.2.3", "second-1.2.3", "loadgen", "compare", "--rounds"]
    {
        assert!(report.contains(part) && page.contains(part), "{part}: {report}");
    }
    for part in ["medians of 3 rounds", "met the highest rate tested", "CPU/answer"] {
        assert!(report.contains(part) && page.contains(part), "{part}: {report}");
    }
    // The median of three ratios and their extremes, in both reports.
    assert!(report.contains("lowest and highest"), "{report}");
    assert!(page.contains("ringdns to CoreDNS") && page.contains("<small>"), "{page}");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    let version = format!("first-1.2.3; GOMAXPROCS={cores}");
    assert_eq!(json["about"]["servers"][0]["version"], version, "{json}");
    assert!(!is_running(&folder, "first") && !is_running(&folder, "second"));
}

#[test]
fn clients_on_the_servers_node_are_measured_in_turn() {
    let folder = folder();
    let (html, json) = (path(&folder, "c.html"), path(&folder, "c.json"));
    let ringdns = server(&folder, "second", Life::Long);
    let output = loadgen(&[
        "compare",
        "--same-node",
        "--against",
        "coredns",
        "--from",
        &path(&folder, "cluster.yaml"),
        "--coredns",
        &server(&folder, "first", Life::Long),
        "--ringdns",
        &ringdns,
        "--ringdns",
        &format!("{ringdns} --io mmsg"),
        "-c",
        "4",
        "--rounds",
        "2",
        "-l",
        "0.1",
        "--html",
        &html,
        "--json",
        &json,
    ]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}{}", text(&output.stderr));
    let page = fs::read_to_string(&html).unwrap();
    for part in [
        "Servers and clients share the machine's cores; closed loop, medians of 2 rounds",
        "One query at a time, client on any core",
        "64 in flight, client on any core",
        "ringdns --io mmsg to CoreDNS",
        "ringdns --io mmsg to ringdns",
    ] {
        assert!(page.contains(part) && report.contains(part), "{part}: {report}");
    }
    for part in ["aturation", "pen loop", "none of the rates", "its own limit"] {
        assert!(!page.contains(part) && !report.contains(part), "{part}: {report}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(json["windows"][0]["outstanding_max"], 1, "{report}");
    assert_eq!(json["windows"][0]["socket_count"], 4, "{report}");
    assert_eq!(json["standings"][2]["name"], "ringdns --io mmsg", "{report}");
    assert_eq!(json["standings"][2]["line_end"]["why"], "no_rate", "{report}");
}

#[test]
fn rounds_before_a_server_exits_are_reported() {
    let folder = folder();
    let html = path(&folder, "c.html");
    // The server exits in the first round of the second rate.
    let output = loadgen(&[
        "compare",
        "--against",
        "coredns",
        "--from",
        &path(&folder, "cluster.yaml"),
        "--coredns",
        &server(&folder, "first", Life::Long),
        "--ringdns",
        &server(&folder, "second", Life::Clients(4)),
        "--rates",
        "100,200,300,400",
        "--rounds",
        "2",
        "-l",
        "0.5",
        "-t",
        "2",
        "--p99-max",
        "5000",
        "--html",
        &html,
    ]);
    let (report, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{report}{error}");
    for part in ["ringdns exited during the measurement, exit status: 7", "the disk is on fire"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(report.contains("       100  CoreDNS"), "{report}");
    let why = "ringdns exited during the measurement: exit status: 7: the report covers";
    assert!(report.contains(why), "{report}");
    // Rounds without the server do not count against it.
    assert!(!report.contains("all lost") && !report.contains("was lost"), "{report}");
    assert!(fs::read_to_string(&html).unwrap().contains("exit status: 7"));
    assert!(!is_running(&folder, "first"), "the other server was stopped");
}

#[test]
fn a_process_that_exits_during_the_measurement_is_reported() {
    let folder = folder();
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    let spec = format!("A={}@{}", server.address(), process.id());
    let address = server.address();
    let killer = std::thread::spawn(move || {
        // Each round is a client; by then two rounds of each server are complete.
        wait_until(|| server.clients() >= 5);
        process.kill().unwrap();
        // Nobody waits for it yet, as for a server whose supervisor hangs.
        (server, process)
    });
    let output = loadgen(&[
        "compare",
        &spec,
        &format!("B={address}"),
        "-d",
        &path(&folder, "queries"),
        "--rates",
        "100,200,300,400",
        "--rounds",
        "2",
        "-l",
        "0.5",
        "--p99-max",
        "5000",
    ]);
    let (server, mut process) = killer.join().unwrap();
    process.wait().unwrap();
    drop(server);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("A's process exited during the measurement"));
    assert!(text(&output.stdout).contains("       100  A"), "{}", text(&output.stdout));
}

#[test]
fn a_signal_ends_a_comparison_with_a_report() {
    let folder = folder();
    let html = path(&folder, "c.html");
    // Before the first round is complete, and after some.
    for (rates, is_reported) in [("100", false), ("100,200,300", true)] {
        let round_secs = if is_reported { "0.3" } else { "30" };
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["compare", "--against", "coredns", "--from", &path(&folder, "cluster.yaml")])
            .args(["--coredns", &server(&folder, "first", Life::Long)])
            .args(["--ringdns", &server(&folder, "second", Life::Long)])
            .args(["--rates", rates, "--rounds", "20", "-l", round_secs, "--html", &html])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // As in a shell: Ctrl-C goes to the whole process group.
            .process_group(0)
            .spawn()
            .unwrap();
        // The first query is a client, and so is each round.
        wait_for_clients(&folder, "first", if is_reported { 6 } else { 2 });
        let group = Pid::from_raw(child.id() as i32);
        // Twice, as people do.
        killpg(group, Signal::SIGINT).unwrap();
        killpg(group, Signal::SIGINT).unwrap();
        let mut report = String::new();
        child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        let errors: Vec<String> =
            BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{report}{errors:?}");
        assert_eq!(report.contains("stopped by a signal"), is_reported, "{report}");
        assert_eq!(report.contains("       100  CoreDNS"), is_reported, "{report}");
        // The signal did not reach the servers, so their last responses were not lost.
        assert!(!report.contains("was lost"), "{report}");
        assert_eq!(fs::exists(&html).unwrap(), is_reported);
        let has_said = errors.iter().any(|line| line.contains("nothing to report"));
        assert_eq!(has_said, !is_reported, "{errors:?}");
        assert!(!is_running(&folder, "first") && !is_running(&folder, "second"));
        fs::remove_file(folder.path().join("first.clients")).unwrap();
    }
}
