//! The responses of the endpoints. Invariant: pure; a request and the server's state in, a response
//! out.

use std::time::SystemTime;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode, Uri};

use super::readiness::{Readiness, ReadyVerdict};
use super::status::{self, Refresh};
use crate::metrics::{Format, Metrics};

/// The plugins that listen for HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointKind {
    Health,
    Ready,
    Prometheus,
    Pprof,
}

impl EndpointKind {
    /// The directive in the Corefile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Prometheus => "prometheus",
            Self::Pprof => "pprof",
        }
    }

    /// The only path that it serves. `Pprof` serves it with a slash at its end as well.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Prometheus => "/metrics",
            Self::Pprof => "/debug/pprof",
        }
    }

    /// The default address, as in CoreDNS.
    #[must_use]
    pub fn default_address(self) -> &'static str {
        match self {
            Self::Health => ":8080",
            Self::Ready => ":8181",
            Self::Prometheus => "localhost:9153",
            Self::Pprof => "localhost:6053",
        }
    }
}

pub(super) type Response = hyper::Response<Full<Bytes>>;

/// Answers a request on a listener that these plugins share.
pub(super) fn respond(
    plugins: &[EndpointKind],
    readiness: &Readiness,
    metrics: &Metrics,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Response {
    let path = uri.path();
    let asked = if path == "/debug/pprof/" { EndpointKind::Pprof.path() } else { path };
    let is_status = path == "/" && plugins.contains(&EndpointKind::Prometheus);
    let plugin = plugins.iter().find(|plugin| plugin.path() == asked);
    if plugin.is_none() && !is_status {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    // hyper omits the body of a response to HEAD.
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let Some(plugin) = plugin else {
        let refresh = match uri.query() {
            Some("still") => Refresh::Off,
            Some(_) | None => Refresh::Every5Secs,
        };
        return status_page(status::page(
            &metrics.overview(),
            readiness,
            refresh,
            SystemTime::now(),
        ));
    };
    match plugin {
        EndpointKind::Health => {
            let (status, body) = health_text(&readiness.stuck_shards());
            text(status, body)
        }
        EndpointKind::Ready => {
            let (status, mut body) = ready_text(&readiness.verdict());
            for note in readiness.notes() {
                body.push('\n');
                body.push_str(&note);
            }
            text(status, body)
        }
        EndpointKind::Prometheus => {
            let accept: Vec<_> =
                headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
            let format = Format::for_accept(&accept.join(","));
            typed(StatusCode::OK, format.content_type(), metrics.scrape(format))
        }
        EndpointKind::Pprof => text(StatusCode::OK, NO_PROFILES),
    }
}

/// What stands in place of Go's profiles.
const NO_PROFILES: &str = "\
ringdns is not a Go program and has no profiles of Go.
Where time goes:      perf record -g -p $(pidof ringdns) -- sleep 10; perf report
What the server does: /metrics, on the address of the plugin `prometheus`
";

/// CoreDNS's, unless a shard is stuck.
fn health_text(stuck_shards: &[String]) -> (StatusCode, String) {
    match stuck_shards {
        [] => (StatusCode::OK, "OK".to_owned()),
        stuck => (StatusCode::SERVICE_UNAVAILABLE, stuck.join("\n")),
    }
}

/// The first line is CoreDNS's: the plugins in alphabetical order, separated by commas. The reasons
/// follow.
fn ready_text(verdict: &ReadyVerdict) -> (StatusCode, String) {
    let reasons = match verdict {
        ReadyVerdict::Ready => return (StatusCode::OK, "OK".to_owned()),
        ReadyVerdict::ShuttingDown => {
            return (StatusCode::SERVICE_UNAVAILABLE, "Shutting down".to_owned());
        }
        ReadyVerdict::Waiting(reasons) => reasons,
    };
    let mut plugins: Vec<_> = reasons.iter().map(|reason| reason.plugin).collect();
    plugins.sort_unstable();
    plugins.dedup();
    let mut text = plugins.join(",");
    for reason in reasons {
        text.push_str(&format!("\n{} {}: {}", reason.plugin, reason.part, reason.cause));
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

/// The browser is to load nothing else, and to keep nothing.
fn status_page(html: String) -> Response {
    const POLICY: &str =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    let mut response = typed(StatusCode::OK, "text/html; charset=utf-8", html);
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::readiness::Reason;

    #[test]
    fn the_first_line_is_corednss() {
        let reason = |plugin, part: &str, cause: &str| Reason {
            plugin,
            part: part.to_owned(),
            cause: cause.to_owned(),
        };
        for (reasons, expected) in [
            (
                vec![reason("kubernetes", "cluster.local.", "services are not listed yet")],
                "kubernetes\nkubernetes cluster.local.: services are not listed yet",
            ),
            (
                vec![
                    reason("kubernetes", "a.", "x"),
                    reason("kubernetes", "b.", "y"),
                    reason("nomad", "n.", "z"),
                ],
                "kubernetes,nomad\nkubernetes a.: x\nkubernetes b.: y\nnomad n.: z",
            ),
        ] {
            assert_eq!(ready_text(&ReadyVerdict::Waiting(reasons)).1, expected);
        }
    }
}
