//! What the control plane makes of a `forward` line, and how it learns of upstreams that loop.

mod upstream;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::client::Transport;
use engine::corefile::value::target::Target;
use engine::corefile::value::zone::Zone;
use engine::forward::options::{ForwardOptions, UpstreamTls};
use engine::forward::{AddressOrigin, ForwardFailure, ForwardSettings, TYPE_HINFO, Upstreams, Way};
use engine::metrics::{Build, Format, Metrics};
use upstream::{Manner, Upstream, deadline, forward, question, run, until, unused_address};

fn metrics() -> Metrics {
    let build = Build::default();
    Metrics::new(build, 1)
}

async fn load(options: &ForwardOptions) -> Result<ForwardSettings, String> {
    let loaded = ForwardSettings::load(options, None, &metrics()).await;
    loaded.map_err(|error| error.to_string())
}

#[test]
fn upstreams_keep_the_order_of_addresses_files_and_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 10.0.0.2\nnameserver 10.0.0.3\n").unwrap();
    run(async {
        // The test upstream answers every question with 192.0.2.1, AAAA included.
        let resolver = Upstream::start(60, Manner::Answers);
        let host = |name: &str| Target::Host { name: name.into(), port: 5353, is_tls: false };
        let options = ForwardOptions {
            to: vec![
                Target::Dns("10.0.0.1:54".parse().unwrap()),
                Target::ResolvConf(path.clone()),
                host("dns.example"),
            ],
            resolver: vec![unused_address(), resolver.address],
            ..forward(&[])
        };
        let settings = load(&options).await.unwrap();
        let found: Vec<_> = settings
            .upstreams
            .iter()
            .map(|one| (one.address.to_string(), one.origin.clone()))
            .collect();
        let file = AddressOrigin::ResolvConf(path.clone());
        let expected = [
            ("10.0.0.1:54", AddressOrigin::Corefile),
            ("10.0.0.2:53", file.clone()),
            ("10.0.0.3:53", file),
            ("192.0.2.1:5353", AddressOrigin::Host("dns.example".into())),
        ];
        assert_eq!(found, expected.map(|(address, origin)| (address.to_owned(), origin)));
        assert!(settings.upstreams.iter().all(|one| matches!(one.way, Way::Dns)));
        assert_eq!(settings.files, [path]);
        assert_eq!(resolver.seen_count(), 2, "A and AAAA");

        // Without `resolver` the system's resolver is used.
        let options = ForwardOptions { to: vec![host("localhost")], resolver: vec![], ..options };
        let settings = load(&options).await.unwrap();
        assert!(settings.upstreams.iter().all(|one| one.address.ip().is_loopback()));
    });
}

/// Of a resolver that answers one of the two questions.
#[test]
fn the_addresses_of_one_family_are_enough() {
    run(async {
        let resolver = Upstream::start(60, Manner::Loses(1));
        let to = Target::Host { name: "dns.example".into(), port: 5353, is_tls: false };
        let options =
            ForwardOptions { to: vec![to], resolver: vec![resolver.address], ..forward(&[]) };
        let settings = load(&options).await.unwrap();
        let found: Vec<_> = settings.upstreams.iter().map(|one| one.address.to_string()).collect();
        assert_eq!(found, ["192.0.2.1:5353"]);
    });
}

#[test]
fn unusable_targets_are_reported_with_their_cause() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let empty = file("empty", "# nothing\n");
    let names = file("names", "nameserver dns.example\n");
    let not_pem = file("not.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let missing = folder.path().join("missing");
    let tls_to = vec![Target::Tls { address: unused_address(), server_name: None }];
    let tls = |authority: &Path| ForwardOptions {
        to: tls_to.clone(),
        tls: Some(UpstreamTls { client: None, authority: Some(authority.to_owned()) }),
        ..forward(&[])
    };
    let resolv_conf = |path: &Path| ForwardOptions {
        to: vec![Target::ResolvConf(path.to_owned())],
        ..forward(&[])
    };
    let host = Target::Host { name: "dns.example".into(), port: 53, is_tls: false };
    run(async {
        let silent = Upstream::start(60, Manner::Says(domain::base::iana::Rcode::NXDOMAIN));
        for (options, named, cause) in [
            (resolv_conf(&missing), "missing", "No such file"),
            (resolv_conf(&empty), "empty", "it has no line `nameserver ADDRESS`"),
            (resolv_conf(&names), "names", "line 1: `nameserver dns.example` is not an IP address"),
            (tls(&missing), "missing", "No such file"),
            (tls(&empty), "empty", "no certificate"),
            (tls(&not_pem), "not.pem", "base64"),
            (
                ForwardOptions {
                    tls_servername: Some("not a name".into()),
                    to: tls_to.clone(),
                    ..forward(&[])
                },
                "not a name",
                "not a valid name for a TLS certificate",
            ),
            (
                ForwardOptions {
                    to: vec![host.clone()],
                    resolver: vec![silent.address],
                    ..forward(&[])
                },
                "dns.example",
                "no address",
            ),
            (
                ForwardOptions {
                    to: vec![host.clone()],
                    resolver: vec![unused_address()],
                    ..forward(&[])
                },
                "dns.example",
                "127.9.9.9:53: ",
            ),
        ] {
            let error = load(&options).await.unwrap_err();
            assert!(error.contains(named) && error.contains(cause), "{error}");
        }
    });
}

