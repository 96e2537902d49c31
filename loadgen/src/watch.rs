//! Follows a run: the progress line, dnsperf's `-S` lines, and each second's figures for the
//! reports.

use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};

use crate::collect::Second;
use crate::plan::{DURATION_MAX, Plan};
use crate::report::hlog::IntervalLog;
use crate::report::html::SecondRow;
use crate::report::{Times, human_count, human_time};

/// Seconds kept for the page: one day.
const SECOND_COUNT_MAX: usize = 86_400;

pub struct Watch {
    pub log: IntervalLog,
    pub seconds: Vec<SecondRow>,
    progress: ProgressBar,
    rate_lines: RateLines,
}

impl Watch {
    /// `lines`: where `-S` prints to.
    pub fn new(stats_every_secs: Option<f64>, lines: Box<dyn Write>, plan: &Plan) -> Self {
        let has_end = plan.duration < DURATION_MAX;
        // A progress line is for people; in a pipe it would be noise. -S prints its own lines.
        let progress = match io::stderr().is_terminal() && stats_every_secs.is_none() {
            true if has_end => ProgressBar::new(plan.duration.as_secs().max(1)),
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        let template =
            if has_end { "{bar:30} {pos}/{len} s  {msg}" } else { "{spinner} {pos} s  {msg}" };
        progress.set_style(ProgressStyle::with_template(template).expect("a constant template"));
        Self {
            log: IntervalLog::default(),
            seconds: Vec::new(),
            progress,
            rate_lines: RateLines::new(stats_every_secs, lines),
        }
    }

    pub fn add(&mut self, second: &Second) {
        let passed_secs = (second.end_ns - second.start_ns) as f64 / 1e9;
        let answered = second.counts.answered_total();
        let row = SecondRow {
            end_secs: second.end_ns as f64 / 1e9,
            answered_qps: if passed_secs > 0.0 { answered as f64 / passed_secs } else { 0.0 },
            times: Times::of(&second.latency),
        };
        self.progress.set_position(row.end_secs.round() as u64);
        let p99 = row.times.as_ref().map(|times| human_time(times.p99_ns as f64));
        self.progress.set_message(format!(
            "{}/s  p99 {}  lost {}",
            human_count(row.answered_qps.round() as u64),
            p99.as_deref().unwrap_or("–"),
            human_count(second.counts.timed_out)
        ));
        // The tail of the run, when only late responses arrive, is not a full second.
        if self.seconds.len() < SECOND_COUNT_MAX && passed_secs > 0.5 {
            self.seconds.push(row);
        }
        self.log.add(second, None);
        self.rate_lines.add(second.end_ns, answered);
    }

    pub fn finish(&self) {
        self.progress.finish_and_clear();
    }
}

/// `-S`: dnsperf's lines, each a time and the rate since the previous line.
struct RateLines {
    output: Box<dyn Write>,
    every_ns: Option<u64>,
    answered: u64,
    start_ns: u64,
}

impl RateLines {
    fn new(every_secs: Option<f64>, output: Box<dyn Write>) -> Self {
        let every_ns = every_secs.map(|secs| (secs * 1e9) as u64);
        Self { output, every_ns, answered: 0, start_ns: 0 }
    }

    fn add(&mut self, end_ns: u64, answered: u64) {
        let Some(every_ns) = self.every_ns else { return };
        self.answered += answered;
        let passed_ns = end_ns - self.start_ns;
        // A second may end slightly early, so round to the nearest.
        if passed_ns + 500_000_000 >= every_ns {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let rate_qps = self.answered as f64 * 1e9 / passed_ns as f64;
            // If the pipe is closed, nobody reads the line; writing the report will report the
            // error.
            let _ = writeln!(self.output, "{:.6}: {rate_qps:.6}", now.as_secs_f64());
            self.answered = 0;
            self.start_ns = end_ns;
        }
    }
}
