//! DNS over HTTPS (RFC 8484): each request is a query. HTTP/1.1 and HTTP/2 are hyper's.
//!
//! The shard's thread runs the connection and its requests. Unlike the other transports, this one
//! allocates for each query. Invariants: a connection that answers nothing ends by its deadline; a
//! borrow of the shard or of its buffers never lasts over an await.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep_until, timeout};
use wire::edit::freshness_secs;
use wire::header::{HEADER_LEN, QR};
use wire::reply::MESSAGE_LEN_MAX;

use super::connection::TcpPacket;
use super::recency::Ticket;
use super::{Acceptor, TcpShared};
use crate::client::{Arrival, Family, ListenerId, Transport};
use crate::limits::{
    HTTP_HEADER_COUNT_MAX, HTTP_HEADER_LEN_MAX, HTTPS_RECEIVE_WINDOW, HTTPS_SEND_LEN_MAX,
    TCP_PENDING_MAX,
};
use crate::metrics::ShardEvent;
use crate::plugin::https::{HttpsListener, HttpsStatus};
use crate::plugin::timeouts::Timeouts;
use crate::resolve::outbox::Outbox;
use crate::responder::{Awaited, Responder};

/// The only path, as in CoreDNS and in the examples of RFC 8484.
const PATH: &str = "/dns-query";
/// The variable of a GET request that has the query (RFC 8484, section 4.1).
const VARIABLE: &str = "dns=";
/// Of a DNS message (RFC 8484, section 6).
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/dns-message");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A connection, and what its requests share.
pub(super) struct HttpsConnection {
    listener: ListenerId,
    peer: SocketAddr,
    timeouts: Timeouts,
    https: HttpsListener,
    responder: Rc<RefCell<Responder>>,
    shared: Rc<TcpShared>,
    /// How others of this thread close it.
    outbox: Rc<Outbox>,
    ticket: Ticket,
    requests: Requests,
    /// Dropped last.
    _place: OpenPlace,
}

/// The requests of a connection.
struct Requests {
    in_progress: Cell<usize>,
    /// When the last one ended, or the connection began.
    idle_since: Cell<Instant>,
    /// No request has ended yet.
    is_first: Cell<bool>,
}

impl HttpsConnection {
    /// `None` beyond `max_connections`.
    pub(super) fn new(
        acceptor: &Acceptor,
        address: SocketAddr,
        https: HttpsListener,
    ) -> Option<Self> {
        let Acceptor { listener, responder, shared } = acceptor;
        let Some(place) = OpenPlace::take(&https) else {
            responder.borrow().metrics().count(ShardEvent::TcpClosed, 1);
            return None;
        };
        let outbox = Rc::new(Outbox::new(&shared.owed));
        Some(Self {
            listener: *listener,
            // As for TCP: an IPv4 client of a socket for both families is an IPv4 client.
            peer: SocketAddr::new(address.ip().to_canonical(), address.port()),
            timeouts: responder.borrow().timeouts(*listener),
            https,
            responder: Rc::clone(responder),
            shared: Rc::clone(shared),
            ticket: shared.connections.borrow_mut().admit(Rc::clone(&outbox)),
            outbox,
            requests: Requests {
                in_progress: Cell::new(0),
                idle_since: Cell::new(Instant::now()),
                is_first: Cell::new(true),
            },
            _place: place,
        })
    }

