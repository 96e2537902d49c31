//! What a server block and a file that it imports both have: which one is used, and the warning.
//! CoreDNS refuses most of these Corefiles.

#[path = "corefile/rows.rs"]
mod rows;

use std::fs;

use engine::config::{self, Config};
use engine::corefile::{Report, Severity, Surroundings};
use engine::forward::options::ForwardOptions;
use engine::plugin::hosts::Hosts;
use tempfile::TempDir;

use rows::{summary, texts};

/// Reads the Corefile of a folder with these files: the folder's name is cut from all messages.
fn read(files: &[(&str, &str)]) -> (Result<Config, Report>, String) {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a written file");
    }
    let path = folder.path().join("Corefile");
    let name = path.display().to_string();
    let text = fs::read_to_string(&path).expect("a Corefile");
    let read = config::parse(&name, &text, &Surroundings::empty());
    (read, format!("{}/", folder.path().display()))
}

/// Each block, then each warning as `FILE:LINE message`.
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let (read, folder) = read(files);
    let config = read.unwrap_or_else(|report| panic!("{report}"));
    let mut found: Vec<String> = config.blocks.iter().map(summary).collect();
    found.extend(config.warnings.findings().map(|one| {
        assert!(one.help.is_some(), "{}", one.message);
        format!("{}:{} {}", one.file, one.line, one.problem).replace(&folder, "")
    }));
    assert_eq!(found, expected, "{files:?}");
}

#[test]
fn the_imported_one_is_used() {
    check(
        &[("Corefile", ". {\n cache 30 a.\n import x\n}"), ("x", "errors\ncache 60 b.\n")],
        &[
            "dns://.:53 | errors=false | cache=b.",
            "x:2 this 'cache' replaces the one at Corefile:2",
        ],
    );
    // Wherever the import stands.
    check(
        &[("Corefile", ". {\n import x\n cache 30 a.\n}"), ("x", "cache 60 b.\n")],
        &["dns://.:53 | cache=b.", "x:1 this 'cache' replaces the one at Corefile:3"],
    );
    // The last of several files.
    check(
        &[
            ("Corefile", ". {\n import *.override\n prometheus :1\n}"),
            ("a.override", "prometheus 127.0.0.1:2\n"),
            ("b.override", "prometheus 127.0.0.1:3\n"),
        ],
        &[
            "dns://.:53 | prometheus=127.0.0.1 3",
            "b.override:1 this 'prometheus' replaces the one at a.override:1",
            "b.override:1 this 'prometheus' replaces the one at Corefile:3",
        ],
    );
    check(
        &[
            ("Corefile", ". {\n import x\n kubernetes a {\n  ttl 30\n }\n}"),
            ("x", "kubernetes b\nhealth\n"),
        ],
        &[
            "dns://.:53 | health=* 8080 0ns | kubernetes=b.",
            "x:1 this 'kubernetes' replaces the one at Corefile:3",
        ],
    );
    // A block of an imported file has its own lines.
    check(
        &[("Corefile", "import x\n"), ("x", "a {\n import y\n cache 1 a\n}"), ("y", "cache 2 b.a")],
        &["dns://a.:53 | cache=b.a.", "y:1 this 'cache' replaces the one at x:3"],
    );
}

#[test]
fn forwards() {
    let up = |config: &Config| {
        let lines = config.blocks[0].lines::<ForwardOptions>();
        lines.map(|line| format!("{} {:?}", texts(&line.from), line.to)).collect::<Vec<_>>()
    };
    let check = |corefile: &str, imported: &str, expected: &[&str], warnings: &[&str]| {
        let (read, folder) = read(&[("Corefile", corefile), ("x", imported)]);
        let config = read.unwrap_or_else(|report| panic!("{report}"));
        let expected: Vec<_> = expected
            .iter()
            .map(|line| line.split_once(' ').expect("two words"))
            .map(|(from, to)| format!("{from} [Dns({to}:53)]"))
            .collect();
        assert_eq!(up(&config), expected, "{corefile} {imported}");
        let found = config.warnings.findings();
        let found: Vec<_> = found.map(|one| one.problem.replace(&folder, "")).collect();
        assert_eq!(found, warnings, "{corefile} {imported}");
    };
    let replaces = &["this 'forward' replaces the one at Corefile:2"];
    check(
        ". {\n forward . 192.0.2.1\n import x\n}",
        "forward . 192.0.2.2",
        &[". 192.0.2.2"],
        replaces,
    );
    check(
        ". {\n forward a. 192.0.2.1\n forward . 192.0.2.1\n import x\n}",
        "forward A 192.0.2.2",
        &["a. 192.0.2.2", ". 192.0.2.1"],
        replaces,
    );
    check(
        ". {\n import x\n forward . 192.0.2.1\n}",
        "forward . 192.0.2.2\nforward a 192.0.2.3",
        &[". 192.0.2.2", "a. 192.0.2.3"],
        &["this 'forward' replaces the one at Corefile:3", "no query reaches this 'forward'"],
    );
}

