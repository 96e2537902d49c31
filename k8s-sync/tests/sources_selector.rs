//! Label selectors: what they select, and where they stop making sense.

use std::collections::BTreeMap;

use k8s_sync::selector::Selector;

/// `labels`: `key=value` separated by blanks.
#[track_caller]
fn check(selector: &str, labels: &str, expected: bool) {
    let labels: BTreeMap<String, String> = labels
        .split_whitespace()
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let parsed = Selector::parse(selector).expect("a test's selector");
    assert_eq!(parsed.matches(Some(&labels)), expected, "{selector:?} on {labels:?}");
    if labels.is_empty() {
        assert_eq!(parsed.matches(None), expected, "{selector:?} without labels");
    }
}

#[test]
fn selects() {
    check("", "", true);
    check("  ", "a=b", true);
    check("app", "app=", true);
    check("app", "", false);
    check("!app", "", true);
    check("! app", "app=web", false);
    check("app=web", "app=web", true);
    check("app == web", "app=web", true);
    check("app=web", "app=api", false);
    check("app=web", "", false);
    check("app=", "app=", true);
    check("app!=web", "app=web", false);
    check("app != web", "app=api", true);
    check("app!=web", "", true);
    check("app in (web,api)", "app=api", true);
    check("app in (web)", "app=api", false);
    check("app in(web , api)", "", false);
    check("app in ()", "app=", true);
    check("app notin (web,api)", "app=db", true);
    check("app notin (web,api)", "app=web", false);
    check("app notin (web)", "", true);
    check("app=web,tier!=db", "app=web tier=front", true);
    check("app=web , tier", "app=web", false);
    check(
        "app.kubernetes.io/name in (coredns, kube-dns),!old",
        "app.kubernetes.io/name=kube-dns",
        true,
    );
    check("in=notin", "in=notin", true);
    check("kubernetes.io/service-name=a_b.C-1", "kubernetes.io/service-name=a_b.C-1", true);
}

#[track_caller]
fn refused(selector: &str, expected: &str) {
    let error = Selector::parse(selector).expect_err(selector);
    assert_eq!(error.to_string(), expected, "{selector:?}");
}

#[test]
fn makes_no_sense() {
    refused(",", "expected a label's key at byte 0");
    refused("a,", "expected a label's key at byte 2");
    refused("a b", "expected one of = == != in notin at byte 2");
    refused("a > 1", "expected one of = == != in notin at byte 2");
    refused("a in b", "expected ( before the values at byte 5");
    refused("a in (b", "expected ) after the values at byte 7");
    refused("a=b c", "expected a comma or the end at byte 4");
    refused("a!b", "expected != at byte 2");
    refused("a/b/c=d", "expected a label's key at byte 0");
    refused("a=b/c", "expected a label's value of at most 63 bytes at byte 2");
    refused("é", "expected a label's key at byte 0");
}
