//! The feed of a table that is made of files: reads them at start-up and whenever they have
//! changed, and publishes the table.
//!
//! A file may hang, so files are read beside the control loop, and those of one feed never twice at
//! a time. A `FileReader` knows what is in them. Invariant: a table is also held here until no
//! shard holds it.

use std::convert::Infallible;
use std::fs::{File, metadata};
use std::future::pending;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::fleet::{Deliver, Forgotten};
use engine::limits::{
    FILE_READINGS_MAX, FILE_TIMEOUT, FILE_WRITING_PAUSE, FILE_WRITING_PAUSES_MAX, SYNC_STOP_TIMEOUT,
};
use engine::plan::TableSlot;
use k8s_sync::publish::Generations;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use wire::table::Table;

/// A shard whose channel was full is offered the newest table again after this long.
const DELIVER_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// How often tables that the shards have released are freed, while there are any.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);

/// The files of a table, as they were read last. Its methods may block.
pub(super) trait FileReader: Send + 'static {
    /// What is served at the moment.
    type Status: Clone + Send + Sync + 'static;

    fn status(&self) -> Self::Status;

    /// Reads the files that have changed. Returns the next table, if it differs from the last one.
    fn look(&mut self) -> Option<Arc<Table>>;

    /// How long until the next look; `None`: there is none.
    fn next_look(&self) -> Option<Duration>;
}

/// A table that is kept up to date.
pub(super) struct FileFeed<R: FileReader> {
    pub(super) slot: TableSlot,
    status: watch::Receiver<FeedStatus<R::Status>>,
    started_at: Instant,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Generations>,
}

/// The status, and whether the files have been read or cannot be read.
#[derive(Clone)]
struct FeedStatus<S> {
    has_looked: bool,
    status: S,
}

impl<R: FileReader> FileFeed<R> {
    /// Serves `first` at once, and begins to read the files.
    pub(super) fn start(
        reader: R,
        first: Option<Arc<Table>>,
        slot: TableSlot,
        deliveries: Vec<Deliver>,
    ) -> Self {
        let mut generations = Generations::new(deliveries);
        if let Some(table) = first {
            generations.publish(table);
        }
        let (sender, status) =
            watch::channel(FeedStatus { has_looked: false, status: reader.status() });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(reader, generations, sender, stopped));
        Self { slot, status, started_at: Instant::now(), stop, task }
    }

    /// Waits until the files have been read or cannot be read; false if that takes too long.
    pub(super) async fn settled(&mut self) -> bool {
        let rest = FILE_TIMEOUT.saturating_sub(self.started_at.elapsed());
        let settled = self.status.wait_for(|looked| looked.has_looked);
        timeout(rest, settled).await.is_ok_and(|waited| waited.is_ok())
    }

    /// What is served at the moment.
    pub(super) fn status(&self) -> R::Status {
        self.status.borrow().status.clone()
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
}

/// Bounds the threads that files which hang keep.
static READINGS: Semaphore = Semaphore::const_new(FILE_READINGS_MAX);

/// Publishes what the reader reads, until the feed is stopped.
async fn run<R: FileReader>(
    mut reader: R,
    mut generations: Generations,
    status: watch::Sender<FeedStatus<R::Status>>,
    mut stopped: oneshot::Receiver<()>,
) -> Generations {
    loop {
        let look = async {
            // A file that hangs never gives its permit back, however many reloads begin anew.
            let permit = READINGS.acquire().await.expect("it is never closed");
            let looking = spawn_blocking(move || {
                let _permit = permit;
                let table = reader.look();
                let status = reader.status();
                let next_look = reader.next_look();
                (reader, table, status, next_look)
            });
            looking.await
        };
        let Some(looked) = until_stopped(look, &mut stopped, &mut generations).await else {
            return generations;
        };
        // An error means that it has panicked, or that the runtime is shutting down.
        let Ok((back, table, now, next_look)) = looked else { return generations };
        reader = back;
        if let Some(table) = table {
            generations.publish(table);
        }
        status.send_replace(FeedStatus { has_looked: true, status: now });
        let next_look = async {
            match next_look {
                Some(pause) => sleep(pause).await,
                None => pending().await,
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

/// If this changes, the file has changed: as in CoreDNS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    pub(super) modified: SystemTime,
    pub(super) len: u64,
}

/// A file, opened to be read if it has changed.
pub(super) enum OpenedFile {
    /// A pipe or a device that was read before: it is read once.
    Spent,
    /// An open file, and its version.
    Opened(File, FileVersion),
}

/// Opens a file, and waits until it has not changed for a moment: a file that was changed just now
/// may be half written. `was_read`: whether it has been read before.
pub(super) fn open(path: &Path, was_read: bool) -> io::Result<OpenedFile> {
    let found = metadata(path)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() && was_read {
        return Ok(OpenedFile::Spent);
    }
    let file = File::open(path)?;
    let version = settled_version(&file)?;
    Ok(OpenedFile::Opened(file, version))
}

/// At most `len_max` bytes of a file, and one more, which shows that it is too long.
pub(super) fn read_up_to(file: File, len_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(len_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn settled_version(file: &File) -> io::Result<FileVersion> {
    let mut pause_count = 0;
    loop {
        let found = file.metadata()?;
        if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let modified = found.modified()?;
        let is_new = modified.elapsed().is_ok_and(|age| age < FILE_WRITING_PAUSE);
        if !is_new || pause_count == FILE_WRITING_PAUSES_MAX {
            return Ok(FileVersion { modified, len: found.len() });
        }
        pause_count += 1;
        std::thread::sleep(FILE_WRITING_PAUSE);
    }
}
