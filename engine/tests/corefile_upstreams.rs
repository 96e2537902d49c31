//! The options of the Corefile's plugins about upstreams: `forward`, `cache`, `loop`, and also
//! `timeouts`.

#[path = "corefile/rows.rs"]
mod rows;

use std::time::Duration;

use engine::cache::settings::{CacheSettings, EntryLimits, Prefetch, ServeStale, Stale};
use engine::corefile::value::target::Target;
use engine::forward::options::{
    ForwardOptions, HealthCheck, Policy, UpstreamTls, UpstreamTransport,
};
use engine::plugin::https::Https;
use engine::plugin::timeouts::Timeouts;

use rows::{check, check_mistakes, check_warnings, texts};

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn forward(text: &str) -> ForwardOptions {
    let config = check_warnings(&format!(". {{\n {text}\n}}"), &[]);
    config.blocks[0].line::<ForwardOptions>().unwrap().clone()
}

#[test]
fn forward_defaults() {
    let found = forward(
        "forward . 1.1.1.1 [2001:db8::1]:5353 tls://9.9.9.9%dns.quad9.net /etc/resolv.conf",
    );
    assert_eq!(texts(&found.from), ".");
    let to = [
        Target::Dns(([1, 1, 1, 1], 53).into()),
        Target::Dns("[2001:db8::1]:5353".parse().expect("an address")),
        Target::Tls {
            address: ([9, 9, 9, 9], 853).into(),
            server_name: Some("dns.quad9.net".into()),
        },
        Target::ResolvConf("/etc/resolv.conf".into()),
    ];
    assert_eq!(found.to, to);
    assert_eq!((found.place.file.as_str(), found.place.line), ("Corefile", 2));
    let expected = ForwardOptions {
        place: found.place.clone(),
        from: found.from.clone(),
        except: Vec::new(),
        to: found.to.clone(),
        transport: UpstreamTransport::AsAsked,
        policy: Policy::Random,
        expire: secs(10),
        max_age: None,
        max_idle_conns: None,
        max_fails: 2,
        max_connect_attempts: 0,
        tls: None,
        tls_place: None,
        tls_servername: None,
        health_check: HealthCheck {
            every: Duration::from_millis(500),
            recursion_desired: true,
            domain: found.from[0].clone(),
        },
        max_concurrent: None,
        next: Vec::new(),
        next_on_nodata: false,
        failover: Vec::new(),
        failfast_all_unhealthy_upstreams: false,
        source_address: None,
        read_timeout: secs(2),
        resolver: Vec::new(),
        hedge: None,
        randomize_case: false,
        passes_truncated: false,
        cancel_after: None,
    };
    assert_eq!(found, expected);
    let zones = "0.10.in-addr.arpa.,1.10.in-addr.arpa.";
    assert_eq!(texts(&forward("forward 10.0.0.0/15 1.1.1.1").from), zones);
}

#[test]
fn forward_options() {
    let found = forward(
        "forward corp.local dns.corp.local {\n except a.corp.local b.corp.local\n \
         except c.corp.local\n force_tcp\n \
         prefer_udp\n expire 20s\n max_age 1m\n max_idle_conns 4\n max_fails 0\n \
         max_connect_attempts 3\n tls c k ca\n \
         tls_servername dns.corp.local\n policy sequential\n \
         health_check 5s no_rec domain corp.local\n \
         max_concurrent 1000\n next nxdomain REFUSED\n next_on_nodata\n failover SERVFAIL\n \
         failfast_all_unhealthy_upstreams\n source_address 10.0.0.7\n read_timeout 3s\n \
         resolver 10.0.0.1 [fd00::1]:54\n \
         hedge off\n randomize_case\n truncated pass\n}",
    );
    assert_eq!(texts(&found.except), "a.corp.local.,b.corp.local.,c.corp.local.");
    let host = Target::Host { name: "dns.corp.local".into(), port: 53, is_tls: false };
    assert_eq!(found.to, [host]);
    assert_eq!((found.transport, found.policy), (UpstreamTransport::Tcp, Policy::Sequential));
    assert_eq!(
        (found.expire, found.max_age, found.read_timeout),
        (secs(20), Some(secs(60)), secs(3))
    );
    assert_eq!((found.max_idle_conns, found.max_concurrent), (Some(4), Some(1000)));
    assert_eq!((found.max_fails, found.max_connect_attempts), (0, 3));
    let tls = UpstreamTls { client: Some(("c".into(), "k".into())), authority: Some("ca".into()) };
    assert_eq!(found.tls, Some(tls));
    assert_eq!(found.tls_servername.as_deref(), Some("dns.corp.local"));
    let check = &found.health_check;
    assert_eq!((check.every, check.recursion_desired), (secs(5), false));
    assert_eq!(check.domain.text, "corp.local.");
    assert_eq!((found.next, found.failover), (vec![3, 5], vec![2]));
    assert!(found.next_on_nodata && found.failfast_all_unhealthy_upstreams);
    assert_eq!(found.source_address, Some([10, 0, 0, 7].into()));
    let resolvers = ["10.0.0.1:53", "[fd00::1]:54"].map(|text| text.parse().expect("an address"));
    assert_eq!(found.resolver, resolvers);
    assert!(found.hedge == Some(false) && found.randomize_case && found.passes_truncated);

    let found = forward(
        "forward . tls://1.1.1.1 {\n prefer_udp\n tls ca\n max_age 0s\n max_idle_conns 0\n \
         max_concurrent 0\n hedge on\n}",
    );
    assert_eq!(found.transport, UpstreamTransport::Udp);
    assert_eq!(found.tls, Some(UpstreamTls { client: None, authority: Some("ca".into()) }));
    assert_eq!((found.max_age, found.max_idle_conns, found.max_concurrent), (None, None, None));
    assert_eq!(found.hedge, Some(true));
}