#[test]
fn hosts() {
    let check = |corefile: &str, imported: &str, expected: &str, warnings: &[&str]| {
        let (read, folder) = read(&[("Corefile", corefile), ("x", imported)]);
        let config = read.unwrap_or_else(|report| panic!("{report}"));
        let [hosts] = config.blocks[0].lines::<Hosts>().collect::<Vec<_>>()[..] else {
            panic!("not one hosts");
        };
        let settings = &hosts.settings;
        let entries: Vec<_> = settings.inline.iter().map(|one| one.address.to_string()).collect();
        let found = format!(
            "{} {} [{}] ttl {} fallthrough {}",
            settings.file.display(),
            texts(&settings.zones),
            entries.join(" "),
            settings.ttl_secs,
            texts(&hosts.fallthrough)
        );
        assert_eq!(found, expected, "{corefile} {imported}");
        let found = config.warnings.findings();
        let found: Vec<_> = found.map(|one| one.problem.replace(&folder, "")).collect();
        assert_eq!(found, warnings, "{corefile} {imported}");
    };
    let merged = "'hosts' is merged with the one at Corefile:2";
    // k3s's Corefile with a custom ConfigMap.
    check(
        ". {\n hosts /etc/coredns/NodeHosts {\n  ttl 60\n  fallthrough\n }\n import x\n}",
        "hosts {\n 10.0.0.1 a.example\n}",
        "/etc/coredns/NodeHosts . [10.0.0.1] ttl 60 fallthrough .",
        &[merged],
    );
    check(
        "a b {\n hosts {\n  10.0.0.2 x.a\n }\n import x\n}",
        "hosts names a {\n fallthrough a\n 10.0.0.1 x.a\n}",
        "names a.,b. [10.0.0.2 10.0.0.1] ttl 3600 fallthrough a.",
        &[merged],
    );
    check(
        ". {\n hosts one a {\n  fallthrough a\n }\n import x\n}",
        "hosts two b {\n fallthrough b\n}",
        "one a.,b. [] ttl 3600 fallthrough a.,b.",
        &[merged, "the hosts file 'two' is not read"],
    );
    // An imported option is used, wherever the import stands.
    for corefile in
        [". {\n hosts {\n  ttl 1\n }\n import x\n}", ". {\n import x\n hosts {\n  ttl 1\n }\n}"]
    {
        let (read, _) = read(&[("Corefile", corefile), ("x", "hosts {\n ttl 2\n}")]);
        let config = read.unwrap_or_else(|report| panic!("{report}"));
        let hosts = config.blocks[0].line::<Hosts>().expect("hosts");
        assert_eq!(hosts.settings.ttl_secs, 2, "{corefile}");
        let set_twice = config.warnings.findings().any(|one| one.problem == "'ttl' is set twice");
        assert!(set_twice, "{corefile}");
    }
}

/// Two in one file are CoreDNS's mistake, in an imported file as well.
#[test]
fn twice_in_one_file() {
    let check = |files: &[(&str, &str)], place: (&str, usize)| {
        let (read, folder) = read(files);
        let report = read.expect_err("a mistake");
        let errors = report.findings().filter(|one| one.severity == Severity::Error);
        let found: Vec<_> =
            errors.map(|one| (one.file.replace(&folder, ""), one.line, one.problem)).collect();
        let message = "this plugin can only be used once per Server Block";
        assert_eq!(found, [(place.0.to_owned(), place.1, message)], "{files:?}");
    };
    check(&[("Corefile", ". {\n cache\n cache\n}")], ("Corefile", 3));
    check(&[("Corefile", "(s) {\n hosts\n}\n. {\n hosts\n import s\n}")], ("Corefile", 2));
    check(&[("Corefile", ". {\n import x\n}"), ("x", "cache\ncache")], ("x", 2));
}
