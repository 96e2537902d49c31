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

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use kube::client::{Body, DynBody};
use tower::{BoxError, Layer, Service};

use super::translate::{self, WatchBody};
use crate::raw::Kind;
use crate::status::SourceStatus;

/// A watch that follows another one of its kind sooner than this is made to wait.
const WATCH_SPACING: Duration = Duration::from_millis(250);

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
            let response = response.await?;
            look_at(&response, kind, exchange, &status)?;
            translated(noting_contact(response, kind, status), kind, exchange).await
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

fn noting_contact(
    response: Response<Box<DynBody>>,
    kind: Kind,
    status: Arc<SourceStatus>,
) -> Response<Box<DynBody>> {
    response.map(|body| {
        boxed(body.map_frame(move |frame| {
            status.kind(kind).contact();
            frame
        }))
    })
}

/// The same answer in JSON.
async fn translated(
    response: Response<Box<DynBody>>,
    kind: Kind,
    exchange: Exchange,
) -> Result<Response<Box<DynBody>>, BoxError> {
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !content_type.is_some_and(|value| value.starts_with(translate::CONTENT_TYPE.as_bytes())) {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_TYPE);
    head.headers.remove(CONTENT_LENGTH);
    let is_watch = exchange != Exchange::List;
    let body = if is_watch && head.status.is_success() {
        let mut watch = WatchBody::new(kind);
        boxed(body.map_frame(move |frame| match frame.into_data() {
            Ok(piece) => Frame::data(watch.push(&piece)),
            Err(trailers) => trailers,
        }))
    } else {
        // A page or an error, both bounded.
        let body = body.collect().await?.to_bytes();
        let json = if head.status.is_success() {
            translate::list_to_json(kind, body)?
        } else {
            translate::status_to_json(head.status.as_u16(), body)
        };
        boxed(Full::new(json).map_err(BoxError::from))
    };
    Ok(Response::from_parts(head, body))
}

fn boxed(
    body: impl HttpBody<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
) -> Box<DynBody> {
    Box::new(body)
}

/// Seconds (RFC 9110, section 10.2.3); the API server sends no dates.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
