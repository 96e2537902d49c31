//! `kubernetes`: the cluster, which of its objects are watched, and which names they get.
//! `k8s-sync` builds the table.

pub mod cluster;

use std::future::ready;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::{Setting, Statement, adds, not_built, retired, sets};
use crate::corefile::value::selector::{self, Selector};
use crate::corefile::value::zone::Zone;
use crate::corefile::value::{duration, key};
use crate::corefile::word::{nearest, quoted};
use crate::corefile::{Context, Place};
use crate::metrics::answerer::Answerer;
use crate::plugin::autopath::Autopath;
use crate::plugin::draft::{
    BlockDraft, ClusterSource, LoadContext, Loading, OwnDraft, TableDraft, TableSource,
};
use crate::plugin::k8s_external::KubernetesExternal;
use crate::plugin::{Plugin, ServerBlock};
use cluster::{ApiLimits, Cluster, ClusterReading};

/// One `kubernetes` block; defaults in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubernetes {
    /// The zones that it answers for, CIDRs expanded [the block's keys]. At least one is not a
    /// reverse zone.
    pub zones: Vec<Zone>,
    pub cluster: Cluster,
    /// The position of the line `kubernetes`.
    pub place: Place,
    /// The position of the option that sets `cluster`; without such an option, `place`.
    pub source_place: Place,
    pub api_limits: ApiLimits,
    pub namespaces: Namespaces,
    /// `labels`: of Services, EndpointSlices and Pods [all].
    pub labels: Option<Selector>,
    /// [disabled]
    pub pods: Pods,
    pub endpoint_pod_names: bool,
    /// 0 to 3600 [5].
    pub ttl_secs: u32,
    /// EndpointSlices are not watched.
    pub no_endpoints: bool,
    /// `ignore empty_service`: a Service without a ready endpoint does not exist.
    pub ignore_empty_service: bool,
    /// The next plugin gets queries for missing names in these zones; the root zone means all
    /// [none].
    pub fallthrough: Vec<Zone>,
    /// How long to wait for the first sync before listening [5 s].
    pub startup_timeout: Duration,
    /// Where the last known state is kept [nowhere]. Only with an API server.
    pub snapshot: Option<PathBuf>,
}

/// The namespaces whose names are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    All,
    /// At least one; sorted, without duplicates.
    Named(Vec<String>),
    Labelled(Selector),
}

/// Names of pods by address, `10-0-0-1.NAMESPACE.pod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    Disabled,
    /// Every address has a name.
    Insecure,
    /// Only the address of a running pod has a name.
    Verified,
}

impl Kubernetes {
    /// The zone that PTR records point into: the first that is not a reverse zone. If there is
    /// none, it is one of the two whole reverse trees.
    #[must_use]
    pub fn primary_zone(&self) -> Option<&Zone> {
        let is_whole_tree =
            |zone: &&Zone| ["in-addr.arpa.", "ip6.arpa."].contains(&zone.text.as_str());
        self.zones
            .iter()
            .find(|zone| !zone.is_reverse())
            .or_else(|| self.zones.iter().find(is_whole_tree))
    }
}

impl Kubernetes {
    /// Whether no name is in both a zone of the cluster and an external zone.
    fn is_apart_from(&self, external: &KubernetesExternal) -> bool {
        let is_apart = |one: &Zone, other: &Zone| !one.contains(other) && !other.contains(one);
        let external = &external.settings.zones;
        self.zones.iter().all(|zone| external.iter().all(|other| is_apart(zone, other)))
    }
}

impl Plugin for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        // What does not change the table is omitted, so that a reload which changes only that keeps
        // it.
        let place = Place::default();
        let kubernetes = Self {
            place: place.clone(),
            source_place: place,
            fallthrough: Vec::new(),
            ..self.clone()
        };
        let source = ClusterSource {
            kubernetes,
            server_addresses: known_addresses(context.block),
            indexes_pods: context.block.line::<Autopath>().is_some_and(Autopath::indexes_pods),
        };
        let table = TableDraft {
            source: TableSource::Kubernetes(Box::new(source)),
            answerer: const { Answerer::plugin("kubernetes") },
            is_authority: true,
            passes_unsupported: false,
            refused: Vec::new(),
            fallthrough: self.fallthrough.clone(),
            place: self.source_place.clone(),
        };
        let external = context.block.line::<KubernetesExternal>();
        let is_apart = external.is_some_and(|external| self.is_apart_from(external));
        // Most queries are for names of the cluster. Where the order makes no difference, they do
        // not pass by the external zones first.
        let index = block.own.len() - usize::from(is_apart);
        block.own.insert(index, OwnDraft::Table(table));
        Box::pin(ready(Ok(())))
    }
}

