//! The command as users run it: exit codes, messages for bad input, the formats of the report.

use std::process::{Command, Output};

use crate::launched::wait_until;
use crate::server::{Behaviour, CLOSED_PORT, Server, Twist};

pub(crate) fn loadgen(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(words).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with query files, and with right and wrong expectations for the echo server.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("queries", "one.example A\ntwo.example AAAA\n");
    write("bad", "one.example\n");
    write("empty", "; nothing\n");
    write("right", "one.example A NOERROR\ntwo.example AAAA NOERROR\n");
    write("wrong", "one.example A NOERROR 10.0.0.1\n");
    write("other", "three.example A NOERROR\n");
    folder
}

#[test]
fn bad_input_is_reported_without_a_panic() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (queries, bad, empty, other) = (path("queries"), path("bad"), path("empty"), path("other"));
    let (nothing, page) = (path("nothing"), path("page"));
    std::fs::create_dir(&nothing).unwrap();
    let rows: &[(&[&str], &str)] = &[
        (&[], "standard input holds no query; give a query file with -d"),
        (&["-d", "/no/such/file"], "cannot read the query file /no/such/file"),
        (&["-d", &bad], ":1: 'one.example': the type is missing"),
        (&["-d", &empty], "holds no query"),
        (&["-d", &queries, "-Q", "fast"], "not a number"),
        (&["-d", &queries, "-Q", "0"], "0.001 to"),
        (&["-d", &queries, "-q", "0"], "-q must be"),
        (&["-d", &queries, "-q", "40000"], "32768 for each socket"),
        (&["-d", &queries, "-T", "0"], "-T must be"),
        (&["-d", &queries, "-T", "4", "-c", "2"], "-c must not be below -T"),
        (&["-d", &queries, "-c", "9", "-T", "4", "-q", "3"], "-q must not be below -T"),
        (&["-d", &queries, "-l", "nan"], "-l must be"),
        (&["-d", &queries, "-t", "-1"], "-t must be above 0"),
        (&["-d", &queries, "-n", "0"], "-n must be"),
        (&["-d", &queries, "-S", "nan"], "-S must be"),
        (&["-d", &queries, "-x", "65535", "-c", "2"], "-x must be"),
        (&["-d", &queries, "-x", "70000"], "70000 is not in 0..=65535"),
        (&["-d", &queries, "-a", "::1"], "the server's family"),
        (&["-d", &queries, "-m", "dot"], "loadgen supports udp and tcp"),
        (&["-d", &queries, "-m", "quic"], "must be udp or tcp"),
        (&["-d", &queries, "--tcp-share", "1"], "--tcp-share must be"),
        (&["-d", &queries, "--tcp-share", "0.5", "-m", "tcp"], "cannot be used with"),
        (&["-d", &queries, "--reconnect", "5"], "--reconnect must be with -m tcp"),
        (&["-d", &queries, "-t", "100"], "-t must be"),
        (&["-d", &queries, "-s", "no.such.host.invalid"], "-s no.such.host.invalid"),
        (&["-d", &queries, "-f", "inet6"], "no address of the family"),
        (&["-d", &queries, "--verify", &other], "none of the queries"),
        (&["-d", &queries, "--verify", &bad], "the type is missing"),
        (&["-d", &queries, "-m", "tcp", "--reconnect", "0"], "--reconnect must be"),
        (&["-d", &queries, "-m", "tcp", "--reconnect", "5", "-x", "1"], "-x must be"),
        (&["--from", "/no/such/place"], "cannot read the manifests /no/such/place"),
        (&["--from", &nothing], "no file that ends in .yaml, .yml or .json"),
        (&["--from", &queries, "--external", "2"], "--external must be"),
        (&["-d", &queries, "--html", &page, "--json", &page], "--html and --json would both write"),
        (&["-d", &queries, "--dnsperf", "--json", "-"], "--dnsperf and --json would both write"),
        (&["-d", &queries, "--histogram"], "--histogram must be with --dnsperf"),
        (&["-d", &queries, "--hlog", "-", "--hgrm", "-"], "--hgrm and --hlog would both write"),
        (&["compare", "A=127.0.0.1:1"], "nothing to compare"),
        (
            &["compare", "A=127.0.0.1:1", "B=127.0.0.1:2", "--coredns", "x"],
            "--coredns must be left out",
        ),
        (
            &["compare", "A=127.0.0.1:1", "B=127.0.0.1:2", "--server-core", "0"],
            "--server-core must be",
        ),
        (&["compare", "A=127.0.0.1"], "write HOST:PORT"),
        (&["compare", "--against", "coredns", "-d", &queries], "needs the cluster"),
        (&["compare", "A=127.0.0.1:1", "B=127.0.0.1:2", "--rounds", "0"], "--rounds must be"),
        (&["compare", "A=127.0.0.1:1", "B=127.0.0.1:2", "-Q", "5"], "compare uses --rates"),
        (&["compare", "A=127.0.0.1:1", "B=127.0.0.1:2", "--hgrm", "x"], "--hgrm must be left out"),
    ];
    for (words, part) in rows {
        let output = loadgen(words);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.contains(part) && !error.contains("panicked"), "{words:?}: {error}");
    }
}

