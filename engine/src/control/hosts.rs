//! The feed of a `hosts` block: its file as it was read last, and the entries of the Corefile.
//!
//! `file_feed` reads it again and again. Invariant: entries are served until newer ones have been
//! read, even if the file is removed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::corefile::value::zone::Zone;
use engine::fleet::{Deliver, Forgotten};
use engine::limits::HOSTS_FILE_LEN_MAX;
use engine::metrics::HostsFacts;
use engine::plan::TableSlot;
use engine::plugin::hosts::HostsSettings;
use engine::plugin::hosts::file::{self, HostEntry, HostsFileError};
use engine::plugin::hosts::table::HostsTable;
use wire::table::Table;
use wire::zone::ZoneSet;

use super::file_feed::{
    self, FileFeed, FileReader, FileVersion, LookCause, OpenedFile, ReadProgress,
};
use super::hash_seed::HASH_SEED;

/// A `hosts` block whose table is kept up to date.
pub(crate) struct HostsFeed {
    pub(crate) settings: Arc<HostsSettings>,
    feed: FileFeed<HostsReader>,
}

/// What is served at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostsStatus {
    /// Entries of the file and of the Corefile.
    pub(crate) host_count: usize,
    /// Entries for the reverse names of these.
    reverse_count: usize,
    /// The modification time of the file when it was last read.
    modified: Option<SystemTime>,
    /// Why the file cannot be used at the moment.
    problem: Option<String>,
}

impl HostsFeed {
    /// Serves the entries of the Corefile at once, and begins to read the file.
    pub(super) fn start(
        settings: &HostsSettings,
        slot: TableSlot,
        deliveries: Vec<Deliver>,
    ) -> Self {
        let settings = Arc::new(settings.clone());
        let mut reader = HostsReader::new(Arc::clone(&settings));
        let first = reader.update();
        Self { settings, feed: FileFeed::start(reader, first, slot, deliveries) }
    }

    /// As `FileFeed::settle`.
    pub(super) async fn settle(&mut self) {
        self.feed.settle().await;
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

    /// Entries of the file and of the Corefile.
    pub(super) fn entry_count(&self) -> usize {
        self.feed.status().host_count
    }

    /// For metrics and `/ready`.
    pub(crate) fn facts(&self) -> HostsFacts {
        let HostsStatus { host_count, reverse_count, modified, problem } = self.feed.status();
        HostsFacts {
            file: self.settings.file.display().to_string(),
            entry_count: host_count + reverse_count,
            modified,
            problem: self.feed.late().map(|late| late.problem).or(problem),
        }
    }
}

/// The file as it was read last, and the table made from it.
struct HostsReader {
    settings: Arc<HostsSettings>,
    zones: ZoneSet,
    table: HostsTable,
    /// Of the file, as it was last read successfully.
    entries: Vec<HostEntry>,
    /// The last time that the file was read, successfully or not.
    last: Option<LastReading>,
    /// The modification time of the file when `entries` were read.
    modified: Option<SystemTime>,
    /// Why the file cannot be read; the log has reported it.
    problem: Option<String>,
    has_looked: bool,
}

struct LastReading {
    version: FileVersion,
    refused: Option<HostsFileError>,
}

/// The result of a look at the file.
enum Look {
    Unchanged,
    /// A pipe or a device: it is read once.
    NotRead,
    Read,
    /// The reason, for the log.
    Failed(String),
}

impl FileReader for HostsReader {
    type Status = HostsStatus;

    fn plugin(&self) -> &'static str {
        "hosts"
    }

    fn status(&self) -> HostsStatus {
        let entries = self.entries.iter().chain(&self.settings.inline);
        let reversible = entries.clone().filter(|entry| !entry.is_wildcard());
        HostsStatus {
            host_count: entries.count(),
            reverse_count: if self.settings.no_reverse { 0 } else { reversible.count() },
            modified: self.modified,
            problem: match self.has_looked {
                true => self.problem.clone(),
                false => Some(format!("{} has not been read yet", self.settings.file.display())),
            },
        }
    }

