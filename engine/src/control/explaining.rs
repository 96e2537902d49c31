//! The command `ringdns explain NAME`: builds the plan of a Corefile, loads its tables, and asks
//! the question without opening a socket for others to ask.
//!
//! How an answer came about is in the decisions that the shard reports; which objects it comes from
//! is in `objects`; `shown` writes both; `remote` asks a running server. Invariant: no listening
//! socket is opened.

mod objects;
pub(crate) mod remote;
mod shown;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use domain::base::Name as DomainName;
use engine::admin::ExplainCall;
use engine::answer::exit::Reports;
use engine::cli::{Cli, ExplainOptions, Steer};
use engine::client::ListenerId;
use engine::config::Config;
use engine::fleet::{Asker, Backend, Fleet, FleetSettings};
use engine::io::socket::PortClaim;
use engine::limits::{ERROR_REPORTS_WAITING_MAX, EXPLANATIONS_MAX};
use engine::metrics::Metrics;
use engine::plan::Plan;
use engine::plugin::kubernetes::Kubernetes;
use engine::question::OwnedQuestion;
use engine::responder::explaining::{ExplainRequest, Explained, ExplainedOutcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wire::name::Name;

use super::query_log::ListenerAddresses;
use super::server::Server;
use super::slow::CorefileSource;
use super::{output, start};
use objects::KnownObjects;
use shown::{ExplainReport, Explanation, SearchStep, Teller};

/// A stub resolver tries a name with as many dots as it is before the search path (`ndots` of
/// Kubernetes).
const DOTS_MIN: usize = 5;

/// The exit codes are in `ringdns explain --help`.
pub(crate) fn run(cli: &Cli, options: &ExplainOptions) -> ExitCode {
    let explained = match &options.server {
        Some(address) => remote::explain(address, options),
        None => here(cli, options),
    };
    match explained {
        Ok(text) => output::print(&text),
        Err(error) => {
            output::complain(&format!("{error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn here(cli: &Cli, options: &ExplainOptions) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime")?;
    let explained = runtime.block_on(async {
        let conf = options.conf.clone().or_else(|| cli.conf.clone());
        let (origin, _) = start::corefile(&Cli { conf, ..cli.clone() })?;
        let (_, config) = CorefileSource::first(origin, cli.dns_port).await?;
        let config = config.map_err(|report| anyhow::anyhow!("{}", start::shown(&report)))?;
        let server = unserved(&config).await?;
        Explainer::new(&server, &config).explain(options).await
    });
    // Dropping it would wait for a file or a resolver that hangs.
    runtime.shutdown_background();
    explained
}

/// What is needed of a server to explain its answers. The server may change meanwhile.
pub(crate) struct Explainer {
    asker: Asker,
    plan: Arc<Plan>,
    /// By block of the Corefile.
    places: Vec<String>,
    /// The first zone of a cluster that is not a reverse zone.
    cluster_zone: Option<String>,
}

impl Explainer {
    pub(crate) fn new(server: &Server, config: &Config) -> Self {
        let cluster_zone = config.blocks.iter().find_map(|block| {
            let kubernetes: &Kubernetes = block.line()?;
            let zone = kubernetes.zones.iter().find(|zone| !zone.text.ends_with("arpa."));
            zone.map(|zone| zone.text.clone())
        });
        Self {
            asker: server.asker(),
            plan: server.shared_plan(),
            places: config.blocks.iter().map(|block| block.place.to_string()).collect(),
            cluster_zone,
        }
    }

    /// The explanation, as text or as JSON.
    ///
    /// # Errors
    /// The name or the port cannot be asked for.
    pub(crate) async fn explain(&self, options: &ExplainOptions) -> anyhow::Result<String> {
        let report = self.report(options).await?;
        Ok(if options.json { report.json() } else { report.text() })
    }

    async fn report(&self, options: &ExplainOptions) -> anyhow::Result<ExplainReport> {
        let mut objects = KnownObjects::default();
        let namespace = match (&options.namespace, options.from) {
            (Some(namespace), _) => Some(namespace.clone()),
            (None, Some(address)) => objects.namespace_at(&self.plan, address).await,
            (None, None) => None,
        };
        let names = search_path(&options.name, namespace.as_deref(), self.cluster_zone.as_deref());
        let mut search = Vec::new();
        let mut first = None;
        let is_search = names.len() > 1;
        for name in names {
            let explanation = self.explain_one(&mut objects, &name, options).await?;
            search.push(SearchStep::of(&explanation));
            if explanation.has_records() {
                first = Some(explanation);
                break;
            }
            first.get_or_insert(explanation);
        }
        let explained = first.context("a search path has at least one name")?;
        let search = if is_search { search } else { Vec::new() };
        Ok(ExplainReport { namespace, search, explained })
    }

    async fn explain_one(
        &self,
        objects: &mut KnownObjects,
        name: &str,
        options: &ExplainOptions,
    ) -> anyhow::Result<Explanation> {
        let parsed: DomainName<Vec<u8>> =
            name.to_ascii_lowercase().parse().with_context(|| format!("'{name}' is not a name"))?;
        let question = OwnedQuestion::new(parsed.as_slice(), options.qtype.0);
        let listener = listener(&self.plan, parsed.as_slice(), options.port)?;
        let from = options.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (sender, explained) = oneshot::channel();
        self.asker.ask(ExplainRequest {
            question: question.clone(),
            listener,
            peer: SocketAddr::new(from, 0),
            asks_upstreams: !options.no_upstreams,
            explained: sender,
        });
        let explained: Explained = explained.await.context("the shard has ended")?;
        let teller = Teller { places: &self.places, plan: &self.plan, listener };
        let mut explanation = Explanation::new(&question, from, &teller, &explained);
        if let ExplainedOutcome::Response(_) = explained.outcome {
            objects.add_to(&mut explanation, &self.plan, &question, &explained.decisions).await;
        }
        Ok(explanation)
    }
}

/// Requests for `/explain`, of which `EXPLANATIONS_MAX` are answered at a time.
pub(crate) struct ExplainCalls {
    calls: mpsc::Receiver<ExplainCall>,
    permits: Arc<Semaphore>,
}

impl ExplainCalls {
    pub(crate) fn new(calls: mpsc::Receiver<ExplainCall>) -> Self {
        Self { calls, permits: Arc::new(Semaphore::new(EXPLANATIONS_MAX)) }
    }

    /// The next one, once it may be answered. The permit is dropped with the answer.
    pub(crate) async fn next(&mut self) -> Option<(ExplainCall, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some((self.calls.recv().await?, permit))
    }
}

/// Shards, tables and caches as a server has them, but no sockets.
async fn unserved(config: &Config) -> anyhow::Result<Server> {
    let metrics = Arc::new(Metrics::new(start::build(), 1));
    let (errors, _) = crossbeam_channel::bounded(ERROR_REPORTS_WAITING_MAX);
    let reports = Reports { errors, queries: Arc::default() };
    let settings = FleetSettings {
        backend: Backend::Mmsg,
        busy_poll: std::time::Duration::ZERO,
        steer: Steer::Hash,
    };
    let fleet = Fleet::start(settings, &[None], &[metrics.shard(0)], &reports)
        .context("cannot start a shard")?;
    let mut server = Server::new(fleet, metrics, ListenerAddresses::default(), PortClaim::Alone);
    server.apply_unserved(config).await?;
    Ok(server)
}

/// The names that a stub resolver asks for, in its order. A name with a final dot, or without a
/// namespace to search from, is asked for as it is. `zone`: the cluster's.
fn search_path(name: &str, namespace: Option<&str>, zone: Option<&str>) -> Vec<String> {
    let (Some(namespace), Some(zone), false) = (namespace, zone, name.ends_with('.')) else {
        return vec![name.to_owned()];
    };
    let searched =
        [format!("{namespace}.svc.{zone}"), format!("svc.{zone}"), zone.to_owned()].into_iter();
    let mut names: Vec<_> = searched.map(|domain| format!("{name}.{domain}")).collect();
    let is_absolute_first = name.matches('.').count() >= DOTS_MIN;
    names.insert(if is_absolute_first { 0 } else { names.len() }, format!("{name}."));
    names
}

/// Where the query arrives: the first address with a block for the name.
fn listener(plan: &Plan, name: &[u8], port: Option<u16>) -> anyhow::Result<ListenerId> {
    let name = Name::from_wire(name).context("the name is too long")?;
    let listeners = plan.listeners.iter().enumerate();
    let at_port: Vec<_> = listeners
        .filter_map(|(index, listener)| Some((ListenerId(index), listener.address?)))
        .filter(|(_, address)| port.is_none_or(|port| address.port() == port))
        .map(|(id, _)| id)
        .collect();
    let takes = |id: &&ListenerId| plan.block_index_where(**id, &name, &mut |_, _| true).is_some();
    match (at_port.iter().find(takes).or_else(|| at_port.first()), port) {
        (Some(id), _) => Ok(*id),
        (None, Some(port)) => bail!("no block of the Corefile listens on port {port}"),
        (None, None) => bail!("the Corefile has no block"),
    }
}
