//! What to do when a watch fails or says nothing: a state machine without a clock, a socket or kube.
//!
//! It is told what one kind's list-watch gave and answers what to do next. Its three promises: whatever fails is tried again
//! within seconds; what needs no fresh list (a connection that broke) gets none; and a kind is current only while the server
//! has been seen at the resource version that is watched from, or beyond it.

mod backoff;
mod strategy;

use std::time::{Duration, Instant};

use backoff::Backoff;
pub(super) use strategy::Strategy;

/// A streaming list that is not complete by then never will be: the server knows the request but not the bookmark.
pub(super) const STREAMING_LIST_MAX: Duration = Duration::from_secs(60);
/// The same for other lists, whose requests each have the client's own time limits.
const LIST_MAX: Duration = Duration::from_secs(600);
/// A full list finds what a watch has silently lost; the pause is jittered between these.
pub(super) const RELIST_MIN: Duration = Duration::from_secs(15 * 60);
pub(super) const RELIST_MAX: Duration = Duration::from_secs(30 * 60);
/// The same after a full list that failed while the watch worked, after an event that could not be read, and while watches
/// cannot be begun: lists may still be answered.
pub(super) const RELIST_SOON: Duration = Duration::from_secs(60);
/// Silences in a row after which a watch is not believed any more if the server has moved on: something may hold back what
/// it sends.
const SILENCES_MAX: u32 = 2;
/// Refusals in a row after which a watch is not resumed but begun anew by a list.
const RESUMES_REFUSED_MAX: u32 = 3;

/// How long the server is asked to keep a watch open. It ends a watch itself then, and sends a bookmark 2 s before: so a
/// connection that still works is heard of this often, for one small request over a connection that stays.
pub(super) const WATCH_MAX: Duration = Duration::from_secs(20);
/// A watch that has been quiet for longer is on a dead connection, or the server ignores `WATCH_MAX`: it is resumed on a new
/// connection. Under 30 s, which is when CoreDNS begins to suspect a connection.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(24);
/// A watch that begins this soon after the server was seen at our version needs no probe.
pub(super) const PROOF_MAX: Duration = Duration::from_secs(5);
/// Least distance between two probes: one `limit=1` list of one kind, which reads one object.
pub(super) const PROBE_PAUSE: Duration = Duration::from_secs(5);
/// A watch that ended sooner than this makes the next one wait, so that a server that ends each at once is not asked in a
/// busy loop.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// A failure that follows another one gets a new client, which reads the credentials and certificates anew, where the client
/// is at least as old as this. Which failures new files could cure cannot be told: a balancer that ends TLS answers a
/// certificate that it does not take with an alert, a closed connection, a 400 or a 403.
pub(super) const RENEW_AFTER: Duration = Duration::from_secs(15);
/// The same where new clients in a row have not helped, each of which may cost a run of a plugin: it
/// doubles up to this.
const RENEW_AFTER_MAX: Duration = Duration::from_secs(45);

/// What a list-watch gave. Objects are told by `Recovery::heard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    ListComplete {
        /// It has a resource version to watch from. Without one a watch begins with all objects and cannot be resumed.
        is_resumable: bool,
    },
    WatchBegins,
    /// The server has ended the watch, as it does sooner or later.
    WatchEnds,
    /// An event whose type or object is unknown: what changed is not known until the next list.
    Unreadable,
    Probed(ProbeResult),
    Failed(Failure),
    /// `Recovery::deadline` has passed.
    DeadlinePassed,
}

/// The server's resource version beside the one that is watched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeResult {
    /// Ours.
    Equal,
    /// Newer, by changes of this kind or of others.
    Ahead,
    /// Older: etcd was restored from a backup. A watch would wait in silence until that version comes round again.
    WentBack,
    Failed(Failure),
}

/// Why a request or a stream failed, as far as it matters to what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer: no route, no listener, TLS, a broken connection.
    Unreachable,
    /// 401: the credentials may have been rotated.
    Unauthorized,
    /// 403: an RBAC rule is missing.
    Forbidden,
    /// 410: the resource version, or the page to continue from, is gone.
    Expired,
    /// 429, or 503 with Retry-After.
    Throttled(Duration),
    /// Any other answer, and any that cannot be read.
    Refused,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Take what comes next.
    Continue,
    /// The same, and ask the server for its resource version.
    Probe,
    /// Drop the watch, pause, and watch from where it was.
    Resume(Retry),
    /// Drop the list or watch, pause, and list as `Recovery::strategy` says.
    List(Retry),
}

