//! The loop from events to shards, with channels and a clock.

mod objects;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, SystemTime};

use k8s_sync::object::{Change, EndpointSlice, Event};
use k8s_sync::options::Options;
use k8s_sync::publish::{
    Aside, Deliver, ExternalNumber, NewExternal, ProgrammedKind, Request, Shards, Status, run,
};
use tokio::sync::{mpsc, watch};
use wire::hash::HashSeed;
use wire::pod_index::PodIndex;
use wire::table::Table;

use objects::{apply, ask, external_options, synced, usual};

/// A running loop with one shard whose channel holds `capacity` tables.
struct Running {
    events: mpsc::Sender<Event>,
    requests: mpsc::Sender<Request>,
    pods: Receiver<Arc<PodIndex>>,
    tables: Receiver<Arc<Table>>,
    durations: Receiver<(ProgrammedKind, Duration)>,
    status: watch::Receiver<Status>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(options: Options, capacity: usize) -> Self {
        let (events, source) = mpsc::channel(1024);
        let (shard, tables) = sync_channel(capacity);
        let (sender, status) = watch::channel(Status::default());
        let (requests, requested) = mpsc::channel(8);
        let deliver: Deliver = Box::new(move |table| shard.try_send(table).is_ok());
        let (pod_shard, pods) = sync_channel(capacity);
        let deliver_pods: Deliver<PodIndex> =
            Box::new(move |pods| pod_shard.try_send(pods).is_ok());
        let (programmed, durations) = std::sync::mpsc::channel();
        let shards = Shards { tables: vec![deliver], pods: vec![deliver_pods] };
        let task = tokio::spawn(run(
            Arc::new(options),
            HashSeed::new(7),
            source,
            requested,
            shards,
            sender,
            Aside {
                snapshot: None,
                programmed: Box::new(move |kind, took| {
                    programmed.send((kind, took)).expect("the test runs");
                }),
            },
        ));
        Self { events, requests, pods, tables, durations, status, task }
    }

    async fn request(&self, request: Request) {
        self.requests.send(request).await.unwrap_or_else(|_| panic!("the loop runs"));
    }

    async fn send(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.events.send(event).await.expect("the loop takes events");
        }
    }

    /// Waits until the status satisfies the condition.
    async fn until(&mut self, is_such: impl FnMut(&Status) -> bool) -> Status {
        let reached = tokio::time::timeout(Duration::from_secs(30), self.status.wait_for(is_such));
        reached.await.expect("within 30 s").expect("the loop runs").clone()
    }

    fn newest(&self) -> Option<Arc<Table>> {
        self.tables.try_iter().last()
    }
}

#[tokio::test]
async fn start_up_sync_and_shutdown() {
    let mut running = Running::start(usual(), 8);
    let status = running.until(|status| status.generation == 1).await;
    assert!(!status.is_synced);
    assert_eq!(status.unsynced_kinds, ["namespaces", "services", "endpointslices"]);
    let table = running.newest().expect("a table at once");
    assert_eq!(ask(&table, "web.n.svc.cluster.local A"), "UNSYNCED");
    assert_eq!(ask(&table, "svc.cluster.local A"), "NODATA");

    let [namespaces, services, slices] = [0, 2, 4].map(|at| synced()[at..at + 2].to_vec());
    running.send([apply("ns n"), apply("svc n/web 10.96.0.1 http:80/tcp")]).await;
    running.send(namespaces).await;
    running.send(slices).await;
    running.until(|status| status.unsynced_kinds == ["services"]).await;
    assert!(running.newest().is_none(), "a table of some kinds is not handed over");
    running.send(services).await;
    running.send([apply("ns n"), apply("svc n/web 10.96.0.1 http:80/tcp")]).await;
    let status = running.until(|status| status.is_synced && status.services == 1).await;
    assert_eq!(status.unsynced_kinds, Vec::<&str>::new());
    assert!(status.changed_unix_secs > 1_700_000_000);
    let table = running.newest().expect("the whole cluster");
    assert_eq!(ask(&table, "web.n.svc.cluster.local A"), "A 10.96.0.1");
    assert_eq!(ask(&table, "gone.n.svc.cluster.local A"), "NXDOMAIN");

    let Running { events, task, .. } = running;
    drop(events);
    task.await.expect("the loop ends when its sources are gone");
}

