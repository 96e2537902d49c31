//! Reads the file of one `hosts` block at start-up and whenever it has changed, and publishes it.
//!
//! A file may hang, so it is read beside the control loop, and never twice at a time. Entries are
//! served until newer ones have been read, even if the file is removed. Invariant: a table is also
//! held here until no shard holds it.

use std::convert::Infallible;
use std::fs::{File, metadata};
use std::future::pending;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::corefile::value::zone::Zone;
use engine::fleet::{Deliver, Forgotten};
use engine::limits::{
    FILE_TIMEOUT, HOSTS_FILE_LEN_MAX, HOSTS_LOOK_EVERY_MIN, HOSTS_READINGS_MAX,
    HOSTS_WRITING_PAUSE, HOSTS_WRITING_PAUSES_MAX, SYNC_STOP_TIMEOUT,
};
use engine::metrics::HostsFacts;
use engine::plan::TableSlot;
use engine::plugin::hosts::HostsSettings;
use engine::plugin::hosts::file::{self, HostEntry, HostsFileError};
use engine::plugin::hosts::table::HostsTable;
use k8s_sync::publish::Generations;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use wire::table::Table;
use wire::zone::ZoneSet;

use super::hash_seed::HASH_SEED;

/// A shard whose channel was full is offered the newest table again after this long.
const DELIVER_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// How often tables that the shards have released are freed, while there are any.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);

/// A `hosts` block whose table is kept up to date.
pub(crate) struct HostsFeed {
    pub(crate) settings: Arc<HostsSettings>,
    pub(crate) slot: TableSlot,
    pub(crate) status: watch::Receiver<HostsStatus>,
    started_at: Instant,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Generations>,
}

/// What is served at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostsStatus {
    /// The file has been read, or the attempt has failed.
    is_settled: bool,
    /// Entries of the file and of the Corefile.
    pub(crate) host_count: usize,
    /// Entries for the reverse names of these.
    reverse_count: usize,
    /// The modification time of the file when it was last read.
    modified: Option<SystemTime>,
}

impl HostsFeed {
    /// Serves the entries of the Corefile at once, and begins to read the file.
    pub(super) fn start(
        settings: &HostsSettings,
        slot: TableSlot,
        deliveries: Vec<Deliver>,
    ) -> Self {
        let settings = Arc::new(settings.clone());
        let mut generations = Generations::new(deliveries);
        let mut reader = HostsReader::new(Arc::clone(&settings));
        if let Some(table) = reader.update() {
            generations.publish(table);
        }
        let (sender, status) = watch::channel(reader.status());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(reader, generations, sender, stopped));
        Self { settings, slot, status, started_at: Instant::now(), stop, task }
    }

    /// Waits until the file has been read or cannot be read; false if that takes too long.
    pub(super) async fn settled(&mut self) -> bool {
        let rest = FILE_TIMEOUT.saturating_sub(self.started_at.elapsed());
        let settled = self.status.wait_for(|status| status.is_settled);
        timeout(rest, settled).await.is_ok_and(|waited| waited.is_ok())
    }

    pub(super) fn is_lost(&self) -> bool {
        self.task.is_finished()
    }

    /// Publishes nothing more, and frees the tables once no shard holds them. Does not wait for a
    /// file that hangs.
    pub(super) async fn stop(self, forgotten: Forgotten) {
        let deadline = Instant::now() + SYNC_STOP_TIMEOUT;
        let _ = self.stop.send(());
        let generations = self.task.await;
        forgotten.wait_until(deadline).await;
        drop(generations);
    }

    /// For metrics.
    pub(crate) fn facts(&self) -> HostsFacts {
        let HostsStatus { host_count, reverse_count, modified, .. } = *self.status.borrow();
        HostsFacts {
            file: self.settings.file.display().to_string(),
            entry_count: host_count + reverse_count,
            modified,
        }
    }
}

/// Bounds the threads that files which hang keep.
static READINGS: Semaphore = Semaphore::const_new(HOSTS_READINGS_MAX);

/// Publishes what the reader reads, until the feed is stopped.
async fn run(
    mut reader: HostsReader,
    mut generations: Generations,
    status: watch::Sender<HostsStatus>,
    mut stopped: oneshot::Receiver<()>,
) -> Generations {
    let every = reader.settings.reload;
    let has_reloads = !every.is_zero();
    loop {
        let look = async {
            // A file that hangs never gives its permit back, however many reloads begin anew.
            let permit = READINGS.acquire().await.expect("it is never closed");
            let looking = spawn_blocking(move || {
                let _permit = permit;
                let table = reader.look();
                let status = reader.status();
                (reader, table, status)
            });
            looking.await
        };
        let Some(looked) = until_stopped(look, &mut stopped, &mut generations).await else {
            return generations;
        };
        // An error means that it has panicked, or that the runtime is shutting down.
        let Ok((back, table, now)) = looked else { return generations };
        reader = back;
        if let Some(table) = table {
            generations.publish(table);
        }
        status.send_replace(now);
        let next_look = async {
            match has_reloads {
                true => sleep(every.max(HOSTS_LOOK_EVERY_MIN)).await,
                false => pending().await,
            }
        };
        if until_stopped(next_look, &mut stopped, &mut generations).await.is_none() {
            return generations;
        }
    }
}

