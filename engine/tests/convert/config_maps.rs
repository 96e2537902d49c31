//! ConfigMaps: kube-dns's, those with a Corefile, and those with parts of one.

use engine::convert::{Converted, convert};
use engine::corefile::value::target::Target;
use engine::forward::options::ForwardOptions;
use engine::plugin::ServerBlock;
use proptest::prelude::*;

use crate::conversion::{converted, parse, shown};

fn kube_dns(data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kube-dns\n  namespace: kube-system\n\
         {data}"
    )
}

/// The zones of the blocks, and their upstreams.
fn forwards(text: &str) -> Vec<String> {
    let corefile = converted(text).corefile;
    let config = parse(&corefile).unwrap_or_else(|report| panic!("{corefile}\n{report}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    let target = |target: &Target| match target {
        Target::Dns(address) => address.to_string(),
        Target::Host { name, port, is_tls: false } => format!("{name}:{port}"),
        Target::ResolvConf(path) => path.display().to_string(),
        Target::Tls { .. } | Target::LinkLocal { .. } | Target::Host { .. } => panic!("{target:?}"),
    };
    let block = |block: &ServerBlock| {
        let to: Vec<_> = block.line::<ForwardOptions>().unwrap().to.iter().map(target).collect();
        format!("{} {}", block.keys[0], to.join(" "))
    };
    config.blocks.iter().map(block).collect()
}

#[test]
fn config_maps_of_kube_dns() {
    let stubs = "{\"acme.local\":[\"1.2.3.4\",\"1.2.3.5:5353\"],\
                 \"b.example.\":[\"ns.b.example\",\"fd00::1\"]}";
    let spaced =
        stubs.replace(',', ", ").replace(':', ": ").replace(": : ", "::").replace(": 53", ":53");
    let expected = [
        "dns://.:53 8.8.8.8:53 8.8.4.4:53",
        "dns://acme.local.:53 1.2.3.4:53 1.2.3.5:5353",
        "dns://b.example.:53 ns.b.example:53 [fd00::1]:53",
    ];
    let upstreams = "[\"8.8.8.8\",\"8.8.4.4\"]";
    let yaml = kube_dns(&format!(
        "data:\n  stubDomains: |\n    {stubs}\n  upstreamNameservers: '{upstreams}'\n"
    ));
    let spread = kube_dns(&format!(
        "data:\n  upstreamNameservers: |\n    [\n      \"8.8.8.8\",\n      \"8.8.4.4\"\n    ]\n  \
         stubDomains: '{spaced}'\n"
    ));
    let quoted = |text: &str| text.replace('"', "\\\"");
    let json = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"data\": {{\"stubDomains\": \"{}\", \
         \"upstreamNameservers\": \"{}\"}}}}",
        quoted(&spaced),
        quoted(upstreams)
    );
    let flow = format!("data: {{stubDomains: '{stubs}', upstreamNameservers: '{upstreams}'}}");
    let flow = format!("---\n{}", kube_dns(&flow));
    for text in [yaml, spread, json, flow] {
        assert_eq!(forwards(&text), expected, "{text}");
    }
    for nothing in
        ["", "data: {}\n", "data:\n", "data:\n  upstreamNameservers: '[]'\n  stubDomains: ''\n"]
    {
        assert_eq!(forwards(&kube_dns(nothing)), ["dns://.:53 /etc/resolv.conf"], "{nothing}");
    }
}

#[test]
fn corefile_of_a_kube_dns_config_map() {
    let Converted { corefile, notes, .. } = converted(&kube_dns(
        "data:\n  federations: |\n    {\"prod\": \"prod.example.com\"}\n  stubDomains: |\n    \
         {\"acme.local\": [\"1.2.3.4\", \"1.2.3.5\"],\n     \"none.local\": [], \
         \"cluster.local\": [\"9.9.9.9\"]}\n  nodelocal: x\n",
    ));
    let expected = "\
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}

acme.local:53 {
    errors
    cache 30
    loop
    forward . 1.2.3.4 1.2.3.5 {
        max_concurrent 1000
    }
}

cluster.local:53 {
    errors
    cache 30
    loop
    forward . 9.9.9.9 {
        max_concurrent 1000
    }
}
";
    assert_eq!(corefile, expected);
    assert!(parse(&corefile).is_ok());
    let starts = [
        "the cluster's domain is not in the ConfigMap",
        "8: federations: `prod` (prod.example.com) is left out",
        "10: stubDomains: \"cluster.local\" takes over the names of the cluster's own Services",
        "10: stubDomains: \"none.local\" is left out: it has no server",
        "12: nodelocal: is left out",
    ];
    let notes = shown(&notes);
    let count = notes.iter().zip(starts).filter(|(note, start)| note.starts_with(start)).count();
    assert!(count == starts.len() && count == notes.len(), "{notes:#?}");
}

