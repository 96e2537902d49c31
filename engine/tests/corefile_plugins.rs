//! The Corefile's plugins: every option that works, and mistakes in them.

use std::path::PathBuf;
use std::time::Duration;

use engine::plugin::kubernetes::cluster::{ApiLimits, ClientTls, Cluster};
use engine::plugin::kubernetes::{Kubernetes, Namespaces, Pods};

#[path = "corefile/rows.rs"]
mod rows;
use rows::{check, check_mistakes, check_warnings, parse, parse_as, texts};

#[test]
fn operational_plugins() {
    check(
        ". {\n errors stdout {\n stacktrace\n }\n health {$POD_IP}:8081 {\n lameduck 1m5s\n }\n ready [::1]:1 {\n monitor continuously\n }\n prometheus :9153\n reload 10s 20s\n loadbalance round_robin\n}",
        &[
            "dns://.:53 | errors=true | health=10.0.0.7 8081 65s | ready=::1 1 Continuously | prometheus=* 9153 | reload=10s 5s | loadbalance",
        ],
    );
    check(
        ". {\n prometheus\n reload\n bind eth0 lo 10.0.0.7 {\n except ::1\n }\n}",
        &[
            "dns://.:53 | bind=10.0.0.7%0 | bind=fe80::7%2 | bind=127.0.0.1%0 | prometheus=127.0.0.1 9153 | reload=30s 15s",
        ],
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
fn consolidated_errors() {
    check(
        ". {\n errors {\n consolidate 5m \".* i/o timeout$\" warning\n consolidate 30s ^Failed\n \
         consolidate 1m x info show_first\n consolidate 1m y show_first\n }\n}",
        &["dns://.:53 | errors=false | consolidate=300s .* i/o timeout$ Warning false \
             | consolidate=30s ^Failed Error false | consolidate=60s x Info true | consolidate=60s y Error true"],
    );
    let long = "x".repeat(10_001);
    check_mistakes(
        &format!(
            ". {{\n errors {{\n consolidate 5m\n consolidate 5 x\n consolidate 5m (x\n consolidate 5m {long}\n \
             consolidate 5m x warn\n consolidate 5m x info error\n consolidate 5m x show_first info\n \
             consolidate 5m x info show_first y\n }}\n}}"
        ),
        &[
            (3, 14, "Wrong argument count or unexpected line ending after '5m'"),
            (4, 14, "time: missing unit in duration \"5\""),
            (5, 17, "error parsing regexp: unclosed group: `(x`"),
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
            "cannot serve dns://a.:53 - zone overlap listener capacity with dns://a.:53 on 127.0.0.1",
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
        ". {\n health 8080 x\n health 8080\n ready {\n monitor never\n }\n prometheus {\n runtime_metrics\n }\n}",
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
                "unable to parse lameduck duration value: '5' : time: missing unit in duration \"5\"",
            ),
            (5, 9, "interval value must be greater or equal to 2s"),
            (6, 13, "jitter value must be 0 or greater or equal to 1s"),
            (7, 9, "time: invalid duration \"off\""),
        ],
    );
    check_mistakes(
        ". {\n bind eth9 lo\n bind\n loadbalance weighted f\n loadbalance robin {\n prefer ::/0\n }\n errors file\n}\na {\n bind lo {\n except lo\n }\n}",
        &[
            (2, 7, "not a valid IP address or interface name: \"eth9\""),
            (3, 2, "Wrong argument count or unexpected line ending after 'bind'"),
            (4, 14, "'weighted' is known but not built yet"),
            (5, 14, "unknown policy: robin"),
            (6, 2, "'prefer' is known but not built yet"),
            (8, 9, "invalid log file: file"),
            (11, 2, "no address is left to bind"),
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
        "kubernetes cluster.local in-addr.arpa {\n pods insecure\n endpoint_pod_names\n ttl 30\n noendpoints\n \
         fallthrough in-addr.arpa 10.0.0.0/8\n ignore empty_service\n startup_timeout 1m\n namespaces a b\n \
         namespaces b c\n labels environment in (production, qa)\n apiserver_qps 2.5\n apiserver_burst 10\n \
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
}

#[test]
fn kubernetes_mistakes() {
    check_mistakes(
        "10.0.0.0/8 {\n kubernetes\n kubernetes 10.0.0.0/8\n}\na {\n kubernetes 10.0.0.0/8 9.ip6.arpa\n}",
        &[
            (2, 2, "non-reverse zone name must be used"),
            (3, 2, "this plugin can only be used once per Server Block"),
            (6, 13, "non-reverse zone name must be used"),
        ],
    );
    check_mistakes(
        ". {\n kubernetes a b..c {\n podz\n pods all\n pods\n ttl 4000\n ttl 5 6\n upstream\n resyncperiod\n transfer to *\n \
         multicluster a\n zonal\n ignore x\n labels =\n startup_timeout 5\n apiserver_qps -1\n apiserver_burst x\n noendpoints 1\n }\n}",
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
        ". {\n kubernetes a {\n namespaces a\n namespace_labels b\n manifests x\n endpoint y\n kubeconfig z\n tls a b c\n }\n}",
        &[
            (4, 2, "namespaces and namespace_labels cannot both be set"),
            (6, 2, "manifests and endpoint cannot both be set"),
            (7, 2, "manifests and kubeconfig cannot both be set"),
            (8, 2, "manifests and tls cannot both be set"),
        ],
    );
    check_warnings(
        ". {\n kubernetes a {\n ttl 5\n ttl 6\n endpoint a b\n kubeconfig z\n tls a b c\n }\n}",
        &[
            (4, 2, "'ttl' is set twice"),
            (5, 2, "'endpoint' does not count beside 'kubeconfig'"),
            (
                5,
                13,
                "Multiple endpoints have been deprecated, only the first specified endpoint 'a' is used",
            ),
            (7, 2, "'tls' does not count beside 'kubeconfig'"),
        ],
    );
    check_warnings(
        ". {\n kubernetes a {\n tls a b c\n }\n}",
        &[(3, 2, "'tls' counts only with 'endpoint'")],
    );
}
