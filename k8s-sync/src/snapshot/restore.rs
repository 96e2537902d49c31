//! Serves the snapshot at a start while the API server cannot be read.
//!
//! Invariant: kinds that have been listed are left alone, and the file is read on a thread of its
//! own, so fresh state is never late.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Selection;
use super::read::{Expected, RememberedState, read};
use crate::object::Event;
use crate::options::Options;
use crate::status::{KindStatus, SourceStatus};

/// How long before `startup_timeout` the file is read, so that it is served when the sockets open.
const READ_BEFORE: Duration = Duration::from_millis(500);

/// Sends the objects of the snapshot once a kind cannot be listed, or has not been when
/// `startup_timeout` is about to end. Returns when the API server's state has replaced them, and at
/// once if there is nothing to send.
pub async fn restore(options: &Options, status: &Arc<SourceStatus>, events: &Sender<Event>) {
    let Some(file) = options.snapshot().map(std::path::Path::to_path_buf) else { return };
    let total = options.startup_timeout;
    let patience = total.saturating_sub(READ_BEFORE).max(total / 2);
    let is_decided = |status: &SourceStatus| status.is_synced() || status.is_hindered();
    // After that, the sockets open with what there is.
    let _ = timeout(patience, status.until(is_decided)).await;
    if status.is_synced() {
        return;
    }
    let expected = Expected {
        selection: Selection::of(options),
        server: status.server().map(|server| (*server).to_owned()),
    };
    let path = file.clone();
    let state = match spawn_blocking(move || read(&path, &expected)).await {
        Ok(Ok(Some(state))) => state,
        Ok(Ok(None)) => {
            let file = file.display();
            tracing::warn!(
                "plugin/kubernetes: the API server has not been read yet, and there is no snapshot \
                 {file}: it is written once the cluster has been read"
            );
            return;
        }
        Ok(Err(error)) => {
            tracing::warn!(
                "plugin/kubernetes: cannot serve the snapshot: {error}; it is replaced once the \
                 cluster has been read"
            );
            return;
        }
        Err(panic) => {
            tracing::error!("plugin/kubernetes: cannot serve the snapshot: {panic}");
            return;
        }
    };
    if serve(state, &file.display().to_string(), status, events).await {
        status.until(SourceStatus::is_synced).await;
        tracing::info!("plugin/kubernetes: the API server's state has replaced the snapshot");
    }
}

/// Returns whether anything was left to serve.
async fn serve(
    mut state: RememberedState,
    file: &str,
    status: &SourceStatus,
    events: &Sender<Event>,
) -> bool {
    let unlisted: Vec<&KindStatus> = status.wanted().filter(|kind| !kind.is_synced()).collect();
    let Some(confirmed) = state.confirmed.filter(|_| !unlisted.is_empty()) else { return false };
    // A clock that was set back makes no state newer than now.
    let age = SystemTime::now().duration_since(confirmed).unwrap_or_default();
    let kinds: Vec<_> = unlisted.iter().map(|kind| kind.kind().plural()).collect();
    let kinds = kinds.join(", ");
    let (services, slices) = (state.services.len(), state.slices.len());
    tracing::warn!(
        age_secs = age.as_secs(),
        kinds,
        services,
        slices,
        "plugin/kubernetes: serving the snapshot {file} until the API server has been read"
    );
    status.snapshot.served(confirmed);
    for kind in unlisted {
        kind.remembered(age);
        if events.send(state.take(kind.kind())).await.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
