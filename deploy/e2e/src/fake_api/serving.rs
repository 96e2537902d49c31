//! Serves the lists and watches of a fake API server over HTTP/1.1 on loopback.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::{Fault, Habit};
use super::object::Resource;
use super::responses::{Format, failure, gone, too_large};
use super::schema::{Failure, ListMetadata};
use super::store::{Stored, StoredEvent};
use super::{FakeState, lock};

/// Bytes that a response may be ahead of its client.
const PIECES_AHEAD: usize = 16;

/// Between two bytes of a slow response.
const SLOW_PAUSE: Duration = Duration::from_micros(100);

/// Between two bookmarks, as a real API server; one more comes before a watch ends.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How long a watch stays open without `timeoutSeconds`.
const WATCH_MAX: Duration = Duration::from_secs(1_800);

type Piece = io::Result<Frame<Bytes>>;
type Body = StreamBody<std::pin::Pin<Box<dyn stream::Stream<Item = Piece> + Send>>>;

pub(super) async fn serve(listener: TcpListener, state: Arc<FakeState>) -> io::Result<()> {
    for connection in 1.. {
        let (stream, _) = listener.accept().await?;
        if state.has(Habit::IsDown) {
            continue;
        }
        lock(&state.inner).connection_count = connection;
        tokio::spawn(converse(stream, connection, Arc::clone(&state)));
    }
    Ok(())
}

async fn converse(stream: TcpStream, connection: u64, state: Arc<FakeState>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&request, connection, state).await) }
    });
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that goes away ends only its own connection.
        _ = served => {}
        () = state.when_cut(connection) => {}
    }
}

async fn answer(
    request: &Request<Incoming>,
    connection: u64,
    state: Arc<FakeState>,
) -> Response<Body> {
    if state.is_frozen(connection) {
        std::future::pending::<()>().await;
    }
    let format = Format::of_accept(request.headers().get(ACCEPT));
    let query = Parameters::of(request.uri().query().unwrap_or_default());
    let Some(resource) = Resource::of_path(request.uri().path()) else {
        return failed(format, &failure(404, "NotFound", "there is no such resource"));
    };
    let call = Call { state, resource, format, query, connection };
    if call.happens(Fault::Throttle) {
        let failure = failure(429, "TooManyRequests", "too many requests");
        let mut response = failed(format, &failure);
        response.headers_mut().insert(RETRY_AFTER, 1.into());
        return response;
    }
    if call.happens(Fault::Fail) {
        return failed(format, &failure(500, "InternalError", "an internal error"));
    }
    if call.query.is("watch", "true") || call.query.is("watch", "1") {
        call.watch()
    } else {
        call.list()
    }
}

/// The parameters of a request.
struct Parameters(HashMap<String, String>);

impl Parameters {
    fn of(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.get(key) == value
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).parse().ok()
    }
}

/// One request for objects.
struct Call {
    state: Arc<FakeState>,
    resource: Resource,
    format: Format,
    query: Parameters,
    connection: u64,
}

impl Call {
    fn happens(&self, fault: Fault) -> bool {
        lock(&self.state.inner).faults.take(self.resource, fault)
    }

    /// A page, or the whole list. The token of the next page is the index of its first object.
    fn list(self) -> Response<Body> {
        let from = self.query.number("continue");
        if from.is_some() && self.happens(Fault::GoneWhilePaging) {
            return failed(self.format, &gone());
        }
        let is_cut = self.happens(Fault::CutList);
        if from.is_none() && !self.query.is("limit", "1") && !self.format.is_of_metadata() {
            self.count_list();
        }
        let (version, items, left) = {
            let mut inner = lock(&self.state.inner);
            let version = self.query.get("resourceVersion");
            let Some(store) = inner.listed(version) else {
                return failed(self.format, &too_large(version));
            };
            let all = store.objects(self.resource);
            let from = from.unwrap_or(0) as usize;
            // A list at version 0 comes whole, as from a real API server's watch cache.
            let is_cached = self.query.is("resourceVersion", "0");
            let limit = self.query.number("limit").filter(|limit| *limit > 0 && !is_cached);
            let limit = limit.map_or(usize::MAX, |limit| limit as usize);
            let items: Vec<Arc<Stored>> = all.skip(from).take(limit).cloned().collect();
            let left = store.objects(self.resource).count().saturating_sub(from + items.len());
            (store.version, items, (left > 0).then(|| (from + limit).to_string()))
        };
        let metadata = ListMetadata {
            resource_version: version.to_string(),
            r#continue: left.unwrap_or_default(),
        };
        let pieces = self.format.list(self.resource, &metadata, items);
        let (writer, response) = Writer::new(200, self.format.content_type(false), &self.state);
        tokio::spawn(async move {
            for piece in pieces {
                if is_cut {
                    writer.write(piece.slice(..piece.len() / 2)).await;
                    return writer.cut().await;
                }
                writer.write(piece).await;
            }
        });
        response
    }

