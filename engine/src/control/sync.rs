//! The k8s-sync thread of one `kubernetes` block. The only file of the server that names k8s-sync's
//! sources.
//!
//! Invariant: once stopped, the thread publishes nothing more, because another block may have its
//! slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use engine::corefile::value::selector;
use engine::fleet::{Deliver, Fleet, Forgotten};
use engine::io::slice;
use engine::limits::{
    EVENTS_WAITING_MAX, MANIFESTS_TIMEOUT, OBJECTS_TIMEOUT, SYNC_REQUESTS_WAITING_MAX,
    SYNC_STOP_LOOK_EVERY, SYNC_STOP_TIMEOUT,
};
use engine::metrics::{Metrics, ObjectFaults, ServiceKind, SnapshotFacts, TableFacts};
use engine::plan::TableSlot;
use engine::plugin::draft::ClusterSource;
use engine::plugin::kubernetes::cluster::Cluster;
use engine::plugin::kubernetes::{Kubernetes, Namespaces, Pods};
use engine::trust;
use k8s_sync::manifests::Manifests;
use k8s_sync::options::{ApiServer, ClientTls, Options, Source};
use k8s_sync::origin::{ClusterObjects, Needs};
use k8s_sync::publish::{self, Aside, ProgrammedKind, ReportProgrammed, Request, Shards, Status};
use k8s_sync::selector::{Operator, Requirement, Selector};
use k8s_sync::snapshot::{self, SnapshotKeeper};
use k8s_sync::status::SourceStatus;
use k8s_sync::status::snapshot::SnapshotReport;
use k8s_sync::watch::Watch;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use wire::pod::PodMode;

use super::endpoints::zone_text;
use super::hash_seed::HASH_SEED;

/// Threads started so far.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// A running k8s-sync thread.
pub(crate) struct KubernetesFeed {
    pub(crate) options: Arc<Options>,
    pub(crate) slot: TableSlot,
    /// Different for each thread that was started.
    number: u64,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) source: Arc<SourceStatus>,
    /// To the thread.
    pub(crate) requests: mpsc::Sender<Request>,
    started_at: Instant,
    /// Whether the thread may hand over tables.
    publishes: Arc<Mutex<bool>>,
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

/// The source of objects, in the thread.
enum ObjectReader {
    Manifests(Box<Manifests>),
    Watch(Box<Watch>),
}

