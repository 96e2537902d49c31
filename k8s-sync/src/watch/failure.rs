//! kube's errors, sorted by what can be done about them.

use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;

use super::client::chain;
use super::layer::Throttled;
use super::recovery::Failure;
use crate::raw::{Kind, RawObject};
use crate::status::KindStatus;

pub(super) const RETRIED: &str = "none: it is tried again until it works";
/// Where a 429 names no time.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// Sorts an error, and has the status remember and log it.
pub(super) fn note<T: RawObject>(status: &KindStatus, error: &watcher::Error) -> Failure {
    let failure = sort(error);
    let next_step = match failure {
        Failure::Forbidden => missing_rule(T::KIND),
        Failure::Unauthorized => {
            "is the token or the client certificate of the kubernetes block still valid?".to_owned()
        }
        Failure::Unreachable => {
            "is the API server up, and do network policies let this pod reach it?".to_owned()
        }
        Failure::Expired | Failure::Throttled(_) | Failure::Refused => RETRIED.to_owned(),
    };
    status.failed(chain(error), &next_step);
    failure
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
