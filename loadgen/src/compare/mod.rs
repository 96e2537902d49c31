//! Two or more servers under the same load: interleaved rounds at each rate, so that what the machine does meanwhile hits
//! all of them alike.
//!
//! A rate's figure is the median of its rounds; its spread is what the rounds differed by. A server is asked for no higher
//! rate once it has failed two, which bounds the time. What was measured before something cut the comparison short is kept.

pub mod api_server;
pub mod cell;
pub mod launch;
pub mod page;
pub mod saturation;
pub mod table;

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

/// Rates that a server may fail before it is left in peace.
const FAILURES_MAX: usize = 2;
/// Between two rounds, for what is left of the last in buffers.
const PAUSE: Duration = Duration::from_millis(200);

/// A server that takes part; the first is what the others are compared with.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub address: SocketAddr,
    pub pid: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct ComparePlan {
    pub contenders: Vec<Contender>,
    /// Everything but the server and the load.
    pub base: Plan,
    /// Rising.
    pub rates_qps: Vec<f64>,
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

#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub about: About,
    pub round_count: usize,
    pub loss_max: f64,
    pub p99_max_ms: f64,
    pub standings: Vec<Standing>,
    /// All servers at half of the first one's saturation.
    pub at_half: Option<Vec<Cell>>,
    /// All servers with a window and no rate; `None` where the comparison was cut short before.
    pub closed: Option<Vec<Cell>>,
    pub interrupted: bool,
    /// What ended it early, a signal or a server's end.
    pub cut_short: Option<String>,
}

/// A server that ended while it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub server: String,
    /// Its exit status, where it was started here.
    pub status: Option<String>,
    /// The last lines that it printed.
    pub log: String,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, status, log } = self;
        match status {
            Some(status) => write!(f, "{server} ended while it was measured, {status}; {log}"),
            None => write!(f, "{server}'s process ended while it was measured"),
        }
    }
}

/// What ends a comparison before its time.
#[derive(Debug)]
pub enum Cut {
    Signal,
    Death(Death),
    Run(RunError),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("stopped by a signal"),
            Self::Death(death) => {
                let status = death.status.as_deref().unwrap_or("its process is gone");
                write!(f, "{} ended while it was measured: {status}", death.server)
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
        let others = self.at_half.iter().chain(&self.closed).filter_map(move |all| all.get(at));
        self.standings[at].cells.iter().chain(others)
    }

    /// Nothing was measured at all.
    pub fn is_empty(&self) -> bool {
        (0..self.standings.len()).all(|at| self.cells(at).next().is_none())
    }
}

/// Runs it all; `progress` is told what comes next, `death` is asked each second whether a server has ended. What was measured
/// before a cut is in the comparison, but for the round that was cut.
pub fn compare(
    plan: &ComparePlan,
    workload: &Workload,
    about: About,
    stop: &AtomicBool,
    death: &mut dyn FnMut() -> Option<Death>,
    progress: &mut dyn FnMut(&str),
) -> (Comparison, Option<Cut>) {
    assert!(!plan.contenders.is_empty() && plan.rounds > 0);
    let mut race = Race { plan, workload, stop, death, progress, cut: None };
    let everyone: Vec<usize> = (0..plan.contenders.len()).collect();
    let standings = race.rising_rates(&everyone);
    let at_half = match standings[0].line.saturation.met_qps {
        Some(met_qps) => race.cells_of_all(&everyone, Some(met_qps / 2.0)),
        None => None,
    };
    let closed = race.cells_of_all(&everyone, None);
    let cut = race.cut;
    let comparison = Comparison {
        about,
        round_count: plan.rounds,
        loss_max: plan.loss_max,
        p99_max_ms: plan.p99_max.as_secs_f64() * 1e3,
        standings,
        at_half,
        closed,
        interrupted: matches!(cut, Some(Cut::Signal)),
        cut_short: cut.as_ref().map(Cut::to_string),
    };
    (comparison, cut)
}

/// The comparison while it goes on.
struct Race<'a> {
    plan: &'a ComparePlan,
    workload: &'a Workload,
    stop: &'a AtomicBool,
    death: &'a mut dyn FnMut() -> Option<Death>,
    progress: &'a mut dyn FnMut(&str),
    /// Once there is one, nothing more is measured.
    cut: Option<Cut>,
}

