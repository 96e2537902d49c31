//! What kube does not show of its requests, seen from below it: a tower layer around the HTTP client.
//!
//! It asks for protobuf and hands on JSON, notes when the server said something (bookmarks of a quiet watch too), turns a 429
//! or 503 with Retry-After into an error that carries the time, and paces watches that the server ends as soon as they begin:
//! kube would ask again at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::{Body, DynBody};
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

use super::translate::{self, WatchBody};
use crate::raw::Kind;
use crate::status::SourceStatus;

/// A watch that follows another one of its kind sooner than this is made to wait.
const WATCH_SPACING: Duration = Duration::from_millis(250);

/// A watch that has been quiet for longer is resumed, so that a dead connection is noticed. Most servers send a bookmark a
/// minute; one that has seen no change since it started sends none.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// Nothing has come for `SILENCE_MAX`.
#[derive(Debug)]
pub(super) struct Silent;

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the API server has said nothing for {SILENCE_MAX:?}")
    }
}

impl std::error::Error for Silent {}

/// 429 or 503 with Retry-After.
#[derive(Debug)]
pub(super) struct Throttled {
    pub(super) status: StatusCode,
    pub(super) retry_after: Duration,
}

impl std::fmt::Display for Throttled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the API server answers {}, try again in {:?}", self.status, self.retry_after)
    }
}

impl std::error::Error for Throttled {}

pub(super) struct ApiLayer {
    status: Arc<SourceStatus>,
}

impl ApiLayer {
    pub(super) fn new(status: Arc<SourceStatus>) -> Self {
        Self { status }
    }
}

impl<S> Layer<S> for ApiLayer {
    type Service = ApiService<S>;

    fn layer(&self, inner: S) -> ApiService<S> {
        ApiService { inner, status: Arc::clone(&self.status), resumed: [None; Kind::ALL.len()] }
    }
}

pub(super) struct ApiService<S> {
    inner: S,
    status: Arc<SourceStatus>,
    /// When each kind's last watch was let through.
    resumed: [Option<Instant>; Kind::ALL.len()],
}

impl<S> Service<Request<Body>> for ApiService<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let Some(kind) = Kind::ALL.into_iter().find(|kind| path.ends_with(kind.plural())) else {
            return Box::pin(self.inner.call(request));
        };
        let query = request.uri().query().unwrap_or_default();
        let exchange = match (query.contains("watch=true"), query.contains("sendInitialEvents")) {
            (true, true) => Exchange::StreamingList,
            (true, false) => Exchange::ResumedWatch,
            (false, _) => Exchange::List,
        };
        let pause = match exchange {
            Exchange::ResumedWatch => self.pace(kind),
            Exchange::StreamingList | Exchange::List => Duration::ZERO,
        };
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(translate::ACCEPT));
        let status = Arc::clone(&self.status);
        // Not sent before it is polled.
        let response = self.inner.call(request);
        Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let response = timeout(SILENCE_MAX, response).await.map_err(|_| Silent)??;
            look_at(&response, kind, exchange, &status)?;
            let is_watch = exchange != Exchange::List && response.status().is_success();
            if is_watch { Ok(watch(response, kind, status)) } else { whole(response, kind).await }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    List,
    StreamingList,
    ResumedWatch,
}

impl<S> ApiService<S> {
    /// How long the next watch of this kind has to wait.
    fn pace(&mut self, kind: Kind) -> Duration {
        let now = super::now();
        let last = &mut self.resumed[kind as usize];
        let earliest = last.map_or(now, |last| last + WATCH_SPACING).max(now);
        *last = Some(earliest);
        earliest - now
    }
}

/// What the head of an answer says about the server.
fn look_at(
    response: &Response<Box<DynBody>>,
    kind: Kind,
    exchange: Exchange,
    status: &SourceStatus,
) -> Result<(), Throttled> {
    let code = response.status();
    let is_busy = matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if let (true, Some(retry_after)) = (is_busy, retry_after(response)) {
        return Err(Throttled { status: code, retry_after });
    }
    if code.is_success() {
        status.kind(kind).contact();
        if exchange == Exchange::ResumedWatch {
            // A quiet watch gives no other sign that it goes on.
            status.kind(kind).recovered();
        }
    }
    Ok(())
}

/// A watch's answer: JSON as it comes, each piece noted as a sign of life, ended by too long a silence.
fn watch(
    response: Response<Box<DynBody>>,
    kind: Kind,
    status: Arc<SourceStatus>,
) -> Response<Box<DynBody>> {
    let mut protobuf = is_protobuf(&response).then(|| WatchBody::new(kind));
    response.map(|body| {
        let frames = futures::stream::unfold(body, |mut body| async {
            // The end is no error: kube resumes where it was.
            let frame = timeout(SILENCE_MAX, body.frame()).await.ok().flatten()?;
            Some((frame, body))
        });
        let frames = frames.map(move |frame| {
            let frame = frame?;
            status.kind(kind).contact();
            Ok(match (frame.into_data(), &mut protobuf) {
                (Ok(piece), Some(protobuf)) => Frame::data(protobuf.push(&piece)),
                (Ok(piece), None) => Frame::data(piece),
                (Err(trailers), _) => trailers,
            })
        });
        Box::new(StreamBody::new(Box::pin(frames))) as Box<DynBody>
    })
}

/// A list's page or an error, both bounded, in JSON.
async fn whole(
    response: Response<Box<DynBody>>,
    kind: Kind,
) -> Result<Response<Box<DynBody>>, BoxError> {
    let is_protobuf = is_protobuf(&response);
    let (mut head, body) = response.into_parts();
    let mut body = timeout(SILENCE_MAX, body.collect()).await.map_err(|_| Silent)??.to_bytes();
    if is_protobuf && head.status.is_success() {
        body = translate::list_to_json(kind, body)?;
    } else if is_protobuf {
        body = translate::status_to_json(head.status.as_u16(), body);
    }
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, Box::new(Full::new(body).map_err(BoxError::from))))
}

fn is_protobuf<B>(response: &Response<B>) -> bool {
    let value = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    value.is_some_and(|value| value.starts_with(translate::CONTENT_TYPE.as_bytes()))
}

/// Seconds (RFC 9110, section 10.2.3); the API server sends no dates.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
