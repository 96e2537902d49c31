//! The ways to request a list, and the order in which they are tried.

use super::Failure;

/// How to request a list.
///
/// None is a streaming list (`sendInitialEvents=true`), which client-go asks for: with 10,000
/// Services, a LIST costs the API server half the CPU and no more memory (since Kubernetes 1.33 it
/// encodes lists object by object), and ringdns 12 % less CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Strategy {
    /// LIST from the server's watch cache, then a watch. The list is no older than what was
    /// received before: of several API servers, one may lag behind the others. The other lists may
    /// be read from etcd, which costs the server several times as much.
    Cached,
    /// LIST in pages, as of now, then a watch.
    Paged,
    /// LIST without a limit, as of now, then a watch: for servers whose continue token expires too
    /// soon. Every API server supports it.
    Whole,
}

impl Strategy {
    pub(in crate::watch) fn name(self) -> &'static str {
        match self {
            Self::Cached => "list from the server's cache",
            Self::Paged => "paged list",
            Self::Whole => "list without a limit",
        }
    }

    /// The next strategy, and whether to use it at once.
    pub(super) fn after(self, failure: Failure) -> (Self, bool) {
        match (failure, self) {
            // Another kind of list would probably fail too. If this lasts, `Recovery` alternates
            // between them.
            (Failure::Unreachable | Failure::Unauthorized | Failure::Throttled(_), same) => {
                (same, false)
            }
            (
                Failure::Refused | Failure::Faulty | Failure::Expired | Failure::Behind,
                Self::Cached,
            ) => (Self::Paged, true),
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
            ) => (Self::Cached, false),
        }
    }
}
