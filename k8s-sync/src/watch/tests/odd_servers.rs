//! Servers that deviate from a correct API server, and the special cases of client-go's reflector,
//! row by row.

use super::*;

const LIST_ONLY: &str = r#"{"kind":"Status","code":403,"message":"cannot watch namespaces"}"#;
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
    let answers = [answers, vec![Stalls(HALF_A_LIST)]].into_iter().flatten().collect();
    let mut requests = requests.to_vec();
    requests.push("list");
    let (status, _) = check(answers, "( +a", &requests).await;
    let error = status.reports()[0].error.clone().expect(name);
    assert!(error.contains(expected_error), "{name}: {error:?}");
}

#[tokio::test(start_paused = true)]
async fn lists() {
    let answers =
        vec![Status(504, TOO_LARGE), Status(200, PAGE), Status(410, EXPIRED), Status(200, NS_LIST)];
    let requests = ["list", "page", "page", "whole", "resume"];
    row("the continue token has expired", answers, "( +a ( +a +b )", &requests, "").await;

    let answers = vec![Status(404, "no"), Status(404, "no"), Status(400, "no"), LIST_A];
    let requests = ["list", "page", "whole", "list", "resume"];
    row("no list works at first", answers, "( +a )", &requests, "").await;

    let answers = vec![
        Status(200, UNVERSIONED),
        Ends(&[NS_A, NS_B]),
        Status(200, UNVERSIONED),
        Open(&[NS_B]),
    ];
    let requests = ["list", "resume", "list", "resume"];
    row("no resource version", answers, "( +a ) a b ( +a ) b", &requests, "").await;

    let answers = vec![Status(200, NULL_ITEMS), Open(&[NS_A])];
    row("no items", answers, "( ) a", &["list", "resume"], "").await;

    let page = Foreign(200, HTML, "<html>log in</html>");
    let answers = vec![page, Status(200, NS_LIST)];
    row("a login page", answers, "( +a +b )", &["list", "page", "resume"], "").await;

    let requests = ["list", "page", "whole", "list", "page", "whole"];
    unlisted("a login page for all", vec![page; 6], &requests, "text/html").await;

    let moved = Foreign(301, ("location", "https://other.example:6443/"), "");
    let requests = &requests[..3];
    unlisted("a redirect", vec![moved; 3], requests, "https://other.example:6443/").await;

    let gzip = Foreign(200, ("content-encoding", "gzip"), "\x1f");
    unlisted("compressed", vec![gzip; 3], requests, "gzip").await;

    let name = "200 and a status that says 500";
    unlisted(name, vec![Status(200, BARE_STATUS); 3], requests, "items").await;
}

#[tokio::test(start_paused = true)]
async fn watches() {
    let answers = vec![LIST_A, Open(&[OOPS]), Open(&[NS_B])];
    row("an error in the stream", answers, "( +a ) b", &["list", "resume"], "").await;

    let answers = vec![LIST_A, Open(&[BARE_STATUS]), Open(&[NS_B])];
    row("a bare status in the stream", answers, "( +a ) b", &["list", "resume"], "").await;

    let answers = vec![LIST_A, Open(&[BUSY]), Open(&[NS_B])];
    let took = row("too busy, in the stream", answers, "( +a ) b", &["list", "resume"], "").await;
    assert_eq!(took.as_secs(), 3);

    // A gateway whose API server is down: the watch needs no list when it is back.
    let mut answers = vec![LIST_A, Ends(&[])];
    answers.extend((0..20).map(|_| Foreign(502, HTML, "<html>bad gateway")));
    answers.push(Open(&[NS_B]));
    row("a gateway without a server", answers, "( +a ) b", &["list", "resume"], "").await;

    let too_large = Status(504, TOO_LARGE);
    let answers = vec![LIST_A, Ends(&[]), too_large, too_large, too_large, LIST_B];
    let requests = ["list", "resume", "page", "resume"];
    row("a version older than ours, which it reports", answers, "( +a ) ( +b )", &requests, "")
        .await;

    let oops = Status(500, "oops");
    let answers = vec![LIST_A, Ends(&[]), oops, oops, oops, too_large, LIST_B];
    let requests = ["list", "resume", "list-since", "page", "resume"];
    row("one of several servers lags behind", answers, "( +a ) ( +b )", &requests, "").await;

    let answers = vec![LIST_A, Open(&[NS_B, NS_B, NS_B, NS_A_GONE])];
    row("duplicates", answers, "( +a ) b b b -a", &["list", "resume"], "").await;

    let answers = vec![LIST_A, Open(&[OLD_B, NS_A_GONE])];
    row("objects whose versions do not increase", answers, "( +a ) b -a", &["list", "resume"], "")
        .await;

    let answers = vec![LIST_A, Open(&[BACK]), LIST_B];
    let requests = ["list", "resume", "page", "resume"];
    row("a bookmark that goes back", answers, "( +a ) ( +b )", &requests, "").await;

    let answers = vec![LIST_A, Open(&[HEARTBEAT, NS_B])];
    let expected_error = "cannot read an event of the watch";
    row("an event of unknown type", answers, "( +a ) b", &["list", "resume"], expected_error).await;

    let answers = vec![LIST_A, Open(&[HEARTBEAT]), Listed(B_ONLY)];
    let requests = ["list", "resume", "list-since", "resume"];
    let took =
        row("a list follows an unknown event", answers, "( +a ) ( +b )", &requests, "").await;
    assert_eq!(took.as_secs(), 60);

    let answers = vec![LIST_A, Ends(&[]), Foreign(200, HTML, "<html>"), Open(&[NS_B])];
    row("a login page", answers, "( +a ) b", &["list", "resume"], "").await;
}

