//! `log` in a Corefile: every option that works, and mistakes in them.

#[path = "corefile/rows.rs"]
mod rows;

use engine::plugin::log::{Log, LogRule};

use rows::{check_mistakes, check_warnings};

/// The zone and the classes of each rule.
fn rules(log: &Log) -> Vec<String> {
    let rule = |LogRule { zone, classes, .. }: &LogRule| {
        let classes: Vec<_> = classes.iter().map(|class| class.name()).collect();
        format!("{} {}", zone.text, classes.join(",")).trim_end().to_owned()
    };
    log.rules.iter().map(rule).collect()
}

fn check(lines: &str, expected: &[&str], warnings: &[(usize, usize, &str)]) {
    let config = check_warnings(&format!(". {{\n{lines}\n}}"), warnings);
    let logs: Vec<_> = config.blocks[0].lines::<Log>().collect();
    assert_eq!(logs.len(), 1, "{lines}");
    assert_eq!(rules(logs[0]), expected, "{lines}");
}

#[test]
fn zones_and_classes() {
    check("log", &["."], &[]);
    check("log Example.ORG", &["example.org."], &[]);
    check("log a b. .", &["a.", "b.", "."], &[]);
    check("log a b \"{name}\"", &["a.", "b."], &[]);
    check("log a {common} {\nclass denial\n}\nlog", &["a. denial", "."], &[]);
    check("log {\nclass denial error\nclass success\n}", &[". denial,error,success"], &[]);
    check("log {\nclass denial all\n}", &["."], &[]);
    check("log {\n}", &["."], &[]);
    check("log {$UNSET}", &["."], &[(2, 5, "an empty name of `log` is the root")]);
    check("log \"{name}\"", &["{name}."], &[(2, 5, "the only argument of `log` is a name")]);
}

#[test]
fn mistakes() {
    check_mistakes(
        ". {\n log a..b\n log {\n class\n class succes\n clas all\n }\n}",
        &[
            (2, 6, "zone is not a valid domain name: a..b"),
            (4, 2, "Wrong argument count or unexpected line ending after 'class'"),
            (5, 8, "invalid Class: succes"),
            (6, 2, "unknown property 'clas'"),
        ],
    );
}
