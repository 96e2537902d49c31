//! The recovery as tables: observations in order, and the action that must follow each.

use super::backoff::{PAUSE_MAX, jittered_pause};
use super::*;
use Failure::*;
use Observation::*;

/// The expected action. Pauses are in milliseconds, with the longest jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Continues,
    Probes,
    Resumes(u64),
    Streaming(u64),
    Paged(u64),
    Whole(u64),
    /// Either, with a new client.
    Renewed(u64),
}
use Then::*;

/// Milliseconds since the previous row, the observation, the expected action.
type Row = (u64, Observation, Then);

struct Run {
    recovery: Recovery,
    now: Instant,
}

impl Run {
    fn new(is_paged_only: bool) -> Self {
        let now = Instant::now();
        Self { recovery: Recovery::new(is_paged_only, now), now }
    }

    #[track_caller]
    fn check(mut self, name: &str, rows: &[Row]) -> Self {
        for (index, (after_ms, observation, expected)) in rows.iter().enumerate() {
            self.now += Duration::from_millis(*after_ms);
            let next = self.recovery.observe(*observation, self.now, 1.0);
            let ms = |retry: Retry| retry.pause.as_millis() as u64;
            let then = match (next, self.recovery.strategy()) {
                (Next::Continue, _) => Continues,
                (Next::Probe, _) => Probes,
                (Next::Resume(retry) | Next::List(retry), _) if retry.is_client_renewed => {
                    Renewed(ms(retry))
                }
                (Next::Resume(retry), _) => Resumes(ms(retry)),
                (Next::List(retry), Strategy::Streaming) => Streaming(ms(retry)),
                (Next::List(retry), Strategy::Paged) => Paged(ms(retry)),
                (Next::List(retry), Strategy::Whole) => Whole(ms(retry)),
            };
            assert_eq!(then, *expected, "{name}, row {index}: {observation:?}");
            if let Next::Resume(retry) | Next::List(retry) = next {
                self.now += retry.pause;
            }
        }
        self
    }

    /// Seconds until the deadline.
    fn due_secs(&self) -> u64 {
        (self.recovery.deadline() - self.now).as_secs()
    }
}

/// Starts with a streaming list.
#[track_caller]
fn check(name: &str, rows: &[Row]) -> Run {
    Run::new(false).check(name, rows)
}

const LISTED: Observation = ListComplete { is_resumable: true };

/// `rows` after a complete streaming list.
#[track_caller]
fn check_live(name: &str, rows: &[Row]) -> Run {
    let run = check(name, &[(50, LISTED, Continues)]);
    assert!(run.recovery.is_current(), "{name}");
    run.check(name, rows)
}

#[test]
fn streaming_list_falls_back_at_once_and_is_remembered() {
    for (name, failing) in [
        ("gate off: 422 or 400; cut short", (10, Failed(Refused), Paged(0))),
        ("410 during the list", (5, Failed(Expired), Paged(0))),
        ("a rule for lists, none for watches", (5, Failed(Forbidden), Paged(0))),
        ("no bookmark, or no answer at all", (60_000, DeadlinePassed, Paged(0))),
    ] {
        let run = check(name, &[failing]);
        assert!(!run.recovery.is_paged_only(), "{name}: not before a paged list has worked");
        let run = run.check(name, &[(50, LISTED, Continues)]);
        assert!(run.recovery.is_paged_only(), "{name}");
        assert!(!run.recovery.is_current(), "{name}: no watch yet");
        let run = run.check(name, &[(5, WatchBegins, Continues)]);
        assert!(run.recovery.is_current(), "{name}");
        // The next list, half an hour later, does not try streaming again.
        run.check(name, &[(1_800_000, DeadlinePassed, Paged(0))]);
    }
}

