//! The feed of a `file` block: its zones as their files were read last.
//!
//! `file_feed` reads them again and again. As in CoreDNS, a zone changes when the serial number in
//! its file does. Invariant: a zone is served until a newer one has been read, even if its file is
//! removed or broken.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::fleet::{Deliver, Forgotten};
use engine::limits::{FILE_LOOK_EVERY_MIN, FILE_TIMEOUT, ZONE_FILE_LEN_MAX};
use engine::metrics::ZoneFacts;
use engine::plan::TableSlot;
use engine::plugin::file::table::ZoneTable;
use engine::plugin::file::zone_file::{self, ReadZone};
use engine::plugin::file::{FileZone, ZoneChange};
use wire::compile::ZoneRecords;
use wire::table::Table;

use super::file_feed::{
    self, FileFeed, FileReader, FileVersion, LookCause, OpenedFile, ReadProgress,
};
use super::hash_seed::HASH_SEED;

/// A `file` block whose table is kept up to date.
pub(crate) struct ZonesFeed {
    feed: FileFeed<ZonesReader>,
}

/// What is served at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZonesStatus {
    /// Why the block cannot be used at all; known after the first look.
    refused: Option<String>,
    zones: Vec<ZoneFacts>,
}

impl ZonesFeed {
    /// Begins to read the files. Until then, their zones are SERVFAIL.
    pub(super) fn start(zones: &[FileZone], slot: TableSlot, deliveries: Vec<Deliver>) -> Self {
        let mut reader = ZonesReader::new(zones);
        // Names outside the zones do not wait for a file that hangs.
        let first = reader.table.update([]);
        Self { feed: FileFeed::start(reader, Some(first), slot, deliveries) }
    }

    /// As `FileFeed::settle`.
    ///
    /// # Errors
    /// A file has a mistake, or it is missing and will not be looked for again, as in CoreDNS.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        self.feed.settle().await;
        match self.feed.status().refused {
            Some(refused) => anyhow::bail!("plugin/file: {refused}"),
            None => Ok(()),
        }
    }

    /// As `FileFeed::reload`.
    pub(super) fn reload(&self, began: Instant) {
        self.feed.reload(began);
    }

    pub(super) fn slot(&self) -> TableSlot {
        self.feed.slot
    }

    pub(super) fn is_lost(&self) -> bool {
        self.feed.is_lost()
    }

    /// As `FileFeed::stop`.
    pub(super) async fn stop(self, forgotten: Forgotten) {
        self.feed.stop(forgotten).await;
    }

    /// For metrics and `/ready`.
    pub(crate) fn facts(&self) -> Vec<ZoneFacts> {
        let mut zones = self.feed.status().zones;
        if let Some(late) = self.feed.late() {
            for (part, zone) in zones.iter_mut().enumerate() {
                if late.part.is_none_or(|of_late| of_late == part) {
                    zone.problem = Some(late.problem.clone());
                }
            }
        }
        zones
    }
}

/// The problem of a zone until the first look at its file has ended: the file may hang.
const NOT_READ_YET: &str = "its file has not been read yet";

/// The zones of a block, and the table made from them.
struct ZonesReader {
    zones: Vec<WatchedZone>,
    table: ZoneTable,
    refused: Option<String>,
    has_looked: bool,
    started_at: Instant,
}

/// A zone as its file was read last.
struct WatchedZone {
    settings: FileZone,
    records: Option<ZoneRecords>,
    /// The file as it was read last, successfully or not.
    last: Option<ZoneReading>,
    /// Why the file cannot be used at the moment, for the log.
    problem: Option<String>,
    /// When it is looked at next; `None`: never again.
    due: Option<Instant>,
}

struct ZoneReading {
    version: FileVersion,
    /// Files that it includes may change while it does not.
    has_includes: bool,
    problem: Option<String>,
}

/// The result of a look at a zone's file.
enum ZoneLook {
    /// Nothing to do: the file or the serial number is the same.
    Unchanged,
    /// There is a new zone; so many records of its file are outside it.
    Changed { outside_count: usize },
    /// The file cannot be opened.
    Missing(String),
    /// The file has a mistake.
    Broken(String),
}

impl FileReader for ZonesReader {
    type Status = ZonesStatus;

    const PLUGIN: &str = "file";

    fn status(&self) -> ZonesStatus {
        let facts = |zone: &WatchedZone| ZoneFacts {
            zone: zone.settings.zone.text.clone(),
            file: zone.settings.path.display().to_string(),
            serial: zone.records.as_ref().map(ZoneRecords::serial),
            problem: zone.problem.clone(),
        };
        ZonesStatus { refused: self.refused.clone(), zones: self.zones.iter().map(facts).collect() }
    }

    fn look(&mut self, cause: LookCause, reading: &ReadProgress) -> Option<Arc<Table>> {
        let is_first = !self.has_looked;
        let now = Instant::now();
        let mut has_changed = is_first;
        for (part, zone) in self.zones.iter_mut().enumerate() {
            if cause == LookCause::Due && zone.due.is_none_or(|due| due > now) {
                continue;
            }
            let look = zone.look(cause, &|path, meanwhile| reading.begin(part, path, meanwhile));
            has_changed |= matches!(look, ZoneLook::Changed { .. });
            if is_first && self.refused.is_none() {
                self.refused = zone.refusal(&look);
            }
            // A start or a reload that still waits reports a refusal itself.
            let is_awaited = is_first && self.started_at.elapsed() < FILE_TIMEOUT;
            zone.log(look, is_awaited);
            let every = zone.settings.reload.every;
            zone.due = (!every.is_zero()).then(|| Instant::now() + every.max(FILE_LOOK_EVERY_MIN));
        }
        self.has_looked = true;
        // A refusal that comes too late to discard the block must not keep its other zones, or the
        // corrected file, from being served.
        has_changed
            .then(|| self.table.update(self.zones.iter().filter_map(|zone| zone.records.as_ref())))
    }

