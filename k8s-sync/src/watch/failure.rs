//! kube's errors, sorted by what can be done about them.

use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;

use super::client::chain;
use super::layer::Throttled;
use super::recovery::Failure;
use crate::raw::Kind;

/// Where a 429 names no time.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// What went wrong, for the log and /ready.
pub(super) struct Trouble {
    pub(super) failure: Failure,
    pub(super) error: String,
}

impl Trouble {
    pub(super) fn of(error: &watcher::Error) -> Self {
        Self { failure: sort(error), error: words(error) }
    }

    /// A list that takes too long.
    pub(super) fn endless_list() -> Self {
        let error = "the list has begun but does not come to its end".to_owned();
        Self { failure: Failure::Refused, error }
    }

    /// What an operator can do about it.
    pub(super) fn next_step(&self, kind: Kind) -> String {
        match self.failure {
            Failure::Forbidden => missing_rule(kind),
            Failure::Unauthorized => {
                "is the token or client certificate of the kubernetes block still valid?".to_owned()
            }
            Failure::Unreachable => {
                "is the API server up, and do network policies let this pod reach it?".to_owned()
            }
            Failure::Expired | Failure::Throttled(_) | Failure::Refused => {
                "none: it is tried again until it works".to_owned()
            }
        }
    }
}

/// The server's own words where it has said something, else the chain of causes.
fn words(error: &watcher::Error) -> String {
    let of_status = |status: &Status| match status.message.as_str() {
        "" => format!("HTTP {}", status.code),
        message => format!("{message} (HTTP {})", status.code),
    };
    match error {
        watcher::Error::WatchError(status) => of_status(status),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => of_status(status),
            kube::Error::Service(error) => chain(&**error),
            other => chain(other),
        },
        watcher::Error::NoResourceVersion => chain(error),
    }
}

/// The rule that the ClusterRole lacks, ready to be pasted.
fn missing_rule(kind: Kind) -> String {
    let (group, plural) = (kind.group(), kind.plural());
    format!(
        "add to the ClusterRole: {{apiGroups: [\"{group}\"], resources: [\"{plural}\"], verbs: [\"list\", \"watch\"]}}"
    )
}

fn sort(error: &watcher::Error) -> Failure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => sort_client(error),
        watcher::Error::WatchError(status) => sort_status(status),
        watcher::Error::NoResourceVersion => Failure::Refused,
    }
}

fn sort_client(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => sort_status(status),
        kube::Error::Service(error) => match error.downcast_ref::<Throttled>() {
            Some(throttled) => Failure::Throttled(throttled.retry_after),
            None => Failure::Unreachable,
        },
        kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => Failure::Unreachable,
        kube::Error::Auth(_) => Failure::Unauthorized,
        // What cannot be read, and errors of requests that are never made here.
        _ => Failure::Refused,
    }
}

fn sort_status(status: &Status) -> Failure {
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    match status.code {
        401 => Failure::Unauthorized,
        403 => Failure::Forbidden,
        410 => Failure::Expired,
        429 if retry_after == 0 => Failure::Throttled(RETRY_AFTER_DEFAULT),
        429 | 503 if retry_after != 0 => {
            Failure::Throttled(Duration::from_secs(u64::from(retry_after)))
        }
        _ => Failure::Refused,
    }
}