#[test]
fn refused_lists_lead_to_one_without_a_limit() {
    check(
        "the continue token has expired",
        &[
            (0, Failed(Refused), Paged(0)),
            (50, Failed(Expired), Whole(0)),
            (50, LISTED, Continues),
            (1, WatchBegins, Continues),
            // The next list may be paged again.
            (9_000, Failed(Expired), Paged(0)),
        ],
    );
    check(
        "all three in turn, with a growing pause",
        &[
            (0, Failed(Refused), Paged(0)),
            (0, Failed(Refused), Whole(200)),
            (0, Failed(Refused), Streaming(400)),
            (0, Failed(Refused), Paged(0)),
            (0, Failed(Refused), Whole(1500)),
            (0, Failed(Refused), Streaming(1500)),
        ],
    );
    Run::new(true).check(
        "no streaming list if another kind has learned that there are none",
        &[
            (0, Failed(Refused), Whole(100)),
            (0, Failed(Refused), Paged(200)),
            (0, Failed(Expired), Whole(0)),
            (0, Failed(Expired), Paged(800)),
        ],
    );
}

#[test]
fn no_fallback_if_another_list_would_fail_too() {
    check(
        "down at start-up",
        &[
            (0, Failed(Unreachable), Streaming(100)),
            (0, Failed(Unreachable), Paged(200)),
            (0, Failed(Unreachable), Streaming(400)),
            (0, Failed(Unreachable), Paged(800)),
            (0, Failed(Unreachable), Streaming(1500)),
            (0, Failed(Unreachable), Paged(1500)),
        ],
    );
    check(
        "forbidden: both kinds of list are tried, none without a limit",
        &[
            (0, Failed(Forbidden), Paged(0)),
            (0, Failed(Forbidden), Streaming(200)),
            (0, Failed(Forbidden), Paged(0)),
            (0, Failed(Forbidden), Streaming(800)),
        ],
    );
    let asked = Throttled(Duration::from_secs(7));
    check(
        "our pause is added to Retry-After",
        &[(0, Failed(asked), Streaming(7100)), (0, Failed(asked), Streaming(7200))],
    );
    check(
        "Retry-After is capped",
        &[(0, Failed(Throttled(Duration::from_secs(86_400))), Streaming(300_100))],
    );
}

#[test]
fn broken_watches_resume_without_a_list() {
    let run = check_live(
        "an outage of half a minute",
        &[
            (9_000, Failed(Unreachable), Resumes(100)),
            (0, Failed(Unreachable), Resumes(200)),
            (0, Failed(Unreachable), Resumes(400)),
            (0, Failed(Unreachable), Resumes(800)),
            (0, Failed(Unreachable), Resumes(1500)),
            (0, Failed(Unreachable), Resumes(1500)),
            (0, WatchBegins, Continues),
        ],
    );
    assert!(!run.recovery.is_current(), "the server may have lost its state");
    assert_eq!(run.due_secs(), 0, "so it is probed at once");
    let run =
        run.check("", &[(0, DeadlinePassed, Probes), (3, Probed(ProbeResult::Equal), Continues)]);
    assert!(run.recovery.is_current());
    // After a healthy period the pauses start over.
    run.check("", &[(60_000, Failed(Unreachable), Resumes(100))]);
}

#[test]
fn a_server_that_has_gone_back_is_listed() {
    let back = Probed(ProbeResult::WentBack);
    let run = check_live(
        "etcd restored while the API server was away",
        &[
            (9_000, Failed(Unreachable), Resumes(100)),
            (0, WatchBegins, Continues),
            (0, DeadlinePassed, Probes),
            (5, back, Streaming(0)),
        ],
    );
    assert!(!run.recovery.is_current());
    let run = run.check("", &[(50, LISTED, Continues)]);
    assert!(run.recovery.is_current());
    check_live("a bookmark says so", &[(9_000, back, Streaming(0))]);
    check_live(
        "versions that alternate: growing pauses between lists",
        &[
            (9_000, back, Streaming(0)),
            (50, LISTED, Continues),
            (50, back, Streaming(200)),
            (50, LISTED, Continues),
            (50, back, Streaming(400)),
        ],
    );
}

