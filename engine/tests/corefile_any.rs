//! The Corefile's reader on arbitrary texts: it always ends and reports what is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use engine::config::{self, Config};
use engine::corefile::{Report, Severity, Surroundings};
use engine::plugin::DIRECTIVES;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Config, Report> {
    let surroundings = Surroundings::empty();
    config::parse("Corefile", text, &surroundings)
}

fn defaults() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corefile/defaults");
    let entries = fs::read_dir(folder).expect("a folder of Corefiles");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// Reads and shows a text; the test is that it ends.
fn survive(text: &str) {
    match parse(text) {
        Ok(config) => {
            assert!(!config.blocks.is_empty());
            assert!(config.blocks.iter().all(|block| !block.keys.is_empty()));
            assert!(
                config.warnings.findings().all(|finding| finding.severity == Severity::Warning)
            );
            assert!(!config.warnings.coloured().contains("not built"));
        }
        Err(report) => {
            assert!(report.findings().any(|finding| finding.severity == Severity::Error));
            let shown = report.to_string();
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            assert!(!report.coloured().is_empty());
        }
    }
}

/// Names of options, and words that belong to some of them.
const OPTIONS: [&str; 25] = [
    "pods",
    "ttl",
    "labels",
    "namespaces",
    "fallthrough",
    "lameduck",
    "except",
    "monitor",
    "stacktrace",
    "kubeconfig",
    "manifests",
    "endpoint",
    "tls",
    "upstream",
    "1.1.1.1",
    "tls://[::1%a]:853",
    "/etc/resolv.conf",
    "success",
    "disable denial",
    "serve_stale 1h verify 1s",
    "prefetch 5 1m 20%",
    "health_check",
    "next NXDOMAIN",
    "consolidate 5m",
    "(?i)x{9}{9}",
];

/// Pieces of Corefiles.
fn piece() -> impl Strategy<Value = String> {
    let mut words = vec![
        ".:53",
        "example.org",
        "10.0.0.0/9",
        "2001:db8::/33:5",
        "{",
        "}",
        " {\n",
        "}\n",
        "\n",
        "\r\n",
        "\"",
        "\\",
        "#",
        ",",
        "(s)",
        "import",
        "import s\n",
        "import *.none\n",
        "{$",
        "{$X}",
        "%}",
        "{%",
        "\t",
        "\u{2028}",
        "\u{7}",
        "\u{feff}",
        "ä",
        "日本",
        "5s",
        "1.5h",
        "30",
        "-1",
        ":8080",
        "[::1]:1",
        "a=b",
        "in (",
        "notin",
        "a..b",
        r"\.",
        r"\300",
    ];
    words.extend(OPTIONS);
    words.extend(DIRECTIVES.iter().map(|row| row.name));
    (proptest::sample::select(words), any::<bool>())
        .prop_map(|(word, blank)| if blank { format!("{word} ") } else { word.to_owned() })
}

/// As deep as a file can nest, on a thread's default stack.
#[test]
fn nothing_but_braces() {
    for text in ["{\n".repeat(100_000), "{".repeat(1 << 20), "a {\n".repeat(100_000)] {
        survive(&text);
        let _ = engine::convert::convert(&text);
    }
}

/// What a report shows of a variable is one short line, whatever its name is.
#[test]
fn names_of_variables() {
    for name in ["A\nB", "\t", "\u{1b}[31m", &"x".repeat(100_000)] {
        survive(&format!(". {{\n bind \"{{${name}}}\"\n}}\n"));
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_characters(text in "\\PC{0,200}") {
        survive(&text);
    }

    #[test]
    fn any_pieces(pieces in proptest::collection::vec(piece(), 0..60)) {
        survive(&pieces.concat());
    }

    /// Each default Corefile with something removed or inserted.
    #[test]
    fn damaged_defaults(
        which in 0usize..11,
        at in any::<proptest::sample::Index>(),
        cut in 0usize..5,
        piece in piece(),
    ) {
        let text = fs::read_to_string(&defaults()[which]).expect("a Corefile");
        let at = at.index(text.len());
        let damaged = format!("{}{piece}{}", &text[..at], text.get(at + cut..).unwrap_or_default());
        survive(&damaged);
    }
}
