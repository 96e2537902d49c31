//! One request to the API server: its head is awaited and checked here, its body is read piece by
//! piece.
//!
//! Every piece is a sign of life for `status` (also bookmarks of a quiet watch). Requests without a
//! response end after a while. What no API server sends is an error: a redirect, an HTML page, a
//! compressed body. What the bytes of a body mean is in `list` and `events`.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use tokio::time::timeout;
use tower::BoxError;

use super::protobuf;
use crate::status::KindStatus;

/// Timeout for the head of a watch's response, or for a list of one object. The API server sends
/// the head at once, but a busy one queues requests for up to 15 s.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(15);
/// Timeout for the head of a list. The API server itself gives up after a minute.
const LIST_WAIT_MAX: Duration = Duration::from_secs(60);
/// Timeout between two pieces of a list, which are sent without pauses.
pub(super) const BODY_SILENCE_MAX: Duration = Duration::from_secs(20);
/// Timeout for the whole body of an error.
const ERROR_WAIT_MAX: Duration = Duration::from_secs(20);
/// More of it is not read: it comes from something in front of the API server.
const ERROR_LEN_MAX: usize = 1 << 20;
/// More of a small body is not read.
const SMALL_LEN_MAX: usize = 256 << 20;

/// The accepted formats, best first. A watch in protobuf costs the server half as much as one in
/// JSON, and CoreDNS uses it too.
const PROTOBUF_OR_JSON: &str = "application/vnd.kubernetes.protobuf;stream=watch,\
    application/vnd.kubernetes.protobuf,application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Why there is no response, or none that can be used.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The request did not reach the server, or the response broke off.
    Transport(BoxError),
    /// The server has sent nothing for this long.
    Silent(Duration),
    Foreign(ForeignResponse),
    /// 429 or 503 with Retry-After.
    Throttled {
        status: StatusCode,
        retry_after: Duration,
    },
    /// The server reports a failure, by its HTTP status or in a watch.
    Status(ServerFailure),
    /// Neither the protobuf nor the JSON that was requested.
    Unreadable(String),
}

/// What the server says about a failure: the fields of its `Status` that matter here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerFailure {
    /// The HTTP status, or the one that the failure would have had. Zero if unknown.
    pub(super) code: u16,
    pub(super) message: String,
    pub(super) details: Option<FailureDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FailureDetails {
    pub(super) retry_after_seconds: u32,
}

/// A response that no API server sends: it comes from something in front of it or in its place.
#[derive(Debug)]
pub(super) enum ForeignResponse {
    /// The status and the location.
    Redirect(StatusCode, String),
    ContentType(String),
    ContentEncoding(String),
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(error) => error.fmt(f),
            Self::Silent(time) => write!(f, "the API server has sent nothing for {time:?}"),
            Self::Foreign(ForeignResponse::Redirect(status, location)) => write!(
                f,
                "the response is a redirect ({status} to {location:?}), which is not followed: \
                 is that the API server's address?"
            ),
            Self::Foreign(ForeignResponse::ContentType(found)) => write!(
                f,
                "the response is {found:?}, neither JSON nor protobuf: \
                 is another server, a proxy or a login page at this address?"
            ),
            Self::Foreign(ForeignResponse::ContentEncoding(found)) => {
                write!(f, "the response is compressed ({found:?}), which was not requested")
            }
            Self::Throttled { status, retry_after } => {
                write!(f, "the API server responded {status}, retry in {retry_after:?}")
            }
            Self::Status(status) => match (status.message.trim(), status.code) {
                ("", 0) => write!(f, "the watch returned an unreadable event"),
                ("", code) => write!(f, "HTTP {code}"),
                (message, 0) => write!(f, "{message}"),
                (message, code) => write!(f, "{message} (HTTP {code})"),
            },
            Self::Unreadable(cause) => write!(f, "unreadable response: {cause}"),
        }
    }
}

