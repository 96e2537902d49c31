//! When a snapshot is written, with a real disk and a clock of the test's own.

use std::fs::{self, File};

use tempfile::TempDir;

use super::*;
use crate::object::{Change, Namespace, ServiceKind};
use crate::options::{ApiServer, Source};
use crate::raw::Kind;
use crate::snapshot::tests::{options, service};

/// How long the disk may take.
const DISK_LIMIT: Duration = Duration::from_secs(30);

struct Kept {
    keeper: SnapshotKeeper,
    cluster: Cluster,
    status: Arc<SourceStatus>,
    began: Instant,
    folder: TempDir,
}

impl Kept {
    /// A keeper of `folder/NAME`, and a model that has been read completely.
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshot = Some(folder.path().join(name));
        let server = ApiServer { snapshot, ..ApiServer::default() };
        let options = Options { source: Source::ApiServer(server), ..options() };
        let status = Arc::new(SourceStatus::new(&options));
        let keeper = SnapshotKeeper::new(&options, Arc::clone(&status)).expect("the option");
        let cluster = Cluster::new(Arc::new(options));
        let mut kept = Self { keeper, cluster, status, began: Instant::now(), folder };
        for kind in Kind::ALL {
            kept.apply(list(kind, Change::Init));
            kept.apply(list(kind, Change::InitDone));
        }
        kept
    }

    fn synced(name: &str) -> Self {
        let kept = Self::new(name);
        kept.status.wanted().for_each(|kind| kind.listed(0, Duration::ZERO, "a list"));
        kept
    }

    fn apply(&mut self, event: Event) {
        self.keeper.note(&event);
        self.cluster.apply(event);
    }

    fn create(&mut self, name: &str) {
        self.apply(Event::Service(Change::Apply(service(name, ServiceKind::Headless))));
    }

    /// Lets the keeper do all that it has to do by then.
    fn step_until(&mut self, secs: u64) {
        let (now, by) = (self.began + Duration::from_secs(secs), Instant::now() + DISK_LIMIT);
        self.keeper.step(&self.cluster, now);
        while self.keeper.writing.is_some() || self.keeper.due(now) <= now {
            self.keeper.step(&self.cluster, now);
            assert!(Instant::now() < by, "not written within {DISK_LIMIT:?}");
            std::thread::yield_now();
        }
    }

    /// Whether the file has this Service. `None` without a file.
    fn has(&self, name: &str) -> Option<bool> {
        let text = fs::read_to_string(&self.keeper.file).ok()?;
        Some(text.contains(&format!("\"name\":\"{name}\"")))
    }
}

/// The same step of a list of any kind.
fn list(kind: Kind, change: Change<Namespace, Box<str>>) -> Event {
    let is_done = change == Change::InitDone;
    match (kind, is_done) {
        (Kind::Namespace, _) => Event::Namespace(change),
        (Kind::Service, true) => Event::Service(Change::InitDone),
        (Kind::Service, false) => Event::Service(Change::Init),
        (Kind::EndpointSlice, true) => Event::EndpointSlice(Change::InitDone),
        (Kind::EndpointSlice, false) => Event::EndpointSlice(Change::Init),
        (Kind::Pod, true) => Event::Pod(Change::InitDone),
        (Kind::Pod, false) => Event::Pod(Change::Init),
    }
}

