//! What one `kubernetes` block of a Corefile asks for, as plain data. This crate does not know
//! Corefiles.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::apex::ApexLabel;

use crate::selector::Selector;

/// The options of the `kubernetes` plugin. Defaults are in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The zones to answer for: wire format, lower case, in the order of the Corefile, CIDRs
    /// already expanded. PTR records point into the first zone that is not a reverse zone.
    pub zones: Vec<Vec<u8>>,
    pub source: Source,
    /// `namespaces NS…`: answer only for these [all].
    pub namespaces: Vec<String>,
    /// `namespace_labels EXPRESSION`: a label selector on the Namespace watch.
    pub namespace_labels: Option<Selector>,
    /// `labels EXPRESSION`: a label selector on Services, EndpointSlices and Pods.
    pub labels: Option<Selector>,
    pub pods: wire::pod::PodMode,
    /// The namespaces of clients are published, by address: Pods are watched for that too.
    pub indexes_pods: bool,
    pub endpoint_pod_names: bool,
    /// 0 to 3600 [5].
    pub ttl_secs: u32,
    /// `noendpoints`: EndpointSlices are not watched; headless and endpoint names do not exist.
    pub no_endpoints: bool,
    /// `ignore empty_service`: a ClusterIP Service without a ready endpoint does not exist.
    pub ignore_empty_service: bool,
    /// Addresses that this server listens on (never loopback or unspecified). Services with one of
    /// them among their endpoints are the name servers of the zone.
    pub server_addresses: Vec<IpAddr>,
    /// How long sockets stay unbound while waiting for the first sync [5 s].
    pub startup_timeout: Duration,
}

/// The options of the `k8s_external` plugin. Defaults are in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalOptions {
    /// The zones to answer for, as those of `Options`; at least one.
    pub zones: Vec<Vec<u8>>,
    /// `apex LABEL`: between the zone and the names that its SOA and NS records mention [dns].
    pub apex: ApexLabel,
    /// 0 to 3600 [5].
    pub ttl_secs: u32,
    /// `headless`: endpoints have names too.
    pub is_headless: bool,
}

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `manifests PATH…`: files or folders of what `kubectl get … -o yaml|json` prints, watched for
    /// changes.
    Manifests(Vec<PathBuf>),
    /// The API server.
    ApiServer(ApiServer),
}

/// How to reach the API server: kubeconfig, else endpoint (+ tls), else the pod's service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// The file, and the context in it if not the current one.
    pub kubeconfig: Option<(PathBuf, Option<String>)>,
    pub endpoint: Option<String>,
    pub tls: Option<ClientTls>,
    /// `apiserver_qps`, `apiserver_burst`, `apiserver_max_inflight`: client-side limits on
    /// requests.
    pub qps: Option<u32>,
    pub burst: Option<u32>,
    pub max_inflight: Option<u32>,
    /// `snapshot FILE`: keeps the last known state, for a start while the API server cannot be
    /// read.
    pub snapshot: Option<PathBuf>,
}

impl Options {
    #[must_use]
    pub fn snapshot(&self) -> Option<&Path> {
        match &self.source {
            Source::Manifests(_) => None,
            Source::ApiServer(server) => server.snapshot.as_deref(),
        }
    }

    /// Of cluster.local in an API server.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Self {
        Self {
            zones: vec![b"\x07cluster\x05local\x00".to_vec()],
            source: Source::ApiServer(ApiServer::default()),
            namespaces: vec![],
            namespace_labels: None,
            labels: None,
            pods: wire::pod::PodMode::Disabled,
            indexes_pods: false,
            endpoint_pod_names: false,
            ttl_secs: 5,
            no_endpoints: false,
            ignore_empty_service: false,
            server_addresses: vec![],
            startup_timeout: Duration::from_secs(5),
        }
    }
}

/// `tls CERT KEY CA`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}
