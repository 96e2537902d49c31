//! `auto`: answers from the zone files of a folder.
//!
//! The options are read here, and a file's name becomes its zone. `file` has the format of the
//! files and the table, and the control plane searches the folder. Invariant: every zone is one
//! that queries of the block may reach.

use std::future::ready;
use std::path::PathBuf;
use std::time::Duration;

use super::draft::{BlockDraft, LoadContext, Loading, OwnDraft, TableDraft, TableSource};
use super::file;
use super::go_regex::GoRegex;
use super::{Plugin, ServerBlock};
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, adds, sets};
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;
use crate::corefile::{Context, Place};
use crate::metrics::answerer::Answerer;

/// The `auto` of a block. As in CoreDNS, each further line replaces what the one before it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auto {
    pub folder: ZoneFolder,
    /// The first line.
    pub place: Place,
}

/// A folder of zone files; defaults in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFolder {
    /// It is searched with the folders in it. A relative path starts at the folder of `root`, or
    /// else at the working directory [`.`].
    pub path: PathBuf,
    /// Which names of files are zone files' [`db\.(.*)`].
    file_names: GoRegex,
    /// The zone, with `${1}` for the first group of `file_names` [`${1}`].
    origin: String,
    /// The zones of the names that are looked up [the block's keys].
    pub zones: Vec<Zone>,
    /// `zones` are the block's keys, so a wider zone answers only for names in them.
    zones_are_keys: bool,
    /// How often the folder and the files are checked for changes; zero: never [1 m].
    pub reload: Duration,
}

/// The zone of a file, by the file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneOfFile {
    NotAZoneFile,
    /// No query for its zone comes here.
    NotServed,
    Zone(Zone),
    /// The reason, for the log.
    Refused(String),
}

impl ZoneFolder {
    /// The same with a path that starts where the block says.
    #[must_use]
    pub fn in_root(&self, block: &ServerBlock) -> Self {
        Self { path: block.in_root(&self.path), ..self.clone() }
    }

    /// The zone of the file with this name, without folders.
    #[must_use]
    pub fn zone_of(&self, file_name: &[u8]) -> ZoneOfFile {
        let Some(groups) = self.file_names.regex().captures(file_name) else {
            return ZoneOfFile::NotAZoneFile;
        };
        let mut origin = Vec::new();
        groups.expand(self.origin.as_bytes(), &mut origin);
        if origin.is_empty() {
            return ZoneOfFile::NotAZoneFile;
        }
        let zone = match Zone::from_name(&String::from_utf8_lossy(&origin)) {
            Ok(zone) => zone,
            Err(refusal) => return ZoneOfFile::Refused(refusal.message),
        };
        if self.zones.iter().any(|wider| wider.contains(&zone)) {
            return ZoneOfFile::Zone(zone);
        }
        match self.zones.iter().any(|inner| zone.contains(inner)) {
            true if self.zones_are_keys => ZoneOfFile::Zone(zone),
            true => {
                ZoneOfFile::Refused(format!("zone {} is wider than those of `auto`", zone.text))
            }
            false => ZoneOfFile::NotServed,
        }
    }
}

impl Plugin for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let folder = self.folder.in_root(context.block);
        let is_last = context.block.last_plugin() == Some(self.name());
        let refused = if is_last { folder.zones.clone() } else { Vec::new() };
        block.own.push(OwnDraft::Table(TableDraft {
            source: TableSource::ZoneFolder(Box::new(folder)),
            answerer: const { Answerer::plugin("auto") },
            is_authority: false,
            passes_unsupported: false,
            refused,
            fallthrough: Vec::new(),
            place: self.place.clone(),
        }));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "auto [ZONE…] { … }";

const FILE_NAMES_DEFAULT: &str = r"db\.(.*)";
const ORIGIN_DEFAULT: &str = "${1}";
const RELOAD_DEFAULT: Duration = Duration::from_secs(60);

pub(crate) const SETTINGS: &[Setting<ZoneFolder>] = &[
    sets("directory", DIRECTORY, directory),
    sets("reload", file::RELOAD, reload),
    adds("upstream", file::UPSTREAM, file::upstream),
];

const DIRECTORY: &str = "directory DIR [REGEXP ORIGIN_TEMPLATE]";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let zones = key::zones_or_keys(&statement.args, &block.keys, context);
    if block.line::<Auto>().is_some() {
        let mistake = Mistake::warning(statement.name.span, "a server block has one 'auto'");
        let mistake = mistake.label("its zones and options replace those of the line before");
        context.report(mistake.help("write a server block for each folder"));
    }
    let Auto { folder, .. } = block.line_or(Auto {
        folder: ZoneFolder {
            path: PathBuf::new(),
            file_names: GoRegex::new(FILE_NAMES_DEFAULT).expect("it is a regular expression"),
            origin: ORIGIN_DEFAULT.to_owned(),
            zones: Vec::new(),
            zones_are_keys: true,
            reload: RELOAD_DEFAULT,
        },
        place: context.place(statement.name.span),
    });
    folder.zones = zones;
    folder.zones_are_keys = statement.args.is_empty();
    statement.read_settings(SETTINGS, folder, context);
    if folder.path.as_os_str().is_empty() {
        folder.path.push(".");
        let mistake = Mistake::warning(statement.name.span, "'auto' has no 'directory'");
        let mistake = mistake.label("the working directory is searched");
        context.report(mistake.help(format!("add `{DIRECTORY}`")));
    }
}

fn directory(line: &Statement, folder: &mut ZoneFolder, context: &mut Context<'_>) {
    if let Some(path) = line.args.first() {
        folder.path = path.text.as_str().into();
    }
    let (file_names, origin) = match line.args.as_slice() {
        [_] => return,
        [_, file_names, origin] => (file_names, origin),
        _ => return line.wrong_count(3, DIRECTORY, context),
    };
    folder.origin = origin.text.replace('{', "${");
    match GoRegex::new(&file_names.text) {
        Err(fault) => context.refuse(file_names.span, fault.refusal()),
        Ok(regex) if regex.regex().captures_len() == 1 => {
            let refusal = Refusal::new("Need at least one sub expression", "it has no group");
            let help = format!("put the zone in parentheses, as in `{FILE_NAMES_DEFAULT}`");
            context.refuse(file_names.span, refusal.help(help));
        }
        Ok(regex) => folder.file_names = regex,
    }
}

fn reload(line: &Statement, folder: &mut ZoneFolder, context: &mut Context<'_>) {
    if let Some(every) = file::reload_duration(line, context) {
        folder.reload = every;
    }
}