    fn next_look(&self) -> Option<Duration> {
        let due = self.zones.iter().filter_map(|zone| zone.due).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }
}

impl ZonesReader {
    fn new(zones: &[FileZone]) -> Self {
        Self {
            table: ZoneTable::new(zones, *HASH_SEED),
            zones: zones.iter().map(WatchedZone::new).collect(),
            refused: None,
            has_looked: false,
            started_at: Instant::now(),
        }
    }
}

/// Why a start-up would fail for this zone. Reads its file, which may block.
pub(crate) fn start_refusal(settings: &FileZone) -> Option<String> {
    let mut zone = WatchedZone::new(settings);
    let look = zone.look(LookCause::Due, &|_, _| {});
    zone.refusal(&look)
}

impl WatchedZone {
    fn new(settings: &FileZone) -> Self {
        Self {
            settings: settings.clone(),
            records: None,
            last: None,
            problem: Some(NOT_READ_YET.to_owned()),
            due: Some(Instant::now()),
        }
    }

    /// Reads the file if it has changed, and keeps the zone if its serial number has. A reload
    /// reads it anyway, and keeps it. `begin` learns of each file that is read, and of what is
    /// served meanwhile.
    fn look(&mut self, cause: LookCause, begin: &dyn Fn(&Path, &'static str)) -> ZoneLook {
        let path = self.settings.path.clone();
        match self.read_if_changed(&path, cause, begin) {
            Ok(look) => look,
            Err(error) => ZoneLook::Missing(format!("open {}: {error}", path.display())),
        }
    }

    fn read_if_changed(
        &mut self,
        path: &Path,
        cause: LookCause,
        begin: &dyn Fn(&Path, &'static str),
    ) -> io::Result<ZoneLook> {
        let meanwhile = match self.records {
            Some(_) => "the last records of its zone are still served",
            None => "the names of its zone are SERVFAIL until it is",
        };
        begin(path, meanwhile);
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
        let was_touched = self.last.as_ref().is_none_or(|last| last.version != version);
        let bytes = file_feed::read_up_to(file, ZONE_FILE_LEN_MAX)?;
        let mut include_count = 0;
        let mut read_file = |path: &Path| {
            include_count += 1;
            begin(path, meanwhile);
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
                let has_changed = match (cause, self.settings.reload.change) {
                    (LookCause::Reload, _) => true,
                    (LookCause::Due, ZoneChange::Serial) => serial != Some(records.serial()),
                    (LookCause::Due, ZoneChange::ModificationTime) => {
                        was_touched || serial.is_none()
                    }
                };
                if has_changed {
                    self.records = Some(records);
                    ZoneLook::Changed { outside_count }
                } else {
                    ZoneLook::Unchanged
                }
            }
        })
    }

    /// Why the block cannot be used at all, if this is the first look.
    fn refusal(&self, look: &ZoneLook) -> Option<String> {
        match look {
            ZoneLook::Broken(problem) => Some(problem.clone()),
            ZoneLook::Missing(problem) if self.settings.reload.every.is_zero() => {
                Some(problem.clone())
            }
            ZoneLook::Missing(_) | ZoneLook::Unchanged | ZoneLook::Changed { .. } => None,
        }
    }

    /// Logs what has changed, in CoreDNS's words. `is_awaited`: a start or a reload waits for it.
    fn log(&mut self, look: ZoneLook, is_awaited: bool) {
        let (zone, path) = (&self.settings.zone.text, self.settings.path.display());
        let consequence = match self.records {
            Some(_) => "its last records are still served",
            None => "its names are SERVFAIL until then",
        };
        let every = self.settings.reload.every;
        let problem = match look {
            ZoneLook::Changed { outside_count } => {
                let serial = self.records.as_ref().map_or(0, ZoneRecords::serial);
                if !is_awaited {
                    tracing::info!(
                        "plugin/file: Successfully reloaded zone \"{zone}\" in \"{path}\" with \
                         {serial} SOA serial"
                    );
                }
                if outside_count > 0 {
                    tracing::warn!(
                        "plugin/file: {outside_count} records of \"{path}\" are outside zone \
                         \"{zone}\" and are ignored"
                    );
                }
                None
            }
            ZoneLook::Unchanged => {
                if self.problem.is_some() {
                    tracing::info!(
                        "plugin/file: \"{path}\" can be read again; zone \"{zone}\" is \
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
                let is_refused = is_awaited && every.is_zero();
                if self.problem.as_ref() != Some(&problem) && !is_refused {
                    tracing::warn!(
                        "plugin/file: Failed to open \"{problem}\": {again}; \
                         zone \"{zone}\": {consequence}"
                    );
                }
                Some(problem)
            }
            ZoneLook::Broken(problem) => {
                if self.problem.as_ref() != Some(&problem) && !is_awaited {
                    tracing::error!(
                        "plugin/file: Parsing zone \"{zone}\": {problem}; {consequence}"
                    );
                }
                Some(problem)
            }
        };
        self.problem = problem;
    }
}
