//! Replaces the thread of a shard that has panicked, ended or hung. The other shards do not notice.
//!
//! The new thread gets copies of the same sockets, so it also answers the queries that wait in
//! them. A thread that hangs cannot be ended from outside. Should it wake up, it finds its channel
//! closed, answers what it had received, leaves the sockets, and ends.
//! Invariant: at most `SHARD_RESTARTS_MAX` restarts of a shard at once, and then one per
//! `SHARD_RESTART_EVERY`; at most `HUNG_THREADS_MAX` threads that hang.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::sync::Notify;

use super::clock::ThreadClock;
use super::mailbox::{Mailbox, Successor};
use super::pulse::{Beat, Pulse};
use super::thread::{ShardParts, ShardThread};
use crate::heart::Heart;
use crate::limits::{HUNG_THREADS_MAX, SHARD_RESTART_EVERY, SHARD_RESTARTS_MAX};
use crate::metrics::ShardRestarts;
use crate::shard::Update;

/// The first restarts of a shard are all logged, then only every 2^n-th.
const RESTARTS_LOGGED: u64 = 10;

fn is_logged(count: u64) -> bool {
    count <= RESTARTS_LOGGED || count.is_power_of_two()
}

/// All shards' threads. Clones share them.
#[derive(Clone)]
pub struct Supervisor(Arc<Mutex<Threads>>);

pub(super) struct Threads {
    members: Vec<Member>,
    /// Threads that were replaced because they hung, and may still hang. Others end by themselves.
    hung: Vec<JoinHandle<()>>,
    trouble: Arc<Notify>,
    is_stopping: bool,
}

/// One shard.
pub(super) struct Member {
    parts: ShardParts,
    mailbox: Mailbox,
    thread: ShardThread,
    pulse: Pulse,
    clock: ThreadClock,
    allowance: Allowance,
    /// Why the thread was or will be replaced, until the shard answers again.
    failure: Option<String>,
    /// At the last look.
    is_answering: bool,
    /// The current ping is in its channel.
    is_pinged: bool,
    restarts: ShardRestarts,
    /// Attempts to start a new thread that failed.
    failed_starts: u64,
}

/// What is wrong with a shard, and how often it was restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardReport {
    /// Why it does not answer. `None`: it does, or it has not had the time.
    pub problem: Option<String>,
    /// It has answered the last ping.
    pub is_answering: bool,
    pub restarts: ShardRestarts,
}

/// Why a thread is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Panicked,
    /// By itself: its ring failed. The log has the error.
    Ended,
    Hangs(Duration),
    /// Its channel was full for long.
    IsBehind,
}

impl Failure {
    fn text(self) -> String {
        match self {
            Self::Panicked => "it has panicked".into(),
            Self::Ended => "its thread has ended".into(),
            Self::Hangs(silence) => format!("it hangs: no response for {} ms", silence.as_millis()),
            Self::IsBehind => "it hangs: it takes no updates".into(),
        }
    }
}

impl Threads {
    /// By shard.
    pub(super) fn ids(&self) -> impl Iterator<Item = Pid> {
        self.members.iter().map(|member| member.thread.id)
    }

    pub(super) fn have_ended(&self) -> bool {
        self.members.iter().all(|member| member.thread.handle.is_finished())
    }
}

