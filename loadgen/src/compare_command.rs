//! `loadgen compare`: names or starts the servers, runs the rounds, writes the table and the page.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::cli::{Against, CompareFlags, Family, RingdnsSpec, RunFlags};
use crate::command_error::{Code, CommandError};
use crate::compare::binary::{BinaryError, ServerKind, find};
use crate::compare::launch::{LaunchOptions, Launched, launch};
use crate::compare::window::Window;
use crate::compare::{ComparePlan, Comparison, Contender, Interruption, compare, page, table};
use crate::flag_error::FlagError;
use crate::input::workload;
use crate::output::{Output, Outputs, print};
use crate::process::process_cpu_ns;
use crate::report::about::{self, About, ServerAbout};
use crate::report::json;
use crate::run::{RunError, find_cores};
use crate::signals::{Signals, stop_on_signals};
use crate::workload::Workload;
use crate::workload::cluster;

/// Length of a round in seconds, unless -l is given.
const ROUND_SECS: f64 = 2.0;
/// Sockets of each client on the servers' node, unless -c is given.
const NODE_SOCKET_COUNT: usize = 32;
/// Bounds on the rounds per rate and on the rates, which bound the total time.
const ROUND_COUNT_MAX: usize = 100;
const RATE_COUNT_MAX: usize = 200;

pub(crate) fn execute(flags: &CompareFlags) -> Result<Code, CommandError> {
    check(flags).map_err(CommandError::Flags)?;
    let servers = servers(flags).map_err(CommandError::Binary)?;
    let workload = workload(&flags.run)?;
    let mut plan = plan(flags, &workload)?;
    let outputs = Outputs::open(&flags.run).map_err(CommandError::Output)?;
    let Signals { stop, next_ends_process } =
        stop_on_signals(!servers.is_empty()).map_err(CommandError::Signal)?;
    let mut launched = launch_all(flags, servers, &workload, &stop)?;
    plan.contenders.splice(0..0, launched.iter().map(|one| one.contender.clone()));
    let about = about(&launched, &plan.contenders);
    let progress = ProgressBar::new_spinner();
    let (comparison, interruption) = compare(
        &plan,
        &workload,
        about,
        &stop,
        &mut || launched.iter_mut().find_map(Launched::exit),
        &mut |what| {
            progress.set_message(what.to_owned());
            progress.tick();
        },
    );
    progress.finish_and_clear();
    drop(launched);
    next_ends_process.store(true, Ordering::Relaxed);
    if !comparison.is_empty() {
        write_reports(outputs, &comparison)?;
    }
    match interruption {
        None => Ok(code(&comparison)),
        Some(Interruption::Signal) if comparison.is_empty() => Err(CommandError::NothingMeasured),
        Some(Interruption::Signal) => Ok(Code::Interrupted),
        Some(Interruption::ServerExited(exit)) => Err(CommandError::ServerExited(exit)),
        Some(Interruption::Run(error)) => Err(CommandError::Run(error)),
    }
}

/// Where each server's figures come from.
fn about(launched: &[Launched], contenders: &[Contender]) -> About {
    let version = |at: usize, contender: &Contender| match launched.get(at) {
        Some(one) => one.version.clone(),
        None => about::of_process(&contender.address.to_string(), contender.pid),
    };
    let servers = contenders.iter().enumerate().map(|(at, contender)| ServerAbout {
        name: contender.name.clone(),
        version: version(at, contender),
    });
    About::gather(servers.collect())
}

fn check(flags: &CompareFlags) -> Result<(), FlagError> {
    let out_of_range = |flag, range| Err(FlagError::OutOfRange { flag, range });
    if flags.against.is_some() && flags.run.from.is_empty() {
        return Err(FlagError::ManifestsNeeded);
    }
    if flags.against.is_none() && flags.servers.len() < 2 {
        return Err(FlagError::NoServers);
    }
    if flags.run.rate.is_some() {
        return out_of_range("-Q", "left out: compare uses --rates");
    }
    if let Some((_, flag)) = of_one_server(&flags.run).into_iter().find(|(given, _)| *given) {
        return out_of_range(flag, "left out: it applies only to a run against one server");
    }
    let of_launch = [
        (flags.coredns.is_some(), "--coredns"),
        (!flags.ringdns.is_empty(), "--ringdns"),
        (flags.server_core.is_some(), "--server-core"),
    ];
    let stray = of_launch.into_iter().find(|(given, _)| *given && flags.against.is_none());
    if let Some((_, flag)) = stray {
        return out_of_range(
            flag,
            "left out: it applies only to servers started by --against coredns",
        );
    }
    if !(1..=ROUND_COUNT_MAX).contains(&flags.rounds) {
        return out_of_range("--rounds", "1 to 100");
    }
    if flags.rates.len() > RATE_COUNT_MAX || flags.rates.iter().any(|rate| rate.steps().len() != 1)
    {
        return out_of_range("--rates", "at most 200 plain rates");
    }
    if !(0.0..=1.0).contains(&flags.loss_max) {
        return out_of_range("--loss-max", "a share from 0 to 1");
    }
    if !(flags.p99_max > 0.0 && flags.p99_max <= 60_000.0) {
        return out_of_range("--p99-max", "above 0 and at most 60000");
    }
    Ok(())
}

