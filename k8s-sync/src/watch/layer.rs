//! A tower layer around the HTTP client: it sees what kube hides about its requests.
//!
//! It requests protobuf and returns JSON, records every sign of life from the server (also
//! bookmarks of a quiet watch), and ends requests without a response. It turns responses that kube
//! would misread or ignore into errors: a 429 or 503 with Retry-After, a redirect, an HTML page, a
//! compressed body.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::client::{Body, DynBody};
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

use super::translate::{self, WatchBody};
use crate::raw::Kind;
use crate::status::SourceStatus;

/// Timeout for the head of a watch's response, or for a list of one object. The API server sends
/// the head at once, but a busy one queues requests for up to 15 s.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(15);
/// Timeout for the head of a list. The API server itself gives up after a minute.
const LIST_WAIT_MAX: Duration = Duration::from_secs(60);
/// Timeout between two pieces of a list or an error, which are sent without pauses.
const BODY_SILENCE_MAX: Duration = Duration::from_secs(20);

/// The server has sent nothing for this long.
#[derive(Debug)]
pub(super) struct SilentServer(pub(super) Duration);

impl std::fmt::Display for SilentServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the API server has sent nothing for {:?}", self.0)
    }
}

impl std::error::Error for SilentServer {}

/// A response that no API server sends: it comes from something in front of it or in its place.
#[derive(Debug)]
pub(super) enum ForeignResponse {
    /// The status and the location.
    Redirect(StatusCode, String),
    ContentType(String),
    ContentEncoding(String),
}

impl std::fmt::Display for ForeignResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Redirect(status, location) => write!(
                f,
                "the response is a redirect ({status} to {location:?}), which is not followed: \
                 is that the API server's address?"
            ),
            Self::ContentType(found) => write!(
                f,
                "the response is {found:?}, neither JSON nor protobuf: \
                 is another server, a proxy or a login page at this address?"
            ),
            Self::ContentEncoding(found) => {
                write!(f, "the response is compressed ({found:?}), which was not requested")
            }
        }
    }
}

impl std::error::Error for ForeignResponse {}

/// Marks a request whose response must have every field.
#[derive(Clone, Copy, Debug)]
pub(super) struct AsJson;

/// 429 or 503 with Retry-After.
#[derive(Debug)]
pub(super) struct Throttled {
    pub(super) status: StatusCode,
    pub(super) retry_after: Duration,
}

impl std::fmt::Display for Throttled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the API server responded {}, retry in {:?}", self.status, self.retry_after)
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
        ApiService { inner, status: Arc::clone(&self.status) }
    }
}

pub(super) struct ApiService<S> {
    inner: S,
    status: Arc<SourceStatus>,
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
        let exchange = RequestKind::of(request.uri().query().unwrap_or_default());
        if request.extensions().get::<AsJson>().is_none() {
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(translate::ACCEPT));
        }
        let status = Arc::clone(&self.status);
        let response = self.inner.call(request);
        Box::pin(async move {
            let wait_max = exchange.wait_max();
            let response =
                timeout(wait_max, response).await.map_err(|_| SilentServer(wait_max))??;
            check_head(&response)?;
            let is_success = response.status().is_success();
            if is_success {
                status.kind(kind).contact();
            }
            match exchange {
                RequestKind::Watch if is_success => Ok(watch(response, kind, status)),
                RequestKind::Watch | RequestKind::List | RequestKind::Probe => {
                    whole(response, kind).await
                }
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestKind {
    List,
    /// A list of one object.
    Probe,
    /// Includes streaming lists.
    Watch,
}

impl RequestKind {
    fn of(query: &str) -> Self {
        let mut parameters = query.split('&');
        if parameters.clone().any(|parameter| parameter == "watch=true") {
            Self::Watch
        } else if parameters.any(|parameter| parameter == "limit=1") {
            Self::Probe
        } else {
            Self::List
        }
    }

    fn wait_max(self) -> Duration {
        match self {
            Self::List => LIST_WAIT_MAX,
            Self::Probe | Self::Watch => HEAD_WAIT_MAX,
        }
    }
}

/// Checks that kube can handle the head of a response.
fn check_head(response: &Response<Box<DynBody>>) -> Result<(), BoxError> {
    let code = response.status();
    let is_busy = matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if let (true, Some(retry_after)) = (is_busy, retry_after(response)) {
        return Err(Throttled { status: code, retry_after }.into());
    }
    let text = |name| {
        let value = response.headers().get(name).map(HeaderValue::as_bytes);
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    if code.is_redirection() {
        let location = text(http::header::LOCATION).unwrap_or_default();
        return Err(ForeignResponse::Redirect(code, location).into());
    }
    let is_readable =
        |found: &str| found.contains("json") || found.starts_with(translate::CONTENT_TYPE);
    match text(CONTENT_TYPE) {
        Some(found) if code.is_success() && !is_readable(&found) => {
            return Err(ForeignResponse::ContentType(found).into());
        }
        _ => {}
    }
    match text(CONTENT_ENCODING) {
        Some(found) if !found.eq_ignore_ascii_case("identity") => {
            Err(ForeignResponse::ContentEncoding(found).into())
        }
        _ => Ok(()),
    }
}

/// The response to a watch: JSON as it arrives. Each piece counts as a sign of life.
fn watch(
    response: Response<Box<DynBody>>,
    kind: Kind,
    status: Arc<SourceStatus>,
) -> Response<Box<DynBody>> {
    let mut protobuf = is_protobuf(&response).then(|| WatchBody::new(kind));
    response.map(|body| {
        let frames =
            futures::stream::unfold(body, |mut body| async { Some((body.frame().await?, body)) });
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

/// A page of a list or an error, in JSON. Both are bounded.
async fn whole(
    response: Response<Box<DynBody>>,
    kind: Kind,
) -> Result<Response<Box<DynBody>>, BoxError> {
    let is_protobuf = is_protobuf(&response);
    let (mut head, mut rest) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = next_frame(&mut rest).await? {
        if let Ok(piece) = frame?.into_data() {
            body.extend_from_slice(&piece);
        }
    }
    let mut body = Bytes::from(body);
    if is_protobuf && head.status.is_success() {
        body = translate::list_to_json(kind, body)?;
    } else if is_protobuf {
        body = translate::status_to_json(head.status.as_u16(), body);
    }
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, Box::new(Full::new(body).map_err(BoxError::from))))
}

async fn next_frame(
    body: &mut Box<DynBody>,
) -> Result<Option<Result<Frame<Bytes>, BoxError>>, SilentServer> {
    timeout(BODY_SILENCE_MAX, body.frame()).await.map_err(|_| SilentServer(BODY_SILENCE_MAX))
}

fn is_protobuf<B>(response: &Response<B>) -> bool {
    let value = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    value.is_some_and(|value| value.starts_with(translate::CONTENT_TYPE.as_bytes()))
}

/// In seconds (RFC 9110, section 10.2.3). The API server sends no dates.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
