//! When a snapshot is served, with the runtime's clock stopped.

use std::fs;

use tempfile::TempDir;
use tokio::sync::mpsc::channel;
use tokio::time::Instant;

use super::*;
use crate::options::{ApiServer, Source};
use crate::raw::Kind;
use crate::snapshot::tests::{cluster, options, written};

struct Restored {
    options: Options,
    status: Arc<SourceStatus>,
    folder: TempDir,
}

impl Restored {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state");
        fs::write(&file, written(&cluster())).expect("a file");
        let server = ApiServer { snapshot: Some(file), ..ApiServer::default() };
        let options = Options { source: Source::ApiServer(server), ..options() };
        let status = Arc::new(SourceStatus::new(&options));
        Self { options, status, folder }
    }

    fn list(&self, kind: Kind) {
        self.status.kind(kind).listed(0, Duration::ZERO, "a list");
    }

    /// The kinds that are sent, and when the first of them is.
    async fn sent(&self) -> (Vec<&'static str>, Duration) {
        let (sender, mut events) = channel(16);
        let began = Instant::now();
        let restoring = restore(&self.options, &self.status, &sender);
        let (mut kinds, mut first) = (Vec::new(), Duration::ZERO);
        let receiving = async {
            while let Some(event) = events.recv().await {
                if kinds.is_empty() {
                    first = began.elapsed();
                }
                kinds.push(match event {
                    Event::Namespace(_) => "namespaces",
                    Event::Service(_) => "services",
                    Event::EndpointSlice(_) => "endpointslices",
                    Event::Pod(_) => "pods",
                });
                if kinds.last() == Some(&"pods") {
                    Kind::ALL.into_iter().for_each(|kind| self.list(kind));
                }
            }
        };
        tokio::select! {
            biased;
            () = receiving => {}
            () = restoring => {}
        }
        (kinds, first)
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_it_served_at_once() {
    let restored = Restored::new();
    restored.status.kind(Kind::Service).failed("connection refused".to_owned(), "wait");
    let (kinds, after) = restored.sent().await;
    assert_eq!(kinds, ["namespaces", "services", "endpointslices", "pods"]);
    assert_eq!(after, Duration::ZERO);
    assert!(!restored.status.is_snapshot_served(), "it has been replaced");
}

#[tokio::test(start_paused = true)]
async fn silence_has_it_served_when_the_sockets_open() {
    let restored = Restored::new();
    let (kinds, after) = restored.sent().await;
    assert_eq!(kinds.len(), 4);
    let expected = restored.options.startup_timeout - READ_BEFORE;
    assert!(after >= expected && after < expected + Duration::from_millis(10), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn listed_kinds_are_left_alone() {
    let restored = Restored::new();
    restored.list(Kind::Namespace);
    restored.list(Kind::EndpointSlice);
    restored.status.kind(Kind::Pod).failed("forbidden".to_owned(), "add a rule");
    let (kinds, _) = restored.sent().await;
    assert_eq!(kinds, ["services", "pods"]);

    let restored = Restored::new();
    Kind::ALL.into_iter().for_each(|kind| restored.list(kind));
    assert_eq!(restored.sent().await.0, Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn its_age_counts_from_the_time_of_its_state() {
    let restored = Restored::new();
    assert_eq!(restored.status.age(), None, "nothing is served");
    let day = Duration::from_secs(24 * 3600);
    Kind::ALL.into_iter().for_each(|kind| restored.status.kind(kind).remembered(day));
    assert!(restored.status.is_snapshot_served());
    // Ages are whole milliseconds.
    let is_a_day = |age: Duration| age + Duration::from_millis(2) >= day && age < day * 2;
    assert!(restored.status.age().is_some_and(is_a_day), "{:?}", restored.status.age());
    Kind::ALL.into_iter().skip(1).for_each(|kind| restored.list(kind));
    assert!(restored.status.age().is_some_and(is_a_day), "one kind is still old");
    restored.list(Kind::Namespace);
    assert!(!restored.status.age().is_some_and(is_a_day));
    assert!(!restored.status.is_snapshot_served());
}

#[tokio::test(start_paused = true)]
async fn without_a_usable_file_nothing_is_sent() {
    let restored = Restored::new();
    restored.status.kind(Kind::Service).failed("connection refused".to_owned(), "wait");
    let file = restored.folder.path().join("state");
    fs::write(&file, "something else\n").expect("a file");
    assert_eq!(restored.sent().await.0, Vec::<&str>::new());
    fs::remove_file(&file).expect("a file");
    assert_eq!(restored.sent().await.0, Vec::<&str>::new());
    fs::create_dir(&file).expect("a folder");
    assert_eq!(restored.sent().await.0, Vec::<&str>::new());
    assert!(!restored.status.is_snapshot_served());
}