    fn watch(self) -> Response<Body> {
        if self.query.is("sendInitialEvents", "true") {
            let what = "sendInitialEvents is forbidden for watch unless the WatchList feature gate \
                        is enabled";
            return failed(self.format, &failure(422, "Invalid", what));
        }
        if self.happens(Fault::GoneAsStatus) {
            return failed(self.format, &gone());
        }
        let (writer, response) = Writer::new(200, self.format.content_type(true), &self.state);
        tokio::spawn(async move {
            let from = self.query.number("resourceVersion").unwrap_or(0);
            self.send_changes(&writer, from).await;
        });
        response
    }

    fn count_list(&self) {
        lock(&self.state.inner).list_counts[self.resource.index()] += 1;
    }

    async fn send_changes(&self, writer: &Writer, mut version: u64) {
        let secs = self.query.number("timeoutSeconds");
        let end = Instant::now() + secs.map_or(WATCH_MAX, Duration::from_secs);
        let mut bookmark_at = end - BOOKMARK_BEFORE_END;
        bookmark_at = bookmark_at.min(Instant::now() + BOOKMARK_PERIOD);
        let mut changed = self.state.changed.subscribe();
        loop {
            let mut piece = Vec::new();
            let is_gone = self.happens(Fault::GoneInWatch);
            let now = {
                let inner = lock(&self.state.inner);
                (version >= inner.store.oldest && !is_gone).then_some(inner.store.version)
            };
            let Some(now) = now else {
                self.format.push_error(&gone(), &mut piece);
                return writer.write(piece.into()).await;
            };
            for event in self.faulty(version) {
                self.format.push_event(&event, &mut piece);
            }
            version = now;
            if Instant::now() >= bookmark_at {
                bookmark_at = (Instant::now() + BOOKMARK_PERIOD).max(end);
                if !self.state.has(Habit::SendsNoBookmarks) {
                    self.format.push_bookmark(self.resource, version, &mut piece);
                }
            }
            if self.state.is_frozen(self.connection) {
                return writer.pieces.closed().await;
            }
            writer.write(piece.into()).await;
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep_until(bookmark_at.min(end)) => {}
                () = writer.pieces.closed() => return,
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// The events after a version, with the faults of this kind.
    fn faulty(&self, version: u64) -> Vec<StoredEvent> {
        let mut inner = lock(&self.state.inner);
        let mut sent: Vec<StoredEvent> = Vec::new();
        for event in inner.store.events_after(version, self.resource) {
            if inner.faults.take(self.resource, Fault::Lose) {
                continue;
            }
            if inner.faults.take(self.resource, Fault::Repeat) {
                sent.push(event.clone());
            }
            sent.push(event);
            let last = sent.len() - 1;
            let are_two =
                last > 0 && sent[last].stored.object.key() != sent[last - 1].stored.object.key();
            if are_two && inner.faults.take(self.resource, Fault::Swap) {
                sent.swap(last, last - 1);
            }
        }
        sent
    }
}

/// Writes the body of a response.
struct Writer {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    state: Arc<FakeState>,
}

impl Writer {
    fn new(
        code: u16,
        content_type: &'static str,
        state: &Arc<FakeState>,
    ) -> (Self, Response<Body>) {
        let (pieces, received) = mpsc::channel(PIECES_AHEAD);
        let writer = Self { pieces, state: Arc::clone(state) };
        (writer, response(code, content_type, received))
    }

    async fn write(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if !self.state.has(Habit::IsSlow) {
            // A client that is gone needs nothing.
            let _ = self.pieces.send(Ok(bytes)).await;
            return;
        }
        for index in 0..bytes.len() {
            let _ = self.pieces.send(Ok(bytes.slice(index..=index))).await;
            sleep(SLOW_PAUSE).await;
        }
    }

    /// Breaks the connection off.
    async fn cut(&self) {
        let _ = self.pieces.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
    }
}

fn response(
    code: u16,
    content_type: &'static str,
    pieces: mpsc::Receiver<io::Result<Bytes>>,
) -> Response<Body> {
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((piece.map(Frame::data), pieces))
    });
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, content_type)
        .body(StreamBody::new(Box::pin(pieces) as _))
        .expect("a valid head")
}

fn failed(format: Format, failure: &Failure) -> Response<Body> {
    let (pieces, received) = mpsc::channel(1);
    // There is room for one.
    let _ = pieces.try_send(Ok(format.failure(failure)));
    let code = u16::try_from(failure.code).expect("a status code");
    response(code, format.content_type(false), received)
}