/// The result of `work`, or `None` once the feed is stopped. Meanwhile tables are delivered.
async fn until_stopped<T>(
    work: impl Future<Output = T>,
    stopped: &mut oneshot::Receiver<()>,
    generations: &mut Generations,
) -> Option<T> {
    tokio::select! {
        biased;
        _ = stopped => None,
        result = work => Some(result),
        never = housekeep(generations) => match never {},
    }
}

/// Delivers the newest table to every shard and frees all older ones. Never ends.
async fn housekeep(generations: &mut Generations) -> Infallible {
    loop {
        generations.deliver();
        generations.retire();
        if !generations.is_delivered() {
            sleep(DELIVER_AGAIN_AFTER).await;
        } else if generations.alive_count() > 1 {
            sleep(HOUSEKEEPING_EVERY).await;
        } else {
            pending().await
        }
    }
}

/// The file as it was read last, and the table made from it. Its methods block.
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
    /// Why the file cannot be read, if the log has reported it.
    logged_problem: Option<String>,
    has_looked: bool,
}

struct LastReading {
    version: FileVersion,
    refused: Option<HostsFileError>,
}

/// If this changes, the file has changed: as in CoreDNS.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    modified: SystemTime,
    len: u64,
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

impl HostsReader {
    fn new(settings: Arc<HostsSettings>) -> Self {
        Self {
            zones: Zone::set(&settings.zones),
            table: HostsTable::new(&settings, *HASH_SEED),
            settings,
            entries: Vec::new(),
            last: None,
            modified: None,
            logged_problem: None,
            has_looked: false,
        }
    }

    /// Reads the file if it has changed. Returns the next table, if it differs from the last one.
    fn look(&mut self) -> Option<Arc<Table>> {
        let was_read = self.modified.is_some();
        let look = self
            .read_if_changed()
            .unwrap_or_else(|error| Look::Failed(problem_of(&self.settings.file, &error)));
        let table = match look {
            Look::Read => self.update(),
            Look::Unchanged | Look::NotRead | Look::Failed(_) => None,
        };
        self.log(look, was_read);
        self.has_looked = true;
        table
    }

    fn read_if_changed(&mut self) -> io::Result<Look> {
        let path = self.settings.file.as_path();
        let found = metadata(path)?;
        if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !found.is_file() && self.last.is_some() {
            return Ok(Look::NotRead);
        }
        let file = File::open(path)?;
        let version = settled_version(&file)?;
        if let Some(last) = self.last.as_ref().filter(|last| last.version == version) {
            return Ok(match last.refused {
                Some(error) => Look::Failed(refusal_of(path, error)),
                None => Look::Unchanged,
            });
        }
        let mut bytes = Vec::new();
        file.take(HOSTS_FILE_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
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
            Look::Failed(problem) if self.logged_problem.as_ref() != Some(&problem) => {
                let consequence = match was_read {
                    true => "its last entries are still served",
                    false => "only the entries of the Corefile are served until it can be read",
                };
                tracing::warn!("plugin/hosts: {problem}: {consequence}");
                self.logged_problem = Some(problem);
            }
            Look::Failed(_) | Look::NotRead => {}
            Look::Read | Look::Unchanged if self.logged_problem.is_some() => {
                tracing::info!("plugin/hosts: {path} can be read again: {count} entries");
                self.logged_problem = None;
            }
            Look::Read if self.has_looked => {
                tracing::info!("plugin/hosts: {path} has been read again: {count} entries");
            }
            Look::Read | Look::Unchanged => {}
        }
    }

    fn status(&self) -> HostsStatus {
        let entries = self.entries.iter().chain(&self.settings.inline);
        let reversible = entries.clone().filter(|entry| !entry.is_wildcard());
        HostsStatus {
            is_settled: self.has_looked,
            host_count: entries.count(),
            reverse_count: if self.settings.no_reverse { 0 } else { reversible.count() },
            modified: self.modified,
        }
    }
}

/// The version of a file, once it has not changed for a moment: a file that was changed just now
/// may be half written.
fn settled_version(file: &File) -> io::Result<FileVersion> {
    let mut pause_count = 0;
    loop {
        let found = file.metadata()?;
        if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let modified = found.modified()?;
        let is_new = modified.elapsed().is_ok_and(|age| age < HOSTS_WRITING_PAUSE);
        if !is_new || pause_count == HOSTS_WRITING_PAUSES_MAX {
            return Ok(FileVersion { modified, len: found.len() });
        }
        pause_count += 1;
        std::thread::sleep(HOSTS_WRITING_PAUSE);
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
