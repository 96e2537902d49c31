//! Measures two or more servers under the same load, in interleaved rounds at each rate, so that
//! other work on the machine affects all servers equally.
//!
//! The figure of a rate is the median of its rounds; the spread is their lowest and highest. A
//! server that has failed two rates gets no higher one, which bounds the time. Whatever was
//! measured before an interruption is kept.

pub mod api_server;
pub mod binary;
pub mod cell;
pub mod launch;
pub mod page;
pub mod saturation;
pub mod table;
pub mod window;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plan::{Load, Plan};
use crate::process::process_cpu_ns;
use crate::report::Summary;
use crate::report::about::About;
use crate::run::{RunError, run};
use crate::schedule::{Rate, Spacing};
use crate::workload::Workload;
use cell::Cell;
use saturation::{Limits, Line, Verdict};
use window::Window;

/// Rates that a server may fail before it gets no higher one.
const FAILURES_MAX: usize = 2;
/// Pause between rounds, so that buffers drain.
const PAUSE: Duration = Duration::from_millis(200);

/// A server to measure; the first one is the baseline.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub address: SocketAddr,
    pub pid: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct ComparePlan {
    pub contenders: Vec<Contender>,
    /// Everything except the server and the load.
    pub base: Plan,
    /// In rising order; may be empty.
    pub rates_qps: Vec<f64>,
    /// Loads of a closed loop, after the rates.
    pub windows: Vec<Window>,
    /// The servers and the generator share the machine's cores.
    pub is_same_node: bool,
    pub spacing: Spacing,
    /// Valid: at least 1.
    pub rounds: usize,
    pub loss_max: f64,
    pub p99_max: Duration,
}

#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    pub name: String,
    pub address: String,
    pub cells: Vec<Cell>,
    #[serde(flatten)]
    pub line: Line,
}

/// All servers under one load of a closed loop.
#[derive(Clone, Debug, Serialize)]
pub struct InWindow {
    #[serde(flatten)]
    pub window: Window,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub about: About,
    pub round_count: usize,
    pub loss_max: f64,
    pub p99_max_ms: f64,
    pub standings: Vec<Standing>,
    /// All servers at half of the first one's saturation.
    pub at_half: Option<Vec<Cell>>,
    /// Fewer than planned if the comparison was cut short.
    pub windows: Vec<InWindow>,
    pub is_same_node: bool,
    pub interrupted: bool,
    /// Why the comparison ended early: a signal or a server that exited.
    pub cut_short: Option<String>,
}

/// A server that exited while it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerExit {
    pub server: String,
    /// Its exit status, if it was started here.
    pub status: Option<String>,
    /// The last lines of its log.
    pub log: String,
}

impl fmt::Display for ServerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, status, log } = self;
        match status {
            Some(status) => write!(f, "{server} exited during the measurement, {status}; {log}"),
            None => write!(f, "{server}'s process exited during the measurement"),
        }
    }
}