/// How often a shard may be restarted.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    counted_at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        while self.left < SHARD_RESTARTS_MAX
            && now.duration_since(self.counted_at) >= SHARD_RESTART_EVERY
        {
            self.left += 1;
            self.counted_at += SHARD_RESTART_EVERY;
        }
        if self.left == SHARD_RESTARTS_MAX {
            self.counted_at = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl Supervisor {
    pub(super) fn new(members: Vec<Member>, trouble: Arc<Notify>) -> Self {
        let threads = Threads { members, hung: Vec::new(), trouble, is_stopping: false };
        Self(Arc::new(Mutex::new(threads)))
    }

    /// Replaces the threads that have failed, and pings the others. Call it after `trouble`, and
    /// every `HEARTBEAT_EVERY`, or sooner while a shard does not answer.
    #[must_use]
    pub fn look(&self, now: Instant) -> Vec<ShardReport> {
        let threads = &mut *self.threads();
        threads.hung.retain(|thread| !thread.is_finished());
        if threads.is_stopping {
            return Vec::new();
        }
        let (hung, trouble) = (&mut threads.hung, &threads.trouble);
        let report = |member: &mut Member| {
            let problem = member.look(hung, trouble, now);
            let is_answering = problem.is_none() && member.is_answering;
            ShardReport { problem, is_answering, restarts: member.restarts }
        };
        threads.members.iter_mut().map(report).collect()
    }

    /// Notified when a thread has panicked or ended.
    #[must_use]
    pub fn trouble(&self) -> Arc<Notify> {
        Arc::clone(&self.threads().trouble)
    }

    /// Replaces no thread any more.
    pub(super) fn stop(&self) {
        self.threads().is_stopping = true;
    }

    /// The data is valid at every moment, so a panic elsewhere is no reason to panic here.
    pub(super) fn threads(&self) -> MutexGuard<'_, Threads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    pub(super) fn new(parts: ShardParts, mailbox: Mailbox, thread: ShardThread) -> Self {
        let now = Instant::now();
        Self {
            clock: ThreadClock::of(thread.id),
            parts,
            mailbox,
            thread,
            pulse: Pulse::new(now),
            allowance: Allowance { left: SHARD_RESTARTS_MAX, counted_at: now },
            failure: None,
            is_answering: true,
            is_pinged: false,
            restarts: ShardRestarts::default(),
            failed_starts: 0,
        }
    }

    /// Returns why the shard does not answer, if so.
    fn look(
        &mut self,
        hung: &mut Vec<JoinHandle<()>>,
        trouble: &Arc<Notify>,
        now: Instant,
    ) -> Option<String> {
        let beat = self.pulse.look(self.thread.heart.answered(), self.clock.read(), now);
        self.is_answering = beat == Beat::Alive;
        let failure = if self.thread.heart.has_panicked() {
            Failure::Panicked
        } else if self.thread.heart.has_ended() {
            Failure::Ended
        } else if self.mailbox.is_behind() {
            Failure::IsBehind
        } else {
            match beat {
                Beat::Alive => {
                    self.failure = None;
                    self.ping(true);
                    return None;
                }
                Beat::Waiting => {
                    self.ping(false);
                    return self.failure.clone();
                }
                Beat::Late(silence) => {
                    self.ping(false);
                    return Some(Failure::Hangs(silence).text());
                }
                Beat::Hung(silence) => Failure::Hangs(silence),
            }
        };
        self.failure = Some(failure.text());
        if hung.len() >= HUNG_THREADS_MAX {
            return Some(format!(
                "{}; no new thread, because {HUNG_THREADS_MAX} hang already: restart the process",
                failure.text()
            ));
        }
        if self.allowance.take(now) {
            self.replace(failure, hung, trouble, now);
        }
        self.failure.clone()
    }

    /// `is_next`: the last one is answered. Otherwise the shard gets it again if there was no room.
    fn ping(&mut self, is_next: bool) {
        if is_next {
            let ping = self.pulse.next();
            self.is_pinged = self.mailbox.offer(Update::Ping(ping));
        } else if !self.is_pinged {
            self.is_pinged = self.mailbox.offer(Update::Ping(self.pulse.current()));
        }
    }

    fn replace(
        &mut self,
        failure: Failure,
        hung: &mut Vec<JoinHandle<()>>,
        trouble: &Arc<Notify>,
        now: Instant,
    ) {
        let index = self.parts.index;
        match self.start_successor(trouble) {
            Ok(thread) => {
                let old = std::mem::replace(&mut self.thread, thread);
                match failure {
                    Failure::Hangs(_) | Failure::IsBehind => hung.push(old.handle),
                    Failure::Panicked | Failure::Ended => drop(old.handle),
                }
                self.clock = ThreadClock::of(self.thread.id);
                self.pulse = Pulse::new(now);
                self.ping(true);
                let count = self.count(failure);
                if is_logged(count) {
                    tracing::error!(
                        "shard {index} has a new thread, number {count}: {}; the new one has its \
                         sockets and tables, and the other shards are not affected",
                        failure.text()
                    );
                }
            }
            Err(error) => {
                self.failed_starts += 1;
                if is_logged(self.failed_starts) {
                    tracing::error!(
                        "shard {index} cannot have a new thread yet: {error}; it needs one: {}",
                        failure.text()
                    );
                }
            }
        }
    }

    fn start_successor(&self, trouble: &Arc<Notify>) -> io::Result<ShardThread> {
        let (successor, inbox) = Successor::new()?;
        let heart = Heart::new(Arc::clone(trouble));
        let thread = ShardThread::start(self.parts.clone(), inbox, heart)?;
        self.mailbox.move_to(successor)?;
        Ok(thread)
    }

    /// Returns how often the shard was restarted.
    fn count(&mut self, failure: Failure) -> u64 {
        let ShardRestarts { panics, ends, hangs } = &mut self.restarts;
        match failure {
            Failure::Panicked => *panics += 1,
            Failure::Ended => *ends += 1,
            Failure::Hangs(_) | Failure::IsBehind => *hangs += 1,
        }
        *panics + *ends + *hangs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_bounded() {
        let began = Instant::now();
        let mut allowance = Allowance { left: SHARD_RESTARTS_MAX, counted_at: began };
        let mut taken = |ms: u64| allowance.take(began + Duration::from_millis(ms));
        let at_once = (0..100).filter(|_| taken(0)).count();
        assert_eq!(at_once, SHARD_RESTARTS_MAX as usize);
        let every = SHARD_RESTART_EVERY.as_millis() as u64;
        let later = (0..10 * every).step_by(20).filter(|ms| taken(*ms)).count();
        assert_eq!(later, 9);
        let rested = (0..100).filter(|_| taken(1000 * every)).count();
        assert_eq!(rested, SHARD_RESTARTS_MAX as usize);
    }
}
