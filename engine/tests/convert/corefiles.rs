//! `ringdns convert`: the conversion of older Corefiles and of kube-dns's ConfigMaps, and whether
//! ringdns reads the result.

use std::fs;
use std::path::Path;
use std::process::Command;

use engine::config::{self, Config};
use engine::convert::{Converted, Note, convert};
use engine::corefile::value::target::Target;
use engine::corefile::{Report, Surroundings};
use engine::forward::options::ForwardOptions;
use engine::plugin::ServerBlock;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Config, Report> {
    let surroundings = Surroundings::empty();
    config::parse("Corefile", text, &surroundings)
}

/// `LINE: text`, or the text alone.
fn shown(notes: &[Note]) -> Vec<String> {
    let shown = |note: &Note| match note.line {
        Some(line) => format!("{line}: {}", note.text),
        None => note.text.clone(),
    };
    notes.iter().map(shown).collect()
}

fn converted(text: &str) -> Converted {
    convert(text).unwrap_or_else(|failure| panic!("{text}\n{failure:?}"))
}

/// A Corefile, its conversion, and how each of the notes begins. The result has no mistakes, and
/// converting it again changes nothing.
fn check(text: &str, expected: &str, notes: &[&str]) {
    let Converted { corefile, notes: found, .. } = converted(text);
    assert_eq!(corefile, expected, "{text}");
    let found = shown(&found);
    let matches =
        found.iter().zip(notes).filter(|(found, start)| found.starts_with(*start)).count();
    assert!(matches == notes.len() && matches == found.len(), "{text}\n{found:#?}");
    if let Err(report) = parse(&corefile) {
        panic!("{corefile}\n{report}");
    }
    let unchanged = Converted { corefile, ..Converted::default() };
    assert_eq!(converted(&unchanged.corefile), unchanged);
}

#[test]
fn a_corefile_of_core_dns_1_3() {
    check(
        "\
# Ours since 2018.
.:53 {
    errors
    health
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure   # as kube-dns did
        upstream
        resyncperiod 5m
        transfer to *
        endpoint http://10.0.0.1:8080 http://10.0.0.2:8080 # both masters
        fallthrough in-addr.arpa ip6.arpa
    }
    prometheus :9153

    federation cluster.local {
        prod prod.example.com
        upstream
    }
    # Outwards.
    proxy . /etc/resolv.conf {
        policy least_conn
        health_check /health:8080 10s
        max_fails 3
    }
    cache 30
    loop
    reload
    loadbalance round_robin # evenly
}
",
        "\
# Ours since 2018.
.:53 {
    errors
    health
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure   # as kube-dns did
        endpoint http://10.0.0.1:8080 # both masters
        fallthrough in-addr.arpa ip6.arpa
    }
    prometheus :9153

    # Outwards.
    forward . /etc/resolv.conf {
        max_fails 3
    }
    cache 30
    loop
    reload
    loadbalance # evenly
}
",
        &[
            "7: `upstream` of `kubernetes` is deleted: since CoreDNS 1.7 the targets of CNAME",
            "8: `resyncperiod` of `kubernetes` is deleted: ",
            "9: `transfer` of `kubernetes` is deleted: since CoreDNS 1.8 this is the plugin \
             `transfer`",
            "10: only `http://10.0.0.1:8080` is left of the endpoints",
            "15: `federation` is deleted with its block",
            "20: `proxy` is called `forward` since CoreDNS 1.5",
            "21: `policy least_conn` is deleted: ",
            "22: `health_check /health:8080 10s` is deleted: ",
            "28: `round_robin` is left out",
        ],
    );
}

#[test]
fn options_of_proxy() {
    let check = |options: &str, expected: &str, notes: &[&str]| {
        let notes: Vec<_> = std::iter::once(&"2: `proxy`").chain(notes).copied().collect();
        let text = format!(". {{\n proxy . 1.1.1.1 {{\n{options} }}\n}}\n");
        check(&text, &format!(". {{\n forward . 1.1.1.1{expected}\n}}\n"), &notes);
    };
    check("", "", &[]);
    check("  spray\n", "", &["3: `spray` is deleted"]);
    check("  fail_timeout 5s\n  spray\n", "", &["3: `fail_timeout 5s`", "4: `spray`"]);
    check("  # why\n  spray\n", " {\n  # why\n }", &["4: `spray` is deleted"]);
    check("  policy random\n", " {\n  policy random\n }", &[]);
    check(
        "  policy first\n",
        " {\n  policy sequential\n }",
        &["3: `policy first` is now `policy sequential`"],
    );
    check("  except a b # c\n  max_fails 0\n", " {\n  except a b # c\n  max_fails 0\n }", &[]);
    check("  protocol dns\n", "", &["3: `protocol dns` is deleted"]);
    check(
        "  protocol dns force_tcp\n",
        " {\n  force_tcp\n }",
        &["3: `protocol dns force_tcp` is now `force_tcp`"],
    );
    check(
        "  protocol https_google\n",
        "",
        &["3: `protocol https_google` is deleted: its service is gone"],
    );
}