impl Next {
    pub(super) fn is_at_once(self) -> bool {
        match self {
            Self::Continue | Self::Probe => true,
            Self::Resume(retry) | Self::List(retry) => retry.pause.is_zero(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) pause: Duration,
    /// With a new client, which reads the credentials anew.
    pub(super) is_client_renewed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Listing,
    /// Listed; a watch is asked for.
    Resuming,
    /// Changes follow.
    Watching,
}

/// One kind's state.
#[derive(Debug)]
pub(super) struct Recovery {
    strategy: Strategy,
    /// The server takes no streaming lists: known because another one worked where a streaming one had not.
    is_paged_only: bool,
    /// The strategy stands in for a streaming list that did not get through, as in an outage: that says nothing of the server.
    is_stand_in: bool,
    phase: Phase,
    /// The list has a version to watch from.
    is_resumable: bool,
    /// The list is a periodic one: the watch before it worked, and may be resumed if the list fails.
    is_watch_kept: bool,
    /// As far as the last failure and the last proof go.
    is_current: bool,
    /// An event could not be read since the last list.
    has_gap: bool,
    /// The watch said nothing while the server moved on, and has not been heard since.
    is_held_back: bool,
    /// When the list that is being read has to be complete.
    list_by: Instant,
    relist_at: Instant,
    began_at: Instant,
    heard_at: Instant,
    /// When the server was last seen at our version or beyond, if nothing has failed since.
    proved_at: Option<Instant>,
    /// When to ask for the server's version.
    probe_at: Option<Instant>,
    probed_at: Option<Instant>,
    client_since: Instant,
    /// New clients in a row that have not ended the failures, those for a 401 left out.
    renewals: u32,
    /// Since when no watch could be begun.
    unreached_since: Option<Instant>,
    silences: u32,
    resumes_refused: u32,
    backoff: Backoff,
}

impl Recovery {
    /// `is_paged_only`: what another kind has found out about this server.
    pub(super) fn new(is_paged_only: bool, now: Instant) -> Self {
        Self {
            strategy: if is_paged_only { Strategy::Paged } else { Strategy::Streaming },
            is_paged_only,
            is_stand_in: false,
            phase: Phase::Listing,
            is_resumable: true,
            is_watch_kept: false,
            is_current: false,
            has_gap: false,
            is_held_back: false,
            list_by: now + STREAMING_LIST_MAX,
            relist_at: now + RELIST_MAX,
            began_at: now,
            heard_at: now,
            proved_at: None,
            probe_at: None,
            probed_at: None,
            client_since: now,
            renewals: 0,
            unreached_since: None,
            silences: 0,
            resumes_refused: 0,
            backoff: Backoff::new(now),
        }
    }

    pub(super) fn strategy(&self) -> Strategy {
        self.strategy
    }

    pub(super) fn is_paged_only(&self) -> bool {
        self.is_paged_only
    }

    /// A complete list is being read anew or for the first time.
    pub(super) fn is_listing(&self) -> bool {
        self.phase == Phase::Listing
    }

    /// Listed, kept up to date by a watch, and the server is not known or feared to be behind it.
    pub(super) fn is_current(&self) -> bool {
        self.is_current && !self.has_gap && !self.is_held_back
    }

    /// Something between the server and us is known to keep back what a watch sends.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// When to tell `DeadlinePassed`, if nothing else has been observed by then.
    pub(super) fn deadline(&self) -> Instant {
        let silent_at = self.heard_at + SILENCE_MAX;
        match (self.phase, self.strategy) {
            (Phase::Listing, Strategy::Streaming) => self.list_by.min(silent_at),
            (Phase::Listing, Strategy::Paged | Strategy::Whole) => self.list_by,
            // Requests have the client's own time limit.
            (Phase::Resuming, _) => self.relist_at,
            (Phase::Watching, _) => {
                let due = self.relist_at.min(silent_at);
                self.probe_at.map_or(due, |at| due.min(at))
            }
        }
    }

    /// An object or a bookmark has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.silences = 0;
        if self.phase == Phase::Watching {
            self.is_held_back = false;
        }
        if self.proved_at.is_some() {
            self.proved_at = Some(now);
        }
    }

    /// `random`: 0 up to 1, fresh for each call.
    pub(super) fn observe(&mut self, what: Observation, now: Instant, random: f64) -> Next {
        match (what, self.phase) {
            (Observation::ListComplete { is_resumable }, _) => {
                self.listed(is_resumable, now, random)
            }
            (Observation::WatchBegins, _) => self.watch_began(now),
            (Observation::WatchEnds, _) => self.watch_ended(now, random),
            // What the list lacks no later event may tell.
            (Observation::Unreadable, Phase::Listing) => {
                self.list_failed(Failure::Refused, now, random)
            }
            (Observation::Unreadable, Phase::Resuming | Phase::Watching) => {
                self.has_gap = true;
                self.relist_at = self.relist_at.min(now + RELIST_SOON);
                Next::Continue
            }
            (Observation::Probed(probe), _) => self.probed(probe, now, random),
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
                self.due(now, random)
            }
        }
    }