/// Why a comparison ends early.
#[derive(Debug)]
pub enum Interruption {
    Signal,
    ServerExited(ServerExit),
    Run(RunError),
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("stopped by a signal"),
            Self::ServerExited(exit) => {
                let status = exit.status.as_deref().unwrap_or("its process is gone");
                write!(f, "{} exited during the measurement: {status}", exit.server)
            }
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl Comparison {
    pub fn limits(&self) -> Limits {
        Limits { loss_max: self.loss_max, p99_max_ns: self.p99_max_ms * 1e6 }
    }

    /// All cells of one server.
    pub fn cells(&self, at: usize) -> impl Iterator<Item = &Cell> {
        let windows = self.windows.iter().map(|one| &one.cells);
        let others = self.at_half.iter().chain(windows).filter_map(move |all| all.get(at));
        self.standings[at].cells.iter().chain(others)
    }

    /// No round is complete.
    pub fn is_empty(&self) -> bool {
        (0..self.standings.len()).all(|at| self.cells(at).next().is_none())
    }
}

/// Runs all rounds. `progress` gets the name of each round before it starts; `exit` is polled each
/// second for a server that has exited. After an interruption, the comparison holds all complete
/// rounds.
pub fn compare(
    plan: &ComparePlan,
    workload: &Workload,
    about: About,
    stop: &AtomicBool,
    exit: &mut dyn FnMut() -> Option<ServerExit>,
    progress: &mut dyn FnMut(&str),
) -> (Comparison, Option<Interruption>) {
    assert!(!plan.contenders.is_empty() && plan.rounds > 0);
    let mut measurement = Measurement { plan, workload, stop, exit, progress, interruption: None };
    let all_servers: Vec<usize> = (0..plan.contenders.len()).collect();
    let standings = measurement.rising_rates(&all_servers);
    let at_half = match standings[0].line.saturation.met_qps {
        Some(met_qps) => measurement.cells_of_all(&all_servers, CellLoad::Rate(met_qps / 2.0)),
        None => None,
    };
    let in_window = |window: &Window| {
        let cells = measurement.cells_of_all(&all_servers, CellLoad::Window(window))?;
        Some(InWindow { window: window.clone(), cells })
    };
    let windows = plan.windows.iter().map_while(in_window).collect();
    let interruption = measurement.interruption;
    let comparison = Comparison {
        about,
        round_count: plan.rounds,
        loss_max: plan.loss_max,
        p99_max_ms: plan.p99_max.as_secs_f64() * 1e3,
        standings,
        at_half,
        windows,
        is_same_node: plan.is_same_node,
        interrupted: matches!(interruption, Some(Interruption::Signal)),
        cut_short: interruption.as_ref().map(Interruption::to_string),
    };
    (comparison, interruption)
}

/// The load of a cell.
#[derive(Clone, Copy, Debug)]
enum CellLoad<'a> {
    Rate(f64),
    Window(&'a Window),
}

/// The state of a comparison that is running.
struct Measurement<'a> {
    plan: &'a ComparePlan,
    workload: &'a Workload,
    stop: &'a AtomicBool,
    exit: &'a mut dyn FnMut() -> Option<ServerExit>,
    progress: &'a mut dyn FnMut(&str),
    /// Once set, no further round is run.
    interruption: Option<Interruption>,
}

