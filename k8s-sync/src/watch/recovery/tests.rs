//! The recovery as tables: observations in order, and the action that must follow each.

mod lists;

use super::backoff::{PAUSE_MAX, jittered_pause};
use super::*;
use Failure::*;
use Observation::*;

/// The expected action. Pauses are in milliseconds, with the longest jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Continues,
    Probes,
    Compares,
    Resumes(u64),
    Cached(u64),
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
    fn new() -> Self {
        let now = Instant::now();
        Self { recovery: Recovery::new(now), now }
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
                (Next::Compare, _) => Compares,
                (Next::Resume(retry) | Next::List(retry), _) if retry.is_client_renewed => {
                    Renewed(ms(retry))
                }
                (Next::Resume(retry), _) => Resumes(ms(retry)),
                (Next::List(retry), Strategy::Cached) => Cached(ms(retry)),
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

/// Starts with a list.
#[track_caller]
fn check(name: &str, rows: &[Row]) -> Run {
    Run::new().check(name, rows)
}

/// The server has no lists of metadata, so a full list follows.
const NOT_COMPARED: Observation = Compared(ComparisonResult::Failed(Refused));
const LISTED: Observation = ListComplete { is_resumable: true };

/// `rows` while a watch follows a list.
#[track_caller]
fn check_live(name: &str, rows: &[Row]) -> Run {
    let run = check(name, &[(50, LISTED, Continues), (0, WatchBegins, Continues)]);
    assert!(run.recovery.is_current(), "{name}");
    run.check(name, rows)
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
            (0, Failed(Unreachable), Resumes(1000)),
            (0, Failed(Unreachable), Resumes(1000)),
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
            (5, back, Paged(0)),
        ],
    );
    assert!(!run.recovery.is_current());
    let run = run.check("", &[(50, LISTED, Continues), (1, WatchBegins, Continues)]);
    assert!(run.recovery.is_current());
    let run = check_live("a bookmark says so: not from the cache", &[(9_000, back, Paged(0))]);
    assert!(run.recovery.is_newest_needed);
    let run = run.check("", &[(0, Failed(Refused), Whole(100)), (50, LISTED, Continues)]);
    assert!(!run.recovery.is_newest_needed);
    check_live(
        "versions that alternate: growing pauses between lists",
        &[
            (9_000, back, Paged(0)),
            (50, LISTED, Continues),
            (1, WatchBegins, Continues),
            (50, back, Paged(200)),
            (50, LISTED, Continues),
            (1, WatchBegins, Continues),
            (50, back, Paged(400)),
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

    let run = check_live("a list that stalls", &[(0, Failed(Expired), Cached(0))]);
    assert_eq!(run.due_secs(), 600);
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
    let run = run.check("twice", &silence(ProbeResult::Ahead, Cached(0)));
    assert!(!run.recovery.is_current());
    check_live("nothing has changed", &silence(ProbeResult::Equal, Continues))
        .check("", &silence(ProbeResult::Equal, Continues));
    // Not even right after the list, nor if the server has made no progress.
    let run = run.check("", &[(50, LISTED, Continues), (1, WatchBegins, Continues)]);
    assert!(!run.recovery.is_current());
    let run = run.check("", &silence(ProbeResult::Equal, Continues));
    assert!(!run.recovery.is_current());
    let mut run = run.check("", &silence(ProbeResult::Ahead, Cached(0)));
    run.recovery.received(run.now);
    assert!(!run.recovery.is_current(), "lists get through");
    let mut run = run.check("", &[(50, LISTED, Continues), (1, WatchBegins, Continues)]);
    assert!(!run.recovery.is_current());
    run.recovery.received(run.now);
    assert!(run.recovery.is_current(), "the watch sends something");

    let mut run = check_live("", &silence(ProbeResult::Ahead, Continues));
    run.recovery.received(run.now);
    run.check("not in a row", &silence(ProbeResult::Ahead, Continues));
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
fn three_refused_resumes_cause_a_list() {
    check_live(
        "in a row",
        &[
            (9_000, Failed(Refused), Resumes(100)),
            (0, Failed(Refused), Resumes(200)),
            (0, Failed(Refused), Cached(0)),
        ],
    );
    check_live(
        "not in a row",
        &[
            (9_000, Failed(Refused), Resumes(100)),
            (0, Failed(Refused), Resumes(200)),
            (300_000, Failed(Refused), Resumes(100)),
            (0, Failed(Forbidden), Renewed(200)),
            (0, Failed(Forbidden), Cached(0)),
        ],
    );
}

#[test]
fn watches_that_end_at_once_are_delayed() {
    let mut rows = Vec::new();
    for pause in [100, 200, 400, 800, 1000, 1000] {
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
    let run = run.check("", &[(11_995, DeadlinePassed, Cached(0)), (50, LISTED, Continues)]);
    assert!(run.recovery.is_current());
}

#[test]
fn comparisons_with_the_server() {
    let compared =
        |result| [(1_800_000, DeadlinePassed, Compares), (50, Compared(result), Continues)];
    let run = check_live("nothing was lost", &compared(ComparisonResult::Same));
    assert!(run.recovery.is_current());
    assert_eq!(run.recovery.compare_at - run.now, COMPARE_MAX);
    for (result, secs) in [
        (ComparisonResult::Unclear, 60),
        (ComparisonResult::Failed(Unreachable), 60),
        (ComparisonResult::Failed(Unauthorized), 60),
        (ComparisonResult::Failed(Throttled(Duration::from_secs(200))), 200),
    ] {
        let run = check_live("again soon, and the watch goes on", &compared(result));
        assert!(run.recovery.is_current());
        assert_eq!((run.recovery.compare_at - run.now).as_secs(), secs, "{result:?}");
    }
    let unclear = || (50, Compared(ComparisonResult::Unclear), Continues);
    let run = check_live(
        "a list replaces comparisons without a result",
        &[
            (1_800_000, DeadlinePassed, Compares),
            unclear(),
            (60_000, DeadlinePassed, Compares),
            unclear(),
            (60_000, DeadlinePassed, Compares),
            (50, Compared(ComparisonResult::Unclear), Cached(0)),
            (50, LISTED, Continues),
        ],
    );
    assert_eq!(run.recovery.fruitless_comparisons, 0);
    let lost = Compared(ComparisonResult::Lost(1));
    let run = check_live(
        "a change was lost",
        &[(1_800_000, DeadlinePassed, Compares), (50, lost, Paged(0))],
    );
    assert!(!run.recovery.is_current());
    assert!(run.recovery.is_newest_needed);
    let run = run.check("the list fails", &[(5, Failed(Unreachable), Resumes(100))]);
    assert!(!run.recovery.is_current());
    let rows = [
        (5, WatchBegins, Continues),
        (0, DeadlinePassed, Probes),
        (5, Probed(ProbeResult::Equal), Continues),
        (60_000, DeadlinePassed, Paged(0)),
        (5, LISTED, Continues),
    ];
    assert!(run.check("and is still needed", &rows).recovery.is_current());
    check_live(
        "a result that never comes",
        &[(1_800_000, DeadlinePassed, Compares), (1_800_000, DeadlinePassed, Cached(0))],
    );
}

#[test]
fn failures_that_new_credentials_could_cure_get_a_new_client() {
    check(
        "401",
        &[(0, Failed(Unauthorized), Renewed(100)), (0, Failed(Unauthorized), Renewed(200))],
    );
    check_live("401 of a watch", &[(9_000, Failed(Unauthorized), Renewed(100))]);
    for failure in [Unreachable, Forbidden, Refused, Faulty] {
        check_live(
            "the second consecutive failure of an old client",
            &[
                (300_000, Failed(failure), Resumes(100)),
                (0, Failed(failure), Renewed(200)),
                (50_000, Failed(failure), Resumes(100)),
            ],
        );
    }
    let mut rows = vec![(300_000, Failed(Unreachable), Cached(100))];
    rows.push((0, Failed(Unreachable), Renewed(200)));
    rows.push((29_000, Failed(Unreachable), Cached(400)));
    rows.push((1_000, Failed(Unreachable), Renewed(800)));
    // Each failure in a row is followed by the other kind of list.
    for lists in [[Cached(1000), Paged(1000)], [Paged(1000), Cached(1000)]].repeat(2).iter().take(3)
    {
        rows.push((29_000, Failed(Unreachable), lists[0]));
        rows.push((10_000, Failed(Unreachable), lists[1]));
        rows.push((4_000, Failed(Unreachable), Renewed(1000)));
    }
    rows.push((300_000, Failed(Unreachable), Cached(100)));
    rows.push((0, Failed(Unreachable), Renewed(200)));
    Run::new().check("after 15, 30 and then every 45 s", &rows);
    check_live(
        "no new client for these",
        &[
            (300_000, Failed(Throttled(Duration::ZERO)), Resumes(100)),
            (0, Failed(Throttled(Duration::ZERO)), Resumes(200)),
            (0, Failed(Expired), Cached(0)),
        ],
    );
}

#[test]
fn jitter_is_half_of_the_pause() {
    assert_eq!(jittered_pause(2, PAUSE_MAX, 0.0), Duration::from_millis(200));
    assert_eq!(jittered_pause(2, PAUSE_MAX, 1.0), Duration::from_millis(400));
    assert_eq!(jittered_pause(u32::MAX, PAUSE_MAX, 1.0), PAUSE_MAX);
}
