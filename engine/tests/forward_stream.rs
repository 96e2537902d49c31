//! Upstreams over TCP and TLS: how connections are shared, kept, found closed and verified.

mod upstream;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use engine::client::Transport;
use engine::corefile::value::target::Target;
use engine::forward::options::{ForwardOptions, UpstreamTls, UpstreamTransport};
use engine::forward::{FailureCause, ForwardFailure};
use engine::limits::{UPSTREAM_CONNECTIONS_OPENING_MAX, UPSTREAM_PIPELINE_MAX};
use engine::metrics::UpstreamEvent;
use futures::future::join_all;
use upstream::{
    Identity, Manner, Rig, Trust, Upstream, deadline, forward, question, run, until, unused_address,
};

/// `force_tcp`
fn over_tcp(upstream: &Upstream) -> ForwardOptions {
    ForwardOptions { transport: UpstreamTransport::Tcp, ..forward(&[upstream.address]) }
}

#[test]
fn connections_are_kept_for_the_corefiles_time() {
    let ms = Duration::from_millis;
    run(async {
        for (what, options, connection_count) in [
            ("default", forward(&[]), 1),
            ("expire", ForwardOptions { expire: ms(20), ..forward(&[]) }, 3),
            ("max_age", ForwardOptions { max_age: Some(ms(20)), ..forward(&[]) }, 3),
        ] {
            let upstream = Upstream::start(60, Manner::Answers);
            let options = ForwardOptions { to: over_tcp(&upstream).to, ..options };
            let rig =
                Rig::start(&ForwardOptions { transport: UpstreamTransport::Tcp, ..options }).await;
            for _ in 0..3 {
                assert_eq!(rig.who_answers().await, Some(60), "{what}");
                tokio::time::sleep(ms(60)).await;
            }
            assert_eq!(upstream.connection_count(), connection_count, "{what}");
            let kept = rig.count(&upstream, UpstreamEvent::TcpKept) as usize;
            let opened = rig.count(&upstream, UpstreamEvent::TcpOpened) as usize;
            assert_eq!((opened, kept), (connection_count, 3 - connection_count), "{what}");
        }
        let upstream = Upstream::start(60, Manner::Slow(ms(50)));
        let options = ForwardOptions { max_idle_conns: Some(1), ..over_tcp(&upstream) };
        let rig = Rig::start(&options).await;
        for connection_count in [4, 7] {
            let answers = join_all((0..4).map(|_| rig.ask())).await;
            assert!(answers.iter().all(Result::is_ok));
            assert_eq!(upstream.connection_count(), connection_count, "one is kept of four");
        }
    });
}

#[test]
fn a_closed_idle_connection_is_replaced_without_a_failure() {
    run(async {
        let upstream = Upstream::start(60, Manner::ClosesAfterAnswer);
        let rig = Rig::start(&over_tcp(&upstream)).await;
        for _ in 0..20 {
            assert_eq!(rig.who_answers().await, Some(60));
        }
        assert_eq!(upstream.connection_count(), 20);
        assert_eq!(rig.count(&upstream, UpstreamEvent::Failed), 0);
        // A new connection that closes is a failure.
        upstream.behave(Manner::CutsAndCloses);
        let Err(ForwardFailure::Exchange(failure)) = rig.ask().await else { panic!("no failure") };
        assert_eq!(failure.cause, FailureCause::Closed);
    });
}

#[test]
fn many_queries_share_few_connections_and_answers_match() {
    const QUESTIONS: usize = 1000;
    run(async {
        let upstream = Upstream::start(60, Manner::Slow(Duration::from_millis(100)));
        let options =
            ForwardOptions { read_timeout: Duration::from_secs(4), ..over_tcp(&upstream) };
        let rig = Rig::start(&options).await;
        let questions: Vec<_> =
            (0..QUESTIONS).map(|n| question(&format!("n{n}.example"), Transport::Udp)).collect();
        let answers =
            join_all(questions.iter().map(|one| rig.upstreams.ask(one, deadline()))).await;
        // An answer must match the question's name too.
        assert!(answers.iter().all(Result::is_ok));
        let from: BTreeSet<_> = upstream.seen().iter().map(|seen| seen.from).collect();
        assert_eq!(upstream.seen_count(), QUESTIONS);
        // A burst opens few connections, and more only when those are crowded.
        let few = UPSTREAM_CONNECTIONS_OPENING_MAX..=QUESTIONS / (UPSTREAM_PIPELINE_MAX / 2) + 1;
        assert!(few.contains(&from.len()), "{} connections", from.len());
    });
}

#[test]
fn a_connection_with_an_unanswered_query_is_not_reused() {
    run(async {
        let upstream = Upstream::start(60, Manner::Answers);
        let options = ForwardOptions { max_connect_attempts: 1, ..over_tcp(&upstream) };
        let rig = Rig::start(&options).await;
        assert_eq!(rig.who_answers().await, Some(60));
        upstream.behave(Manner::Silent);
        let Err(ForwardFailure::Exchange(failure)) = rig.ask().await else { panic!("no failure") };
        assert_eq!(failure.cause, FailureCause::ReadTimeout);
        assert!(failure.to_string().contains("read tcp 127.0.0.1:"), "{failure}");
        let (unanswered, seen_count) = (upstream.seen()[1].from, upstream.seen_count());
        upstream.behave(Manner::Answers);
        until("it is checked", || upstream.seen_count() > seen_count).await;
        assert_eq!(rig.who_answers().await, Some(60));
        assert!(upstream.seen()[2..].iter().all(|seen| seen.from != unanswered));
    });
}

