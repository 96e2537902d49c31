//! The whole watch against an API server that is a function: no socket, and paused time.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::client::{Body, DynBody};
use tower::BoxError;

use super::*;
use crate::object::{Change, Namespace};

/// The server's response to the next request of a kind.
#[derive(Clone, Copy)]
enum Answer {
    /// HTTP status and body. Retry-After is 7 s where it applies.
    Status(u16, &'static str),
    /// 200, these lines, then the end of the stream.
    Ends(&'static [&'static str]),
    /// 200, these lines, then nothing more.
    Open(&'static [&'static str]),
    /// A list. Watches resumed before it stay quiet.
    Listed(&'static str),
    /// A list. Watches resumed before it get no connection.
    OnlyListed(&'static str),
    /// 200 and a list in protobuf, in one piece.
    Protobuf(&'static [u8]),
    /// The same, but the end of the body never comes.
    Stalls(&'static [u8]),
    /// No connection.
    Refuse,
    /// No response at all.
    HeldBack,
    /// Status, header and body.
    Foreign(u16, (&'static str, &'static str), &'static str),
}
use Answer::*;

/// A list of the namespace `a`.
const LIST_A: Answer = Status(
    200,
    r#"{"metadata":{"resourceVersion":"2"},
        "items":[{"metadata":{"name":"a","resourceVersion":"1"}}]}"#,
);
/// A list of the namespace `b`.
const LIST_B: Answer = Status(200, B_ONLY);
const B_ONLY: &str = r#"{"metadata":{"resourceVersion":"2"},
    "items":[{"metadata":{"name":"b","resourceVersion":"2"}}]}"#;
const NS_A: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}"#;
const NS_B: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"b","resourceVersion":"2"}}}"#;
const NS_A_GONE: &str =
    r#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"3"}}}"#;
const GONE: &str = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#;
const NS_LIST: &str = r#"{"kind":"NamespaceList","apiVersion":"v1",
    "metadata":{"resourceVersion":"2"},
    "items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#;

const NO_OBJECTS: &str = r#"{"metadata":{"resourceVersion":"2"},"items":[]}"#;
/// `NS_LIST` in protobuf: the envelope, its field 2, the list's version, and two namespaces.
const NS_LIST_PROTOBUF: &[u8] =
    b"k8s\0\x12\x13\x0a\x03\x12\x012\x12\x05\x0a\x03\x0a\x01a\x12\x05\x0a\x03\x0a\x01b";
/// Its first namespace.
const HALF_A_LIST: &[u8] = NS_LIST_PROTOBUF.split_at(NS_LIST_PROTOBUF.len() - 7).0;

/// Responds to requests for namespaces in turn. When no responses are left, watches stay open.
/// Probes are answered separately.
struct Server {
    answers: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<&'static str>>,
    /// When the last request came, and the longest time between two.
    asked_at: Mutex<(tokio::time::Instant, Duration)>,
    /// The response to probes: a version, or `HTTP` and a status.
    version: &'static str,
    /// The response to comparisons. Without one, the server refuses them.
    metadata: Option<&'static str>,
}