#[test]
fn config_maps_of_core_dns() {
    let text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  Corefile: |\n    . {\n        \
                proxy . 1.1.1.1\n    }\n";
    let Converted { corefile, notes, .. } = converted(text);
    assert_eq!(corefile, ". {\n    forward . 1.1.1.1\n}\n");
    assert_eq!(notes.len(), 2);
    assert!(notes[0].text.starts_with("line numbers below count from this line"), "{notes:?}");
}

pub(crate) const CUSTOM: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: coredns-custom
  namespace: kube-system
data:
  corp.server: |
    corp.example:53 {
        errors
        cache 30
        proxy . 192.0.2.18
    }
  extra.override: |
    proxy other.example 192.0.2.19 # ours
  lke.include: |
    loadbalance round_robin
  db.example: |
    $ORIGIN example.
";

/// The data of a ConfigMap in YAML.
pub(crate) fn data(text: &str) -> serde_json::Value {
    let map: serde_json::Value =
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(map["kind"], "ConfigMap");
    map["data"].clone()
}

#[test]
fn additions_to_a_corefile_stay_a_config_map() {
    let expected = serde_json::json!({
        "corp.server":
            "corp.example:53 {\n    errors\n    cache 30\n    forward . 192.0.2.18\n}\n",
        "extra.override": "forward other.example 192.0.2.19 # ours\n",
        "lke.include": "loadbalance\n",
        "db.example": "$ORIGIN example.\n",
    });
    let json: serde_json::Value = serde_saphyr::from_str(CUSTOM).unwrap();
    for text in [CUSTOM.to_owned(), json.to_string(), serde_json::to_string_pretty(&json).unwrap()]
    {
        let Converted { corefile, notes, excerpts } = converted(&text);
        assert_eq!(data(&corefile), expected, "{corefile}");
        assert!(corefile.contains("  namespace: kube-system\n"), "{corefile}");
        // By lines, as people read it.
        assert!(corefile.contains("\n    corp.example:53 {\n"), "{corefile}");
        let texts: Vec<_> = notes.iter().map(|note| note.text.as_str()).collect();
        for words in [
            "corp.server: line 4: `proxy` is called `forward`",
            "extra.override: line 1: `proxy` is called `forward`",
            "lke.include: line 1: `round_robin` is left out",
            "db.example: is left as it is",
            "it stays a ConfigMap",
        ] {
            assert!(texts.iter().any(|text| text.starts_with(words)), "{words}: {texts:#?}");
        }
        assert_eq!(texts.len(), 5, "{texts:#?}");
        for excerpt in excerpts {
            assert!(parse(&excerpt.corefile).is_ok(), "{excerpt:?}");
        }
        let again = converted(&corefile);
        assert_eq!(again.corefile, corefile);
        assert_eq!(again.notes.len(), 2);
    }
    let failure = convert(&CUSTOM.replace("    }\n", "")).expect_err("a brace is missing");
    assert_eq!((failure.line, failure.text.split(": ").next()), (Some(8), Some("corp.server")));
}

#[test]
fn lists_and_their_unusable_objects() {
    let map = |name: &str, data: serde_json::Value| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "kube-system" }, "data": data,
        })
    };
    let list = |kind: &str, items: &[serde_json::Value]| {
        serde_json::json!({ "apiVersion": "v1", "kind": kind, "items": items }).to_string()
    };
    let core_dns = map("coredns", serde_json::json!({ "Corefile": ". {\n    errors\n}\n" }));
    let stubs = serde_json::json!({ "stubDomains": "{\"corp.example\": [\"192.0.2.18\"]}" });
    let kube_dns = map("kube-dns", stubs);
    let certificate = map("kube-root-ca.crt", serde_json::json!({ "ca.crt": "PEM" }));
    let pod = serde_json::json!({ "kind": "Pod", "metadata": { "name": "a" } });
    for kind in ["List", "ConfigMapList"] {
        let found = converted(&list(kind, &[certificate.clone(), core_dns.clone(), pod.clone()]));
        assert_eq!(found.corefile, ". {\n    errors\n}\n");
        assert_eq!(
            found.notes[0].text,
            "of the 3 objects of this List only the ConfigMap kube-system/coredns with Corefile \
             is converted"
        );
    }
    let documents = format!("---\n{certificate}\n---\n{kube_dns}\n");
    assert!(converted(&documents).corefile.contains("corp.example:53 {"), "{documents}");
    for (text, words) in [
        (
            list("List", &[core_dns, kube_dns]),
            "this List has 2 ConfigMaps to convert, coredns, kube-dns: convert one at a time",
        ),
        (list("List", &[certificate.clone(), pod]), "none of the 2 objects of this List"),
        (list("List", &[]), "none of the 0 objects of this List"),
        (
            certificate.to_string(),
            "this is the ConfigMap kube-system/kube-root-ca.crt with ca.crt, which is neither \
             CoreDNS's",
        ),
        (
            map("a", serde_json::json!(null)).to_string(),
            "this is the ConfigMap kube-system/a without data",
        ),
        ("kind: Deployment\n".to_owned(), "this is a Deployment, not a ConfigMap"),
    ] {
        let failure = convert(&text).expect_err("of no use");
        assert!(failure.text.starts_with(words), "{text}\n{failure:?}");
        assert!(failure.text.contains("kubectl get configmap"), "{failure:?}");
    }
    // kube-dns's own ConfigMap without data: kube-dns runs with its defaults.
    assert!(
        converted(&map("kube-dns", serde_json::json!(null)).to_string())
            .corefile
            .contains("kubernetes cluster.local")
    );
}