impl KubernetesFeed {
    /// Starts the thread, whose tables and pod indexes go to the shards.
    ///
    /// # Errors
    /// A manifest cannot be read. An API server that cannot be reached is no error: the thread
    /// retries, and everything else is served meanwhile.
    pub(crate) async fn start(
        cluster: &ClusterSource,
        slot: TableSlot,
        fleet: &Fleet,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let options = Arc::new(options(cluster));
        let (requests, requested) = mpsc::channel(SYNC_REQUESTS_WAITING_MAX);
        let source = Arc::new(SourceStatus::new(&options));
        let (sender, status) = watch::channel(Status::default());
        let (stop, stopped) = oneshot::channel();
        let (report, opened) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let publishes = Arc::new(Mutex::new(true));
        let programmed = report_programmed(metrics);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let shards = Shards {
            tables: gated(fleet.deliveries(slot), &publishes),
            pods: gated(fleet.pod_deliveries(slot), &publishes),
        };
        let (thread_options, thread_source) = (Arc::clone(&options), Arc::clone(&source));
        let thread = std::thread::Builder::new().name("k8s-sync".into()).spawn(move || {
            // A change should not wait for whatever else runs on the node. If a sandbox denies
            // it, it does.
            let _ = slice::wake_up_soon();
            runtime.block_on(async {
                let reader = match open(&thread_options, &thread_source) {
                    Ok(reader) => reader,
                    Err(error) => return drop(report.send(Err(error))),
                };
                drop(report.send(Ok(())));
                let (events, received) = mpsc::channel(EVENTS_WAITING_MAX);
                let options = Arc::clone(&thread_options);
                let snapshot = SnapshotKeeper::new(&options, Arc::clone(&thread_source));
                let aside = Aside { snapshot, programmed };
                let publishing =
                    publish::run(options, *HASH_SEED, received, requested, shards, sender, aside);
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    () = publishing => {}
                    () = reader.run(&thread_options, &thread_source, events) => {}
                }
            });
            // Dropping it would wait for a file that hangs.
            runtime.shutdown_background();
        })?;
        let Ok(opened) = timeout(MANIFESTS_TIMEOUT, opened).await else {
            bail!(
                "plugin/kubernetes: the manifests were not read within {MANIFESTS_TIMEOUT:?}: are \
                 they on a file system that hangs, or a pipe that nobody writes to?"
            );
        };
        opened.context("the k8s-sync thread ended")??;
        Ok(Self {
            options,
            slot,
            number,
            status,
            source,
            requests,
            started_at: Instant::now(),
            publishes,
            stop: Some(stop),
            thread,
        })
    }

    /// Waits for the first complete table, at most until `startup_timeout` after the start. False
    /// if there is none yet.
    pub(crate) async fn settled(&mut self) -> bool {
        let rest = self.options.startup_timeout.saturating_sub(self.started_at.elapsed());
        let synced = self.status.wait_for(|status| status.is_synced);
        timeout(rest, synced).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Whether the thread has ended by itself. That is a bug, since outages do not end it.
    pub(crate) fn is_lost(&self) -> bool {
        self.thread.is_finished()
    }

    /// In wire format.
    pub(super) fn first_zone(&self) -> &[u8] {
        self.options.zones.first().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn facts(&self) -> TableFacts {
        table_facts(
            self.slot,
            self.first_zone(),
            &self.options,
            &self.status.borrow(),
            &self.source,
        )
    }

    /// Publishes nothing more: another feed may have the slot next.
    pub(crate) fn close(&self) {
        *lock(&self.publishes) = false;
    }

    /// Ends the thread, which is closed, once the shards have dropped its table: the thread then
    /// frees it. A thread that waits for a file or an exec plugin is left behind.
    pub(crate) async fn stop(mut self, forgotten: Forgotten) {
        let deadline = Instant::now() + SYNC_STOP_TIMEOUT;
        forgotten.wait_until(deadline).await;
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        while !self.is_lost() && Instant::now() < deadline {
            sleep(SYNC_STOP_LOOK_EVERY).await;
        }
    }
}

/// Reads the manifests of a block, if it has any, as a start-up would. No API server is asked.
///
/// # Errors
/// One cannot be read.
pub(crate) fn check_manifests(kubernetes: Kubernetes) -> anyhow::Result<()> {
    let options =
        options(&ClusterSource { kubernetes, server_addresses: Vec::new(), indexes_pods: false });
    let status = Arc::new(SourceStatus::new(&options));
    match &options.source {
        Source::Manifests(_) => open(&options, &status).map(drop),
        Source::ApiServer(_) => Ok(()),
    }
}

/// The objects that a block's answers come from, as they are now.
///
/// # Errors
/// They cannot be read.
pub(crate) async fn objects(
    kubernetes: &Kubernetes,
    needs: &Needs,
) -> anyhow::Result<ClusterObjects> {
    match source(kubernetes) {
        Source::Manifests(paths) => {
            let read = tokio::task::spawn_blocking(move || Manifests::objects(&paths));
            Ok(timeout(MANIFESTS_TIMEOUT, read).await???)
        }
        Source::ApiServer(server) => {
            let options = options(&ClusterSource {
                kubernetes: kubernetes.clone(),
                server_addresses: Vec::new(),
                indexes_pods: true,
            });
            let read = k8s_sync::watch::objects::objects(&server, &options, trust::verifier, needs);
            match timeout(OBJECTS_TIMEOUT, read).await {
                Ok(objects) => objects.map_err(anyhow::Error::msg),
                Err(_) => bail!("the API server did not list them within {OBJECTS_TIMEOUT:?}"),
            }
        }
    }
}

/// Deliveries that do nothing once the feed is closed.
pub(super) fn gated<T: 'static>(
    deliveries: Vec<Deliver<T>>,
    publishes: &Arc<Mutex<bool>>,
) -> Vec<Deliver<T>> {
    let gate = |deliver: Deliver<T>| -> Deliver<T> {
        let publishes = Arc::clone(publishes);
        Box::new(move |new| {
            // Held while delivering, so that nothing is delivered after `close`.
            let may_publish = lock(&publishes);
            !*may_publish || deliver(new)
        })
    };
    deliveries.into_iter().map(gate).collect()
}

pub(super) fn lock(publishes: &Mutex<bool>) -> MutexGuard<'_, bool> {
    publishes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report_programmed(metrics: &Arc<Metrics>) -> ReportProgrammed {
    let metrics = Arc::clone(metrics);
    Box::new(move |kind, took| {
        let kind = match kind {
            ProgrammedKind::ClusterIp => ServiceKind::ClusterIp,
            // Only slices that a controller makes from a selector have the time of the change.
            ProgrammedKind::Headless => ServiceKind::HeadlessWithSelector,
        };
        metrics.programmed(kind, took);
    })
}

/// What the metrics say about a table. `zone`: its first.
pub(super) fn table_facts(
    slot: TableSlot,
    zone: &[u8],
    options: &Options,
    status: &Status,
    source: &SourceStatus,
) -> TableFacts {
    let reports = source.reports();
    let is_current = reports.iter().all(|report| report.is_synced && report.error.is_none());
    let contacts = reports.iter().filter_map(|report| report.since_contact);
    let faults = reports.iter().map(|report| ObjectFaults {
        kind: report.kind.name(),
        refused: report.refused,
        odd_parts: report.odd_parts,
        repaired: report.repaired,
    });
    let changed = Duration::from_secs(status.changed_unix_secs.into());
    TableFacts {
        slot: slot.0,
        zone: zone_text(zone),
        generation: status.generation,
        name_count: status.names,
        len: status.table_bytes,
        is_synced: status.is_synced,
        is_current,
        published_at: status.is_synced.then(|| SystemTime::UNIX_EPOCH + changed),
        // The table may be as old as the kind that was confirmed longest ago.
        confirmed_at: source.age().and_then(|age| SystemTime::now().checked_sub(age)),
        is_connected: matches!(options.source, Source::ApiServer(_)).then(|| source.is_connected()),
        snapshot: snapshot_facts(options, source),
        last_event_at: contacts.max().and_then(|silence| SystemTime::now().checked_sub(silence)),
        refused_name_count: status.refused_names,
        faults: faults.collect(),
    }
}

