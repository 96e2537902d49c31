//! A client of the API server, from what the Corefile says: kubeconfig, else endpoint (+ tls), else the service account.
//!
//! Nothing is sent here. An error is one that no retry can mend, so it names the file, the cause and the next step.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt, DynBody};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};
use tower::{BoxError, ServiceBuilder};

use super::layer::ApiLayer;
use crate::options::{ApiServer, ClientTls};
use crate::status::SourceStatus;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is gone without a word is noticed by the kernel after 15 s and three probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// client-go's limits, where only one of qps and burst is given.
const QPS_DEFAULT: u32 = 5;
const BURST_DEFAULT: u32 = 10;

/// The API server cannot even be asked.
#[derive(Debug)]
pub struct ConnectError {
    /// The setting or file at fault.
    pub what: String,
    pub cause: String,
    pub next_step: &'static str,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.cause, self.next_step)
    }
}

impl std::error::Error for ConnectError {}

/// Reads every file anew, so that calling it again takes up rotated credentials.
pub(super) async fn connect(
    server: &ApiServer,
    status: &Arc<SourceStatus>,
) -> Result<Client, ConnectError> {
    let mut config = match (&server.kubeconfig, &server.endpoint) {
        (Some((file, context)), _) => from_kubeconfig(file, context.as_deref()).await?,
        (None, Some(endpoint)) => from_endpoint(endpoint, server.tls.as_ref())?,
        (None, None) => from_service_account()?,
    };
    let agent = concat!("ringdns/", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    build(&config, server, status).map_err(|cause| ConnectError {
        what: format!("client of {}", config.cluster_url),
        cause,
        next_step: "check the certificates and keys that the kubernetes block names",
    })
}

/// kube's own client stack without its retries (up to 80 s, unseen; ours are in `recovery`) and its log lines, and with
/// TCP_NODELAY: without it each new watch begins 40 ms late.
fn build(
    config: &Config,
    server: &ApiServer,
    status: &Arc<SourceStatus>,
) -> Result<Client, String> {
    if let Some(proxy) = &config.proxy_url {
        return Err(format!("proxy-url {proxy} is not supported"));
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    let words = |error: kube::Error| chain(&error);
    let tls = config.rustls_https_connector_with_connector(tcp).map_err(words)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls);
    // Limits count requests until the answer begins, as CoreDNS's do: a running watch does not count.
    let rate = rate_limit(server).map(|(count, per)| RateLimitLayer::new(count, per));
    let in_flight = server.max_inflight.filter(|max| *max > 0);
    let in_flight = in_flight.map(|max| ConcurrencyLimitLayer::new(max as usize));
    let stack = ServiceBuilder::new()
        .layer(ApiLayer::new(Arc::clone(status)))
        .option_layer(in_flight)
        .option_layer(rate)
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(words)?)
        .layer(config.extra_headers_layer().map_err(words)?)
        .map_err(BoxError::from)
        .map_response(|response: http::Response<hyper::body::Incoming>| {
            response.map(|body| Box::new(body.map_err(BoxError::from)) as Box<DynBody>)
        })
        .service::<hyper_util::client::legacy::Client<_, Body>>(http);
    Ok(ClientBuilder::new(stack, config.default_namespace.as_str()).build())
}

/// `apiserver_qps` and `apiserver_burst` as requests per duration: `burst` requests in the time that `qps` gives them.
/// Without either there is no limit. Zero means the default, as in CoreDNS.
fn rate_limit(server: &ApiServer) -> Option<(u64, Duration)> {
    let qps = server.qps.filter(|qps| *qps > 0);
    let burst = server.burst.filter(|burst| *burst > 0);
    if qps.is_none() && burst.is_none() {
        return None;
    }
    let (qps, burst) = (qps.unwrap_or(QPS_DEFAULT), burst.unwrap_or(BURST_DEFAULT));
    Some((u64::from(burst), Duration::from_secs_f64(f64::from(burst) / f64::from(qps))))
}

async fn from_kubeconfig(file: &Path, context: Option<&str>) -> Result<Config, ConnectError> {
    let failed = |cause: String| ConnectError {
        what: match context {
            Some(context) => format!("kubeconfig {}, context {context}", file.display()),
            None => format!("kubeconfig {}", file.display()),
        },
        cause,
        next_step: "try `kubectl get namespaces` with the same --kubeconfig and --context",
    };
    let kubeconfig = Kubeconfig::read_from(file).map_err(|error| failed(chain(&error)))?;
    let options =
        KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| failed(chain(&error)))
}

fn from_endpoint(endpoint: &str, tls: Option<&ClientTls>) -> Result<Config, ConnectError> {
    let url = match (endpoint.contains("://"), tls) {
        (true, _) => endpoint.to_owned(),
        (false, Some(_)) => format!("https://{endpoint}"),
        (false, None) => format!("http://{endpoint}"),
    };
    let uri = url.parse().map_err(|error: http::uri::InvalidUri| ConnectError {
        what: format!("endpoint {endpoint}"),
        cause: error.to_string(),
        next_step: "write it like https://10.0.0.1:6443",
    })?;
    let mut config = Config::new(uri);
    if let Some(tls) = tls {
        for file in [&tls.certificate, &tls.key, &tls.authority] {
            std::fs::read(file).map_err(|error| ConnectError {
                what: format!("tls file {}", file.display()),
                cause: error.to_string(),
                next_step: "`tls` takes the paths of CERT, KEY and CA in this order; are they mounted and readable?",
            })?;
        }
        config.auth_info.client_certificate = Some(tls.certificate.display().to_string());
        config.auth_info.client_key = Some(tls.key.display().to_string());
        config.root_cert_file = Some(tls.authority.clone());
        // Taken from the file; without this the host's own certificates would have to be there too.
        config.root_cert = Some(Vec::new());
    }
    Ok(config)
}

fn from_service_account() -> Result<Config, ConnectError> {
    Config::incluster().map_err(|error| ConnectError {
        what: "the pod's service account".to_owned(),
        cause: chain(&error),
        next_step: "in a cluster, check that automountServiceAccountToken is not false; \
                    outside, add `kubeconfig FILE` or `manifests PATH` to the kubernetes block",
    })
}

/// An error and what caused it, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qps_and_burst_make_a_rate() {
        let check = |qps, burst, expected: Option<(u64, u64)>| {
            let server = ApiServer { qps, burst, ..ApiServer::default() };
            let expected = expected.map(|(count, ms)| (count, Duration::from_millis(ms)));
            assert_eq!(rate_limit(&server), expected, "{qps:?} {burst:?}");
        };
        check(None, None, None);
        check(Some(0), Some(0), None);
        check(Some(50), Some(100), Some((100, 2000)));
        check(Some(50), None, Some((10, 200)));
        check(None, Some(20), Some((20, 4000)));
    }
}
