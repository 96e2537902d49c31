//! When to stop steering by CPU: one shard is overloaded while others idle. And when to start
//! again.
//!
//! The loads and the time come from the caller, and the change goes back to it. Invariant: overload
//! must last for `OVERLOADED_FOR` before anything changes, and each fallback lasts twice as long as
//! the last one, so a group cannot flap.

use std::time::{Duration, Instant};

use crate::limits::{OVERLOADED_FOR, STEERING_CALM_FOR, STEERING_PAUSE_MAX, STEERING_PAUSE_MIN};

/// What a shard has done since the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLoad {
    pub answers: u64,
    /// The shard could not keep up with the queries of this group.
    pub is_saturated: bool,
}

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceChange {
    Nothing,
    /// Spread queries by the hash: this shard, by index, has too many. It lasts for this time at
    /// most.
    FallBack {
        shard: usize,
        pause: Duration,
    },
    /// Steer by CPU again.
    Resume,
}

/// The state of one group of sockets.
#[derive(Debug)]
pub struct Balance {
    state: BalanceState,
    /// When the state began.
    since: Instant,
    /// Since when a shard has been overloaded in this state.
    overloaded_since: Option<Instant>,
    /// How long the next fallback lasts.
    pause: Duration,
    stepped_at: Instant,
}

#[derive(Debug)]
enum BalanceState {
    ByCpu,
    /// `busy_at`: when the load was last more than half of what it was at the fallback.
    ByHash {
        until: Instant,
        answers_per_sec: f64,
        busy_at: Instant,
    },
}

impl Balance {
    /// A group that is steered by CPU from now on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: BalanceState::ByCpu,
            since: now,
            overloaded_since: None,
            pause: STEERING_PAUSE_MIN,
            stepped_at: now,
        }
    }

    /// `loads`: by shard, since the last step.
    pub fn step(&mut self, loads: &[ShardLoad], now: Instant) -> BalanceChange {
        let elapsed = now.duration_since(std::mem::replace(&mut self.stepped_at, now));
        let answers: u64 = loads.iter().map(|load| load.answers).sum();
        let rate = answers as f64 / elapsed.as_secs_f64().max(1e-6);
        let overloaded = self.lastingly_overloaded(loads, now);
        match &mut self.state {
            BalanceState::ByCpu => match overloaded {
                Some(shard) => {
                    let pause = self.pause;
                    self.pause = (2 * pause).min(STEERING_PAUSE_MAX);
                    let until = now + pause;
                    let next = BalanceState::ByHash { until, answers_per_sec: rate, busy_at: now };
                    self.enter(next, now);
                    BalanceChange::FallBack { shard, pause }
                }
                None => {
                    if now.duration_since(self.since) >= self.pause {
                        self.pause = STEERING_PAUSE_MIN;
                    }
                    BalanceChange::Nothing
                }
            },
            BalanceState::ByHash { until, answers_per_sec, busy_at } => {
                if rate > *answers_per_sec / 2.0 {
                    *busy_at = now;
                }
                let is_calm = now.duration_since(*busy_at) >= STEERING_CALM_FOR;
                if !is_calm && now < *until {
                    return BalanceChange::Nothing;
                }
                self.enter(BalanceState::ByCpu, now);
                BalanceChange::Resume
            }
        }
    }

    /// Whether the next step should come soon: steering has just begun or a shard seems to be
    /// overloaded.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self.state {
            BalanceState::ByCpu => self.overloaded_since.is_some() || self.since == self.stepped_at,
            BalanceState::ByHash { .. } => false,
        }
    }

    fn enter(&mut self, state: BalanceState, now: Instant) {
        (self.state, self.since, self.overloaded_since) = (state, now, None);
    }

    /// A shard that has been overloaded for long enough.
    fn lastingly_overloaded(&mut self, loads: &[ShardLoad], now: Instant) -> Option<usize> {
        let shard = overloaded(loads);
        if shard.is_none() {
            self.overloaded_since = None;
            return None;
        }
        let since = *self.overloaded_since.get_or_insert(now);
        shard.filter(|_| now.duration_since(since) >= OVERLOADED_FOR)
    }
}

