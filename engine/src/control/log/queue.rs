//! The log's queue, and the thread that writes it.
//!
//! Invariant: logging never waits. A line is lost and counted if the queue is full or writing
//! fails; the log reports how many lines are missing, in their place, as soon as it can be written
//! again.
//!
//! `tracing-appender` is not suitable: it bounds lines but not bytes, its losses do not show in the
//! log, and it prints when it is dropped while its queue is full, which may wait or panic.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::cli::LogFormat;
use engine::limits::{LOG_LINES_WAITING_MAX, LOG_WAITING_LEN_MAX, LOG_WRITE_LEN};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

use super::line;

/// The sending side, for any thread.
#[derive(Clone)]
pub(crate) struct LogQueue {
    entries: Sender<LogEntry>,
    losses: Arc<Losses>,
}

enum LogEntry {
    Line {
        text: Vec<u8>,
        /// Lines that it has.
        line_count: u64,
        /// Lines lost between the one queued before it and this one.
        lost_before: u64,
    },
    /// Confirmed when everything queued before it was written or lost.
    Flush(Sender<()>),
}

#[derive(Default)]
struct Losses {
    /// Bytes of the lines in the queue and of those being written.
    waiting_len: AtomicUsize,
    /// Lines lost since the last one that was queued.
    unreported: AtomicU64,
    total: AtomicU64,
}

impl LogQueue {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(out: impl AsFd + Send + 'static, format: LogFormat) -> io::Result<Self> {
        let (sender, entries) = bounded(LOG_LINES_WAITING_MAX);
        let losses = Arc::<Losses>::default();
        let writer =
            LogWriter { out, format, losses: Arc::clone(&losses), batch: LineBatch::default() };
        std::thread::Builder::new().name("log".into()).spawn(move || writer.run(&entries))?;
        Ok(Self { entries: sender, losses })
    }

    /// Queues a line, which must end with a newline. It is lost if the queue is full.
    pub(crate) fn push(&self, text: &[u8]) {
        self.push_lines(text, 1);
    }

    /// Queues so many lines as one.
    pub(crate) fn push_lines(&self, text: &[u8], line_count: u64) {
        let losses = &*self.losses;
        let lost_before = losses.unreported.swap(0, Relaxed);
        let waiting_len = losses.waiting_len.fetch_add(text.len(), Relaxed);
        let has_room = waiting_len.saturating_add(text.len()) <= LOG_WAITING_LEN_MAX;
        let line = || LogEntry::Line { text: text.to_vec(), line_count, lost_before };
        if !has_room || self.entries.try_send(line()).is_err() {
            losses.waiting_len.fetch_sub(text.len(), Relaxed);
            losses.unreported.fetch_add(lost_before + line_count, Relaxed);
            losses.total.fetch_add(line_count, Relaxed);
        }
    }

    /// Bytes of lines that wait to be written.
    pub(crate) fn waiting_len(&self) -> usize {
        self.losses.waiting_len.load(Relaxed)
    }

    /// Lines lost so far.
    pub(crate) fn lost_count(&self) -> u64 {
        self.losses.total.load(Relaxed)
    }

    /// Waits until everything queued now was written, at most for `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let (done, is_done) = bounded(1);
        if self.entries.send_deadline(LogEntry::Flush(done), deadline).is_ok() {
            let _ = is_done.recv_deadline(deadline);
        }
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// `tracing-subscriber` writes each event in one call.
impl io::Write for LogQueue {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct LogWriter<F> {
    out: F,
    format: LogFormat,
    losses: Arc<Losses>,
    batch: LineBatch,
}

/// The lines of one write.
#[derive(Default)]
struct LineBatch {
    text: Vec<u8>,
    parts: Vec<BatchPart>,
    flushes: Vec<Sender<()>>,
    /// Bytes of this batch that are part of `Losses::waiting_len`.
    waiting_len: usize,
    /// Lines of the last batch that were lost and not reported yet.
    unreported: u64,
    /// Why they were lost.
    failure: Option<io::Error>,
    /// The output ends in the middle of a line.
    is_cut: bool,
}

/// A line of a batch, or the report that lines are missing.
struct BatchPart {
    end: usize,
    /// Lines that are missing if this part is not written.
    line_count: u64,
    is_report: bool,
}

impl<F: AsFd> LogWriter<F> {
    /// Writes until every `LogQueue` was dropped.
    fn run(mut self, entries: &Receiver<LogEntry>) {
        while let Ok(first) = entries.recv() {
            self.take(first);
            while self.batch.text.len() < LOG_WRITE_LEN
                && let Ok(next) = entries.try_recv()
            {
                self.take(next);
            }
            if entries.is_empty() {
                let lost = self.losses.unreported.swap(0, Relaxed);
                self.batch.report(lost, self.format);
            }
            self.write();
        }
    }

    fn take(&mut self, entry: LogEntry) {
        let batch = &mut self.batch;
        match entry {
            LogEntry::Line { text, line_count, lost_before } => {
                batch.report(lost_before, self.format);
                batch.text.extend_from_slice(&text);
                batch.waiting_len += text.len();
                batch.parts.push(BatchPart { end: batch.text.len(), line_count, is_report: false });
            }
            LogEntry::Flush(done) => batch.flushes.push(done),
        }
    }

