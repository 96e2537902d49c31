//! How the sources of events are doing: written where objects are read, read by /ready, /metrics and the log.
//!
//! One `SourceStatus` per `kubernetes` block, shared by `Arc`. Counters are atomics; what belongs together changes under a
//! lock that is taken on changes of state only, never for an event. Each change of state is one log line, written here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::FaultLog;
use crate::options::Options;
use crate::raw::Kind;

/// A trouble that stays is logged again after this long.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// Whether answers depend on objects of this kind.
#[must_use]
pub fn is_wanted(options: &Options, kind: Kind) -> bool {
    match kind {
        Kind::Namespace | Kind::Service => true,
        Kind::EndpointSlice => !options.no_endpoints,
        Kind::Pod => options.pods == wire::kubernetes::PodMode::Verified,
    }
}

/// The state of each kind that a source reads.
#[derive(Debug)]
pub struct SourceStatus {
    kinds: [KindStatus; Kind::ALL.len()],
    server: Arc<CurrentServer>,
}

/// The API server that is asked. Empty: none is, or not yet.
#[derive(Debug, Default)]
struct CurrentServer(Mutex<Arc<str>>);

/// One kind's state.
#[derive(Debug)]
pub struct KindStatus {
    kind: Kind,
    server: Arc<CurrentServer>,
    began: Instant,
    is_wanted: bool,
    is_synced: AtomicBool,
    /// Milliseconds after `began`, plus one; zero: never.
    contact_ms: AtomicU64,
    lists: AtomicU64,
    failures: AtomicU64,
    /// What was odd in the objects.
    pub(crate) faults: FaultLog,
    has_trouble: AtomicBool,
    trouble: Mutex<FailureLog>,
}

#[derive(Debug, Default)]
struct FailureLog {
    /// Now, if there is one.
    trouble: Option<OngoingFailure>,
    /// When the last one was logged.
    logged: Option<Instant>,
}

#[derive(Debug)]
struct OngoingFailure {
    since: Instant,
    /// Whether the log knows of it, so that its end is worth a line.
    is_logged: bool,
    error: String,
}

/// What /ready and /metrics say about one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindReport {
    pub kind: Kind,
    /// Listed completely at least once. Never taken back.
    pub is_synced: bool,
    /// The trouble that keeps it from being up to date now, in words. `None`: up to date.
    pub error: Option<String>,
    /// Since the source last said anything, if only that nothing has changed: at most 25 s where all is well. `None`: never yet.
    pub since_contact: Option<Duration>,
    /// Complete lists: the first, those after an outage, and the periodic ones.
    pub lists: u64,
    /// Requests or files that failed.
    pub failures: u64,
    /// Objects that were refused, each time they were read.
    pub refused: u64,
    /// Odd parts of objects that were not, likewise.
    pub odd_parts: u64,
}

impl SourceStatus {
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let began = Instant::now();
        let server = Arc::<CurrentServer>::default();
        let kinds = Kind::ALL.map(|kind| KindStatus {
            kind,
            server: Arc::clone(&server),
            began,
            is_wanted: is_wanted(options, kind),
            is_synced: AtomicBool::new(false),
            contact_ms: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            faults: FaultLog::new(),
            has_trouble: AtomicBool::new(false),
            trouble: Mutex::default(),
        });
        Self { kinds, server }
    }

    /// Whom the requests go to from now on, for the log and /ready.
    pub(crate) fn asks(&self, server: String) {
        *self.server.0.lock().unwrap_or_else(PoisonError::into_inner) = server.into();
    }

    #[must_use]
    pub fn kind(&self, kind: Kind) -> &KindStatus {
        &self.kinds[kind as usize]
    }

    /// The kinds that this source reads.
    pub fn wanted(&self) -> impl Iterator<Item = &KindStatus> {
        self.kinds.iter().filter(|status| status.is_wanted)
    }

    /// Whether every kind has been listed completely once. Events may still be on their way through the channel.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.wanted().all(|status| status.is_synced.load(Relaxed))
    }

    #[must_use]
    pub fn reports(&self) -> Vec<KindReport> {
        self.wanted().map(KindStatus::report).collect()
    }
}

impl CurrentServer {
    fn name(&self) -> Option<Arc<str>> {
        let name = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Some(name).filter(|name| !name.is_empty())
    }
}

impl KindStatus {
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    #[must_use]
    pub fn report(&self) -> KindReport {
        let contact_ms = self.contact_ms.load(Relaxed);
        let now_ms = self.now_ms();
        KindReport {
            kind: self.kind,
            is_synced: self.is_synced.load(Relaxed),
            error: self.lock().trouble.as_ref().map(|trouble| match self.server.name() {
                Some(server) => format!("{server}: {}", trouble.error),
                None => trouble.error.clone(),
            }),
            since_contact: (contact_ms != 0)
                .then(|| Duration::from_millis(now_ms.saturating_sub(contact_ms))),
            lists: self.lists.load(Relaxed),
            failures: self.failures.load(Relaxed),
            refused: self.faults.refused_count(),
            odd_parts: self.faults.part_count(),
        }
    }

