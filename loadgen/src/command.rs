//! The command: reads the queries, runs the load, writes the reports and picks the exit code.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use crate::cli::{Cli, RunFlags, Subcommand};
use crate::compare::ServerExit;
use crate::compare::launch::LaunchError;
use crate::compare_command;
use crate::output::{Output, OutputError, Outputs};
use crate::plan::FlagError;
use crate::report::about::{self, About, ServerAbout};
use crate::report::{Summary, dnsperf, hgrm, html, json, terminal};
use crate::run::{Outcome, RunError, run};
use crate::watch::Watch;
use crate::workload::Workload;
use crate::workload::cluster::{self, ClusterError};
use crate::workload::expect::{ExpectError, Expectations};
use crate::workload::mix::{self, MixError};
use crate::workload::query_file::{self, QueryFileError};

/// How a run ended. The numbers are documented in `--help` and README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Reported = 0,
    NotRun = 1,
    BadInput = 2,
    NoAnswer = 3,
    NotAsExpected = 4,
    /// 128 + SIGINT, the shell convention.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

#[derive(Debug)]
pub enum CommandError {
    Flags(FlagError),
    Queries(QueryFileError),
    Cluster(ClusterError),
    Mix(MixError),
    Expectations(ExpectError),
    NothingExpected {
        path: PathBuf,
    },
    Run(RunError),
    Launch(LaunchError),
    ServerExited(ServerExit),
    /// Stopped by a signal before the first round was complete.
    NothingMeasured,
    Signal(io::Error),
    Output(OutputError),
}

