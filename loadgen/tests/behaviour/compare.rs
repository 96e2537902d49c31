//! `loadgen compare`: what it says of servers that are slow, silent, or end before their time.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::command::{loadgen, text};
use crate::server::{Behaviour, Server, Twist};

/// A folder with a query file.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("queries"), "one.example A\ntwo.example AAAA\n").unwrap();
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
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
    // First and second server, exit code, what the table says.
    let rows: [(String, String, i32, &[&str]); 4] = [
        (
            spec("bad", &lossy),
            spec("good", &good),
            0,
            &[
                "< 100 a second",
                ">= 200 a second",
                "× more than 2.00",
                "% was lost (limit 0.1 %)",
                "ask lower --rates",
            ],
        ),
        (
            spec("good", &good),
            spec("bad", &lossy),
            0,
            &["× less than 0.50", "met the highest rate asked", "At half of good's saturation"],
        ),
        (spec("silent", &silent), spec("good", &good), 3, &["all lost", "all was lost"]),
        (spec("silent", &silent), spec("silent2", &silent), 3, &["< 100 a second  –"]),
    ];
    for (first, second, code, parts) in &rows {
        let output = loadgen(&[
            "compare",
            first,
            second,
            "-d",
            &queries,
            "--rates",
            "100,200",
            "--rounds",
            "2",
            "-l",
            "0.3",
            "-t",
            "0.2",
            "--p99-max",
            "150",
            "--html",
            &html,
            "--json",
            &json,
        ]);
        let report = text(&output.stdout);
        assert_eq!(output.status.code(), Some(*code), "{report}{}", text(&output.stderr));
        for part in *parts {
            assert!(report.contains(part), "{part} in {report}");
        }
        let page = fs::read_to_string(&html).unwrap();
        for text in [&report, &page] {
            for figure in ["× 1.00", " 0 ns", "NaN", "inf", "× 0.00"] {
                assert!(!text.contains(figure), "{figure} in {text}");
            }
        }
        let json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let is_met = report.contains("met the highest rate asked");
        let standings = json["standings"].as_array().unwrap();
        assert_eq!(standings.iter().any(|one| one["saturation_qps"] == 200.0), is_met, "{json}");
    }
}

#[test]
fn a_process_that_ends_while_it_is_measured_is_told() {
    let folder = folder();
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    let spec = format!("A={}@{}", server.address(), process.id());
    let address = server.address();
    let killer = std::thread::spawn(move || {
        // Each round is a client: two of each server's are over.
        wait_until(|| server.clients() >= 5);
        process.kill().unwrap();
        process.wait().unwrap();
        server
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
        "500",
    ]);
    drop(killer.join().unwrap());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("A's process ended while it was measured"));
    assert!(text(&output.stdout).contains("       100  A"), "{}", text(&output.stdout));
}