    /// The source said something, if only that nothing has changed.
    pub(crate) fn contact(&self) {
        self.contact_ms.store(self.now_ms(), Relaxed);
    }

    /// A list of `objects` is complete. Whether it is kept up to date is another question.
    pub(crate) fn listed(&self, objects: u64, took: Duration, how: &'static str) {
        self.contact();
        self.lists.fetch_add(1, Relaxed);
        let kind = self.kind.plural();
        if self.is_synced.swap(true, Relaxed) {
            tracing::debug!(kind, objects, ?took, how, "listed again");
        } else {
            tracing::info!(kind, objects, ?took, how, "synced");
        }
    }

    /// The files have been read.
    pub(crate) fn loaded(&self) {
        self.contact();
        self.recovered();
        self.lists.fetch_add(1, Relaxed);
        self.is_synced.store(true, Relaxed);
    }

    /// A trouble that the caller logs.
    pub(crate) fn trouble(&self, error: String) {
        self.failures.fetch_add(1, Relaxed);
        let mut log = self.lock();
        let since = log.trouble.as_ref().map_or_else(Instant::now, |trouble| trouble.since);
        log.trouble = Some(OngoingFailure { since, is_logged: false, error });
        self.has_trouble.store(true, Relaxed);
    }

    /// The server does not give this kind of list; another one is asked for at once.
    pub(crate) fn fell_back(&self, error: &str, tried: &'static str, next: &'static str) {
        self.failures.fetch_add(1, Relaxed);
        let kind = self.kind.plural();
        tracing::info!(kind, error, "no {tried}; a {next} instead");
    }

    /// `next_step`: what an operator can do about it, logged with the error.
    ///
    /// One line when the trouble begins and one for each minute it lasts; a trouble that comes back within a minute of such
    /// a line waits for that minute, so that a source that flaps cannot flood the log.
    pub(crate) fn failed(&self, error: String, next_step: &str) {
        self.failures.fetch_add(1, Relaxed);
        let now = Instant::now();
        let mut log = self.lock();
        let is_due = log.logged.is_none_or(|at| now.duration_since(at) >= REPEAT_LOG_AFTER);
        let trouble = log.trouble.get_or_insert_with(|| OngoingFailure {
            since: now,
            is_logged: false,
            error: String::new(),
        });
        trouble.error = error;
        trouble.is_logged |= is_due;
        if is_due {
            let (kind, error) = (self.kind.plural(), trouble.error.as_str());
            let server = self.server.name();
            let server = server.as_deref();
            let for_secs = now.duration_since(trouble.since).as_secs();
            if self.is_synced.load(Relaxed) {
                tracing::warn!(
                    kind,
                    server,
                    error,
                    for_secs,
                    next_step,
                    "cut off; the last state is served"
                );
            } else {
                tracing::warn!(kind, server, error, for_secs, next_step, "cannot be read yet");
            }
            log.logged = Some(now);
        } else {
            tracing::debug!(kind = self.kind.plural(), error = trouble.error, "still in trouble");
        }
        self.has_trouble.store(true, Relaxed);
    }

    /// What was read is no longer what the source holds; it is listed again. Rare, and never kept from the log.
    pub(crate) fn outdated(&self, error: String) {
        self.failures.fetch_add(1, Relaxed);
        let now = Instant::now();
        let (kind, server) = (self.kind.plural(), self.server.name());
        let server = server.as_deref();
        tracing::warn!(
            kind,
            server,
            error,
            "the last state is outdated; everything is listed again"
        );
        let mut log = self.lock();
        let since = log.trouble.as_ref().map_or(now, |trouble| trouble.since);
        log.trouble = Some(OngoingFailure { since, is_logged: true, error });
        log.logged = Some(now);
        self.has_trouble.store(true, Relaxed);
    }

    /// What was read is up to date, as far as one can tell: a trouble, if there was one, is over.
    pub(crate) fn recovered(&self) {
        if !self.has_trouble.swap(false, Relaxed) {
            return;
        }
        let trouble = self.lock().trouble.take();
        if let Some(OngoingFailure { since, is_logged: true, .. }) = trouble {
            let after_secs = since.elapsed().as_secs();
            tracing::info!(kind = self.kind.plural(), after_secs, "up to date again");
        }
    }

    /// At least 1, so that zero can stand for never.
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    /// A panic elsewhere leaves a trouble that is still readable.
    fn lock(&self) -> MutexGuard<'_, FailureLog> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
