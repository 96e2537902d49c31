//! The feed of a block's zone files: its zones as their files were read last.
//!
//! `file` lists them, and for `auto` `zone_folder` finds them. `file_feed` reads them again and
//! again. Invariant: a zone is served until a newer one has been read, even if its file is broken,
//! or removed though listed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::fleet::{Deliver, Forgotten};
use engine::limits::FILE_TIMEOUT;
use engine::metrics::ZoneFacts;
use engine::plan::TableSlot;
use engine::plugin::auto::ZoneFolder;
use engine::plugin::file::FileZone;
use engine::plugin::file::table::ZoneTable;
use wire::compile::ZoneRecords;
use wire::table::Table;

use super::file_feed::{self, FileFeed, FileReader, LookCause, ReadProgress};
use super::hash_seed::HASH_SEED;
use super::watched_zone::{WatchedZone, ZoneLook, ZoneOrigin};
use super::zone_folder::WatchedFolder;

/// A block's zone files whose table is kept up to date.
pub(crate) struct ZonesFeed {
    feed: FileFeed<ZonesReader>,
}

/// What is served at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZonesStatus {
    /// Why the block cannot be used at all; known after the first look.
    refused: Option<String>,
    /// For `auto`, with the folder.
    zones: Vec<Arc<ZoneFacts>>,
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
    pub(crate) fn facts(&self) -> Vec<Arc<ZoneFacts>> {
        let mut zones = self.feed.status().zones;
        if let Some(late) = self.feed.late() {
            let is_late =
                |zone: &Arc<ZoneFacts>| late.part.as_ref().is_none_or(|part| *part == zone.zone);
            // A zone that was found just now has no facts yet.
            let is_new = !zones.iter().any(is_late);
            for zone in &mut zones {
                if is_late(zone) || (is_new && zone.zone.is_empty()) {
                    Arc::make_mut(zone).problem = Some(late.problem.clone());
                }
            }
        }
        zones
    }
}

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
        let zones = self.zones.iter().map(facts).chain(folder).map(Arc::new).collect();
        ZonesStatus { refused: self.refused.clone(), zones }
    }

    fn look(&mut self, cause: LookCause, reading: &ReadProgress) -> Option<Arc<Table>> {
        let is_first = !self.has_looked;
        let began = Instant::now();
        let is_due = |due: Option<Instant>| {
            cause == LookCause::Reload || due.is_some_and(|due| due <= began)
        };
        let mut has_changed = is_first;
        if self.folder.as_ref().is_some_and(|folder| is_due(folder.due)) {
            has_changed |= self.search(began, reading);
        }
        // The files of a folder that is lost are lost with it: one line is enough.
        let is_lost = self.folder.as_ref().is_some_and(|folder| folder.is_lost);
        let origin = self.origin();
        for zone in self.zones.iter_mut().filter(|zone| !is_lost && is_due(zone.due)) {
            let look = zone.look(cause, origin, reading);
            has_changed |= matches!(look, ZoneLook::Changed { .. });
            if is_first && self.refused.is_none() && origin == ZoneOrigin::Listed {
                self.refused = zone.refusal(&look);
            }
            // A start or a reload that still waits reports a refusal itself.
            let is_awaited = is_first && self.started_at.elapsed() < FILE_TIMEOUT;
            zone.log(look, origin, is_awaited);
        }
        // What was due together stays together, those of a lost folder too.
        let ended = Instant::now();
        let due_after = |reload| Some(ended + file_feed::pause(reload)?);
        for zone in self.zones.iter_mut().filter(|zone| is_due(zone.due)) {
            zone.due = due_after(zone.settings.reload.every);
        }
        if let Some(folder) = self.folder.as_mut().filter(|folder| is_due(folder.due)) {
            folder.due = due_after(folder.settings.reload);
        }
        self.has_looked = true;
        // A refusal that comes too late to discard the block must not keep its other zones, or the
        // corrected file, from being served.
        has_changed.then(|| self.update())
    }

    fn next_look(&self) -> Option<Duration> {
        let folder = self.folder.iter().filter_map(|folder| folder.due);
        let zones = self.zones.iter().filter_map(|zone| zone.due);
        Some(folder.chain(zones).min()?.saturating_duration_since(Instant::now()))
    }
}

