//! The Corefile's grammar: blocks, keys, snippets, imports, and mistakes in them. The plugins'
//! options are in `corefile_plugins.rs` and `corefile_upstreams.rs`.

#[path = "corefile/rows.rs"]
mod rows;

use std::fs;
use std::path::{Path, PathBuf};

use engine::config;
use engine::corefile::Severity;

use rows::{check, check_mistakes, check_warnings, findings, parse, same, summary};

#[test]
fn keys() {
    check(".:53 {\n}", &["dns://.:53"]);
    check("example.org", &["dns://example.org.:53"]);
    check("Example.ORG:1053 {\n}\n", &["dns://example.org.:1053"]);
    check("dns://. {\n}", &["dns://.:53"]);
    check("a b, c,\nd:54 {\n}", &["dns://a.:53 | dns://b.:53 | dns://c.:53 | dns://d.:54"]);
    check("a , b\n{\n}", &["dns://a.:53 | dns://b.:53"]);
    check("10.0.0.0/15:53 {\n}", &["dns://0.10.in-addr.arpa.:53 | dns://1.10.in-addr.arpa.:53"]);
    check("2001:db8::/32 {\n}", &["dns://8.b.d.0.1.0.0.2.ip6.arpa.:53"]);
    check("{$DOMAIN}:{$UNSET}53 {\n}", &["dns://cluster.local.:53"]);
    check("a {\n}\nb {\n}", &["dns://a.:53", "dns://b.:53"]);
    check("a:1 {\n}\na:2 {\n}", &["dns://a.:1", "dns://a.:2"]);
    check_mistakes("a a {\n}", &[(1, 3, "cannot serve dns://a.:53 - it is already defined")]);
    check_mistakes("a {\n}\nA.:53", &[(3, 1, "cannot serve dns://a.:53 - it is already defined")]);
    check_mistakes(
        "a..b c: d:99999 {\n}",
        &[
            (1, 1, "zone is not a valid domain name: a..b"),
            (1, 6, "expecting data after last colon: \"c:\""),
            (1, 9, "invalid port in 'd:99999'"),
        ],
    );
    check_mistakes(
        "quic://a dsn://b :53 .:53{ {\n}",
        &[
            (1, 1, "'quic://' is known but not built yet"),
            (1, 18, "zone is not a valid domain name: "),
            (1, 22, "zone is not a valid domain name: .:53{"),
        ],
    );
}

/// CoreDNS 1.15 starts with each of these, so it reads them as names.
#[test]
fn names_that_are_probably_mistakes() {
    let check = |text: &str, keys: &[&str], warnings: &[(usize, usize, &str)]| {
        let config = check_warnings(text, warnings);
        assert_eq!(config.blocks.iter().map(summary).collect::<Vec<_>>(), keys, "{text}");
    };
    check(
        "a.x:5300{\n errors\n}\nb.x {\n}",
        &["dns://a.x:5300{.:53 | errors=false", "dns://b.x.:53"],
        &[
            (1, 1, "'a.x:5300{' is read as the name of a zone"),
            (3, 1, "'}' without an opening brace"),
        ],
    );
    check("a,b:5300 {\n}", &["dns://a,b.:5300"], &[(1, 1, "'a,b' is read as the name of a zone")]);
    check(
        "a:http foo://b:54 10.0.0.0/33 {\n}",
        &["dns://a:http.:53 | dns://foo://b.:54 | dns://10.0.0.0/33.:53"],
        &[
            (1, 1, "'a:http' is read as the name of a zone"),
            (1, 8, "'foo://b' is read as the name of a zone"),
            (1, 19, "'10.0.0.0/33' is read as the name of a zone"),
        ],
    );
    check(
        "5353 \"q d.x\" {$NONE}} {\n}",
        &["dns://5353.:53 | dns://q d.x.:53 | dns://}.:53"],
        &[
            (1, 1, "'5353' is read as the name of a zone"),
            (1, 6, "'q d.x' is read as the name of a zone"),
            (1, 14, "'}' is read as the name of a zone"),
        ],
    );
    check(
        "{$NONE} {\n errors\n}\na {\n}",
        &["dns://a.:53"],
        &[(1, 9, "server block without a zone")],
    );
    check(
        "a\nerrors\n}\n",
        &["dns://a.:53 | errors=false"],
        &[(3, 1, "'}' without an opening brace")],
    );
    let help = |text: &str| {
        let config = parse(text).unwrap_or_else(|report| panic!("{report}"));
        let help = config.warnings.findings().next().and_then(|finding| finding.help);
        help.unwrap_or_default().to_owned()
    };
    assert!(help("a.x:5300{\n}").starts_with("write `a.x:5300 {`"));
    assert!(help("5353 {\n}").contains("`.:5353`"));
    assert!(help(". {\n cache 30s\n}").contains("`cache 30`"));
    assert!(help(". {\n forward 192.0.2.1 192.0.2.2\n}").contains("`forward . 192.0.2.1`"));
}