/// The addresses by which the cluster may know this server.
fn known_addresses(block: &ServerBlock) -> Vec<IpAddr> {
    let is_everywhere = block.bound().iter().any(|bind| bind.address.ip.is_unspecified());
    let listens: Vec<IpAddr> = if block.bound().is_empty() || is_everywhere {
        if_addrs::get_if_addrs()
            .map(|interfaces| interfaces.iter().map(if_addrs::Interface::ip).collect())
            .unwrap_or_default()
    } else {
        block.bound().iter().map(|bind| bind.address.ip).collect()
    };
    // A link-local IPv6 address without its interface is unreachable from another machine.
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let is_known = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified() && !is_link_local(ip);
    listens.into_iter().filter(is_known).collect()
}

const STARTUP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const TTL_SECS_DEFAULT: u32 = 5;
const TTL_SECS_MAX: u32 = 3600;

/// The settings, and what can be validated only after all of them have been read.
pub(crate) struct KubernetesReading {
    kubernetes: Kubernetes,
    pub(crate) cluster: ClusterReading,
    pub(crate) api_limits: ApiLimits,
    named: Option<(Vec<String>, Span)>,
    labelled: Option<(Selector, Span)>,
}

pub(crate) const SETTINGS: &[Setting<KubernetesReading>] = &[
    sets("endpoint", cluster::ENDPOINT, cluster::endpoint),
    sets("tls", cluster::TLS, cluster::tls),
    sets("kubeconfig", cluster::KUBECONFIG, cluster::kubeconfig),
    adds("manifests", cluster::MANIFESTS, cluster::manifests),
    sets("apiserver_qps", cluster::QPS, cluster::apiserver_qps),
    sets("apiserver_burst", cluster::BURST, cluster::apiserver_burst),
    sets("apiserver_max_inflight", cluster::MAX_INFLIGHT, cluster::apiserver_max_inflight),
    adds("namespaces", NAMESPACES, namespaces),
    sets("namespace_labels", NAMESPACE_LABELS, namespace_labels),
    sets("labels", LABELS, labels),
    sets("pods", PODS, pods),
    sets("endpoint_pod_names", "endpoint_pod_names", endpoint_pod_names),
    sets("ttl", TTL, ttl),
    sets("noendpoints", "noendpoints", noendpoints),
    sets("fallthrough", "fallthrough [ZONE…]", fallthrough),
    sets("ignore", IGNORE, ignore),
    sets("startup_timeout", STARTUP_TIMEOUT, startup_timeout),
    sets("snapshot", cluster::SNAPSHOT, cluster::snapshot),
    not_built("multicluster", "multicluster ZONE…", "delete the line: ServiceImports are not read"),
    not_built("zonal", "zonal", "delete the line: names do not choose among topology zones"),
    retired("upstream", "delete the line: since CoreDNS 1.7 targets are resolved without it"),
    retired("resyncperiod", "delete the line: since CoreDNS 1.7 changes are watched"),
    retired(
        "transfer",
        "delete the line: since CoreDNS 1.8 this is the plugin `transfer`, not built yet",
    ),
];

const NAMESPACES: &str = "namespaces NAMESPACE…";
const NAMESPACE_LABELS: &str = "namespace_labels SELECTOR";
const LABELS: &str = "labels SELECTOR";
const PODS: &str = "pods disabled|insecure|verified";
const TTL: &str = "ttl SECONDS";
const IGNORE: &str = "ignore empty_service";
const STARTUP_TIMEOUT: &str = "startup_timeout DURATION";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let mistakes_before = context.mistakes.errors.len();
    let place = context.place(statement.name.span);
    let mut draft = KubernetesReading {
        kubernetes: Kubernetes {
            zones: key::zones_or_keys(&statement.args, &block.keys, context),
            cluster: Cluster::OwnPod,
            source_place: place.clone(),
            place,
            api_limits: ApiLimits::default(),
            namespaces: Namespaces::All,
            labels: None,
            pods: Pods::Disabled,
            endpoint_pod_names: false,
            ttl_secs: TTL_SECS_DEFAULT,
            no_endpoints: false,
            ignore_empty_service: false,
            fallthrough: Vec::new(),
            startup_timeout: STARTUP_TIMEOUT_DEFAULT,
            snapshot: None,
        },
        cluster: ClusterReading::default(),
        api_limits: ApiLimits::default(),
        named: None,
        labelled: None,
    };
    let zones_are_read = context.mistakes.errors.len() == mistakes_before;
    if zones_are_read && !block.keys.is_empty() {
        check_primary_zone(statement, &draft.kubernetes, context);
    }
    statement.read_settings(SETTINGS, &mut draft, context);
    block.push(finish(draft, context));
}

/// PTR records need a zone to point into. CoreDNS accepts `in-addr.arpa` and `ip6.arpa` for it,
/// useless as such names are. Existing Corefiles, Talos's among them, rely on that.
fn check_primary_zone(statement: &Statement, kubernetes: &Kubernetes, context: &mut Context<'_>) {
    const HELP: &str =
        "PTR records point into the first zone that is not a reverse zone: add `cluster.local`";
    let span = statement.args_span(context);
    match kubernetes.primary_zone() {
        Some(zone) if zone.is_reverse() => {
            let message = format!("the names of Services are in '{}'", zone.text);
            context.report(Mistake::warning(span, message).label("reverse zones only").help(HELP));
        }
        Some(_) => {}
        None => {
            let mistake = Mistake::error(span, "non-reverse zone name must be used");
            context.report(mistake.label("reverse zones only").help(HELP));
        }
    }
}

