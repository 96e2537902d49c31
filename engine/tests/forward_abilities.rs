//! Upstreams that lack EDNS or TCP, and packets that get lost. The client does not notice, and the
//! upstream does not get every query twice.

mod upstream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use engine::client::Transport;
use engine::forward::UpstreamQuestion;
use engine::forward::options::{ForwardOptions, UpstreamTransport};
use engine::limits::{ANSWER_TIMES_MIN, HEDGES_SAVED_MAX, REPEAT_AFTER_P95, REPEAT_AFTER_UNKNOWN};
use engine::metrics::UpstreamEvent;
use engine::question::OwnedQuestion;
use upstream::{Manner, PATIENCE, Rig, ToOpt, Upstream, deadline, forward, question, run, until};

const REBUFFS: [ToOpt; 8] = [
    ToOpt::Says(Rcode::FORMERR),
    ToOpt::Says(Rcode::NOTIMP),
    ToOpt::Says(Rcode::SERVFAIL),
    ToOpt::Says(Rcode::REFUSED),
    ToOpt::SaysBadVersion,
    ToOpt::Echoes,
    ToOpt::Garbles,
    ToOpt::Drops,
];

fn with_flags(dnssec_ok: bool, checking_disabled: bool) -> UpstreamQuestion {
    let mut asked = question("www.example.org", Transport::Udp);
    let question = OwnedQuestion { dnssec_ok, checking_disabled, ..(*asked.question).clone() };
    asked.question = Arc::new(question);
    asked
}

/// The queries except health checks.
fn asked(upstream: &Upstream) -> Vec<upstream::Seen> {
    upstream.seen().into_iter().filter(|seen| seen.qtype() != 2).collect()
}

#[test]
fn an_upstream_without_edns_gets_no_opt_for_a_while() {
    run(async {
        for transport in [Transport::Udp, Transport::Tcp] {
            for rebuff in REBUFFS {
                let upstream = Upstream::start(60, Manner::ToOpt(rebuff));
                let rig = Rig::start(&forward(&[upstream.address])).await;
                let question = question("www.example.org", transport);
                for _ in 0..5 {
                    let answer = rig.upstreams.ask(&question, deadline()).await.unwrap();
                    assert_eq!(answer.ttl_secs_min, Some(60), "{rebuff:?}");
                }
                let with_opt: Vec<_> = asked(&upstream).iter().map(|seen| seen.has_opt()).collect();
                let expected = [true, false, false, false, false, false];
                assert_eq!(with_opt, expected, "{transport:?} {rebuff:?}");
                assert_eq!(rig.count(&upstream, UpstreamEvent::WentDown), 0);
            }
        }
    });
}

/// Another query is sent before its answer arrives, which proves nothing about EDNS.
#[test]
fn a_late_upstream_does_not_lack_edns() {
    run(async {
        let late = Manner::ToOpt(ToOpt::Late(REPEAT_AFTER_UNKNOWN + Duration::from_millis(200)));
        for dnssec_ok in [false, true] {
            let upstream = Upstream::start(60, late);
            let read_timeout = Duration::from_secs(4);
            let options =
                ForwardOptions { hedge: Some(true), read_timeout, ..forward(&[upstream.address]) };
            let rig = Rig::start(&options).await;
            let question = with_flags(dnssec_ok, false);
            for _ in 0..2 {
                assert!(rig.upstreams.ask(&question, deadline()).await.is_ok());
            }
            assert!(rig.count(&upstream, UpstreamEvent::Hedge) >= 1);
            assert!(upstream.seen().iter().all(upstream::Seen::has_opt), "DO: {dnssec_ok}");
        }
    });
}