    /// Serves requests until the client or the server ends the connection.
    pub(super) async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let this = Rc::new(self);
        let of_requests = Rc::clone(&this);
        let service = service_fn(move |request| Rc::clone(&of_requests).respond(request));
        let builder = this.builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut ends_at = None;
        loop {
            let deadline = ends_at.unwrap_or_else(|| this.deadline());
            tokio::select! {
                biased;
                () = this.outbox.wake.notified() => {
                    if this.outbox.is_closed.get() {
                        return;
                    }
                }
                _ = connection.as_mut() => return,
                () = sleep_until(deadline.into()) => {
                    if ends_at.is_some() {
                        return;
                    }
                    if Instant::now() < this.deadline() {
                        continue;
                    }
                }
            }
            // The server stops, or nothing is asked any more. What is in progress is answered.
            if ends_at.is_none() {
                ends_at = Some(Instant::now() + this.timeouts.read + this.timeouts.write);
                connection.as_mut().graceful_shutdown();
            }
        }
    }

    fn builder(&self) -> Builder<SameThread> {
        let streams_max = TCP_PENDING_MAX as u32;
        let limit = self.https.limits.max_streams.filter(|limit| *limit > 0);
        let mut builder = Builder::new(SameThread);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeouts.read.max(self.timeouts.idle))
            .max_buf_size(HTTP_HEADER_LEN_MAX)
            .max_headers(HTTP_HEADER_COUNT_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limit.map_or(streams_max, |limit| limit.min(streams_max)))
            .max_header_list_size(HTTP_HEADER_LEN_MAX as u32)
            .initial_stream_window_size(HTTPS_RECEIVE_WINDOW)
            .initial_connection_window_size(HTTPS_RECEIVE_WINDOW)
            .max_send_buf_size(HTTPS_SEND_LEN_MAX);
        builder
    }

    /// When the connection ends if nothing more is asked.
    fn deadline(&self) -> Instant {
        let Requests { in_progress, idle_since, is_first } = &self.requests;
        if in_progress.get() > 0 {
            // They have time limits of their own.
            return Instant::now() + self.timeouts.idle;
        }
        let patience = if is_first.get() { self.timeouts.read } else { self.timeouts.idle };
        idle_since.get() + patience
    }

    async fn respond(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let _in_progress = InProgress::begin(&self);
        let is_head = *request.method() == Method::HEAD;
        let answer = match read_query(request, self.timeouts.read).await {
            Ok(query) => self.ask(&query).await,
            Err(status) => Err(status),
        };
        let status = answer.as_ref().err().copied().unwrap_or(HttpsStatus::Ok);
        if let Some(counter) = self.https.counters[status as usize] {
            self.responder.borrow().metrics().count_plugin(counter);
        }
        let mut response = match answer {
            Ok(message) => dns_response(message),
            Err(status) => refusal(status),
        };
        if is_head {
            // Over HTTP/2, hyper would send it.
            *response.body_mut() = Full::default();
        }
        Ok(response)
    }

    /// Asks the shard, as a client over TCP does.
    async fn ask(&self, query: &[u8]) -> Result<Vec<u8>, HttpsStatus> {
        let awaited = {
            let message = &mut self.shared.buffers.borrow_mut().input[..MESSAGE_LEN_MAX];
            let Some(room) = message.get_mut(..query.len()) else {
                return Err(HttpsStatus::BadRequest);
            };
            room.copy_from_slice(query);
            let responder = &mut *self.responder.borrow_mut();
            let now = Instant::now();
            responder.resolver().take_fills(now);
            let arrival = Arrival {
                listener: self.listener,
                transport: Transport::Tcp,
                family: if self.peer.is_ipv6() { Family::V6 } else { Family::V4 },
                len: query.len(),
                now,
                inside: None,
            };
            let packet = &mut TcpPacket { message, peer: self.peer };
            let action = responder.answer(&arrival, packet);
            let awaited = responder.carry_out(action, now, &self.responder);
            responder.finish_batch(now);
            match awaited {
                Awaited::Written(len) => return Ok(message[..len].to_vec()),
                Awaited::Late(late) => Some(late),
                Awaited::Dropped => None,
            }
        };
        match awaited {
            Some(late) => late.await.map(Into::into).map_err(|_| HttpsStatus::NoResponse),
            None => Err(HttpsStatus::NoResponse),
        }
    }
}

impl Drop for HttpsConnection {
    fn drop(&mut self) {
        self.shared.connections.borrow_mut().remove(self.ticket);
        self.responder.borrow().metrics().count(ShardEvent::TcpClosed, 1);
    }
}

/// One of `max_connections`.
struct OpenPlace(Arc<AtomicU32>);

