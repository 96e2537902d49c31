//! Answers before and after their end: failures, `prefetch`, `serve_stale`, `prefer_positive`.

use crate::script::play;

#[test]
fn failures_are_remembered_briefly() {
    for failure in ["servfail", "notimp"] {
        let code = if failure == "notimp" { "NOTIMP" } else { "SERVFAIL" };
        let script = format!("0 {failure}: kept {code}\n 4.9 ask: {code}\n 5 ask: miss");
        play("cache", &script);
        play("cache {\n serve_stale\n }", &script);
        play("cache {\n servfail 0\n }", &format!("0 {failure}: passed {code}\n 0 ask: miss"));
        play("cache {\n servfail 1s\n }", &format!("0 {failure}: kept {code}\n 1 ask: miss"));
    }
    play("cache", "0 failed: -\n 0 fallback: SERVFAIL\n 4.9 ask: SERVFAIL\n 5 ask: miss");
    play("cache {\n servfail 0\n }", "0 failed: -\n 0 fallback: none\n 0 ask: miss");
    // A failure does not replace an answer, and is not kept longer than it lasts.
    play(
        "cache",
        "0 success 60: kept NOERROR 60
        9 servfail: inferior
        9 failed: -
        10 ask: NOERROR 50
        61 failed: -
        62 ask: SERVFAIL
        62 success 60: kept NOERROR 60
        63 ask: NOERROR 59",
    );
}

#[test]
fn popular_answers_are_fetched_before_they_expire() {
    let cache = "cache {\n prefetch 3 10s 20%\n }";
    let played = play(
        cache,
        "0 success 100: kept NOERROR 100
        1 ask: NOERROR 99
        2 ask: NOERROR 98
        3 ask: NOERROR 97
        80.0 ask: NOERROR 20
        80.1 ask: NOERROR 20
        80.2 ask: NOERROR 20 refresh
        80.3 ask: NOERROR 20
        81.3 ask: NOERROR 19 refresh
        82 success 100: kept NOERROR 100
        82 ask: NOERROR 100
        90 ask: NOERROR 92
        162.0 ask: NOERROR 20
        162.1 ask: NOERROR 20
        162.2 ask: NOERROR 20 refresh",
    );
    assert_eq!(played.counters().prefetches, 3);
    // As in CoreDNS, hits before the refresh count for the refreshed entry.
    play(
        "cache {\n prefetch 3 10s 90%\n }",
        "0 success 100: kept NOERROR 100
        8 ask: NOERROR 92
        9 ask: NOERROR 91
        10 ask: NOERROR 90 refresh
        10 success 100: kept NOERROR 100
        11 ask: NOERROR 99
        20 ask: NOERROR 90 refresh",
    );
    // A failure is not refreshed before it ends, nor is an entry that has just failed to refresh.
    play("cache {\n prefetch 1 1m 90%\n }", "0 servfail: kept SERVFAIL\n 4 ask: SERVFAIL");
    play(
        "cache {\n prefetch 1 1m 90%\n }",
        "0 success 100: kept NOERROR 100
        10 ask: NOERROR 90 refresh
        11 failed: -
        15 ask: NOERROR 85
        16 ask: NOERROR 84 refresh",
    );
}

#[test]
fn stale_answers_at_once() {
    let played = play(
        "cache {\n serve_stale 1h\n }",
        "0 success 60: kept NOERROR 60
        60 ask: NOERROR 0 refresh
        60.5 ask: NOERROR 0
        61 ask: NOERROR 0 refresh
        61.5 servfail: inferior
        62 ask: NOERROR 0
        66.5 ask: NOERROR 0 refresh
        67 failed: -
        71 ask: NOERROR 0
        3659 ask: NOERROR 0 refresh
        3660 ask: miss",
    );
    let counters = played.counters();
    assert_eq!((counters.requests, counters.hits, counters.misses), (8, [7, 0], 1));
    assert_eq!((counters.served_stale, counters.prefetches), (7, 4));
    play(
        "cache {\n serve_stale 1h immediate 30s 10s\n }",
        "0 success 60: kept NOERROR 60
        60 ask: NOERROR 30 refresh
        60 failed: -
        69 ask: NOERROR 30
        70 ask: NOERROR 30 refresh",
    );
}

