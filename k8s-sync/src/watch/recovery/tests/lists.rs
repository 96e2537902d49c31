//! Lists: which one follows a failure, and when.

use super::*;

#[test]
fn refused_lists_lead_to_one_without_a_limit() {
    check(
        "the continue token has expired",
        &[
            (0, Failed(Refused), Paged(0)),
            (50, Failed(Expired), Whole(0)),
            (50, LISTED, Continues),
            (1, WatchBegins, Continues),
            (9_000, Failed(Expired), Cached(0)),
        ],
    );
    check(
        "all three in turn, with a growing pause",
        &[
            (0, Failed(Refused), Paged(0)),
            (0, Failed(Refused), Whole(200)),
            (0, Failed(Refused), Cached(400)),
            (0, Failed(Expired), Paged(0)),
            (0, Failed(Expired), Whole(0)),
            (0, Failed(Expired), Cached(1000)),
        ],
    );
}

#[test]
fn no_fallback_if_another_list_would_fail_too() {
    check(
        "down at start-up",
        &[
            (0, Failed(Unreachable), Cached(100)),
            (0, Failed(Unreachable), Paged(200)),
            (0, Failed(Unreachable), Cached(400)),
            (0, Failed(Unreachable), Paged(800)),
            (0, Failed(Unreachable), Cached(1000)),
        ],
    );
    check(
        "a proxy cuts long responses",
        &[
            (5_000, Failed(Unreachable), Cached(100)),
            (5_000, Failed(Unreachable), Paged(200)),
            (50, LISTED, Continues),
            (1, WatchBegins, Continues),
        ],
    );
    check(
        "forbidden: none without a limit",
        &[(0, Failed(Forbidden), Cached(100)), (0, Failed(Forbidden), Cached(200))],
    );
    let asked = Throttled(Duration::from_secs(7));
    check(
        "our pause is added to Retry-After",
        &[(0, Failed(asked), Cached(7100)), (0, Failed(asked), Cached(7200))],
    );
    check(
        "Retry-After is capped",
        &[(0, Failed(Throttled(Duration::from_secs(86_400))), Cached(300_100))],
    );
}