impl Server {
    fn new(answers: Vec<Answer>) -> Self {
        let (answers, requests) = (Mutex::new(answers.into()), Mutex::default());
        let asked_at = Mutex::new((tokio::time::Instant::now(), Duration::ZERO));
        Self { answers, requests, asked_at, version: "2", metadata: None }
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Box<DynBody>>, BoxError> {
        match self.head(&request) {
            Some(head) => head,
            None => std::future::pending().await,
        }
    }

    /// `None` if there is never a response.
    fn head(&self, request: &Request<Body>) -> Option<Result<Response<Box<DynBody>>, BoxError>> {
        let uri = request.uri();
        let accepted = request.headers()["accept"].to_str().expect("formats");
        let parameters: Vec<&str> = uri.query().unwrap_or_default().split('&').collect();
        let has = |parameter: &str| parameters.iter().any(|found| found.starts_with(parameter));
        let request = match (has("watch=true"), has("limit=")) {
            (true, _) => "resume",
            (false, true) if parameters.contains(&"limit=1") => "probe",
            (false, true) => "page",
            (false, false) if accepted.contains("PartialObjectMetadataList") => "compare",
            (false, false) if parameters.contains(&"resourceVersion=0") => "list",
            (false, false) if has("resourceVersion=") => "list-since",
            (false, false) => "whole",
        };
        if !uri.path().ends_with("/namespaces") {
            let is_watch = request == "resume";
            let lines = if is_watch { [].as_slice() } else { &[NO_OBJECTS] };
            return Some(Ok(Response::new(stream(lines, is_watch))));
        }
        self.requests.lock().unwrap().push(request);
        let mut asked_at = self.asked_at.lock().unwrap();
        *asked_at = (tokio::time::Instant::now(), asked_at.1.max(asked_at.0.elapsed()));
        let with_status = |code: u16, header: (&str, &str), text: String| {
            let body = Full::new(Bytes::from(text)).map_err(BoxError::from);
            let builder =
                Response::builder().status(code).header("content-type", "application/json");
            let mut response = builder.body(Box::new(body) as Box<DynBody>)?;
            let name = http::HeaderName::from_bytes(header.0.as_bytes())?;
            response.headers_mut().insert(name, header.1.parse()?);
            Ok::<_, BoxError>(response)
        };
        if request == "probe" {
            let version = self.version;
            if let Some(code) = version.strip_prefix("HTTP ") {
                let status = format!(r#"{{"kind":"Status","code":{code},"message":"no"}}"#);
                return Some(with_status(code.parse().expect("a code"), ("x", "y"), status));
            }
            let list = format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"items":[]}}"#);
            return Some(with_status(200, ("x", "y"), list));
        }
        if request == "compare" {
            return Some(match self.metadata {
                Some(list) => with_status(200, ("x", "y"), list.to_owned()),
                None => with_status(406, ("x", "y"), r#"{"code":406}"#.to_owned()),
            });
        }
        let mut answers = self.answers.lock().unwrap();
        if request == "resume" && matches!(answers.front(), Some(Listed(_))) {
            return Some(Ok(Response::new(stream(&[], true))));
        }
        if request == "resume" && matches!(answers.front(), Some(OnlyListed(_))) {
            return Some(Err("connection refused".into()));
        }
        Some(match answers.pop_front() {
            None => Ok(Response::new(stream(&[], true))),
            Some(Status(code, text)) => with_status(code, ("retry-after", "7"), text.to_owned()),
            Some(Foreign(code, header, text)) => with_status(code, header, text.to_owned()),
            Some(Ends(lines)) => Ok(Response::new(stream(lines, false))),
            Some(Open(lines)) => Ok(Response::new(stream(lines, true))),
            Some(Listed(list) | OnlyListed(list)) => with_status(200, ("x", "y"), list.to_owned()),
            Some(Protobuf(list)) => protobuf(list, false),
            Some(Stalls(list)) => protobuf(list, true),
            Some(Refuse) => Err("connection refused".into()),
            Some(HeldBack) => return None,
        })
    }
}

/// A list in protobuf, whose body may stay open.
fn protobuf(list: &'static [u8], is_open: bool) -> Result<Response<Box<DynBody>>, BoxError> {
    let list = futures::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(list)))]);
    let rest = futures::stream::pending().take(usize::from(is_open));
    let body = Box::new(StreamBody::new(list.chain(rest))) as Box<DynBody>;
    let content_type = "application/vnd.kubernetes.protobuf";
    Ok(Response::builder().header("content-type", content_type).body(body)?)
}

/// A body of these lines, which may stay open.
pub(super) fn stream(lines: &'static [&'static str], is_open: bool) -> Box<DynBody> {
    let lines = futures::stream::iter(lines)
        .map(|line| Ok::<_, BoxError>(Frame::data(Bytes::from(format!("{line}\n")))));
    let rest = futures::stream::pending().take(usize::from(is_open));
    Box::new(StreamBody::new(lines.chain(rest)))
}