impl Measurement<'_> {
    /// Runs each server's rates until it has failed two or none are left.
    fn rising_rates(&mut self, all_servers: &[usize]) -> Vec<Standing> {
        let plan = self.plan;
        let limits = Limits { loss_max: plan.loss_max, p99_max_ns: plan.p99_max.as_nanos() as f64 };
        let mut standings: Vec<Standing> = plan.contenders.iter().map(Standing::new).collect();
        let mut failures = vec![0; all_servers.len()];
        for &rate_qps in &plan.rates_qps {
            let running: Vec<usize> =
                all_servers.iter().copied().filter(|&at| failures[at] < FAILURES_MAX).collect();
            if running.is_empty() || self.interruption.is_some() {
                break;
            }
            for (at, cell) in self.rounds(&running, CellLoad::Rate(rate_qps)) {
                // Fewer rounds than planned do not decide whether a rate was met.
                if cell.rounds.len() == plan.rounds {
                    let verdict = standings[at].line.judge(rate_qps, cell.shortfall(limits));
                    failures[at] += usize::from(verdict == Verdict::Failed);
                }
                standings[at].cells.push(cell);
            }
        }
        for standing in &mut standings {
            let whole = standing.cells.iter().rfind(|cell| cell.rounds.len() == plan.rounds);
            // A later interruption, such as in the closed loop, does not affect the rates.
            if whole.map(|cell| cell.rate_qps) != plan.rates_qps.last().copied() {
                standing.line.cut_short();
            }
        }
        standings
    }

    /// One cell per server; `None` if an interruption leaves a server without a round.
    fn cells_of_all(&mut self, all_servers: &[usize], load: CellLoad<'_>) -> Option<Vec<Cell>> {
        let cells = self.rounds(all_servers, load);
        (cells.len() == all_servers.len())
            .then(|| cells.into_iter().map(|(_, cell)| cell).collect())
    }

    /// Runs all rounds of these servers in turn: 1 2 3, 2 3 1, … so that none is always first.
    /// Leaves out cells without a round.
    fn rounds(&mut self, running: &[usize], load: CellLoad<'_>) -> Vec<(usize, Cell)> {
        let new = || match load {
            CellLoad::Rate(rate_qps) => Cell::new(rate_qps, false),
            CellLoad::Window(_) => Cell::new(0.0, true),
        };
        let mut cells: Vec<(usize, Cell)> = running.iter().map(|&at| (at, new())).collect();
        let round_count = if self.interruption.is_none() { self.plan.rounds } else { 0 };
        'all: for round in 0..round_count {
            for turn in 0..running.len() {
                let (at, cell) = &mut cells[(turn + round) % running.len()];
                match self.round(*at, load, round) {
                    Ok((summary, latency)) => {
                        cell.latency.add(latency).expect("one range");
                        cell.rounds.push(summary);
                    }
                    Err(interruption) => {
                        self.interruption = Some(interruption);
                        break 'all;
                    }
                }
            }
        }
        cells.retain(|(_, cell)| !cell.rounds.is_empty());
        cells
    }

    fn round(
        &mut self,
        at: usize,
        load: CellLoad<'_>,
        round: usize,
    ) -> Result<(Summary, Histogram<u64>), Interruption> {
        self.check()?;
        let Contender { name, address, pid } = &self.plan.contenders[at];
        let what = match load {
            CellLoad::Rate(rate_qps) => format!("{rate_qps:.0}/s"),
            CellLoad::Window(window) => window.name.clone(),
        };
        (self.progress)(&format!("{name} {what}, round {} of {}", round + 1, self.plan.rounds));
        let base = Plan {
            server: *address,
            server_pid: *pid,
            seed: self.plan.base.seed.wrapping_add(round as u64),
            ..self.plan.base.clone()
        };
        let plan = match load {
            CellLoad::Rate(qps) => {
                let rate = Rate::constant(qps);
                Plan { load: Load::Open { rate, spacing: self.plan.spacing }, ..base }
            }
            CellLoad::Window(window) => window.plan(base),
        };
        let (contenders, stop) = (&self.plan.contenders, self.stop);
        let mut exited = None;
        let outcome = run(&plan, self.workload, stop, |_| {
            exited = exited.take().or_else(|| find_exit(self.exit, contenders));
            if exited.is_some() {
                // The rest of the round would measure no server.
                stop.store(true, Ordering::Relaxed);
            }
        });
        if let Some(exit) = exited {
            return Err(Interruption::ServerExited(exit));
        }
        let outcome = outcome.map_err(Interruption::Run)?;
        self.check()?;
        std::thread::sleep(PAUSE);
        Ok((Summary::new(&plan, self.workload, &outcome), outcome.totals.latency()))
    }

    fn check(&mut self) -> Result<(), Interruption> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Interruption::Signal);
        }
        find_exit(self.exit, &self.plan.contenders)
            .map_or(Ok(()), |exit| Err(Interruption::ServerExited(exit)))
    }
}

/// A server that was started here, from `exit`, or one whose process was named with @PID.
fn find_exit(
    exit: &mut dyn FnMut() -> Option<ServerExit>,
    contenders: &[Contender],
) -> Option<ServerExit> {
    let is_gone =
        |contender: &&Contender| contender.pid.is_some_and(|pid| process_cpu_ns(pid).is_err());
    let gone = contenders.iter().find(is_gone);
    // Asked second, since it has the exit status of a server that was started here.
    exit().or_else(|| {
        let server = gone?.name.clone();
        Some(ServerExit { server, status: None, log: String::new() })
    })
}

impl Standing {
    fn new(contender: &Contender) -> Self {
        Self {
            name: contender.name.clone(),
            address: contender.address.to_string(),
            cells: Vec::new(),
            line: Line::new(),
        }
    }
}
