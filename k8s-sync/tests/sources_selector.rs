//! What label selectors select. The Corefile parser parses them.

use std::collections::BTreeMap;

use k8s_sync::selector::{Operator, Requirement, Selector};

fn exists(key: &str) -> Requirement {
    Requirement { key: key.to_owned(), operator: Operator::Exists }
}

fn does_not_exist(key: &str) -> Requirement {
    Requirement { key: key.to_owned(), operator: Operator::DoesNotExist }
}

fn is_in(key: &str, values: &[&str]) -> Requirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Requirement { key: key.to_owned(), operator: Operator::In(values) }
}

fn not_in(key: &str, values: &[&str]) -> Requirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Requirement { key: key.to_owned(), operator: Operator::NotIn(values) }
}

/// `labels`: `key=value` pairs separated by spaces.
#[track_caller]
fn check(requirements: &[Requirement], labels: &str, expected: bool) {
    let labels: BTreeMap<String, String> = labels
        .split_whitespace()
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let selector = Selector { text: String::new(), requirements: requirements.to_vec() };
    assert_eq!(selector.matches(&labels), expected, "{requirements:?} on {labels:?}");
}

#[test]
fn selects() {
    check(&[], "", true);
    check(&[], "a=b", true);
    check(&[exists("app")], "app=", true);
    check(&[exists("app")], "", false);
    check(&[does_not_exist("app")], "", true);
    check(&[does_not_exist("app")], "app=web", false);
    check(&[is_in("app", &["web"])], "app=web", true);
    check(&[is_in("app", &["web"])], "app=api", false);
    check(&[is_in("app", &["web"])], "", false);
    check(&[is_in("app", &[""])], "app=", true);
    check(&[is_in("app", &[""])], "", false);
    check(&[is_in("app", &["web", "api"])], "app=api", true);
    check(&[is_in("app", &["web", "api"])], "", false);
    check(&[not_in("app", &["web"])], "app=web", false);
    check(&[not_in("app", &["web"])], "app=api", true);
    check(&[not_in("app", &["web"])], "", true);
    check(&[not_in("app", &["web", "api"])], "app=db", true);
    check(&[not_in("app", &["web", "api"])], "app=web", false);
    check(&[is_in("app", &["web"]), not_in("tier", &["db"])], "app=web tier=front", true);
    check(&[is_in("app", &["web"]), exists("tier")], "app=web", false);
    check(&[is_in("a.b/name", &["x", "y"]), does_not_exist("old")], "a.b/name=y", true);
    check(&[is_in("a.b/name", &["x", "y"]), does_not_exist("old")], "a.b/name=y old=", false);
}
