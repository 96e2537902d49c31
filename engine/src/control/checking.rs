//! The command `ringdns check PATH`: writes what is wrong with a Corefile to standard output.
//!
//! Invariant: with `--json`, standard output is one JSON array, whatever is wrong with the files.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use engine::check::{self, CheckedTexts, LoadFinding};
use engine::cli::CheckOptions;
use engine::config::Config;
use engine::corefile::{self, Severity, Surroundings};
use engine::limits::{FILE_TIMEOUT, MANIFESTS_TIMEOUT};
use engine::metrics::Metrics;
use engine::plugin::auto::{Auto, ZoneFolder};
use engine::plugin::file::{File, FileZone};
use engine::plugin::kubernetes::Kubernetes;
use tokio::time::timeout;

use super::{output, start, sync, zones};

/// Exit code: there are warnings, and `--strict` is set.
const WARNINGS: u8 = 2;

/// The exit codes are in `ringdns check --help`.
pub(crate) fn run(options: &CheckOptions, default_port: u16) -> ExitCode {
    let surroundings = Surroundings::of_process(default_port);
    let checked = if options.path == Path::new("-") {
        match corefile::read_standard_input() {
            Ok(text) => check::text("stdin", None, &text, &surroundings),
            Err(error) => check::unreadable(&format!("read standard input: {error}")),
        }
    } else {
        check::path(&options.path, &surroundings)
    };
    let checked = if options.online { loaded(checked) } else { Ok(checked) };
    let mut checked = match checked {
        Ok(checked) => checked,
        Err(error) => {
            output::complain(&format!("{error:#}\n"));
            return ExitCode::FAILURE;
        }
    };
    checked.look_for_files();
    let text = if options.json { checked.json() } else { shown(&checked, &options.path) };
    // A report that nobody could read must not pass as a success.
    if output::print(&text) != ExitCode::SUCCESS {
        return ExitCode::FAILURE;
    }
    match (checked.count(Severity::Error), checked.count(Severity::Warning)) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) if options.strict => ExitCode::from(WARNINGS),
        (0, _) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The same with what loading each Corefile found.
fn loaded(checked: CheckedTexts) -> anyhow::Result<CheckedTexts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime to look hosts up")?;
    let metrics = Metrics::new(start::build(), 1);
    let mut texts = Vec::new();
    for text in checked.texts {
        let findings = match &text.read {
            Ok(config) if !text.is_part => runtime.block_on(load(config, &metrics)),
            Ok(_) | Err(_) => Vec::new(),
        };
        texts.push(text.with(findings));
    }
    // Dropping it would wait for a file or a resolver that hangs.
    runtime.shutdown_background();
    Ok(CheckedTexts { texts })
}

async fn load(config: &Config, metrics: &Metrics) -> Vec<LoadFinding> {
    let mut findings = Vec::new();
    for block in &config.blocks {
        let (errors, warnings) = block.problems(metrics).await;
        findings.extend(errors.into_iter().map(|(plugin, error)| LoadFinding {
            severity: Severity::Error,
            plugin: Some(plugin),
            place: Some(error.place),
            message: error.problem.to_string(),
        }));
        findings.extend(warnings.into_iter().map(|message| LoadFinding {
            severity: Severity::Warning,
            plugin: None,
            place: None,
            message,
        }));
        for file in block.lines::<File>() {
            for zone in &file.zones {
                let path = block.in_root(&zone.path);
                let problem = zone_problem(FileZone { path, ..zone.clone() }).await;
                if let Some((severity, message)) = problem {
                    findings.push(LoadFinding {
                        severity,
                        plugin: Some("file"),
                        place: Some(file.place.clone()),
                        message,
                    });
                }
            }
        }
        for Auto { folder, place } in block.lines() {
            for message in folder_problems(folder.in_root(block)).await {
                findings.push(LoadFinding {
                    severity: Severity::Warning,
                    plugin: Some("auto"),
                    place: Some(place.clone()),
                    message,
                });
            }
        }
        for kubernetes in block.lines::<Kubernetes>() {
            if let Some(message) = manifests_problem(kubernetes.clone()).await {
                findings.push(LoadFinding {
                    severity: Severity::Error,
                    plugin: Some("kubernetes"),
                    place: Some(kubernetes.source_place.clone()),
                    message,
                });
            }
        }
    }
    findings
}

/// Why a start-up could not use the file of a zone. It goes on without one that hangs.
async fn zone_problem(zone: FileZone) -> Option<(Severity, String)> {
    let path = zone.path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || zones::start_refusal(&zone));
    match timeout(FILE_TIMEOUT, reading).await {
        Ok(Ok(problem)) => problem.map(|problem| (Severity::Error, problem)),
        Ok(Err(error)) => Some((Severity::Error, error.to_string())),
        Err(_) => {
            Some((Severity::Warning, format!("open {path}: not read within {FILE_TIMEOUT:?}")))
        }
    }
}

/// What a start-up could not read in a folder of zone files. It goes on without it.
async fn folder_problems(folder: ZoneFolder) -> Vec<String> {
    let path = folder.path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || zones::folder_problems(&folder));
    match timeout(FILE_TIMEOUT, reading).await {
        Ok(Ok(problems)) => problems,
        Ok(Err(error)) => vec![error.to_string()],
        Err(_) => vec![format!("folder {path} was not read within {FILE_TIMEOUT:?}")],
    }
}

/// Why the manifests of a block cannot be read, if it has any.
async fn manifests_problem(kubernetes: Kubernetes) -> Option<String> {
    let read = tokio::task::spawn_blocking(move || sync::check_manifests(kubernetes));
    match timeout(MANIFESTS_TIMEOUT, read).await {
        Ok(Ok(read)) => {
            let problem = read.err().map(|error| format!("{error:#}"))?;
            // The report names the plugin itself.
            Some(problem.trim_start_matches("plugin/kubernetes: ").to_owned())
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("the manifests were not read within {MANIFESTS_TIMEOUT:?}")),
    }
}

/// All reports, in colours if standard output is a terminal, and their sum on the last line.
fn shown(checked: &CheckedTexts, path: &Path) -> String {
    let is_terminal = std::io::stdout().is_terminal();
    let mut text = String::new();
    for one in &checked.texts {
        let report = one.report();
        text += &if is_terminal { report.coloured() } else { report.to_string() };
    }
    let counted = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let mistakes = counted(checked.count(Severity::Error), "mistake");
    let warnings = counted(checked.count(Severity::Warning), "warning");
    let _ = writeln!(text, "{}: {mistakes}, {warnings}", path.display());
    text
}
