//! Whether a shard is alive: it answers pings, which come with its updates and so cost the packets
//! nothing.
//!
//! Invariant: the time that its thread waits for a core does not count, nor does a pause of the
//! whole process: a new thread would wait just as long.

use std::time::{Duration, Instant};

use crate::limits::{HEARTBEAT_EVERY, SHARD_HUNG_AFTER, SHARD_LATE_AFTER};

/// What a shard's silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// It has answered the last ping.
    Alive,
    /// It has not answered yet.
    Waiting,
    /// It has not answered for this long.
    Late(Duration),
    Hung(Duration),
}

/// What the kernel knows of a thread; nothing on some kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadTimes {
    /// Since its start.
    pub(super) ran: Duration,
    /// It waited for a core, since its start. A wait is counted when it ends.
    pub(super) queued: Duration,
    /// It runs, or waits for a core or for the kernel.
    pub(super) is_runnable: bool,
}

/// The pings of one thread.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The last ping; 0 if there was none.
    ping: u64,
    /// How long the thread could have answered it and has not.
    silence: Duration,
    looked_at: Instant,
    /// At the last look.
    times: ThreadTimes,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { ping: 0, silence: Duration::ZERO, looked_at: now, times: ThreadTimes::default() }
    }

    /// `answered`: the last ping that the thread has answered.
    pub(super) fn look(&mut self, answered: u64, times: ThreadTimes, now: Instant) -> Beat {
        let elapsed = now.duration_since(std::mem::replace(&mut self.looked_at, now));
        let last = std::mem::replace(&mut self.times, times);
        if answered == self.ping {
            self.silence = Duration::ZERO;
            return Beat::Alive;
        }
        let ran = times.ran.saturating_sub(last.ran);
        let queued = times.queued.saturating_sub(last.queued);
        self.silence += match times.is_runnable {
            true => ran,
            false => elapsed.min(HEARTBEAT_EVERY).saturating_sub(queued),
        };
        if self.silence >= SHARD_HUNG_AFTER {
            Beat::Hung(self.silence)
        } else if self.silence >= SHARD_LATE_AFTER {
            Beat::Late(self.silence)
        } else {
            Beat::Waiting
        }
    }

    /// The next ping to send, after `Alive`.
    pub(super) fn next(&mut self) -> u64 {
        self.ping += 1;
        self.ping
    }

    /// The ping that the thread has not answered, to send it again if it found no room.
    pub(super) fn current(&self) -> u64 {
        self.ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that was sent a ping at 0 ms. Each look: when (ms), which ping the thread has
    /// answered by then, how long (ms) it has run and waited for a core, and its state: S if it
    /// sleeps, R if not.
    fn check(looks: &[(u64, u64, u64, u64, char)], expected: &[Beat]) {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let mut pulse = Pulse::new(began);
        assert_eq!(pulse.next(), 1);
        let beats = looks.iter().map(|(at, answered, ran, queued, state)| {
            let (ran, queued) = (ms(*ran), ms(*queued));
            let times = ThreadTimes { ran, queued, is_runnable: *state == 'R' };
            pulse.look(*answered, times, began + ms(*at))
        });
        assert_eq!(beats.collect::<Vec<_>>(), expected, "{looks:?}");
    }

    #[test]
    fn silence_counts_only_while_the_thread_could_answer() {
        let late = |ms| Beat::Late(Duration::from_millis(ms));
        let hung = |ms| Beat::Hung(Duration::from_millis(ms));
        check(&[(200, 1, 0, 0, 'S')], &[Beat::Alive]);
        check(&[(200, 0, 0, 0, 'R'), (210, 1, 0, 0, 'S')], &[Beat::Waiting, Beat::Alive]);
        // It sleeps.
        check(
            &[(200, 0, 0, 0, 'S'), (400, 0, 0, 0, 'S'), (600, 0, 0, 0, 'S')],
            &[Beat::Waiting, late(400), hung(600)],
        );
        // It runs in circles, on a core of its own and on one that it shares with two others.
        check(
            &[(200, 0, 200, 0, 'R'), (400, 0, 400, 0, 'R'), (620, 0, 620, 0, 'R')],
            &[Beat::Waiting, late(400), hung(620)],
        );
        check(
            &[(600, 0, 200, 400, 'R'), (1200, 0, 400, 800, 'R'), (1800, 0, 600, 1200, 'R')],
            &[Beat::Waiting, late(400), hung(600)],
        );
        // It waits for a core nearly all the time.
        check(
            &[(200, 0, 1, 0, 'R'), (400, 0, 1, 0, 'R'), (600, 0, 2, 0, 'R'), (800, 0, 3, 790, 'S')],
            &[Beat::Waiting, Beat::Waiting, Beat::Waiting, Beat::Waiting],
        );
        // The process was stopped for a minute, and so was the thread.
        check(
            &[(200, 0, 0, 0, 'S'), (60_200, 0, 0, 0, 'S'), (60_210, 1, 0, 0, 'S')],
            &[Beat::Waiting, late(400), Beat::Alive],
        );
    }
}
