//! The state of the sources of objects: written where objects are read, shown by /ready, /metrics
//! and the log.
//!
//! There is one `SourceStatus` per `kubernetes` block, shared by `Arc`. Counters are atomics. A
//! lock guards the failure state and is taken on changes of state only, never per event. Each
//! change of state is one log line, written here.

pub mod snapshot;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::fault::FaultLog;
use crate::options::Options;
use crate::raw::Kind;
use snapshot::SnapshotStatus;

/// A failure that persists is logged again after this long.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);
/// A failure that asks for something else than the one that was logged last is logged after this
/// long.
const CHANGE_LOG_AFTER: Duration = Duration::from_secs(5);

/// Whether answers depend on objects of this kind.
#[must_use]
pub fn is_wanted(options: &Options, kind: Kind) -> bool {
    match kind {
        Kind::Namespace | Kind::Service => true,
        Kind::EndpointSlice => !options.no_endpoints,
        Kind::Pod => options.indexes_pods || options.pods == wire::pod::PodMode::Verified,
    }
}

/// The state of every kind that a source reads.
#[derive(Debug)]
pub struct SourceStatus {
    kinds: [KindStatus; Kind::ALL.len()],
    shared: Arc<SharedStatus>,
    pub snapshot: SnapshotStatus,
}

/// What all kinds of a source have in common.
#[derive(Debug, Default)]
struct SharedStatus {
    /// The API server in use. Empty if there is none yet.
    server: Mutex<Arc<str>>,
    /// The API server has answered the last request, whatever the answer.
    is_connected: AtomicBool,
    /// A list is complete, or something has failed.
    changed: Notify,
}

/// The state of one kind.
#[derive(Debug)]
pub struct KindStatus {
    kind: Kind,
    shared: Arc<SharedStatus>,
    began: Instant,
    is_wanted: bool,
    is_synced: AtomicBool,
    /// How old the snapshot was when `began`, in milliseconds, plus one. Zero: not served.
    snapshot_age_ms: AtomicU64,
    /// Milliseconds since `began`, plus one. Zero means never.
    contact_ms: AtomicU64,
    /// When the state was last known to be that of the source: not while there is a failure.
    confirmed_ms: AtomicU64,
    lists: AtomicU64,
    repaired: AtomicU64,
    failures: AtomicU64,
    /// Faults of the objects.
    pub(crate) faults: FaultLog,
    has_failure: AtomicBool,
    failure_log: Mutex<FailureLog>,
}

#[derive(Debug, Default)]
struct FailureLog {
    /// The failure that persists now, if any.
    current: Option<OngoingFailure>,
    /// When a failure was last logged.
    logged: Option<Instant>,
    /// What the operator was told to do then.
    next_step: String,
    /// When it was last logged that another kind of list is tried.
    fallback_logged: Option<Instant>,
}

impl FailureLog {
    /// Whether a failure that asks for this step has to be logged now.
    fn is_due(&self, next_step: &str, now: Instant) -> bool {
        let is_same = self.next_step == next_step;
        let pause = if is_same { REPEAT_LOG_AFTER } else { CHANGE_LOG_AFTER };
        self.logged.is_none_or(|at| now.duration_since(at) >= pause)
    }

    /// Whether another kind of list has to be logged now. While a failure persists, each round of
    /// lists comes with one.
    fn is_fallback_due(&self, now: Instant) -> bool {
        let is_recent =
            self.fallback_logged.is_some_and(|at| now.duration_since(at) < REPEAT_LOG_AFTER);
        self.current.is_none() && !is_recent
    }
}

#[derive(Debug)]
struct OngoingFailure {
    since: Instant,
    /// Whether it has been logged, so that its end is worth a line.
    is_logged: bool,
    error: String,
}