impl std::error::Error for ApiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Transport(error) => error.source(),
            Self::Silent(_)
            | Self::Foreign(_)
            | Self::Throttled { .. }
            | Self::Status(_)
            | Self::Unreadable(_) => None,
        }
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        Self::Transport(match error {
            kube::Error::Service(error) => error,
            kube::Error::HyperError(error) => error.into(),
            other => other.into(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// How long the parts of a response may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    List,
    /// A list of one object.
    Probe,
    /// Its body may be silent: the recovery watches over that.
    Watch,
}

impl Exchange {
    fn head_max(self) -> Duration {
        match self {
            Self::List => LIST_WAIT_MAX,
            Self::Probe | Self::Watch => HEAD_WAIT_MAX,
        }
    }

    fn body_silence_max(self) -> Option<Duration> {
        match self {
            Self::List | Self::Probe => Some(BODY_SILENCE_MAX),
            Self::Watch => None,
        }
    }
}

/// The body of a successful response.
pub(super) struct ApiBody<'s> {
    body: Body,
    pub(super) encoding: Encoding,
    silence_max: Option<Duration>,
    status: &'s KindStatus,
}

/// Sends the request and waits for the head of its response.
pub(super) async fn send<'s>(
    client: &Client,
    mut request: Request<Vec<u8>>,
    exchange: Exchange,
    status: &'s KindStatus,
) -> Result<ApiBody<'s>, ApiError> {
    let accepted = HeaderValue::from_static(PROTOBUF_OR_JSON);
    request.headers_mut().entry(ACCEPT).or_insert(accepted);
    let head_max = exchange.head_max();
    let response = timeout(head_max, client.send(request.map(Body::from))).await;
    status.set_connected(matches!(response, Ok(Ok(_))));
    let response = response.map_err(|_| ApiError::Silent(head_max))??;
    check_head(&response)?;
    let encoding = encoding(&response);
    if !response.status().is_success() {
        return Err(failure(response, encoding, status).await?);
    }
    status.contact();
    let silence_max = exchange.body_silence_max();
    Ok(ApiBody { body: response.into_body(), encoding, silence_max, status })
}

