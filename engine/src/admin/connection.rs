//! The connections of one HTTP listener: one request each, with bounds on their number and
//! duration.
//!
//! Invariant: a slow client occupies one connection for at most `HTTP_CONNECTION_TIMEOUT` and never
//! blocks others: when all connections are in use, the oldest is closed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::endpoint::{EndpointKind, respond};
use super::explain::{self, ExplainCall};
use super::readiness::Readiness;
use crate::limits::{
    HTTP_CONNECTION_TIMEOUT, HTTP_CONNECTIONS_MAX, HTTP_HEADER_COUNT_MAX, HTTP_HEADER_LEN_MAX,
    HTTP_HEADER_TIMEOUT,
};
use crate::metrics::Metrics;

/// Pause when the process has no file descriptor left.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// The data that the endpoints serve.
#[derive(Debug)]
pub(super) struct EndpointData {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    /// Where requests for `/explain` go, once the server answers them.
    pub(super) explainer: OnceLock<mpsc::Sender<ExplainCall>>,
}

/// The plugins that share a listener; a reload may change them.
#[derive(Debug, Default)]
pub(super) struct Plugins(Mutex<Vec<EndpointKind>>);

impl Plugins {
    pub(super) fn set(&self, plugins: Vec<EndpointKind>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = plugins;
    }

    pub(super) fn get(&self) -> Vec<EndpointKind> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until it is aborted. Connections that are open then continue.
pub(super) async fn accept(
    listener: Arc<TcpListener>,
    plugins: Arc<Plugins>,
    served: Arc<EndpointData>,
) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::with_capacity(HTTP_CONNECTIONS_MAX);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_BACK_OFF).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() == HTTP_CONNECTIONS_MAX
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let connection = converse(stream, Arc::clone(&plugins), Arc::clone(&served));
        connections.push_back(tokio::spawn(connection).abort_handle());
    }
}

/// Serves queued connections before the listener closes: the kernel would reset them.
pub(super) fn accept_waiting(
    listener: &TcpListener,
    plugins: &Arc<Plugins>,
    served: &Arc<EndpointData>,
) {
    let socket = SockRef::from(listener);
    for _ in 0..HTTP_CONNECTIONS_MAX {
        let Ok((stream, _)) = socket.accept() else { return };
        let stream: std::net::TcpStream = stream.into();
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            tokio::spawn(converse(stream, Arc::clone(plugins), Arc::clone(served)));
        }
    }
}

/// Serves one request. A client that disconnects or is too slow is not logged.
async fn converse(stream: TcpStream, plugins: Arc<Plugins>, served: Arc<EndpointData>) {
    let peer = stream.peer_addr().ok().map(|peer| peer.ip());
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let (method, uri) = (request.method(), request.uri());
        let is_explain = uri.path() == explain::PATH;
        let query = uri.query().unwrap_or_default();
        let call = is_explain.then(|| explain::call(&served, peer, method, query));
        let response = respond(
            &plugins.get(),
            &served.readiness,
            &served.metrics,
            method,
            uri,
            request.headers(),
        );
        async {
            Ok::<_, Infallible>(match call {
                Some(call) => call.response().await,
                None => response,
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HTTP_HEADER_LEN_MAX)
        .max_headers(HTTP_HEADER_COUNT_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(HTTP_CONNECTION_TIMEOUT, connection).await;
}