/// Names this thread. A later thread for the same zone has another number.
impl std::fmt::Display for KubernetesFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let zone = zone_text(self.first_zone());
        write!(f, "{zone} #{}", self.number)
    }
}

fn open(options: &Options, status: &Arc<SourceStatus>) -> anyhow::Result<ObjectReader> {
    let status = Arc::clone(status);
    Ok(match &options.source {
        Source::Manifests(paths) => {
            let manifests = Manifests::load(paths, options, status)
                .context("plugin/kubernetes: cannot read the manifests")?;
            ObjectReader::Manifests(Box::new(manifests))
        }
        Source::ApiServer(server) => {
            ObjectReader::Watch(Box::new(Watch::new(server, options, status, trust::verifier)))
        }
    })
}

impl ObjectReader {
    async fn run(
        self,
        options: &Options,
        source: &Arc<SourceStatus>,
        events: mpsc::Sender<k8s_sync::object::Event>,
    ) {
        match self {
            Self::Manifests(manifests) => manifests.run(events).await,
            Self::Watch(watch) => {
                let restored = events.clone();
                let restoring = snapshot::restore(options, source, &restored);
                tokio::join!(restoring, watch.run(events));
            }
        }
    }
}

/// A Corefile's `kubernetes` block in k8s-sync's terms.
fn options(cluster: &ClusterSource) -> Options {
    let ClusterSource { kubernetes, server_addresses, indexes_pods } = cluster;
    let (namespaces, namespace_labels) = match &kubernetes.namespaces {
        Namespaces::All => (Vec::new(), None),
        Namespaces::Named(names) => (names.clone(), None),
        Namespaces::Labelled(labels) => (Vec::new(), Some(selector(labels))),
    };
    Options {
        zones: kubernetes.zones.iter().map(|zone| zone.wire.clone()).collect(),
        source: source(kubernetes),
        namespaces,
        namespace_labels,
        labels: kubernetes.labels.as_ref().map(selector),
        pods: match kubernetes.pods {
            Pods::Disabled => PodMode::Disabled,
            Pods::Insecure => PodMode::Insecure,
            Pods::Verified => PodMode::Verified,
        },
        indexes_pods: *indexes_pods,
        endpoint_pod_names: kubernetes.endpoint_pod_names,
        ttl_secs: kubernetes.ttl_secs,
        no_endpoints: kubernetes.no_endpoints,
        ignore_empty_service: kubernetes.ignore_empty_service,
        server_addresses: server_addresses.clone(),
        startup_timeout: kubernetes.startup_timeout,
    }
}

fn selector(from: &selector::Selector) -> Selector {
    let requirements = from.requirements.iter().map(|requirement| Requirement {
        key: requirement.key.clone(),
        operator: match &requirement.operator {
            selector::Operator::Exists => Operator::Exists,
            selector::Operator::DoesNotExist => Operator::DoesNotExist,
            selector::Operator::In(values) => Operator::In(values.clone()),
            selector::Operator::NotIn(values) => Operator::NotIn(values.clone()),
        },
    });
    Selector { text: from.text.clone(), requirements: requirements.collect() }
}

fn source(kubernetes: &Kubernetes) -> Source {
    let limits = &kubernetes.api_limits;
    let server = ApiServer {
        // At least one request per second, since less would round down to none.
        qps: limits.qps.map(|qps| (qps.ceil() as u32).max(1)),
        burst: limits.burst,
        max_inflight: limits.max_inflight,
        snapshot: kubernetes.snapshot.clone(),
        ..ApiServer::default()
    };
    Source::ApiServer(match &kubernetes.cluster {
        Cluster::Manifests(paths) => return Source::Manifests(paths.clone()),
        Cluster::OwnPod => server,
        Cluster::Kubeconfig { file, context } => {
            ApiServer { kubeconfig: Some((file.clone(), context.clone())), ..server }
        }
        Cluster::Endpoint { url, tls } => ApiServer {
            endpoint: Some(url.clone()),
            tls: tls.as_ref().map(|tls| ClientTls {
                certificate: tls.certificate.clone(),
                key: tls.key.clone(),
                authority: tls.authority.clone(),
            }),
            ..server
        },
    })
}

fn snapshot_facts(options: &Options, source: &SourceStatus) -> Option<SnapshotFacts> {
    options.snapshot()?;
    let SnapshotReport { written, failures, .. } = source.snapshot.report();
    Some(SnapshotFacts { is_served: source.is_snapshot_served(), written_at: written, failures })
}
