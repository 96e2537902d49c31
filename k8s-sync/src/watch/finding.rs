//! What happened to a list-watch: an observation for the recovery, with the diagnosis for the
//! operator.

use super::failure::Diagnosis;
use super::list_watch::VersionComparison;
use super::recovery::{ComparisonResult, Failure, Observation, ProbeResult};
use super::request::ApiError;
use crate::status::KindStatus;

/// An observation for the recovery, and the diagnosis for the operator.
pub(super) type Finding = (Observation, Option<Diagnosis>);

pub(super) fn failed(error: &ApiError) -> Finding {
    let diagnosis = Diagnosis::of(error);
    (Observation::Failed(diagnosis.failure), Some(diagnosis))
}

pub(super) fn unreadable() -> Diagnosis {
    let error = "cannot read an event of the watch: unknown type or object; \
                 a new list replaces it within a minute";
    Diagnosis::new(Failure::Faulty, error)
}

pub(super) fn compared(result: ComparisonResult, status: &KindStatus) -> Finding {
    match result {
        ComparisonResult::Lost(count) => status.repairs(count as u64),
        ComparisonResult::Same | ComparisonResult::Unclear | ComparisonResult::Failed(_) => {}
    }
    (Observation::Compared(result), None)
}

/// The watch works, so this is no failure of its kind.
pub(super) fn not_compared(error: &ApiError) -> Finding {
    tracing::debug!(%error, "cannot compare with the API server");
    (Observation::Compared(ComparisonResult::Failed(Diagnosis::of(error).failure)), None)
}

pub(super) fn probed(compared: Result<Option<VersionComparison>, ApiError>) -> Finding {
    let (probe, diagnosis) = match compared {
        Ok(None) => (ProbeResult::Equal, None),
        Ok(Some(VersionComparison { probe: ProbeResult::WentBack, server, ours })) => {
            let error = format!(
                "the API server's resource version has gone back from {ours} to {server}, as after \
                 a restore of etcd from a backup"
            );
            (ProbeResult::WentBack, Some(Diagnosis::new(Failure::Expired, &error)))
        }
        Ok(Some(compared)) => (compared.probe, None),
        Err(error) => {
            let diagnosis = Diagnosis::of_probe(&error);
            (ProbeResult::Failed(diagnosis.failure), Some(diagnosis))
        }
    };
    (Observation::Probed(probe), diagnosis)
}
