//! The feed of a table that is made of files: reads them at start-up and whenever they have
//! changed, and publishes the table.
//!
//! A file may hang, so files are read beside the control loop, and those of one feed never twice at
//! a time. A file that hangs is reported once. A `FileReader` knows what is in the files.
//! Invariant: a table is also held here until no shard holds it.

use std::convert::Infallible;
use std::fs::{File, metadata};
use std::future::pending;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use engine::fleet::{Deliver, Forgotten};
use engine::limits::{
    FILE_LOOK_EVERY_MIN, FILE_READINGS_MAX, FILE_TIMEOUT, FILE_WRITING_PAUSE,
    FILE_WRITING_PAUSES_MAX, SYNC_STOP_TIMEOUT,
};
use engine::plan::TableSlot;
use k8s_sync::publish::Generations;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::error::Elapsed;
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

    /// The directive, for the log.
    fn plugin(&self) -> &'static str;

    fn status(&self) -> Self::Status;

    /// Reads files, and says which one before it does. Returns the next table, if it differs from
    /// the last one.
    fn look(&mut self, cause: LookCause, reading: &ReadProgress) -> Option<Arc<Table>>;

    /// How long until the next look; `None`: there is none.
    fn next_look(&self) -> Option<Duration>;
}

/// Why the files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookCause {
    /// It is time. A file that has not changed is not read.
    Due,
    /// A reload. Every file is read: CoreDNS starts anew.
    Reload,
}

/// The file that is being read. It is shared with the thread that reads.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadProgress(Arc<Mutex<Option<FileInProgress>>>);

#[derive(Debug)]
struct FileInProgress {
    part: String,
    path: PathBuf,
    began: Instant,
    /// What is served meanwhile.
    consequence: &'static str,
}

/// A file that has not been read in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LateFile {
    /// As in `ReadProgress::begin`; `None`: no file could be looked at.
    pub(super) part: Option<String>,
    pub(super) problem: String,
}

impl ReadProgress {
    /// `part`: the zone that the file belongs to. `consequence`: what is served until it is read.
    pub(super) fn begin(&self, part: &str, path: &Path, consequence: &'static str) {
        let (part, path) = (part.to_owned(), path.to_owned());
        self.set(Some(FileInProgress { part, path, began: Instant::now(), consequence }));
    }

    fn set(&self, file: Option<FileInProgress>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// How long until the file that is being read has taken too long. `look`: when the look began.
    fn time_left(&self, look: Instant) -> Duration {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = file.as_ref().map_or(look, |file| file.began);
        FILE_TIMEOUT.saturating_sub(began.elapsed())
    }

    /// Call it when it has taken too long. Logs what is waited for.
    fn late(&self, plugin: &str) -> LateFile {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(FileInProgress { part, path, consequence, .. }) = &*file else {
            let problem = format!("no file is looked at while {FILE_READINGS_MAX} others hang");
            tracing::warn!("plugin/{plugin}: {problem}; what was read before is still served");
            return LateFile { part: None, problem };
        };
        let what = format!("{} was not read within {FILE_TIMEOUT:?}", path.display());
        let hint = "is it on a file system that hangs, or a pipe that nobody writes to?";
        tracing::warn!("plugin/{plugin}: {what}: {consequence}; {hint}");
        LateFile { part: Some(part.clone()), problem: format!("{what}: {hint}") }
    }
}

/// A table that is kept up to date.
pub(super) struct FileFeed<R: FileReader> {
    pub(super) slot: TableSlot,
    status: watch::Receiver<FeedStatus<R::Status>>,
    started_at: Instant,
    reload: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Generations>,
}

/// The status, and whether the files have been read or cannot be read.
#[derive(Clone)]
struct FeedStatus<S> {
    has_looked: bool,
    late: Option<LateFile>,
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
            watch::channel(FeedStatus { has_looked: false, late: None, status: reader.status() });
        let (stop, stopped) = oneshot::channel();
        let reload = Arc::new(Notify::new());
        let task = tokio::spawn(run(reader, generations, sender, Arc::clone(&reload), stopped));
        Self { slot, status, started_at: Instant::now(), reload, stop, task }
    }

    /// Waits until the files have been read or cannot be read, or that takes longer than
    /// `FILE_TIMEOUT`, which is logged.
    pub(super) async fn settle(&mut self) {
        // An error means that the task has ended.
        let _ = self.status.wait_for(|now| now.has_looked || now.late.is_some()).await;
    }

    /// Has all files read again, unless the feed started after `began` and has just read them.
    pub(super) fn reload(&self, began: Instant) {
        if self.started_at < began {
            self.reload.notify_one();
        }
    }