/// CoreDNS starts with these, and a query may reach a block that its author does not expect.
#[test]
fn overlapping_addresses() {
    const SHADOW: &str = "dns://b.:53 is not served at 127.0.0.1";
    let check = |text: &str, warnings: &[(usize, usize, &str)]| {
        check_warnings(text, warnings);
    };
    check("a {\n bind 127.0.0.1\n}\nb {\n}", &[(4, 1, SHADOW)]);
    check("b {\n bind 0.0.0.0\n}\na {\n bind 127.0.0.1\n}", &[(1, 1, SHADOW)]);
    check("a {\n bind 127.0.0.1\n}\nb:54 {\n}", &[]);
    check("a {\n bind 127.0.0.1\n}\nb {\n bind 127.0.0.1 ::\n}", &[]);
    check("a {\n bind 0.0.0.0 127.0.0.1\n}", &[]);
    check(
        "a {\n bind 0.0.0.0\n}\na {\n bind ::\n}",
        &[(4, 1, "dns://a.:53 on :: is dns://a.:53 on 0.0.0.0: the first answers")],
    );
    check_mistakes(
        "a {\n bind ::\n}\na {\n bind ::\n}",
        &[(4, 1, "cannot serve dns://a.:53 on :: - it is already defined")],
    );
}

/// As in CoreDNS, an argument that is not a domain name is ignored; of one with a port, the zone is
/// used.
#[test]
fn arguments_that_are_not_zones() {
    let check = |directive: &str, expected: &str, warnings: &[(usize, usize, &str)]| {
        let config = check_warnings(&format!(". {{\n {directive}\n}}"), warnings);
        assert_eq!(summary(&config.blocks[0]), format!("dns://.:53 | {expected}"), "{directive}");
    };
    const SVC: &str = "zone is not a valid domain name: .svc";
    check("kubernetes .svc corp.example", "kubernetes=corp.example.", &[(2, 13, SVC)]);
    check("cache {$UNSET}", "cache=", &[(2, 8, "zone is not a valid domain name: ")]);
    check("cache 30 {$UNSET} a", "cache=a.", &[(2, 11, "zone is not a valid domain name: ")]);
    check("cache 30s", "cache=30s.", &[(2, 8, "'30s' is read as the name of a zone")]);
    check(
        "cache a:53 dns://b",
        "cache=a.,b.",
        &[
            (2, 8, "only the zone of 'a:53' is used: a"),
            (2, 13, "only the zone of 'dns://b' is used: b"),
        ],
    );
    check(
        "cache {\n  disable success .svc 1h\n }",
        "cache=.",
        &[(3, 19, SVC), (3, 24, "'1h' is read as the name of a zone")],
    );
    check(
        "kubernetes a {\n  fallthrough .svc 30\n }",
        "kubernetes=a.",
        &[(3, 15, SVC), (3, 20, "'30' is read as the name of a zone")],
    );
    check(
        "forward 10.0.0.1 10.0.0.2 {\n  except .svc\n }",
        "forward=10.0.0.1. 1",
        &[(2, 10, "'10.0.0.1' is read as the name of a zone"), (3, 10, SVC)],
    );
    check(
        "kubernetes in-addr.arpa ip6.arpa",
        "kubernetes=in-addr.arpa.,ip6.arpa.",
        &[(2, 13, "the names of Services are in 'in-addr.arpa.'")],
    );
    check_mistakes(". {\n kubernetes .svc\n}", &[(2, 13, "non-reverse zone name must be used")]);
    check_mistakes(". {\n forward .svc 10.0.0.1\n}", &[(2, 10, SVC)]);
}

