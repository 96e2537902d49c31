//! Servers that deviate from a correct API server, and the special cases of client-go's reflector,
//! row by row.

use super::*;

const LIST_ONLY: &str = r#"{"kind":"Status","code":403,"message":"cannot watch namespaces"}"#;
const TOO_LARGE_EVENT: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","code":504,"reason":"Timeout","#,
    r#""message":"Timeout: Too large resource version: 2, current: 1"}}"#,
);
const EXPIRED: &str =
    r#"{"kind":"Status","code":410,"reason":"Expired","message":"continue parameter is too old"}"#;
const TOO_LARGE: &str = r#"{"kind":"Status","code":504,"reason":"Timeout",
    "message":"Too large resource version: 2, current: 1"}"#;
const PAGE: &str =
    r#"{"metadata":{"resourceVersion":"2","continue":"x"},"items":[{"metadata":{"name":"a"}}]}"#;
const UNVERSIONED: &str = r#"{"kind":"NamespaceList","apiVersion":"v1",
    "metadata":{},"items":[{"metadata":{"name":"a"}}]}"#;
const NULL_ITEMS: &str = r#"{"metadata":{"resourceVersion":"2"},"items":null}"#;
const OOPS: &str = r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"oops"}}"#;
const BUSY: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","code":429,"message":"busy","#,
    r#""details":{"retryAfterSeconds":3}}}"#,
);
const HEARTBEAT: &str = r#"{"type":"HEARTBEAT","object":{}}"#;
const BARE_STATUS: &str = r#"{"kind":"Status","status":"Failure","code":500,"message":"oops"}"#;
const BACK: &str = concat!(
    r#"{"type":"BOOKMARK","object":{"kind":"x","apiVersion":"v1","#,
    r#""metadata":{"resourceVersion":"1"}}}"#,
);
const OLD_B: &str =
    r#"{"type":"MODIFIED","object":{"metadata":{"name":"b","resourceVersion":"1"}}}"#;
const HTML: (&str, &str) = ("content-type", "text/html");

/// A server, the resulting events and requests, and the error at the end (empty if there is none).
async fn row(
    name: &str,
    answers: Vec<Answer>,
    expected: &str,
    requests: &[&str],
    expected_error: &str,
) -> Duration {
    println!("{name}");
    let (status, took) = check(answers, expected, requests).await;
    let error = status.reports()[0].error.clone().unwrap_or_default();
    assert!(
        error.contains(expected_error) && error.is_empty() == expected_error.is_empty(),
        "{name}: {error:?}"
    );
    took
}

/// A server that returns no list until its responses run out.
async fn unlisted(name: &str, answers: Vec<Answer>, requests: &[&str], expected_error: &str) {
    println!("{name}");
    let answers = [answers, vec![Open(&[NS_A])]].into_iter().flatten().collect();
    let mut requests = requests.to_vec();
    requests.push("stream");
    let (status, _) = check(answers, "( +a", &requests).await;
    let error = status.reports()[0].error.clone().expect(name);
    assert!(error.contains(expected_error), "{name}: {error:?}");
}

#[tokio::test(start_paused = true)]
async fn lists() {
    let refused = || Status(422, "no streaming lists");
    let answers = vec![
        refused(),
        Status(504, TOO_LARGE),
        Status(200, PAGE),
        Status(410, EXPIRED),
        Status(200, NS_LIST),
    ];
    let requests = ["stream", "list", "page", "page", "whole", "resume"];
    row("the continue token has expired", answers, "( +a ( +a +b )", &requests, "").await;

    let answers = vec![
        refused(),
        Status(404, "no"),
        Status(404, "no"),
        Status(400, "no"),
        Open(&[NS_A, END]),
    ];
    let requests = ["stream", "list", "page", "whole", "stream"];
    row("no list works, then a stream", answers, "( +a )", &requests, "").await;

    let answers = vec![
        refused(),
        Status(200, UNVERSIONED),
        Ends(&[NS_A, NS_B]),
        Status(200, UNVERSIONED),
        Open(&[NS_B]),
    ];
    let requests = ["stream", "list", "resume", "list", "resume"];
    row("no resource version", answers, "( +a ) a b ( +a ) b", &requests, "").await;

    let answers = vec![refused(), Status(200, NULL_ITEMS), Open(&[NS_A])];
    row("no items", answers, "( ) a", &["stream", "list", "resume"], "").await;

    let answers = vec![Foreign(200, HTML, "<html>log in</html>"), Status(200, NS_LIST)];
    row("a login page", answers, "( +a +b )", &["stream", "list", "resume"], "").await;

    let page = || Foreign(200, HTML, "<html>log in</html>");
    let answers = (0..8).map(|_| page()).collect();
    let requests = ["stream", "list", "page", "whole", "stream", "list", "page", "whole"];
    unlisted("a login page for all", answers, &requests, "text/html").await;

    let moved = || Foreign(301, ("location", "https://other.example:6443/"), "");
    let answers = vec![moved(), moved(), moved(), moved()];
    unlisted("a redirect", answers, &requests[..4], "https://other.example:6443/").await;

    let gzip = || Foreign(200, ("content-encoding", "gzip"), "\x1f");
    let answers = vec![gzip(), gzip(), gzip(), gzip()];
    unlisted("compressed", answers, &requests[..4], "gzip").await;

    let status = || Status(200, BARE_STATUS);
    let answers = vec![status(), status(), status(), status(), Open(&[NS_A])];
    let name = "200 and a status that says 500";
    row(name, answers, "( ( +a", &["stream", "list", "page", "whole", "stream"], "items").await;
}