/// The state of one kind for /ready and /metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindReport {
    pub kind: Kind,
    /// Listed completely at least once. Never reset.
    pub is_synced: bool,
    /// The failure that keeps it from being up to date. `None` if it is up to date.
    pub error: Option<String>,
    /// Time since the source last sent anything, if only a sign that nothing has changed: at most
    /// 25 s while all is well. `None` if it never has.
    pub since_contact: Option<Duration>,
    /// Complete lists: the first one, those after an outage, and those that repair something.
    pub lists: u64,
    /// Objects of which the watch had lost a change. A new list repaired them.
    pub repaired: u64,
    /// Failed requests, or attempts to read files.
    pub failures: u64,
    /// Refused objects, counted each time they are read.
    pub refused: u64,
    /// Invalid parts of objects that are served, counted each time they are read.
    pub odd_parts: u64,
}

impl SourceStatus {
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let began = Instant::now();
        let shared = Arc::<SharedStatus>::default();
        let kinds = Kind::ALL.map(|kind| KindStatus {
            kind,
            shared: Arc::clone(&shared),
            began,
            is_wanted: is_wanted(options, kind),
            is_synced: AtomicBool::new(false),
            snapshot_age_ms: AtomicU64::new(0),
            contact_ms: AtomicU64::new(0),
            confirmed_ms: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            faults: FaultLog::new(),
            has_failure: AtomicBool::new(false),
            failure_log: Mutex::default(),
        });
        Self { kinds, shared, snapshot: SnapshotStatus::default() }
    }

    /// Names the server that requests go to from now on, for the log and /ready.
    pub(crate) fn set_server(&self, server: String) {
        *lock(&self.shared.server) = server.into();
    }

    /// The server that requests go to. `None` before the first client.
    pub(crate) fn server(&self) -> Option<Arc<str>> {
        self.shared.server()
    }

    /// Whether the API server answered the last request, whatever the answer.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected.load(Relaxed)
    }

    #[must_use]
    pub fn kind(&self, kind: Kind) -> &KindStatus {
        &self.kinds[kind as usize]
    }

    /// The kinds that this source reads.
    pub fn wanted(&self) -> impl Iterator<Item = &KindStatus> {
        self.kinds.iter().filter(|status| status.is_wanted)
    }

    /// Whether every kind has been listed completely once. Events may still be in flight in the
    /// channel.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.wanted().all(|status| status.is_synced.load(Relaxed))
    }

    /// How old the served state may be: the age of the kind that was confirmed longest ago. `None`
    /// if nothing is served yet.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.wanted()
            .map(KindStatus::age)
            .try_fold(Duration::ZERO, |oldest, age| age.map(|age| oldest.max(age)))
    }

    /// Whether the snapshot is served, at least for some kinds.
    #[must_use]
    pub fn is_snapshot_served(&self) -> bool {
        self.wanted().any(KindStatus::is_snapshot_served)
    }

    /// Whether a kind that has never been listed cannot be listed now.
    pub(crate) fn is_hindered(&self) -> bool {
        let is_hindered =
            |kind: &KindStatus| kind.has_failure.load(Relaxed) && !kind.is_synced.load(Relaxed);
        self.wanted().any(is_hindered)
    }

    /// Waits until the condition holds. It is checked after each list and each failure.
    pub(crate) async fn until(&self, is_such: impl Fn(&Self) -> bool) {
        loop {
            // Counts from here on, so no change is missed.
            let changed = self.shared.changed.notified();
            if is_such(self) {
                return;
            }
            changed.await;
        }
    }

    #[must_use]
    pub fn reports(&self) -> Vec<KindReport> {
        self.wanted().map(KindStatus::report).collect()
    }
}

impl SharedStatus {
    fn server(&self) -> Option<Arc<str>> {
        let name = Arc::clone(&lock(&self.server));
        Some(name).filter(|name| !name.is_empty())
    }
}

impl KindStatus {
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    #[must_use]
    pub fn report(&self) -> KindReport {
        KindReport {
            kind: self.kind,
            is_synced: self.is_synced.load(Relaxed),
            error: self.lock().current.as_ref().map(|failure| match self.shared.server() {
                Some(server) => format!("{server}: {}", failure.error),
                None => failure.error.clone(),
            }),
            since_contact: self.since(&self.contact_ms),
            lists: self.lists.load(Relaxed),
            repaired: self.repaired.load(Relaxed),
            failures: self.failures.load(Relaxed),
            refused: self.faults.refused_count(),
            odd_parts: self.faults.part_count(),
        }
    }

