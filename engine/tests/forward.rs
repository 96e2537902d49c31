//! Queries to upstreams over real sockets: which upstream is asked, which response is accepted, and
//! what happens to upstreams that misbehave.

mod upstream;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use engine::client::Transport;
use engine::forward::options::{ForwardOptions, Policy, UpstreamTransport};
use engine::forward::{FailureCause, ForwardFailure};
use engine::limits::HEDGES_SAVED_MAX;
use engine::metrics::{Format, UpstreamEvent};
use upstream::{Manner, Rig, Upstream, deadline, forward, question, run, until, unused_address};

#[test]
fn a_query_uses_the_clients_transport_or_the_corefiles() {
    use UpstreamTransport::{AsAsked, Tcp, Udp};
    run(async {
        for (option, client, is_tcp) in [
            (AsAsked, Transport::Udp, false),
            (AsAsked, Transport::Tcp, true),
            (Tcp, Transport::Udp, true),
            (Tcp, Transport::Tcp, true),
            (Udp, Transport::Udp, false),
            (Udp, Transport::Tcp, false),
        ] {
            let upstream = Upstream::start(60, Manner::Answers);
            let options = ForwardOptions { transport: option, ..forward(&[upstream.address]) };
            let rig = Rig::start(&options).await;
            let answer =
                rig.upstreams.ask(&question("a.example", client), deadline()).await.unwrap();
            assert_eq!((answer.answer_count(), answer.truncated), (1, false));
            let seen = upstream.seen();
            assert_eq!((seen.len(), seen[0].is_tcp), (1, is_tcp), "{option:?} {client:?}");
        }
    });
}

/// All other tests of this file run in the runtime of the recvmmsg backend.
#[test]
fn the_runtime_of_the_uring_backend_works_too() {
    tokio_uring::start(async {
        let silent = Upstream::start(61, Manner::Silent);
        let good = Upstream::start(60, Manner::Cuts);
        let options =
            ForwardOptions { hedge: Some(true), ..forward(&[silent.address, good.address]) };
        let rig = Rig::start(&options).await;
        assert_eq!(rig.who_answers().await, Some(60));
        assert_eq!(rig.count(&good, UpstreamEvent::Hedge), 1);
        let seen = good.seen();
        assert_eq!((seen.len(), seen[1].is_tcp), (2, true));
        let tcp = question("www.example.org", Transport::Tcp);
        assert!(rig.upstreams.ask(&tcp, deadline()).await.is_ok());
        assert_eq!(good.connection_count(), 1);
    });
}

#[test]
fn the_next_upstream_is_asked_after_one_without_an_answer() {
    run(async {
        let good = Upstream::start(60, Manner::Answers);
        for manner in [Manner::Silent, Manner::Malformed] {
            let bad = Upstream::start(61, manner);
            let rig = Rig::start(&forward(&[bad.address, good.address])).await;
            assert_eq!(rig.who_answers().await, Some(60), "{manner:?}");
            assert_eq!(rig.count(&bad, UpstreamEvent::Failed), 1, "{manner:?}");
        }
        let options = ForwardOptions {
            read_timeout: Duration::from_secs(4),
            ..forward(&[unused_address(), good.address])
        };
        let began = Instant::now();
        assert_eq!(Rig::start(&options).await.who_answers().await, Some(60));
        assert!(began.elapsed() < options.read_timeout, "refused by ICMP is not waited for");
    });
}

#[test]
fn the_failure_has_a_reason_if_no_upstream_answers() {
    run(async {
        for (manner, cause) in [
            (Manner::Silent, FailureCause::ReadTimeout),
            (Manner::Malformed, FailureCause::Malformed),
        ] {
            let upstream = Upstream::start(60, manner);
            let options = ForwardOptions { max_fails: 0, ..forward(&[upstream.address]) };
            let rig = Rig::start(&options).await;
            let Err(ForwardFailure::Exchange(failure)) = rig.ask().await else {
                panic!("{manner:?}")
            };
            assert_eq!(failure.cause, cause);
            assert_eq!(failure.to, upstream.address);
            assert_eq!(upstream.seen_count(), 2, "each twice, while that is few");
        }
        let rig = Rig::start(&forward(&[unused_address()])).await;
        let failure = rig.ask().await.unwrap_err().to_string();
        assert!(failure.ends_with(": read: connection refused"), "{failure}");
        let good = Upstream::start(60, Manner::Answers);
        let options = ForwardOptions {
            max_connect_attempts: 1,
            ..forward(&[unused_address(), good.address])
        };
        assert!(Rig::start(&options).await.ask().await.is_err());
    });
}