#[test]
fn braces_close_on_the_line_of_the_last_option() {
    let lameduck = ". {\n health { lameduck 5s }\n}";
    check_warnings(lameduck, &[(2, 23, "CoreDNS reads this '}' as a word of 'lameduck'")]);
    check_mistakes(
        ". {\n health { lameduck 5s } }\n",
        &[(2, 25, "Unexpected '}' because no matching opening brace")],
    );
}

#[test]
fn grammar() {
    check(".\nerrors # all\nready\n", &["dns://.:53 | errors=false | ready=* 8181 UntilReady"]);
    check(
        ". { errors\r\n  health {\r\n\r\n lameduck 5s\r\n  }\r\n}",
        &["dns://.:53 | errors=false | health=* 8080 5s"],
    );
    check(
        "\u{feff}. {\n bind \"127.0.0.1\" # home\n bind ::1#also\n}",
        &["dns://.:53 | bind=127.0.0.1%0 | bind=::1%0"],
    );
    check(". {\n health {\n }\n}", &["dns://.:53 | health=* 8080 0ns"]);
    check_mistakes(
        ". {\n errors\n",
        &[(2, 2, "Syntax error: Unexpected token 'errors', expecting '}'")],
    );
    check_mistakes(". {\n health {\n  lameduck 5s\n", &[(3, 12, "Unexpected EOF")]);
    check_mistakes(
        "a {\n errors\n health{\n  lameduck 5s\n }\n}\n",
        &[(3, 2, "no space before '{'")],
    );
    check_mistakes(
        ". {\n errors }\n}\n",
        &[(2, 9, "Unexpected '}' because no matching opening brace")],
    );
    check_mistakes(
        ". {\n}\n}\na {\n}\n",
        &[(3, 1, "Unexpected '}' because no matching opening brace")],
    );
    // CoreDNS reads one at the end as a zone of that name.
    check_warnings(". {\n}\n}\n", &[(3, 1, "'}' without an opening brace")]);
    check_mistakes(
        ". {\n health\n {\n lameduck 5s\n }\n}",
        &[(3, 2, "'{' must stand at the end of its directive's line")],
    );
    check_mistakes(
        ". {\n health {\n } errors\n { }\n}",
        &[
            (3, 4, "Unexpected 'errors' after '}'"),
            (4, 2, "'{' must stand at the end of its directive's line"),
        ],
    );
    check_mistakes(". {\n {\n }\n}\n{\n}\n", &[(2, 2, "Unknown directive '{'")]);
    check_mistakes(
        "a, {\n}\nb,",
        &[
            (1, 4, "Expected another address but had '{' - check for extra comma"),
            (3, 1, "Unexpected EOF"),
        ],
    );
    check_mistakes(
        ". {\n bind \"127.0.0.1\n}\n",
        &[
            (2, 7, "quoted text is not closed before the end of file"),
            (2, 7, "Syntax error: Unexpected token '127.0.0.1\u{fffd}}\u{fffd}', expecting '}'"),
            (2, 7, "not a valid IP address or interface name: \"127.0.0.1\u{fffd}}\u{fffd}\""),
        ],
    );
    check_mistakes(
        &format!(". {{\n errors {}\n", "{\n x ".repeat(20)),
        &[
            (3, 2, "unknown property 'x'"),
            (18, 4, "more than 16 nested braces"),
            (22, 2, "Unexpected EOF"),
        ],
    );
}

