//! Older Corefiles.

use engine::convert::{Converted, convert};
use proptest::prelude::*;

use crate::conversion::{check, converted, parse, shown};

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
    let current = include_str!("../corefile/defaults/kubeadm.Corefile");
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

proptest! {
    /// For any text, the conversion ends, and it changes nothing if nothing is outdated.
    #[test]
    fn any_text(text in "[a-z.{}#\",: \n]{0,80}") {
        if let Ok(Converted { corefile, notes, .. }) = convert(&text) && notes.is_empty() {
            prop_assert_eq!(corefile, text);
        }
    }
}
