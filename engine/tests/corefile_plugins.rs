//! The options of the Corefile's plugins: every one that works, and mistakes in them. Those about
//! upstreams are in `corefile_upstreams.rs`.

#[path = "corefile/rows.rs"]
mod rows;

use std::path::PathBuf;
use std::time::Duration;

use engine::plugin::health::Health;
use engine::plugin::hosts::{Hosts, HostsSettings};
use engine::plugin::kubernetes::cluster::{ApiLimits, ClientTls, Cluster};
use engine::plugin::kubernetes::{Kubernetes, Namespaces, Pods};

use rows::{check, check_mistakes, check_warnings, parse, parse_as, texts};

#[test]
fn operational_plugins() {
    check(
        ". {\n errors stdout {\n stacktrace\n }\n health {$POD_IP}:8081 {\n lameduck 1m5s\n }\n \
         ready [::1]:1 {\n monitor continuously\n }\n prometheus :9153\n reload 10s 20s\n \
         loadbalance round_robin\n}",
        &["dns://.:53 | errors=true | health=10.0.0.7 8081 65s | ready=::1 1 Continuously | \
             prometheus=* 9153 | reload=10s 5s | loadbalance"],
    );
    check(
        ". {\n prometheus\n reload\n bind eth0 lo 10.0.0.7 {\n except ::1\n }\n}",
        &["dns://.:53 | bind=10.0.0.7%0 | bind=fe80::7%2 | bind=127.0.0.1%0 | \
             prometheus=127.0.0.1 9153 | reload=30s 15s"],
    );
    check(
        ". {\n health :1 {\n lameduck 1s\n }\n health :2\n loadbalance\n loadbalance\n}",
        &["dns://.:53 | health=* 2 1s | loadbalance"],
    );
    check(
        "a {\n bind 127.0.0.1\n}\na {\n bind 127.0.0.2\n}",
        &["dns://a.:53 | bind=127.0.0.1%0", "dns://a.:53 | bind=127.0.0.2%0"],
    );
}

#[test]
fn a_negative_lameduck_is_none() {
    let config = check_warnings(
        ". {\n health {\n lameduck 5s\n }\n health {\n lameduck -1s\n }\n}",
        &[(6, 11, "'lameduck' is negative")],
    );
    let health = config.blocks[0].line::<Health>().expect("its line");
    assert_eq!(health.lameduck, Duration::ZERO);
}

#[test]
fn consolidated_errors() {
    check(
        ". {\n errors {\n consolidate 5m \".* i/o timeout$\" warning\n consolidate 30s ^Failed\n \
         consolidate 1m x info show_first\n consolidate 1m y show_first\n }\n}",
        &["dns://.:53 | errors=false | consolidate=300s .* i/o timeout$ Warning false \
             | consolidate=30s ^Failed Error false | consolidate=60s x Info true | \
             consolidate=60s y Error true"],
    );
    let long = "x".repeat(10_001);
    check_mistakes(
        &format!(
            ". {{\n errors {{\n consolidate 5m\n consolidate 5 x\n consolidate 5m (x\n \
             consolidate 5m {long}\n \
             consolidate 5m x warn\n consolidate 5m x info error\n \
             consolidate 5m x show_first info\n \
             consolidate 5m x info show_first y\n }}\n}}"
        ),
        &[
            (3, 14, "Wrong argument count or unexpected line ending after '5m'"),
            (4, 14, "time: missing unit in duration \"5\""),
            (5, 17, "error parsing regexp: missing closing ): `(x`"),
            (6, 17, "regex pattern too long: 10001 > 10000"),
            (7, 19, "unknown option in consolidate: warn"),
            (8, 24, "multiple log levels specified in consolidate"),
            (9, 30, "log level must come before show_first in consolidate"),
            (10, 35, "Wrong argument count or unexpected line ending after 'y'"),
        ],
    );
}