#[test]
fn silence_proves_nothing() {
    let run = check_live("nothing at all", &[]);
    assert_eq!(run.due_secs(), 24);
    let run = run.check("", &[(24_000, DeadlinePassed, Resumes(0)), (5, WatchBegins, Continues)]);
    assert_eq!(run.due_secs(), 0);
    let run =
        run.check("", &[(0, DeadlinePassed, Probes), (5, Probed(ProbeResult::Equal), Continues)]);
    assert_eq!(run.due_secs(), 23, "one watch and one probe per 24 s");

    let mut run = check_live("a bookmark, then the end of the watch", &[]);
    run.now += Duration::from_secs(18);
    run.recovery.received(run.now);
    let run = run.check("", &[(2_000, WatchEnds, Resumes(0)), (5, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
    assert_eq!(run.due_secs(), 24, "no probe");

    let run = check_live("a streaming list that stalls", &[(0, Failed(Expired), Streaming(0))]);
    assert_eq!(run.due_secs(), 24);
}

#[test]
fn silence_while_the_server_makes_progress() {
    let silence = |probe, then| {
        [
            (24_000, DeadlinePassed, Resumes(0)),
            (5, WatchBegins, Continues),
            (0, DeadlinePassed, Probes),
            (5, Probed(probe), then),
        ]
    };
    let run =
        check_live("once: other kinds may have changed", &silence(ProbeResult::Ahead, Continues));
    assert!(run.recovery.is_current());
    let run = run.check("twice", &silence(ProbeResult::Ahead, Streaming(0)));
    assert!(!run.recovery.is_current());
    check_live("nothing has changed", &silence(ProbeResult::Equal, Continues))
        .check("", &silence(ProbeResult::Equal, Continues));
    // Not even right after the list, nor if the server has made no progress.
    let run = run.check("", &[(50, LISTED, Continues)]);
    assert!(!run.recovery.is_current());
    let run = run.check("", &silence(ProbeResult::Equal, Continues));
    assert!(!run.recovery.is_current());
    let mut run = run.check("", &silence(ProbeResult::Ahead, Streaming(0)));
    run.recovery.received(run.now);
    assert!(!run.recovery.is_current(), "lists get through");
    let mut run = run.check("", &[(50, LISTED, Continues)]);
    assert!(!run.recovery.is_current());
    run.recovery.received(run.now);
    assert!(run.recovery.is_current(), "the watch sends something");

    let mut run = check_live("", &silence(ProbeResult::Ahead, Continues));
    run.recovery.received(run.now);
    run.check("not in a row", &silence(ProbeResult::Ahead, Continues));
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
            (15_000, Failed(Unreachable), Streaming(100)),
            (15_000, Failed(Unreachable), Renewed(200)),
            (50, LISTED, Continues),
            (15_000, Failed(Unreachable), Resumes(400)),
            (15_000, Failed(Unreachable), Renewed(800)),
            (15_000, Failed(Unreachable), Resumes(1500)),
        ],
    );
    assert!(!run.recovery.is_listing() && !run.recovery.is_current());
    let run = run.check("a minute", &[(15_000, Failed(Unreachable), Paged(1500))]);
    assert!(!run.recovery.is_paged_only(), "an outage looks the same");
    let run =
        run.check("lists get through", &[(50, LISTED, Continues), (5, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
    run.check("so the next list streams", &[(1_800_000, DeadlinePassed, Streaming(0))]);
    let run =
        check_live("", &rows).check("the list fails", &[(0, Failed(Unreachable), Resumes(800))]);
    assert!(!run.recovery.is_listing(), "the watch needs no list when the server is back");
    let run = run.check("so there is no list", &[(1, WatchBegins, Continues)]);
    assert!(run.recovery.relist_at - run.now > RELIST_MIN);
    let run = check_live("a list was due anyway", &[(1_800_000, DeadlinePassed, Streaming(0))]);
    let run = run.check("", &[(0, Failed(Unreachable), Resumes(100))]);
    run.check("so it is still due", &[(1, WatchBegins, Continues), (0, DeadlinePassed, Probes)])
        .check(
            "",
            &[(1, Probed(ProbeResult::Equal), Continues), (59_900, DeadlinePassed, Streaming(0))],
        );
}

#[test]
fn a_probe_that_fails() {
    let probe = [
        (9_000, Failed(Unreachable), Resumes(100)),
        (0, WatchBegins, Continues),
        (0, DeadlinePassed, Probes),
    ];
    for (failure, is_current) in [
        // With nothing to compare, the watch is trusted.
        (Forbidden, true),
        (Refused, true),
        (Unreachable, false),
        (Throttled(Duration::from_secs(1)), false),
    ] {
        let run = check_live("", &probe)
            .check("", &[(5, Probed(ProbeResult::Failed(failure)), Continues)]);
        assert_eq!(run.recovery.is_current(), is_current, "{failure:?}");
        if !is_current {
            assert_eq!(run.due_secs(), 5, "{failure:?}: probed again");
        }
    }
    check_live("", &probe)
        .check("", &[(5, Probed(ProbeResult::Failed(Unauthorized)), Renewed(200))]);
}

#[test]
fn a_lost_resource_version_lists_at_once_but_not_in_a_loop() {
    check_live("410 in the stream or as an HTTP status", &[(9_000, Failed(Expired), Streaming(0))]);
    let mut rows = vec![(9_000, Failed(Expired), Streaming(0))];
    for pause in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        rows.push((50, LISTED, Continues));
        rows.push((10, Failed(Expired), Streaming(pause)));
    }
    rows.push((50, LISTED, Continues));
    rows.push((120_000, Failed(Expired), Streaming(0)));
    check_live("lists whose watches fail", &rows);
}

#[test]
fn three_refused_resumes_begin_a_new_stream() {
    check_live(
        "in a row",
        &[
            (9_000, Failed(Refused), Resumes(100)),
            (0, Failed(Refused), Resumes(200)),
            (0, Failed(Refused), Streaming(0)),
        ],
    );
    check_live(
        "not in a row",
        &[
            (9_000, Failed(Refused), Resumes(100)),
            (0, Failed(Refused), Resumes(200)),
            (300_000, Failed(Refused), Resumes(100)),
            (0, Failed(Forbidden), Renewed(200)),
            (0, Failed(Forbidden), Streaming(0)),
        ],
    );
}

#[test]
fn lists_without_watches_are_half_a_minute_apart() {
    let mut rows = vec![
        (0, Failed(Forbidden), Paged(0)),
        (50, LISTED, Continues),
        (1, Failed(Forbidden), Resumes(200)),
        (0, Failed(Forbidden), Resumes(400)),
        (0, Failed(Forbidden), Paged(0)),
    ];
    for pause in [200, 400, 800, 1600, 3200, 6400, 12_800] {
        rows.push((50, LISTED, Continues));
        rows.push((1, Failed(Forbidden), Paged(pause)));
    }
    rows.extend([(50, LISTED, Continues), (1, Failed(Forbidden), Renewed(25_600))]);
    for then in [Paged, Renewed, Paged, Renewed] {
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
            (1_800_000, DeadlinePassed, Streaming(0)),
            (0, Failed(Forbidden), Paged(0)),
            (0, Failed(Forbidden), Renewed(200)),
            (5, WatchBegins, Continues),
            (0, DeadlinePassed, Probes),
            (5, Probed(ProbeResult::Failed(Forbidden)), Continues),
        ],
    );
    assert!(run.recovery.is_current(), "it was the watch that was resumed");
    run.check("again in a minute", &[(60_000, DeadlinePassed, Streaming(0))]);
    for (asked, expected) in [(7, 60), (200, 200)] {
        let throttled = Failed(Throttled(Duration::from_secs(asked)));
        let run = check_live(
            "only the list is throttled",
            &[(1_800_000, DeadlinePassed, Streaming(0)), (0, throttled, Resumes(0))],
        );
        assert_eq!((run.recovery.relist_at - run.now).as_secs(), expected);
    }
}

#[test]
fn lists_without_a_resource_version() {
    let unversioned = ListComplete { is_resumable: false };
    let run = check("", &[(0, Failed(Refused), Paged(0)), (50, unversioned, Continues)]);
    let run = run.check("", &[(1, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
    let run = run.check(
        "only a list shows what was deleted after the watch ended",
        &[
            (20_000, WatchEnds, Paged(0)),
            (50, unversioned, Continues),
            (1, WatchBegins, Continues),
            (24_000, DeadlinePassed, Paged(0)),
            (50, unversioned, Continues),
            (1, WatchBegins, Continues),
        ],
    );
    run.check(
        "but not in a loop",
        &[
            (10, WatchEnds, Paged(100)),
            (50, unversioned, Continues),
            (1, WatchBegins, Continues),
            (10, WatchEnds, Paged(200)),
            (50, unversioned, Continues),
            (1, Failed(Unreachable), Renewed(400)),
        ],
    );
}

#[test]
fn watches_that_end_at_once_are_delayed() {
    let mut rows = Vec::new();
    for pause in [100, 200, 400, 800, 1500, 1500] {
        rows.extend([(0, WatchEnds, Resumes(pause)), (1, WatchBegins, Continues)]);
    }
    rows.extend([(60_000, WatchEnds, Resumes(0))]);
    check_live("", &rows);
}

#[test]
fn an_unreadable_event_causes_a_list() {
    let run = check_live("", &[(1_000, Unreadable, Continues)]);
    assert!(!run.recovery.is_current());
    let run = run.check("", &[(24_000, DeadlinePassed, Resumes(0)), (0, WatchBegins, Continues)]);
    assert!(!run.recovery.is_current(), "a new watch does not help");
    let run =
        run.check("", &[(0, DeadlinePassed, Probes), (5, Probed(ProbeResult::Ahead), Continues)]);
    assert!(!run.recovery.is_current(), "nor because the version is unchanged");
    let run = run.check("", &[(24_000, DeadlinePassed, Resumes(0)), (0, WatchBegins, Continues)]);
    let run = run.check("", &[(11_995, DeadlinePassed, Streaming(0)), (50, LISTED, Continues)]);
    assert!(run.recovery.is_current());

    let run = check("in a list", &[(10, Unreadable, Paged(0))]);
    run.check("", &[(50, LISTED, Continues), (1, WatchBegins, Continues)]);
    let run = check_live(
        "in a periodic list",
        &[(1_800_000, DeadlinePassed, Streaming(0)), (5, Unreadable, Paged(0))],
    );
    let run = run.check("", &[(50, LISTED, Continues), (1, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
}

#[test]
fn failures_that_new_credentials_could_cure_get_a_new_client() {
    check(
        "401",
        &[(0, Failed(Unauthorized), Renewed(100)), (0, Failed(Unauthorized), Renewed(200))],
    );
    check_live("401 of a watch", &[(9_000, Failed(Unauthorized), Renewed(100))]);
    for failure in [Unreachable, Forbidden, Refused] {
        check_live(
            "the second consecutive failure of an old client",
            &[
                (300_000, Failed(failure), Resumes(100)),
                (0, Failed(failure), Renewed(200)),
                (50_000, Failed(failure), Resumes(100)),
            ],
        );
    }
    let mut rows = vec![(300_000, Failed(Unreachable), Paged(100))];
    rows.push((0, Failed(Unreachable), Renewed(200)));
    rows.push((29_000, Failed(Unreachable), Paged(400)));
    rows.push((1_000, Failed(Unreachable), Renewed(800)));
    for _ in 0..3 {
        rows.push((29_000, Failed(Unreachable), Paged(1500)));
        rows.push((10_000, Failed(Unreachable), Paged(1500)));
        rows.push((3_000, Failed(Unreachable), Renewed(1500)));
    }
    rows.push((300_000, Failed(Unreachable), Paged(100)));
    rows.push((0, Failed(Unreachable), Renewed(200)));
    Run::new(true).check("after 15, 30 and then every 45 s", &rows);
    check_live(
        "no new client for these",
        &[
            (300_000, Failed(Throttled(Duration::ZERO)), Resumes(100)),
            (0, Failed(Throttled(Duration::ZERO)), Resumes(200)),
            (0, Failed(Expired), Streaming(0)),
        ],
    );
}

#[test]
fn full_list_every_quarter_to_half_an_hour() {
    let check = |random: f64, expected: Duration| {
        let began = Instant::now();
        let mut recovery = Recovery::new(false, began);
        recovery.observe(LISTED, began, random);
        assert_eq!(recovery.relist_at - began, expected);
    };
    check(0.0, RELIST_MIN);
    check(0.5, Duration::from_secs(22 * 60 + 30));
    check(1.0, RELIST_MAX);
    check_live("without a pause", &[(1_800_000, DeadlinePassed, Streaming(0))]);
}

#[test]
fn jitter_is_half_of_the_pause() {
    assert_eq!(jittered_pause(2, PAUSE_MAX, 0.0), Duration::from_millis(200));
    assert_eq!(jittered_pause(2, PAUSE_MAX, 1.0), Duration::from_millis(400));
    assert_eq!(jittered_pause(u32::MAX, PAUSE_MAX, 1.0), PAUSE_MAX);
}