/// The flags that `compare` does not support, and whether each is given.
fn of_one_server(run: &RunFlags) -> [(bool, &'static str); 9] {
    [
        (run.server.is_some(), "-s"),
        (run.port.is_some(), "-p"),
        (run.family != Family::Any, "-f"),
        (run.server_pid.is_some(), "--server-pid"),
        (run.stats.is_some(), "-S"),
        (run.dnsperf, "--dnsperf"),
        (run.histogram, "--histogram"),
        (run.hgrm.is_some(), "--hgrm"),
        (run.hlog.is_some(), "--hlog"),
    ]
}

/// A server to start.
struct ServerCommand {
    kind: ServerKind,
    binary: PathBuf,
    flags: Vec<String>,
}

impl ServerCommand {
    /// Its kind and flags, and the binary if another server has the same of both.
    fn name(&self, servers: &[Self]) -> String {
        let words: Vec<&str> =
            [self.kind.name()].into_iter().chain(self.flags.iter().map(String::as_str)).collect();
        let is_same = |other: &&Self| other.kind == self.kind && other.flags == self.flags;
        match servers.iter().filter(is_same).count() {
            1 => words.join(" "),
            _ => format!("{} ({})", words.join(" "), self.binary.display()),
        }
    }
}

/// The servers to start, the baseline first; all binaries are looked for before one is started.
fn servers(flags: &CompareFlags) -> Result<Vec<ServerCommand>, BinaryError> {
    let Some(Against::Coredns) = flags.against else { return Ok(Vec::new()) };
    let kind = ServerKind::Coredns;
    let coredns =
        ServerCommand { kind, binary: find(kind, flags.coredns.as_deref())?, flags: Vec::new() };
    let default = [RingdnsSpec::default()];
    let specs = if flags.ringdns.is_empty() { &default[..] } else { &flags.ringdns };
    let kind = ServerKind::Ringdns;
    let ringdns = specs.iter().map(|RingdnsSpec { binary, flags }| {
        Ok(ServerCommand { kind, binary: find(kind, binary.as_deref())?, flags: flags.clone() })
    });
    [Ok(coredns)].into_iter().chain(ringdns).collect()
}

fn launch_all(
    flags: &CompareFlags,
    servers: Vec<ServerCommand>,
    workload: &Workload,
    stop: &AtomicBool,
) -> Result<Vec<Launched>, CommandError> {
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let manifests: Vec<PathBuf> = cluster::files(&flags.run.from)
        .map_err(CommandError::Cluster)?
        .into_iter()
        .map(|path| fs::canonicalize(&path).unwrap_or(path))
        .collect();
    let start = |server: &ServerCommand| {
        let options = LaunchOptions {
            kind: server.kind,
            name: server.name(&servers),
            binary: server.binary.clone(),
            flags: server.flags.clone(),
            manifests: manifests.clone(),
            zone: flags.run.zone.clone(),
            core: flags.server_core,
        };
        launch(&options, workload, stop).map_err(CommandError::Launch)
    };
    servers.iter().map(start).collect()
}

/// The plan, with the servers named by the flags. All errors in the flags are reported here.
fn plan(flags: &CompareFlags, workload: &Workload) -> Result<ComparePlan, CommandError> {
    let mut run = flags.run.clone();
    run.limit = Some(run.limit.unwrap_or(ROUND_SECS));
    let mut rates_qps: Vec<f64> = flags.rates.iter().map(|rate| rate.steps()[0].rate_qps).collect();
    rates_qps.sort_by(f64::total_cmp);
    rates_qps.dedup();
    if flags.same_node {
        rates_qps.clear();
        run.clients = run.clients.or(Some(NODE_SOCKET_COUNT));
    } else {
        // The bound on queries in flight: -q, or the default of an open loop.
        run.rate = flags.rates.last().cloned();
    }
    let base = run.plan(workload.len()).map_err(CommandError::Flags)?;
    let windows = match flags.same_node {
        true => {
            let all: Vec<usize> =
                core_affinity::get_core_ids().into_iter().flatten().map(|core| core.id).collect();
            Window::same_node(base.socket_count, &all)
        }
        false => vec![Window::throughput(&base)],
    };
    let cores: Vec<usize> = base.cores.iter().copied().chain(flags.server_core).collect();
    find_cores(&cores).map_err(CommandError::Run)?;
    let contenders: Vec<Contender> = flags
        .servers
        .iter()
        .map(|spec| Contender { name: spec.name.clone(), address: spec.address, pid: spec.pid })
        .collect();
    for pid in contenders.iter().filter_map(|contender| contender.pid) {
        process_cpu_ns(pid).map_err(|error| CommandError::Run(RunError::Server(error)))?;
    }
    Ok(ComparePlan {
        contenders,
        base,
        rates_qps,
        windows,
        is_same_node: flags.same_node,
        spacing: flags.run.spacing,
        rounds: flags.rounds,
        loss_max: flags.loss_max,
        p99_max: Duration::from_secs_f64(flags.p99_max / 1e3),
    })
}

fn write_reports(outputs: Outputs, comparison: &Comparison) -> Result<(), CommandError> {
    let printed = match outputs.has_stdout() {
        true => Ok(()),
        false => print(&table::render(comparison)),
    };
    let write = |output: Option<Output>, text: &dyn Fn() -> String| {
        output.map_or(Ok(()), |output| output.write(&text()))
    };
    // If one report fails, the others are still written: the measurement cannot be repeated.
    let written = [
        printed,
        write(outputs.html, &|| page::render(comparison)),
        write(outputs.json, &|| json::pretty(comparison)),
    ];
    written.into_iter().collect::<Result<_, _>>().map_err(CommandError::Output)
}

fn code(comparison: &Comparison) -> Code {
    let rounds = |at: usize| comparison.cells(at).flat_map(|cell| &cell.rounds);
    let mut servers = 0..comparison.standings.len();
    let is_silent = |at: usize| rounds(at).all(|round| round.counts.answered_total() == 0);
    if servers.clone().any(is_silent) {
        Code::NoAnswer
    } else if servers.any(|at| rounds(at).any(|round| round.counts.verify_failed > 0)) {
        Code::NotAsExpected
    } else {
        Code::Reported
    }
}
