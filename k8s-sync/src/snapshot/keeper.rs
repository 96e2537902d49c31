//! Decides when the snapshot is written, and paces the walk.
//!
//! It is part of the loop that publishes, between two batches of events. Invariant: one file is
//! written at a time, at most one per `WRITE_EVERY`, and none before the API server's own state is
//! complete.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::file::{self, Piece, WriteOutcome};
use super::walk::{Noted, Progress, Walk};
use super::{HEADER_MARK, Header, Selection, VERSION, line};
use crate::cluster::Cluster;
use crate::object::Event;
use crate::options::Options;
use crate::status::SourceStatus;

/// Least time between two files. A process that is killed loses changes of this time at most.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// A state that does not change is written again after this time, so that its file does not look
/// older than it is.
const CONFIRM_EVERY: Duration = Duration::from_secs(600);
/// How often the start is checked for being over.
const FIRST_EVERY: Duration = Duration::from_secs(1);
/// A disk that takes longer hangs.
const WRITE_MAX: Duration = Duration::from_secs(60);
/// Pieces that may wait for the disk.
const PIECES_WAITING_MAX: usize = 8;
/// How soon a full queue, or the end of the writing, is checked again.
const DISK_PAUSE: Duration = Duration::from_millis(5);

/// Keeps the snapshot file of one cluster.
pub struct SnapshotKeeper {
    file: PathBuf,
    selection: Selection,
    status: Arc<SourceStatus>,
    /// The model has changed since it was last written.
    has_changes: bool,
    /// When to check next whether to write.
    look_at: Instant,
    written: Option<SystemTime>,
    writing: Option<Writing>,
    /// Those who wait for the file.
    waiting: Vec<oneshot::Sender<()>>,
    /// When the last of them asked.
    asked_at: Option<Instant>,
}

/// A file that is being written.
struct Writing {
    walk: Walk,
    stage: Stage,
    /// `None` once all pieces have been sent, or the file has been given up.
    pieces: Option<SyncSender<Piece>>,
    /// A piece for which the queue had no room.
    held: Option<Piece>,
    outcome: oneshot::Receiver<WriteOutcome>,
    began: Instant,
    confirmed: SystemTime,
    is_late: bool,
}

/// The pieces that come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Walking,
    End,
}

/// What a step has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WritingStep {
    Underway,
    /// The file will have the model as it is now.
    WalkComplete,
    Ended(WriteOutcome),
}

impl SnapshotKeeper {
    /// `None` without the option.
    #[must_use]
    pub fn new(options: &Options, status: Arc<SourceStatus>) -> Option<Self> {
        Some(Self {
            file: options.snapshot()?.to_path_buf(),
            selection: Selection::of(options),
            status,
            has_changes: false,
            look_at: Instant::now() + FIRST_EVERY,
            written: None,
            writing: None,
            waiting: Vec::new(),
            asked_at: None,
        })
    }

    /// Notes a change before the model applies it.
    pub(crate) fn note(&mut self, event: &Event) {
        self.has_changes = true;
        if let Some(writing) = &mut self.writing
            && writing.pieces.is_some()
            && writing.stage == Stage::Walking
            && writing.walk.note(event) == Noted::Replaced
        {
            // The thread discards the file, and the next look begins another one.
            writing.pieces = None;
            self.look_at = Instant::now();
        }
    }

