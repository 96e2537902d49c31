//! Makes clients of the API server from the settings of the Corefile, one after the other until one
//! works.
//!
//! `access` decides which server to ask and with which credentials; here that becomes a stack of
//! services. Invariant: nothing is sent and no program is run before a client is awaited. Every
//! failure is retried.

mod access;
mod credentials;
mod exec;
mod kubeconfig;
mod proxy;
mod tls;
mod url;

use std::borrow::Cow;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower::filter::AsyncFilterLayer;
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};
use tower::util::MapFuture;
use tower::{BoxError, Service, ServiceBuilder};

pub use tls::Verifier;

use super::recovery::backoff::{PAUSE_MAX, jittered_pause};
use crate::options::ApiServer;
use crate::status::SourceStatus;
use access::{Access, Environment};
use credentials::Credentials;
use proxy::{Proxy, ProxyProtocol};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time until a connection can be used: name, TCP, proxy and TLS. A server or balancer that accepts
/// connections and says nothing must not take the minute that a list may take.
const ESTABLISH_MAX: Duration = Duration::from_secs(10);
/// The kernel detects a vanished server after 15 s and three probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// Connections idle for longer are not reused: whatever made a watch silent has frozen them too.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// A first client that takes longer is reported: a file or a plugin may hang.
const MAKING_MAX: Duration = Duration::from_secs(10);
/// A persistent cause is logged again after this long, as in `status`.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);
/// client-go's limits, used if only one of qps and burst is set.
const QPS_DEFAULT: u32 = 5;
const BURST_DEFAULT: u32 = 10;

/// The client cannot be made: the fault is on this side.
#[derive(Clone, Debug)]
pub(super) struct ConnectError {
    /// The setting or file at fault.
    pub(super) what: String,
    pub(super) cause: String,
    pub(super) next_step: Cow<'static, str>,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.cause)
    }
}

impl std::error::Error for ConnectError {}

impl ConnectError {
    fn late() -> Self {
        Self {
            what: "settings of the kubernetes block".to_owned(),
            cause: format!("not read within {MAKING_MAX:?}"),
            next_step: "is one of its files on a file system that hangs, or does its exec plugin \
                        wait for something?"
                .into(),
        }
    }
}

/// A fault whose setting or file is not known yet.
#[derive(Debug)]
struct SettingError {
    cause: String,
    /// For a next step other than the usual one of that setting.
    next_step: Option<&'static str>,
}

impl SettingError {
    fn of(self, what: &str, next_step: &'static str) -> ConnectError {
        let next_step = self.next_step.unwrap_or(next_step).into();
        ConnectError { what: what.to_owned(), cause: self.cause, next_step }
    }
}

impl<T: Into<String>> From<T> for SettingError {
    fn from(cause: T) -> Self {
        Self { cause: cause.into(), next_step: None }
    }
}

/// Makes clients. All kinds share the latest client, so that an exec plugin runs once for all of
/// them.
pub(super) struct Connector {
    server: ApiServer,
    verifier: Verifier,
    status: Arc<SourceStatus>,
    /// Locked while a client is being made. Other tasks wait for the same client.
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    client: Option<NumberedClient>,
    /// When and why the last attempt failed. Tasks that waited for it share the result.
    failed: Option<(Instant, ConnectError)>,
    /// Notes logged so far. Only new notes are logged.
    notes: Vec<String>,
}

/// A client and its sequence number.
#[derive(Clone)]
pub(super) struct NumberedClient {
    pub(super) client: Client,
    number: u64,
}

impl Connector {
    pub(super) fn new(server: ApiServer, verifier: Verifier, status: Arc<SourceStatus>) -> Self {
        Self { server, verifier, status, latest: Mutex::default() }
    }