/// A saturated shard that answers more than half as much again as its share would be.
fn overloaded(loads: &[ShardLoad]) -> Option<usize> {
    let answers: u64 = loads.iter().map(|load| load.answers).sum();
    let share = answers as f64 / loads.len() as f64;
    let is_overloaded = |load: &ShardLoad| load.is_saturated && load.answers as f64 > 1.5 * share;
    loads.iter().position(is_overloaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(10);

    fn load(answers: u64, is_saturated: bool) -> ShardLoad {
        ShardLoad { answers, is_saturated }
    }

    /// One shard is overloaded, the other idles.
    const OVERLOADED: [ShardLoad; 2] = [
        ShardLoad { answers: 3000, is_saturated: true },
        ShardLoad { answers: 10, is_saturated: false },
    ];
    /// What the hash makes of it.
    const SPREAD: [ShardLoad; 2] = [
        ShardLoad { answers: 1700, is_saturated: false },
        ShardLoad { answers: 1600, is_saturated: false },
    ];
    const QUIET: [ShardLoad; 2] = [
        ShardLoad { answers: 3, is_saturated: false },
        ShardLoad { answers: 0, is_saturated: false },
    ];

    /// A group, and its clock.
    struct Trace {
        balance: Balance,
        now: Instant,
    }

    impl Trace {
        fn new() -> Self {
            let now = Instant::now();
            Self { balance: Balance::new(now), now }
        }

        fn step(&mut self, loads: &[ShardLoad]) -> BalanceChange {
            self.now += WINDOW;
            self.balance.step(loads, self.now)
        }

        /// Windows of this load until something changes, and what; at most as many as these.
        fn until_change(&mut self, loads: &[ShardLoad], at_most: usize) -> (usize, BalanceChange) {
            for count in 1..=at_most {
                match self.step(loads) {
                    BalanceChange::Nothing => {}
                    change @ (BalanceChange::FallBack { .. } | BalanceChange::Resume) => {
                        return (count, change);
                    }
                }
            }
            (at_most, BalanceChange::Nothing)
        }
    }

    fn windows(time: Duration) -> usize {
        (time.as_nanos() / WINDOW.as_nanos()) as usize
    }

    #[test]
    fn only_a_lasting_overload_of_one_shard_changes_anything() {
        let check = |loads: &[ShardLoad], expected| {
            let (_, change) = Trace::new().until_change(loads, 100);
            assert_eq!(change, expected, "{loads:?}");
        };
        let pause = STEERING_PAUSE_MIN;
        check(&OVERLOADED, BalanceChange::FallBack { shard: 0, pause });
        check(&[load(0, false), load(900, true)], BalanceChange::FallBack { shard: 1, pause });
        // Four queues of a network card for eight shards.
        let half = [[load(500, true); 4], [load(0, false); 4]].concat();
        check(&half, BalanceChange::FallBack { shard: 0, pause });
        for steady in [
            &QUIET[..],
            &SPREAD,
            // Busy, but it keeps up.
            &[load(3000, false), load(0, false)],
            // Every shard has its client.
            &[load(3000, true), load(2900, true)],
            // The hash would win little.
            &[load(3000, true), load(1500, true)],
            &[load(0, false), load(0, false)],
        ] {
            check(steady, BalanceChange::Nothing);
        }
    }

    #[test]
    fn a_burst_is_no_overload() {
        let mut trace = Trace::new();
        for _ in 0..50 {
            assert_eq!(trace.until_change(&OVERLOADED, 4).1, BalanceChange::Nothing);
            assert!(trace.balance.is_in_doubt());
            assert_eq!(trace.step(&QUIET), BalanceChange::Nothing);
            assert!(!trace.balance.is_in_doubt());
        }
        assert_eq!(trace.until_change(&OVERLOADED, 100).0, windows(OVERLOADED_FOR) + 1);
    }

    #[test]
    fn each_fallback_lasts_twice_as_long_as_the_last() {
        let mut trace = Trace::new();
        let mut expected = STEERING_PAUSE_MIN;
        for _ in 0..12 {
            let (_, change) = trace.until_change(&OVERLOADED, 100);
            assert_eq!(change, BalanceChange::FallBack { shard: 0, pause: expected });
            let resumed = trace.until_change(&SPREAD, usize::MAX);
            assert_eq!(resumed, (windows(expected), BalanceChange::Resume));
            expected = (2 * expected).min(STEERING_PAUSE_MAX);
        }
        assert_eq!(expected, STEERING_PAUSE_MAX);
        // After as long a time without overload, the next one is like the first.
        let _ = trace.until_change(&SPREAD, windows(STEERING_PAUSE_MAX));
        let (_, change) = trace.until_change(&OVERLOADED, 100);
        assert_eq!(change, BalanceChange::FallBack { shard: 0, pause: STEERING_PAUSE_MIN });
    }

    #[test]
    fn steering_resumes_early_once_the_load_is_gone() {
        let mut trace = Trace::new();
        for _ in 0..8 {
            let _ = trace.until_change(&OVERLOADED, 100);
            let _ = trace.until_change(&SPREAD, usize::MAX);
        }
        let _ = trace.until_change(&OVERLOADED, 100);
        assert_eq!(trace.until_change(&QUIET, 5).1, BalanceChange::Nothing);
        assert_eq!(trace.until_change(&SPREAD, 200).1, BalanceChange::Nothing);
        let resumed = trace.until_change(&QUIET, usize::MAX);
        assert_eq!(resumed, (windows(STEERING_CALM_FOR), BalanceChange::Resume));
    }

    #[test]
    fn steps_come_soon_while_they_may_change_something() {
        let mut trace = Trace::new();
        let mut check = |loads: &[ShardLoad], expected: &[bool]| {
            for expected in expected {
                let _ = trace.step(loads);
                assert_eq!(trace.balance.is_in_doubt(), *expected, "{:?}", trace.balance);
            }
        };
        check(&QUIET, &[false]);
        check(&OVERLOADED, &[true; 4]);
        // It falls back, and a second later it resumes.
        check(&OVERLOADED, &[false]);
        check(&SPREAD, &[false; 99]);
        check(&SPREAD, &[true]);
        check(&OVERLOADED, &[true; 4]);
        check(&OVERLOADED, &[false]);
    }
}