#[test]
fn a_run_that_cannot_start_says_why() {
    let folder = folder();
    let queries = folder.path().join("queries").display().to_string();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let rows: &[(&[&str], &str)] = &[
        (&["--cores", "4000", "-l", "1"], "cannot pin to core 4000"),
        (&["-a", "127.0.0.1", "-x", &port], "the local port (-x) is in use"),
        (&["-a", "192.0.2.1"], "the local address (-a) must belong to this machine"),
        (&["--server-pid", "0"], "process 0: there is no such process"),
    ];
    for (words, part) in rows {
        let all = ["-d", &queries].iter().chain(*words).copied().collect::<Vec<_>>();
        let output = loadgen(&all);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(part), "{words:?}: {}", text(&output.stderr));
    }
}

#[test]
fn unwritable_reports_are_reported_before_the_run() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let queries = path("queries");
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let port = server.address().port().to_string();
    let spec = format!("A=127.0.0.1:{port}");
    let one: &[&str] = &["-p", &port, "-d", &queries];
    let two: &[&str] = &["compare", &spec, &spec, "-d", &queries];
    let (missing, inside) = (path("no/such/page"), path("queries/page"));
    let root = folder.path().display().to_string();
    let rows = [
        (one, "--html", &missing, "mkdir -p"),
        (one, "--json", &missing, "mkdir -p"),
        (one, "--hgrm", &missing, "mkdir -p"),
        (one, "--hlog", &missing, "mkdir -p"),
        (two, "--html", &missing, "mkdir -p"),
        (two, "--json", &missing, "mkdir -p"),
        (one, "--html", &root, "it is a folder; name a file in it"),
        (one, "--html", &inside, "Not a directory"),
    ];
    for (words, flag, path, part) in rows {
        let words: Vec<&str> = words.iter().copied().chain([flag, path]).collect();
        let output = loadgen(&words);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {error}");
        assert!(error.contains(&format!("cannot write {path}: ")), "{words:?}: {error}");
        assert!(error.contains(part) && output.stdout.is_empty(), "{words:?}: {error}");
    }
    assert_eq!(server.clients(), 0, "no query was sent");
    // A reader that has gone loses the table and nothing else.
    for words in [one, &[two, &["--rates", "100", "--rounds", "1", "-l", "0.1"]].concat()] {
        let kept = path("kept");
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(words)
            .args(["--json", &kept])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{words:?}");
        let json = std::fs::read_to_string(&kept).unwrap();
        assert!(json.contains("answered_qps"), "{words:?}: {json}");
    }
    // A full disk shows only when the report is written, and does not lose the table.
    let full = loadgen(&["-p", &port, "-d", &queries, "--html", "/dev/full"]);
    assert_eq!(full.status.code(), Some(1), "{}", text(&full.stderr));
    assert!(text(&full.stderr).contains("cannot write /dev/full: No space left"));
    assert!(text(&full.stdout).contains("answered"), "the table is still printed");
}

