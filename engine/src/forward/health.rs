//! Whether an upstream is fit to be asked: a value that is told what happened, and says what follows from it.
//!
//! As in CoreDNS, what a question meets never makes an upstream down: it only has the upstream checked, out of band, and the
//! checks decide. Ours is the doubt in between: while it lasts others are asked first. Pure: no socket, no clock.

use crate::limits::OUTRUNS_MAX;

/// What is known of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamState {
    Healthy,
    /// Something went wrong, and no check has said yet what.
    Doubtful,
    /// `max_fails` checks in a row have failed.
    Down,
    /// It sends our own questions back to us.
    Loops,
}

/// What the caller must do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    Nothing,
    /// Start to check the upstream: no check of it is running.
    Check,
}

/// How an upstream fares in the eyes of one shard.
#[derive(Debug, Default)]
pub(super) struct UpstreamHealth {
    /// 0: never checked, never down.
    max_fails: u32,
    /// Checks that failed, in a row.
    fail_count: u32,
    /// Questions, in a row, that another upstream answered first although it was asked later.
    outrun_count: u32,
    is_doubtful: bool,
    is_being_checked: bool,
}

impl UpstreamHealth {
    pub(super) fn new(max_fails: u32) -> Self {
        Self { max_fails, ..Self::default() }
    }

    pub(super) fn state(&self) -> UpstreamState {
        if self.max_fails > 0 && self.fail_count >= self.max_fails {
            UpstreamState::Down
        } else if self.is_doubtful {
            UpstreamState::Doubtful
        } else {
            UpstreamState::Healthy
        }
    }

    /// Whether the last check failed.
    pub(super) fn is_failing(&self) -> bool {
        self.fail_count > 0
    }

    /// A question was answered.
    pub(super) fn answered(&mut self) {
        self.fail_count = 0;
        self.outrun_count = 0;
        self.is_doubtful = false;
    }

    /// A question was not: time out, refused, malformed.
    pub(super) fn failed(&mut self) -> Follows {
        if self.max_fails == 0 {
            return Follows::Nothing;
        }
        self.is_doubtful = true;
        if std::mem::replace(&mut self.is_being_checked, true) {
            Follows::Nothing
        } else {
            Follows::Check
        }
    }

    /// The hedge of a question was faster. Once is chance.
    pub(super) fn outrun(&mut self) -> Follows {
        self.outrun_count += 1;
        if self.outrun_count < OUTRUNS_MAX {
            return Follows::Nothing;
        }
        self.outrun_count = 0;
        self.failed()
    }

    /// A check has ended. `Follows::Check`: there must be another, a while later.
    pub(super) fn checked(&mut self, has_passed: bool) -> Follows {
        if has_passed {
            self.answered();
        } else {
            self.fail_count = self.fail_count.saturating_add(1);
            self.is_doubtful = true;
        }
        self.is_being_checked = !has_passed;
        if has_passed { Follows::Nothing } else { Follows::Check }
    }
}

#[cfg(test)]
mod tests {
    use super::Follows::{Check, Nothing};
    use super::UpstreamState::{Doubtful, Down, Healthy};
    use super::*;

    /// What happens to an upstream, with what follows.
    enum Step {
        Answered,
        Failed(Follows),
        Outrun(Follows),
        Passed(Follows),
        CheckFailed(Follows),
    }
    use Step::{Answered, CheckFailed, Failed, Outrun, Passed};

    fn check(max_fails: u32, steps: &[(Step, UpstreamState)]) {
        let mut health = UpstreamHealth::new(max_fails);
        assert_eq!(health.state(), Healthy);
        for (at, (step, state)) in steps.iter().enumerate() {
            match step {
                Answered => health.answered(),
                Failed(follows) => assert_eq!(health.failed(), *follows, "step {at}"),
                Outrun(follows) => assert_eq!(health.outrun(), *follows, "step {at}"),
                Passed(follows) => assert_eq!(health.checked(true), *follows, "step {at}"),
                CheckFailed(follows) => assert_eq!(health.checked(false), *follows, "step {at}"),
            }
            assert_eq!(health.state(), *state, "step {at}");
            match step {
                Answered | Passed(_) => assert!(!health.is_failing(), "step {at}"),
                CheckFailed(_) => assert!(health.is_failing(), "step {at}"),
                Failed(_) | Outrun(_) => {}
            }
        }
    }

    #[test]
    fn failures_are_checked_and_checks_decide() {
        check(
            2,
            &[
                (Failed(Check), Doubtful),
                (Failed(Nothing), Doubtful),
                (CheckFailed(Check), Doubtful),
                (Failed(Nothing), Doubtful),
                (CheckFailed(Check), Down),
                (CheckFailed(Check), Down),
                (Passed(Nothing), Healthy),
                (Failed(Check), Doubtful),
                (CheckFailed(Check), Doubtful),
            ],
        );
        check(1, &[(Failed(Check), Doubtful), (CheckFailed(Check), Down)]);
    }

    #[test]
    fn an_answer_ends_the_doubt_and_not_the_check() {
        check(
            1,
            &[
                (Failed(Check), Doubtful),
                (CheckFailed(Check), Down),
                (Answered, Healthy),
                (Failed(Nothing), Doubtful),
                (Passed(Nothing), Healthy),
                (Failed(Check), Doubtful),
            ],
        );
    }

    #[test]
    fn max_fails_0_is_never_checked() {
        check(
            0,
            &[(Failed(Nothing), Healthy), (Outrun(Nothing), Healthy), (Outrun(Nothing), Healthy)],
        );
        check(
            0,
            &[(Outrun(Nothing), Healthy), (Outrun(Nothing), Healthy), (Outrun(Nothing), Healthy)],
        );
    }

    #[test]
    fn an_upstream_that_is_outrun_again_and_again_is_checked() {
        check(
            2,
            &[
                (Outrun(Nothing), Healthy),
                (Outrun(Nothing), Healthy),
                (Answered, Healthy),
                (Outrun(Nothing), Healthy),
                (Outrun(Nothing), Healthy),
                (Outrun(Check), Doubtful),
                (Outrun(Nothing), Doubtful),
                (Passed(Nothing), Healthy),
            ],
        );
    }
}