#[tokio::test]
async fn it_is_written_once_a_minute_and_only_if_something_has_changed() {
    let mut kept = Kept::synced("state");
    kept.create("first");
    kept.step_until(2);
    assert_eq!(kept.has("first"), Some(true));
    kept.create("second");
    kept.step_until(61);
    assert_eq!(kept.has("second"), Some(false), "a minute after the first file");
    kept.step_until(62);
    assert_eq!(kept.has("second"), Some(true));
    let file = kept.keeper.file.clone();
    fs::remove_file(&file).expect("a file");
    kept.step_until(200);
    assert_eq!(kept.has("second"), None, "nothing has changed");
    assert_eq!(fs::read_dir(kept.folder.path()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn it_is_not_written_before_the_api_server_has_been_read() {
    let mut kept = Kept::new("state");
    kept.create("first");
    kept.step_until(100);
    assert_eq!(kept.has("first"), None);
    let (sender, written) = oneshot::channel();
    kept.keeper.flush(sender);
    kept.step_until(100);
    written.await.expect("nobody waits for what is not written");
    assert_eq!(kept.has("first"), None);
}

#[tokio::test]
async fn a_flush_writes_at_once() {
    let mut kept = Kept::synced("state");
    kept.step_until(2);
    kept.create("last");
    let (sender, written) = oneshot::channel();
    kept.keeper.flush(sender);
    kept.step_until(3);
    written.await.expect("it is told");
    assert_eq!(kept.has("last"), Some(true));
}

#[tokio::test]
async fn a_list_in_the_middle_begins_the_file_anew() {
    let mut kept = Kept::synced("state");
    kept.create("old");
    let now = kept.began + Duration::from_secs(2);
    // The header, and the first kinds.
    for _ in 0..4 {
        kept.keeper.step(&kept.cluster, now);
    }
    kept.apply(Event::Service(Change::Init));
    kept.apply(Event::Service(Change::InitApply(service("new", ServiceKind::Headless))));
    kept.apply(Event::Service(Change::InitDone));
    kept.step_until(2);
    assert_eq!((kept.has("old"), kept.has("new")), (Some(false), Some(true)));
}

#[tokio::test]
async fn a_failure_is_counted_and_tried_again() {
    let mut kept = Kept::synced("missing/state");
    kept.create("first");
    kept.step_until(2);
    let report = kept.status.snapshot.report();
    assert_eq!((report.failures, report.written), (1, None));
    let error = report.error.expect("an error");
    assert!(error.contains("missing/state") && error.contains("No such file"), "{error}");
    fs::create_dir(kept.folder.path().join("missing")).expect("a folder");
    kept.step_until(62);
    let report = kept.status.snapshot.report();
    assert_eq!((report.failures, report.error), (1, None));
    assert_eq!(kept.has("first"), Some(true));
}

/// A pod of the same host path may be writing its own.
#[tokio::test]
async fn what_killed_processes_left_is_removed_and_nothing_else() {
    let mut kept = Kept::synced("state");
    let folder = kept.folder.path().to_path_buf();
    let long_ago = SystemTime::now() - Duration::from_secs(61);
    let create = |name: &str, modified: SystemTime| {
        let file = File::create_new(folder.join(name)).expect("a file");
        file.set_modified(modified).expect("a time");
        file
    };
    for orphan in ["state.0123456789abcdef", "state.00000000000000ff"] {
        create(orphan, long_ago);
    }
    let others = [
        "other.0123456789abcdef",
        "state-2.0123456789abcdef",
        "state.0123456789abcde",
        "state.0123456789abcdefa",
        "state.20261129T1200000",
        "state.bak",
    ];
    others.iter().for_each(|other| drop(create(other, long_ago)));
    create("state.1111111111111111", SystemTime::now());
    let written_by_another = create("state.2222222222222222", long_ago);
    written_by_another.lock().expect("a lock");
    kept.create("first");
    kept.step_until(2);
    assert_eq!(kept.has("first"), Some(true));
    let names = || {
        let entries = fs::read_dir(&folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).collect();
        names.sort();
        names
    };
    let mut expected: Vec<&str> = others.to_vec();
    expected.extend(["state", "state.1111111111111111", "state.2222222222222222"]);
    expected.sort_unstable();
    assert_eq!(names(), expected);
    // That process is killed too.
    drop(written_by_another);
    kept.create("second");
    kept.step_until(70);
    expected.retain(|name| *name != "state.2222222222222222");
    assert_eq!(names(), expected);
}
