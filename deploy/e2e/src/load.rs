//! Load from loadgen, as a child process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::deadline::poll;
use crate::process::Process;
use crate::question::Question;
use crate::tools;

/// How long the highest rate is measured.
const MOST_SECS: u32 = 3;

/// Queries in flight and sockets for it: enough for a server with two shards.
const MOST_IN_FLIGHT: u32 = 256;
const SOCKETS: u32 = 16;

/// The longest load, if nothing ends it.
const LONGEST_SECS: u32 = 3_600;

/// How long loadgen may take to end after its last query.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running loadgen.
pub struct Load {
    process: Process,
    report: PathBuf,
    _dir: TempDir,
}

/// What loadgen measured.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub answered_qps: f64,
    /// Share of the queries without a response.
    pub loss: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
}

impl Load {
    /// As many queries as the server answers.
    pub fn at_most(server: SocketAddr, questions: &[Question]) -> Report {
        let flags = format!("-q {MOST_IN_FLIGHT} -l {MOST_SECS}");
        Self::run(server, questions, &flags).wait(Duration::from_secs(MOST_SECS.into()))
    }

    /// So many queries per second for a while.
    pub fn at_rate(server: SocketAddr, questions: &[Question], qps: f64, secs: u32) -> Report {
        let flags = format!("-Q {qps:.0} -l {secs}");
        Self::run(server, questions, &flags).wait(Duration::from_secs(secs.into()))
    }

    /// So many queries per second until [`end`](Self::end).
    pub fn start(server: SocketAddr, questions: &[Question], qps: f64) -> Self {
        Self::run(server, questions, &format!("-Q {qps:.0} -l {LONGEST_SECS}"))
    }

    /// Ends the load.
    pub fn end(self) -> Report {
        self.process.interrupt();
        self.wait(Duration::ZERO)
    }

    fn run(server: SocketAddr, questions: &[Question], flags: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("ringdns-load-").tempdir().expect("a folder");
        let lines = questions.iter().map(|question| format!("{question}\n"));
        std::fs::write(dir.path().join("queries"), lines.collect::<String>()).expect("a file");
        let words = format!(
            "-s {} -p {} -d queries -c {SOCKETS} -t 1 --json report.json {flags}",
            server.ip(),
            server.port()
        );
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let process = Process::start("loadgen", &tools::loadgen(), &words, dir.path());
        Self { process, report: dir.path().join("report.json"), _dir: dir }
    }

    /// Waits until it has ended, and reads its report.
    fn wait(mut self, run_time: Duration) -> Report {
        poll(run_time + END_LIMIT, "loadgen to end", || self.process.exit_status());
        let text = std::fs::read_to_string(&self.report).unwrap_or_default();
        let read: ReportFile = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}:\n{}", self.process.log_tail()));
        let times = read.latency.unwrap_or_default();
        let millis = |ns: u64| ns as f64 / 1e6;
        Report {
            answered_qps: read.answered_qps.unwrap_or(0.0),
            loss: read.loss.unwrap_or(1.0),
            p50_ms: millis(times.p50_ns),
            p99_ms: millis(times.p99_ns),
            p99_9_ms: millis(times.p99_9_ns),
        }
    }
}

/// The parts of loadgen's JSON that are used.
#[derive(Deserialize)]
struct ReportFile {
    answered_qps: Option<f64>,
    loss: Option<f64>,
    latency: Option<Times>,
}

#[derive(Default, Deserialize)]
struct Times {
    p50_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
}
