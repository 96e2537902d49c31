//! Whether one upstream has what not every server has, EDNS or TCP, found out by how it answers.
//!
//! An upstream is presumed to have it. Where queries that use it come to nothing and those without are answered, it counts as
//! missing, and questions go without; a probe beside them finds out when it is there again, after pauses that grow, so that no
//! question pays for the look and a conclusion drawn from a lost packet does not last. Pure: no socket, no clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{ABILITY_PROBE_PAUSE_MAX, ABILITY_PROBE_PAUSE_MIN, ABILITY_PROVEN_FOR};

/// What one shard knows of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Ability {
    /// Nothing: it is used.
    #[default]
    Unknown,
    /// It was used and nothing came: the next query goes without.
    Doubtful,
    /// It has worked. Until then failures have other causes.
    Proven { until: Instant },
    /// Queries go without, and a probe with it is due then.
    Missing { probe_at: Instant, pause: Duration },
}

impl Ability {
    /// Whether queries use it.
    pub(super) fn is_used(&self) -> bool {
        match self {
            Self::Unknown | Self::Proven { .. } => true,
            Self::Doubtful | Self::Missing { .. } => false,
        }
    }

    pub(super) fn is_proven(&self, now: Instant) -> bool {
        match self {
            Self::Proven { until } => now < *until,
            Self::Unknown | Self::Doubtful | Self::Missing { .. } => false,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Unknown | Self::Doubtful | Self::Proven { .. } => false,
        }
    }

    /// A query that used it was answered as if it is there.
    pub(super) fn worked(&mut self, now: Instant) {
        *self = Self::Proven { until: now + ABILITY_PROVEN_FOR };
    }

    /// A query that used it came to nothing, for which there may be other causes.
    pub(super) fn failed(&mut self, now: Instant) {
        if !self.is_proven(now) && !self.is_missing() {
            *self = Self::Doubtful;
        }
    }

    /// The same query was answered without it and not with it.
    pub(super) fn was_missed(&mut self, now: Instant) {
        if !self.is_missing() {
            let pause = ABILITY_PROBE_PAUSE_MIN;
            *self = Self::Missing { probe_at: now + pause, pause };
        }
    }

    /// A query without it was answered.
    pub(super) fn answered_without(&mut self, now: Instant) {
        if *self == Self::Doubtful {
            self.was_missed(now);
        }
    }

    /// A query without it came to nothing, either.
    pub(super) fn failed_without(&mut self) {
        if *self == Self::Doubtful {
            *self = Self::Unknown;
        }
    }

    /// Whether a probe is due; the next one then is due later.
    pub(super) fn take_probe(&mut self, now: Instant) -> bool {
        match self {
            Self::Missing { probe_at, pause } if now >= *probe_at => {
                *pause = (*pause * 2).min(ABILITY_PROBE_PAUSE_MAX);
                *probe_at = now + *pause;
                true
            }
            Self::Missing { .. } | Self::Unknown | Self::Doubtful | Self::Proven { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, and how many seconds after the step before.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Worked,
        Failed,
        Missed,
        AnsweredWithout,
        FailedWithout,
        Wait(u64),
        /// Whether one is due.
        Probe(bool),
    }
    use Step::{AnsweredWithout, Failed, FailedWithout, Missed, Probe, Wait, Worked};

    /// Each step with whether the ability is used behind it.
    fn check(steps: &[(Step, bool)]) {
        let mut ability = Ability::default();
        let mut now = Instant::now();
        assert!(ability.is_used());
        for (at, (step, is_used)) in steps.iter().enumerate() {
            match step {
                Worked => ability.worked(now),
                Failed => ability.failed(now),
                Missed => ability.was_missed(now),
                AnsweredWithout => ability.answered_without(now),
                FailedWithout => ability.failed_without(),
                Wait(secs) => now += Duration::from_secs(*secs),
                Probe(is_due) => assert_eq!(ability.take_probe(now), *is_due, "step {at}"),
            }
            assert_eq!(ability.is_used(), *is_used, "step {at}: {step:?}");
        }
    }

    #[test]
    fn silence_is_doubt_and_an_answer_without_it_decides() {
        check(&[(Failed, false), (AnsweredWithout, false), (Failed, false)]);
        check(&[(Failed, false), (FailedWithout, true), (AnsweredWithout, true)]);
        check(&[(Failed, false), (Worked, true), (AnsweredWithout, true)]);
        check(&[(AnsweredWithout, true), (FailedWithout, true), (Missed, false)]);
    }

    #[test]
    fn what_has_worked_lately_is_not_doubted_for_silence() {
        check(&[(Worked, true), (Failed, true), (Wait(299), true), (Failed, true)]);
        check(&[(Worked, true), (Wait(300), true), (Failed, false), (Worked, true)]);
        check(&[(Worked, true), (Missed, false)]);
    }

    #[test]
    fn what_is_missing_is_probed_after_pauses_that_grow() {
        let missing = [(Missed, false), (Probe(false), false), (Wait(1), false)];
        let mut steps = missing.to_vec();
        for pause_secs in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            steps.extend([(Probe(true), false), (FailedWithout, false), (Missed, false)]);
            steps.extend([(Wait(pause_secs - 1), false), (Probe(false), false), (Wait(1), false)]);
        }
        steps.extend([(Probe(true), false), (Worked, true), (Probe(false), true)]);
        // It begins anew.
        steps.extend(missing);
        steps.push((Probe(true), false));
        check(&steps);
    }
}
