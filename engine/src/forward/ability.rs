//! Whether one upstream supports EDNS or TCP, learned from its responses.
//!
//! An upstream is presumed to support both. If queries that use one get no response and queries
//! without it do, it counts as missing and queries go without. A separate probe, after pauses that
//! grow, finds out when it is back: no client's query pays for the probe, and a wrong conclusion
//! from one lost packet does not last. Pure: no socket, no clock.
//! Invariant: an ability that is proven is never marked missing for silence alone.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{ABILITY_PROBE_PAUSE_MAX, ABILITY_PROBE_PAUSE_MIN, ABILITY_PROVEN_FOR};

/// What one shard knows about an upstream's EDNS, or its TCP.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Ability {
    /// Nothing: queries use it.
    #[default]
    Unknown,
    /// A query that used it got no response: the next query goes without.
    Suspect,
    /// It has worked. Failures before `until` have other causes.
    Proven { until: Instant },
    /// Queries go without it. A probe that uses it is due at `probe_at`.
    Missing { probe_at: Instant, pause: Duration },
}

impl Ability {
    /// Whether queries use it.
    pub(super) fn is_used(&self) -> bool {
        match self {
            Self::Unknown | Self::Proven { .. } => true,
            Self::Suspect | Self::Missing { .. } => false,
        }
    }

    pub(super) fn is_proven(&self, now: Instant) -> bool {
        match self {
            Self::Proven { until } => now < *until,
            Self::Unknown | Self::Suspect | Self::Missing { .. } => false,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Unknown | Self::Suspect | Self::Proven { .. } => false,
        }
    }

    /// A response to a query that used it shows that it works.
    pub(super) fn worked(&mut self, now: Instant) {
        *self = Self::Proven { until: now + ABILITY_PROVEN_FOR };
    }

    /// A query that used it failed, perhaps for another reason.
    pub(super) fn failed(&mut self, now: Instant) {
        if !self.is_proven(now) && !self.is_missing() {
            *self = Self::Suspect;
        }
    }

    /// The same query was answered without it, and not with it.
    pub(super) fn was_missed(&mut self, now: Instant) {
        if !self.is_missing() {
            let pause = ABILITY_PROBE_PAUSE_MIN;
            *self = Self::Missing { probe_at: now + pause, pause };
        }
    }

    /// A query without it was answered.
    pub(super) fn answered_without(&mut self, now: Instant) {
        if *self == Self::Suspect {
            self.was_missed(now);
        }
    }

    /// A query without it failed too.
    pub(super) fn failed_without(&mut self) {
        if *self == Self::Suspect {
            *self = Self::Unknown;
        }
    }

    /// True if a probe is due; also schedules the next one.
    pub(super) fn take_probe(&mut self, now: Instant) -> bool {
        match self {
            Self::Missing { probe_at, pause } if now >= *probe_at => {
                *pause = (*pause * 2).min(ABILITY_PROBE_PAUSE_MAX);
                *probe_at = now + *pause;
                true
            }
            Self::Missing { .. } | Self::Unknown | Self::Suspect | Self::Proven { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens; `Wait` lets seconds pass.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Worked,
        Failed,
        Missed,
        AnsweredWithout,
        FailedWithout,
        Wait(u64),
        /// Asks for a probe, with whether one is due.
        Probe(bool),
    }
    use Step::{AnsweredWithout, Failed, FailedWithout, Missed, Probe, Wait, Worked};

    /// Each step, with whether the ability is used after it.
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
    fn silence_raises_suspicion_and_a_response_without_it_decides() {
        check(&[(Failed, false), (AnsweredWithout, false), (Failed, false)]);
        check(&[(Failed, false), (FailedWithout, true), (AnsweredWithout, true)]);
        check(&[(Failed, false), (Worked, true), (AnsweredWithout, true)]);
        check(&[(AnsweredWithout, true), (FailedWithout, true), (Missed, false)]);
    }

    #[test]
    fn silence_does_not_count_against_an_ability_that_worked_lately() {
        check(&[(Worked, true), (Failed, true), (Wait(299), true), (Failed, true)]);
        check(&[(Worked, true), (Wait(300), true), (Failed, false), (Worked, true)]);
        check(&[(Worked, true), (Missed, false)]);
    }

    #[test]
    fn a_missing_ability_is_probed_after_pauses_that_grow() {
        let missing = [(Missed, false), (Probe(false), false), (Wait(1), false)];
        let mut steps = missing.to_vec();
        for pause_secs in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            steps.extend([(Probe(true), false), (FailedWithout, false), (Missed, false)]);
            steps.extend([(Wait(pause_secs - 1), false), (Probe(false), false), (Wait(1), false)]);
        }
        steps.extend([(Probe(true), false), (Worked, true), (Probe(false), true)]);
        // It starts over.
        steps.extend(missing);
        steps.push((Probe(true), false));
        check(&steps);
    }
}