#[test]
fn unknown_words() {
    check_mistakes(
        ". {\n cahce 30 {\n  denial 5\n }\n errors\n xyzzy\n}",
        &[(2, 2, "Unknown directive 'cahce'"), (6, 2, "Unknown directive 'xyzzy'")],
    );
    check_mistakes(
        ". {\n etcd\n errors {\n  stacktrce\n }\n}",
        &[
            (2, 2, "Directive 'etcd' is known but not built yet"),
            (4, 3, "unknown property 'stacktrce'"),
        ],
    );
    let help = |directive: &str| {
        let report = parse(&format!(". {{\n {directive}\n}}")).expect_err("a mistake");
        let help = report.findings().next().and_then(|finding| finding.help).map(str::to_owned);
        help.unwrap_or_default()
    };
    assert_eq!(help("cahce"), "did you mean `cache`?");
    assert_eq!(help("etdc"), "did you mean `etcd`? It is known but not built yet");
    assert_eq!(help("kuberntes"), "did you mean `kubernetes`?");
    assert_eq!(help("prom"), "did you mean `prometheus`?");
    assert_eq!(help("metrics"), "the directive is called `prometheus`");
    assert_eq!(
        help("pods insecure"),
        "`pods` is an option of `kubernetes`: write it between its braces"
    );
    assert!(help("example.org {\n}").contains("the one above is not closed"));
    assert!(help("fallthrough").contains("is an option of") && !help("ttl").contains("its braces"));
    assert_eq!(help("xyzzy"), "`ringdns -plugins` lists the directives");
    assert!(help("10.0.0.1 db.example").contains("an entry of `hosts`"));
    assert!(help("upstream").starts_with("delete the line: since CoreDNS 1.7"));
    assert!(help("unbound").starts_with("an external plugin"));
    assert!(help("stubDomains {\n}").contains("`ringdns convert`"));
    assert!(help("proxy . 1.1.1.1").contains("`forward`"));
}

#[test]
fn snippets() {
    check(
        "(s) {\n errors\n ready\n}\na {\n import s\n}\nb {\n import s\n}",
        &[
            "dns://a.:53 | errors=false | ready=* 8181 UntilReady",
            "dns://b.:53 | errors=false | ready=* 8181 UntilReady",
        ],
    );
    check(
        "(o) {\n lameduck 3s\n}\n(s) {\n health {\n  import o\n }\n}\na {\n import s\n}",
        &["dns://a.:53 | health=* 8080 3s"],
    );
    check("(z) {\n a b\n}\nimport z\n{\n}", &["dns://a.:53 | dns://b.:53"]);
    check("(unused) {\n cahce\n}\na {\n}", &["dns://a.:53"]);
    check_mistakes(
        "(s) {\n errors\n}\n(s) {\n ready\n}\na {\n import s\n import s\n}",
        &[
            (2, 2, "this plugin can only be used once per Server Block"),
            (4, 1, "redeclaration of previously declared snippet s"),
        ],
    );
    check_mistakes(
        "(s) {\n import s\n}\na {\n import s\n}",
        &[(2, 9, "maximum snippet import depth (10000) exceeded")],
    );
    check_mistakes(
        "(b) {\n}\n(a) {\n import c\n}\n(c) {\n import a\n}\nx {\n import a\n}",
        &[(7, 9, "maximum snippet import depth (10000) exceeded")],
    );
    check_mistakes("(s)\na {\n}", &[(1, 1, "Syntax error: Unexpected token '(s)', expecting '{'")]);
}

/// Writes files into a folder; the first is the Corefile.
fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let corefile = dir.path().join(files[0].0);
    (dir, corefile)
}

#[test]
fn imports() {
    let (dir, path) = folder(&[
        ("Corefile", ". {\n import custom/*.override\n}\nimport custom/*.server\nimport none*\n"),
        ("custom/a.override", "errors\nimport more/health"),
        ("custom/b.override", "ready"),
        ("custom/more/health", "health {\n lameduck 1s\n}"),
        ("custom/x.server", "corp.local {\n loadbalance\n}"),
    ]);
    let config = config::load(&path, 1053).unwrap_or_else(|report| panic!("{report}"));
    let expected = [
        "dns://.:1053 | errors=false | health=* 8080 1s | ready=* 8181 UntilReady",
        "dns://corp.local.:1053 | loadbalance",
    ];
    assert_eq!(config.blocks.iter().map(summary).collect::<Vec<_>>(), expected);
    let names = [
        "Corefile",
        "custom/a.override",
        "custom/more/health",
        "custom/b.override",
        "custom/x.server",
    ];
    let mut read = config.files.clone();
    read.sort();
    let mut expected: Vec<_> = names.iter().map(|name| dir.path().join(name)).collect();
    expected.sort();
    assert_eq!(read, expected);
    assert_eq!(config.folders, [dir.path().to_path_buf(), dir.path().join("custom")]);
    let warning = (5, 8, "No files matching import glob pattern: none*");
    assert!(same(&findings(&config.warnings, Severity::Warning), &[warning]));
    assert_eq!(config.blocks[1].place.file, dir.path().join("custom/x.server").to_string_lossy());
}

