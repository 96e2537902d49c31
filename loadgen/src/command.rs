//! The command: reads the queries, runs the load, writes the reports and picks the exit code.

use std::io::{self, Write};

use crate::cli::{Cli, RunFlags, Subcommand};
use crate::command_error::{Code, CommandError};
use crate::compare_command;
use crate::input::workload;
use crate::output::{Output, OutputError, Outputs, print};
use crate::report::about::{self, About, ServerAbout};
use crate::report::{Summary, dnsperf, hgrm, html, json, terminal};
use crate::run::{Outcome, run};
use crate::signals::{Signals, stop_on_signals};
use crate::watch::Watch;

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
    // A report on standard output is all that its reader expects there.
    let lines: Box<dyn Write> =
        if outputs.has_stdout() { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    let mut watch = Watch::new(flags.stats, lines, &plan);
    let outcome =
        run(&plan, &workload, &stop, |second| watch.add(second)).map_err(CommandError::Run)?;
    watch.finish();
    let summary = Summary::new(&plan, &workload, &outcome);
    write_reports(flags, outputs, &Measured { summary: &summary, about: &about, outcome, watch })?;
    let counts = &summary.counts;
    Ok(match summary.interrupted {
        true => Code::Interrupted,
        false if summary.server_exited => Code::NotRun,
        false if counts.answered_total() == 0 => Code::NoAnswer,
        false if counts.verify_failed > 0 => Code::NotAsExpected,
        false => Code::Reported,
    })
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
        output.map_or(Ok(()), |output| output.write(&text()))
    };
    let written = [
        printed,
        write(outputs.hgrm, &|| hgrm::render(&latency)),
        write(outputs.hlog, &|| watch.log.render(outcome.started)),
        write(outputs.html, &|| html::render(summary, about, &outcome.totals, &watch.seconds)),
        write(outputs.json, &|| json::render(summary, about)),
    ];
    written.into_iter().collect::<Result<_, _>>().map_err(CommandError::Output)
}

fn warn(flags: &RunFlags, summary: &Summary) -> Result<(), OutputError> {
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