#[test]
fn forward_mistakes() {
    check_mistakes(
        ". {\n forward\n forward .\n forward a..b 1.1.1.1\n forward . 1.1.1.300 https://1.1.1.1 \
         grpc://1.1.1.1\n}",
        &[
            (2, 2, "Wrong argument count or unexpected line ending after 'forward'"),
            (3, 10, "Wrong argument count or unexpected line ending after '.'"),
            (4, 10, "zone is not a valid domain name: a..b"),
            (5, 12, "not an IP address, file, or valid domain: \"1.1.1.300\""),
            (5, 22, "'https://' is known but not built yet"),
            (5, 38, "'grpc' is not supported as a destination protocol in forward: grpc://1.1.1.1"),
        ],
    );
    let many = (1..=16).map(|at| format!("10.0.0.{at} ")).collect::<String>();
    check_mistakes(
        &format!(". {{\n forward . {many}\n}}"),
        &[(2, 153, "more than 15 TOs configured: 16")],
    );
    check_mistakes(
        ". {\n forward . tls://9.9.9.9%a {\n tls_servername b\n max_age 5s\n tls a b c d\n \
         except\n force_tcp 1\n \
         policy best\n max_fails -1\n max_fails 4294967296\n max_concurrent -1\n \
         max_idle_conns x\n expire 5\n \
         read_timeout 0\n doh_method GET\n maxfails 2\n }\n}",
        &[
            (
                2,
                12,
                "both forward ('b') and proxy level ('a') TLS servernames are set for upstream \
                 proxy 'tls://9.9.9.9%a'",
            ),
            (4, 10, "max_age (5s) must not be less than expire (10s)"),
            (5, 12, "Wrong argument count or unexpected line ending after 'd'"),
            (6, 2, "Wrong argument count or unexpected line ending after 'except'"),
            (7, 12, "Wrong argument count or unexpected line ending after '1'"),
            (8, 9, "unknown policy 'best'"),
            (9, 12, "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            (10, 12, "strconv.ParseUint: parsing \"4294967296\": value out of range"),
            (11, 17, "max_concurrent can't be negative: -1"),
            (12, 17, "strconv.Atoi: parsing \"x\": invalid syntax"),
            (13, 9, "time: missing unit in duration \"5\""),
            (14, 15, "read_timeout must be positive: 0s"),
            (15, 2, "'doh_method' is known but not built yet"),
            (16, 2, "unknown property 'maxfails'"),
        ],
    );
    check_mistakes(
        ". {\n forward . 1.1.1.1 {\n health_check\n health_check x no_rec norec domain a..b\n \
         health_check 1s domain\n \
         next\n next NXDOMAINS\n failover NOERROR\n source_address lo\n resolver dns.google\n \
         hedge maybe\n truncated drop\n }\n}",
        &[
            (3, 2, "Wrong argument count or unexpected line ending after 'health_check'"),
            (4, 15, "time: invalid duration \"x\""),
            (4, 24, "health_check: unknown option norec"),
            (4, 37, "health_check: invalid domain name a..b"),
            (5, 18, "Wrong argument count or unexpected line ending after 'domain'"),
            (6, 2, "Wrong argument count or unexpected line ending after 'next'"),
            (7, 7, "NXDOMAINS is not a valid rcode"),
            (8, 11, "NoError cannot be used in failover"),
            (9, 17, "invalid IP address: lo"),
            (10, 11, "resolver must be an IP address or IP:port: \"dns.google\""),
            (11, 8, "hedge must be on or off: maybe"),
            (12, 12, "truncated can only be pass: drop"),
        ],
    );
}

