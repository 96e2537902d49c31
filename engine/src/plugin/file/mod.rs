//! `file`: answers from zone files.
//!
//! The options are read here; `zone_file` reads the format of the files, and `table` makes the
//! answers. The control plane reads the files themselves. Invariant: a block has one `File`, and
//! each of its zones is there once.

pub mod table;
mod zone_data;
pub mod zone_file;
mod zone_place;
pub mod zone_text;
mod zone_word;

use std::future::ready;
use std::path::PathBuf;
use std::time::Duration;

use super::draft::{BlockDraft, LoadContext, Loading, OwnDraft, TableDraft, TableSource};
use super::{Plugin, ServerBlock};
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, adds, sets, warn_of_surplus};
use crate::corefile::value::zone::Zone;
use crate::corefile::value::{duration, key};
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};
use crate::metrics::answerer::Answerer;

/// All `file` lines of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub zones: Vec<FileZone>,
    /// The zones whose missing names go to the next plugin; the root zone stands for all. Empty
    /// without `fallthrough`. As in CoreDNS, the last one of the block is for all its lines.
    pub fallthrough: Vec<Zone>,
    /// The first line.
    pub place: Place,
    /// Of the last line: as in CoreDNS, the next one starts from these.
    reload: ZoneReload,
}

/// A zone and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileZone {
    pub zone: Zone,
    /// A relative path starts at the folder of `root`, or else at the working directory.
    pub path: PathBuf,
    pub reload: ZoneReload,
}

/// When a zone file is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneReload {
    /// How often it is checked for changes; zero: never [1 m].
    pub every: Duration,
    /// What counts as a change.
    pub change: ZoneChange,
}

/// What shows that a zone has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneChange {
    /// The SOA's serial number.
    Serial,
    /// The file's modification time: `reload_by_mtime`.
    ModificationTime,
}

const RELOAD_DEFAULT: ZoneReload =
    ZoneReload { every: Duration::from_secs(60), change: ZoneChange::Serial };

impl Plugin for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let in_root =
            |one: &FileZone| FileZone { path: context.block.in_root(&one.path), ..one.clone() };
        let is_last = context.block.last_plugin() == Some(self.name());
        block.own.push(OwnDraft::Table(TableDraft {
            source: TableSource::Zones(self.zones.iter().map(in_root).collect()),
            answerer: const { Answerer::plugin("file") },
            is_authority: false,
            passes_unsupported: false,
            refused: if is_last { vec![Zone::root()] } else { Vec::new() },
            fallthrough: self.fallthrough.clone(),
            place: self.place.clone(),
        }));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "file DBFILE [ZONE…] { … }";

/// The settings of one line.
pub(crate) struct FileReading {
    reload: ZoneReload,
    fallthrough: Option<Vec<Zone>>,
}

pub(crate) const SETTINGS: &[Setting<FileReading>] = &[
    sets("reload", RELOAD, reload),
    sets("reload_by_mtime", RELOAD_BY_MTIME, reload_by_mtime),
    sets("fallthrough", "fallthrough [ZONE…]", fallthrough),
    adds("upstream", UPSTREAM, upstream),
];

pub(super) const RELOAD: &str = "reload DURATION";
const RELOAD_BY_MTIME: &str = "reload_by_mtime";
pub(super) const UPSTREAM: &str = "upstream";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let Some([path, zone_words @ ..]) = statement.at_least_one(USAGE, context) else { return };
    let zones = key::zones_or_keys(zone_words, &block.keys, context);
    let file = block.line_or(File {
        zones: Vec::new(),
        fallthrough: Vec::new(),
        place: context.place(statement.name.span),
        reload: RELOAD_DEFAULT,
    });
    let mut draft = FileReading { reload: file.reload, fallthrough: None };
    statement.read_settings(SETTINGS, &mut draft, context);
    file.reload = draft.reload;
    if let Some(fallthrough) = draft.fallthrough {
        file.fallthrough = fallthrough;
    }
    for zone in zones {
        if let Some(at) = file.zones.iter().position(|other| other.zone == zone) {
            let earlier = file.zones.remove(at);
            let message = format!("zone {} has two files", zone.text);
            let mistake = Mistake::warning(path.span, message).label("this one is used");
            let help = format!("delete the zone from the line of {}", earlier.path.display());
            context.report(mistake.help(help));
        }
        file.zones.push(FileZone { zone, path: path.text.as_str().into(), reload: file.reload });
    }
}

fn reload(line: &Statement, draft: &mut FileReading, context: &mut Context<'_>) {
    if let Some(every) = reload_duration(line, context) {
        draft.reload.every = every;
    }
}

/// The value of `reload`, unless it is a mistake.
pub(super) fn reload_duration(line: &Statement, context: &mut Context<'_>) -> Option<Duration> {
    let [word, surplus @ ..] = line.args.as_slice() else {
        let refusal = Refusal::new("reload duration value is expected", "missing after this");
        context.refuse(line.name.span, refusal.help(format!("usage: `{RELOAD}`")));
        return None;
    };
    warn_of_surplus(surplus, RELOAD, context);
    match duration::read(&word.text) {
        Ok(every) => Some(every),
        Err(refusal) => {
            context.refuse(word.span, refusal);
            None
        }
    }
}

fn reload_by_mtime(line: &Statement, draft: &mut FileReading, context: &mut Context<'_>) {
    draft.reload.change = ZoneChange::ModificationTime;
    // CoreDNS takes the next word for an option.
    if let Some(word) = line.args.first() {
        let message = format!("unknown property '{}'", quoted(&word.text));
        let mistake = Mistake::error(word.span, message).label("one word too many");
        context.report(mistake.help(format!("usage: `{RELOAD_BY_MTIME}`")));
    }
}

fn fallthrough(line: &Statement, draft: &mut FileReading, context: &mut Context<'_>) {
    draft.fallthrough = Some(match line.args.as_slice() {
        [] => vec![Zone::root()],
        args => args.iter().flat_map(|arg| key::zones(&arg.text, arg.span, context)).collect(),
    });
}

/// CoreDNS reads it, with whatever follows, and ignores it.
pub(super) fn upstream<D>(line: &Statement, _: &mut D, context: &mut Context<'_>) {
    let mistake = Mistake::warning(line.name.span, "'upstream' has no effect").label("ignored");
    context.report(mistake.help("delete the line: CNAMEs are followed without it"));
}