#[test]
fn operational_mistakes() {
    check_mistakes(
        "a {\n bind 127.0.0.1\n}\na {\n}",
        &[(
            4,
            1,
            "cannot serve dns://a.:53 - zone overlap listener capacity with dns://a.:53 on \
             127.0.0.1",
        )],
    );
    check_mistakes(
        ". {\n errors\n errors\n ready\n ready\n prometheus\n prometheus\n}",
        &[
            (3, 2, "this plugin can only be used once per Server Block"),
            (5, 2, "this plugin can only be used once per Server Block"),
            (7, 2, "this plugin can only be used once per Server Block"),
        ],
    );
    check_mistakes(
        ". {\n health 8080 x\n health 8080\n ready {\n monitor never\n }\n prometheus {\n \
         runtime_metrics\n }\n}",
        &[
            (2, 14, "Wrong argument count or unexpected line ending after 'x'"),
            (3, 9, "address 8080: missing port in address"),
            (5, 10, "monitor type 'never' not supported"),
            (8, 2, "'runtime_metrics' is known but not built yet"),
        ],
    );
    check_mistakes(
        ". {\n health {\n lameduck 5\n }\n reload 1s\n reload 10s 10ms\n reload off\n}",
        &[
            (
                3,
                11,
                "unable to parse lameduck duration value: '5' : time: missing unit in duration \
                 \"5\"",
            ),
            (5, 9, "interval value must be greater or equal to 2s"),
            (6, 13, "jitter value must be 0 or greater or equal to 1s"),
            (7, 9, "time: invalid duration \"off\""),
        ],
    );
    check_mistakes(
        ". {\n bind eth9 lo\n bind\n loadbalance weighted f\n loadbalance robin {\n prefer ::/0\n \
         }\n errors file\n}\na {\n bind lo {\n except lo\n }\n}",
        &[
            (2, 7, "not a valid IP address or interface name: \"eth9\""),
            (3, 2, "Wrong argument count or unexpected line ending after 'bind'"),
            (4, 14, "'weighted' is known but not built yet"),
            (5, 14, "unknown policy: robin"),
            (6, 2, "'prefer' is known but not built yet"),
            (8, 9, "invalid log file: file"),
            (11, 2, "every address to bind is excluded"),
        ],
    );
    check_mistakes(". {\n bind eth1\n}", &[(2, 7, "the interface 'eth1' has no address")]);
    let help = |word: &str| {
        let report = parse(&format!(". {{\n bind {word}\n}}")).expect_err("a mistake");
        let help = report.findings().next().and_then(|finding| finding.help);
        help.unwrap_or_default().to_owned()
    };
    assert!(help("127.0.0.1:53").contains("belongs to the zone"));
    assert!(help("fe80::1%eth0").contains("the interface alone"));
    assert!(help("10.0.0.1/8").contains("without a length"));
    assert!(help("*").contains("delete `bind`"));
    assert!(help("localhost").contains("127.0.0.1"));
    check_warnings(". {\n reload 10s\n reload 20s\n}", &[(3, 2, "'reload' is set twice")]);
}

fn kubernetes(text: &str) -> Kubernetes {
    let config = check_warnings(&format!(". {{\n{text}\n}}"), &[]);
    config.blocks[0].line::<Kubernetes>().cloned().expect("a kubernetes block")
}

#[test]
fn kubernetes_defaults() {
    let found = kubernetes("kubernetes cluster.local");
    assert_eq!(texts(&found.zones), "cluster.local.");
    let expected = Kubernetes {
        zones: found.zones.clone(),
        cluster: Cluster::OwnPod,
        place: found.place.clone(),
        source_place: found.place.clone(),
        api_limits: ApiLimits::default(),
        namespaces: Namespaces::All,
        labels: None,
        pods: Pods::Disabled,
        endpoint_pod_names: false,
        ttl_secs: 5,
        no_endpoints: false,
        ignore_empty_service: false,
        fallthrough: Vec::new(),
        startup_timeout: Duration::from_secs(5),
        snapshot: None,
    };
    assert_eq!(found, expected);
    assert_eq!(found.place.to_string(), "Corefile:2");
    assert_eq!(texts(&kubernetes("kubernetes").zones), ".");
    let found = kubernetes("kubernetes 10.96.0.0/15 fd00::/8 {$DOMAIN} cluster.local. a");
    let zones = "96.10.in-addr.arpa.,97.10.in-addr.arpa.,d.f.ip6.arpa.,cluster.local.,a.";
    assert_eq!(texts(&found.zones), zones);
    assert_eq!(found.primary_zone().map(|zone| zone.text.as_str()), Some("cluster.local."));
}