    /// When `step` has something to do.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        match &self.writing {
            Some(Writing { pieces: Some(_), held: None, .. }) => now,
            Some(Writing { is_late: true, .. }) => now + FIRST_EVERY,
            Some(_) => now + DISK_PAUSE,
            None => self.look_at,
        }
    }

    /// Has the file written soon, if it is not up to date, and tells `written` then.
    pub(crate) fn flush(&mut self, written: oneshot::Sender<()>) {
        self.look_at = Instant::now();
        self.asked_at = Some(self.look_at);
        self.waiting.push(written);
    }

    /// Does the next bit of work.
    pub(crate) fn step(&mut self, cluster: &Cluster, now: Instant) {
        if let Some(writing) = &mut self.writing {
            match writing.step(cluster) {
                WritingStep::Underway => self.give_up_if_late(now),
                WritingStep::WalkComplete => self.has_changes = false,
                WritingStep::Ended(outcome) => self.ended(outcome, now),
            }
        }
        if self.writing.is_none() && now >= self.look_at {
            self.look(cluster, now);
        }
    }

    /// Begins to write, if it is time.
    fn look(&mut self, cluster: &Cluster, now: Instant) {
        let is_read = self.status.is_synced() && cluster.unsynced_kinds().next().is_none();
        self.look_at = now + if is_read { WRITE_EVERY } else { FIRST_EVERY };
        let age = self.status.age().filter(|_| is_read);
        let confirmed = age.and_then(|age| SystemTime::now().checked_sub(age));
        let is_old = |confirmed: &SystemTime| {
            self.written.is_none_or(|written| *confirmed >= written + CONFIRM_EVERY)
        };
        match confirmed.filter(|confirmed| self.has_changes || is_old(confirmed)) {
            Some(confirmed) => self.writing = Some(self.begin(confirmed, now)),
            None => self.release(),
        }
    }

    fn begin(&self, confirmed: SystemTime, now: Instant) -> Writing {
        let header = Header {
            snapshot: HEADER_MARK.to_owned(),
            version: VERSION,
            confirmed: jiff::Timestamp::try_from(confirmed).unwrap_or_default(),
            server: self.status.server().map(|server| (*server).to_owned()),
            selection: self.selection.clone(),
        };
        let mut bytes = Vec::new();
        line::line(&header, &mut bytes);
        let (pieces, received) = sync_channel(PIECES_WAITING_MAX);
        let (report, outcome) = oneshot::channel();
        let (file, temporary) = (self.file.clone(), file::temporary(&self.file));
        spawn_blocking(move || {
            let outcome = file::write(&file, &temporary, &received);
            // The k8s-sync thread may have ended.
            let _ = report.send(outcome);
        });
        Writing {
            walk: Walk::new(),
            stage: Stage::Walking,
            pieces: Some(pieces),
            held: Some(Piece::Bytes(bytes)),
            outcome,
            began: now,
            confirmed,
            is_late: false,
        }
    }

    /// No other file is begun until the thread of this one has ended.
    fn give_up_if_late(&mut self, now: Instant) {
        let Some(writing) = &mut self.writing else { return };
        if writing.is_late || now < writing.began + WRITE_MAX {
            return;
        }
        (writing.is_late, writing.pieces) = (true, None);
        self.failed(format!("not written within {WRITE_MAX:?}: does the file system hang?"));
    }

    fn ended(&mut self, outcome: WriteOutcome, now: Instant) {
        let Some(writing) = self.writing.take() else { return };
        match outcome {
            WriteOutcome::Written => {
                self.written = Some(writing.confirmed);
                if let Some(error) = self.status.snapshot.written(writing.confirmed) {
                    let file = self.file.display();
                    tracing::info!(
                        "plugin/kubernetes: the snapshot {file} is written again, after: {error}"
                    );
                }
                if self.asked_at.is_some_and(|at| at > writing.began) && self.has_changes {
                    self.look_at = now;
                } else {
                    self.release();
                }
            }
            WriteOutcome::Discarded => self.has_changes = true,
            // Reported when it was given up.
            WriteOutcome::Failed(_) if writing.is_late => {}
            WriteOutcome::Failed(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: String) {
        self.has_changes = true;
        self.release();
        let file = self.file.display();
        if self.status.snapshot.not_written(error.clone()) {
            tracing::error!(
                "plugin/kubernetes: cannot write the snapshot {file}: {error}; answers go on, and \
                 it is tried again every minute"
            );
        }
    }

    fn release(&mut self) {
        for waiting in self.waiting.drain(..) {
            // It may have stopped waiting.
            let _ = waiting.send(());
        }
    }
}

impl Writing {
    fn step(&mut self, cluster: &Cluster) -> WritingStep {
        let Some(pieces) = &self.pieces else {
            return match self.outcome.try_recv() {
                Ok(outcome) => WritingStep::Ended(outcome),
                Err(oneshot::error::TryRecvError::Empty) => WritingStep::Underway,
                Err(oneshot::error::TryRecvError::Closed) => {
                    WritingStep::Ended(WriteOutcome::Failed("its thread has panicked".to_owned()))
                }
            };
        };
        let mut step = WritingStep::Underway;
        let piece = match (self.held.take(), self.stage) {
            (Some(held), _) => held,
            (None, Stage::Walking) => {
                let mut bytes = Vec::new();
                if self.walk.write(cluster, &mut bytes) == Progress::Complete {
                    (self.stage, step) = (Stage::End, WritingStep::WalkComplete);
                }
                Piece::Bytes(bytes)
            }
            (None, Stage::End) => Piece::End,
        };
        let is_last = matches!(piece, Piece::End);
        match pieces.try_send(piece) {
            Ok(()) if !is_last => {}
            // The thread ends by itself: after the last piece, or because it has failed.
            Ok(()) | Err(TrySendError::Disconnected(_)) => self.pieces = None,
            Err(TrySendError::Full(piece)) => self.held = Some(piece),
        }
        step
    }
}

#[cfg(test)]
mod tests;
