//! One listener's connections: one request each, so many at a time, so long at most.
//!
//! Invariant: a client that sends or reads slowly costs one connection for `HTTP_CONNECTION_TIMEOUT` at most, and never keeps
//! another client out: when all are taken, the oldest ends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::endpoint::{EndpointKind, respond};
use super::readiness::Readiness;
use crate::limits::{
    HTTP_CONNECTION_TIMEOUT, HTTP_CONNECTIONS_MAX, HTTP_HEADER_COUNT_MAX, HTTP_HEADER_LEN_MAX,
    HTTP_HEADER_TIMEOUT,
};
use crate::metrics::Metrics;

/// Pause when the process is out of file descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// What the endpoints answer from.
#[derive(Debug)]
pub(super) struct EndpointData {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
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

/// Serves until it is aborted; connections that are open then go on to their end.
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

/// Serves who waits to be accepted, before the listener closes: the kernel would reset them.
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

/// One request and its answer. A client that breaks off or dawdles is not worth a word.
async fn converse(stream: TcpStream, plugins: Arc<Plugins>, served: Arc<EndpointData>) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let response = respond(
            &plugins.get(),
            &served.readiness,
            &served.metrics,
            request.method(),
            request.uri().path(),
            request.headers(),
        );
        async { Ok::<_, Infallible>(response) }
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