/// All formats of a report in which there is nothing to compute a percentile or a share of.
#[test]
fn without_responses_there_are_no_times() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (queries, html, json_path) = (path("queries"), path("r.html"), path("r.json"));
    let garbage =
        Server::udp("127.0.0.1:0", Behaviour { twist: Twist::Garbage, ..Behaviour::default() });
    let (silent, closed) = (garbage.address().port().to_string(), CLOSED_PORT.to_string());
    let rows: &[(&str, &[&str], &str, bool)] = &[
        (&silent, &["-Q", "100", "-l", "1.2"], "responses           all lost", true),
        (&silent, &["-q", "2"], "responses           all lost", true),
        (&closed, &["-m", "tcp"], "responses          none sent", false),
    ];
    for (port, words, row, was_sent) in rows {
        let all = ["-p", *port, "-d", &queries, "-t", "0.3", "--html", &html, "--json", &json_path];
        let output = loadgen(&all.iter().chain(*words).copied().collect::<Vec<_>>());
        let report = text(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {}", text(&output.stderr));
        assert!(report.contains(row), "{words:?}: {report}");
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let page = read(&html);
        assert!(page.contains("nothing to plot"), "{words:?}: {page}");
        for text in [&report, &page] {
            for figure in [" 0 ns", "NaN", " inf"] {
                assert!(!text.contains(figure), "{words:?}: {figure} in {text}");
            }
            assert_eq!(text.contains("100.000 %"), *was_sent, "{words:?}: {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&read(&json_path)).unwrap();
        assert!(json["latency"].is_null(), "{words:?}: {json}");
        // Formats of other programs keep their own conventions, but never contain NaN.
        let theirs = ["--dnsperf", "--histogram", "--hgrm", &html, "--hlog", &json_path];
        let all = [&["-p", *port, "-d", &queries, "-t", "0.3"], *words, &theirs].concat();
        let block = text(&loadgen(&all).stdout);
        for text in [&block, &read(&html), &read(&json_path)] {
            assert!(!text.is_empty() && !text.contains("NaN"), "{words:?}: {text}");
        }
        assert_eq!(json["loss"].as_f64(), was_sent.then_some(1.0), "{words:?}: {json}");
        assert_eq!(json["answered_qps"].as_f64(), was_sent.then_some(0.0), "{words:?}: {json}");
        assert!(json["server_cpu_ns_per_answer"].is_null(), "{words:?}: {json}");
    }
}

/// The flags of `dnsperf -h`, 2.10: each either means the same here or is rejected with advice.
#[test]
fn every_dnsperf_flag_is_known() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (queries, output) = (path("queries"), path("out"));
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let port = server.address().port().to_string();
    let line = "-f inet -m udp -s 127.0.0.1 -a 127.0.0.1 -c 2 -T 2 -n 1 -l 5 -b 64 -t 1 -e -D \
                -q 10 -Q 100000 -S 1 -W";
    let words: Vec<&str> = line.split(' ').chain(["-p", &port, "-d", &queries]).collect();
    let done = loadgen(&words);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    for flags in [
        "-E 10:00",
        "-y a:b:c=",
        "-O suppress=timeouts",
        "-u",
        "-B",
        "-v",
        "-H",
        "-v -W",
        "compare -v",
    ] {
        let words: Vec<&str> =
            flags.split(' ').chain(["-d", &queries, "--json", &output]).collect();
        let refused = loadgen(&words);
        let said = text(&refused.stderr) + &text(&refused.stdout);
        assert_eq!(refused.status.code(), Some(2), "{flags}: {said}");
        let flag = words.iter().find(|word| word.starts_with('-')).unwrap();
        let says = format!("loadgen: {flag} is a dnsperf flag that loadgen does not support: ");
        assert!(said.contains(&says), "{flags}: {said}");
        assert_eq!(refused.stderr.is_empty(), flags.contains("-W"), "{flags}");
    }
    // A given local port: this one is free, as the kernel handed it out a moment ago.
    let own = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bound = loadgen(&["-p", &port, "-d", &queries, "-x", &own.port().to_string()]);
    assert_eq!(bound.status.code(), Some(0), "{}", text(&bound.stderr));
    assert!(server.has_seen(own), "{own}");
}

#[test]
fn a_closed_port_ends_the_run() {
    let queries = folder();
    let queries = queries.path().join("queries").display().to_string();
    let port = CLOSED_PORT.to_string();
    for mode in ["udp", "tcp"] {
        // Bounded only by the number of queries.
        let output = loadgen(&["-p", &port, "-d", &queries, "-m", mode, "-t", "0.3"]);
        assert_eq!(output.status.code(), Some(3), "{mode}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains("the port is closed"), "{mode}");
    }
}

#[test]
fn exit_codes_tell_how_the_run_ended() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (queries, right, wrong) = (path("queries"), path("right"), path("wrong"));
    let rows: &[(Twist, &[&str], i32, &str)] = &[
        (Twist::None, &[], 0, "answered"),
        (Twist::None, &["--verify", &right], 0, "as expected"),
        (Twist::None, &["--verify", &wrong], 4, "one.example A: expected NOERROR 10.0.0.1"),
        (Twist::Garbage, &[], 3, "NO RESPONSE"),
        (Twist::Servfail, &[], 0, "SERVFAIL"),
    ];
    for (twist, words, code, part) in rows {
        let server =
            Server::udp("127.0.0.1:0", Behaviour { twist: *twist, ..Behaviour::default() });
        let port = server.address().port().to_string();
        let all: Vec<&str> =
            ["-p", &port, "-d", &queries, "-t", "0.3"].iter().chain(*words).copied().collect();
        let output = loadgen(&all);
        let (report, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(*code), "{twist:?} {words:?}: {report}{error}");
        assert!(report.contains(part), "{twist:?} {words:?}: {report}");
    }
}

#[test]
fn every_report_format_is_written() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let port = server.address().port().to_string();
    let (queries, html, json, hgrm, hlog) =
        (path("queries"), path("r.html"), path("r.json"), path("r.hgrm"), path("r.hlog"));
    let output = loadgen(&[
        "-p", &port, "-d", &queries, "-n", "50", "-q", "4", "--html", &html, "--json", &json,
        "--hgrm", &hgrm, "--hlog", &hlog,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read(&json)).unwrap();
    assert_eq!(
        (json["counts"]["sent"].as_u64(), json["latency"]["count"].as_u64()),
        (Some(100), Some(100))
    );
    assert!(read(&html).contains("<svg") && !read(&html).contains("<script"));
    let about = &json["about"];
    assert!(about["kernel"].as_str().unwrap().starts_with("Linux "), "{about}");
    assert!(about["command"].as_str().unwrap().contains("loadgen -p"), "{about}");
    for name in ["date", "machine", "server", "loadgen", "command"] {
        assert!(read(&html).contains(&format!("<dt>{name}</dt>")), "{name}");
    }
    assert!(read(&hgrm).contains("Total count    =          100]"));
    assert!(read(&hlog).starts_with("#[Histogram log format version 1.3]"));
}

#[test]
fn a_report_on_standard_output_is_alone_there() {
    let folder = folder();
    let queries = folder.path().join("queries").display().to_string();
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let port = server.address().port().to_string();
    let words = ["-p", &port, "-d", &queries, "-Q", "100", "-l", "1.2", "-S", "1"];
    let rates = |bytes: &[u8]| {
        let is_rate = |line: &&str| {
            line.split_once(": ").is_some_and(|(time, rate)| {
                time.parse::<f64>().is_ok() && rate.parse::<f64>().is_ok()
            })
        };
        text(bytes).lines().filter(is_rate).count()
    };
    let output = loadgen(&words);
    assert!(rates(&output.stdout) > 0, "{}", text(&output.stdout));
    let output = loadgen(&[&words[..], &["--json", "-"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["counts"]["sent"].as_u64().unwrap() > 0, "{json}");
    assert!(rates(&output.stderr) > 0, "{}", text(&output.stderr));
}

#[test]
fn the_dnsperf_block_matches_dnsperf() {
    let folder = folder();
    let queries = folder.path().join("queries").display().to_string();
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let port = server.address().port().to_string();
    let output = loadgen(&[
        "-s",
        "127.0.0.1",
        "-p",
        &port,
        "-d",
        &queries,
        "-n",
        "2",
        "-q",
        "1",
        "--dnsperf",
    ]);
    // Measured times vary; everything else is fixed.
    let mask = |line: &str| {
        let is_time = ["Run time", "Queries per", "Average Latency", "Latency StdDev"]
            .iter()
            .any(|name| line.contains(name));
        if is_time {
            line.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect()
        } else {
            line.to_owned()
        }
    };
    let block: Vec<String> = text(&output.stdout).lines().map(mask).collect();
    let shape = block.join("\n").replace('9', "");
    assert_eq!(
        shape,
        "\
Statistics:

  Queries sent:         4
  Queries completed:    4 (100.00%)
  Queries lost:         0 (0.00%)

  Response codes:       NOERROR 4 (100.00%)
  Average packet size:  request 2, response 2
  Run time (s):         .
  Queries per second:   .

  Average Latency (s):  . (min ., max .)
  Latency StdDev (s):   .
"
    );
}

#[test]
fn a_server_that_exits_during_the_run_is_reported() {
    let folder = folder();
    let queries = folder.path().join("queries").display().to_string();
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let port = server.address().port().to_string();
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["-p", &port, "-d", &queries, "-Q", "100", "-l", "1"])
        .args(["--server-pid", &process.id().to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(|| server.response_count() >= 2);
    process.kill().unwrap();
    process.wait().unwrap();
    let output = child.wait_with_output().unwrap();
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("answered") && report.contains("exited during the run"), "{report}");
}

#[test]
fn a_signal_ends_the_run_with_a_report() {
    let folder = folder();
    let queries = folder.path().join("queries").display().to_string();
    // A server that answers, and one that does not: its queries are not awaited, nor called lost.
    let rows: &[(Option<u64>, &[&str], &str)] = &[
        (None, &[], "answered"),
        (Some(1), &[], "still in flight"),
        (Some(1), &["-q", "9"], "still in flight                9"),
        (Some(1), &["-q", "9", "--dnsperf"], "Queries interrupted:  9 (100.00%)"),
    ];
    for (drop_every, words, part) in rows {
        let behaviour = Behaviour { drop_every: *drop_every, ..Behaviour::default() };
        let server = Server::udp("127.0.0.1:0", behaviour);
        let port = server.address().port().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["-p", &port, "-d", &queries, "-Q", "100", "-l", "60", "-t", "10"])
            .args(*words)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        wait_until(|| server.response_count() + server.dropped() >= 9);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id() as i32),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        let output = child.wait_with_output().unwrap();
        let report = text(&output.stdout);
        let said = report.clone() + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(report.contains(part) && said.contains("stopped by a signal"), "{said}");
        assert!(!report.contains("all lost"), "{said}");
    }
}
