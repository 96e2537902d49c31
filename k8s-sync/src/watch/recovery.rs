//! Decides how to go on when a watch fails or is silent: a state machine without a clock, a socket
//! or kube.
//!
//! It gets observations of the list-watch of one kind and returns the next action. It guarantees
//! three things: every failure is retried within seconds; a failure that needs no new list, such as
//! a broken connection, causes none; and a kind is current only if the server has been seen at the
//! watched resource version or a later one.

pub(super) mod backoff;
mod next;
mod observation;
mod strategy;

use std::time::{Duration, Instant};

use backoff::Backoff;
pub(super) use next::{Next, Retry};
pub(super) use observation::{ComparisonResult, Failure, Observation, ProbeResult};
pub(super) use strategy::Strategy;

/// Deadline of a list. Each of its requests also has the client's own timeouts.
const LIST_MAX: Duration = Duration::from_secs(600);
/// Range of the jittered interval between comparisons with the server, which find changes that a
/// watch has silently lost. If one is not possible, a full list takes its place.
pub(super) const COMPARE_MIN: Duration = Duration::from_secs(15 * 60);
pub(super) const COMPARE_MAX: Duration = Duration::from_secs(30 * 60);
/// Interval until the next full list after one that failed while the watch worked, after an
/// unreadable event, and while no watch can be started although lists may work; and until the next
/// comparison after one that failed.
pub(super) const RELIST_SOON: Duration = Duration::from_secs(60);
/// Consecutive silences after which a watch is distrusted if the server has made progress:
/// something may hold back the stream.
const SILENCES_MAX: u32 = 2;
/// Consecutive comparisons without a result after which a full list replaces them.
const FRUITLESS_COMPARISONS_MAX: u32 = 3;
/// Consecutive refusals after which a watch is replaced by a list instead of resumed.
const RESUMES_REFUSED_MAX: u32 = 3;

/// How long the server is asked to keep a watch open. It ends the watch after this time and sends a
/// bookmark 2 s before. So a working connection gives a sign of life this often, at the cost of one
/// small request.
pub(super) const WATCH_MAX: Duration = Duration::from_secs(20);
/// A watch that is silent for longer is resumed on a new connection: its connection is dead, or the
/// server ignores `WATCH_MAX`. Less than 30 s, when CoreDNS begins to suspect a connection.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(24);
/// A watch that starts this soon after the version was verified needs no probe.
pub(super) const VERIFIED_MAX: Duration = Duration::from_secs(5);
/// Minimum interval between two probes. A probe is a `limit=1` list of one kind, which reads one
/// object.
pub(super) const PROBE_PAUSE: Duration = Duration::from_secs(5);
/// A watch shorter than this delays the next one, so that a server that ends each watch at once
/// does not cause a busy loop.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// After consecutive failures, a client of at least this age is replaced, which reads credentials
/// and certificates again. The failure does not show whether new files would help: a balancer that
/// terminates TLS rejects a certificate with an alert, a closed connection, a 400 or a 403.
pub(super) const RENEW_AFTER: Duration = Duration::from_secs(15);
/// Maximum of `RENEW_AFTER`, which doubles while new clients do not help. Each new client may run a
/// plugin.
const RENEW_AFTER_MAX: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Listing,
    /// Listed. A watch has been requested.
    Resuming,
    /// Receiving changes.
    Watching,
}

/// The state of one kind.
#[derive(Debug)]
pub(super) struct Recovery {
    strategy: Strategy,
    /// The next list has to be as of now: what was received before is lost or is ahead of the
    /// server's cache. Otherwise a server with an old cache could send the same outdated list for
    /// ever.
    is_newest_needed: bool,
    phase: Phase,
    /// The list has a version to watch from.
    is_resumable: bool,
    /// If the current list fails, a watch from the last version follows instead of another list.
    /// Only for lists that the watch may not need.
    is_watch_kept: bool,
    /// Judged by the last failure and the last verification only.
    is_current: bool,
    /// A change since the last list was lost, or its event was unreadable.
    has_gap: bool,
    /// The watch was silent while the server made progress, and has sent nothing since.
    is_held_back: bool,
    /// Deadline of the current list.
    list_by: Instant,
    compare_at: Instant,
    /// A comparison runs.
    is_comparing: bool,
    began_at: Instant,
    received_at: Instant,
    /// When the server was last seen at our version or a later one, unless something failed since.
    verified_at: Option<Instant>,
    /// When to send the next probe.
    probe_at: Option<Instant>,
    probed_at: Option<Instant>,
    client_since: Instant,
    /// Consecutive new clients that did not end the failures. Those for a 401 do not count.
    renewals: u32,
    /// Since when no watch could be started.
    unwatched_since: Option<Instant>,
    silences: u32,
    fruitless_comparisons: u32,
    resumes_refused: u32,
    backoff: Backoff,
}