/// Validates the settings that depend on each other.
fn finish(draft: KubernetesReading, context: &mut Context<'_>) -> Kubernetes {
    let namespaces = match (draft.named, draft.labelled) {
        (None, None) => Namespaces::All,
        (Some((mut names, _)), None) => {
            names.sort();
            names.dedup();
            Namespaces::Named(names)
        }
        (None, Some((selector, _))) => Namespaces::Labelled(selector),
        (Some((names, named_at)), Some((_, labelled_at))) => {
            let message = "namespaces and namespace_labels cannot both be set";
            let mistake =
                Mistake::error(labelled_at, message).label("delete this line or the other");
            context.report(mistake.also(named_at, "the other"));
            Namespaces::Named(names)
        }
    };
    let snapshot = draft.cluster.snapshot();
    let (cluster, source) = draft.cluster.finish(context);
    let place = &draft.kubernetes.place;
    let source_place = source.map_or_else(|| place.clone(), |span| context.place(span));
    let api_limits = draft.api_limits;
    Kubernetes { namespaces, cluster, source_place, api_limits, snapshot, ..draft.kubernetes }
}

fn namespaces(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some(words) = line.at_least_one(NAMESPACES, context) else { return };
    let (names, _) = draft.named.get_or_insert((Vec::new(), line.name.span));
    names.extend(words.iter().map(|word| word.text.clone()));
}

fn namespace_labels(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let message = "unable to parse namespace_label selector value";
    if let Some(selector) = read_selector(line, NAMESPACE_LABELS, message, context) {
        draft.labelled = Some((selector, line.name.span));
    }
}

fn labels(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let message = "unable to parse label selector value";
    if let Some(selector) = read_selector(line, LABELS, message, context) {
        draft.kubernetes.labels = Some(selector);
    }
}

fn read_selector(
    line: &Statement,
    usage: &str,
    message: &str,
    context: &mut Context<'_>,
) -> Option<Selector> {
    let words = line.at_least_one(usage, context)?;
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    match selector::read(&text) {
        Ok(selector) => Some(selector),
        Err(refusal) => {
            let message = format!("{message}: '{}': {}", quoted(&text), refusal.message);
            context.refuse(line.args_span(context), Refusal { message, ..refusal });
            None
        }
    }
}

fn pods(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(PODS, context) else { return };
    draft.kubernetes.pods = match word.text.as_str() {
        "disabled" => Pods::Disabled,
        "insecure" => Pods::Insecure,
        "verified" => Pods::Verified,
        other => {
            let message = format!(
                "wrong value for pods: {},  must be one of: disabled, verified, insecure",
                quoted(other)
            );
            let meant = nearest(other, ["disabled", "verified", "insecure"]);
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "`insecure` gives every address a name".to_owned(),
            };
            return context.refuse(word.span, Refusal::new(message, "no such mode").help(help));
        }
    };
}

fn endpoint_pod_names(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    if line.exactly::<0>("endpoint_pod_names", context).is_some() {
        draft.kubernetes.endpoint_pod_names = true;
    }
}

fn noendpoints(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    if line.exactly::<0>("noendpoints", context).is_some() {
        draft.kubernetes.no_endpoints = true;
    }
}

fn ttl(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(TTL, context) else { return };
    match word.text.parse() {
        Ok(secs @ 0..=TTL_SECS_MAX) => draft.kubernetes.ttl_secs = secs,
        Ok(_) | Err(_) => {
            let message = format!("ttl must be in range [0, 3600]: {}", quoted(&word.text));
            context.refuse(
                word.span,
                Refusal::new(message, "not 0 to 3600 seconds").help("a number of seconds, no unit"),
            );
        }
    }
}

fn fallthrough(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    draft.kubernetes.fallthrough = match line.args.as_slice() {
        [] => vec![Zone::root()],
        args => args.iter().flat_map(|arg| key::zones(&arg.text, arg.span, context)).collect(),
    };
}

fn ignore(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(IGNORE, context) else { return };
    if word.text == "empty_service" {
        draft.kubernetes.ignore_empty_service = true;
        return;
    }
    let message = format!("unable to parse ignore value: '{}'", quoted(&word.text));
    context.refuse(
        word.span,
        Refusal::new(message, "only `empty_service` can be ignored")
            .help("write `ignore empty_service`"),
    );
}

fn startup_timeout(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(STARTUP_TIMEOUT, context) else { return };
    match duration::read(&word.text) {
        Ok(timeout) => draft.kubernetes.startup_timeout = timeout,
        Err(refusal) => {
            let message = format!(
                "failed to parse startup_timeout: {}, {}",
                quoted(&word.text),
                refusal.message
            );
            context.refuse(word.span, Refusal { message, ..refusal });
        }
    }
}
