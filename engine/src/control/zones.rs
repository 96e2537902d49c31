//! The feed of a block's zone files: its zones as their files were read last.
//!
//! `file` lists them, and for `auto` `zone_folder` finds them. `file_feed` reads them again and
//! again. As in CoreDNS, a zone changes when the serial number in its file does. Invariant: a zone
//! is served until a newer one has been read, even if its file is broken, or removed though listed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::fleet::{Deliver, Forgotten};
use engine::limits::{FILE_LOOK_EVERY_MIN, FILE_TIMEOUT, ZONE_FILE_LEN_MAX};
use engine::metrics::ZoneFacts;
use engine::plan::TableSlot;
use engine::plugin::auto::ZoneFolder;
use engine::plugin::file::table::ZoneTable;
use engine::plugin::file::zone_file::{self, ReadZone};
use engine::plugin::file::{FileZone, ZoneChange};
use wire::compile::ZoneRecords;
use wire::table::Table;

use super::file_feed::{
    self, FileFeed, FileReader, FileVersion, LookCause, OpenedFile, ReadProgress,
};
use super::hash_seed::HASH_SEED;
use super::zone_folder::{WatchedFolder, earliest};

/// A block's zone files whose table is kept up to date.
pub(crate) struct ZonesFeed {
    feed: FileFeed<ZonesReader>,
}

/// What is served at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZonesStatus {
    /// Why the block cannot be used at all; known after the first look.
    refused: Option<String>,
    /// For `auto`, the last one is the folder.
    zones: Vec<ZoneFacts>,
}

