//! The ways to request a list, and the order in which they are tried.

use super::Failure;

/// How to request the initial list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Strategy {
    /// `sendInitialEvents=true`: the list is the beginning of the watch, object by object.
    Streaming,
    /// LIST from the server's watch cache, then a watch: what client-go requests if there are no
    /// streaming lists. The other lists are read from etcd, which costs the server several times
    /// as much.
    Cached,
    /// LIST in pages, as of now, then a watch.
    Paged,
    /// LIST without a limit, as of now, then a watch: for servers whose continue token expires too
    /// soon. Every API server supports it.
    Whole,
}

/// How old a list may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Freshness {
    /// As the server remembers it, but no older than what was received before: of several API
    /// servers, one may lag behind the others.
    Remembered,
    /// As of now: what was received before is lost or is ahead of the server's cache. Otherwise a
    /// server with an old cache could send the same outdated list for ever.
    Newest,
}

impl Strategy {
    pub(in crate::watch) fn name(self) -> &'static str {
        match self {
            Self::Streaming => "streaming list",
            Self::Cached => "list from the server's cache",
            Self::Paged => "paged list",
            Self::Whole => "list without a limit",
        }
    }

    /// The next strategy, and whether to use it at once. `first`: the strategy to start over with.
    pub(super) fn after(self, failure: Failure, first: Self) -> (Self, bool) {
        match (failure, self) {
            // Another kind of list would probably fail too. If this lasts, `Recovery` alternates
            // between them.
            (Failure::Unreachable | Failure::Unauthorized | Failure::Throttled(_), same) => {
                (same, false)
            }
            // To RBAC, a streaming list is a watch. There may be a rule for lists only.
            (
                Failure::Refused | Failure::Faulty | Failure::Expired | Failure::Forbidden,
                Self::Streaming,
            ) => (Self::Cached, true),
            (Failure::Refused | Failure::Faulty | Failure::Expired, Self::Cached) => {
                (Self::Paged, true)
            }
            // The same as of now.
            (Failure::Behind, Self::Streaming | Self::Cached) => (self, true),
            (Failure::Expired, Self::Paged) => (Self::Whole, true),
            (Failure::Refused | Failure::Faulty | Failure::Behind, Self::Paged) => {
                (Self::Whole, false)
            }
            (Failure::Forbidden, Self::Cached | Self::Paged)
            | (
                Failure::Refused
                | Failure::Faulty
                | Failure::Expired
                | Failure::Forbidden
                | Failure::Behind,
                Self::Whole,
            ) => (first, false),
        }
    }
}