#[test]
fn mistaken_imports() {
    let check = |files: &[(&str, &str)], expected: &[(&str, usize, usize, &str)]| {
        let (dir, path) = folder(files);
        let report = config::load(&path, 53).expect_err("a mistake");
        let found: Vec<_> = report
            .findings()
            .map(|f| {
                (f.file.replace(&*dir.path().to_string_lossy(), ""), f.line, f.column, f.message)
            })
            .collect();
        assert_eq!(found.len(), expected.len(), "{report}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(
                (found.0.as_str(), found.1, found.2),
                (expected.0, expected.1, expected.2),
                "{report}"
            );
            assert!(found.3.ends_with(expected.3), "{report}");
        }
    };
    check(
        &[("Corefile", ". {\n import a\n}"), ("a", "errors\ncahce")],
        &[("/a", 2, 1, "Unknown directive 'cahce'")],
    );
    check(
        &[("Corefile", ". {\n import a\n}"), ("a", "import a")],
        &[("/a", 1, 8, "maximum file import depth (10000) exceeded")],
    );
    check(
        &[
            (
                "Corefile",
                ". {\n import nosuch\n import\n import a b\n import \"\"\n import *x*\n \
                 import custom\n}",
            ),
            ("custom/x", ""),
        ],
        &[
            ("/Corefile", 2, 9, "File to import not found: nosuch"),
            ("/Corefile", 3, 2, "unexpected line ending after 'import'"),
            ("/Corefile", 4, 11, "Import takes only one argument (glob pattern or file)"),
            ("/Corefile", 5, 9, "Import requires a non-empty filepath"),
            ("/Corefile", 6, 9, "*x*"),
            ("/Corefile", 7, 9, "is a directory"),
        ],
    );
    check(
        &[("Corefile", ". {\n import a\n"), ("a", "health {\n")],
        &[("/a", 1, 8, "Unexpected EOF")],
    );
    // 2^14 imports, none of which is its own ancestor.
    let mut doubling = String::from("(s0) {\n errors\n}\n");
    for at in 1..=14 {
        doubling += &format!("(s{at}) {{\n import s{}\n import s{}\n}}\n", at - 1, at - 1);
    }
    let report = parse(&(doubling + ". {\n import s14\n}")).expect_err("too many imports");
    assert!(report.to_string().contains("maximum snippet import depth (10000) exceeded"));
}

/// `kubectl get configmap coredns -o yaml > Corefile`, instead of the Corefile itself.
#[test]
fn config_maps_are_not_corefiles() {
    for text in [
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  Corefile: |\n    . {\n    }\n",
        "---\nkind: ConfigMap\n",
        "# kubectl\nkind: List\n",
        "{\n    \"apiVersion\": \"v1\"\n}\n",
        "{kind: ConfigMap}",
    ] {
        let report = parse(text).expect_err("no Corefile").to_string();
        assert!(
            report.starts_with("Corefile:1 - Error during parsing: this is YAML or JSON"),
            "{report}"
        );
        assert!(report.contains("`ringdns convert - > Corefile`"), "{report}");
    }
    check("---x {\n}", &["dns://---x.:53"]);
}

#[test]
fn unreadable_corefiles() {
    let report = config::load(Path::new("/nonexistent/Corefile"), 53).expect_err("no such file");
    assert!(report.to_string().starts_with("open /nonexistent/Corefile: No such file"), "{report}");
    assert!(report.to_string().contains("-conf FILE"), "{report}");
    let (dir, path) = folder(&[("Corefile", ". {\n}\n")]);
    let report = config::load(dir.path(), 53).expect_err("a folder").to_string();
    assert!(
        report.contains(&format!("name the file in it: `-conf {}`", path.display())),
        "{report}"
    );
    for text in ["", " \n", "# nothing\n", "(s) {\n errors\n}\n"] {
        let config = parse(text).expect("it is served as if there were no Corefile");
        assert!(config.is_empty, "{text}");
        let report = config.warnings.to_string();
        assert!(report.starts_with("[WARNING] Corefile:1 - no server block"), "{report}");
        assert!(report.contains("-conf FILE"), "{report}");
        let plugins: Vec<_> = config.blocks[0].plugins().map(|plugin| plugin.name()).collect();
        assert_eq!(plugins, ["log", "whoami"]);
    }
}