/// Usable targets are used, and the others are reported.
#[test]
fn one_unusable_name_server_does_not_affect_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    let file = |text: &str| {
        let path = folder.path().join(number.replace(number.get() + 1).to_string());
        std::fs::write(&path, text).unwrap();
        Target::ResolvConf(path)
    };
    let servers = |range: std::ops::Range<u8>| -> String {
        range.map(|n| format!("nameserver 10.0.0.{n}\n")).collect()
    };
    let link_local = |interface: &str| Target::LinkLocal {
        ip: "fe80::1".parse().unwrap(),
        interface: interface.into(),
        port: 53,
    };
    let dns = |text: &str| Target::Dns(text.parse().unwrap());
    let first_ten: Vec<_> = (1..11).map(|n| format!("10.0.0.{n}:53")).collect();
    let first_ten: Vec<_> = first_ten.iter().map(String::as_str).collect();
    run(async {
        let check = async |to: Vec<Target>, expected: &[&str], warnings: &[&str]| {
            let settings = load(&ForwardOptions { to: to.clone(), ..forward(&[]) }).await.unwrap();
            let found: Vec<_> =
                settings.upstreams.iter().map(|one| one.address.to_string()).collect();
            assert_eq!(found, expected, "{to:?}");
            assert_eq!(settings.warnings.len(), warnings.len(), "{:?}", settings.warnings);
            for (warning, expected) in settings.warnings.iter().zip(warnings) {
                assert!(warning.contains(expected), "{warning}");
            }
        };
        let ten = || vec![file(&servers(1..11))];
        check(ten(), &first_ten, &[]).await;
        let mut twenty = ten();
        twenty.push(file(&servers(11..21)));
        let settings = load(&ForwardOptions { to: twenty, ..forward(&[]) }).await.unwrap();
        assert_eq!(settings.upstreams.len(), 15);
        assert_eq!(settings.upstreams[14].address.to_string(), "10.0.0.15:53");
        assert!(settings.warnings[0].contains("the first 15 of 20"), "{:?}", settings.warnings);

        check(vec![link_local("lo")], &["[fe80::1%1]:53"], &[]).await;
        check(vec![file("nameserver fe80::1%lo")], &["[fe80::1%1]:53"], &[]).await;
        let ok = || dns("10.0.0.1:53");
        let no_interface = "fe80::1%none-0 cannot be reached: there is no interface none-0";
        check(vec![link_local("none-0"), ok()], &["10.0.0.1:53"], &[no_interface]).await;
        let both = "nameserver fe80::1%none-0\nnameserver 10.0.0.1";
        check(vec![file(both)], &["10.0.0.1:53"], &[no_interface]).await;
        // Names of upstreams fail then, and the cluster's are answered.
        check(vec![link_local("none-0")], &["[fe80::1]:53"], &[no_interface]).await;
        check(vec![file("nameserver fe80::1%none-0")], &["[fe80::1]:53"], &[no_interface]).await;
        check(vec![dns("[fe80::1]:53"), ok()], &["10.0.0.1:53"], &[]).await;
        check(vec![dns("0.0.0.0:5353")], &["127.0.0.1:5353"], &[]).await;
        let empty = "no line `nameserver ADDRESS`";
        check(vec![file("search a.example"), ok()], &["10.0.0.1:53"], &[empty]).await;
    });
}