    /// What is served at the moment.
    pub(super) fn status(&self) -> R::Status {
        self.status.borrow().status.clone()
    }

    /// The file that is waited for too long.
    pub(super) fn late(&self) -> Option<LateFile> {
        if self.is_lost() {
            let problem = "its reader has ended, which is a bug; it is started again".to_owned();
            return Some(LateFile { part: None, problem });
        }
        self.status.borrow().late.clone()
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
    reload: Arc<Notify>,
    mut stopped: oneshot::Receiver<()>,
) -> Generations {
    let (plugin, reading) = (reader.plugin(), ReadProgress::default());
    let mut cause = LookCause::Due;
    loop {
        let began = Instant::now();
        let mut look = pin!(look(reader, cause, reading.clone()));
        let in_time = in_time(look.as_mut(), began, &reading);
        let looked = match until_stopped(in_time, &mut stopped, &mut generations).await {
            None => return generations,
            Some(Ok(looked)) => looked,
            Some(Err(_)) => {
                let late = reading.late(plugin);
                status.send_modify(|status| status.late = Some(late));
                match until_stopped(look, &mut stopped, &mut generations).await {
                    None => return generations,
                    Some(looked) => looked,
                }
            }
        };
        // An error means that it has panicked, or that the runtime is shutting down.
        let Ok(LookResult { reader: back, table, status: now, next_look }) = looked else {
            return generations;
        };
        reader = back;
        if let Some(table) = table {
            generations.publish(table);
        }
        let before = status.send_replace(FeedStatus { has_looked: true, late: None, status: now });
        if before.late.is_some() {
            let took = began.elapsed().as_secs();
            tracing::info!("plugin/{plugin}: the file that was waited for took {took}s");
        }
        let due = async {
            match next_look {
                Some(pause) => sleep(pause).await,
                None => pending().await,
            }
        };
        let next = async {
            tokio::select! {
                () = due => LookCause::Due,
                () = reload.notified() => LookCause::Reload,
            }
        };
        match until_stopped(next, &mut stopped, &mut generations).await {
            None => return generations,
            Some(next) => cause = next,
        }
    }
}

/// The result of a look. An error means that one of its files takes too long.
async fn in_time<T>(
    mut look: Pin<&mut impl Future<Output = T>>,
    began: Instant,
    reading: &ReadProgress,
) -> Result<T, Elapsed> {
    loop {
        match timeout(reading.time_left(began), look.as_mut()).await {
            Err(_) if !reading.time_left(began).is_zero() => {}
            ended => return ended,
        }
    }
}

/// The result of a look.
struct LookResult<R: FileReader> {
    reader: R,
    table: Option<Arc<Table>>,
    status: R::Status,
    next_look: Option<Duration>,
}

async fn look<R: FileReader>(
    mut reader: R,
    cause: LookCause,
    reading: ReadProgress,
) -> Result<LookResult<R>, JoinError> {
    reading.set(None);
    // A file that hangs never gives its permit back, however many reloads begin anew.
    let permit = READINGS.acquire().await.expect("it is never closed");
    let looking = spawn_blocking(move || {
        let _permit = permit;
        let table = reader.look(cause, &reading);
        let (status, next_look) = (reader.status(), reader.next_look());
        LookResult { reader, table, status, next_look }
    });
    looking.await
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

/// How long until files are looked at again; `None`: never. `reload`: as the Corefile says it.
pub(super) fn pause(reload: Duration) -> Option<Duration> {
    (!reload.is_zero()).then(|| reload.max(FILE_LOOK_EVERY_MIN))
}

/// If this changes, the file has changed: as in CoreDNS, or there is another file of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    inode: u64,
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
            return Ok(FileVersion { inode: found.ino(), modified, len: found.len() });
        }
        pause_count += 1;
        std::thread::sleep(FILE_WRITING_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl FileReader for Panics {
        type Status = ();

        fn plugin(&self) -> &'static str {
            "file"
        }

        fn status(&self) {}

        fn look(&mut self, _: LookCause, _: &ReadProgress) -> Option<Arc<Table>> {
            panic!("for the test");
        }

        fn next_look(&self) -> Option<Duration> {
            None
        }
    }

    #[tokio::test]
    async fn a_reader_that_panics_is_lost_and_shows_it() {
        let mut feed = FileFeed::start(Panics, None, TableSlot(0), Vec::new());
        feed.settle().await;
        let began = Instant::now();
        while !feed.is_lost() {
            assert!(began.elapsed() < FILE_TIMEOUT, "the reader does not end");
            tokio::task::yield_now().await;
        }
        let late = feed.late().expect("a problem");
        assert!(late.part.is_none() && late.problem.contains("it is started again"), "{late:?}");
    }
}