#[tokio::test(start_paused = true)]
async fn watches() {
    let answers = vec![Open(&[NS_A, END, OOPS]), Open(&[NS_B])];
    row("an error in the stream", answers, "( +a ) b", &["stream", "resume"], "").await;

    let answers = vec![Open(&[NS_A, END, BARE_STATUS]), Open(&[NS_B])];
    row("a bare status in the stream", answers, "( +a ) b", &["stream", "resume"], "").await;

    let answers = vec![Open(&[NS_A, END, BUSY]), Open(&[NS_B])];
    let took = row("too busy, in the stream", answers, "( +a ) b", &["stream", "resume"], "").await;
    assert_eq!(took.as_secs(), 3);

    // A gateway whose API server is down: the watch needs no list when it is back.
    let mut answers = vec![Ends(&[NS_A, END])];
    answers.extend((0..20).map(|_| Foreign(502, HTML, "<html>bad gateway")));
    answers.push(Open(&[NS_B]));
    row("a gateway without a server", answers, "( +a ) b", &["stream", "resume"], "").await;

    let too_large = || Status(504, TOO_LARGE);
    let answers =
        vec![Ends(&[NS_A, END]), too_large(), too_large(), too_large(), Open(&[NS_B, END])];
    let requests = ["stream", "resume", "stream-now"];
    row("a version older than ours, which it reports", answers, "( +a ) ( +b )", &requests, "")
        .await;

    let oops = || Status(500, "oops");
    for too_large in [Status(504, TOO_LARGE), Open(&[TOO_LARGE_EVENT])] {
        let answers =
            vec![Ends(&[NS_A, END]), oops(), oops(), oops(), too_large, Open(&[NS_B, END])];
        let requests = ["stream", "resume", "stream-since", "stream-now"];
        let events = match answers[4] {
            Open(_) => "( +a ) ( ( +b )",
            _ => "( +a ) ( +b )",
        };
        row("one of several servers lags behind", answers, events, &requests, "").await;
    }

    let answers = vec![Open(&[NS_A, END, NS_B, NS_B, NS_B, NS_A_GONE])];
    row("duplicates", answers, "( +a ) b b b -a", &["stream"], "").await;

    let answers = vec![Open(&[NS_A, END, OLD_B, NS_A_GONE])];
    row("objects whose versions do not increase", answers, "( +a ) b -a", &["stream"], "").await;

    let answers = vec![Open(&[NS_A, END, BACK]), Open(&[NS_B, END])];
    row("a bookmark that goes back", answers, "( +a ) ( +b )", &["stream", "stream-now"], "").await;

    let answers = vec![Open(&[NS_A, END, HEARTBEAT, NS_B])];
    let expected_error = "cannot read an event of the watch";
    row("an event of unknown type", answers, "( +a ) b", &["stream"], expected_error).await;

    let answers = vec![Open(&[NS_A, END, HEARTBEAT]), Listed(&[NS_B, END])];
    let requests = ["stream", "resume", "stream-since"];
    let took =
        row("a list follows an unknown event", answers, "( +a ) ( +b )", &requests, "").await;
    assert_eq!(took.as_secs(), 60);

    let answers = vec![Open(&[NS_A, HEARTBEAT]), Status(200, NS_LIST)];
    let requests = ["stream", "list", "resume"];
    row("an unknown event in a list", answers, "( +a ( +a +b )", &requests, "").await;

    let answers = vec![Ends(&[NS_A, END]), Foreign(200, HTML, "<html>"), Open(&[NS_B])];
    row("a login page", answers, "( +a ) b", &["stream", "resume"], "").await;
}

