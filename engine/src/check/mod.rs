//! `ringdns check`: the mistakes and warnings of a Corefile, of a folder with one, or of the
//! Corefiles in ConfigMaps.
//!
//! Files are read here and in `config`; nothing is printed, and no socket is opened.
//!
//! Invariant: a path that cannot be read has a report too, which says why.

mod config_map;
mod folder;
mod json;

use std::collections::HashSet;
use std::path::Path;

use crate::config::{self, Config, NamedBy};
use crate::convert;
use crate::convert::custom::TextPart;
use crate::convert::node_cache;
use crate::corefile::report::{Mistake, NamedFile};
use crate::corefile::word::quoted;
use crate::corefile::{self, Finding, Place, Report, Severity, Surroundings};

/// What to do about a file or host that cannot be loaded.
const LOADED: &str = "a start-up on this machine would fail: correct it, or leave out `--online`";

/// The texts that were checked, in order.
#[derive(Debug, Default)]
pub struct CheckedTexts {
    pub texts: Vec<CheckedText>,
}

/// A Corefile, or a part of one.
#[derive(Debug)]
pub struct CheckedText {
    /// `Err`: its mistakes.
    pub read: Result<Config, Report>,
    /// It has no server block of its own, so it cannot be loaded by itself.
    pub is_part: bool,
}

/// What loading a Corefile found: a file, a host or a manifest that is unusable.
#[derive(Debug)]
pub struct LoadFinding {
    pub severity: Severity,
    pub plugin: Option<&'static str>,
    /// The line that names it, if it is known.
    pub place: Option<Place>,
    pub message: String,
}

impl CheckedText {
    /// Adds what loading its Corefile found.
    #[must_use]
    pub fn with(self, findings: Vec<LoadFinding>) -> Self {
        let Self { read, is_part } = self;
        let is_mistaken = findings.iter().any(|found| found.severity == Severity::Error);
        let add = |report: &mut Report| {
            for LoadFinding { severity, plugin, place, message } in findings {
                let span = place.and_then(|place| report.line_start(&place));
                let mistake = Mistake::of_loading(severity, span, message).of_plugin(plugin);
                report.add(match severity {
                    Severity::Error => mistake.label("cannot be loaded").help(LOADED),
                    Severity::Warning => mistake.help("a start-up would log this, and go on"),
                });
            }
        };
        let read = match read {
            Ok(mut config) if !is_mistaken => {
                add(&mut config.warnings);
                Ok(config)
            }
            Ok(Config { warnings: mut report, .. }) | Err(mut report) => {
                add(&mut report);
                Err(report)
            }
        };
        Self { read, is_part }
    }

    fn look_for_files(&mut self) {
        let report = self.report_mut();
        for NamedFile { path, span, plugin } in std::mem::take(&mut report.0.named_files) {
            // Loading may have reported it.
            if !path.exists() && !report.has_mistake_at(span) {
                let path = path.to_string_lossy();
                let message = format!("open {}: no such file on this machine", quoted(&path));
                let mistake = Mistake::warning(span, message).of_plugin(Some(plugin));
                report.add(
                    mistake
                        .label("missing here")
                        .help("check that the pod mounts it, or correct the path"),
                );
            }
        }
    }

    fn report_mut(&mut self) -> &mut Report {
        match &mut self.read {
            Ok(config) => &mut config.warnings,
            Err(report) => report,
        }
    }

    /// Mistakes and warnings.
    #[must_use]
    pub fn report(&self) -> &Report {
        match &self.read {
            Ok(config) => &config.warnings,
            Err(report) => report,
        }
    }
}

impl CheckedTexts {
    /// How many mistakes or warnings all texts have.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.texts.iter().map(|text| text.report().count(severity)).sum()
    }

    pub fn findings(&self) -> impl Iterator<Item = Finding<'_>> {
        self.texts.iter().flat_map(|text| text.report().findings())
    }

    /// Adds a warning for each named file that this machine lacks.
    pub fn look_for_files(&mut self) {
        self.texts.iter_mut().for_each(CheckedText::look_for_files);
    }

    /// Forgets named files that are keys of a ConfigMap: the cluster has them.
    fn forget_files(&mut self, keys: &HashSet<String>) {
        let is_key = |path: &Path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| keys.contains(name))
        };
        for text in &mut self.texts {
            text.report_mut().0.named_files.retain(|file| !is_key(&file.path));
        }
    }

    /// All findings in the stable shape that docs/corefile.md describes.
    #[must_use]
    pub fn json(&self) -> String {
        json::array(self.findings())
    }

    fn push(&mut self, read: Result<Config, Report>) {
        self.texts.push(CheckedText { read, is_part: false });
    }

    /// A report of what cannot be read as what it should be.
    fn push_broken(&mut self, message: String, help: &str) {
        self.push(Err(Report::of(Mistake::without_place(message).help(help), Vec::new())));
    }
}

/// Checks a file or a folder.
#[must_use]
pub fn path(path: &Path, surroundings: &Surroundings<'_>) -> CheckedTexts {
    if path.is_dir() {
        return folder::check(path, surroundings);
    }
    match corefile::read_file(path) {
        Ok(text) => self::text(&path.display().to_string(), Some(path), &text, surroundings),
        Err(error) => {
            let mut checked = CheckedTexts::default();
            checked.push(Err(config::unreadable(path, &error, NamedBy::Check)));
            checked
        }
    }
}

/// The report of a text that could not be read.
#[must_use]
pub fn unreadable(message: &str) -> CheckedTexts {
    let mut checked = CheckedTexts::default();
    checked.push_broken(message.to_owned(), "`-` reads a Corefile from standard input");
    checked
}

/// Checks a text: ConfigMaps, a Corefile, or a part of one. Relative imports start from the folder
/// of `path`, or from the working directory.
#[must_use]
pub fn text(
    name: &str,
    path: Option<&Path>,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> CheckedTexts {
    if convert::is_object(text) {
        return config_map::check(name, text, surroundings);
    }
    let mut checked = CheckedTexts::default();
    match TextPart::of(name) {
        Some(part) => checked.texts.push(CheckedText {
            read: config::read_imported(name, path, text, part, surroundings),
            is_part: part == TextPart::Block,
        }),
        None => {
            let (text, known) = node_cache::sampled(text);
            checked.push(config::read_rendered(name, path, &text, known, surroundings));
        }
    }
    checked
}