#[tokio::test(start_paused = true)]
async fn lists_without_watches() {
    let forbidden = Status(403, LIST_ONLY);
    let mut answers = vec![Status(200, NS_LIST), forbidden, forbidden];
    let (mut requests, mut expected) = (vec!["list", "resume"], "( +a +b )".to_owned());
    for _ in 0..11 {
        answers.extend([forbidden, Status(200, NS_LIST)]);
        requests.extend(["list-since", "resume"]);
        expected.push_str(" ( +a +b )");
    }
    answers.push(forbidden);
    let name = "no rule for watches";
    let took = row(name, answers, &expected, &requests, "cannot watch namespaces").await;
    assert!((50..120).contains(&took.as_secs()), "{took:?}: at most 30 s apart");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_buffers_streams() {
    // Each watch is silent. Probes find the server at 9, and are sent after two silences.
    let answers = vec![LIST_A, Open(&[]), Open(&[]), Open(&[]), LIST_B];
    let requests = ["list", "resume", "list-since", "resume"];
    let (status, took) = check_at("9", answers.clone(), "( +a ) ( +b )", &requests).await;
    assert_eq!(took.as_secs(), 48);
    assert!(status.reports()[0].error.as_deref().is_some_and(|error| error.contains(SILENT)));
    assert_eq!(status.reports()[0].failures, 1);
    // If it goes on like this, it is one failure.
    let answers = [answers, vec![Open(&[]), Open(&[]), Open(&[]), LIST_B]].concat();
    let twice = [&requests[..], &requests[2..]].concat();
    let (status, _) = check_at("9", answers, "( +a ) ( +b ) ( +b )", &twice).await;
    assert_eq!(status.reports()[0].failures, 1);
    // It lets no watch through at all.
    let answers = vec![LIST_A, Ends(&[]), OnlyListed(NS_LIST)];
    let (_, took) = check(answers, "( +a ) ( +a +b )", &requests).await;
    assert!((60..65).contains(&took.as_secs()), "{took:?}");
    // Nor did it from the beginning.
    let answers = vec![LIST_A, OnlyListed(NS_LIST)];
    let (status, took) = check(answers, "( +a ) ( +a +b )", &requests).await;
    assert!((60..65).contains(&took.as_secs()), "{took:?}");
    assert_eq!(status.reports()[0].error, None, "a watch is there in the end");
    let answers = vec![LIST_A, HeldBack, HeldBack, HeldBack, HeldBack, Status(200, NS_LIST)];
    let (_, took) = check(answers, "( +a ) ( +a +b )", &requests).await;
    assert!((60..65).contains(&took.as_secs()), "{took:?}: 15 s for each");
}

#[tokio::test(start_paused = true)]
async fn etcd_restored_from_a_backup() {
    // The watch breaks and resumes at a version that is yet to come: the server is at 1.
    let answers = vec![LIST_A, Ends(&[]), Refuse, Open(&[]), LIST_B];
    let requests = ["list", "resume", "page", "resume"];
    let (status, took) = check_at("1", answers, "( +a ) ( +b )", &requests).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(status.reports()[0].error, None);
    let answers = vec![LIST_A, Ends(&[]), Refuse, Open(&[NS_B])];
    // etcd is unavailable, so the version of the server is unknown.
    let (status, _) = check_at("HTTP 500", answers.clone(), "( +a ) b", &requests[..2]).await;
    assert!(status.reports()[0].error.is_some());
    // The server rejects probes, so the watch is trusted.
    let (status, _) = check_at("HTTP 403", answers, "( +a ) b", &requests[..2]).await;
    assert_eq!(status.reports()[0].error, None);
    // The same without a broken watch.
    let answers = vec![LIST_A, Open(&[]), Open(&[]), LIST_B];
    let (_, took) = check_at("1", answers, "( +a ) ( +b )", &requests).await;
    assert_eq!(took.as_secs(), 24);
}
