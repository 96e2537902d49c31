//! Whether an upstream may be queried: a state machine that takes events and returns the next step.
//!
//! As in CoreDNS, failed queries never mark an upstream as down: they start health checks, out of
//! band, and the checks decide. Unlike CoreDNS, a suspect upstream is queried after healthy ones
//! meanwhile. Pure: no socket, no clock.
//! Invariant: an upstream with `max_fails` 0 is always healthy.

use crate::limits::OUTRUNS_MAX;

/// An upstream's state, as one shard sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamState {
    Healthy,
    /// A query or a check failed, and no check has passed since.
    Suspect,
    /// `max_fails` checks in a row have failed.
    Down,
    /// It sends our own queries back to us.
    Loops,
}

/// What the caller must do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    Nothing,
    /// Start to check the upstream: no check of it is running.
    Check,
}

/// The health of one upstream, as one shard sees it.
#[derive(Debug, Default)]
pub(super) struct UpstreamHealth {
    /// 0: never checked, never down.
    max_fails: u32,
    /// Failed checks in a row.
    fail_count: u32,
    /// Queries in a row that a hedge to another upstream answered first.
    outrun_count: u32,
    is_suspect: bool,
    is_being_checked: bool,
}

impl UpstreamHealth {
    pub(super) fn new(max_fails: u32) -> Self {
        Self { max_fails, ..Self::default() }
    }

    pub(super) fn state(&self) -> UpstreamState {
        if self.max_fails > 0 && self.fail_count >= self.max_fails {
            UpstreamState::Down
        } else if self.is_suspect {
            UpstreamState::Suspect
        } else {
            UpstreamState::Healthy
        }
    }

    /// Whether the last check failed.
    pub(super) fn is_failing(&self) -> bool {
        self.fail_count > 0
    }

    /// A query was answered.
    pub(super) fn answered(&mut self) {
        self.fail_count = 0;
        self.outrun_count = 0;
        self.is_suspect = false;
    }

    /// A query failed: time-out, connection refused, malformed response.
    pub(super) fn failed(&mut self) -> NextStep {
        if self.max_fails == 0 {
            return NextStep::Nothing;
        }
        self.is_suspect = true;
        self.doubted()
    }

    /// A query takes long. The upstream is as healthy as before, unless the check says otherwise.
    pub(super) fn doubted(&mut self) -> NextStep {
        if self.max_fails == 0 || std::mem::replace(&mut self.is_being_checked, true) {
            NextStep::Nothing
        } else {
            NextStep::Check
        }
    }

    /// A hedge answered first. Once is chance; `OUTRUNS_MAX` in a row count as a failure.
    pub(super) fn outrun(&mut self) -> NextStep {
        self.outrun_count += 1;
        if self.outrun_count < OUTRUNS_MAX {
            return NextStep::Nothing;
        }
        self.outrun_count = 0;
        self.failed()
    }

    /// A check has ended. `NextStep::Check`: run another after the check interval.
    pub(super) fn checked(&mut self, has_passed: bool) -> NextStep {
        if has_passed {
            self.answered();
        } else {
            self.fail_count = self.fail_count.saturating_add(1);
            self.is_suspect = true;
        }
        self.is_being_checked = !has_passed;
        if has_passed { NextStep::Nothing } else { NextStep::Check }
    }
}

#[cfg(test)]
mod tests {
    use super::NextStep::{Check, Nothing};
    use super::UpstreamState::{Down, Healthy, Suspect};
    use super::*;

    /// What happens to an upstream, with the expected next step.
    enum Step {
        Answered,
        Failed(NextStep),
        Outrun(NextStep),
        Passed(NextStep),
        CheckFailed(NextStep),
    }
    use Step::{Answered, CheckFailed, Failed, Outrun, Passed};

    fn check(max_fails: u32, steps: &[(Step, UpstreamState)]) {
        let mut health = UpstreamHealth::new(max_fails);
        assert_eq!(health.state(), Healthy);
        for (at, (step, state)) in steps.iter().enumerate() {
            match step {
                Answered => health.answered(),
                Failed(next_step) => assert_eq!(health.failed(), *next_step, "step {at}"),
                Outrun(next_step) => assert_eq!(health.outrun(), *next_step, "step {at}"),
                Passed(next_step) => assert_eq!(health.checked(true), *next_step, "step {at}"),
                CheckFailed(next_step) => {
                    assert_eq!(health.checked(false), *next_step, "step {at}")
                }
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
    fn failures_start_checks_and_checks_decide() {
        check(
            2,
            &[
                (Failed(Check), Suspect),
                (Failed(Nothing), Suspect),
                (CheckFailed(Check), Suspect),
                (Failed(Nothing), Suspect),
                (CheckFailed(Check), Down),
                (CheckFailed(Check), Down),
                (Passed(Nothing), Healthy),
                (Failed(Check), Suspect),
                (CheckFailed(Check), Suspect),
            ],
        );
        check(1, &[(Failed(Check), Suspect), (CheckFailed(Check), Down)]);
    }

    #[test]
    fn a_response_clears_suspicion_but_does_not_stop_the_check() {
        check(
            1,
            &[
                (Failed(Check), Suspect),
                (CheckFailed(Check), Down),
                (Answered, Healthy),
                (Failed(Nothing), Suspect),
                (Passed(Nothing), Healthy),
                (Failed(Check), Suspect),
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
    fn an_upstream_that_is_outrun_repeatedly_is_checked() {
        check(
            2,
            &[
                (Outrun(Nothing), Healthy),
                (Outrun(Nothing), Healthy),
                (Answered, Healthy),
                (Outrun(Nothing), Healthy),
                (Outrun(Nothing), Healthy),
                (Outrun(Check), Suspect),
                (Outrun(Nothing), Suspect),
                (Passed(Nothing), Healthy),
            ],
        );
    }
}