    fn look(&mut self, cause: LookCause, reading: &ReadProgress) -> Option<Arc<Table>> {
        let was_read = self.modified.is_some();
        let meanwhile = match was_read {
            true => "its last entries are still served",
            false => "only the entries of the Corefile are served until it is",
        };
        reading.begin("", &self.settings.file, meanwhile);
        let look = self
            .read_if_changed(cause)
            .unwrap_or_else(|error| Look::Failed(problem_of(&self.settings.file, &error)));
        let table = match look {
            Look::Read => self.update(),
            Look::Unchanged | Look::NotRead | Look::Failed(_) => None,
        };
        self.log(look, was_read);
        self.has_looked = true;
        table
    }

    fn next_look(&self) -> Option<Duration> {
        file_feed::pause(self.settings.reload)
    }
}

impl HostsReader {
    fn new(settings: Arc<HostsSettings>) -> Self {
        Self {
            zones: Zone::set(&settings.zones),
            table: HostsTable::new(&settings, *HASH_SEED),
            settings,
            entries: Vec::new(),
            last: None,
            modified: None,
            problem: None,
            has_looked: false,
        }
    }

    fn read_if_changed(&mut self, cause: LookCause) -> io::Result<Look> {
        let path = self.settings.file.as_path();
        let (file, version) = match file_feed::open(path, self.last.is_some())? {
            OpenedFile::Spent => return Ok(Look::NotRead),
            OpenedFile::Opened(file, version) => (file, version),
        };
        if cause == LookCause::Due
            && let Some(last) = self.last.as_ref().filter(|last| last.version == version)
        {
            return Ok(match last.refused {
                Some(error) => Look::Failed(refusal_of(path, error)),
                None => Look::Unchanged,
            });
        }
        let bytes = file_feed::read_up_to(file, HOSTS_FILE_LEN_MAX)?;
        let read = file::read(&bytes, &self.zones);
        self.last = Some(LastReading { version, refused: read.as_ref().err().copied() });
        Ok(match read {
            Ok(entries) => {
                self.entries = entries;
                self.modified = Some(version.modified);
                Look::Read
            }
            Err(error) => Look::Failed(refusal_of(path, error)),
        })
    }

    /// The table of all entries. Those of the file come first, as in CoreDNS.
    fn update(&mut self) -> Option<Arc<Table>> {
        self.table.update(self.entries.iter().chain(&self.settings.inline))
    }

    /// Logs what has changed.
    fn log(&mut self, look: Look, was_read: bool) {
        let path = self.settings.file.display();
        let count = self.entries.len();
        match look {
            Look::Failed(problem) if self.problem.as_ref() != Some(&problem) => {
                let consequence = match was_read {
                    true => "its last entries are still served",
                    false => "only the entries of the Corefile are served until it can be read",
                };
                tracing::warn!("plugin/hosts: {problem}: {consequence}");
                self.problem = Some(problem);
            }
            Look::Failed(_) | Look::NotRead => {}
            Look::Read | Look::Unchanged if self.problem.is_some() => {
                tracing::info!("plugin/hosts: {path} can be read again: {count} entries");
                self.problem = None;
            }
            Look::Read if self.has_looked => {
                tracing::info!("plugin/hosts: {path} has been read again: {count} entries");
            }
            Look::Read | Look::Unchanged => {}
        }
    }
}

/// In CoreDNS's words where it has some.
fn problem_of(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("File does not exist: {path}"),
        io::ErrorKind::IsADirectory => format!("Hosts file \"{path}\" is a directory"),
        _ => format!("open {path}: {error}"),
    }
}

fn refusal_of(path: &Path, error: HostsFileError) -> String {
    format!("cannot use {}: {error}", path.display())
}