pub(super) fn options() -> Options {
    Options { zones: Vec::new(), no_endpoints: true, ..Options::of_tests() }
}

/// Plays the responses, receives as many namespace events as expected, and compares the requests.
/// Consecutive resumed watches and consecutive comparisons count as one, and probes do not count.
/// Lists are of any age, no older than what was received (`-since`), or as of now (pages, whole).
///
/// Events in short form: `(` Init, `)` InitDone, `/` InitDropped, `+a` InitApply, `a` Apply, `-a`
/// Delete.
async fn check(
    answers: Vec<Answer>,
    expected: &str,
    requests: &[&str],
) -> (Arc<SourceStatus>, Duration) {
    check_at("2", answers, expected, requests).await
}

/// Like `check`, with a server that reports `version` to probes.
async fn check_at(
    version: &'static str,
    answers: Vec<Answer>,
    expected: &str,
    requests: &[&str],
) -> (Arc<SourceStatus>, Duration) {
    let server = Server { version, ..Server::new(answers) };
    check_server(server, ApiServer::default(), expected, requests).await
}

/// Like `check`, where new clients use `next`.
async fn check_server(
    server: impl Into<Arc<Server>>,
    next: ApiServer,
    expected: &str,
    requests: &[&str],
) -> (Arc<SourceStatus>, Duration) {
    let server = server.into();
    let (options, status) = (options(), Arc::new(SourceStatus::new(&options())));
    let asked = Arc::clone(&server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let asked = Arc::clone(&asked);
        async move { asked.answer(request).await }
    });
    let client = kube::Client::new(service, "default");
    let connector = Connector::having_beside(client, next, Arc::clone(&status));
    let watch = Watch::with_connector(connector, &options, Arc::clone(&status));
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let began = tokio::time::Instant::now();
    let running = tokio::spawn(watch.run(sender));

    let mut received = Vec::new();
    let expected: Vec<&str> = expected.split(' ').collect();
    while received.len() < expected.len() {
        match receiver.recv().await.expect("the watch does not end") {
            Event::Namespace(change) => received.push(short(change)),
            Event::Service(_) | Event::EndpointSlice(_) | Event::Pod(_) => {}
        }
    }
    let took = began.elapsed();
    assert_eq!(received, expected);
    // Let the request after the last event happen, if there is one.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut requested = server.requests.lock().unwrap().clone();
    requested.retain(|request| *request != "probe");
    requested.dedup_by(|next, last| next == last && *next == "resume");
    let (mut requested, twice) = (requested.join(" "), "compare resume compare");
    while requested.contains(twice) {
        requested = requested.replace(twice, "compare");
    }
    assert_eq!(requested, requests.join(" "));
    drop(receiver);
    running.await.expect("the task ends with its receiver");
    (status, took)
}

fn short(change: Change<Namespace, Box<str>>) -> String {
    match change {
        Change::Init => "(".to_owned(),
        Change::InitApply(namespace) => format!("+{}", namespace.name),
        Change::InitDone => ")".to_owned(),
        Change::InitDropped => "/".to_owned(),
        Change::Apply(namespace) => namespace.name.into(),
        Change::Delete(name) => format!("-{name}"),
        Change::Remembered(_) => unreachable!("only a snapshot is remembered"),
    }
}

