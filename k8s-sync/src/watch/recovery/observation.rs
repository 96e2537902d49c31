//! The events of a list-watch that the recovery needs to know.

use std::time::Duration;

/// What happened to a list-watch. Received objects are reported by `Recovery::received`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Observation {
    ListComplete {
        /// The list has a resource version to watch from. Otherwise a watch begins with all objects
        /// and cannot be resumed.
        is_resumable: bool,
    },
    WatchBegins,
    /// The server has ended the watch, which is normal.
    WatchEnds,
    /// An event of unknown type or with an unknown object. What changed is unknown until the next
    /// list.
    Unreadable,
    Probed(ProbeResult),
    Compared(ComparisonResult),
    Failed(Failure),
    /// `Recovery::deadline` has passed.
    DeadlinePassed,
}

/// The server's resource version, compared with the watched one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum ProbeResult {
    /// The same.
    Equal,
    /// Newer, through changes of this kind or of others.
    Ahead,
    /// Older: etcd was restored from a backup. A watch would be silent until the server reaches
    /// that version again.
    WentBack,
    Failed(Failure),
}

/// What the periodic comparison with the server's list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum ComparisonResult {
    /// The watch has lost nothing.
    Same,
    /// The watch has lost changes of so many objects.
    Lost(usize),
    /// The server's list was older than the watch, or too much has changed meanwhile.
    Unclear,
    Failed(Failure),
}

/// Why a request or a stream failed. Reasons with the same next action are one variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum Failure {
    /// No response: no route, no listener, TLS, a broken connection. Or that of a gateway that has
    /// none of the server: 502, 503, 504.
    Unreachable,
    /// 401: the credentials may have been rotated.
    Unauthorized,
    /// 403: an RBAC rule is missing.
    Forbidden,
    /// 410: the resource version or the continue token has expired.
    Expired,
    /// 504: the server's cache is older than the version that was asked for. It lags behind the API
    /// server that was asked before, or etcd was restored.
    Behind,
    /// 429, or 503 with Retry-After.
    Throttled(Duration),
    /// Any other 4xx, or an error that says that the server cannot do this: it will not serve such
    /// a request the next time either.
    Refused,
    /// Any other response, including unreadable ones: the next one may be right.
    Faulty,
}
