//! When to stop steering by CPU: one shard is overloaded while others idle, and the hash answers
//! more. And when to start again.
//!
//! The loads and the time come from the caller, and the change goes back to it. Invariant: overload
//! must last for `OVERLOADED_FOR` before anything changes, and after each fallback the next change
//! comes twice as late as after the last one, so a group cannot flap.

use std::time::{Duration, Instant};

use crate::limits::{
    HASH_PAYS_FROM, OVERLOADED_FOR, STEERING_CALM_FOR, STEERING_PAUSE_MAX, STEERING_PAUSE_MIN,
    STEERING_TRIAL,
};

/// What a shard has done since the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLoad {
    pub answers: u64,
    /// The shard could not keep up with the queries of this group.
    pub is_saturated: bool,
}

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BalanceChange {
    Nothing,
    /// Spread queries by the hash: this shard, by index, has too many.
    FallBack {
        shard: usize,
    },
    /// Steer by CPU again: the hash has answered only so many times as many queries per second, and
    /// is not tried again for `pause`.
    GiveUp {
        gain: f64,
        pause: Duration,
    },
    /// Steer by CPU again: the pause is over, or the load has fallen.
    Resume,
}

/// The state of one group of sockets.
#[derive(Debug)]
pub struct Balance {
    state: BalanceState,
    /// When the state began.
    since: Instant,
    /// How long the next fallback lasts if the hash pays, and how long none follows it if not.
    pause: Duration,
    stepped_at: Instant,
}

#[derive(Debug)]
enum BalanceState {
    /// `overload`: of the time that a shard has been overloaded. No fallback before `not_before`.
    ByCpu { overload: Option<AnswerTally>, not_before: Instant },
    /// The hash is tried: whether it answers more than this.
    Trial { answers_per_sec: f64, tally: AnswerTally },
    /// The hash answers more. `busy_at`: when the load was last more than half of this.
    ByHash { until: Instant, answers_per_sec: f64, busy_at: Instant },
}

/// The answers of all shards since a time.
#[derive(Clone, Copy, Debug)]
struct AnswerTally {
    since: Instant,
    count: u64,
}

impl AnswerTally {
    fn per_sec(&self, now: Instant) -> f64 {
        self.count as f64 / now.duration_since(self.since).as_secs_f64().max(1e-6)
    }
}

