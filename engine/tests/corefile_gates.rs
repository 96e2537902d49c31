//! The options of the Corefile's plugins that decide about single queries or change single
//! responses, and mistakes in them.

#[path = "corefile/rows.rs"]
mod rows;

use rows::{check_mistakes, check_warnings};

/// A block with these lines, which cause no warning, has these plugins.
fn check(lines: &str, expected: &[&str]) {
    let config = check_warnings(&format!("test {{\n{lines}\n}}"), &[]);
    let found: Vec<String> = config.blocks[0].plugins().map(|line| format!("{line:?}")).collect();
    assert_eq!(found, expected, "{lines}");
}

#[test]
fn whoami_takes_nothing() {
    check("whoami", &["Whoami"]);
    check_mistakes(
        ". {\n whoami now\n whoami {\n }\n}",
        &[
            (2, 9, "Wrong argument count or unexpected line ending after 'now'"),
            (3, 9, "'whoami' takes no block"),
        ],
    );
}

#[test]
fn chaos_takes_a_version_and_authors() {
    let default = concat!(
        "Chaos { version: \"ringdns-",
        env!("CARGO_PKG_VERSION"),
        "\", authors: [\"The ringdns authors\"] }"
    );
    check("chaos", &[default]);
    check("chaos v1", &["Chaos { version: \"v1\", authors: [\"The ringdns authors\"] }"]);
    check("chaos v1 b a b", &["Chaos { version: \"v1\", authors: [\"a\", \"b\"] }"]);
    check_mistakes(". {\n chaos v1 {\n x\n }\n}", &[(2, 11, "'chaos' takes no block")]);
}

#[test]
fn local_has_one_option() {
    check("local", &["Local { takes_prefix: true }"]);
    check("local {\n localhost_prefix off\n}", &["Local { takes_prefix: false }"]);
    check("local {\n localhost_prefix off\n}\nlocal", &["Local { takes_prefix: false }"]);
    check_mistakes(
        ". {\n local x\n local {\n localhost_prefix\n localhost_prefix no\n prefix on\n }\n}",
        &[
            (2, 8, "Wrong argument count or unexpected line ending after 'x'"),
            (4, 2, "Wrong argument count or unexpected line ending after 'localhost_prefix'"),
            (5, 19, "localhost_prefix expects 'on' or 'off', got \"no\""),
            (6, 2, "unknown property 'prefix'"),
        ],
    );
}

#[test]
fn nsid_takes_words() {
    check("nsid", &["Nsid { data: None }"]);
    check("nsid Use The Force", &["Nsid { data: Some(\"Use The Force\") }"]);
    check_mistakes(
        ". {\n nsid a {\n }\n nsid b\n}",
        &[
            (2, 9, "'nsid' takes no block"),
            (4, 2, "this plugin can only be used once per Server Block"),
        ],
    );
}