impl ZonesFeed {
    /// Begins to read the files. Until then, zones that are listed are SERVFAIL.
    pub(super) fn start(
        mut reader: ZonesReader,
        slot: TableSlot,
        deliveries: Vec<Deliver>,
    ) -> Self {
        // Names outside the zones do not wait for a file that hangs.
        let first = reader.update();
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
            let is_late =
                |zone: &ZoneFacts| late.part.as_ref().is_none_or(|part| *part == zone.zone);
            // A zone that was found just now has no facts yet.
            let is_new = !zones.iter().any(is_late);
            for zone in &mut zones {
                if is_late(zone) || (is_new && zone.zone.is_empty()) {
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
pub(super) struct ZonesReader {
    /// Of `auto`: where its zones are found. Those of `file` are listed.
    folder: Option<WatchedFolder>,
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
    /// There are new records; so many of its file are outside the zone. `is_new`: it had none.
    Changed { is_new: bool, outside_count: usize },
    /// The file cannot be opened.
    Missing(String),
    /// The file has a mistake.
    Broken(String),
}

impl FileReader for ZonesReader {
    type Status = ZonesStatus;

    fn plugin(&self) -> &'static str {
        self.origin().plugin()
    }

    fn status(&self) -> ZonesStatus {
        let plugin = self.plugin();
        let facts = |zone: &WatchedZone| ZoneFacts {
            plugin,
            zone: zone.settings.zone.text.clone(),
            file: zone.settings.path.display().to_string(),
            serial: zone.records.as_ref().map(ZoneRecords::serial),
            problem: zone.problem.clone(),
        };
        let folder = self.folder.as_ref().map(|folder| ZoneFacts {
            plugin,
            zone: String::new(),
            file: folder.settings.path.display().to_string(),
            serial: None,
            problem: folder.problem.clone(),
        });
        let zones = self.zones.iter().map(facts).chain(folder).collect();
        ZonesStatus { refused: self.refused.clone(), zones }
    }

    fn look(&mut self, cause: LookCause, reading: &ReadProgress) -> Option<Arc<Table>> {
        let is_first = !self.has_looked;
        let is_due = |due: Option<Instant>| {
            cause == LookCause::Reload || due.is_some_and(|due| due <= Instant::now())
        };
        let mut has_changed = is_first;
        if self.folder.as_ref().is_some_and(|folder| is_due(folder.due)) {
            has_changed |= self.search(reading);
        }
        let origin = self.origin();
        for zone in &mut self.zones {
            if !is_due(zone.due) {
                continue;
            }
            let look = zone.look(cause, origin, reading);
            has_changed |= matches!(look, ZoneLook::Changed { .. });
            if is_first && self.refused.is_none() && origin == ZoneOrigin::Listed {
                self.refused = zone.refusal(&look);
            }
            // A start or a reload that still waits reports a refusal itself.
            let is_awaited = is_first && self.started_at.elapsed() < FILE_TIMEOUT;
            zone.log(look, origin, is_awaited);
            let every = zone.settings.reload.every;
            zone.due = (!every.is_zero()).then(|| Instant::now() + every.max(FILE_LOOK_EVERY_MIN));
        }
        self.has_looked = true;
        // A refusal that comes too late to discard the block must not keep its other zones, or the
        // corrected file, from being served.
        has_changed.then(|| self.update())
    }

    fn next_look(&self) -> Option<Duration> {
        let folder = self.folder.iter().map(|folder| folder.due);
        earliest(folder.chain(self.zones.iter().map(|zone| zone.due)))
    }
}

impl ZonesReader {
    /// Of the zones of `file`.
    pub(super) fn listed(zones: &[FileZone]) -> Self {
        Self::new(None, zones.iter().cloned().map(WatchedZone::new).collect())
    }

    /// Of the zones of `auto`.
    pub(super) fn found_in(folder: &ZoneFolder) -> Self {
        Self::new(Some(WatchedFolder::new(folder.clone())), Vec::new())
    }

    fn new(folder: Option<WatchedFolder>, zones: Vec<WatchedZone>) -> Self {
        Self {
            table: ZoneTable::new(*HASH_SEED),
            folder,
            zones,
            refused: None,
            has_looked: false,
            started_at: Instant::now(),
        }
    }

    fn origin(&self) -> ZoneOrigin {
        match self.folder {
            Some(_) => ZoneOrigin::Found,
            None => ZoneOrigin::Listed,
        }
    }

    /// Adds the zones that the folder has now, and removes those that it has not. Returns whether
    /// one that was served is gone.
    fn search(&mut self, reading: &ReadProgress) -> bool {
        let Some(folder) = &mut self.folder else { return false };
        let meanwhile = "zones found before are still served";
        reading.begin("", &folder.settings.path, meanwhile);
        let mut found = folder.search();
        let mut is_one_gone = false;
        self.zones.retain_mut(|zone| {
            let FileZone { zone: name, path, .. } = &mut zone.settings;
            match found.files.remove(name) {
                Some(file) if file == *path => true,
                Some(file) => {
                    (*path, zone.last, zone.due) = (file, None, Some(Instant::now()));
                    true
                }
                None if found.may_have(path) => true,
                None => {
                    if zone.records.is_some() {
                        tracing::info!("plugin/auto: Deleting zone `{}'", name.text);
                        is_one_gone = true;
                    }
                    false
                }
            }
        });
        let new = found.files.into_iter().map(|(zone, path)| folder.zone(zone, path));
        self.zones.extend(new.map(WatchedZone::new));
        self.zones.sort_by(|one, other| one.settings.zone.text.cmp(&other.settings.zone.text));
        is_one_gone
    }

    /// The next table. A zone that was found, and has not been read, is none yet.
    fn update(&mut self) -> Arc<Table> {
        let is_listed = self.origin() == ZoneOrigin::Listed;
        let zones = self.zones.iter().map(|zone| (&zone.settings.zone, zone.records.as_ref()));
        self.table.update(zones.filter(|(_, records)| is_listed || records.is_some()))
    }
}

/// How a zone file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZoneOrigin {
    /// A line of `file` names it.
    Listed,
    /// `auto` has found it.
    Found,
}

impl ZoneOrigin {
    fn plugin(self) -> &'static str {
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

/// Why a start-up would fail for this zone. Reads its file, which may block.
pub(crate) fn start_refusal(settings: &FileZone) -> Option<String> {
    let mut zone = WatchedZone::new(settings.clone());
    let look = zone.look(LookCause::Due, ZoneOrigin::Listed, &ReadProgress::default());
    zone.refusal(&look)
}

/// What is wrong with a folder of zone files. Reads them, which may block.
pub(crate) fn folder_problems(settings: &ZoneFolder) -> Vec<String> {
    let (mut reader, reading) = (ZonesReader::found_in(settings), ReadProgress::default());
    reader.search(&reading);
    let of_zone =
        |zone: &mut WatchedZone| match zone.look(LookCause::Due, ZoneOrigin::Found, &reading) {
            ZoneLook::Missing(problem) | ZoneLook::Broken(problem) => Some(problem),
            ZoneLook::Unchanged | ZoneLook::Changed { .. } => None,
        };
    let of_zones: Vec<String> = reader.zones.iter_mut().filter_map(of_zone).collect();
    reader.folder.into_iter().flat_map(WatchedFolder::into_problems).chain(of_zones).collect()
}

impl WatchedZone {
    fn new(settings: FileZone) -> Self {
        Self {
            settings,
            records: None,
            last: None,
            problem: Some(NOT_READ_YET.to_owned()),
            due: Some(Instant::now()),
        }
    }

    /// Reads the file if it has changed, and keeps the zone if its serial number has. A reload
    /// reads it anyway, and keeps it. `reading` learns of each file that is read.
    fn look(&mut self, cause: LookCause, origin: ZoneOrigin, reading: &ReadProgress) -> ZoneLook {
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
        let is_other_file = self.last.is_none();
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
                    ZoneLook::Changed { is_new, outside_count }
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
    fn log(&mut self, look: ZoneLook, origin: ZoneOrigin, is_awaited: bool) {
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
                if self.problem.as_ref() != Some(&problem) && !is_reported {
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
