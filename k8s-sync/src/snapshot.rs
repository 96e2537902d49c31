//! The snapshot file: the last known state of a cluster, for a start while its API server cannot be
//! read.
//!
//! ```text
//! model → Walk → pieces → file (a thread) → FILE → read → Change::Remembered → model
//! ```
//! FILE has one JSON text per line: a header, the objects as Kubernetes spells them, reduced to
//! what answers need, and an end. When it is written is in `keeper`, when it is served in
//! `restore`. Invariant: what is served was the whole state at one moment, and it never replaces
//! what the API server has listed.

mod file;
mod keeper;
mod line;
mod read;
mod restore;
mod walk;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use keeper::SnapshotKeeper;
pub use restore::restore;

use crate::options::Options;
use crate::raw::Kind;
use crate::status::is_wanted;

/// The format that is written and read. A later one is refused.
const VERSION: u64 = 1;
/// Marks the first line of a snapshot.
const HEADER_MARK: &str = "ringdns";
/// Marks the last line, without which the file is truncated.
const END_MARK: &str = "end";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    snapshot: String,
    version: u64,
    /// When the API server confirmed this state, in RFC 3339.
    confirmed: jiff::Timestamp,
    /// The API server's address. It stands for the cluster.
    server: Option<String>,
    #[serde(flatten)]
    selection: Selection,
}

/// Which objects of the cluster the model has, and how. Another selection needs another state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selection {
    kinds: Vec<String>,
    labels: Option<String>,
    namespace_labels: Option<String>,
    endpoint_pod_names: bool,
}

/// The last line. `lines`: how many objects are before it.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    snapshot: String,
    lines: u64,
}

impl Selection {
    fn of(options: &Options) -> Self {
        let kinds = Kind::ALL.into_iter().filter(|kind| is_wanted(options, *kind));
        let text = |selector: &Option<crate::selector::Selector>| {
            selector.as_ref().map(|selector| selector.text.clone())
        };
        Self {
            kinds: kinds.map(|kind| kind.name().to_owned()).collect(),
            labels: text(&options.labels),
            namespace_labels: text(&options.namespace_labels),
            endpoint_pod_names: options.endpoint_pod_names,
        }
    }

    /// The option that makes this selection unusable for one that needs `wanted`.
    fn difference(&self, wanted: &Self) -> Option<String> {
        if let Some(kind) = wanted.kinds.iter().find(|kind| !self.kinds.contains(kind)) {
            return Some(format!("it has no objects of kind {kind}"));
        }
        let options = [
            ("labels", self.labels == wanted.labels),
            ("namespace_labels", self.namespace_labels == wanted.namespace_labels),
            ("endpoint_pod_names", self.endpoint_pod_names == wanted.endpoint_pod_names),
        ];
        let (option, _) = options.into_iter().find(|(_, is_same)| !is_same)?;
        Some(format!("it was written with another `{option}`"))
    }
}

/// A snapshot that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SnapshotError {
    file: PathBuf,
    /// Counted from 1.
    line: Option<u64>,
    cause: String,
}

impl SnapshotError {
    fn new(file: &Path, line: Option<u64>, cause: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), line, cause: cause.into() }
    }
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.cause),
            None => write!(f, "{}: {}", self.file.display(), self.cause),
        }
    }
}

impl std::error::Error for SnapshotError {}

#[cfg(test)]
mod cost;
#[cfg(test)]
mod tests;