#[test]
fn kubernetes_options() {
    let found = kubernetes(
        "kubernetes cluster.local in-addr.arpa {\n pods insecure\n endpoint_pod_names\n ttl 30\n \
         noendpoints\n \
         fallthrough in-addr.arpa 10.0.0.0/8\n ignore empty_service\n startup_timeout 1m\n \
         namespaces a b\n \
         namespaces b c\n labels environment in (production, qa)\n apiserver_qps 2.5\n \
         apiserver_burst 10\n \
         apiserver_max_inflight 3\n endpoint https://10.0.0.1:6443\n tls c k ca\n}",
    );
    assert_eq!((found.pods, found.ttl_secs), (Pods::Insecure, 30));
    assert!(found.endpoint_pod_names && found.no_endpoints && found.ignore_empty_service);
    assert_eq!(texts(&found.fallthrough), "in-addr.arpa.,10.in-addr.arpa.");
    assert_eq!(found.startup_timeout, Duration::from_secs(60));
    assert_eq!(found.namespaces, Namespaces::Named(["a", "b", "c"].map(str::to_owned).to_vec()));
    assert_eq!(
        found.labels.map(|labels| labels.text).as_deref(),
        Some("environment in (production, qa)")
    );
    let limits = ApiLimits { qps: Some(2.5), burst: Some(10), max_inflight: Some(3) };
    assert_eq!(found.api_limits, limits);
    let tls = ClientTls { certificate: "c".into(), key: "k".into(), authority: "ca".into() };
    let url = "https://10.0.0.1:6443".to_owned();
    assert_eq!(found.cluster, Cluster::Endpoint { url, tls: Some(tls) });
    let found = kubernetes(
        "kubernetes a {\n fallthrough\n namespace_labels x=y\n pods verified\n kubeconfig f ctx\n}",
    );
    assert_eq!(texts(&found.fallthrough), ".");
    assert!(matches!(&found.namespaces, Namespaces::Labelled(selector) if selector.text == "x=y"));
    let context = Some("ctx".to_owned());
    assert_eq!(found.cluster, Cluster::Kubeconfig { file: "f".into(), context });
    let found = parse_as("/etc/coredns/Corefile", "a {\n kubernetes {\n manifests b /c\n }\n}")
        .expect("no mistake");
    let cluster = found.blocks[0].line::<Kubernetes>().map(|kubernetes| &kubernetes.cluster);
    let paths = vec![PathBuf::from("/etc/coredns/b"), PathBuf::from("/c")];
    assert_eq!(cluster, Some(&Cluster::Manifests(paths)));
    let found = parse_as("/etc/coredns/Corefile", "a {\n kubernetes {\n snapshot b/c\n }\n}")
        .expect("no mistake");
    let file = found.blocks[0].line::<Kubernetes>().and_then(|line| line.snapshot.clone());
    assert_eq!(file, Some(PathBuf::from("/etc/coredns/b/c")));
}

#[test]
fn kubernetes_mistakes() {
    check_mistakes(
        "10.0.0.0/8 {\n kubernetes\n kubernetes 10.0.0.0/8\n}\na {\n \
         kubernetes 10.0.0.0/8 9.ip6.arpa\n}",
        &[
            (2, 2, "non-reverse zone name must be used"),
            (3, 2, "this plugin can only be used once per Server Block"),
            (6, 13, "non-reverse zone name must be used"),
        ],
    );
    check_mistakes(
        ". {\n kubernetes a b..c {\n podz\n pods all\n pods\n ttl 4000\n ttl 5 6\n upstream\n \
         resyncperiod\n transfer to *\n \
         multicluster a\n zonal\n ignore x\n labels =\n startup_timeout 5\n apiserver_qps -1\n \
         apiserver_burst x\n noendpoints 1\n }\n}",
        &[
            (3, 2, "unknown property 'podz'"),
            (4, 7, "wrong value for pods: all,  must be one of: disabled, verified, insecure"),
            (5, 2, "Wrong argument count or unexpected line ending after 'pods'"),
            (6, 6, "ttl must be in range [0, 3600]: 4000"),
            (7, 8, "Wrong argument count or unexpected line ending after '6'"),
            (8, 2, "unknown property 'upstream'"),
            (9, 2, "unknown property 'resyncperiod'"),
            (10, 2, "unknown property 'transfer'"),
            (11, 2, "'multicluster' is known but not built yet"),
            (12, 2, "'zonal' is known but not built yet"),
            (13, 9, "unable to parse ignore value: 'x'"),
            (
                14,
                9,
                "unable to parse label selector value: '=': found '=', expected a label's name",
            ),
            (15, 18, "failed to parse startup_timeout: 5, time: missing unit in duration \"5\""),
            (16, 16, "invalid apiserver_qps \"-1\""),
            (17, 18, "invalid apiserver_burst \"x\""),
            (18, 14, "Wrong argument count or unexpected line ending after '1'"),
        ],
    );
    check_mistakes(
        ". {\n kubernetes a {\n namespaces a\n namespace_labels b\n manifests x\n endpoint y\n \
         kubeconfig z\n tls a b c\n snapshot s\n }\n}",
        &[
            (4, 2, "namespaces and namespace_labels cannot both be set"),
            (6, 2, "manifests and endpoint cannot both be set"),
            (7, 2, "manifests and kubeconfig cannot both be set"),
            (8, 2, "manifests and tls cannot both be set"),
            (9, 2, "manifests and snapshot cannot both be set"),
        ],
    );
    check_warnings(
        ". {\n kubernetes a {\n ttl 5\n ttl 6\n endpoint a b\n kubeconfig z\n tls a b c\n }\n}",
        &[
            (4, 2, "'ttl' is set twice"),
            (5, 2, "'endpoint' is ignored because 'kubeconfig' is set"),
            (
                5,
                13,
                "Multiple endpoints have been deprecated, only the first specified endpoint 'a' \
                 is used",
            ),
            (7, 2, "'tls' is ignored because 'kubeconfig' is set"),
        ],
    );
    check_warnings(
        ". {\n kubernetes a {\n tls a b c\n }\n}",
        &[(3, 2, "'tls' is used only with 'endpoint'")],
    );
}