#[tokio::test(start_paused = true)]
async fn lists_without_watches() {
    let forbidden = || Status(403, LIST_ONLY);
    let mut answers = vec![forbidden(), Status(200, NS_LIST)];
    let (mut requests, mut expected) = (vec!["stream", "list", "resume"], "( +a +b )".to_owned());
    answers.extend([forbidden(), forbidden(), forbidden(), Status(200, NS_LIST)]);
    for _ in 0..10 {
        answers.extend([forbidden(), Status(200, NS_LIST)]);
        requests.extend(["list", "resume"]);
        expected.push_str(" ( +a +b )");
    }
    answers.push(forbidden());
    requests.extend(["list", "resume"]);
    expected.push_str(" ( +a +b )");
    let name = "no rule for watches";
    let took = row(name, answers, &expected, &requests, "cannot watch namespaces").await;
    assert!((50..120).contains(&took.as_secs()), "{took:?}: at most 30 s apart");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_buffers_streams() {
    // Each watch is silent. Probes find the server at 9, and are sent after two silences.
    let answers = vec![Open(&[NS_A, END]), Open(&[]), Open(&[]), Open(&[NS_B, END])];
    let requests = ["stream", "resume", "stream-since"];
    let (status, took) = check_at("9", answers, "( +a ) ( +b )", &requests).await;
    assert_eq!(took.as_secs(), 48);
    assert!(status.reports()[0].error.as_deref().is_some_and(|error| error.contains(SILENT)));
    assert_eq!(status.reports()[0].failures, 1);
    // If it goes on like this, it is one failure.
    let answers = vec![
        Open(&[NS_A, END]),
        Open(&[]),
        Open(&[]),
        Open(&[NS_B, END]),
        Open(&[]),
        Open(&[]),
        Open(&[NS_B, END]),
    ];
    let twice = ["stream", "resume", "stream-since", "resume", "stream-since"];
    let (status, _) = check_at("9", answers, "( +a ) ( +b ) ( +b )", &twice).await;
    assert_eq!(status.reports()[0].failures, 1);
    // It lets no watch through at all.
    let answers = vec![Ends(&[NS_A, END]), OnlyListed(NS_LIST)];
    let requests = ["stream", "resume", "list", "resume"];
    let (_, took) = check(answers, "( +a ) ( +a +b )", &requests).await;
    assert!((60..65).contains(&took.as_secs()), "{took:?}");
    // Nor did it from the beginning.
    let requests = ["stream", "stream", "list", "resume", "list", "resume"];
    let expected = "( +a +b ) ( +a +b )";
    let answers = vec![Refuse, Refuse, Status(200, NS_LIST), OnlyListed(NS_LIST)];
    let (status, took) = check(answers, expected, &requests).await;
    assert!((60..65).contains(&took.as_secs()), "{took:?}");
    assert_eq!(status.reports()[0].error, None, "a watch is there in the end");
    let mut answers = vec![HeldBack, HeldBack, Status(200, NS_LIST)];
    answers.extend([HeldBack, HeldBack, HeldBack, HeldBack, Status(200, NS_LIST)]);
    let (_, took) = check(answers, expected, &requests).await;
    assert!((90..95).contains(&took.as_secs()), "{took:?}: 15 s for each");
}

#[tokio::test(start_paused = true)]
async fn etcd_restored_from_a_backup() {
    // The watch breaks and resumes at a version that is yet to come: the server is at 1.
    let answers = vec![Ends(&[NS_A, END]), Refuse, Open(&[]), Open(&[NS_B, END])];
    let requests = ["stream", "resume", "stream-now"];
    let (status, took) = check_at("1", answers, "( +a ) ( +b )", &requests).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(status.reports()[0].error, None);
    // etcd is unavailable, so the version of the server is unknown.
    let answers = vec![Ends(&[NS_A, END]), Refuse, Open(&[NS_B])];
    let (status, _) = check_at("HTTP 500", answers, "( +a ) b", &requests[..2]).await;
    assert!(status.reports()[0].error.is_some());
    // The server rejects probes, so the watch is trusted.
    let answers = vec![Ends(&[NS_A, END]), Refuse, Open(&[NS_B])];
    let (status, _) = check_at("HTTP 403", answers, "( +a ) b", &requests[..2]).await;
    assert_eq!(status.reports()[0].error, None);
    // The same without a broken watch.
    let answers = vec![Open(&[NS_A, END]), Open(&[]), Open(&[NS_B, END])];
    let (_, took) = check_at("1", answers, "( +a ) ( +b )", &requests).await;
    assert_eq!(took.as_secs(), 24);
}
