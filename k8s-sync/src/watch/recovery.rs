//! What to do when a watch fails: a state machine without a clock, a socket or kube.
//!
//! It is told what one kind's stream gave and answers what to do next. Its two promises: whatever fails, it is tried again
//! within seconds, and what needs no fresh list (a connection that broke) gets none.

use std::time::{Duration, Instant};

/// Longest pause between attempts, unless the server asked for a longer one. (client-go's grows to 30 s and more: CoreDNS
/// needs 29 s to become ready after an API server that was away for 10 s.)
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(1500);
/// The same where the server has understood and refused (401, 403): only an operator can change that.
pub(super) const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest pause before a list that follows another one: lists are what costs the server most.
pub(super) const LIST_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest pause that a server may ask for with Retry-After.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// A stream that has been quiet about errors for this long is healthy: what failed before is forgotten.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// A streaming list that is not complete by then never will be: the server knows the request but not the bookmark.
pub(super) const STREAMING_LIST_MAX: Duration = Duration::from_secs(60);
/// The same for a paged list, whose pages each have the client's own time limits.
const PAGED_LIST_MAX: Duration = Duration::from_secs(600);
/// A full list finds what a watch has silently lost; the pause is jittered between these.
pub(super) const RELIST_MIN: Duration = Duration::from_secs(15 * 60);
pub(super) const RELIST_MAX: Duration = Duration::from_secs(30 * 60);
/// Refusals in a row after which a watch is not resumed but begun anew (kube issue 1042: its watcher would resume for ever).
const RESUMES_REFUSED_MAX: u32 = 3;

/// How the initial list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// `sendInitialEvents=true`: the list comes as the beginning of the watch, object by object.
    Streaming,
    /// LIST in pages, then a watch. Every API server has it.
    Paged,
}

impl Strategy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Streaming => "streaming list",
            Self::Paged => "paged list",
        }
    }
}

/// What a stream gave. Objects are not told: they change nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    ListBegins,
    ListComplete,
    Failed(Failure),
    /// `Recovery::deadline` has passed.
    DeadlinePassed,
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
    /// Keep the stream: it resumes where it was, after this pause.
    Continue(Duration),
    /// Drop the stream, pause, and begin a new one, which lists as `Recovery::strategy` says.
    Restart(Restart),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restart {
    pub(super) pause: Duration,
    /// With a new client, which reads the credentials anew.
    pub(super) is_client_renewed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requested, nothing received.
    Starting,
    Listing,
    /// Listed; changes follow.
    Live,
}

/// One kind's state.
#[derive(Debug)]
pub(super) struct Recovery {
    strategy: Strategy,
    /// The server takes no streaming lists: known because a paged one worked where a streaming one had not.
    is_paged_only: bool,
    has_fallen_back: bool,
    phase: Phase,
    deadline: Instant,
    /// Failures in a row, and until when one counts as following the last.
    failures: u32,
    follows_until: Instant,
    resumes_refused: u32,
    /// Lists in a row that did not last, and until when one counts as following the last.
    lists: u32,
    lists_follow_until: Instant,
}

impl Recovery {
    /// `is_paged_only`: what another kind has found out about this server.
    pub(super) fn new(is_paged_only: bool, now: Instant) -> Self {
        Self {
            strategy: if is_paged_only { Strategy::Paged } else { Strategy::Streaming },
            is_paged_only,
            has_fallen_back: false,
            phase: Phase::Starting,
            deadline: now + STREAMING_LIST_MAX,
            failures: 0,
            follows_until: now,
            resumes_refused: 0,
            lists: 0,
            lists_follow_until: now,
        }
    }

    pub(super) fn strategy(&self) -> Strategy {
        self.strategy
    }

    pub(super) fn is_paged_only(&self) -> bool {
        self.is_paged_only
    }

    /// Listed, and kept up to date by a watch.
    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// When to tell `DeadlinePassed`, if nothing else has been observed by then.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// `random`: 0 up to 1, fresh for each call.
    pub(super) fn observe(&mut self, what: Observation, now: Instant, random: f64) -> Next {
        match (what, self.phase) {
            // kube begins again by itself, silently, where the server cut a streaming list short.
            (Observation::ListBegins, Phase::Listing) => {
                self.list_failed(Failure::Refused, now, random)
            }
            (Observation::ListBegins, Phase::Starting | Phase::Live) => {
                self.phase = Phase::Listing;
                Next::Continue(Duration::ZERO)
            }
            (Observation::ListComplete, _) => {
                self.phase = Phase::Live;
                self.is_paged_only |= self.has_fallen_back;
                self.resumes_refused = 0;
                let spread = RELIST_MAX - RELIST_MIN;
                self.deadline = now + RELIST_MIN + spread.mul_f64(random);
                Next::Continue(Duration::ZERO)
            }
            (Observation::Failed(failure), Phase::Starting | Phase::Listing) => {
                self.list_failed(failure, now, random)
            }
            (Observation::Failed(failure), Phase::Live) => self.watch_failed(failure, now, random),
            (Observation::DeadlinePassed, Phase::Starting | Phase::Listing) => {
                self.list_failed(Failure::Refused, now, random)
            }
            (Observation::DeadlinePassed, Phase::Live) => self.restart(Duration::ZERO, false, now),
        }
    }