impl OpenPlace {
    fn take(https: &HttpsListener) -> Option<Self> {
        let place = Self(Arc::clone(&https.open_count));
        let others = place.0.fetch_add(1, Ordering::Relaxed);
        let limit = https.limits.max_connections.filter(|limit| *limit > 0);
        limit.is_none_or(|limit| others < limit).then_some(place)
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request, until its response is made.
struct InProgress<'c>(&'c HttpsConnection);

impl<'c> InProgress<'c> {
    fn begin(connection: &'c HttpsConnection) -> Self {
        let count = &connection.requests.in_progress;
        count.set(count.get() + 1);
        Self(connection)
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        let Self(connection) = self;
        let Requests { in_progress, idle_since, is_first } = &connection.requests;
        in_progress.set(in_progress.get() - 1);
        idle_since.set(Instant::now());
        is_first.set(false);
        connection.shared.connections.borrow_mut().touch(connection.ticket);
        if connection.shared.is_draining.get() {
            // Accepted so late that `TcpService::drain` has not woken it.
            connection.outbox.wake.notify_one();
        }
    }
}

/// Runs the tasks of hyper in the shard's thread.
#[derive(Clone, Copy)]
struct SameThread;

impl<F: Future<Output: 'static> + 'static> Executor<F> for SameThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// The query that a request has.
async fn read_query(request: Request<Incoming>, patience: Duration) -> Result<Bytes, HttpsStatus> {
    if request.uri().path() != PATH {
        return Err(HttpsStatus::NotFound);
    }
    let message = match *request.method() {
        Method::GET => message_in(request.uri()),
        Method::POST => {
            let body = Limited::new(request.into_body(), MESSAGE_LEN_MAX).collect();
            let body = timeout(patience, body).await.ok().and_then(Result::ok);
            body.map(Collected::to_bytes)
        }
        _ => None,
    };
    message.filter(|message| is_query(message)).ok_or(HttpsStatus::BadRequest)
}

/// The message in the address of a GET request, in base64url without padding.
fn message_in(uri: &Uri) -> Option<Bytes> {
    let mut variables = uri.query()?.split('&').filter_map(|part| part.strip_prefix(VARIABLE));
    let text = variables.next()?;
    if variables.next().is_some() {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok().map(Into::into)
}

/// Whether the shard answers a message: it has a header, and is no response.
fn is_query(message: &[u8]) -> bool {
    message.len() >= HEADER_LEN && message[2] & (QR >> 8) as u8 == 0
}

fn dns_response(message: Vec<u8>) -> Response<Full<Bytes>> {
    let max_age = HeaderValue::try_from(format!("max-age={}", freshness_secs(&message)));
    let mut response = Response::new(Full::from(message));
    response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
    if let Ok(max_age) = max_age {
        response.headers_mut().insert(CACHE_CONTROL, max_age);
    }
    response
}

/// A response without a DNS message, with CoreDNS's text.
fn refusal(status: HttpsStatus) -> Response<Full<Bytes>> {
    let text = match status {
        HttpsStatus::Ok | HttpsStatus::NotFound => "",
        HttpsStatus::BadRequest => "invalid request\n",
        HttpsStatus::NoResponse => "No response\n",
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::from_u16(status.code()).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_get_request_has_one_message() {
        for (uri, expected) in [
            ("/dns-query?dns=AAAB", Some(&[0, 0, 1][..])),
            ("/dns-query?dns=-_8", Some(&[0xFB, 0xFF])),
            ("/dns-query?x=1&dns=AAAB", Some(&[0, 0, 1])),
            ("/dns-query?dns=", Some(&[])),
            ("/dns-query", None),
            ("/dns-query?", None),
            ("/dns-query?xdns=AAAB", None),
            ("/dns-query?dns=AAAB&dns=AAAB", None),
            ("/dns-query?dns=AAA=", None),
            ("/dns-query?dns=+/8", None),
        ] {
            let found = message_in(&uri.parse().unwrap());
            assert_eq!(found.as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn responses_and_scraps_are_no_queries() {
        let mut message = [0; HEADER_LEN];
        assert!(is_query(&message));
        assert!(!is_query(&message[1..]));
        message[2] = 0x80;
        assert!(!is_query(&message));
    }
}
