use super::*;
use Failure::*;
use Observation::*;

/// What is expected next, in milliseconds; pauses are those of the longest jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Continue(u64),
    Streaming(u64),
    Paged(u64),
    /// With a new client.
    Renewed(u64),
}
use Then::*;

/// Each row: milliseconds since the row before, what is observed, what has to follow.
#[track_caller]
fn check(name: &str, rows: &[(u64, Observation, Then)]) -> Recovery {
    check_from(Recovery::new(false, Instant::now()), name, rows)
}

#[track_caller]
fn check_from(mut recovery: Recovery, name: &str, rows: &[(u64, Observation, Then)]) -> Recovery {
    let mut now = recovery.follows_until;
    for (index, (after_ms, observation, expected)) in rows.iter().enumerate() {
        now += Duration::from_millis(*after_ms);
        let next = recovery.observe(*observation, now, 1.0);
        let ms = |pause: Duration| pause.as_millis() as u64;
        let then = match (next, recovery.strategy()) {
            (Next::Continue(pause), _) => Continue(ms(pause)),
            (Next::Restart(Restart { pause, is_client_renewed: true }), _) => Renewed(ms(pause)),
            (Next::Restart(Restart { pause, .. }), Strategy::Streaming) => Streaming(ms(pause)),
            (Next::Restart(Restart { pause, .. }), Strategy::Paged) => Paged(ms(pause)),
        };
        assert_eq!(then, *expected, "{name}, row {index}: {observation:?}");
        now += match next {
            Next::Continue(pause) | Next::Restart(Restart { pause, .. }) => pause,
        };
    }
    recovery
}

const LISTED: [(u64, Observation, Then); 2] =
    [(0, ListBegins, Continue(0)), (50, ListComplete, Continue(0))];

/// `rows` after a complete list.
#[track_caller]
fn check_live(name: &str, rows: &[(u64, Observation, Then)]) -> Recovery {
    check(name, &[&LISTED[..], rows].concat())
}

#[test]
fn streaming_list_falls_back_at_once_and_is_remembered() {
    for (name, failing) in [
        ("gate off: 422 or 400", vec![(10, Failed(Refused), Paged(0))]),
        ("410 during the list", vec![(0, ListBegins, Continue(0)), (5, Failed(Expired), Paged(0))]),
        ("in-stream error", vec![(0, ListBegins, Continue(0)), (5, Failed(Refused), Paged(0))]),
        (
            "cut mid-list: kube begins anew",
            vec![(0, ListBegins, Continue(0)), (5, ListBegins, Paged(0))],
        ),
        ("no bookmark", vec![(0, ListBegins, Continue(0)), (60_000, DeadlinePassed, Paged(0))]),
        ("no answer at all", vec![(60_000, DeadlinePassed, Paged(0))]),
    ] {
        let recovery = check(name, &failing);
        assert!(!recovery.is_paged_only(), "{name}: not before a paged list has worked");
        let recovery = check_from(recovery, name, &LISTED);
        assert!(recovery.is_paged_only(), "{name}");
        // The next list, half an hour later, does not try again.
        check_from(recovery, name, &[(1_800_000, DeadlinePassed, Paged(0))]);
    }
}

#[test]
fn neither_list_works() {
    check(
        "both strategies in turn, with a growing pause",
        &[
            (0, Failed(Refused), Paged(0)),
            (0, Failed(Refused), Streaming(200)),
            (0, Failed(Refused), Paged(0)),
            (0, Failed(Refused), Streaming(800)),
            (0, Failed(Refused), Paged(0)),
            (0, Failed(Refused), Streaming(1500)),
        ],
    );
    let known = Recovery::new(true, Instant::now());
    check_from(
        known,
        "paged only stays paged",
        &[(0, Failed(Refused), Paged(100)), (0, Failed(Expired), Paged(200))],
    );
}

#[test]
fn what_a_paged_list_would_meet_too_is_no_reason_to_fall_back() {
    check(
        "away at boot",
        &[
            (0, Failed(Unreachable), Streaming(100)),
            (0, Failed(Unreachable), Streaming(200)),
            (0, Failed(Unreachable), Streaming(400)),
            (0, Failed(Unreachable), Streaming(800)),
            (0, Failed(Unreachable), Streaming(1500)),
            (0, Failed(Unreachable), Streaming(1500)),
            (0, Failed(Unreachable), Streaming(1500)),
        ],
    );
    check(
        "forbidden",
        &[(0, Failed(Forbidden), Streaming(100)), (0, Failed(Forbidden), Streaming(200))],
    );
    check(
        "credentials",
        &[(0, Failed(Unauthorized), Renewed(100)), (0, Failed(Unauthorized), Renewed(200))],
    );
    let asked = Throttled(Duration::from_secs(7));
    check(
        "Retry-After comes before our pause",
        &[(0, Failed(asked), Streaming(7100)), (0, Failed(asked), Streaming(7200))],
    );
    check(
        "within reason",
        &[(0, Failed(Throttled(Duration::from_secs(86_400))), Streaming(300_100))],
    );
}

#[test]
fn broken_watches_resume_without_a_list() {
    let recovery = check_live(
        "an outage of half a minute",
        &[
            (9_000, Failed(Unreachable), Continue(100)),
            (0, Failed(Unreachable), Continue(200)),
            (0, Failed(Unreachable), Continue(400)),
            (0, Failed(Unreachable), Continue(800)),
            (0, Failed(Unreachable), Continue(1500)),
            (0, Failed(Unreachable), Continue(1500)),
            (0, Failed(Unreachable), Continue(1500)),
            // Healthy for a while: the next one begins from the shortest pause.
            (60_000, Failed(Unreachable), Continue(100)),
        ],
    );
    assert!(recovery.is_live());
}

#[test]
fn a_lost_resource_version_lists_at_once_but_not_in_a_loop() {
    check_live("410 in the stream or as an HTTP status", &[(9_000, Failed(Expired), Streaming(0))]);
    let mut rows = vec![(9_000, Failed(Expired), Streaming(0))];
    for pause in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        rows.extend(LISTED);
        rows.push((10, Failed(Expired), Streaming(pause)));
    }
    rows.extend(LISTED);
    rows.push((120_000, Failed(Expired), Streaming(0)));
    check_live("lists that do not last", &rows);
}

#[test]
fn three_refused_resumes_begin_a_new_stream() {
    check_live(
        "in a row",
        &[
            (9_000, Failed(Refused), Continue(100)),
            (0, Failed(Refused), Continue(200)),
            (0, Failed(Refused), Streaming(400)),
        ],
    );
    check_live(
        "not in a row",
        &[
            (9_000, Failed(Refused), Continue(100)),
            (0, Failed(Refused), Continue(200)),
            (300_000, Failed(Refused), Continue(100)),
            (0, Failed(Forbidden), Continue(200)),
            (0, Failed(Forbidden), Streaming(400)),
        ],
    );
    check_live("401: new credentials", &[(9_000, Failed(Unauthorized), Renewed(100))]);
}

#[test]
fn full_list_every_quarter_to_half_an_hour() {
    let check = |random: f64, expected: Duration| {
        let began = Instant::now();
        let mut recovery = Recovery::new(false, began);
        recovery.observe(ListBegins, began, random);
        recovery.observe(ListComplete, began, random);
        assert_eq!(recovery.deadline() - began, expected);
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