#[tokio::test(start_paused = true)]
async fn list_then_changes() {
    for list in [Status(200, NS_LIST), Protobuf(NS_LIST_PROTOBUF)] {
        let answers = vec![list, Open(&[NS_A_GONE])];
        let (status, took) = check(answers, "( +a +b ) -a", &["list", "resume"]).await;
        assert_eq!(took, Duration::ZERO);
        let report = &status.reports()[0];
        assert!(report.is_synced && report.error.is_none() && report.since_contact.is_some());
        assert_eq!((report.kind, report.lists, report.failures), (Kind::Namespace, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_refused_list_another_one_follows_at_once() {
    let answers = vec![Status(422, "no such parameter"), Status(200, NS_LIST), Open(&[NS_A_GONE])];
    let (status, took) = check(answers, "( +a +b ) -a", &["list", "page", "resume"]).await;
    assert_eq!(took, Duration::ZERO);
    assert_eq!(status.reports()[0].error, None);
}

/// After its first page nothing comes, and the watch that did not need it goes on.
#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_dropped_if_the_watch_goes_on() {
    const PAGE: &str = r#"{"metadata":{"resourceVersion":"2","continue":"x"},
        "items":[{"metadata":{"name":"a"}}]}"#;
    let refused = || Status(400, "no");
    let answers = vec![LIST_A, Open(&[]), Listed(PAGE), refused(), refused(), Open(&[NS_B])];
    let requests = ["list", "resume", "compare", "list-since", "page", "page", "resume"];
    check(answers, "( +a ) ( +a / b", &requests).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_cut_or_stalls_is_never_half_used() {
    let requests = ["list", "list", "resume"];
    let answers = vec![Protobuf(HALF_A_LIST), Status(200, NS_LIST)];
    check(answers, "( +a ( +a +b )", &requests).await;
    let answers = vec![Stalls(HALF_A_LIST), Status(200, NS_LIST)];
    let (_, took) = check(answers, "( +a ( +a +b )", &requests).await;
    assert_eq!(took.as_secs(), request::BODY_SILENCE_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_asked_every_second() {
    let refuse = || (0..61).map(|_| Refuse);
    // At start-up.
    let server = Arc::new(Server::new(refuse().chain([LIST_A]).collect()));
    let mut requests = vec!["list"];
    requests.extend(["list", "page"].repeat(30));
    requests.extend(["list", "resume"]);
    let answers = Arc::clone(&server);
    let (_, took) = check_server(answers, ApiServer::default(), "( +a )", &requests).await;
    assert!((30..65).contains(&took.as_secs()), "{took:?}");
    assert!(server.asked_at.lock().unwrap().1 <= Duration::from_secs(1));
    // Later.
    let answers = [LIST_A, Ends(&[])].into_iter().chain(refuse()).chain([Open(&[NS_B])]);
    let server = Arc::new(Server::new(answers.collect()));
    let answers = Arc::clone(&server);
    let requests = ["list", "resume"];
    let (_, took) = check_server(answers, ApiServer::default(), "( +a ) b", &requests).await;
    assert!((30..65).contains(&took.as_secs()), "{took:?}");
    assert!(server.asked_at.lock().unwrap().1 <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_plugin_does_not_block_an_old_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kubeconfig");
    let exec = "{apiVersion: client.authentication.k8s.io/v1, command: sleep, args: ['1000']}";
    let text = format!(
        "clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
         users: [{{name: u, user: {{exec: {exec}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    );
    std::fs::write(&file, text).expect("a file");
    let next = ApiServer { kubeconfig: Some((file, None)), ..ApiServer::default() };
    let answers = vec![Status(401, "not now"), Status(401, "not now"), LIST_A];
    let requests = ["list", "list", "list", "resume"];
    let (_, took) = check_server(Server::new(answers), next, "( +a )", &requests).await;
    assert!((2..6).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed() {
    let answers = vec![Status(429, "busy"), LIST_A];
    let (status, took) = check(answers, "( +a )", &["list", "list", "resume"]).await;
    assert!((7000..7101).contains(&took.as_millis()), "{took:?}");
    assert_eq!(status.reports()[0].failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_resumes() {
    let answers = vec![LIST_A, Ends(&[]), Refuse, Refuse, Status(500, "oops"), Open(&[NS_B])];
    let (status, took) = check(answers, "( +a ) b", &["list", "resume"]).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(status.reports()[0].error, None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_resource_version_lists_again() {
    // As an event, and as an HTTP status, after which kube 5.0.0 alone would never list again.
    for gone in [Open(&[GONE]), Status(410, "gone")] {
        let requests = ["list", "resume", "list-since", "resume"];
        check(vec![LIST_A, gone, LIST_B], "( +a ) ( +b )", &requests).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_list_finds_what_was_lost() {
    let answers = vec![LIST_A, Open(&[]), Listed(B_ONLY)];
    let requests = ["list", "resume", "compare", "list-since", "resume"];
    let (status, took) = check(answers, "( +a ) ( +b )", &requests).await;
    assert!(took >= recovery::COMPARE_MIN && took <= recovery::COMPARE_MAX, "{took:?}");
    assert_eq!(status.reports()[0].repaired, 0, "without a comparison nobody knows");
}

/// The watch withholds an event. Its bookmarks say that there was none.
#[tokio::test(start_paused = true)]
async fn a_comparison_finds_what_was_lost() {
    const A: &str = r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#;
    const B: &str = r#"{"metadata":{"name":"b","resourceVersion":"2"}}"#;
    let both: &str =
        format!(r#"{{"metadata":{{"resourceVersion":"2"}},"items":[{A},{B}]}}"#).leak();
    for (metadata, listed, expected, repaired) in
        [(both, NS_LIST, "( +a ) ( +a +b )", 1), (NO_OBJECTS, NO_OBJECTS, "( +a ) ( )", 1)]
    {
        let answers = vec![LIST_A, Listed(listed)];
        let server = Server { metadata: Some(metadata), ..Server::new(answers) };
        let requests = ["list", "resume", "compare", "page", "resume"];
        let (status, took) = check_server(server, ApiServer::default(), expected, &requests).await;
        assert!(took >= recovery::COMPARE_MIN && took <= recovery::COMPARE_MAX, "{took:?}");
        let report = &status.reports()[0];
        assert_eq!((report.repaired, report.lists, report.failures), (repaired, 2, 0));
        assert_eq!(report.error, None);
    }
}

/// What the server has is what was received, and the watch is never interrupted.
#[tokio::test(start_paused = true)]
async fn comparisons_without_a_difference() {
    const SAME: &str = r#"{"metadata":{"resourceVersion":"2"},
        "items":[{"metadata":{"name":"a","resourceVersion":"1"}}]}"#;
    let mut answers = vec![LIST_A];
    answers.extend((0..300).map(|_| Open(&[])));
    answers.push(Open(&[NS_B]));
    let server = Server { metadata: Some(SAME), ..Server::new(answers) };
    let requests = ["list", "resume", "compare", "resume"];
    let (status, took) = check_server(server, ApiServer::default(), "( +a ) b", &requests).await;
    assert!(took > 4 * recovery::COMPARE_MIN, "{took:?}");
    let report = &status.reports()[0];
    assert_eq!((report.repaired, report.lists, report.failures), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_cause_no_busy_loop() {
    let mut answers = vec![LIST_A];
    answers.extend((0..41).map(|_| Ends(&[])));
    answers.push(Open(&[NS_B]));
    let (_, took) = check(answers, "( +a ) b", &["list", "resume"]).await;
    assert!(took >= Duration::from_secs(9), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_kind_does_not_hold_up_the_others() {
    let forbidden =
        r#"{"kind":"Status","code":403,"reason":"Forbidden","message":"services is forbidden"}"#;
    let answers = vec![Status(403, forbidden), Status(403, forbidden), LIST_A];
    let (status, _) = check(answers, "( +a )", &["list", "list", "list", "resume"]).await;
    let reports = status.reports();
    assert_eq!((reports[0].failures, reports[1].failures), (2, 0));
    assert!(status.is_synced() && reports[1].is_synced);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_resumed_within_half_a_minute() {
    let answers = vec![LIST_A, Open(&[]), Open(&[NS_B])];
    let (status, took) = check(answers, "( +a ) b", &["list", "resume"]).await;
    assert_eq!(took.as_secs(), 24);
    assert_eq!(status.reports()[0].error, None);
}

mod odd_servers;