#[test]
fn edns_returns_after_an_upgrade() {
    run(async {
        for rebuff in [ToOpt::Says(Rcode::NOTIMP), ToOpt::Drops] {
            let upstream = Upstream::start(60, Manner::ToOpt(rebuff));
            let rig = Rig::start(&forward(&[upstream.address])).await;
            let ask_until = async |what: &str, holds: &dyn Fn() -> bool| {
                let deadline = Instant::now() + PATIENCE;
                while !holds() {
                    assert!(Instant::now() < deadline, "{rebuff:?}: not in {PATIENCE:?}: {what}");
                    assert_eq!(rig.who_answers().await, Some(60), "{rebuff:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let with_opt_count = || upstream.seen().iter().filter(|seen| seen.has_opt()).count();
            ask_until("it is probed beside the questions", &|| with_opt_count() == 2).await;
            assert!(asked(&upstream).iter().skip(1).all(|seen| !seen.has_opt()), "{rebuff:?}");
            upstream.behave(Manner::Answers);
            let last_has_opt = || asked(&upstream).last().is_some_and(upstream::Seen::has_opt);
            ask_until("questions have an OPT again", &last_has_opt).await;
        }
    });
}

#[test]
fn errors_of_an_upstream_with_edns_cause_no_second_query() {
    run(async {
        for rcode in [Rcode::SERVFAIL, Rcode::REFUSED, Rcode::NXDOMAIN, Rcode::YXDOMAIN] {
            let upstream = Upstream::start(60, Manner::SaysWithOpt(rcode));
            let rig = Rig::start(&forward(&[upstream.address])).await;
            for _ in 0..3 {
                assert_eq!(rig.ask().await.unwrap().rcode, u16::from(rcode.to_int()));
            }
            assert_eq!(upstream.seen_count(), 3, "{rcode}");
        }
        // The proof is an OPT in an earlier answer, or any answer to a query with an OPT.
        for before in [Manner::SaysWithOpt(Rcode::SERVFAIL), Manner::Answers] {
            let upstream = Upstream::start(60, before);
            let rig = Rig::start(&forward(&[upstream.address])).await;
            assert!(rig.ask().await.is_ok());
            upstream.behave(Manner::Says(Rcode::SERVFAIL));
            assert_eq!(rig.ask().await.unwrap().rcode, 2);
            assert_eq!(upstream.seen_count(), 2, "{before:?}");
        }
    });
}

#[test]
fn an_error_that_is_the_same_without_an_opt_is_passed_on() {
    run(async {
        for rcode in [Rcode::FORMERR, Rcode::SERVFAIL, Rcode::NOTIMP, Rcode::REFUSED] {
            let upstream = Upstream::start(60, Manner::Says(rcode));
            let rig = Rig::start(&forward(&[upstream.address])).await;
            assert_eq!(rig.ask().await.unwrap().rcode, u16::from(rcode.to_int()));
            assert_eq!(upstream.seen_count(), 2);
            upstream.behave(Manner::Answers);
            assert_eq!(rig.who_answers().await, Some(60));
            assert!(upstream.seen()[2].has_opt(), "it was not the OPT");
            upstream.behave(Manner::Says(rcode));
            for _ in 0..5 {
                assert_eq!(rig.ask().await.unwrap().rcode, u16::from(rcode.to_int()));
            }
            let twice_count = upstream.seen_count() - 3 - 5;
            assert!(twice_count <= 1, "{rcode}: {twice_count}");
        }
    });
}

/// DO needs an OPT, so the answer is one without signatures, like every answer of such a server.
#[test]
fn a_client_with_do_gets_an_answer_without_signatures() {
    run(async {
        let upstream = Upstream::start(60, Manner::ToOpt(ToOpt::Says(Rcode::FORMERR)));
        let rig = Rig::start(&forward(&[upstream.address])).await;
        let question = with_flags(true, true);
        for _ in 0..2 {
            let answer = rig.upstreams.ask(&question, deadline()).await.unwrap();
            assert_eq!((answer.ttl_secs_min, answer.authenticated), (Some(60), false));
        }
        let seen = asked(&upstream);
        assert_eq!(seen.iter().map(|one| one.has_opt()).collect::<Vec<_>>(), [true, false, false]);
        // RD and CD stay. AD goes with the OPT: the oldest servers require that bit to be zero.
        assert_eq!(seen[0].message[3], 0x30);
        assert_eq!((seen[1].message[2], seen[1].message[3]), (0x01, 0x10));
    });
}

#[test]
fn an_upstream_without_edns_passes_its_health_check() {
    run(async {
        for rebuff in [ToOpt::Says(Rcode::NOTIMP), ToOpt::Drops, ToOpt::Garbles] {
            let upstream = Upstream::start(60, Manner::Silent);
            let options = ForwardOptions { max_fails: 1, ..forward(&[upstream.address]) };
            let rig = Rig::start(&options).await;
            assert!(rig.ask().await.is_err());
            until("it is down", || rig.count(&upstream, UpstreamEvent::WentDown) == 1).await;
            upstream.behave(Manner::ToOpt(rebuff));
            until("it is back", || rig.count(&upstream, UpstreamEvent::CameBack) == 1).await;
            let before = upstream.seen_count();
            assert_eq!(rig.who_answers().await, Some(60), "{rebuff:?}");
            assert!(!asked(&upstream).last().unwrap().has_opt(), "the check has found it out");
            assert!(upstream.seen()[before..].iter().all(|seen| !seen.has_opt()), "{rebuff:?}");
        }
    });
}

#[test]
fn a_client_over_tcp_is_answered_by_an_upstream_without_tcp() {
    run(async {
        let refuses = Upstream::start_without_tcp(60, Manner::Answers);
        let closes = Upstream::start(60, Manner::ClosesTcp);
        for upstream in [&refuses, &closes] {
            let rig = Rig::start(&forward(&[upstream.address])).await;
            let question = question("www.example.org", Transport::Tcp);
            for _ in 0..5 {
                let answer = rig.upstreams.ask(&question, deadline()).await.unwrap();
                assert_eq!(answer.ttl_secs_min, Some(60));
            }
            assert_eq!(asked(upstream).iter().filter(|seen| !seen.is_tcp).count(), 5);
            assert_eq!(rig.count(upstream, UpstreamEvent::TcpOpened), 1, "it is remembered");

            // With `force_tcp` there is no other way, so the failure is passed on.
            let options = ForwardOptions {
                transport: UpstreamTransport::Tcp,
                ..forward(&[upstream.address])
            };
            let rig = Rig::start(&options).await;
            assert!(rig.upstreams.ask(&question, deadline()).await.is_err());
        }
        // An upstream with TCP is asked first.
        let good = Upstream::start(61, Manner::Answers);
        let rig = Rig::start(&forward(&[refuses.address, good.address])).await;
        let tcp = question("www.example.org", Transport::Tcp);
        let answer = rig.upstreams.ask(&tcp, deadline()).await.unwrap();
        assert_eq!(answer.ttl_secs_min, Some(61));
    });
}

#[test]
fn a_truncated_answer_is_not_requested_from_an_upstream_without_tcp() {
    run(async {
        let upstream = Upstream::start_without_tcp(60, Manner::Cuts);
        let rig = Rig::start(&forward(&[upstream.address])).await;
        for _ in 0..5 {
            assert!(rig.ask().await.unwrap().truncated);
        }
        assert_eq!(rig.count(&upstream, UpstreamEvent::RetriedOverTcp), 1);
        // A client over TCP would take it for the whole answer.
        let tcp = question("www.example.org", Transport::Tcp);
        let failure = rig.upstreams.ask(&tcp, deadline()).await.unwrap_err().to_string();
        assert!(
            failure.contains("dial tcp") && failure.ends_with("connection refused"),
            "{failure}"
        );
    });
}

#[test]
fn tcp_that_worked_once_survives_a_failure() {
    run(async {
        let upstream = Upstream::start(60, Manner::Cuts);
        let rig = Rig::start(&forward(&[upstream.address])).await;
        assert!(!rig.ask().await.unwrap().truncated);
        upstream.behave(Manner::CutsAndCloses);
        for _ in 0..3 {
            assert!(rig.ask().await.unwrap().truncated);
        }
        assert_eq!(rig.count(&upstream, UpstreamEvent::RetriedOverTcp), 4);
    });
}

/// A query that was not awaited to the end proves nothing, neither about EDNS nor about TCP.
#[test]
fn a_near_deadline_proves_nothing() {
    run(async {
        // Within `read_timeout`, which is 300 ms here.
        let late = Manner::ToOpt(ToOpt::Late(Duration::from_millis(200)));
        let upstream = Upstream::start(60, late);
        let rig = Rig::start(&forward(&[upstream.address])).await;
        let question = question("www.example.org", Transport::Udp);
        let near = |ms| tokio::time::Instant::now() + Duration::from_millis(ms);
        assert!(rig.upstreams.ask(&question, near(100)).await.is_err());
        assert!(rig.ask().await.is_ok());
        assert!(asked(&upstream).iter().all(upstream::Seen::has_opt));

        let upstream = Upstream::start(60, Manner::CutsAndCloses);
        let rig = Rig::start(&forward(&[upstream.address])).await;
        assert!(rig.upstreams.ask(&question, near(290)).await.unwrap().truncated);
        assert!(rig.ask().await.unwrap().truncated);
        assert_eq!(rig.count(&upstream, UpstreamEvent::RetriedOverTcp), 2);
    });
}

#[test]
fn a_lost_packet_to_the_only_upstream_is_resent_soon() {
    run(async {
        let read_timeout = Duration::from_secs(4);
        // Long enough that no pause of the test itself looks like a loss.
        let usual = Duration::from_millis(100);
        // Before its usual time is known, and after.
        let known = (ANSWER_TIMES_MIN, usual * REPEAT_AFTER_P95);
        for (before, soon) in [(0, REPEAT_AFTER_UNKNOWN), known] {
            let upstream = Upstream::start(60, Manner::Slow(usual));
            let options =
                ForwardOptions { hedge: Some(true), read_timeout, ..forward(&[upstream.address]) };
            let rig = Rig::start(&options).await;
            for _ in 0..before {
                assert_eq!(rig.who_answers().await, Some(60));
            }
            let count = || {
                let events = [UpstreamEvent::Hedge, UpstreamEvent::Failed];
                events.map(|event| rig.count(&upstream, event))
            };
            let (seen_before, [hedges, failures]) = (upstream.seen_count(), count());
            upstream.behave(Manner::Loses(seen_before + 1));
            let began = Instant::now();
            assert_eq!(rig.who_answers().await, Some(60));
            assert!((soon..read_timeout).contains(&began.elapsed()), "{before}");
            let [.., lost, answered] = &upstream.seen()[..] else { panic!("not twice") };
            assert_ne!((lost.id(), lost.from), (answered.id(), answered.from));
            assert_eq!(upstream.seen_count(), seen_before + 2);
            assert_eq!(count(), [hedges + 1, failures]);
        }
    });
}

#[test]
fn the_only_upstream_is_asked_three_times_at_most() {
    run(async {
        for (max_connect_attempts, hedge, query_count) in
            [(0, true, 3), (0, false, 2), (1, true, 1), (1, false, 1)]
        {
            let upstream = Upstream::start(60, Manner::Answers);
            let options = ForwardOptions {
                hedge: Some(hedge),
                max_connect_attempts,
                max_fails: 0,
                ..forward(&[upstream.address])
            };
            let rig = Rig::start(&options).await;
            for _ in 0..ANSWER_TIMES_MIN {
                assert!(rig.ask().await.is_ok());
            }
            upstream.behave(Manner::Silent);
            assert!(rig.ask().await.is_err());
            let count = upstream.seen_count() - ANSWER_TIMES_MIN;
            assert_eq!(count, query_count, "{max_connect_attempts} {hedge}");
        }
    });
}

#[test]
fn resends_stay_few_when_the_only_upstream_slows_down() {
    const QUESTIONS: usize = 400;
    run(async {
        let upstream = Upstream::start(60, Manner::Answers);
        let options = ForwardOptions {
            hedge: Some(true),
            read_timeout: Duration::from_secs(4),
            ..forward(&[upstream.address])
        };
        let rig = Rig::start(&options).await;
        for _ in 0..100 {
            assert!(rig.ask().await.is_ok());
        }
        upstream.behave(Manner::Slow(Duration::from_millis(50)));
        let before = upstream.seen_count();
        let answers = futures::future::join_all((0..QUESTIONS).map(|_| rig.ask())).await;
        assert!(answers.iter().all(Result::is_ok));
        let again = upstream.seen_count() - before - QUESTIONS;
        let most = QUESTIONS / 10 + HEDGES_SAVED_MAX as usize;
        assert!((1..=most).contains(&again), "{again}");
    });
}