impl ApiBody<'_> {
    /// The next piece, which is not empty. `None` at the end. Dropping the future loses nothing.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = match self.silence_max {
                Some(max) => {
                    let frame = timeout(max, self.body.frame()).await;
                    frame.map_err(|_| ApiError::Silent(max))?
                }
                None => self.body.frame().await,
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(piece) = frame?.into_data()
                && !piece.is_empty()
            {
                self.status.contact();
                return Ok(Some(piece));
            }
        }
    }

    /// The whole body, for those that are small.
    pub(super) async fn whole(mut self) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if body.len() + piece.len() > SMALL_LEN_MAX {
                return Err(ApiError::Unreadable("a response of more than 256 MiB".into()));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// Checks that an API server has sent this head.
fn check_head(response: &Response<Body>) -> Result<(), ApiError> {
    let code = response.status();
    let is_busy = matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if let (true, Some(retry_after)) = (is_busy, retry_after(response)) {
        return Err(ApiError::Throttled { status: code, retry_after });
    }
    let text = |name| {
        let value = response.headers().get(name).map(HeaderValue::as_bytes);
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    if code.is_redirection() {
        let location = text(LOCATION).unwrap_or_default();
        return Err(ApiError::Foreign(ForeignResponse::Redirect(code, location)));
    }
    let is_readable = |found: &str| found.contains("json") || found.starts_with(PROTOBUF);
    match text(CONTENT_TYPE) {
        Some(found) if code.is_success() && !is_readable(&found) => {
            return Err(ApiError::Foreign(ForeignResponse::ContentType(found)));
        }
        _ => {}
    }
    match text(CONTENT_ENCODING) {
        Some(found) if !found.eq_ignore_ascii_case("identity") => {
            Err(ApiError::Foreign(ForeignResponse::ContentEncoding(found)))
        }
        _ => Ok(()),
    }
}

/// The failure that a response reports. Its body is a `Status`, or the page of a proxy.
///
/// # Errors
/// The body broke off.
async fn failure(
    response: Response<Body>,
    encoding: Encoding,
    status: &KindStatus,
) -> Result<ApiError, ApiError> {
    let code = response.status().as_u16();
    let body = timeout(ERROR_WAIT_MAX, error_body(response.into_body())).await;
    let body = body.map_err(|_| ApiError::Silent(ERROR_WAIT_MAX))??;
    tracing::debug!(kind = status.kind().plural(), code, "the API server reports a failure");
    Ok(ApiError::Status(server_failure(code, encoding, &body)))
}

async fn error_body(mut rest: Body) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while body.len() < ERROR_LEN_MAX
        && let Some(frame) = rest.frame().await
    {
        body.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    Ok(body)
}

/// `code` is the HTTP status, used if the body has none.
fn server_failure(code: u16, encoding: Encoding, body: &[u8]) -> ServerFailure {
    let found = match encoding {
        Encoding::Protobuf => Some(protobuf::failure_body(body).unwrap_or_default()),
        Encoding::Json => serde_json::from_slice::<ServerFailure>(body).ok(),
    };
    let found = found.unwrap_or_else(|| ServerFailure {
        message: String::from_utf8_lossy(body).trim().to_owned(),
        ..ServerFailure::default()
    });
    let code = if found.code == 0 { code } else { found.code };
    ServerFailure { code, ..found }
}

fn encoding<B>(response: &Response<B>) -> Encoding {
    let value = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_protobuf = value.is_some_and(|value| value.starts_with(PROTOBUF.as_bytes()));
    if is_protobuf { Encoding::Protobuf } else { Encoding::Json }
}

/// In seconds (RFC 9110, section 10.2.3). The API server sends no dates.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use kube::client::DynBody;

    use super::*;
    use crate::raw::Kind;
    use crate::status::SourceStatus;

    /// An error that never ends is given up, even if it goes on to send something.
    #[tokio::test(start_paused = true)]
    async fn an_error_that_never_ends() {
        let service = tower::service_fn(|_: Request<Body>| async {
            let pieces = futures::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))), ()))
            });
            let body = Box::new(StreamBody::new(pieces.boxed())) as Box<DynBody>;
            Response::builder().status(500).body(body)
        });
        let client = Client::new(service, "default");
        let status = SourceStatus::new(&crate::watch::tests::options());
        let request = Request::get("/").body(Vec::new()).expect("a request");
        let began = tokio::time::Instant::now();
        let failed = send(&client, request, Exchange::Watch, status.kind(Kind::Pod)).await.err();
        assert!(matches!(failed, Some(ApiError::Silent(_))), "{failed:?}");
        assert_eq!(began.elapsed(), ERROR_WAIT_MAX);
    }

    #[test]
    fn failures() {
        let check = |code: u16, encoding: Encoding, body: &[u8], expected: (u16, &str, u32)| {
            let found = server_failure(code, encoding, body);
            let retry_after = found.details.map_or(0, |details| details.retry_after_seconds);
            assert_eq!((found.code, found.message.as_str(), retry_after), expected);
        };
        let forbidden = include_bytes!("recordings/forbidden.pb");
        let message = "services is forbidden: User \"low\" cannot list resource \"services\" in \
                       API group \"\" at the cluster scope";
        check(403, Encoding::Protobuf, forbidden, (403, message, 0));
        check(502, Encoding::Protobuf, b"<html>", (502, "", 0));
        check(429, Encoding::Protobuf, b"k8s\0\x12\x04\x2a\x02\x28\x07", (429, "", 7));
        check(502, Encoding::Json, b"<html>\n", (502, "<html>", 0));
        check(500, Encoding::Json, br#"{"message":"no"}"#, (500, "no", 0));
        check(500, Encoding::Json, br#"{"code":410,"message":"no"}"#, (410, "no", 0));
    }
}
