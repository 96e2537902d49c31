//! The ways to ask for a list, and in which order they are tried.

use super::Failure;

/// How the initial list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Strategy {
    /// `sendInitialEvents=true`: the list comes as the beginning of the watch, object by object.
    Streaming,
    /// LIST in pages, then a watch.
    Paged,
    /// LIST without a limit, then a watch: for where the page to continue from is gone too soon. Every API server has it.
    Whole,
}

impl Strategy {
    pub(in crate::watch) fn name(self) -> &'static str {
        match self {
            Self::Streaming => "streaming list",
            Self::Paged => "paged list",
            Self::Whole => "list without a limit",
        }
    }

    /// What to try next, and whether at once. `first`: where to begin anew.
    pub(super) fn after(self, failure: Failure, first: Self) -> (Self, bool) {
        match (failure, self) {
            // Another list would meet the same, or so it seems: `Recovery` lets them take turns where that lasts.
            (Failure::Unreachable | Failure::Unauthorized | Failure::Throttled(_), same) => {
                (same, false)
            }
            // A streaming list is a watch to RBAC: there may be a rule for lists alone.
            (Failure::Refused | Failure::Expired | Failure::Forbidden, Self::Streaming) => {
                (Self::Paged, true)
            }
            (Failure::Expired, Self::Paged) => (Self::Whole, true),
            (Failure::Refused, Self::Paged) => (Self::Whole, false),
            (Failure::Forbidden, Self::Paged)
            | (Failure::Refused | Failure::Expired | Failure::Forbidden, Self::Whole) => {
                (first, false)
            }
        }
    }
}