#[test]
fn only_the_answer_to_the_question_is_accepted() {
    run(async {
        let upstream = Upstream::start(60, Manner::ForgeriesFirst(80));
        let rig = Rig::start(&forward(&[upstream.address])).await;
        assert_eq!(rig.who_answers().await, Some(60));
        assert_eq!(rig.count(&upstream, UpstreamEvent::Foreign), 80);
        assert_eq!(
            upstream.seen_count(),
            1,
            "forgeries are waited out, not answered by asking anew"
        );

        // The kernel drops packets from other addresses.
        upstream.behave(Manner::OtherPortFirst);
        assert_eq!(rig.who_answers().await, Some(60));

        let options = ForwardOptions { randomize_case: true, ..forward(&[upstream.address]) };
        let rig = Rig::start(&options).await;
        upstream.behave(Manner::Answers);
        assert_eq!(rig.who_answers().await, Some(60));
        upstream.behave(Manner::Lowers);
        // 13 letters: all of them are lower case by chance once in 8,192.
        assert_eq!(rig.who_answers().await, None);
        assert!(rig.count(&upstream, UpstreamEvent::Foreign) > 0);
    });
}

#[test]
fn a_truncated_answer_is_requested_over_tcp_or_passed() {
    run(async {
        for (manner, passes, client, expected) in [
            (Manner::Cuts, false, Transport::Udp, Some((1, false))),
            (Manner::Cuts, true, Transport::Udp, Some((0, true))),
            (Manner::CutsAndCloses, false, Transport::Udp, Some((0, true))),
            (Manner::CutsAndCloses, false, Transport::Tcp, None),
        ] {
            let upstream = Upstream::start(60, manner);
            let options = ForwardOptions {
                transport: UpstreamTransport::Udp,
                passes_truncated: passes,
                max_fails: 0,
                ..forward(&[upstream.address])
            };
            let rig = Rig::start(&options).await;
            let answer = rig.upstreams.ask(&question("a.example", client), deadline()).await.ok();
            let answer = answer.map(|one| (one.answer_count(), one.truncated));
            assert_eq!(answer, expected, "{manner:?} {passes} {client:?}");
        }
    });
}

#[test]
fn response_codes_fail_over_if_the_corefile_lists_them() {
    run(async {
        let refuses = Upstream::start(61, Manner::Says(Rcode::REFUSED));
        let good = Upstream::start(60, Manner::Answers);
        let both = forward(&[refuses.address, good.address]);
        for (failover, rcode) in [(vec![], 5), (vec![2], 5), (vec![2, 5], 0)] {
            let rig = Rig::start(&ForwardOptions { failover, ..both.clone() }).await;
            assert_eq!(rig.ask().await.unwrap().rcode, rcode);
        }
        // What all upstreams respond is passed on.
        let options = ForwardOptions { failover: vec![5], ..forward(&[refuses.address]) };
        assert_eq!(Rig::start(&options).await.ask().await.unwrap().rcode, 5);
        let dead =
            ForwardOptions { failover: vec![5], ..forward(&[refuses.address, unused_address()]) };
        assert_eq!(Rig::start(&dead).await.ask().await.unwrap().rcode, 5);
        // A response is no failed attempt; a refused or silent upstream is one.
        let silent = Upstream::start(62, Manner::Silent);
        let also = Upstream::start(61, Manner::Says(Rcode::REFUSED));
        for (max_connect_attempts, between, rcode) in
            [(1, &also, 0), (1, &silent, 5), (2, &silent, 0)]
        {
            let options = ForwardOptions {
                failover: vec![5],
                max_connect_attempts,
                policy: Policy::Sequential,
                max_fails: 0,
                ..forward(&[refuses.address, between.address, good.address])
            };
            let response = Rig::start(&options).await.ask().await.unwrap();
            assert_eq!(response.rcode, rcode, "{max_connect_attempts}");
        }

        let options = ForwardOptions { next: vec![5], ..forward(&[refuses.address]) };
        let rig = Rig::start(&options).await;
        let response = rig.ask().await.unwrap();
        assert!(rig.upstreams.passes_on(&response));
        refuses.behave(Manner::Says(Rcode::NOERROR));
        let response = rig.ask().await.unwrap();
        assert!(!rig.upstreams.passes_on(&response));
        let options = ForwardOptions { next_on_nodata: true, ..options };
        assert!(Rig::start(&options).await.upstreams.passes_on(&response));
    });
}