impl Recovery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            strategy: Strategy::Cached,
            is_newest_needed: false,
            phase: Phase::Listing,
            is_resumable: true,
            is_watch_kept: false,
            is_current: false,
            has_gap: false,
            is_held_back: false,
            list_by: now + LIST_MAX,
            compare_at: now + COMPARE_MAX,
            is_comparing: false,
            began_at: now,
            received_at: now,
            verified_at: None,
            probe_at: None,
            probed_at: None,
            client_since: now,
            renewals: 0,
            unwatched_since: None,
            silences: 0,
            fruitless_comparisons: 0,
            resumes_refused: 0,
            backoff: Backoff::new(now),
        }
    }

    pub(super) fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// A complete list is being received.
    pub(super) fn is_listing(&self) -> bool {
        self.phase == Phase::Listing
    }

    /// Listed, kept up to date by a watch, and not known or suspected to be behind the server.
    pub(super) fn is_current(&self) -> bool {
        self.is_current && !self.has_gap && !self.is_held_back
    }

    /// Something between the server and us is known to hold back the watch.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// When to observe `DeadlinePassed` if nothing else happens before.
    pub(super) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Listing => self.list_by,
            // The client limits the time of its requests.
            Phase::Resuming => self.compare_at,
            Phase::Watching => {
                let due = self.compare_at.min(self.received_at + SILENCE_MAX);
                self.probe_at.map_or(due, |at| due.min(at))
            }
        }
    }

    /// An object or a bookmark has been received.
    pub(super) fn received(&mut self, now: Instant) {
        self.received_at = now;
        self.silences = 0;
        if self.phase == Phase::Watching {
            self.is_held_back = false;
        }
        if self.verified_at.is_some() {
            self.verified_at = Some(now);
        }
    }

    /// `random`: in 0..1, new for each call.
    pub(super) fn observe(&mut self, what: Observation, now: Instant, random: f64) -> Next {
        match (what, self.phase) {
            (Observation::ListComplete { is_resumable }, _) => {
                self.listed(is_resumable, now, random)
            }
            (Observation::WatchBegins, _) => self.watch_began(now),
            (Observation::WatchEnds, _) => self.watch_ended(now, random),
            (Observation::Unreadable, _) => {
                self.has_gap = true;
                self.compare_at = self.compare_at.min(now + RELIST_SOON);
                Next::Continue
            }
            (Observation::Probed(probe), _) => self.probed(probe, now, random),
            (Observation::Compared(compared), _) => self.compared(compared, now, random),
            (Observation::Failed(failure), Phase::Listing) => {
                self.list_failed(failure, now, random)
            }
            (Observation::Failed(failure), Phase::Resuming | Phase::Watching) => {
                self.watch_failed(failure, now, random)
            }
            (Observation::DeadlinePassed, Phase::Listing) => {
                self.list_failed(Failure::Refused, now, random)
            }
            (Observation::DeadlinePassed, Phase::Resuming | Phase::Watching) => {
                self.deadline_passed(now, random)
            }
        }
    }

    fn listed(&mut self, is_resumable: bool, now: Instant, random: f64) -> Next {
        self.fruitless_comparisons = 0;
        self.schedule_comparison(now, random);
        self.is_resumable = is_resumable;
        (self.is_watch_kept, self.has_gap) = (false, false);
        self.is_newest_needed = false;
        self.verified_at = Some(now);
        self.strategy = Strategy::Cached;
        (self.phase, self.unwatched_since) = (Phase::Resuming, Some(now));
        Next::Continue
    }

    fn watch_began(&mut self, now: Instant) -> Next {
        self.phase = Phase::Watching;
        self.unwatched_since = None;
        (self.began_at, self.received_at) = (now, now);
        if !self.is_resumable || self.verified_at.is_some_and(|at| now - at <= VERIFIED_MAX) {
            self.is_current = true;
        } else {
            self.probe_at = Some(self.probed_at.map_or(now, |at| now.max(at + PROBE_PAUSE)));
            self.verified_at = None;
        }
        Next::Continue
    }

    fn watch_ended(&mut self, now: Instant, random: f64) -> Next {
        self.silences = 0;
        let pause = if now - self.began_at < SHORT_WATCH {
            self.backoff.pause(Failure::Refused, now, random)
        } else {
            Duration::ZERO
        };
        self.resume(Retry { pause, is_client_renewed: false }, now, random)
    }

    /// A deadline while no list is being received: the next full list, the next probe, or a silent
    /// watch.
    fn deadline_passed(&mut self, now: Instant, random: f64) -> Next {
        if now >= self.compare_at {
            // An earlier comparison without a result: the watch never reaches the server's version.
            if self.is_comparing || self.has_gap || !self.is_resumable {
                return self.list_again(now);
            }
            self.is_comparing = true;
            self.schedule_comparison(now, random);
            return Next::Compare;
        }
        if self.probe_at.is_some_and(|at| now >= at) {
            (self.probe_at, self.probed_at) = (None, Some(now));
            return Next::Probe;
        }
        self.silences += 1;
        self.resume(Retry { pause: Duration::ZERO, is_client_renewed: false }, now, random)
    }

    fn compared(&mut self, compared: ComparisonResult, now: Instant, random: f64) -> Next {
        self.is_comparing = false;
        match compared {
            ComparisonResult::Same => {
                self.fruitless_comparisons = 0;
                self.schedule_comparison(now, random);
            }
            ComparisonResult::Lost(_) => {
                (self.is_newest_needed, self.has_gap) = (true, true);
                return self.list_again(now);
            }
            // The server does not have such lists.
            ComparisonResult::Failed(
                Failure::Forbidden | Failure::Refused | Failure::Faulty | Failure::Expired,
            ) => return self.list_again(now),
            ComparisonResult::Failed(Failure::Throttled(pause)) => {
                self.compare_at = now + pause.clamp(RELIST_SOON, COMPARE_MAX);
            }
            ComparisonResult::Unclear
            | ComparisonResult::Failed(
                Failure::Unreachable | Failure::Unauthorized | Failure::Behind,
            ) => {
                self.fruitless_comparisons += 1;
                if self.fruitless_comparisons >= FRUITLESS_COMPARISONS_MAX {
                    return self.list_again(now);
                }
                self.compare_at = now + RELIST_SOON;
            }
        }
        Next::Continue
    }

    fn schedule_comparison(&mut self, now: Instant, random: f64) {
        self.compare_at = now + COMPARE_MIN + (COMPARE_MAX - COMPARE_MIN).mul_f64(random);
    }

    /// A list that the watch does not need: it works, and is resumed if the list fails.
    fn list_again(&mut self, now: Instant) -> Next {
        // It stays due until a list is complete.
        (self.compare_at, self.is_watch_kept) = (now, self.is_resumable);
        self.list(Retry { pause: Duration::ZERO, is_client_renewed: false }, now)
    }

    fn probed(&mut self, probe: ProbeResult, now: Instant, random: f64) -> Next {
        match probe {
            ProbeResult::Ahead if self.silences >= SILENCES_MAX => {
                (self.is_held_back, self.silences) = (true, 0);
                let pause = self.backoff.list_pause(now, random);
                self.list(Retry { pause, is_client_renewed: false }, now)
            }
            // A server that rejects probes has no version to compare, so the watch is trusted.
            ProbeResult::Equal
            | ProbeResult::Ahead
            | ProbeResult::Failed(Failure::Forbidden | Failure::Refused | Failure::Expired) => {
                self.is_current = true;
                self.verified_at = Some(now);
                Next::Continue
            }
            ProbeResult::WentBack => {
                self.is_current = false;
                self.is_newest_needed = true;
                let pause = self.backoff.list_pause(now, random);
                self.list(Retry { pause, is_client_renewed: false }, now)
            }
            ProbeResult::Failed(failure) => {
                let retry = self.retry(failure, now, random);
                self.is_current = false;
                self.probe_at = Some(now + retry.pause.max(PROBE_PAUSE));
                if retry.is_client_renewed {
                    self.resume(retry, now, random)
                } else {
                    Next::Continue
                }
            }
        }
    }

    /// A list did not complete. What was received of it is discarded.
    fn list_failed(&mut self, failure: Failure, now: Instant, random: f64) -> Next {
        let is_in_a_row = self.backoff.is_in_a_row(now);
        let retry = self.retry(failure, now, random);
        let (strategy, is_due) = self.strategy.after(failure);
        self.strategy = strategy;
        if failure == Failure::Behind {
            self.is_newest_needed = true;
        }
        if failure == Failure::Unreachable && is_in_a_row {
            self.alternate_strategy();
        }
        if is_due {
            return self.list(Retry { pause: Duration::ZERO, ..retry }, now);
        }
        self.is_current = false;
        // Only for this list: the next one may follow a 410, which no watch cures.
        if std::mem::take(&mut self.is_watch_kept) {
            let (list_pause, retry) = match failure {
                // Only the list is throttled, so the watch need not wait.
                Failure::Throttled(_) => (retry.pause, Retry { pause: Duration::ZERO, ..retry }),
                Failure::Unreachable
                | Failure::Unauthorized
                | Failure::Forbidden
                | Failure::Expired
                | Failure::Behind
                | Failure::Refused
                | Failure::Faulty => (Duration::ZERO, retry),
            };
            let soon = now + list_pause.max(RELIST_SOON);
            self.compare_at = match failure {
                // In an outage, only a list that was due anyway is owed. Otherwise all replicas
                // would list everything as the server comes back.
                Failure::Unreachable => self.compare_at.max(soon),
                Failure::Throttled(_)
                | Failure::Unauthorized
                | Failure::Forbidden
                | Failure::Expired
                | Failure::Behind
                | Failure::Refused
                | Failure::Faulty => soon,
            };
            return self.resume(retry, now, random);
        }
        self.list(retry, now)
    }

    /// The watch of a complete list failed.
    fn watch_failed(&mut self, failure: Failure, now: Instant, random: f64) -> Next {
        let is_in_a_row = self.backoff.is_in_a_row(now);
        let retry = self.retry(failure, now, random);
        (self.is_current, self.verified_at) = (false, None);
        let is_list_due = match failure {
            Failure::Unreachable => {
                let since = *self.unwatched_since.get_or_insert(now);
                if now - since >= RELIST_SOON {
                    (self.unwatched_since, self.is_watch_kept) = (None, self.is_resumable);
                    return self.list(retry, now);
                }
                false
            }
            Failure::Throttled(_) | Failure::Unauthorized => false,
            Failure::Expired => true,
            Failure::Forbidden | Failure::Refused | Failure::Faulty | Failure::Behind => {
                self.resumes_refused = if is_in_a_row { self.resumes_refused + 1 } else { 1 };
                self.resumes_refused >= RESUMES_REFUSED_MAX
            }
        };
        if is_list_due {
            let pause = self.backoff.list_pause(now, random);
            // The version of the last list may be too old as well: the cache lags behind.
            if failure == Failure::Behind || (failure == Failure::Expired && !pause.is_zero()) {
                self.is_newest_needed = true;
            }
            self.list(Retry { pause, ..retry }, now)
        } else {
            self.resume(retry, now, random)
        }
    }

    /// No response: the server may be down, or a proxy lets short responses through but no long
    /// ones.
    fn alternate_strategy(&mut self) {
        self.strategy = match self.strategy {
            Strategy::Cached => Strategy::Paged,
            Strategy::Paged | Strategy::Whole => Strategy::Cached,
        };
    }

    fn resume(&mut self, retry: Retry, now: Instant, random: f64) -> Next {
        if self.is_resumable {
            (self.phase, self.probe_at) = (Phase::Resuming, None);
            return Next::Resume(retry);
        }
        // Only a list shows what was deleted in between.
        let has_lasted = now - self.began_at >= WATCH_MAX;
        let pause = if has_lasted { Duration::ZERO } else { self.backoff.list_pause(now, random) };
        self.list(Retry { pause: retry.pause.max(pause), ..retry }, now)
    }

    fn list(&mut self, retry: Retry, now: Instant) -> Next {
        if self.strategy == Strategy::Cached && self.is_newest_needed {
            self.strategy = Strategy::Paged;
        }
        self.is_comparing = false;
        (self.phase, self.probe_at, self.verified_at) = (Phase::Listing, None, None);
        self.list_by = now + retry.pause + LIST_MAX;
        Next::List(retry)
    }

    fn retry(&mut self, failure: Failure, now: Instant, random: f64) -> Retry {
        let is_in_a_row = self.backoff.is_in_a_row(now);
        if !is_in_a_row {
            self.renewals = 0;
        }
        let is_client_renewed = match failure {
            Failure::Unauthorized => true,
            Failure::Unreachable | Failure::Forbidden | Failure::Refused | Failure::Faulty => {
                let age = RENEW_AFTER.saturating_mul(1 << self.renewals.min(16));
                let is_old = now - self.client_since >= age.min(RENEW_AFTER_MAX);
                self.renewals += u32::from(is_in_a_row && is_old);
                is_in_a_row && is_old
            }
            Failure::Expired | Failure::Behind | Failure::Throttled(_) => false,
        };
        if is_client_renewed {
            self.client_since = now;
        }
        Retry { pause: self.backoff.pause(failure, now, random), is_client_renewed }
    }
}

#[cfg(test)]
mod tests;