#[test]
fn broken_config_maps() {
    let many = format!("[{}]", ["\"1.1.1.1\""; 16].join(","));
    let rows = [
        (
            kube_dns("data:\n  stubDomains: |\n    {\"a\": [\"1.1.1.1\",]}\n"),
            "8: stubDomains: line 1, column 18 of its value: ",
        ),
        (
            kube_dns("data:\n  upstreamNameservers: 8.8.8.8\n"),
            "7: upstreamNameservers: line 1, column 3 of its value: ",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\"a\": \"1.1.1.1\"}'\n"),
            "7: stubDomains: line 1, column 15 of its value: invalid type: string",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\"a\": [\"1.1.1\"]}'\n"),
            "7: stubDomains: \"a\": \"1.1.1\" is not an IP address",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\"a\": [\"1.1.1.1#53\"]}'\n"),
            "7: stubDomains: \"a\": \"1.1.1.1#53\" is not an IP",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\"a\": [\"/etc/resolv.conf\"]}'\n"),
            "7: stubDomains: \"a\": \"/etc/resolv.conf\" is not an IP",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\"a b {\": [\"1.1.1.1\"]}'\n"),
            "7: stubDomains: \"a b {\": not a domain name",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\"a#\": [\"1.1.1.1\"]}'\n"),
            "7: stubDomains: \"a#\": not a domain name",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\".\": [\"1.1.1.1\"]}'\n"),
            "7: stubDomains: \".\": put the servers of all other",
        ),
        (
            kube_dns("data:\n  stubDomains: '{\"a\": [\"1.1.1.1\"], \"A.\": [\"1.1.1.1\"]}'\n"),
            "7: stubDomains: \"a\": listed twice",
        ),
        (
            kube_dns("data:\n  upstreamNameservers: '[\"fe80::1%a b\"]'\n"),
            "7: upstreamNameservers: \"fe80::1%a b\" is not an IP",
        ),
        (
            kube_dns("data:\n  upstreamNameservers: '[\"fe80::1%a{\"]'\n"),
            "7: upstreamNameservers: \"fe80::1%a{\" is not an IP",
        ),
        (
            kube_dns(&format!("data:\n  upstreamNameservers: '{many}'\n")),
            "7: upstreamNameservers: 16 servers are more than 15",
        ),
        (kube_dns("data:\n  a: [\n"), "7: unclosed bracket"),
        (kube_dns("data: 5\n"), "6: "),
        ("kind: Service\n".to_owned(), "this is a Service, not a ConfigMap"),
        ("{\"kind\": \"ConfigMap\",\n \"data\": {\"stubDomains\": 5}}".to_owned(), "2: "),
    ];
    for (text, start) in rows {
        let failure = shown(&[convert(&text).expect_err("a mistake")]);
        assert!(failure[0].starts_with(start), "{text}\n{failure:?}");
    }
}

proptest! {
    /// For any ConfigMap, the result is a Corefile with the ConfigMap's zones and servers.
    #[test]
    fn only_names_and_addresses_are_written(
        domain in "[a-zA-Z.#{}\\-_ \\\\/:*]{0,12}",
        server in "[a-z0-9.:#{} /%\\[\\]]{0,16}",
    ) {
        let stubs = serde_json::json!({ domain: [server] }).to_string();
        let map = serde_json::json!({ "kind": "ConfigMap", "data": { "stubDomains": stubs } });
        if let Ok(Converted { corefile, .. }) = convert(&map.to_string()) {
            let config = parse(&corefile).unwrap_or_else(|report| panic!("{corefile}\n{report}"));
            prop_assert_eq!(config.blocks.len(), 2);
            prop_assert_eq!(config.blocks[1].line::<ForwardOptions>().unwrap().to.len(), 1);
        }
    }
}
