//! A zone as its file was read last, and what the log says of it.
//!
//! As in CoreDNS, a zone changes when the serial number in its file does. Invariant: the records
//! that were read last stay until newer ones have been read.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::limits::ZONE_FILE_LEN_MAX;
use engine::plugin::file::zone_file::{self, ReadZone};
use engine::plugin::file::{FileZone, ZoneChange};
use wire::compile::ZoneRecords;

use super::file_feed::{self, FileVersion, LookCause, OpenedFile, ReadProgress};

/// The problem of a zone until the first look at its file has ended: the file may hang.
const NOT_READ_YET: &str = "its file has not been read yet";

/// A zone as its file was read last.
pub(super) struct WatchedZone {
    pub(super) settings: FileZone,
    pub(super) records: Option<ZoneRecords>,
    /// Where `records` are from.
    read_from: PathBuf,
    /// The file as it was read last, successfully or not.
    last: Option<ZoneReading>,
    /// Why the file cannot be used at the moment, for the log.
    pub(super) problem: Option<String>,
    /// When it is looked at next; `None`: never again.
    pub(super) due: Option<Instant>,
}

struct ZoneReading {
    version: FileVersion,
    /// Files that it includes may change while it does not.
    has_includes: bool,
    problem: Option<String>,
}

/// The result of a look at a zone's file.
pub(super) enum ZoneLook {
    /// Nothing to do: the file or the serial number is the same.
    Unchanged,
    /// There are new records; so many of its file are outside the zone. `is_new`: it had none.
    Changed { is_new: bool, outside_count: usize },
    /// The file cannot be opened.
    Missing(String),
    /// The file has a mistake.
    Broken(String),
}

/// How a zone file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZoneOrigin {
    /// A line of `file` names it.
    Listed,
    /// `auto` has found it.
    Found,
}

impl ZoneOrigin {
    pub(super) fn plugin(self) -> &'static str {
        match self {
            Self::Listed => "file",
            Self::Found => "auto",
        }
    }

    /// What becomes of the queries for a zone that has no records.
    fn without_records(self) -> &'static str {
        match self {
            Self::Listed => "its names are SERVFAIL until then",
            Self::Found => "its names go to the next plugin until then",
        }
    }
}

impl WatchedZone {
    /// `due`: when its file is looked at first.
    pub(super) fn new(settings: FileZone, due: Instant) -> Self {
        Self {
            settings,
            records: None,
            read_from: PathBuf::new(),
            last: None,
            problem: Some(NOT_READ_YET.to_owned()),
            due: Some(due),
        }
    }

    /// Another file is the zone's. It is looked at when it is `due`.
    pub(super) fn move_to(&mut self, path: PathBuf, due: Instant) {
        self.settings.path = path;
        self.last = None;
        self.due = Some(due);
    }

    /// Reads the file if it has changed, and keeps the zone if its serial number has. A reload
    /// reads it anyway, and keeps it. `reading` learns of each file that is read.
    pub(super) fn look(
        &mut self,
        cause: LookCause,
        origin: ZoneOrigin,
        reading: &ReadProgress,
    ) -> ZoneLook {
        let path = self.settings.path.clone();
        let meanwhile = match (&self.records, origin) {
            (Some(_), _) => "the last records of its zone are still served",
            (None, ZoneOrigin::Listed) => "the names of its zone are SERVFAIL until it is",
            (None, ZoneOrigin::Found) => "its names go to the next plugin until it is",
        };
        let zone = self.settings.zone.text.clone();
        let begin = |path: &Path| reading.begin(&zone, path, meanwhile);
        match self.read_if_changed(&path, cause, &begin) {
            Ok(look) => look,
            Err(error) => ZoneLook::Missing(format!("open {}: {error}", path.display())),
        }
    }