#[test]
fn keepttl_keeps_the_ttls_of_stale_answers_too() {
    for (stale, shown) in [
        ("serve_stale", "NOERROR 60 refresh"),
        ("serve_stale 1h immediate 0s", "NOERROR 60 refresh"),
        ("serve_stale 1h immediate 30s", "NOERROR 30 refresh"),
        ("serve_stale 1h verify", "verify"),
        ("serve_stale 1h verify 0s 30s", "verify"),
    ] {
        let cache = format!("cache {{\n keepttl\n {stale}\n }}");
        let script =
            format!("0 success 60: kept NOERROR 60\n 59 ask: NOERROR 60\n 70 ask: {shown}");
        play(&cache, &script);
        let ttl = if stale.ends_with("30s") { 30 } else { 60 };
        play(&cache, &format!("{script}\n 70 failed: -\n 70 fallback: NOERROR {ttl}"));
    }
    // The bounds of the cache are those of a fresh one.
    let cache = "cache 30 {\n keepttl\n serve_stale\n }";
    play(cache, "0 success 60: kept NOERROR 30\n 31 ask: NOERROR 30 refresh");
}

#[test]
fn stale_answers_when_the_upstream_fails() {
    let played = play(
        "cache {\n serve_stale 1h verify\n }",
        "0 success 60: kept NOERROR 60
        60 ask: verify
        60.5 fallback: NOERROR 0
        61 failed: -
        61 fallback: NOERROR 0
        61 ask: NOERROR 0
        66 ask: verify
        66 refused: inferior
        66 fallback: NOERROR 0
        71 ask: verify
        71 success 60: kept NOERROR 60
        72 ask: NOERROR 59
        3731 fallback: none",
    );
    assert_eq!(played.counters().served_stale, 4);
    play(
        "cache {\n serve_stale 1h verify 100ms 30s 10s\n }",
        "0 nxdomain 60 60: kept NXDOMAIN 60
        60 ask: verify 100ms
        60.1 fallback: NXDOMAIN 30
        62 failed: -
        71 ask: NXDOMAIN 30
        72 ask: verify 100ms",
    );
    // A RECHECK of zero asks the upstream each time.
    play(
        "cache {\n serve_stale 1h verify 0s 30s 0s\n }",
        "0 success 60: kept NOERROR 60
        60 ask: verify
        60 servfail: inferior
        60 ask: verify
        60 failed: -
        60 fallback: NOERROR 30
        60 ask: verify",
    );
}

/// CoreDNS once served a stale NXDOMAIN as long as clients asked, although the name existed by then
/// (coredns/coredns#3586).
#[test]
fn a_newer_answer_ends_a_stale_one() {
    for mode in ["", "1h immediate", "1h verify"] {
        let cache = format!("cache {{\n serve_stale {mode}\n }}");
        for (old, new) in [
            ("nxdomain 60 60: kept NXDOMAIN 60", "success 60: kept NOERROR 60"),
            ("success 60: kept NOERROR 60", "nxdomain 60 60: kept NXDOMAIN 60"),
            ("nodata 60 60: kept NOERROR 60", "nxdomain 60 60: kept NXDOMAIN 60"),
        ] {
            let (_, given) = new.split_once("kept ").expect("is kept");
            play(&cache, &format!("0 {old}\n 70 {new}\n 70 ask: {given}\n 70 fallback: {given}"));
        }
        // A denial that must not be cached ends it too.
        play(&cache, "0 success 60: kept NOERROR 60\n 70 nxdomain: passed NXDOMAIN\n 70 ask: miss");
        // But a truncated response says nothing new.
        play(
            &cache,
            "0 success 60: kept NOERROR 60\n 70 cut 60: passed NOERROR 60\n 70 fallback: NOERROR 0",
        );
    }
}

#[test]
fn prefer_positive_keeps_data() {
    let cache = "cache {\n serve_stale 1h verify\n serve_stale_policy prefer_positive\n }";
    play(
        cache,
        "0 success 60: kept NOERROR 60
        70 ask: verify
        70 nxdomain 60 20: inferior
        70 fallback: NOERROR 0
        89 ask: NOERROR 0
        90 ask: verify
        90 nodata 60 60: inferior
        3660 ask: miss
        3660 nxdomain 60 60: kept NXDOMAIN 60
        3661 success 60: kept NOERROR 60
        3662 ask: NOERROR 59",
    );
}