    /// The API server has answered a request, with whatever status, or could not be reached.
    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.shared.is_connected.store(is_connected, Relaxed);
    }

    /// The time since one of our moments; `None` if it has never come.
    fn since(&self, moment_ms: &AtomicU64) -> Option<Duration> {
        let moment_ms = moment_ms.load(Relaxed);
        let since_ms = self.now_ms().saturating_sub(moment_ms);
        (moment_ms != 0).then(|| Duration::from_millis(since_ms))
    }

    fn age(&self) -> Option<Duration> {
        if self.is_synced.load(Relaxed) {
            return self.since(&self.confirmed_ms);
        }
        let age_ms = self.snapshot_age_ms.load(Relaxed);
        // Both count one too many.
        let age_ms = (age_ms != 0).then(|| (age_ms - 1).saturating_add(self.now_ms() - 1))?;
        Some(Duration::from_millis(age_ms))
    }

    /// Listed completely at least once.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced.load(Relaxed)
    }

    fn is_snapshot_served(&self) -> bool {
        self.snapshot_age_ms.load(Relaxed) != 0 && !self.is_synced.load(Relaxed)
    }

    /// A snapshot of this age is served until the first list is complete.
    pub(crate) fn remembered(&self, age: Duration) {
        let at_began = age.saturating_sub(self.began.elapsed());
        self.snapshot_age_ms.store(at_began.as_millis() as u64 + 1, Relaxed);
    }

    /// The source sent something, if only a sign that nothing has changed.
    pub(crate) fn contact(&self) {
        self.contact_ms.store(self.now_ms(), Relaxed);
        if !self.has_failure.load(Relaxed) {
            self.confirm();
        }
    }

    /// The state is that of the source now.
    fn confirm(&self) {
        self.confirmed_ms.store(self.now_ms(), Relaxed);
    }

    /// A list of `objects` is complete. Whether it stays up to date is reported separately.
    pub(crate) fn listed(&self, objects: u64, took: Duration, how: &'static str) {
        self.contact();
        self.confirm();
        self.lists.fetch_add(1, Relaxed);
        let kind = self.kind.plural();
        if self.is_synced.swap(true, Relaxed) {
            tracing::debug!(kind, objects, ?took, how, "listed again");
        } else {
            tracing::info!(kind, objects, ?took, how, "synced");
            self.shared.changed.notify_waiters();
        }
    }

    /// The watch has lost changes of so many objects, and everything is listed again. This is rare
    /// and always logged.
    pub(crate) fn repairs(&self, objects: u64) {
        self.repaired.fetch_add(objects, Relaxed);
        let (kind, server) = (self.kind.plural(), self.shared.server());
        let server = server.as_deref();
        tracing::warn!(
            kind,
            server,
            objects,
            "the watch has lost changes, which a comparison has found; listing all objects again"
        );
    }

    /// The files have been read.
    pub(crate) fn loaded(&self) {
        self.contact();
        self.recovered();
        self.lists.fetch_add(1, Relaxed);
        self.is_synced.store(true, Relaxed);
    }

    /// Records a failure that the caller logs.
    pub(crate) fn set_failure(&self, error: String) {
        self.failures.fetch_add(1, Relaxed);
        let mut log = self.lock();
        let since = log.current.as_ref().map_or_else(Instant::now, |failure| failure.since);
        log.current = Some(OngoingFailure { since, is_logged: false, error });
        self.has_failure.store(true, Relaxed);
        self.shared.changed.notify_waiters();
    }

    /// The server rejects this kind of list, and another kind is requested at once.
    ///
    /// Logged once a minute at most, and not while a failure persists.
    pub(crate) fn fell_back(&self, error: &str, tried: &'static str, next: &'static str) {
        self.failures.fetch_add(1, Relaxed);
        let (kind, now, mut log) = (self.kind.plural(), Instant::now(), self.lock());
        if log.is_fallback_due(now) {
            tracing::info!(kind, error, "{tried} failed; trying a {next}");
            log.fallback_logged = Some(now);
        } else {
            tracing::debug!(kind, error, "{tried} failed; trying a {next}");
        }
    }

    /// Records and logs a failure. `next_step`: what an operator can do about it.
    ///
    /// Logs one line when the failure begins or asks for something else, and one per minute while
    /// it persists. A failure that returns within a minute of such a line waits for the rest of
    /// that minute, so that a flapping source cannot flood the log.
    pub(crate) fn failed(&self, error: String, next_step: &str) {
        self.failures.fetch_add(1, Relaxed);
        let now = Instant::now();
        let mut log = self.lock();
        let is_due = log.is_due(next_step, now);
        let failure = log.current.get_or_insert_with(|| OngoingFailure {
            since: now,
            is_logged: false,
            error: String::new(),
        });
        failure.error = error;
        failure.is_logged |= is_due;
        if is_due {
            let (kind, error) = (self.kind.plural(), failure.error.as_str());
            let server = self.shared.server();
            let server = server.as_deref();
            let for_secs = now.duration_since(failure.since).as_secs();
            if self.is_synced.load(Relaxed) {
                tracing::warn!(
                    kind,
                    server,
                    error,
                    for_secs,
                    next_step,
                    "cannot update objects; the last state is served"
                );
            } else {
                tracing::warn!(kind, server, error, for_secs, next_step, "cannot read objects yet");
            }
            log.logged = Some(now);
            next_step.clone_into(&mut log.next_step);
        } else {
            tracing::debug!(kind = self.kind.plural(), error = failure.error, "still failing");
        }
        self.has_failure.store(true, Relaxed);
        self.shared.changed.notify_waiters();
    }

    /// The state no longer matches the source and is listed again. This is rare and always logged.
    pub(crate) fn outdated(&self, error: String) {
        self.failures.fetch_add(1, Relaxed);
        let now = Instant::now();
        let (kind, server) = (self.kind.plural(), self.shared.server());
        let server = server.as_deref();
        tracing::warn!(
            kind,
            server,
            error,
            "the last state is outdated; listing all objects again"
        );
        let mut log = self.lock();
        let since = log.current.as_ref().map_or(now, |failure| failure.since);
        log.current = Some(OngoingFailure { since, is_logged: true, error });
        log.logged = Some(now);
        self.has_failure.store(true, Relaxed);
        self.shared.changed.notify_waiters();
    }

    /// The state is up to date as far as can be known: ends the failure, if there was one.
    pub(crate) fn recovered(&self) {
        if !self.has_failure.swap(false, Relaxed) {
            return;
        }
        self.confirm();
        let failure = self.lock().current.take();
        if let Some(OngoingFailure { since, is_logged: true, .. }) = failure {
            let after_secs = since.elapsed().as_secs();
            tracing::info!(kind = self.kind.plural(), after_secs, "up to date again");
        }
    }

    /// At least 1, because zero means never.
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    fn lock(&self) -> MutexGuard<'_, FailureLog> {
        lock(&self.failure_log)
    }
}

/// The state stays readable if another thread panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_changes_is_logged_soon() {
        let logged = Instant::now();
        let log =
            FailureLog { logged: Some(logged), next_step: "a".into(), ..FailureLog::default() };
        for (next_step, secs, expected) in
            [("a", 59, false), ("a", 60, true), ("b", 4, false), ("b", 5, true)]
        {
            let now = logged + Duration::from_secs(secs);
            assert_eq!(log.is_due(next_step, now), expected, "{next_step} after {secs} s");
        }
        assert!(FailureLog::default().is_due("a", logged));
    }

    #[test]
    fn another_kind_of_list_is_logged_once_in_an_outage() {
        let logged = Instant::now();
        let after = |secs| logged + Duration::from_secs(secs);
        assert!(FailureLog::default().is_fallback_due(logged));
        let mut log = FailureLog { fallback_logged: Some(logged), ..FailureLog::default() };
        assert!(!log.is_fallback_due(after(59)), "a flapping source");
        assert!(log.is_fallback_due(after(60)));
        let error = "not found".to_owned();
        log.current = Some(OngoingFailure { since: logged, is_logged: true, error });
        assert!(!log.is_fallback_due(after(60)), "the same outage");
    }
}
