//! The Corefile's reader from its users' view: whole reports, and the Corefiles that distributions
//! ship.
//!
//! `corefile/*.expected` are the reports of `corefile/*.Corefile`; `BLESS=1` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use engine::config::{self, Config};
use engine::corefile::{Report, Surroundings};
use engine::plugin::DIRECTIVES;

fn parse(text: &str) -> Result<Config, Report> {
    let surroundings = Surroundings::empty();
    config::parse("Corefile", text, &surroundings)
}

fn corefiles(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = fs::read_dir(folder).expect("a folder of Corefiles");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "Corefile"));
    paths.sort();
    paths
}

#[test]
fn reports() {
    let paths = corefiles("corefile");
    assert!(paths.len() >= 6);
    for path in paths {
        let text = fs::read_to_string(&path).expect("a Corefile");
        let shown = match parse(&text) {
            Ok(config) => config.warnings.to_string(),
            Err(report) => report.to_string(),
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &shown).expect("a written file");
        }
        assert_eq!(shown, fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
    }
}

/// Every Corefile that a distribution ships is read without a mistake.
#[test]
fn defaults() {
    let paths = corefiles("corefile/defaults");
    assert_eq!(paths.len(), 11);
    for path in paths {
        let text = fs::read_to_string(&path).expect("a Corefile");
        parse(&text).unwrap_or_else(|report| panic!("{}:\n{report}", path.display()));
    }
}

#[test]
fn table() {
    // The order of CoreDNS 1.15.
    let order = "root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts \
                 multisocket reload nsid bufsize \
                 bind debug trace ready health pprof shed prometheus errors log dnstap local \
                 dns64 siit any chaos loadbalance \
                 tsig rewrite autopath acl cache header dnssec tls minimal template transfer \
                 dynupdate hosts route53 azure \
                 clouddns k8s_external kubernetes file auto secondary etcd loop forward grpc \
                 erratic whoami on sign view nomad";
    let is_ours = |name: &&str| *name == "no_aaaa";
    let names: Vec<_> =
        DIRECTIVES.iter().map(|row| row.name).filter(|name| !is_ours(name)).collect();
    assert_eq!(names, order.split_whitespace().collect::<Vec<_>>());
    for row in DIRECTIVES {
        assert!(
            !row.doc.is_empty() && !row.doc.contains('\n') && !row.doc.ends_with('.'),
            "{}",
            row.name
        );
        let report = parse(&format!(". {{\n {} \"\" x y z\n}}", row.name));
        let built = !report.is_err_and(|report| report.to_string().contains("not built yet"));
        assert_eq!(built, row.is_built(), "{}", row.name);
    }
}

#[test]
fn digests() {
    let digest = |text: &str| match parse(text) {
        Ok(config) => config.digest,
        Err(report) => report.digest().to_owned(),
    };
    let first = digest(". {\n errors\n ready\n}");
    assert_eq!(first.len(), 128);
    let same = |text: &str, expected: bool| assert_eq!(digest(text) == first, expected, "{text}");
    same("# a comment\n. {\n\terrors # another\n\n  ready\r\n}\n", true);
    same(". {\n errors ready\n}", false);
    same(". {\n errors\n ready x\n}", false);
    same(". {\n errors\n \"ready\"\n}", true);
    assert_eq!(digest("x").len(), 128);
    assert_ne!(digest("a bc {\n}"), digest("ab c {\n}"));
}

#[test]
fn colours() {
    let report = parse(". {\n cahce\n}").expect_err("a mistake");
    assert!(!report.to_string().contains('\u{1b}'));
    assert!(report.coloured().contains('\u{1b}'));
}