#[test]
fn the_order_of_proxies() {
    // CoreDNS used the longest zone, and now uses the first.
    check(
        ". {\n proxy . 1.1.1.1\n # stub\n proxy a.example 2.2.2.2 # two\n \
         proxy example 3.3.3.3 {\n  spray\n }\n}",
        ". {\n # stub\n forward a.example 2.2.2.2 # two\n forward example 3.3.3.3\n \
         forward . 1.1.1.1\n}",
        &[
            "2: `proxy`",
            "2: moves to line 5: of several `forward` lines the first that matches a name is used",
            "4: `proxy`",
            "4: moves to line 2",
            "5: `proxy`",
            "5: moves to line 4",
            "6: `spray`",
        ],
    );
    check(
        ". {\n proxy a 1.1.1.1\n proxy b.c 2.2.2.2\n proxy . 3.3.3.3\n}",
        ". {\n forward a 1.1.1.1\n forward b.c 2.2.2.2\n forward . 3.3.3.3\n}",
        &["2: `proxy`", "3: `proxy`", "4: `proxy`"],
    );
}

#[test]
fn layouts() {
    check(".\nerrors\nproxy . 1.1.1.1", ".\nerrors\nforward . 1.1.1.1", &["3: `proxy`"]);
    check(
        "(up) {\r\n\tproxy . {$UP}9.9.9.9 {\r\n\t\tspray\r\n\t\texcept \"ä\"\r\n\t}\r\n}\r\n\
         . {\r\n\timport up\r\n}\r\n",
        "(up) {\r\n\tforward . {$UP}9.9.9.9 {\r\n\t\texcept \"ä\"\r\n\t}\r\n}\r\n. {\r\n\
         \timport up\r\n}\r\n",
        &["2: `proxy`", "3: `spray`"],
    );
    let current = include_str!("corefile/defaults/kubeadm.Corefile");
    check(current, current, &[]);
}

/// What cannot be converted stays, and the parser reports what is wrong with it.
#[test]
fn notes_about_what_is_left_to_do() {
    let rows = [
        ("proxy . 1.1.1.1 {\n  protocol grpc insecure\n }", "unknown property 'protocol'"),
        ("proxy . 1.1.1.1 {\n  policy header\n }", "unknown policy 'header'"),
        ("proxy . 1.1.1.1 {\n  lb 5\n }", "unknown property 'lb'"),
        ("startup \"echo hello\"", "Unknown directive 'startup'"),
        ("federation \"a\n b\" {\n }", "Unknown directive 'federation'"),
    ];
    for (statement, mistake) in rows {
        let corefile = converted(&format!(". {{\n {statement}\n}}\n")).corefile;
        let report = parse(&corefile).expect_err("a mistake").to_string();
        assert!(report.contains(mistake), "{corefile}\n{report}");
    }
}

#[test]
fn broken_corefiles() {
    for (text, line) in [(". {\n proxy . 1.1.1.1\n", 1), (". {\n}\n}\n", 3), ("a {\n b {\n}\n", 1)]
    {
        let failure = convert(text).expect_err("a mistake");
        assert_eq!(shown(&[failure]), [format!("{line}: unbalanced brace: nothing was converted")]);
    }
}

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

const CUSTOM: &str = "\
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
fn data(text: &str) -> serde_json::Value {
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

    /// For any text, the conversion ends, and it changes nothing if nothing is outdated.
    #[test]
    fn any_text(text in "[a-z.{}#\",: \n]{0,80}") {
        if let Ok(Converted { corefile, notes, .. }) = convert(&text) && notes.is_empty() {
            prop_assert_eq!(corefile, text);
        }
    }
}

/// The process: where it writes, and its exit codes.
#[test]
fn the_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_ringdns")).arg("convert").arg(&path).output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&*folder.path().to_string_lossy(), "")
        };
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, stderr) = run("Corefile", "# kept\n. {\n proxy . 1.1.1.1\n}\n");
    assert_eq!((code, out.as_str()), (Some(0), "# kept\n. {\n forward . 1.1.1.1\n}\n"));
    assert_eq!(stderr, "/Corefile:3: `proxy` is called `forward` since CoreDNS 1.5\n");
    let (code, out, stderr) = run("Corefile", ". {\n etcd\n}\n");
    assert_eq!((code, out.as_str()), (Some(3), ". {\n etcd\n}\n"));
    assert!(
        stderr.contains("by hand")
            && stderr.contains("Directive 'etcd' is known but not built yet"),
        "{stderr}"
    );
    let (code, out, stderr) = run("custom.yaml", CUSTOM);
    assert_eq!(
        (code, data(&out)["lke.include"].as_str()),
        (Some(0), Some("loadbalance\n")),
        "{stderr}"
    );
    let (code, out, stderr) = run("custom.yaml", &CUSTOM.replace("errors", "etcd"));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("/custom.yaml as converted, corp.server:2 - "), "{stderr}");
    assert!(out.contains("forward . 192.0.2.18"), "{out}");
    let (code, out, stderr) = run("kube-dns.yaml", "kind: Pod\n");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("/kube-dns.yaml: this is a Pod"), "{stderr}");
    assert!(!Path::new("nothing").exists());
    let output =
        Command::new(env!("CARGO_BIN_EXE_ringdns")).args(["convert", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let path = folder.path().join("Corefile");
    let output = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["convert", "-"])
        .stdin(fs::File::open(path).unwrap())
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(3), b". {\n etcd\n}\n".as_slice())
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input as converted:2 - "));
}