impl Race<'_> {
    /// Each server's rates, until it has failed two or all have been asked.
    fn rising_rates(&mut self, everyone: &[usize]) -> Vec<Standing> {
        let plan = self.plan;
        let limits = Limits { loss_max: plan.loss_max, p99_max_ns: plan.p99_max.as_nanos() as f64 };
        let mut standings: Vec<Standing> = plan.contenders.iter().map(Standing::new).collect();
        let mut failures = vec![0; everyone.len()];
        for &rate_qps in &plan.rates_qps {
            let running: Vec<usize> =
                everyone.iter().copied().filter(|&at| failures[at] < FAILURES_MAX).collect();
            if running.is_empty() || self.cut.is_some() {
                break;
            }
            for (at, cell) in self.rounds(&running, Some(rate_qps)) {
                // Fewer rounds than were planned are no measure of a rate.
                if cell.rounds.len() == plan.rounds {
                    let verdict = standings[at].line.judge(rate_qps, cell.shortfall(limits));
                    failures[at] += usize::from(verdict == Verdict::Failed);
                }
                standings[at].cells.push(cell);
            }
        }
        for standing in &mut standings {
            let whole = standing.cells.iter().rfind(|cell| cell.rounds.len() == plan.rounds);
            // A cut that comes later, in the closed loop say, does not bear on the rates.
            if whole.map(|cell| cell.rate_qps) != plan.rates_qps.last().copied() {
                standing.line.cut_short();
            }
        }
        standings
    }

    /// Those of every server; `None` if a cut leaves one without a round.
    fn cells_of_all(&mut self, everyone: &[usize], rate_qps: Option<f64>) -> Option<Vec<Cell>> {
        let cells = self.rounds(everyone, rate_qps);
        (cells.len() == everyone.len()).then(|| cells.into_iter().map(|(_, cell)| cell).collect())
    }

    /// All rounds of some servers, in turn: 1 2 3, 2 3 1, … so that none is always first. A cell without a round is left out.
    fn rounds(&mut self, running: &[usize], rate_qps: Option<f64>) -> Vec<(usize, Cell)> {
        let new = || Cell::new(rate_qps.unwrap_or(0.0), rate_qps.is_none());
        let mut cells: Vec<(usize, Cell)> = running.iter().map(|&at| (at, new())).collect();
        let round_count = if self.cut.is_none() { self.plan.rounds } else { 0 };
        'all: for round in 0..round_count {
            for turn in 0..running.len() {
                let (at, cell) = &mut cells[(turn + round) % running.len()];
                match self.round(*at, rate_qps, round) {
                    Ok((summary, latency)) => {
                        cell.latency.add(latency).expect("one range");
                        cell.rounds.push(summary);
                    }
                    Err(cut) => {
                        self.cut = Some(cut);
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
        rate_qps: Option<f64>,
        round: usize,
    ) -> Result<(Summary, Histogram<u64>), Cut> {
        self.check()?;
        let Contender { name, address, pid } = &self.plan.contenders[at];
        let what = rate_qps.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate:.0}/s"));
        (self.progress)(&format!("{name} {what}, round {} of {}", round + 1, self.plan.rounds));
        let base = &self.plan.base;
        let plan = Plan {
            server: *address,
            server_pid: *pid,
            load: match rate_qps {
                Some(qps) => Load::Open { rate: Rate::constant(qps), spacing: self.plan.spacing },
                None => Load::Closed,
            },
            outstanding_max: match rate_qps {
                Some(_) => base.outstanding_max,
                None => base.outstanding_max.min(256).max(base.socket_count as u32),
            },
            seed: base.seed.wrapping_add(round as u64),
            ..base.clone()
        };
        let (contenders, stop) = (&self.plan.contenders, self.stop);
        let mut died = None;
        let outcome = run(&plan, self.workload, stop, |_| {
            died = died.take().or_else(|| find_death(self.death, contenders));
            if died.is_some() {
                // What is left of the round would measure nobody.
                stop.store(true, Ordering::Relaxed);
            }
        });
        if let Some(death) = died {
            return Err(Cut::Death(death));
        }
        let outcome = outcome.map_err(Cut::Run)?;
        self.check()?;
        std::thread::sleep(PAUSE);
        Ok((Summary::new(&plan, self.workload, &outcome), outcome.totals.latency()))
    }

    fn check(&mut self) -> Result<(), Cut> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Cut::Signal);
        }
        find_death(self.death, &self.plan.contenders).map_or(Ok(()), |death| Err(Cut::Death(death)))
    }
}

/// Of those that were started here, as `death` has it, or of those whose process was named.
fn find_death(death: &mut dyn FnMut() -> Option<Death>, contenders: &[Contender]) -> Option<Death> {
    let is_gone =
        |contender: &&Contender| contender.pid.is_some_and(|pid| process_cpu_ns(pid).is_err());
    death().or_else(|| {
        let gone = contenders.iter().find(is_gone)?;
        Some(Death { server: gone.name.clone(), status: None, log: String::new() })
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