#[test]
fn policies_distribute_queries() {
    const QUESTIONS: usize = 120;
    run(async {
        for (policy, expected) in [
            (Policy::Sequential, [120..=120, 0..=0, 0..=0]),
            (Policy::RoundRobin, [40..=40, 40..=40, 40..=40]),
            // Within six standard deviations of a third.
            (Policy::Random, [10..=70, 10..=70, 10..=70]),
        ] {
            let upstreams = [0, 1, 2].map(|ttl_secs| Upstream::start(ttl_secs, Manner::Answers));
            let to = [0, 1, 2].map(|index: usize| upstreams[index].address);
            let rig = Rig::start(&ForwardOptions { policy, ..forward(&to) }).await;
            for _ in 0..QUESTIONS {
                assert!(rig.ask().await.is_ok());
            }
            for (upstream, expected) in upstreams.iter().zip(expected) {
                let count = upstream.seen_count();
                assert!(expected.contains(&count), "{policy:?}: {count} not in {expected:?}");
            }
        }
    });
}

#[test]
fn a_failing_upstream_is_checked_excluded_and_readmitted() {
    run(async {
        let first = Upstream::start(61, Manner::Silent);
        let second = Upstream::start(60, Manner::Answers);
        let rig = Rig::start(&forward(&[first.address, second.address])).await;
        assert_eq!(rig.who_answers().await, Some(60));
        until("it is down", || rig.count(&first, UpstreamEvent::WentDown) == 1).await;
        assert!(rig.count(&first, UpstreamEvent::CheckFailed) >= 2);
        let asked = |of: &Upstream| of.seen_count() - of.check_count();
        let asked_before = asked(&first);
        for _ in 0..20 {
            assert_eq!(rig.who_answers().await, Some(60));
        }
        assert_eq!(asked(&first), asked_before, "nothing but checks");

        first.behave(Manner::Answers);
        until("it is back", || rig.count(&first, UpstreamEvent::CameBack) == 1).await;
        assert_eq!(rig.who_answers().await, Some(61));
        let checks = first.check_count();
        // No event shows that nothing happens.
        tokio::time::sleep(4 * rig.settings.options.health_check.every).await;
        assert_eq!(first.check_count(), checks, "checks end when it is well");
        assert_eq!(second.check_count(), 0, "and none begin where nothing failed");
    });
}

#[test]
fn if_all_are_down_one_is_tried_unless_that_is_off() {
    run(async {
        let upstream = Upstream::start(60, Manner::Silent);
        for failfast in [false, true] {
            upstream.behave(Manner::Silent);
            let options = ForwardOptions {
                failfast_all_unhealthy_upstreams: failfast,
                // So rarely that only queries find it healthy again.
                health_check: engine::forward::options::HealthCheck {
                    every: Duration::from_secs(60),
                    ..forward(&[]).health_check
                },
                max_fails: 1,
                ..forward(&[upstream.address])
            };
            let rig = Rig::start(&options).await;
            assert!(rig.ask().await.is_err());
            until("it is down", || rig.count(&upstream, UpstreamEvent::WentDown) == 1).await;
            upstream.behave(Manner::Answers);
            if failfast {
                assert_eq!(rig.ask().await.unwrap_err(), ForwardFailure::NoneHealthy);
            } else {
                assert_eq!(rig.who_answers().await, Some(60));
                assert_eq!(rig.count(&upstream, UpstreamEvent::CameBack), 1);
            }
            let text = String::from_utf8(rig.metrics.scrape(Format::Prometheus)).unwrap();
            assert!(text.contains("coredns_forward_healthcheck_broken_total 1"), "{text}");
        }
    });
}