#[test]
fn a_link_local_address_needs_its_interface() {
    let found = forward("forward . fe80::1%eth0 [fe80::2%3]:5353");
    let link_local = |ip: &str, interface: &str, port| Target::LinkLocal {
        ip: ip.parse().expect("an address"),
        interface: interface.into(),
        port,
    };
    assert_eq!(found.to, [link_local("fe80::1", "eth0", 53), link_local("fe80::2", "3", 5353)]);
    check_warnings(
        ". {\n forward . fe80::1 1.1.1.1 tls://fe80::1%a.example\n}",
        &[
            (2, 12, "'fe80::1' is a link-local address without its interface"),
            (2, 28, "'tls://fe80::1%a.example' is a link-local address without its interface"),
        ],
    );
}

#[test]
fn several_forwards() {
    type Row = (&'static str, &'static [(usize, usize, &'static str)]);
    const UNREACHABLE: &str = "no query reaches this 'forward'";
    check(
        ". {\n forward a.example 1.1.1.1\n forward example 1.1.1.1\n forward . 1.1.1.1\n}",
        &["dns://.:53 | forward=a.example. 1 | forward=example. 1 | forward=. 1"],
    );
    let rows: &[Row] = &[
        ("forward . 1.1.1.1\nforward example 1.1.1.1", &[(3, 9, UNREACHABLE)]),
        ("forward example 1.1.1.1\nforward example 2.2.2.2", &[(3, 9, UNREACHABLE)]),
        ("forward 10.0.0.0/8 1.1.1.1\nforward 10.0.0.0/15 1.1.1.1", &[(3, 9, UNREACHABLE)]),
        ("forward 10.0.0.0/16 1.1.1.1\nforward 10.0.0.0/15 1.1.1.1", &[]),
        // What the first `forward` leaves to the second.
        ("forward . 1.1.1.1 {\nexcept example\n}\nforward example 1.1.1.1", &[]),
        ("forward . 1.1.1.1 {\nexcept a.example\n}\nforward example 1.1.1.1", &[]),
        ("forward . 1.1.1.1 {\nnext NXDOMAIN\n}\nforward . 2.2.2.2", &[]),
        ("forward . 1.1.1.1 {\nnext_on_nodata\n}\nforward . 2.2.2.2", &[]),
        ("forward . 1.1.1.1 {\nexcept other\n}\nforward example 1.1.1.1", &[(5, 9, UNREACHABLE)]),
        ("forward . 1.1.1.1 1.1.1.1:53", &[(2, 19, "'1.1.1.1:53' is named twice")]),
        ("forward . 1.1.1.1 {\nhealth_check 0\n}", &[(3, 14, "health_check is less than 10ms")]),
    ];
    for (lines, warnings) in rows {
        check_warnings(&format!(". {{\n{lines}\n}}"), warnings);
    }
    check_warnings(
        "example.org {\n forward example.com 1.1.1.1\n forward org 1.1.1.1\n}",
        &[(2, 10, UNREACHABLE)],
    );
}

fn cache(text: &str) -> CacheSettings {
    let config = check_warnings(&format!("example.org {{\n {text}\n}}"), &[]);
    config.blocks[0].line::<CacheSettings>().cloned().expect("a cache")
}

#[test]
fn cache_options() {
    let found = cache("cache");
    let share = |ttl_max| EntryLimits { capacity: 9984, ttl_max: secs(ttl_max), ttl_min: secs(5) };
    let expected = CacheSettings {
        zones: found.zones.clone(),
        success: share(3600),
        denial: share(1800),
        servfail: secs(5),
        prefetch: None,
        serve_stale: None,
        disable_success: Vec::new(),
        disable_denial: Vec::new(),
        keepttl: false,
    };
    assert_eq!(found, expected);
    assert_eq!(texts(&found.zones), "example.org.");

    let found = cache("cache 30 a.example.org b.example.org");
    assert_eq!((found.success, found.denial), (share(30), share(30)));
    assert_eq!(texts(&found.zones), "a.example.org.,b.example.org.");

    let found = cache(
        "cache 900 {\n success 100\n denial 9000 30 0\n prefetch 5 10m 20%\n \
         serve_stale_policy prefer_positive\n \
         serve_stale 2h Verify 100ms 30s 1m\n servfail 0\n disable success cluster.local\n \
         disable denial\n keepttl\n}",
    );
    assert_eq!(found.success, EntryLimits { capacity: 1024, ..share(900) });
    let denial = EntryLimits { capacity: 9000, ttl_max: secs(30), ttl_min: Duration::ZERO };
    assert_eq!(found.denial, denial);
    assert_eq!(found.prefetch, Some(Prefetch { amount: 5, within: secs(600), percentage: 20 }));
    let mode = Stale::Verify {
        timeout: Some(Duration::from_millis(100)),
        ttl: secs(30),
        recheck: Some(secs(60)),
    };
    let stale = ServeStale { keep: secs(7200), mode, prefers_positive: true };
    assert_eq!(found.serve_stale, Some(stale));
    assert!(found.servfail.is_zero() && found.keepttl);
    assert_eq!(texts(&found.disable_success), "cluster.local.");
    assert_eq!(texts(&found.disable_denial), ".");

    let immediate = |ttl: u64, recheck| {
        let mode = Stale::Immediate { ttl: secs(ttl), recheck };
        Some(ServeStale { keep: secs(3600), mode, prefers_positive: false })
    };
    assert_eq!(cache("cache {\n serve_stale\n}").serve_stale, immediate(0, None));
    let found = cache("cache {\n serve_stale 1h immediate 30s 0s\n prefetch 2\n}");
    assert_eq!(found.serve_stale, immediate(30, Some(secs(0))));
    assert_eq!(found.prefetch, Some(Prefetch { amount: 2, within: secs(60), percentage: 10 }));
    assert_eq!(cache("cache {\n serve_stale 0\n prefetch 0\n}").serve_stale, None);
}

#[test]
fn cache_mistakes() {
    check_mistakes(
        ". {\n cache 0\n cache\n}\na {\n cache -5 b..c {\n success\n success x\n denial 5 0 1 2\n \
         denial 1 1 -1\n \
         success 99999999\n prefetch\n prefetch -1\n prefetch 1 1m 20\n prefetch 1 1m 95%\n \
         servfail 6m\n disable\n \
         disable all\n keepttl yes\n ttl 5\n }\n}",
        &[
            (2, 8, "cache TTL can not be zero or negative: 0"),
            (3, 2, "this plugin can only be used once per Server Block"),
            (6, 8, "cache TTL can not be zero or negative: -5"),
            (7, 2, "Wrong argument count or unexpected line ending after 'success'"),
            (8, 10, "strconv.Atoi: parsing \"x\": invalid syntax"),
            (9, 15, "Wrong argument count or unexpected line ending after '2'"),
            (10, 13, "cache min TTL can not be negative: -1"),
            (11, 10, "more than 16777216 entries: 99999999"),
            (12, 2, "Wrong argument count or unexpected line ending after 'prefetch'"),
            (13, 11, "prefetch amount should be positive: -1"),
            (14, 16, "last character of percentage should be `%`, but is: '0'"),
            (15, 16, "percentage should fall in range [10, 90]: 95"),
            (16, 11, "caching SERVFAIL responses over 5 minutes is not permitted"),
            (17, 2, "Wrong argument count or unexpected line ending after 'disable'"),
            (18, 10, "cache type for disable must be \"success\" or \"denial\""),
            (19, 10, "Wrong argument count or unexpected line ending after 'yes'"),
            (20, 2, "unknown property 'ttl'"),
        ],
    );
    check_mistakes(
        ". {\n cache {\n serve_stale -1s\n serve_stale 1h later\n \
         serve_stale 1h immediate 1s 1s 1s\n \
         serve_stale 1h verify 1s 1.5s\n serve_stale 1h verify 1s 1s 6m\n \
         serve_stale 1h verify x\n \
         serve_stale_policy prefer_positive\n serve_stale_policy prefer_positive\n }\n}\na {\n \
         cache {\n \
         serve_stale_policy prefer_positive\n }\n}\nb {\n cache {\n serve_stale_policy never\n }\n\
         }",
        &[
            (3, 14, "negative duration \"-1s\""),
            (4, 17, "invalid value for serve_stale refresh mode: later"),
            (5, 33, "Wrong argument count or unexpected line ending after '1s'"),
            (6, 27, "serve_stale response TTL must be a whole number of seconds"),
            (7, 30, "serve_stale failure recheck cannot exceed 5 minutes"),
            (8, 24, "invalid serve_stale verify timeout: time: invalid duration \"x\""),
            (10, 2, "serve_stale_policy can only be specified once"),
            (15, 2, "serve_stale_policy requires serve_stale"),
            (20, 21, "invalid serve_stale_policy: never"),
        ],
    );
    check_warnings(
        ". {\n cache {\n  disable success a\n  disable success b\n }\n}",
        &[(4, 3, "'disable success' is set twice")],
    );
}

#[test]
fn loop_options() {
    check(". {\n loop\n}", &["dns://.:53 | loop=false"]);
    check(". {\n loop fatal\n}", &["dns://.:53 | loop=true"]);
    check_mistakes(
        ". {\n loop fatl\n loop\n}\na {\n loop fatal x {\n }\n}",
        &[
            (2, 7, "unknown argument 'fatl'"),
            (3, 2, "this plugin can only be used once per Server Block"),
            (6, 13, "Wrong argument count or unexpected line ending after 'x'"),
            (6, 15, "'loop' takes no block"),
        ],
    );
}

#[test]
fn timeouts() {
    let found = check_warnings(
        ". {\n timeouts {\n  read 20s\n  write 1m30s\n }\n timeouts {\n  idle 60\n  \
         maxtcpqueries 128\n }\n}\n\
         a {\n timeouts {\n  maxtcpqueries -1\n }\n}",
        &[],
    );
    let first =
        Timeouts { read: secs(20), write: secs(90), idle: secs(60), max_tcp_queries: Some(128) };
    let second = Timeouts { read: secs(3), write: secs(5), idle: secs(10), max_tcp_queries: None };
    assert_eq!(found.blocks[0].line(), Some(&first));
    assert_eq!(found.blocks[1].line(), Some(&second));
    check_mistakes(
        ". {\n timeouts 5s\n timeouts\n timeouts {\n }\n timeouts {\n  read 500ms\n  write 25h\n  \
         idle x\n  \
         maxtcpqueries 0\n  maxtcpqueries many\n  reed 5s\n }\n}",
        &[
            (2, 11, "Wrong argument count or unexpected line ending after '5s'"),
            (3, 2, "timeouts block with no timeouts specified"),
            (4, 2, "timeouts block with no timeouts specified"),
            (7, 8, "timeout provided '500ms' needs to be between 1 second and 24 hours"),
            (8, 9, "timeout provided '25h0m0s' needs to be between 1 second and 24 hours"),
            (9, 8, "failed to parse duration 'x'"),
            (10, 17, "maxtcpqueries provided '0' needs to be -1 (unlimited) or a positive integer"),
            (
                11,
                17,
                "invalid value for maxtcpqueries 'many': strconv.Atoi: parsing \"many\": invalid \
                 syntax",
            ),
            (12, 3, "unknown property 'reed'"),
        ],
    );
}

#[test]
fn https() {
    let found = check_warnings(
        "https://. https://a:8443 {\n https {\n  max_connections 5\n }\n https {\n  \
         max_streams 0\n }\n}\n",
        &[],
    );
    let keys: Vec<_> = found.blocks[0].keys.iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["https://.:443", "https://a.:8443"]);
    let expected = Https { max_connections: Some(5), max_streams: Some(0) };
    assert_eq!(found.blocks[0].line(), Some(&expected));
    let message = "'https' in a block without a zone that begins with `https://`";
    check_warnings(". tls://b {\n https {\n }\n}", &[(2, 2, message)]);
    check_mistakes(
        "https://. {\n https on\n https {\n  max_connections -1\n  max_streams many\n }\n https \
         {\n  max_streams 5 6\n  max_streams 5\n  max_streams 6\n  path /q\n }\n}",
        &[
            (2, 8, "Wrong argument count or unexpected line ending after 'on'"),
            (4, 19, "max_connections must be a non-negative integer: -1"),
            (
                5,
                15,
                "invalid max_streams value 'many': strconv.Atoi: parsing \"many\": invalid syntax",
            ),
            (8, 17, "Wrong argument count or unexpected line ending after '6'"),
            (10, 3, "max_streams already defined for this server block"),
            (11, 3, "unknown property 'path'"),
        ],
    );
}