#[test]
fn if_nothing_listens_the_next_upstream_is_asked() {
    run(async {
        let good = Upstream::start(60, Manner::Answers);
        let to = forward(&[unused_address(), good.address]).to;
        let rig = Rig::start(&ForwardOptions { to, ..over_tcp(&good) }).await;
        assert_eq!(rig.who_answers().await, Some(60));
        let rig =
            Rig::start(&ForwardOptions { to: forward(&[unused_address()]).to, ..over_tcp(&good) })
                .await;
        let failure = rig.ask().await.unwrap_err().to_string();
        assert_eq!(failure, format!("dial tcp {}: connect: connection refused", unused_address()));
    });
}

#[test]
fn a_tls_upstream_must_have_the_right_name() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::new(&["dns.example", "127.0.0.1"]);
    let stranger = tempfile::tempdir().unwrap();
    let authority = identity.write_authority(folder.path());
    let other_authority = Identity::new(&[]).write_authority(stranger.path());
    run(async {
        let upstream = Upstream::start_tls(60, Manner::Answers, &identity);
        let check = async |own: Option<&str>, common: Option<&str>, authority: &_, is_ok| {
            let server_name = own.map(str::to_owned);
            let options = ForwardOptions {
                to: vec![Target::Tls { address: upstream.address, server_name }],
                tls_servername: common.map(str::to_owned),
                tls: Some(UpstreamTls { client: None, authority: Some(PathBuf::clone(authority)) }),
                ..forward(&[])
            };
            let rig = Rig::start(&options).await;
            let outcome = rig.ask().await;
            assert_eq!(outcome.is_ok(), is_ok, "{own:?} {common:?}: {outcome:?}");
            if let Err(failure) = outcome {
                let ForwardFailure::Exchange(failure) = failure else { panic!("{failure}") };
                assert!(matches!(failure.cause, FailureCause::Handshake(_)), "{failure}");
                return;
            }
            assert_eq!(rig.who_answers().await, Some(60));
            assert_eq!(rig.count(&upstream, UpstreamEvent::TlsOpened), 1);
            assert_eq!(rig.count(&upstream, UpstreamEvent::TlsKept), 1);
        };
        check(None, None, &authority, true).await;
        check(Some("dns.example"), None, &authority, true).await;
        check(None, Some("dns.example"), &authority, true).await;
        check(Some("dns.example"), Some("wrong.example"), &authority, true).await;
        check(Some("wrong.example"), Some("dns.example"), &authority, false).await;
        check(None, Some("wrong.example"), &authority, false).await;
        check(None, None, &other_authority, false).await;
        assert!(upstream.seen().iter().all(|seen| seen.is_tcp));
    });
}

/// `tls CA` may name an authority's certificate, or the server's own, as in Go. Name and validity
/// are always verified.
#[test]
fn a_tls_upstream_is_trusted_by_its_authority_or_its_own_certificate() {
    use Trust::{Authority, Pinned, SelfSigned, SelfSignedAuthority};
    const NAMES: &[&str] = &["dns.example", "127.0.0.1"];
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    run(async {
        let check = async |identity: Identity, server_name: Option<&str>, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let upstream = Upstream::start_tls(60, Manner::Answers, &identity);
            let authority = identity.write_authority(folder.path());
            let options = ForwardOptions {
                to: vec![Target::Tls { address: upstream.address, server_name: None }],
                tls_servername: server_name.map(str::to_owned),
                tls: Some(UpstreamTls { client: None, authority: Some(authority) }),
                ..forward(&[])
            };
            let outcome = Rig::start(&options).await.ask().await;
            let shown = outcome.map_or_else(|failure| failure.to_string(), |_| "answered".into());
            assert!(shown.contains(expected), "{server_name:?}: {shown}");
        };
        for trust in [Authority, SelfSignedAuthority, SelfSigned, Pinned] {
            let identity = |last_year| Identity::with(NAMES, trust, p256, last_year);
            check(identity(4096), Some("dns.example"), "answered").await;
            check(identity(4096), None, "answered").await;
            check(identity(4096), Some("other.example"), "not valid for name").await;
            check(identity(2020), Some("dns.example"), "expired").await;
            let old = Identity { is_old: true, ..identity(4096) };
            check(old, Some("dns.example"), "answered").await;
        }
        for algorithm in [&rcgen::PKCS_ECDSA_P521_SHA512, &rcgen::PKCS_ED25519] {
            let identity = Identity::with(NAMES, Authority, algorithm, 4096);
            check(identity, Some("dns.example"), "answered").await;
        }
        let other = Identity::new(NAMES);
        let unknown = Identity { authority: other.authority, ..Identity::new(NAMES) };
        check(unknown, None, "is signed by no CA of `tls CA`").await;
    });
}

#[test]
fn a_tls_upstream_is_checked_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::new(&["127.0.0.1"]);
    let authority = identity.write_authority(folder.path());
    run(async {
        let upstream = Upstream::start_tls(60, Manner::Silent, &identity);
        let options = ForwardOptions {
            to: vec![Target::Tls { address: upstream.address, server_name: None }],
            tls: Some(UpstreamTls { client: None, authority: Some(authority) }),
            max_fails: 1,
            ..forward(&[])
        };
        let rig = Rig::start(&options).await;
        assert!(rig.ask().await.is_err());
        until("it is down", || rig.count(&upstream, UpstreamEvent::WentDown) == 1).await;
        upstream.behave(Manner::Answers);
        until("it is back", || rig.count(&upstream, UpstreamEvent::CameBack) == 1).await;
        assert!(upstream.seen().iter().all(|seen| seen.is_tcp));
        assert_eq!(rig.who_answers().await, Some(60));
    });
}