impl ZonesReader {
    /// Of the zones of `file`.
    pub(super) fn listed(zones: &[FileZone]) -> Self {
        Self::new(
            None,
            zones.iter().map(|zone| WatchedZone::new(zone.clone(), Instant::now())).collect(),
        )
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

    /// Adds the zones that the folder has now, and removes those that are gone. Returns whether one
    /// of these was served. `began`: when the look did.
    fn search(&mut self, began: Instant, reading: &ReadProgress) -> bool {
        let Some(folder) = &mut self.folder else { return false };
        let meanwhile = "zones found before are still served";
        reading.begin("", &folder.settings.path, meanwhile);
        let mut found = folder.search(!self.zones.is_empty());
        let mut is_one_gone = false;
        self.zones.retain_mut(|zone| match found.files.remove(&zone.settings.zone) {
            Some(file) if file == zone.settings.path => true,
            Some(file) => {
                zone.move_to(file, began);
                true
            }
            None if found.may_have(&zone.settings.path) => true,
            None => {
                if zone.records.is_some() {
                    tracing::info!("plugin/auto: Deleting zone `{}'", zone.settings.zone.text);
                    is_one_gone = true;
                }
                false
            }
        });
        let new = found.files.into_iter().map(|(zone, path)| folder.zone(zone, path));
        self.zones.extend(new.map(|zone| WatchedZone::new(zone, began)));
        self.zones.sort_by(|one, other| one.settings.zone.text.cmp(&other.settings.zone.text));
        is_one_gone
    }

    /// The next table. A found zone that has not been read is left out.
    fn update(&mut self) -> Arc<Table> {
        let is_listed = self.origin() == ZoneOrigin::Listed;
        let zones = self.zones.iter().map(|zone| (&zone.settings.zone, zone.records.as_ref()));
        self.table.update(zones.filter(|(_, records)| is_listed || records.is_some()))
    }
}

/// Why a start-up would fail for this zone. Reads its file, which may block.
pub(crate) fn start_refusal(settings: &FileZone) -> Option<String> {
    let mut zone = WatchedZone::new(settings.clone(), Instant::now());
    let look = zone.look(LookCause::Due, ZoneOrigin::Listed, &ReadProgress::default());
    zone.refusal(&look)
}

/// What is wrong with a folder of zone files. Reads them, which may block.
pub(crate) fn folder_problems(settings: &ZoneFolder) -> Vec<String> {
    let (mut reader, reading) = (ZonesReader::found_in(settings), ReadProgress::default());
    reader.search(Instant::now(), &reading);
    let of_zone =
        |zone: &mut WatchedZone| match zone.look(LookCause::Due, ZoneOrigin::Found, &reading) {
            ZoneLook::Missing(problem) | ZoneLook::Broken(problem) => Some(problem),
            ZoneLook::Unchanged | ZoneLook::Changed { .. } => None,
        };
    let of_zones: Vec<String> = reader.zones.iter_mut().filter_map(of_zone).collect();
    reader.folder.into_iter().flat_map(WatchedFolder::into_problems).chain(of_zones).collect()
}

#[cfg(test)]
mod tests {
    use engine::corefile::Surroundings;
    use engine::plugin::auto::Auto;

    use super::*;

    /// Else it would be looked at without a pause.
    #[test]
    fn a_lost_folder_waits_for_its_next_search() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("zones");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("db.test"), "@ 60 SOA ns hostmaster 1 1h 1h 1h 1h\n").unwrap();
        let corefile =
            format!(". {{\n auto {{\n directory {}\n reload 1h\n }}\n}}\n", path.display());
        let surroundings = Surroundings::of_process(53);
        let config = engine::config::parse("Corefile", &corefile, &surroundings).unwrap();
        let auto = config.blocks[0].line::<Auto>().unwrap();
        let mut reader = ZonesReader::found_in(&auto.folder);
        let is_far = |reader: &ZonesReader| reader.next_look() > Some(Duration::from_secs(1800));
        assert!(!is_far(&reader));
        assert!(reader.look(LookCause::Due, &ReadProgress::default()).is_some());
        assert!(is_far(&reader) && reader.zones.len() == 1);
        std::fs::remove_dir_all(&path).unwrap();
        assert!(reader.look(LookCause::Reload, &ReadProgress::default()).is_none());
        assert!(is_far(&reader) && reader.zones.len() == 1);
        // It is due again, with its zone.
        for due in [&mut reader.zones[0].due, &mut reader.folder.as_mut().unwrap().due] {
            *due = Some(Instant::now());
        }
        assert!(reader.look(LookCause::Due, &ReadProgress::default()).is_none());
        assert!(is_far(&reader));
    }
}