    /// Waits for the first client, however long it takes. Until then the source cannot be read;
    /// everything else is served.
    pub(super) async fn first(&self) -> NumberedClient {
        let mut logged = None;
        let mut failures = 0_u32;
        loop {
            let mut making = pin!(self.client(None));
            let made = loop {
                match timeout(MAKING_MAX, &mut making).await {
                    Ok(made) => break made,
                    Err(_) => self.not_made(&ConnectError::late(), &mut logged),
                }
            };
            match made {
                Ok(client) => return client,
                Err(error) => self.not_made(&error, &mut logged),
            }
            sleep(jittered_pause(failures, PAUSE_MAX, super::random())).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Reports that there is no client yet. `logged`: what the log says about it, and since when.
    fn not_made(&self, error: &ConnectError, logged: &mut Option<(String, Instant)>) {
        let text = error.to_string();
        let is_logged = logged
            .as_ref()
            .is_some_and(|(last, at)| *last == text && at.elapsed() < REPEAT_LOG_AFTER);
        if !is_logged {
            let next_step = &*error.next_step;
            tracing::warn!(error = text, next_step, "cannot make a client of the API server yet");
            *logged = Some((text.clone(), Instant::now()));
        }
        self.status.wanted().for_each(|kind| kind.set_failure(text.clone()));
    }

    /// A client other than `used`, which has failed or does not exist yet. Reads every file again,
    /// so it picks up rotated credentials.
    ///
    /// # Errors
    /// The current settings cannot be used.
    pub(super) async fn client(
        &self,
        used: Option<&NumberedClient>,
    ) -> Result<NumberedClient, ConnectError> {
        let asked_at = Instant::now();
        let mut latest = self.latest.lock().await;
        if let Some(latest) = &latest.client
            && used.is_none_or(|used| used.number != latest.number)
        {
            return Ok(latest.clone());
        }
        if let Some((failed_at, error)) = &latest.failed
            && *failed_at >= asked_at
        {
            return Err(error.clone());
        }
        let made = self.make(&mut latest).await;
        latest.failed = made.as_ref().err().map(|error| (Instant::now(), error.clone()));
        made
    }

    /// Reads the files on a thread of their own, because reading one may hang. There is one such
    /// thread per connector, because other tasks wait for `latest`.
    async fn load(&self) -> Result<Access, ConnectError> {
        let server = self.server.clone();
        let load = move || Access::load(&server, &Environment::of_process());
        tokio::task::spawn_blocking(load).await.unwrap_or_else(|error| {
            let what = "settings of the kubernetes block".to_owned();
            let next_step = "none: ringdns keeps trying".into();
            Err(ConnectError { what, cause: error.to_string(), next_step })
        })
    }

    async fn make(&self, latest: &mut Latest) -> Result<NumberedClient, ConnectError> {
        let mut access = self.load().await?;
        self.status.set_server(access.server());
        for note in access.notes.iter().filter(|note| !latest.notes.contains(note)) {
            tracing::warn!("plugin/kubernetes: {note}");
        }
        latest.notes = std::mem::take(&mut access.notes);
        let client = connect(access, &self.server, self.verifier).await?;
        let number = latest.client.as_ref().map_or(0, |latest| latest.number + 1);
        let made = NumberedClient { client, number };
        latest.client = Some(made.clone());
        Ok(made)
    }
}

#[cfg(test)]
impl Connector {
    /// A connector that already has a client.
    pub(super) fn having(client: Client, status: Arc<SourceStatus>) -> Self {
        Self::having_beside(client, ApiServer::default(), status)
    }

    /// A connector whose next client uses this server.
    pub(super) fn having_beside(
        client: Client,
        server: ApiServer,
        status: Arc<SourceStatus>,
    ) -> Self {
        let connector = Self::new(server, |_| unreachable!("no TLS"), status);
        let client = Some(NumberedClient { client, number: 0 });
        Self { latest: Mutex::new(Latest { client, ..Latest::default() }), ..connector }
    }
}

/// Runs the plugin, if there is one.
async fn connect(
    mut access: Access,
    server: &ApiServer,
    verifier: Verifier,
) -> Result<Client, ConnectError> {
    let identity = match &access.credentials {
        Credentials::Plugin(plugin) => plugin.log_in().await?,
        Credentials::Anonymous | Credentials::Fixed(_) | Credentials::File(_) => None,
    };
    if let (Some(tls), Some(identity)) = (&mut access.tls, identity) {
        tls.identity = Some(identity);
    }
    let what = format!("client of {}", access.server());
    build(access, server, verifier).map_err(|fault| {
        fault.of(&what, "check the certificates and keys that the kubernetes block names")
    })
}

fn build(
    mut access: Access,
    server: &ApiServer,
    verifier: Verifier,
) -> Result<Client, SettingError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    // Otherwise each new watch begins 40 ms late.
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    let name = access.tls.as_mut().and_then(|tls| tls.server_name.take());
    let tls = Arc::new(tls::config(access.tls.take(), verifier)?);
    let proxy = access.proxy.take();
    let stack = Stack { tls: Arc::clone(&tls), name, access, server };
    match proxy {
        None => stack.over(tcp),
        Some(Proxy { url, way: ProxyProtocol::Socks(auth) }) => {
            let socks = SocksV5::new(url, tcp);
            stack.over(match auth {
                Some((name, password)) => socks.with_auth(name, password),
                None => socks,
            })
        }
        Some(Proxy { url, way: ProxyProtocol::Tunnel(auth) }) => {
            // As in Go, a proxy reached over TLS is trusted like the API server.
            let tunnel = Tunnel::new(url, HttpsConnector::from((tcp, tls)));
            stack.over(match auth {
                Some(auth) => tunnel.with_auth(auth),
                None => tunnel,
            })
        }
    }
}

/// Builds the layers above the connections.
struct Stack<'a> {
    tls: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    access: Access,
    server: &'a ApiServer,
}