    fn listed(&mut self, is_resumable: bool, now: Instant, random: f64) -> Next {
        self.relist_at = now + RELIST_MIN + (RELIST_MAX - RELIST_MIN).mul_f64(random);
        self.is_resumable = is_resumable;
        (self.is_watch_kept, self.has_gap) = (false, false);
        (self.heard_at, self.proved_at) = (now, Some(now));
        match self.strategy {
            Strategy::Streaming => {
                self.resumes_refused = 0;
                self.watch_began(now)
            }
            Strategy::Paged | Strategy::Whole => {
                self.is_paged_only |= !self.is_stand_in;
                self.begin_anew();
                (self.phase, self.unreached_since) = (Phase::Resuming, Some(now));
                Next::Continue
            }
        }
    }

    fn watch_began(&mut self, now: Instant) -> Next {
        self.phase = Phase::Watching;
        self.unreached_since = None;
        if self.is_stand_in {
            self.begin_anew();
        }
        (self.began_at, self.heard_at) = (now, now);
        if !self.is_resumable || self.proved_at.is_some_and(|at| now - at <= PROOF_MAX) {
            self.is_current = true;
        } else {
            self.probe_at = Some(self.probed_at.map_or(now, |at| now.max(at + PROBE_PAUSE)));
            self.proved_at = None;
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

    /// While a list is complete: the next full list, the next probe, or too long a silence.
    fn due(&mut self, now: Instant, random: f64) -> Next {
        if now >= self.relist_at {
            self.is_watch_kept = self.is_resumable;
            return self.list(Retry { pause: Duration::ZERO, is_client_renewed: false }, now);
        }
        if self.probe_at.is_some_and(|at| now >= at) {
            (self.probe_at, self.probed_at) = (None, Some(now));
            return Next::Probe;
        }
        self.silences += 1;
        self.resume(Retry { pause: Duration::ZERO, is_client_renewed: false }, now, random)
    }

    fn probed(&mut self, probe: ProbeResult, now: Instant, random: f64) -> Next {
        match probe {
            ProbeResult::Ahead if self.silences >= SILENCES_MAX => {
                (self.is_held_back, self.silences) = (true, 0);
                let pause = self.backoff.list_pause(now, random);
                self.list(Retry { pause, is_client_renewed: false }, now)
            }
            // A server that does not take the question has no version to compare: the watch is believed.
            ProbeResult::Equal
            | ProbeResult::Ahead
            | ProbeResult::Failed(Failure::Forbidden | Failure::Refused | Failure::Expired) => {
                self.is_current = true;
                self.proved_at = Some(now);
                Next::Continue
            }
            ProbeResult::WentBack => {
                self.is_current = false;
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

    /// A list did not complete. What was received of it is void.
    fn list_failed(&mut self, failure: Failure, now: Instant, random: f64) -> Next {
        let is_in_a_row = self.backoff.is_in_a_row(now);
        let retry = self.retry(failure, now, random);
        let (strategy, is_due) = self.strategy.after(failure, self.first());
        self.strategy = strategy;
        if failure == Failure::Unreachable && is_in_a_row {
            self.take_turns();
        }
        if is_due {
            return self.list(Retry { pause: Duration::ZERO, ..retry }, now);
        }
        self.is_current = false;
        if self.is_watch_kept {
            let (list_pause, retry) = match failure {
                // That was said to the list: the watch has nothing to wait for.
                Failure::Throttled(_) => (retry.pause, Retry { pause: Duration::ZERO, ..retry }),
                Failure::Unreachable
                | Failure::Unauthorized
                | Failure::Forbidden
                | Failure::Expired
                | Failure::Refused => (Duration::ZERO, retry),
            };
            let soon = now + list_pause.max(RELIST_SOON);
            self.relist_at = match failure {
                // An outage: only a list that was due is owed. Else all replicas would list
                // everything as the server comes back.
                Failure::Unreachable => self.relist_at.max(soon),
                Failure::Throttled(_)
                | Failure::Unauthorized
                | Failure::Forbidden
                | Failure::Expired
                | Failure::Refused => soon,
            };
            return self.resume(retry, now, random);
        }
        self.list(retry, now)
    }

    /// A complete list is being kept up to date by a watch, and that failed.
    fn watch_failed(&mut self, failure: Failure, now: Instant, random: f64) -> Next {
        let is_in_a_row = self.backoff.is_in_a_row(now);
        let retry = self.retry(failure, now, random);
        (self.is_current, self.proved_at) = (false, None);
        let is_list_due = match failure {
            Failure::Unreachable => {
                let since = *self.unreached_since.get_or_insert(now);
                if now - since >= RELIST_SOON {
                    (self.unreached_since, self.is_watch_kept) = (None, self.is_resumable);
                    self.avoid_stream();
                    return self.list(retry, now);
                }
                false
            }
            Failure::Throttled(_) | Failure::Unauthorized => false,
            Failure::Expired => true,
            Failure::Forbidden | Failure::Refused => {
                self.resumes_refused = if is_in_a_row { self.resumes_refused + 1 } else { 1 };
                self.resumes_refused >= RESUMES_REFUSED_MAX
            }
        };
        if is_list_due {
            let pause = self.backoff.list_pause(now, random);
            self.list(Retry { pause, ..retry }, now)
        } else {
            self.resume(retry, now, random)
        }
    }

    /// The strategy to begin with.
    fn first(&self) -> Strategy {
        if self.is_paged_only { Strategy::Paged } else { Strategy::Streaming }
    }

    fn begin_anew(&mut self) {
        (self.strategy, self.is_stand_in) = (self.first(), false);
    }

    /// Nothing gets through: the server may be away, or a proxy may let lists through and no streams.
    fn take_turns(&mut self) {
        match self.strategy {
            Strategy::Streaming => self.avoid_stream(),
            Strategy::Paged | Strategy::Whole => self.begin_anew(),
        }
    }

    /// A streaming list is a watch to what stands before the server.
    fn avoid_stream(&mut self) {
        if self.strategy == Strategy::Streaming {
            (self.strategy, self.is_stand_in) = (Strategy::Paged, true);
        }
    }

    fn resume(&mut self, retry: Retry, now: Instant, random: f64) -> Next {
        if self.is_resumable {
            (self.phase, self.probe_at) = (Phase::Resuming, None);
            return Next::Resume(retry);
        }
        // What was deleted meanwhile only a list tells.
        let has_lasted = now - self.began_at >= WATCH_MAX;
        let pause = if has_lasted { Duration::ZERO } else { self.backoff.list_pause(now, random) };
        self.list(Retry { pause: retry.pause.max(pause), ..retry }, now)
    }

    fn list(&mut self, retry: Retry, now: Instant) -> Next {
        let list_max = match self.strategy {
            Strategy::Streaming => STREAMING_LIST_MAX,
            Strategy::Paged | Strategy::Whole => LIST_MAX,
        };
        let begins_at = now + retry.pause;
        (self.phase, self.probe_at, self.proved_at) = (Phase::Listing, None, None);
        (self.heard_at, self.list_by) = (begins_at, begins_at + list_max);
        Next::List(retry)
    }

    fn retry(&mut self, failure: Failure, now: Instant, random: f64) -> Retry {
        let is_in_a_row = self.backoff.is_in_a_row(now);
        if !is_in_a_row {
            self.renewals = 0;
        }
        let is_client_renewed = match failure {
            Failure::Unauthorized => true,
            Failure::Unreachable | Failure::Forbidden | Failure::Refused => {
                let age = RENEW_AFTER.saturating_mul(1 << self.renewals.min(16));
                let is_old = now - self.client_since >= age.min(RENEW_AFTER_MAX);
                self.renewals += u32::from(is_in_a_row && is_old);
                is_in_a_row && is_old
            }
            Failure::Expired | Failure::Throttled(_) => false,
        };
        if is_client_renewed {
            self.client_since = now;
        }
        Retry { pause: self.backoff.pause(failure, now, random), is_client_renewed }
    }
}

#[cfg(test)]
mod tests;