impl Balance {
    /// A group that is steered by CPU from now on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: BalanceState::ByCpu { overload: None, not_before: now },
            since: now,
            pause: STEERING_PAUSE_MIN,
            stepped_at: now,
        }
    }

    /// `loads`: by shard, since the last step.
    pub fn step(&mut self, loads: &[ShardLoad], now: Instant) -> BalanceChange {
        let last = AnswerTally {
            since: std::mem::replace(&mut self.stepped_at, now),
            count: loads.iter().map(|load| load.answers).sum(),
        };
        match &mut self.state {
            BalanceState::ByCpu { overload, not_before } => {
                let Some(shard) = overloaded(loads) else {
                    *overload = None;
                    if now.duration_since(self.since) >= self.pause {
                        self.pause = STEERING_PAUSE_MIN;
                    }
                    return BalanceChange::Nothing;
                };
                // The overload began during the last step, so that one counts from the next on.
                let overload = match overload {
                    None => overload.insert(AnswerTally { since: now, count: 0 }),
                    Some(overload) => {
                        overload.count += last.count;
                        overload
                    }
                };
                if now.duration_since(overload.since) < OVERLOADED_FOR || now < *not_before {
                    return BalanceChange::Nothing;
                }
                let answers_per_sec = overload.per_sec(now);
                let tally = AnswerTally { since: now, count: 0 };
                self.enter(BalanceState::Trial { answers_per_sec, tally }, now);
                BalanceChange::FallBack { shard }
            }
            BalanceState::Trial { answers_per_sec, tally } => {
                tally.count += last.count;
                if now.duration_since(self.since) < STEERING_TRIAL {
                    return BalanceChange::Nothing;
                }
                let gain = tally.per_sec(now) / answers_per_sec.max(1.0);
                let pause = self.pause;
                self.pause = (2 * pause).min(STEERING_PAUSE_MAX);
                if gain < HASH_PAYS_FROM {
                    self.enter_by_cpu(now, now + pause);
                    return BalanceChange::GiveUp { gain, pause };
                }
                let (answers_per_sec, until) = (*answers_per_sec, self.since + pause);
                // Still the same fallback.
                self.state = BalanceState::ByHash { until, answers_per_sec, busy_at: now };
                BalanceChange::Nothing
            }
            BalanceState::ByHash { until, answers_per_sec, busy_at } => {
                if last.per_sec(now) > *answers_per_sec / 2.0 {
                    *busy_at = now;
                }
                let is_calm = now.duration_since(*busy_at) >= STEERING_CALM_FOR;
                if !is_calm && now < *until {
                    return BalanceChange::Nothing;
                }
                self.enter_by_cpu(now, now);
                BalanceChange::Resume
            }
        }
    }

    /// Whether the next step should come soon: steering has just begun, a shard seems to be
    /// overloaded, or the hash is tried.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self.state {
            BalanceState::ByCpu { overload, not_before } => {
                let may_fall_back = overload.is_some() || self.since == self.stepped_at;
                may_fall_back && self.stepped_at >= not_before
            }
            BalanceState::Trial { .. } => true,
            BalanceState::ByHash { .. } => false,
        }
    }

    fn enter_by_cpu(&mut self, now: Instant, not_before: Instant) {
        self.enter(BalanceState::ByCpu { overload: None, not_before }, now);
    }

    fn enter(&mut self, state: BalanceState, now: Instant) {
        (self.state, self.since) = (state, now);
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
    /// What the hash makes of it: more answers,
    const SPREAD: [ShardLoad; 2] = [
        ShardLoad { answers: 1700, is_saturated: false },
        ShardLoad { answers: 1600, is_saturated: false },
    ];
    /// or fewer.
    const SLOWED: [ShardLoad; 2] = [
        ShardLoad { answers: 1400, is_saturated: true },
        ShardLoad { answers: 1309, is_saturated: false },
    ];
    const QUIET: [ShardLoad; 2] = [
        ShardLoad { answers: 3, is_saturated: false },
        ShardLoad { answers: 0, is_saturated: false },
    ];

    /// A group, and its clock.
    struct Trace {
        balance: Balance,
        began: Instant,
        now: Instant,
    }

    impl Trace {
        fn new() -> Self {
            let now = Instant::now();
            Self { balance: Balance::new(now), began: now, now }
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
                    change @ (BalanceChange::FallBack { .. }
                    | BalanceChange::GiveUp { .. }
                    | BalanceChange::Resume) => return (count, change),
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
        check(&OVERLOADED, BalanceChange::FallBack { shard: 0 });
        check(&[load(0, false), load(900, true)], BalanceChange::FallBack { shard: 1 });
        // Four queues of a network card for eight shards.
        let half = [[load(500, true); 4], [load(0, false); 4]].concat();
        check(&half, BalanceChange::FallBack { shard: 0 });
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
            assert_eq!(change, BalanceChange::FallBack { shard: 0 });
            let resumed = trace.until_change(&SPREAD, usize::MAX);
            assert_eq!(resumed, (windows(expected), BalanceChange::Resume));
            expected = (2 * expected).min(STEERING_PAUSE_MAX);
        }
        assert_eq!(expected, STEERING_PAUSE_MAX);
        // After as long a time without overload, the next one is like the first.
        let _ = trace.until_change(&SPREAD, windows(STEERING_PAUSE_MAX));
        let _ = trace.until_change(&OVERLOADED, 100);
        assert_eq!(trace.until_change(&SPREAD, usize::MAX).0, windows(STEERING_PAUSE_MIN));
    }

    #[test]
    fn a_hash_that_does_not_pay_is_tried_ever_more_rarely() {
        let mut trace = Trace::new();
        let mut pause = STEERING_PAUSE_MIN;
        let _ = trace.until_change(&OVERLOADED, 100);
        for _ in 0..12 {
            let (count, change) = trace.until_change(&SLOWED, 100);
            assert_eq!(
                (count, change),
                (windows(STEERING_TRIAL), BalanceChange::GiveUp { gain: 0.9, pause })
            );
            let (count, change) = trace.until_change(&OVERLOADED, usize::MAX);
            assert_eq!((count, change), (windows(pause), BalanceChange::FallBack { shard: 0 }));
            pause = (2 * pause).min(STEERING_PAUSE_MAX);
        }
        assert_eq!(pause, STEERING_PAUSE_MAX);
        // Of all the time, the trials took less than a hundredth.
        let took = 12 * STEERING_TRIAL;
        assert!(took * 100 < trace.now - trace.began, "{took:?}");
    }

    #[test]
    fn steering_resumes_early_once_the_load_is_gone() {
        let mut trace = Trace::new();
        for _ in 0..8 {
            let _ = trace.until_change(&OVERLOADED, 100);
            let _ = trace.until_change(&SPREAD, usize::MAX);
        }
        let _ = trace.until_change(&OVERLOADED, 100);
        assert_eq!(trace.until_change(&SPREAD, 20).1, BalanceChange::Nothing);
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
        // It falls back, the hash pays, and a second later it resumes.
        check(&OVERLOADED, &[true]);
        check(&SPREAD, &[true; 9]);
        check(&SPREAD, &[false; 90]);
        check(&SPREAD, &[true]);
        check(&OVERLOADED, &[true; 5]);
        // This time it does not pay, so the next two seconds are quiet.
        check(&SLOWED, &[true; 9]);
        check(&OVERLOADED, &[false; 200]);
        check(&OVERLOADED, &[true]);
    }
}