impl CommandError {
    pub fn exit_code(&self) -> Code {
        match self {
            Self::Flags(_)
            | Self::Queries(_)
            | Self::Cluster(_)
            | Self::Mix(_)
            | Self::Expectations(_)
            | Self::NothingExpected { .. }
            | Self::Output(OutputError::Same { .. }) => Code::BadInput,
            Self::Launch(LaunchError::Stopped { .. }) | Self::NothingMeasured => Code::Interrupted,
            Self::Run(_)
            | Self::Launch(_)
            | Self::ServerExited(_)
            | Self::Signal(_)
            | Self::Output(_) => Code::NotRun,
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags(error) => error.fmt(f),
            Self::Queries(error) => error.fmt(f),
            Self::Cluster(error) => error.fmt(f),
            Self::Mix(error) => error.fmt(f),
            Self::Expectations(error) => error.fmt(f),
            Self::NothingExpected { path } => {
                write!(
                    f,
                    "none of the queries is listed in {}, so nothing can be verified",
                    path.display()
                )
            }
            Self::Run(error) => error.fmt(f),
            Self::Launch(error) => error.fmt(f),
            Self::Signal(error) => write!(f, "cannot watch for Ctrl-C: {error}"),
            Self::ServerExited(exit) => exit.fmt(f),
            Self::NothingMeasured => {
                write!(
                    f,
                    "stopped by a signal before the first round was complete: nothing to report"
                )
            }
            Self::Output(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CommandError {}

pub fn execute(cli: Cli) -> Result<Code, CommandError> {
    cli.run_flags().dnsperf_only.check().map_err(CommandError::Flags)?;
    match cli.command {
        Some(Subcommand::Compare(flags)) => compare_command::execute(&flags),
        None => run_once(&cli.run),
    }
}

fn run_once(flags: &RunFlags) -> Result<Code, CommandError> {
    let workload = workload(flags)?;
    let plan = flags.plan(workload.len()).map_err(CommandError::Flags)?;
    let outputs = Outputs::open(flags).map_err(CommandError::Output)?;
    let server = about::of_process(&plan.server.to_string(), plan.server_pid);
    let about = About::gather(vec![ServerAbout { name: "server".to_owned(), version: server }]);
    let Signals { stop, .. } = stop_on_signals(false).map_err(CommandError::Signal)?;
    let mut watch = Watch::new(flags.stats, &plan);
    let outcome =
        run(&plan, &workload, &stop, |second| watch.add(second)).map_err(CommandError::Run)?;
    watch.finish();
    let summary = Summary::new(&plan, &workload, &outcome);
    write_reports(flags, outputs, &Measured { summary: &summary, about: &about, outcome, watch })?;
    let counts = &summary.counts;
    Ok(match summary.interrupted {
        true => Code::Interrupted,
        false if counts.answered_total() == 0 => Code::NoAnswer,
        false if counts.verify_failed > 0 => Code::NotAsExpected,
        false => Code::Reported,
    })
}

/// The queries to send, with the answers to expect.
pub(crate) fn workload(flags: &RunFlags) -> Result<Workload, CommandError> {
    let read = |path: &Path| {
        query_file::read(path, flags.message_options()).map_err(CommandError::Queries)
    };
    let mut workload = match (&flags.queries, flags.from.as_slice()) {
        (Some(path), _) => read(path)?,
        // Nobody types queries by hand.
        (None, []) if io::stdin().is_terminal() => {
            return Err(CommandError::Flags(FlagError::NoQueries));
        }
        (None, []) => read(Path::new("-"))?,
        (None, paths) => {
            let mix = flags.mix().map_err(CommandError::Flags)?;
            let cluster = cluster::read(paths, &flags.zone).map_err(CommandError::Cluster)?;
            mix::generate(&cluster, &mix).map_err(CommandError::Mix)?
        }
    };
    if let Some(path) = &flags.verify {
        let expectations = Expectations::read(path).map_err(CommandError::Expectations)?;
        if workload.expect(expectations) == 0 {
            return Err(CommandError::NothingExpected { path: path.clone() });
        }
    }
    Ok(workload)
}

/// Flags set by the signals that normally end a process.
pub(crate) struct Signals {
    /// A signal arrived: stop and write the report.
    pub(crate) stop: Arc<AtomicBool>,
    /// Once true, the next signal ends the process in the default way.
    pub(crate) next_ends_process: Arc<AtomicBool>,
}

/// The first Ctrl-C stops the run and writes the report; the second ends the process. If loadgen
/// started servers, it stops them before a signal may end the process.
pub(crate) fn stop_on_signals(has_servers: bool) -> io::Result<Signals> {
    let stop = Arc::new(AtomicBool::new(false));
    let next_ends_process =
        if has_servers { Arc::new(AtomicBool::new(false)) } else { Arc::clone(&stop) };
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        flag::register_conditional_default(signal, Arc::clone(&next_ends_process))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(Signals { stop, next_ends_process })
}

/// Everything that the reports are made from.
struct Measured<'a> {
    summary: &'a Summary,
    about: &'a About,
    outcome: Outcome,
    watch: Watch,
}

fn write_reports(
    flags: &RunFlags,
    outputs: Outputs,
    measured: &Measured<'_>,
) -> Result<(), CommandError> {
    let Measured { summary, about, outcome, watch } = measured;
    let latency = outcome.totals.latency();
    // The table first. If one report fails, the others are still written: the run cannot be
    // repeated.
    let printed = match flags.dnsperf {
        true => print(&dnsperf::render(summary))
            .and_then(|()| match flags.histogram {
                true => print(&dnsperf::histogram_lines(&latency)),
                false => Ok(()),
            })
            .and_then(|()| warn(flags, summary)),
        false if outputs.has_stdout() => Ok(()),
        false => print(&terminal::render(summary)),
    };
    let write = |output: Option<Output>, text: &dyn Fn() -> String| {
        output.map_or(Ok(()), |output| output.write(&text())).map_err(CommandError::Output)
    };
    let written = [
        printed,
        write(outputs.hgrm, &|| hgrm::render(&latency)),
        write(outputs.hlog, &|| watch.log.render(outcome.started)),
        write(outputs.html, &|| html::render(summary, about, &outcome.totals, &watch.seconds)),
        write(outputs.json, &|| json::render(summary, about)),
    ];
    written.into_iter().collect()
}

fn warn(flags: &RunFlags, summary: &Summary) -> Result<(), CommandError> {
    for warning in &summary.warnings {
        let line = format!("WARNING: {warning}\n");
        match flags.warn_on_stdout {
            true => print(&line)?,
            // If stderr is closed, nobody reads the warning.
            false => drop(io::stderr().write_all(line.as_bytes())),
        }
    }
    Ok(())
}

pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let path = || "standard output".into();
    let fail = |error| CommandError::Output(OutputError::Write { path: path(), error });
    io::stdout().lock().write_all(text.as_bytes()).map_err(fail)
}