impl Stack<'_> {
    /// kube's own client stack without its log lines and its retries (hidden, up to 80 s; ours are
    /// in `recovery`), and with credentials, trust and proxies as in client-go.
    fn over<C>(self, connector: C) -> Result<Client, SettingError>
    where
        C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
        C::Future: 'static,
        C::Response: Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let mut config = Config::new(self.access.url);
        config.auth_info = self.access.impersonated;
        let agent = concat!("ringdns/", env!("CARGO_PKG_VERSION"));
        config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(&self.tls))
            .https_or_http();
        let tls = match self.name {
            Some(name) => tls.with_server_name_resolver(FixedServerNameResolver::new(name)),
            None => tls,
        };
        let connector = tls.enable_http1().wrap_connector(connector);
        let connector = MapFuture::new(connector, |connecting| Box::pin(established(connecting)));
        let mut http = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        http.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_MAX);
        // Limits count a request until its response begins, as in CoreDNS: a running watch does not
        // count.
        let rate = rate_limit(self.server).map(|(count, per)| RateLimitLayer::new(count, per));
        let in_flight = self.server.max_inflight.filter(|max| *max > 0);
        let in_flight = in_flight.map(|max| ConcurrencyLimitLayer::new(max as usize));
        let credentials = Arc::new(self.access.credentials);
        let authorize = move |request: Request<Body>| authorized(Arc::clone(&credentials), request);
        let headers = config.extra_headers_layer().map_err(|error| chain(&error))?;
        let stack = ServiceBuilder::new()
            .option_layer(in_flight)
            .option_layer(rate)
            .layer(config.base_uri_layer())
            .layer(AsyncFilterLayer::new(authorize))
            .layer(headers)
            .map_err(BoxError::from)
            .service(http.build::<_, Body>(connector));
        Ok(Client::new(stack, config.default_namespace.as_str()))
    }
}

/// The connection, if it can be used soon.
async fn established<T>(
    connecting: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    timeout(ESTABLISH_MAX, connecting).await.unwrap_or_else(|_| {
        let cause = format!("no connection within {ESTABLISH_MAX:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, cause).into())
    })
}

async fn authorized(
    credentials: Arc<Credentials>,
    mut request: Request<Body>,
) -> Result<Request<Body>, ConnectError> {
    if let Some(header) = credentials.header().await? {
        request.headers_mut().insert(AUTHORIZATION, header);
    }
    Ok(request)
}

/// `apiserver_qps` and `apiserver_burst` as requests per duration: `burst` requests in the time
/// that `qps` allows for them. No limit if neither is set. Zero means the default, as in CoreDNS.
fn rate_limit(server: &ApiServer) -> Option<(u64, Duration)> {
    let qps = server.qps.filter(|qps| *qps > 0);
    let burst = server.burst.filter(|burst| *burst > 0);
    if qps.is_none() && burst.is_none() {
        return None;
    }
    let (qps, burst) = (qps.unwrap_or(QPS_DEFAULT), burst.unwrap_or(BURST_DEFAULT));
    Some((u64::from(burst), Duration::from_secs_f64(f64::from(burst) / f64::from(qps))))
}

/// An error and its causes, without repetitions.
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
mod tests;