    fn read_if_changed(
        &mut self,
        path: &Path,
        cause: LookCause,
        begin: &dyn Fn(&Path),
    ) -> io::Result<ZoneLook> {
        begin(path);
        let (file, version) = match file_feed::open(path, self.last.is_some())? {
            OpenedFile::Spent => return Ok(ZoneLook::Unchanged),
            OpenedFile::Opened(file, version) => (file, version),
        };
        if cause == LookCause::Due
            && let Some(last) = self.last.as_ref()
            && last.version == version
            && !last.has_includes
        {
            return Ok(last.problem.clone().map_or(ZoneLook::Unchanged, ZoneLook::Broken));
        }
        let is_other_file = self.read_from != path;
        let was_touched = self.last.as_ref().is_none_or(|last| last.version != version);
        let bytes = file_feed::read_up_to(file, ZONE_FILE_LEN_MAX)?;
        let mut include_count = 0;
        let mut read_file = |path: &Path| {
            include_count += 1;
            begin(path);
            file_feed::read_up_to(std::fs::File::open(path)?, ZONE_FILE_LEN_MAX)
        };
        let read = zone_file::read(&self.settings.zone, path, &bytes, &mut read_file);
        let problem = read.as_ref().err().map(ToString::to_string);
        let has_includes = include_count > 0;
        self.last = Some(ZoneReading { version, has_includes, problem });
        Ok(match read {
            Err(error) => ZoneLook::Broken(error.to_string()),
            Ok(ReadZone { records, outside_count }) => {
                let serial = self.records.as_ref().map(ZoneRecords::serial);
                let is_new = serial.is_none();
                let has_changed = match (cause, self.settings.reload.change) {
                    (LookCause::Reload, _) => true,
                    (LookCause::Due, ZoneChange::Serial) => {
                        is_other_file || serial != Some(records.serial())
                    }
                    (LookCause::Due, ZoneChange::ModificationTime) => {
                        was_touched || serial.is_none()
                    }
                };
                if has_changed {
                    self.records = Some(records);
                    self.read_from = path.to_owned();
                    ZoneLook::Changed { is_new, outside_count }
                } else {
                    ZoneLook::Unchanged
                }
            }
        })
    }

    /// Why the block cannot be used at all, if this is the first look.
    pub(super) fn refusal(&self, look: &ZoneLook) -> Option<String> {
        match look {
            ZoneLook::Broken(problem) => Some(problem.clone()),
            ZoneLook::Missing(problem) if self.settings.reload.every.is_zero() => {
                Some(problem.clone())
            }
            ZoneLook::Missing(_) | ZoneLook::Unchanged | ZoneLook::Changed { .. } => None,
        }
    }

    /// Logs what has changed, in CoreDNS's words. `is_awaited`: a start or a reload waits for it.
    pub(super) fn log(&mut self, look: ZoneLook, origin: ZoneOrigin, is_awaited: bool) {
        let (zone, path) = (&self.settings.zone.text, self.settings.path.display());
        let plugin = origin.plugin();
        // A start-up without a zone that is listed fails, and says so.
        let is_reported = is_awaited && origin == ZoneOrigin::Listed;
        let consequence = match self.records {
            Some(_) => "its last records are still served",
            None => origin.without_records(),
        };
        let every = self.settings.reload.every;
        let problem = match look {
            ZoneLook::Changed { is_new, outside_count } => {
                let serial = self.records.as_ref().map_or(0, ZoneRecords::serial);
                if is_new && origin == ZoneOrigin::Found {
                    tracing::info!("plugin/auto: Inserting zone `{zone}' from: {path}");
                } else if !is_awaited {
                    tracing::info!(
                        "plugin/{plugin}: Successfully reloaded zone \"{zone}\" in \"{path}\" \
                         with {serial} SOA serial"
                    );
                }
                if outside_count > 0 {
                    tracing::warn!(
                        "plugin/{plugin}: {outside_count} records of \"{path}\" are outside zone \
                         \"{zone}\" and are ignored"
                    );
                }
                None
            }
            ZoneLook::Unchanged => {
                if self.problem.is_some() {
                    tracing::info!(
                        "plugin/{plugin}: \"{path}\" can be read again; zone \"{zone}\" is \
                         unchanged"
                    );
                }
                None
            }
            ZoneLook::Missing(problem) => {
                let again = match every.is_zero() {
                    true => "not trying again, because of `reload 0`".to_owned(),
                    false => format!("trying again in {every:?}"),
                };
                let is_refused = is_reported && every.is_zero();
                if self.problem.as_ref() != Some(&problem) && !is_refused {
                    tracing::warn!(
                        "plugin/{plugin}: Failed to open \"{problem}\": {again}; \
                         zone \"{zone}\": {consequence}"
                    );
                }
                Some(problem)
            }
            ZoneLook::Broken(problem) => {
                let is_known = self.problem.as_ref() == Some(&problem);
                if !is_known && origin == ZoneOrigin::Found && self.records.is_none() {
                    tracing::warn!("plugin/auto: Parse zone `{zone}': {problem}; {consequence}");
                } else if !is_known && !is_reported {
                    tracing::error!(
                        "plugin/{plugin}: Parsing zone \"{zone}\": {problem}; {consequence}"
                    );
                }
                Some(problem)
            }
        };
        self.problem = problem;
    }
}