#[tokio::test]
async fn after_the_timeout_unsynced_kinds_are_left_out() {
    let options = Options { startup_timeout: Duration::from_millis(5), ..usual() };
    let mut running = Running::start(options, 8);
    running.send(synced()[..4].to_vec()).await;
    running.send(["ns n", "svc n/web 10.96.0.1 http:80/tcp", "svc n/db headless"].map(apply)).await;
    let status = running.until(|status| status.generation >= 2 && status.services == 2).await;
    assert!(!status.is_synced);
    assert_eq!(status.unsynced_kinds, ["endpointslices"]);
    running.until(|status| status.names > 10).await;
    let table = running.newest().expect("a table of some kinds");
    assert_eq!(ask(&table, "web.n.svc.cluster.local A"), "A 10.96.0.1");
    assert_eq!(ask(&table, "db.n.svc.cluster.local A"), "UNSYNCED");
}

#[tokio::test]
async fn the_time_from_a_change_to_its_answer_is_reported() {
    let mut running = Running::start(usual(), 8);
    let ago = |secs| SystemTime::now() - Duration::from_secs(secs);
    let slice = |text: &str, triggered| match apply(text) {
        Event::EndpointSlice(Change::Apply(slice)) => EndpointSlice { triggered, ..slice },
        other => panic!("{other:?}"),
    };
    let changed =
        |text: &str, triggered| Event::EndpointSlice(Change::Apply(slice(text, triggered)));
    let [namespaces, services, slices] = [0, 2, 4].map(|at| synced()[at..at + 2].to_vec());
    running.send(namespaces).await;
    running.send(services).await;
    running.send(["ns n", "svc n/web 10.96.0.1 http:80/tcp", "svc n/db headless"].map(apply)).await;
    let [begin, end] = [slices[0].clone(), slices[1].clone()];
    let listed =
        Event::EndpointSlice(Change::InitApply(slice("eps n/a db 10.1.0.1", Some(ago(9)))));
    running.send([begin, listed, end]).await;
    running.until(|status| status.is_synced).await;
    running
        .send([
            changed("eps n/a db 10.1.0.2", Some(ago(3))),
            changed("eps n/b web 10.1.0.3", Some(ago(2))),
            // Nothing has changed, nothing says when, and nobody can ask.
            changed("eps n/b web 10.1.0.3", Some(ago(2))),
            changed("eps n/a db 10.1.0.4", None),
            changed("eps n/c none 10.1.0.5", Some(ago(2))),
            apply("ns last"),
        ])
        .await;
    running.until(|status| status.names > 0 && status.generation > 2).await;
    running.until(|status| status.endpoints == 3).await;
    let reported = std::iter::from_fn(|| running.durations.recv_timeout(Duration::ZERO).ok());
    let reported: Vec<_> = reported.map(|(kind, took)| (kind, took.as_secs())).collect();
    assert_eq!(reported, [(ProgrammedKind::Headless, 3), (ProgrammedKind::ClusterIp, 2)]);
}

#[tokio::test]
async fn a_burst_is_one_table_and_a_full_shard_gets_the_newest() {
    let mut running = Running::start(usual(), 2);
    running.send(synced()).await;
    let before = running.until(|status| status.is_synced).await.generation;
    // The loop runs only while this task waits, so it finds all of these at once.
    running.events.try_send(apply("ns n")).expect("room");
    for index in 0..500 {
        running.events.try_send(apply(&format!("svc n/s{index} 10.96.1.1"))).expect("room");
    }
    let status = running.until(|status| status.services == 500).await;
    assert_eq!(status.generation, before + 1, "one table for 500 changes");
    // The channel was full with the first two tables. Later ones replace each other.
    assert_eq!(status.tables_alive, 3);
    let generations: Vec<u64> = running.tables.try_iter().map(|table| table.generation()).collect();
    assert_eq!(generations, [1, 2]);
    let table = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match running.newest() {
                Some(table) => break table,
                None => tokio::task::yield_now().await,
            }
        }
    });
    let table = table.await.expect("it is offered again");
    assert_eq!(table.generation(), status.generation);
    assert_eq!(ask(&table, "s499.n.svc.cluster.local A"), "A 10.96.1.1");
    running.until(|status| status.tables_alive == 1 && status.table_bytes > 0).await;
}