#[test]
fn kubernetes_snapshot_mistakes() {
    check_mistakes(
        ". {\n kubernetes a {\n snapshot\n snapshot a b\n snapshot a/\n snapshot /\n }\n}",
        &[
            (3, 2, "Wrong argument count or unexpected line ending after 'snapshot'"),
            (4, 13, "Wrong argument count or unexpected line ending after 'b'"),
            (5, 11, "'a/' is not the name of a file"),
            (6, 11, "'/' is not the name of a file"),
        ],
    );
}

fn hosts(text: &str) -> Hosts {
    let config = check_warnings(&format!("lan test {{\n{text}\n}}"), &[]);
    config.blocks[0].line::<Hosts>().cloned().expect("a hosts block")
}

#[test]
fn hosts_defaults() {
    let found = hosts("hosts");
    let expected = Hosts {
        settings: HostsSettings {
            file: "/etc/hosts".into(),
            zones: found.settings.zones.clone(),
            inline: Vec::new(),
            ttl_secs: 3600,
            no_reverse: false,
            reload: Duration::from_secs(5),
            falls_through_everywhere: false,
        },
        fallthrough: Vec::new(),
        passes_unsupported: false,
        place: found.place.clone(),
    };
    assert_eq!(found, expected);
    assert_eq!(texts(&found.settings.zones), "lan.,test.");
    assert_eq!(found.place.to_string(), "Corefile:2");
    // Between `cache` and `kubernetes`, wherever the line is.
    check(
        ". {\n kubernetes cluster.local\n hosts /a/b Lan 10.0.0.0/8 lan\n cache\n}",
        &["dns://.:53 | cache=. | hosts=/a/b lan.,10.in-addr.arpa. 0 | kubernetes=cluster.local."],
    );
}

#[test]
fn hosts_options() {
    let found = hosts(
        "hosts names lan {\n 10.0.0.1 db.lan DB2.lan. # db3.lan\n \"fd00::1%eth0 six.lan\"\n \
         10.0.0.9 *.lan\n ttl 60\n no_reverse\n reload 0\n fallthrough\n \
         fallthrough_unsupported\n}",
    );
    assert_eq!(found.settings.file, PathBuf::from("names"));
    let entries = found.settings.inline.iter();
    let entries = entries.map(|one| format!("{} {}", one.address, one.name.escape_ascii()));
    assert_eq!(
        entries.collect::<Vec<_>>(),
        [
            r"10.0.0.1 \x02db\x03lan\x00",
            r"10.0.0.1 \x03db2\x03lan\x00",
            r"fd00::1 \x03six\x03lan\x00",
            r"10.0.0.9 \x01*\x03lan\x00",
        ]
    );
    assert_eq!((found.settings.ttl_secs, found.settings.reload), (60, Duration::ZERO));
    assert!(found.settings.no_reverse && found.passes_unsupported);
    assert_eq!(texts(&found.fallthrough), ".");
    assert_eq!(hosts("hosts {\n ttl 65535\n reload 1.5h\n}").settings.ttl_secs, 65535);
}

