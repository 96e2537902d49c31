//! The query log: a thread that takes answered queries from the shards' rings and logs them.
//!
//! It starts with the first Corefile that has `log`. Invariant: the log says how many queries it
//! lost; nothing waits for this thread.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use engine::cli::LogFormat;
use engine::client::ListenerId;
use engine::config::Config;
use engine::limits::{
    LOG_WRITE_LEN, QUERY_LINES_WAITING_LEN_MAX, QUERY_LOSS_LOGGED_EVERY, QUERY_RING_LOOK_EVERY,
};
use engine::plan::Plan;
use engine::plugin::log::Log;
use engine::plugin::log::query::LoggedQuery;
use engine::plugin::log::ring::QueryRings;

use super::log::{LogQueue, QueryLine};
use super::lost::Lost;

/// The query log, as the control loop sees it.
pub(crate) struct QueryLog {
    shared: Arc<Shared>,
    log: LogQueue,
    format: LogFormat,
    shard_count: usize,
    /// Of all shards, once a Corefile had `log`.
    rings: Option<Vec<Receiver<LoggedQuery>>>,
    thread: Option<JoinHandle<()>>,
}

/// The addresses of the listeners, by `ListenerId`: for the lines of the query log.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerAddresses(Arc<Mutex<Vec<Option<IpAddr>>>>);

impl ListenerAddresses {
    /// Takes those of a plan; call it before the plan is in force. A listener that the plan lacks
    /// keeps its address, for the queries that it has answered.
    pub(crate) fn add(&self, plan: &Plan) {
        let addresses = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.resize(addresses.len().max(plan.listeners.len()), None);
        for (address, listener) in addresses.iter_mut().zip(&plan.listeners) {
            *address = listener.address.map(|at| at.ip()).or(*address);
        }
    }

    fn of(&self, listener: ListenerId) -> Option<IpAddr> {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(listener.0).copied().flatten()
    }
}

struct Shared {
    rings: Arc<QueryRings>,
    listeners: ListenerAddresses,
    /// The thread ends once the rings are empty.
    is_closing: AtomicBool,
}

impl QueryLog {
    pub(crate) fn new(
        rings: Arc<QueryRings>,
        log: LogQueue,
        format: LogFormat,
        shard_count: usize,
    ) -> Self {
        let (listeners, is_closing) = (ListenerAddresses::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { rings, listeners, is_closing });
        Self { shared, log, format, shard_count, rings: None, thread: None }
    }

    /// Starts the thread if this is the first Corefile with `log`. Call it before the Corefile is
    /// in force. If there can be no thread, queries are answered without being logged, until the
    /// next reload.
    pub(crate) fn open_for(&mut self, config: &Config) {
        let has_log = config.blocks.iter().any(|block| block.line::<Log>().is_some());
        if has_log
            && self.thread.is_none()
            && let Err(error) = self.start(Builder::new().name("query-log".into()))
        {
            tracing::error!(
                "plugin/log: cannot start the thread that logs queries: {error}; serving without \
                 it, and trying again at the next reload: is a limit of threads or memory reached?"
            );
        }
    }

    /// # Errors
    /// The thread cannot be started.
    fn start(&mut self, thread: Builder) -> io::Result<()> {
        if self.rings.is_none() {
            self.rings = self.shared.rings.open(self.shard_count);
        }
        let rings = self.rings.clone().unwrap_or_default();
        let writer = QueryWriter {
            shared: Arc::clone(&self.shared),
            rings,
            log: self.log.clone(),
            format: self.format,
            taken: Vec::new(),
            text: String::new(),
            line: String::new(),
            lost: Lost::new(QUERY_LOSS_LOGGED_EVERY),
        };
        self.thread = Some(thread.spawn(move || writer.run())?);
        Ok(())
    }

    /// For the server whose queries are logged.
    pub(crate) fn listeners(&self) -> ListenerAddresses {
        self.shared.listeners.clone()
    }

    /// Queries that could not be logged so far.
    pub(crate) fn lost_count(&self) -> u64 {
        self.shared.rings.lost_count()
    }

    /// Logs what the shards have answered, for at most `timeout`. Call it once they have ended.
    pub(crate) fn finish(self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.shared.is_closing.store(true, Ordering::Release);
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Queries per write: lines of the default format have some 100 bytes.
const QUERIES_PER_TURN: usize = LOG_WRITE_LEN / 128;

/// The thread.
struct QueryWriter {
    shared: Arc<Shared>,
    /// By shard.
    rings: Vec<Receiver<LoggedQuery>>,
    log: LogQueue,
    format: LogFormat,
    /// The queries of one turn.
    taken: Vec<LoggedQuery>,
    /// Their lines.
    text: String,
    /// One line in its block's format.
    line: String,
    /// Queries that found a ring full.
    lost: Lost,
}

/// What a turn leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    AllTaken,
    MoreWait,
    /// Nothing was taken, because the log is not written fast enough.
    LogFull,
}

impl QueryWriter {
    fn run(mut self) {
        loop {
            let is_closing = self.shared.is_closing.load(Ordering::Acquire);
            let turn = self.turn();
            self.log_losses(Instant::now(), is_closing);
            match turn {
                Turn::MoreWait => {}
                Turn::AllTaken if is_closing => return,
                Turn::AllTaken | Turn::LogFull => std::thread::sleep(QUERY_RING_LOOK_EVERY),
            }
        }
    }

    /// Logs the queries of one write, in equal parts from all rings, in the order of their
    /// responses.
    fn turn(&mut self) -> Turn {
        if self.log.waiting_len() + LOG_WRITE_LEN > QUERY_LINES_WAITING_LEN_MAX {
            return Turn::LogFull;
        }
        let share = (QUERIES_PER_TURN / self.rings.len()).max(1);
        let mut turn = Turn::AllTaken;
        for ring in &self.rings {
            self.taken.extend(ring.try_iter().take(share));
            if !ring.is_empty() {
                turn = Turn::MoreWait;
            }
        }
        self.taken.sort_by_key(|query| query.done);
        for part in self.taken.chunks(QUERIES_PER_TURN) {
            self.text.clear();
            for query in part {
                let Some(rule) = query.log.rules.get(query.rule) else { continue };
                let local = self.shared.listeners.of(query.listener);
                self.line.clear();
                rule.format.write(query, local, &mut self.line);
                QueryLine { message: &self.line, query }.write(self.format, &mut self.text);
            }
            self.log.push_lines(self.text.as_bytes(), part.len() as u64);
        }
        self.taken.clear();
        turn
    }

    fn log_losses(&mut self, now: Instant, is_closing: bool) {
        let count = self.shared.rings.lost_count();
        let more = if is_closing { self.lost.rest(count) } else { self.lost.take(count, now) };
        if let Some(count) = more {
            tracing::warn!(
                "plugin/log: {count} more queries came too fast to be logged; see \
                 ringdns_query_lines_lost_total in /metrics"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_start_is_started_later() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let log = LogQueue::start(writer, LogFormat::Text).expect("a thread");
        let mut queries = QueryLog::new(Arc::default(), log, LogFormat::Text, 2);
        let too_large = Builder::new().stack_size(1 << 60);
        assert!(queries.start(too_large).is_err());
        assert!(queries.thread.is_none());
        queries.start(Builder::new()).expect("a thread");
        assert_eq!(queries.rings.as_ref().map(Vec::len), Some(2));
        queries.finish(Duration::from_secs(10));
    }
}