#[tokio::test]
async fn deleted_objects_disappear() {
    let mut running = Running::start(usual(), 64);
    running.send(synced()).await;
    running.send(["ns n", "svc n/web 10.96.0.1", "eps n/e web 10.1.0.1"].map(apply)).await;
    running.until(|status| status.endpoints == 1).await;
    running.send([Event::Namespace(Change::Delete("n".into()))]).await;
    running.send([objects::delete("eps n/e web")]).await;
    running.until(|status| status.endpoints == 0).await;
    let table = running.newest().expect("another table");
    for question in ["web.n.svc.cluster.local A", "1.0.96.10.in-addr.arpa PTR"] {
        assert_eq!(ask(&table, question), "NXDOMAIN", "{question}");
    }
}

/// External zones get their tables from the model as it is: no source lists anything again. They go
/// when nobody reads their status; a lost request to free them changes nothing.
#[tokio::test]
async fn external_zones_come_and_go() {
    let mut running = Running::start(usual(), 64);
    running.send(synced()).await;
    running.send(["ns n", "svc n/web 10.96.0.1 http:80/tcp @192.0.2.1"].map(apply)).await;
    let before = running.until(|status| status.services == 1).await;
    for (number, is_request_lost) in [(3, false), (4, true)] {
        let (shard, tables) = sync_channel(8);
        let deliver: Deliver = Box::new(move |table| shard.try_send(table).is_ok());
        let (sender, mut status) = watch::channel(Status::default());
        let new = NewExternal {
            number: ExternalNumber(number),
            options: external_options(&["out.example"]),
            shards: vec![deliver],
            status: sender,
        };
        running.request(Request::AddExternal(Box::new(new))).await;
        let synced = status.wait_for(|status| status.is_synced && status.table_bytes > 0);
        let synced = tokio::time::timeout(Duration::from_secs(30), synced).await;
        synced.expect("within 30 s").expect("the loop runs");
        let table = tables.try_iter().last().expect("a whole table");
        assert!(table.is_synced());
        assert_eq!(ask(&table, "web.n.out.example A"), "A 192.0.2.1");
        let generation = running.status.borrow().generation;
        assert_eq!(generation, before.generation, "the cluster's is the same");
        let freed = Arc::downgrade(&table);
        drop((table, status));
        match is_request_lost {
            false => running.request(Request::FreeExternals).await,
            true => running.send([apply("ns n")]).await,
        }
        let gone = tokio::time::timeout(Duration::from_secs(30), async {
            while freed.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        });
        gone.await.expect("the loop frees the table");
    }
}

#[tokio::test]
async fn pod_indexes_follow_the_pods() {
    let mut running = Running::start(Options { indexes_pods: true, ..usual() }, 64);
    running.send(synced()[..6].to_vec()).await;
    running.until(|status| status.unsynced_kinds == ["pods"]).await;
    assert!(running.pods.try_recv().is_err(), "an index of some pods is not handed over");
    running.send(synced()[6..].to_vec()).await;
    running.send(["pod n/one 10.1.0.1", "pod n/node 192.0.2.1 host"].map(apply)).await;
    running.until(|status| status.is_synced).await;
    let (one, node) = ([10, 1, 0, 1].into(), [192, 0, 2, 1].into());
    let mut newest = None;
    let indexed = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            newest = running.pods.try_iter().last().or_else(|| newest.take());
            let index: Option<&Arc<PodIndex>> = newest.as_ref();
            if index.is_some_and(|index| index.namespace_of(one) == Some(b"\x01n")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    indexed.await.expect("an index with the pod");
    assert_eq!(newest.expect("an index").namespace_of(node), None);
}