#[test]
fn a_late_upstream_is_hedged_and_then_excluded() {
    run(async {
        let silent = Upstream::start(61, Manner::Silent);
        let good = Upstream::start(60, Manner::Answers);
        let options = ForwardOptions {
            hedge: Some(true),
            read_timeout: Duration::from_secs(4),
            ..forward(&[silent.address, good.address])
        };
        let rig = Rig::start(&options).await;
        let began = Instant::now();
        for _ in 0..10 {
            assert_eq!(rig.who_answers().await, Some(60));
        }
        // After three hedges it is checked, and while the checks fail the other upstream is asked
        // first.
        assert_eq!(rig.count(&good, UpstreamEvent::Hedge), 3);
        assert_eq!(silent.seen_count() - silent.check_count(), 3);

        // More at once than may be hedged: the others wait no longer than the first check.
        let rig = Rig::start(&options).await;
        let answers = futures((0..200).map(|_| rig.who_answers())).await;
        assert_eq!(answers, [Some(60); 200]);
        assert!(began.elapsed() < options.read_timeout, "{:?}", began.elapsed());
        assert_eq!(rig.upstreams.in_flight(), 0);
    });
}

/// What the next upstream says does not count while one that may answer is asked.
#[test]
fn a_slow_upstream_is_not_outrun_by_another_that_has_no_answer() {
    const SLOW: Manner = Manner::Slow(Duration::from_millis(150));
    run(async {
        for (hedge, says, hedged) in
            [(None, Rcode::NXDOMAIN, false), (Some(true), Rcode::REFUSED, true)]
        {
            let slow = Upstream::start(61, SLOW);
            let other = Upstream::start(60, Manner::Says(says));
            let options = ForwardOptions {
                hedge,
                read_timeout: Duration::from_secs(4),
                ..forward(&[slow.address, other.address])
            };
            let rig = Rig::start(&options).await;
            for _ in 0..3 {
                let answers = futures((0..4).map(|_| rig.who_answers())).await;
                assert_eq!(answers, [Some(61); 4], "{hedge:?}");
            }
            assert_eq!(other.seen_count() > 0, hedged, "{hedge:?}");
            // One that fails its check is not waited for.
            slow.behave(Manner::Silent);
            other.behave(Manner::Answers);
            let began = Instant::now();
            assert_eq!(rig.who_answers().await, Some(60), "{hedge:?}");
            assert!(began.elapsed() < options.read_timeout, "{:?}", began.elapsed());
            // Being outrun by a hedge is no failure.
            let failure_count = u64::from(!hedged);
            assert_eq!(rig.count(&slow, UpstreamEvent::Failed), failure_count, "{hedge:?}");
        }
    });
}

#[test]
fn hedges_stay_few_when_all_upstreams_slow_down() {
    const QUESTIONS: u64 = 400;
    run(async {
        let upstreams = [0, 1].map(|ttl_secs| Upstream::start(ttl_secs, Manner::Answers));
        let to = [upstreams[0].address, upstreams[1].address];
        let options =
            ForwardOptions { hedge: Some(true), policy: Policy::RoundRobin, ..forward(&to) };
        let rig = Rig::start(&options).await;
        for _ in 0..100 {
            assert!(rig.ask().await.is_ok());
        }
        for upstream in &upstreams {
            upstream.behave(Manner::Slow(Duration::from_millis(20)));
        }
        let answers = futures((0..QUESTIONS).map(|_| rig.ask())).await;
        assert!(answers.iter().all(Result::is_ok));
        let hedges: u64 = upstreams.iter().map(|one| rig.count(one, UpstreamEvent::Hedge)).sum();
        assert!((1..=QUESTIONS / 10 + u64::from(HEDGES_SAVED_MAX)).contains(&hedges), "{hedges}");
    });
}