#[test]
fn lists_while_watches_get_no_response() {
    let mut rows = vec![(9_000, Failed(Unreachable), Resumes(100))];
    rows.push((30_000, Failed(Unreachable), Renewed(200)));
    rows.push((30_000, Failed(Unreachable), Renewed(400)));
    let run = check_live("a list after a minute", &rows);
    assert!(run.recovery.is_listing());
    let listed = [(50, LISTED, Continues), (15_000, Failed(Unreachable), Resumes(800))];
    run.check("the list succeeds", &listed);
    let run = check(
        "from the start: streams are held back or refused",
        &[
            (50, LISTED, Continues),
            (15_000, Failed(Unreachable), Resumes(100)),
            (15_000, Failed(Unreachable), Renewed(200)),
            (15_000, Failed(Unreachable), Resumes(400)),
        ],
    );
    assert!(!run.recovery.is_listing() && !run.recovery.is_current());
    let run = run.check("a minute", &[(15_000, Failed(Unreachable), Renewed(800))]);
    assert!(run.recovery.is_listing());
    let run =
        run.check("lists get through", &[(50, LISTED, Continues), (5, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
    let run =
        check_live("", &rows).check("the list fails", &[(0, Failed(Unreachable), Resumes(800))]);
    assert!(!run.recovery.is_listing(), "the watch needs no list when the server is back");
    let run = run.check("so there is no list", &[(1, WatchBegins, Continues)]);
    assert!(run.recovery.compare_at - run.now > COMPARE_MIN);
    let next = [(1_800_000, DeadlinePassed, Compares), (5, NOT_COMPARED, Cached(0))];
    let run = check_live("a list was due anyway", &next);
    let run = run.check("", &[(0, Failed(Unreachable), Resumes(100))]);
    run.check("so it is still due", &[(1, WatchBegins, Continues), (0, DeadlinePassed, Probes)])
        .check(
            "",
            &[(1, Probed(ProbeResult::Equal), Continues), (59_900, DeadlinePassed, Compares)],
        );
}

#[test]
fn a_list_from_a_server_that_lags_behind() {
    let refused = [
        (9_000, Failed(Refused), Resumes(100)),
        (0, Failed(Refused), Resumes(200)),
        (0, Failed(Refused), Cached(0)),
    ];
    let run = check_live("no older than what is known", &refused);
    assert!(!run.recovery.is_newest_needed);
    let run = run.check("so as of now", &[(3_000, Failed(Behind), Paged(0))]);
    assert!(run.recovery.is_newest_needed);
    let run = run.check("", &[(50, LISTED, Continues), (1, WatchBegins, Continues)]);
    let next = [(1_800_000, DeadlinePassed, Compares), (5, NOT_COMPARED, Cached(0))];
    assert!(!run.check("the next list", &next).recovery.is_newest_needed);
    let rows = [
        (9_000, Failed(Behind), Resumes(100)),
        (0, Failed(Behind), Resumes(200)),
        (0, Failed(Behind), Paged(0)),
    ];
    check_live("a watch from a version that is yet to come", &rows);
}

#[test]
fn a_lost_resource_version_lists_at_once_but_not_in_a_loop() {
    let run = check_live("410 as an event or a status", &[(9_000, Failed(Expired), Cached(0))]);
    assert!(!run.recovery.is_newest_needed, "no older than what is known is enough");
    let mut rows = vec![(9_000, Failed(Expired), Cached(0))];
    for pause in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        rows.push((50, LISTED, Continues));
        // Unless that is too old, too.
        rows.push((10, Failed(Expired), Paged(pause)));
    }
    rows.push((50, LISTED, Continues));
    rows.push((120_000, Failed(Expired), Cached(0)));
    check_live("lists whose watches fail", &rows);
}

#[test]
fn lists_without_watches_are_half_a_minute_apart() {
    let mut rows = vec![
        (50, LISTED, Continues),
        (1, Failed(Forbidden), Resumes(100)),
        (0, Failed(Forbidden), Resumes(200)),
        (0, Failed(Forbidden), Cached(0)),
    ];
    for pause in [200, 400, 800, 1600, 3200, 6400, 12_800] {
        rows.push((50, LISTED, Continues));
        rows.push((1, Failed(Forbidden), Cached(pause)));
    }
    rows.extend([(50, LISTED, Continues), (1, Failed(Forbidden), Renewed(25_600))]);
    for then in [Cached, Renewed, Cached, Renewed] {
        rows.extend([(50, LISTED, Continues), (1, Failed(Forbidden), then(30_000))]);
    }
    let run = check("no rule for watches", &rows);
    assert!(!run.recovery.is_current());
    let run =
        run.check("the rule is added", &[(50, LISTED, Continues), (1, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
}

#[test]
fn a_failed_periodic_list_keeps_the_watch() {
    let run = check_live(
        "watches without lists",
        &[
            (1_800_000, DeadlinePassed, Compares),
            (5, NOT_COMPARED, Cached(0)),
            (0, Failed(Forbidden), Resumes(100)),
            (5, WatchBegins, Continues),
            (0, DeadlinePassed, Probes),
            (5, Probed(ProbeResult::Failed(Forbidden)), Continues),
        ],
    );
    assert!(run.recovery.is_current(), "it was the watch that was resumed");
    run.check("again in a minute", &[(60_000, DeadlinePassed, Compares)]);
    for (asked, expected) in [(7, 60), (200, 200)] {
        let throttled = Failed(Throttled(Duration::from_secs(asked)));
        let run = check_live(
            "only the list is throttled",
            &[
                (1_800_000, DeadlinePassed, Compares),
                (5, NOT_COMPARED, Cached(0)),
                (0, throttled, Resumes(0)),
            ],
        );
        assert_eq!((run.recovery.compare_at - run.now).as_secs(), expected);
    }
}

#[test]
fn a_list_without_a_watch_to_keep_waits_as_asked() {
    let throttled = Failed(Throttled(Duration::from_secs(30)));
    let down = [
        (9_000, Failed(Unreachable), Resumes(100)),
        (30_000, Failed(Unreachable), Renewed(200)),
        (30_000, Failed(Unreachable), Renewed(400)),
        (0, Failed(Unreachable), Resumes(800)),
    ];
    check_live("an outage of more than a minute", &down).check(
        "the version has expired meanwhile",
        &[
            (0, Failed(Expired), Paged(0)),
            (0, throttled, Paged(31_000)),
            (0, throttled, Paged(31_000)),
            (50, LISTED, Continues),
            (1, WatchBegins, Continues),
        ],
    );
    check_live("", &down).check(
        "etcd was restored meanwhile",
        &[
            (1, WatchBegins, Continues),
            (0, DeadlinePassed, Probes),
            (1, Probed(ProbeResult::WentBack), Paged(0)),
            (0, throttled, Paged(31_000)),
        ],
    );
}

#[test]
fn lists_without_a_resource_version() {
    let unversioned = ListComplete { is_resumable: false };
    let run = check("", &[(50, unversioned, Continues), (1, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
    let run = run.check(
        "only a list shows what was deleted after the watch ended",
        &[
            (20_000, WatchEnds, Cached(0)),
            (50, unversioned, Continues),
            (1, WatchBegins, Continues),
            (24_000, DeadlinePassed, Cached(0)),
            (50, unversioned, Continues),
            (1, WatchBegins, Continues),
        ],
    );
    run.check(
        "but not in a loop",
        &[
            (10, WatchEnds, Cached(100)),
            (50, unversioned, Continues),
            (1, WatchBegins, Continues),
            (10, WatchEnds, Cached(200)),
            (50, unversioned, Continues),
            (1, Failed(Unreachable), Renewed(400)),
        ],
    );
}

#[test]
fn comparison_every_quarter_to_half_an_hour() {
    let check = |random: f64, expected: Duration| {
        let began = Instant::now();
        let mut recovery = Recovery::new(began);
        recovery.observe(LISTED, began, random);
        assert_eq!(recovery.compare_at - began, expected);
    };
    check(0.0, COMPARE_MIN);
    check(0.5, Duration::from_secs(22 * 60 + 30));
    check(1.0, COMPARE_MAX);
    let rows = [(1_800_000, DeadlinePassed, Compares), (5, NOT_COMPARED, Cached(0))];
    check_live("a list without a pause, if there is no comparison", &rows);
}