    /// A list did not complete. What was received of it is void.
    fn list_failed(&mut self, failure: Failure, now: Instant, random: f64) -> Next {
        let pause = self.pause(failure, now, random);
        let is_strategy_doubted = match failure {
            Failure::Refused | Failure::Expired => !self.is_paged_only,
            // A paged list would meet the same.
            Failure::Unreachable
            | Failure::Unauthorized
            | Failure::Forbidden
            | Failure::Throttled(_) => false,
        };
        if !is_strategy_doubted {
            return self.restart(pause, failure == Failure::Unauthorized, now);
        }
        match self.strategy {
            Strategy::Streaming => {
                self.strategy = Strategy::Paged;
                self.has_fallen_back = true;
                self.restart(Duration::ZERO, false, now)
            }
            // Neither works: the fault is not the strategy's.
            Strategy::Paged => {
                self.strategy = Strategy::Streaming;
                self.has_fallen_back = false;
                self.restart(pause, false, now)
            }
        }
    }

    /// A complete list is being kept up to date by a watch, and that failed.
    fn watch_failed(&mut self, failure: Failure, now: Instant, random: f64) -> Next {
        let is_in_a_row = now <= self.follows_until;
        let pause = self.pause(failure, now, random);
        match failure {
            Failure::Unreachable | Failure::Throttled(_) => Next::Continue(pause),
            Failure::Expired => {
                let pause = self.list_pause(now, random);
                self.restart(pause, false, now)
            }
            Failure::Unauthorized => self.restart(pause, true, now),
            Failure::Forbidden | Failure::Refused => {
                self.resumes_refused = if is_in_a_row { self.resumes_refused + 1 } else { 1 };
                if self.resumes_refused < RESUMES_REFUSED_MAX {
                    Next::Continue(pause)
                } else {
                    self.restart(pause, false, now)
                }
            }
        }
    }

    fn restart(&mut self, pause: Duration, is_client_renewed: bool, now: Instant) -> Next {
        self.phase = Phase::Starting;
        self.resumes_refused = 0;
        let list_max = match self.strategy {
            Strategy::Streaming => STREAMING_LIST_MAX,
            Strategy::Paged => PAGED_LIST_MAX,
        };
        self.deadline = now + pause + list_max;
        Next::Restart(Restart { pause, is_client_renewed })
    }

    /// Doubles with each failure in a row, jittered by half of it, and comes on top of what the server asked for: those whom
    /// it asked at the same time do not come back at the same time.
    fn pause(&mut self, failure: Failure, now: Instant, random: f64) -> Duration {
        if now > self.follows_until {
            self.failures = 0;
        }
        let (pause_max, asked_for) = match failure {
            Failure::Unauthorized | Failure::Forbidden => (REFUSED_PAUSE_MAX, Duration::ZERO),
            Failure::Throttled(retry_after) => (PAUSE_MAX, retry_after.min(RETRY_AFTER_MAX)),
            Failure::Unreachable | Failure::Expired | Failure::Refused => {
                (PAUSE_MAX, Duration::ZERO)
            }
        };
        let pause = asked_for + jittered_pause(self.failures, pause_max, random);
        self.failures = self.failures.saturating_add(1);
        self.follows_until = now + pause + HEALTHY_AFTER;
        pause
    }

    /// At once where the last list has lasted, else with growing distance.
    fn list_pause(&mut self, now: Instant, random: f64) -> Duration {
        if now > self.lists_follow_until {
            self.lists = 0;
        }
        let pause = match self.lists {
            0 => Duration::ZERO,
            lists => jittered_pause(lists, LIST_PAUSE_MAX, random),
        };
        self.lists = self.lists.saturating_add(1);
        self.lists_follow_until = now + pause + HEALTHY_AFTER;
        pause
    }
}

fn jittered_pause(failures: u32, pause_max: Duration, random: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.min(16));
    doubled.min(pause_max).mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests;