#[test]
fn an_upstream_that_returns_the_probe_is_removed_and_reported() {
    run(async {
        let looping = Upstream::start(61, Manner::Silent);
        let good = Upstream::start(60, Manner::Answers);
        let metrics = metrics();
        let options = forward(&[looping.address, good.address]);
        let zone = Zone::root();
        let settings =
            Arc::new(ForwardSettings::load(&options, Some(&zone), &metrics).await.unwrap());
        let upstreams = Upstreams::new(&settings, 0, &metrics.shard(0));
        until("both are probed", || looping.seen_count() > 0 && good.seen_count() > 0).await;
        let [of_looping, of_good] = [&looping, &good].map(|upstream| {
            let seen = upstream.seen().remove(0);
            assert_eq!(seen.qtype(), TYPE_HINFO);
            seen.message[12..12 + 17 + 17 + 1].to_vec()
        });
        assert_ne!(of_looping, of_good);

        // Incoming probes: another server's, one that was answered, and one in flight.
        assert!(!settings.is_own_probe(b"\x03www\x07example\0"));
        let question = question("www.example.org", Transport::Udp);
        for _ in 0..5 {
            // Answered after the probe.
            assert!(upstreams.ask(&question, deadline()).await.is_ok());
        }
        assert!(!settings.is_own_probe(&of_good));
        assert!(settings.upstreams.iter().all(|upstream| !upstream.is_looping()));
        assert!(settings.is_own_probe(&of_looping));

        let [reported, fine] = &settings.upstreams[..] else { panic!("two upstreams") };
        assert!(reported.is_looping() && !fine.is_looping());
        assert!(reported.loop_message().contains(&looping.address.to_string()));
        let fatal = reported.fatal_loop_message(&zone, ":53").unwrap();
        assert!(
            fatal.contains("-> :53) detected for zone \".\", see https://coredns.io/plugins/loop#")
        );
        assert_eq!(fine.fatal_loop_message(&zone, ":53"), None);
        let of = |upstream: &Upstream| {
            format!(
                "ringdns_forward_upstream_loops{{proxy_name=\"forward\",to=\"{}\"}}",
                upstream.address
            )
        };
        let text = String::from_utf8(metrics.scrape(Format::Prometheus)).unwrap();
        assert!(text.contains(&format!("{} 1", of(&looping))), "{text}");
        assert!(text.contains(&format!("{} 0", of(&good))), "{text}");

        looping.behave(Manner::Answers);
        for _ in 0..5 {
            let answer = upstreams.ask(&question, deadline()).await.unwrap();
            assert_eq!(answer.ttl_secs_min, Some(60));
        }
        drop((upstreams, settings));
        // Tasks in progress release the settings within one try.
        until("it is forgotten", || metrics.upstream(looping.address).loop_count() == 0).await;
    });
}

#[test]
fn the_message_names_the_file_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.53\n").unwrap();
    run(async {
        let at = |address: [u8; 4]| Target::Dns(SocketAddr::from((Ipv4Addr::from(address), 53)));
        let to = vec![Target::ResolvConf(path.clone()), at([127, 0, 0, 1]), at([10, 0, 0, 1])];
        let settings = load(&ForwardOptions { to, ..forward(&[]) }).await.unwrap();
        let messages: Vec<_> =
            settings.upstreams.iter().map(engine::forward::Upstream::loop_message).collect();
        for (message, parts) in messages.iter().zip([
            ["127.0.0.53:53 (from ", "resolv.conf) ", "/run/systemd/resolve/resolv.conf"],
            ["127.0.0.1:53 ", "this server itself", "real resolvers"],
            ["10.0.0.1:53 ", "it forwards to this server", "configuration"],
        ]) {
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    });
}

#[test]
fn if_all_upstreams_loop_none_is_asked() {
    run(async {
        let upstream = Upstream::start(60, Manner::Silent);
        let metrics = metrics();
        let options = forward(&[upstream.address]);
        let settings =
            ForwardSettings::load(&options, Some(&Zone::root()), &metrics).await.unwrap();
        let settings = Arc::new(settings);
        let upstreams = Upstreams::new(&settings, 0, &metrics.shard(0));
        until("it is probed", || upstream.seen_count() > 0).await;
        assert!(settings.is_own_probe(&upstream.seen()[0].message[12..12 + 17 + 17 + 1]));
        let outcome = upstreams.ask(&question("www.example.org", Transport::Udp), deadline()).await;
        assert_eq!(outcome, Err(ForwardFailure::NoneHealthy));
    });
}