    /// Waits for the log's reader as long as it takes. A failed batch is not retried.
    fn write(&mut self) {
        let batch = &mut self.batch;
        let (written_len, failure) = write_whole(&self.out, &batch.text);
        if failure.is_some() {
            for part in batch.parts.iter().filter(|part| part.end > written_len) {
                batch.unreported += part.line_count;
                if !part.is_report {
                    self.losses.total.fetch_add(part.line_count, Relaxed);
                }
            }
            let last = written_len.checked_sub(1).map(|at| batch.text[at]);
            batch.is_cut = last.map_or(batch.is_cut, |last| last != b'\n');
            batch.failure = failure;
        } else {
            batch.is_cut = false;
        }
        batch.text.clear();
        batch.parts.clear();
        self.losses.waiting_len.fetch_sub(std::mem::take(&mut batch.waiting_len), Relaxed);
        for done in batch.flushes.drain(..) {
            let _ = done.try_send(());
        }
    }
}

impl LineBatch {
    fn report(&mut self, lost: u64, format: LogFormat) {
        let line_count = lost + std::mem::take(&mut self.unreported);
        if line_count == 0 {
            return;
        }
        if self.is_cut && self.text.is_empty() {
            self.text.push(b'\n');
        }
        let failure = self.failure.take();
        self.text.extend_from_slice(line::losses(format, line_count, failure.as_ref()).as_bytes());
        self.parts.push(BatchPart { end: self.text.len(), line_count, is_report: true });
    }
}

/// The bytes written, and the error if that is not all.
fn write_whole(out: impl AsFd, text: &[u8]) -> (usize, Option<io::Error>) {
    let mut written_len = 0;
    while written_len < text.len() {
        match rustix::io::write(&out, &text[written_len..]) {
            Ok(0) => return (written_len, Some(io::ErrorKind::WriteZero.into())),
            Ok(len) => written_len += len,
            Err(Errno::INTR) => {}
            // The parent process may have made its end of the pipe or terminal non-blocking.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&out, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return (written_len, Some(error.into())),
            },
            Err(error) => return (written_len, Some(error.into())),
        }
    }
    (written_len, None)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn line(number: usize) -> String {
        format!("{number:0>99}\n")
    }

    /// Logs until lines are lost. Returns how many lines were pushed.
    fn overfill(queue: &LogQueue) -> usize {
        let mut count = 0;
        // Until both the queue and the socket are full.
        until("lines are lost", || {
            for _ in 0..LOG_LINES_WAITING_MAX {
                queue.push(line(count).as_bytes());
                count += 1;
            }
            queue.lost_count() > 0
        });
        count
    }

    #[test]
    fn losses_are_reported_where_they_are() {
        // A blocking socket, and a non-blocking one, as some parent processes pass.
        for is_nonblocking in [false, true] {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            theirs.set_nonblocking(is_nonblocking).unwrap();
            let queue = LogQueue::start(theirs, LogFormat::Text).unwrap();
            let count = overfill(&queue);
            let began = Instant::now();
            queue.flush(Duration::from_millis(50));
            assert!(began.elapsed() < PATIENCE / 2, "a flush does not wait for the reader");
            let mut lines = BufReader::new(ours).lines().map(Result::unwrap);
            let (mut next, mut reported) = (0, 0);
            while next < count {
                let read = lines.next().unwrap();
                match read.strip_prefix("[WARNING] log: ") {
                    Some(report) => {
                        let lost: usize = report.split(' ').next().unwrap().parse().unwrap();
                        (next, reported) = (next + lost, reported + lost);
                    }
                    None => {
                        assert_eq!(format!("{read}\n"), line(next));
                        next += 1;
                    }
                }
            }
            assert_eq!(reported as u64, queue.lost_count());
            queue.push(b"the last\n");
            assert_eq!(lines.next().unwrap(), "the last");
        }
    }

    /// Lines that cannot be written are lost and counted, and the thread continues.
    #[test]
    fn failing_outputs() {
        let (_, nobody_reads) = io::pipe().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        for out in [std::os::fd::OwnedFd::from(nobody_reads), full.into()] {
            let queue = LogQueue::start(out, LogFormat::Text).unwrap();
            for count in 1..=3 {
                queue.push(b"a line\n");
                until("it is counted", || queue.lost_count() == count);
            }
            queue.flush(PATIENCE);
        }
    }

    /// The log reports what is missing and why. A partial line is ended first.
    #[test]
    fn an_output_that_works_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = File::create(folder.path().join("log")).unwrap();
        let mut writer = LogWriter {
            out: file,
            format: LogFormat::Text,
            losses: Arc::default(),
            batch: LineBatch {
                unreported: 7,
                failure: Some(io::ErrorKind::StorageFull.into()),
                is_cut: true,
                ..LineBatch::default()
            },
        };
        // At first nothing can be written, so the partial line remains.
        writer.take(LogEntry::Line { text: "none\n".into(), line_count: 1, lost_before: 0 });
        let file = std::mem::replace(&mut writer.out, File::open("/dev/null").unwrap());
        writer.write();
        writer.out = file;
        writer.batch.unreported = 7;
        writer.batch.failure = Some(io::ErrorKind::StorageFull.into());
        for text in ["one\n", "two\n"] {
            writer.take(LogEntry::Line { text: text.into(), line_count: 1, lost_before: 2 });
            writer.write();
        }
        let mut log = String::new();
        File::open(folder.path().join("log")).unwrap().read_to_string(&mut log).unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 5, "{log}");
        assert_eq!((lines[0], lines[2], lines[4]), ("", "one", "two"), "{log}");
        assert!(lines[1].starts_with("[WARNING] log: 9 lines"), "{log}");
        assert!(lines[1].contains("no storage space"), "{log}");
        assert!(lines[3].starts_with("[WARNING] log: 2 lines"), "{log}");
    }
}