#[test]
fn no_more_queries_are_in_flight_than_max_concurrent() {
    run(async {
        let upstream = Upstream::start(60, Manner::Slow(Duration::from_millis(100)));
        let options = ForwardOptions { max_concurrent: Some(2), ..forward(&[upstream.address]) };
        let rig = Rig::start(&options).await;
        for _ in 0..3 {
            let answers = futures((0..5).map(|_| rig.ask())).await;
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
            let refused = Err(ForwardFailure::TooMany { max: 2 });
            assert_eq!(answers.iter().filter(|answer| **answer == refused).count(), 3);
        }
        let text = String::from_utf8(rig.metrics.scrape(Format::Prometheus)).unwrap();
        assert!(text.contains("coredns_forward_max_concurrent_rejects_total 9"), "{text}");
    });
}

#[test]
fn a_thousand_queries_at_once_release_their_slots() {
    const QUESTIONS: usize = 1000;
    run(async {
        let upstream = Upstream::start(60, Manner::Slow(Duration::from_secs(1)));
        let options =
            ForwardOptions { read_timeout: Duration::from_secs(4), ..forward(&[upstream.address]) };
        let rig = Rig::start(&options).await;
        let mut asks = Vec::new();
        for number in 0..QUESTIONS {
            let upstreams = Rc::clone(&rig.upstreams);
            let question = question(&format!("n{number}.example"), Transport::Udp);
            let ask = async move { upstreams.ask(&question, deadline()).await };
            asks.push(tokio::task::spawn_local(ask));
            if number % 100 == 99 {
                // The upstream's socket does not hold a thousand queries.
                until("they are there", || upstream.seen_count() == asks.len()).await;
            }
        }
        assert_eq!(rig.upstreams.in_flight(), QUESTIONS);
        for ask in asks {
            assert!(ask.await.unwrap().is_ok());
        }
        assert_eq!(upstream.seen_count(), QUESTIONS, "each once");
        assert_eq!(rig.upstreams.in_flight(), 0);

        // A cancelled query releases its slot too.
        upstream.behave(Manner::Silent);
        let given_up =
            tokio::time::timeout(Duration::from_millis(50), futures((0..100).map(|_| rig.ask())));
        assert!(given_up.await.is_err());
        assert_eq!(rig.upstreams.in_flight(), 0);
    });
}

#[test]
fn ids_and_ports_cannot_be_guessed() {
    const QUESTIONS: usize = 4000;
    run(async {
        let upstream = Upstream::start(60, Manner::Answers);
        let rig = Rig::start(&forward(&[upstream.address])).await;
        for _ in 0..QUESTIONS {
            assert!(rig.ask().await.is_ok());
        }
        let seen = upstream.seen();
        let ids: Vec<u16> = seen.iter().map(upstream::Seen::id).collect();
        let ports: Vec<u16> = seen.iter().map(|seen| seen.from.port()).collect();
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let range: Vec<u16> = range.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(chi_square(&ids, 0, u16::MAX) < CHI_SQUARE_MAX, "ids: {ids:?}");
        assert!(chi_square(&ports, range[0], range[1]) < CHI_SQUARE_MAX, "ports: {ports:?}");
        assert!(ports.iter().collect::<BTreeSet<_>>().len() >= 1024);
        // Nor does one follow from the previous one.
        let steps = |of: &[u16]| -> Vec<u16> {
            of.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect()
        };
        assert!(chi_square(&steps(&ids), 0, u16::MAX) < CHI_SQUARE_MAX, "steps of ids: {ids:?}");
    });
}

/// With 63 degrees of freedom, a fair generator exceeds this once in 10^6 tests.
const CHI_SQUARE_MAX: f64 = 130.0;

/// How far the values of a range are from an even distribution over 64 parts of it.
fn chi_square(values: &[u16], least: u16, greatest: u16) -> f64 {
    let mut counts = [0_f64; 64];
    let width = f64::from(greatest - least) + 1.0;
    for value in values {
        counts[(f64::from(value - least) / width * 64.0) as usize] += 1.0;
    }
    let expected = values.len() as f64 / 64.0;
    counts.iter().map(|count| (count - expected).powi(2) / expected).sum()
}

/// Runs all of them at once.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    ::futures::future::join_all(all).await
}