#[test]
fn hosts_fall_through_everywhere() {
    let check = |text: &str, expected: bool| {
        let config = check_warnings(text, &[]);
        let hosts = config.blocks[0].line::<Hosts>().expect("a hosts block");
        assert_eq!(hosts.settings.falls_through_everywhere, expected, "{text}");
    };
    check(". {\n hosts\n}", false);
    check(". {\n hosts {\n fallthrough\n }\n}", true);
    check(". {\n hosts f lan {\n fallthrough lan\n }\n}", true);
    check(". {\n hosts f lan test {\n fallthrough lan\n }\n}", false);
    check(". {\n hosts f a.lan {\n fallthrough lan\n }\n}", true);
    check(". {\n hosts f lan {\n fallthrough a.lan\n }\n}", false);
    // The block serves no other names.
    check("lan {\n hosts f . {\n fallthrough lan\n }\n}", true);
    check("lan test {\n hosts f . {\n fallthrough lan\n }\n}", false);
    check("lan {\n hosts f lan test {\n fallthrough lan\n }\n}", true);
}

#[test]
fn hosts_mistakes() {
    check_mistakes(
        ". {\n hosts {\n ttl\n ttl x\n ttl 0\n ttl 65536\n ttl -5\n reload\n \
         reload 1s 2s\n reload 5\n reload -5s\n fallthrough_unsupported x\n \
         fallthrough_unsupported\n }\n hosts\n}",
        &[
            (3, 2, "ttl needs a time in second"),
            (4, 6, "ttl needs a number of second"),
            (5, 6, "ttl provided is invalid"),
            (6, 6, "ttl provided is invalid"),
            (7, 6, "ttl provided is invalid"),
            (8, 2, "reload needs a duration (zero seconds to disable)"),
            (9, 12, "reload needs a duration (zero seconds to disable)"),
            (10, 9, "invalid duration for reload '5'"),
            (11, 9, "invalid negative duration for reload '-5s'"),
            (12, 26, "Wrong argument count or unexpected line ending after 'x'"),
            (13, 2, "fallthrough_unsupported requires fallthrough"),
            (15, 2, "this plugin can only be used once per Server Block"),
        ],
    );
    // After `fallthrough` there are only options.
    check_mistakes(
        ". {\n hosts {\n 10.0.0.1 a\n fallthrough\n 10.0.0.2 b\n tll 5\n }\n}",
        &[(5, 2, "unknown property '10.0.0.2'"), (6, 2, "unknown property 'tll'")],
    );
    check_mistakes(
        ". {\n hosts {\n 10.0.0.1 a {\n x\n }\n ttl 5 {\n x\n }\n }\n}",
        &[(3, 13, "an entry takes no block"), (6, 8, "'ttl' takes no block")],
    );
    check_warnings(
        "lan {\n hosts {\n tll 60\n db.lan 10.0.0.1\n 10.0.0.1\n \
         10.0.0.1 a.lan b.test c..lan lan\n ttl 5 x\n ttl 6\n no_reverse x\n fallthrough b..c\n \
         }\n}",
        &[
            (3, 2, "'tll' is neither an option nor an IP address"),
            (4, 2, "'db.lan' is neither an option nor an IP address"),
            (5, 2, "'10.0.0.1' has no name"),
            (6, 17, "'b.test' is in no zone of this `hosts`"),
            (6, 24, "'c..lan' is not a domain name"),
            (7, 8, "'x' is one word too many"),
            (8, 2, "'ttl' is set twice"),
            (9, 13, "'x' is one word too many"),
            (10, 14, "zone is not a valid domain name: b..c"),
        ],
    );
}

#[test]
fn dns64_options() {
    check_mistakes(
        ". {\n dns64 64:ff9b::/95\n dns64 192.0.2.0/24\n dns64 a b\n dns64 {\n prefix\n \
         prefix 64:ff9b::/128\n translate\n }\n}",
        &[
            (2, 8, "invalid prefix length \"64:ff9b::/95\""),
            (3, 8, "invalid CIDR address: 192.0.2.0/24"),
            (4, 10, "Wrong argument count or unexpected line ending after 'b'"),
            (6, 2, "Wrong argument count or unexpected line ending after 'prefix'"),
            (7, 9, "invalid prefix length \"64:ff9b::/128\""),
            (8, 2, "unknown property 'translate'"),
        ],
    );
}
