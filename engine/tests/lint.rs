//! Warnings of what CoreDNS starts with: rows of each lint, and the Corefiles of the wild.
//!
//! `lint/wild` has real Corefiles from public repositories, with details replaced. Their warnings
//! are listed here; every other one would be a false alarm.

#[path = "corefile/rows.rs"]
mod rows;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use engine::corefile::Severity;
use engine::lint::LINTS;

use rows::{findings, parse, same};

/// A Corefile, and its warnings: line, column, message.
type Row = (&'static str, &'static [(usize, usize, &'static str)]);

fn check_row((text, expected): &Row) {
    let report = parse(text).map_or_else(|report| report, |config| config.warnings);
    let found = findings(&report, Severity::Warning);
    assert!(same(&found, expected), "{text}\n{found:#?}");
    let mute = report.findings().find(|finding| finding.help.is_none());
    assert_eq!(mute, None, "{text}");
}

/// Rows by the lint that they are about.
const ROWS: &[(&str, &[Row])] = &[
    ("unlisted", UNLISTED),
    ("outside", OUTSIDE),
    ("unmatched", UNMATCHED),
    ("no-aaaa", NO_AAAA),
    ("reverse", REVERSE),
    ("own-address", OWN_ADDRESS),
    ("tls-port", TLS_PORT),
    ("wildcard", WILDCARD),
    ("directive", DIRECTIVE),
    ("entry", ENTRY),
    ("cache-word", CACHE_WORD),
    ("closing-brace", CLOSING_BRACE),
    ("bind", BIND),
    ("shared-snapshot", SHARED_SNAPSHOT),
    ("http-port", HTTP_PORT),
];

const CLOSING_BRACE: &[Row] = &[
    (
        ". {\n hosts x.hosts {\n  ttl 5\n  fallthrough }\n whoami\n}",
        &[(4, 15, "CoreDNS reads this '}' as a word of 'fallthrough'")],
    ),
    (". {\n acl { block }\n whoami\n}", &[(2, 14, "CoreDNS reads this '}' as a word of 'block'")]),
    (". {\n template ANY ANY a.test { rcode NXDOMAIN }\n whoami\n}", &[]),
    (". {\n forward . 192.0.2.1 { max_fails 3 }\n}", &[]),
    (". {\n rewrite stop { name exact a.test b.test }\n whoami\n}", &[]),
];

const HTTP_PORT: &[Row] = &[
    (
        ".:8080 {\n bind 127.0.0.1\n whoami\n health\n ready\n}",
        &[(4, 2, "':8080' is an address of DNS over TCP too")],
    ),
    (
        ".:53 {\n whoami\n prometheus 10.0.0.1:9153\n}\ntls://.:9153 {\n whoami\n}",
        &[(3, 13, "'10.0.0.1:9153' is an address of DNS over TCP too")],
    ),
    (".:9153 {\n bind 10.0.0.1\n whoami\n prometheus\n}", &[]),
    (".:9153 {\n bind 10.0.0.1\n whoami\n health 10.0.0.2:9153\n}", &[]),
];

const SHARED_SNAPSHOT: &[Row] = &[
    (
        "a {\n kubernetes {\n  snapshot /x/s\n }\n}\nb {\n kubernetes {\n  snapshot /x/s\n }\n}",
        &[(8, 12, "two clusters keep their snapshot in /x/s")],
    ),
    ("a {\n kubernetes {\n  snapshot s\n }\n}\nb {\n kubernetes {\n  snapshot t\n }\n}", &[]),
];

const UNLISTED: &[Row] = &[
    (
        ". {\n hosts {\n  10.0.0.1 a.example\n }\n forward . 192.0.2.1\n}",
        &[(2, 2, "names that this 'hosts' does not have get SERVFAIL")],
    ),
    (
        ". {\n forward . 192.0.2.1\n kubernetes\n}",
        &[(3, 2, "names that this 'kubernetes' does not have get NXDOMAIN")],
    ),
    (
        "cluster.local {\n hosts names example cluster.local\n kubernetes\n}",
        &[(2, 2, "names that this 'hosts' does not have get SERVFAIL")],
    ),
    (". {\n hosts {\n  fallthrough example.org\n }\n forward . 192.0.2.1\n}", &[]),
    (". {\n hosts names example.org\n forward . 192.0.2.1\n}", &[]),
    (". {\n hosts\n cache\n errors\n}", &[]),
    (
        "a {\n file db.a a\n forward . 192.0.2.1\n}",
        &[(2, 2, "names that this 'file' does not have get NXDOMAIN")],
    ),
    // In a block, one `fallthrough` is for all `file` lines.
    ("a {\n file db.a a\n file db.b b.a {\n  fallthrough\n }\n forward . 192.0.2.1\n}", &[]),
    ("a b {\n kubernetes a\n forward . 192.0.2.1\n}", &[]),
    ("cluster.local {\n kubernetes\n hosts names {\n  fallthrough\n }\n}", &[]),
];

const OUTSIDE: &[Row] = &[
    (
        "cluster.local {\n cache 30 example.org\n kubernetes\n}",
        &[(2, 11, "no query reaches this 'cache'")],
    ),
    (
        "cluster.local {\n cache 30 example.org example.net\n kubernetes cluster.lan a\n}",
        &[(2, 11, "no query reaches this 'cache'"), (3, 13, "no query reaches this 'kubernetes'")],
    ),
    (
        "example.org {\n hosts names example.net\n}",
        &[(2, 14, "only PTR queries reach this 'hosts'")],
    ),
    (
        "example.org {\n file db.example.net example.net\n}",
        &[(2, 22, "no query reaches this 'file'")],
    ),
    ("example.org {\n cache 30 org www.example.org a.example.net\n}", &[]),
    ("a.org b.org {\n cache b.org\n}", &[]),
    (". {\n cache cluster.local\n}", &[]),
];

const UNMATCHED: &[Row] = &[
    (
        ". {\n template IN A {\n  match ^ip-[0-9]+[.]example[.]$\n  answer \"{{ .Name }} 60 IN A \
         192.0.2.1\"\n }\n forward . 192.0.2.1\n}",
        &[(2, 2, "names that this 'template' does not match get SERVFAIL")],
    ),
    (
        ". {\n template IN A {\n  match ^a[.]x[.]$\n }\n template ANY ANY {\n  match ^b[.]x[.]$\n  \
         fallthrough\n }\n}",
        &[(2, 2, "names that this 'template' does not match get SERVFAIL")],
    ),
    // Every name of the zone matches.
    (". {\n template IN A global {\n  match (.*?)[.]global[.]$\n }\n forward . 192.0.2.1\n}", &[]),
    (". {\n template IN A {\n  match .*\n }\n forward . 192.0.2.1\n}", &[]),
    (". {\n template ANY ANY a.example {\n  rcode NXDOMAIN\n }\n forward . 192.0.2.1\n}", &[]),
    (". {\n template IN A {\n  match ^x$\n  fallthrough\n }\n forward . 192.0.2.1\n}", &[]),
    // No other source, no other type.
    (". {\n template IN A {\n  match ^x$\n }\n}", &[]),
    (
        ". {\n template IN A {\n  match ^x$\n }\n template IN MX {\n  match ^x$\n  fallthrough\n \
         }\n}",
        &[],
    ),
    ("a b {\n template IN A a {\n  match ^x$\n }\n forward b 192.0.2.1\n}", &[]),
];

const NO_AAAA: &[Row] = &[
    (
        ". {\n template ANY AAAA {\n  rcode NXDOMAIN\n }\n forward . 192.0.2.1\n}",
        &[(3, 3, "this 'template' says that names with IPv4 addresses do not exist")],
    ),
    (
        ". {\n template in aaaa example {\n  rcode nxdomain\n }\n}",
        &[(3, 3, "this 'template' says that names with IPv4 addresses do not exist")],
    ),
    (". {\n template IN AAAA {\n  rcode NOERROR\n }\n}", &[]),
    (". {\n template ANY ANY ads.example {\n  rcode NXDOMAIN\n }\n}", &[]),
    // Names that do not exist for any type that matters.
    (
        ". {\n template IN A ads.example {\n  rcode NXDOMAIN\n }\n \
         template IN AAAA ads.example {\n  rcode NXDOMAIN\n }\n}",
        &[],
    ),
];

const REVERSE: &[Row] = &[
    (
        ". {\n kubernetes cluster.local in-addr.arpa ip6.arpa\n forward . 192.0.2.1\n}",
        &[(2, 27, "addresses outside the cluster get NXDOMAIN instead of their names")],
    ),
    (
        ". {\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n  fallthrough in-addr.arpa\n }\n \
         forward . 192.0.2.1\n}",
        &[(2, 40, "addresses outside the cluster get NXDOMAIN instead of their names")],
    ),
    (
        ". {\n kubernetes cluster.local in-addr.arpa {\n  fallthrough 10.in-addr.arpa\n }\n \
         forward . 192.0.2.1\n}",
        &[],
    ),
    (". {\n kubernetes cluster.local 10.0.0.0/8\n forward . 192.0.2.1\n}", &[]),
    (". {\n kubernetes cluster.local in-addr.arpa\n forward example.org 192.0.2.1\n}", &[]),
    ("cluster.local {\n kubernetes cluster.local in-addr.arpa\n}", &[]),
];

const OWN_ADDRESS: &[Row] = &[
    (". {\n forward . 127.0.0.1\n}", &[(2, 12, "'127.0.0.1' is this server block itself")]),
    (
        ".:54 {\n bind 10.0.0.7\n forward . 192.0.2.1 10.0.0.7:54\n}",
        &[(3, 22, "'10.0.0.7:54' is this server block itself")],
    ),
    (".:54 {\n forward . [::1]:54\n}", &[(2, 12, "'[::1]:54' is this server block itself")]),
    (".:54 {\n forward . 127.0.0.1\n}", &[]),
    (". {\n bind 10.0.0.7\n forward . 127.0.0.1\n}", &[]),
    (". {\n forward . 10.0.0.7\n}", &[]),
    (". .:54 {\n forward . 127.0.0.1\n}", &[]),
];

const TLS_PORT: &[Row] = &[
    (". {\n forward . 192.0.2.1:853\n}", &[(2, 12, "'192.0.2.1:853' is asked without TLS")]),
    (". {\n forward . tls://192.0.2.1:853 192.0.2.1:53\n}", &[]),
];

const WILDCARD: &[Row] = &[
    (
        "*.example.org:53 {\n errors\n}",
        &[(1, 1, "'*.example.org:53' has no names but those with the label '*'")],
    ),
    (
        ". {\n forward *.example.org 192.0.2.1\n}",
        &[(2, 10, "'*.example.org' has no names but those with the label '*'")],
    ),
    ("a*.example.org {\n errors\n}", &[]),
];

const DIRECTIVE: &[Row] = &[
    ("errors\nforward . 192.0.2.1\n", &[(1, 1, "'errors' is read as the name of a zone")]),
    (
        "cache 30 {\n}",
        &[
            (1, 1, "'cache' is read as the name of a zone"),
            (1, 7, "'30' is read as the name of a zone"),
        ],
    ),
    ("local {\n errors\n}", &[]),
    ("errors.example {\n errors\n}", &[]),
];

const ENTRY: &[Row] = &[
    (
        ". {\n hosts 10.0.0.1 db.example {\n  fallthrough\n }\n}",
        &[(2, 8, "'10.0.0.1' is read as the name of a file")],
    ),
    (". {\n hosts example.hosts db.example {\n  10.0.0.1 db.example\n }\n}", &[]),
];

const CACHE_WORD: &[Row] = &[
    (
        ". {\n cache thirty\n forward . 192.0.2.1\n}",
        &[(2, 8, "'thirty' is read as the name of a zone")],
    ),
    (
        ". {\n cache 30 off cluster.local\n forward . 192.0.2.1\n}",
        &[(2, 11, "'off' is read as the name of a zone")],
    ),
    (". {\n cache 30 consul.\n forward . 192.0.2.1\n}", &[]),
    (". consul {\n cache consul\n forward . 192.0.2.1\n}", &[]),
    (". {\n cache 30\n forward consul 192.0.2.1\n}", &[]),
    // It is outside its block, which is another warning.
    (
        "a.example {\n cache thirty\n forward . 192.0.2.1\n}",
        &[(2, 8, "no query reaches this 'cache'")],
    ),
];

const BIND: &[Row] = &[
    ("a {\n bind 127.0.0.1\n}\nb {\n}", &[(4, 1, "dns://b.:53 is not served at 127.0.0.1")]),
    ("a {\n bind 127.0.0.1\n}\nb:54 {\n}", &[]),
];

#[test]
fn each_lint() {
    for (name, rows) in ROWS {
        assert!(LINTS.iter().any(|lint| lint.name == *name), "{name}");
        assert!(rows.iter().any(|(_, expected)| !expected.is_empty()), "{name} finds nothing");
        assert!(rows.iter().any(|(_, expected)| expected.is_empty()), "{name} finds everything");
        rows.iter().for_each(check_row);
    }
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/corefile.md"));
    let page = page.expect("the page").split_whitespace().collect::<Vec<_>>().join(" ");
    for lint in LINTS {
        assert!(ROWS.iter().any(|(name, _)| *name == lint.name), "{} has no row", lint.name);
        assert!(page.contains(lint.doc), "docs/corefile.md lacks: {}", lint.doc);
    }
    let names: BTreeSet<_> = LINTS.iter().map(|lint| lint.name).collect();
    assert_eq!(names.len(), LINTS.len());
}

/// The warnings of the Corefiles of the wild, those apart that an `import` matches no file.
const WILD: &[(&str, &[(usize, &str)])] = &[
    ("004", &[(15, "no query reaches this 'forward'")]),
    (
        "088",
        &[
            (10, "'10.96.0.10' is this server block itself"),
            (22, "'10.96.0.10' is this server block itself"),
            (33, "'10.96.0.10' is this server block itself"),
        ],
    ),
    (
        "098",
        &[
            (24, "addresses outside the cluster get NXDOMAIN instead of their names"),
            (28, "'fallthrough' is set twice"),
        ],
    ),
    ("120", &[(29, "zone is not a valid domain name: .svc")]),
    ("130", &[(4, "'*.example.com:53' has no names but those with the label '*'")]),
    ("138", &[(27, "no query reaches this 'forward'")]),
];

#[test]
fn no_false_alarms() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut count = 0;
    for folder in ["lint/wild", "corefile/defaults"] {
        for entry in fs::read_dir(tests.join(folder)).expect("a folder of Corefiles") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("a Corefile");
            let report = parse(&text).map_or_else(|report| report, |config| config.warnings);
            let mut found = findings(&report, Severity::Warning);
            found.retain(|(_, _, message)| !message.starts_with("No files matching import"));
            let found: Vec<_> =
                found.iter().map(|(line, _, message)| (*line, message.as_str())).collect();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let expected = WILD.iter().find(|(one, _)| *one == name);
            assert_eq!(found, expected.map_or(&[][..], |(_, expected)| *expected), "{name}");
            count += 1;
        }
    }
    assert!(count >= 30, "{count}");
}
