//! `ringdns check`: reports of broken Corefiles, and the command from its users' view.
//!
//! `check/*.txt` and `check/refused/*.txt` are the reports of the Corefiles beside them, and
//! `check/everything.json` is one of them as JSON; `BLESS=1` writes all of them anew. CoreDNS 1.15
//! refuses each Corefile of `check/refused`, which are real ones from public repositories.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use engine::check::{self, CheckedTexts};
use engine::corefile::{Finding, Severity, Surroundings};
use tempfile::TempDir;

/// Tests run in the folder of the crate. Relative paths make reports that are the same everywhere.
fn folder(name: &str) -> PathBuf {
    Path::new("tests").join(name)
}

/// The Corefiles of a folder, by name.
fn corefiles(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name)).expect("a folder of Corefiles");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "Corefile"));
    paths.sort();
    paths
}

fn checked(path: &Path) -> CheckedTexts {
    let text = fs::read_to_string(path).expect("a Corefile");
    let name = path.file_name().expect("a file name").to_string_lossy();
    check::text(&name, Some(path), &text, &Surroundings::empty())
}

/// The reports without what is not built yet, so that building it changes no report.
fn shown(checked: &CheckedTexts) -> String {
    let texts: String = checked.texts.iter().map(|text| text.report().to_string()).collect();
    // Each drawing ends with this corner.
    let drawings = texts.split_inclusive("─╯\n");
    drawings.filter(|drawing| !drawing.contains(" is known but not built yet\n")).collect()
}

fn compare(path: &Path, found: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, found).expect("a written file");
    }
    assert_eq!(found, fs::read_to_string(path).unwrap_or_default(), "{}", path.display());
}

#[test]
fn reports() {
    for (name, count_min) in [("check", 20), ("check/refused", 6)] {
        let paths = corefiles(name);
        assert!(paths.len() >= count_min, "{name}: {} Corefiles", paths.len());
        for path in paths {
            let checked = checked(&path);
            compare(&path.with_extension("txt"), &shown(&checked));
            // Each says what to do.
            let mute = checked.findings().find(|finding| finding.help.is_none());
            assert_eq!(mute, None, "{}", path.display());
        }
    }
}

#[test]
fn findings_as_json() {
    let checked = checked(&folder("check").join("everything.Corefile"));
    compare(&folder("check").join("everything.json"), &checked.json());
    let fields = ["file", "line", "column", "severity", "plugin", "message", "help"];
    let findings: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(&checked.json()).expect("an array of objects");
    assert_eq!(findings.len(), checked.findings().count());
    for finding in findings {
        let mut names: Vec<_> = finding.keys().map(String::as_str).collect();
        names.sort_by_key(|name| fields.iter().position(|field| field == name));
        assert_eq!(names, fields);
    }
}

/// The example of the README is real.
#[test]
fn readme() {
    let text = fs::read_to_string(folder("check").join("readme.Corefile")).expect("a Corefile");
    let rig = Rig::new(&[("Corefile", &text)]);
    let output = rig.run(&["Corefile"], "");
    let shown = format!("$ ringdns check Corefile\n{}", String::from_utf8_lossy(&output.stdout));
    let page = fs::read_to_string("../README.md").expect("the page");
    assert!(page.contains(&shown), "README.md lacks:\n{shown}");
    assert!(page.lines().count() < 200);
}

/// Runs `ringdns check` in a folder with these files.
struct Rig {
    folder: TempDir,
}

impl Rig {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a written file");
        }
        Self { folder }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .arg("check")
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        // It may end before it has read all.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        child.wait_with_output().expect("its output")
    }

    /// The exit code, and the file, line, column and message of each finding.
    fn check(&self, arguments: &[&str], code: i32, expected: &[&str]) {
        let output = self.run(&[&["--json"], arguments].concat(), "");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let findings: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let shown = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let found: Vec<_> = findings
            .iter()
            .map(|one| ["file", "line", "column", "message"].map(|field| shown(&one[field])))
            .map(|[file, line, column, message]| format!("{file}:{line}:{column}: {message}"))
            .collect();
        assert_eq!(found, expected, "{arguments:?}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{text}");
    }
}

const CLEAN: &str = ".:5301 {\n errors\n forward . 192.0.2.1\n}\n";

#[test]
fn exit_codes() {
    let rig = Rig::new(&[
        ("clean", CLEAN),
        ("warned", ". {\n cache 30s\n forward . 192.0.2.1\n}\n"),
        ("broken", ". {\n cahce\n cache 30s\n}\n"),
    ]);
    let warning = "'30s' is read as the name of a zone";
    rig.check(&["clean"], 0, &[]);
    rig.check(&["--strict", "clean"], 0, &[]);
    let warned = [format!("warned:2:8: {warning}")];
    let warned: Vec<_> = warned.iter().map(String::as_str).collect();
    rig.check(&["warned"], 0, &warned);
    rig.check(&["--strict", "warned"], 2, &warned);
    let broken = ["broken:2:2: Unknown directive 'cahce'", &format!("broken:3:8: {warning}")];
    rig.check(&["broken"], 1, &broken);
    rig.check(&["-strict", "broken"], 1, &broken);
    rig.check(&["missing"], 1, &["-:-:-: open missing: No such file or directory (os error 2)"]);
    assert_eq!(rig.run(&[], "").status.code(), Some(2));
    let text = String::from_utf8(rig.run(&["missing"], "").stdout).expect("UTF-8");
    assert!(text.contains("Help: name a Corefile, a folder with one"), "{text}");
    assert!(!text.contains("-conf"), "{text}");
}

/// A snippet or file that is imported several times is mistaken once.
#[test]
fn a_mistake_in_an_imported_line_is_listed_once() {
    let corefile = "\
(common) {
 cahce 30
 import part
}
a.example {
 import common
}
b.example {
 import common
}
c.example {
 import part
}
";
    let rig = Rig::new(&[("Corefile", corefile), ("part", "lop\n")]);
    let expected = ["Corefile:2:2: Unknown directive 'cahce'", "part:1:1: Unknown directive 'lop'"];
    rig.check(&["Corefile"], 1, &expected);
    let text = String::from_utf8(rig.run(&["Corefile"], "").stdout).expect("UTF-8");
    assert!(text.contains("no directive has this name; in 2 imports\n"), "{text}");
    assert!(text.contains("no directive has this name; in 3 imports\n"), "{text}");
    assert!(text.ends_with("\nCorefile: 2 mistakes, no warnings\n"), "{text}");
}

#[test]
fn standard_input_and_text() {
    let rig = Rig::new(&[("a.override", "errors\n")]);
    let output = rig.run(&["-"], ". {\n import a.override\n cahce\n}\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.starts_with("stdin:3 - Error during parsing: Unknown directive 'cahce'\n"));
    assert!(text.ends_with("\n-: 1 mistake, no warnings\n"), "{text}");
    // What the command before the pipe leaves if it fails: no Corefile, which would be valid.
    let output = rig.run(&["-"], "\n");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("it is empty: did the command before the pipe fail?"), "{text}");
}

/// A ConfigMap's folder: what the Corefile imports is checked as its part, everything else by
/// itself.
#[test]
fn folders() {
    let rig = Rig::new(&[
        ("a/Corefile", ". {\n import *.override\n}\n"),
        ("a/b.override", "errors\ncahce\n"),
        ("a/c.server", "corp.example {\n forwrad . 192.0.2.1\n}\n"),
        ("a/notes.txt", "not a Corefile"),
        ("b/x.override", "errors\nlop\n"),
        ("c/Corefile", ". {\n whoami\n}\n"),
        ("c/empty.server", "# keeps the glob of an import from being a warning\n"),
        ("empty/notes.txt", ""),
    ]);
    rig.check(
        &["a"],
        1,
        &[
            "a/b.override:2:1: Unknown directive 'cahce'",
            "a/c.server:2:2: Unknown directive 'forwrad'",
        ],
    );
    rig.check(&["b"], 1, &["b/x.override:2:1: Unknown directive 'lop'"]);
    rig.check(&["--strict", "c"], 0, &[]);
    rig.check(&["b/x.override"], 1, &["b/x.override:2:1: Unknown directive 'lop'"]);
    rig.check(&["empty"], 1, &["-:-:-: open empty: this folder has no Corefile"]);
}

/// Files that the cluster may have are warnings; what `--online` cannot load is a mistake.
#[test]
fn named_files() {
    let corefile = ". {
 hosts names {
  fallthrough
 }
 kubernetes cluster.local {
  manifests cluster.yaml
 }
 forward . /nowhere/resolv.conf 192.0.2.1 {
  tls /nowhere/ca.crt
 }
}
a:53 {
 kubernetes a {
  manifests broken.yaml
  fallthrough
 }
 forward . here.conf
}
";
    let rig = Rig::new(&[
        ("Corefile", corefile),
        ("cluster.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n"),
        ("broken.yaml", "kind: [oh no"),
        ("here.conf", "nameserver 192.0.2.1\n"),
    ]);
    let missing = |file: &str| format!("open {file}: no such file on this machine");
    let names = format!("Corefile:2:8: {}", missing("names"));
    let upstreams = format!("Corefile:8:12: {}", missing("/nowhere/resolv.conf"));
    let authority = format!("Corefile:9:7: {}", missing("/nowhere/ca.crt"));
    rig.check(&["Corefile"], 0, &[&names, &upstreams, &authority]);
    rig.check(&["--strict", "Corefile"], 2, &[&names, &upstreams, &authority]);
    rig.check(
        &["--online", "Corefile"],
        1,
        &[
            "Corefile:8:2: /nowhere/resolv.conf: No such file or directory (os error 2)",
            "Corefile:14:3: cannot read the manifests: broken.yaml:1:7: unclosed bracket '['",
            &names,
            &authority,
        ],
    );
}

const CORE_DNS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: coredns
  namespace: kube-system
data:
  Corefile: |
    .:53 {
        cahce 30
        import custom/*.override
    }
    import custom/*.server
";

const CUSTOM: &str = "\
kind: ConfigMap
apiVersion: v1
metadata: {name: coredns-custom, namespace: kube-system}
data:
  a.override: |-
    errors

    loadblance
  b.server: |

      corp.example {
        forwrad . 192.0.2.1
      }
  c.include: |
    errros
  README: not a part
";

#[test]
fn config_maps() {
    let text = format!("{CORE_DNS}---\n{CUSTOM}---\nkind: Deployment\nspec: {{}}\n");
    let json = r#"{"kind": "ConfigMap", "metadata": {"name": "coredns", "namespace": "dns"},
        "data": {"Corefile": ". {\n cahce\n}\n"}}"#;
    let rig = Rig::new(&[
        ("both.yaml", &text),
        ("custom.yaml", CUSTOM),
        ("map.json", json),
        (
            "quoted.yaml",
            "kind: ConfigMap\nmetadata: {name: coredns}\ndata:\n  Corefile: \". {\\n cahce\\n}\"\n",
        ),
        ("list.yaml", &format!("kind: List\nitems:\n- {}", CORE_DNS.replace('\n', "\n  "))),
        ("other.yaml", "kind: Secret\ndata: {a: [1]}\n"),
        ("broken.yaml", "kind: ConfigMap\ndata: [\n"),
    ]);
    rig.check(
        &["both.yaml"],
        1,
        &[
            "both.yaml:9:9: Unknown directive 'cahce'",
            "both.yaml:21:5: Unknown directive 'loadblance'",
            "both.yaml:25:9: Unknown directive 'forwrad'",
            "both.yaml:28:5: Unknown directive 'errros'",
        ],
    );
    rig.check(
        &["custom.yaml"],
        1,
        &[
            "custom.yaml:8:5: Unknown directive 'loadblance'",
            "custom.yaml:12:9: Unknown directive 'forwrad'",
            "custom.yaml:15:5: Unknown directive 'errros'",
        ],
    );
    rig.check(
        &["map.json"],
        1,
        &["ConfigMap dns/coredns, Corefile:2:2: Unknown directive 'cahce'"],
    );
    rig.check(&["quoted.yaml"], 1, &["ConfigMap coredns, Corefile:2:2: Unknown directive 'cahce'"]);
    rig.check(
        &["list.yaml"],
        1,
        &[
            "list.yaml:11:11: Unknown directive 'cahce'",
            "list.yaml:12:18: No files matching import glob pattern: custom/*.override",
            "list.yaml:14:14: No files matching import glob pattern: custom/*.server",
        ],
    );
    rig.check(
        &["other.yaml"],
        1,
        &["-:-:-: other.yaml: no ConfigMap in this file has a Corefile or a part of one"],
    );
    let output = rig.run(&["broken.yaml"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("broken.yaml:"));
}

/// k3s has its hosts file, and others their zone files, as keys beside the Corefile.
#[test]
fn keys_that_are_files() {
    let text = "\
kind: ConfigMap
data:
  Corefile: |
    .:53 {
        import /etc/coredns/common.conf
        hosts /etc/coredns/NodeHosts {
            fallthrough
        }
        forward . /etc/coredns/upstreams
    }
  NodeHosts: |
    10.0.0.1 node-1
  common.conf: errors
";
    let rig = Rig::new(&[("map.yaml", text)]);
    let missing = "open /etc/coredns/upstreams: no such file on this machine";
    rig.check(&["map.yaml"], 0, &[&format!("map.yaml:9:19: {missing}")]);
}

/// Relative paths start from `root`, as at start-up.
#[test]
fn files_below_root() {
    let corefile = ". {
 root here
 hosts names {
  fallthrough
 }
 forward . up/resolv.conf {
  tls ca.crt
 }
}
";
    let files = ["here/names", "here/ca.crt", "up/resolv.conf"].map(|name| (name, ""));
    let rig = Rig::new(&[&[("Corefile", corefile)], &files[..]].concat());
    rig.check(&["Corefile"], 0, &[]);
}

/// What CoreDNS refuses, ringdns refuses in the words of CoreDNS's first mistake.
#[test]
fn refused() {
    let expected = [
        (
            "block-on-one-line",
            "block-on-one-line.Corefile:16 - Error during parsing: Unexpected '}' because no \
             matching opening brace",
        ),
        (
            "proxy-and-stubzones",
            "proxy-and-stubzones.Corefile:11 - Error during parsing: Unknown directive 'proxy'",
        ),
        ("proxy", "proxy.Corefile:14 - Error during parsing: Unknown directive 'proxy'"),
        ("rewirte", "rewirte.Corefile:4 - Error during parsing: Unknown directive 'rewirte'"),
        ("unbound", "unbound.Corefile:2 - Error during parsing: Unknown directive 'unbound'"),
        (
            "upstream",
            "plugin/kubernetes: upstream.Corefile:6 - Error during parsing: unknown property \
             'upstream'",
        ),
    ];
    let paths = corefiles("check/refused");
    assert_eq!(paths.len(), expected.len());
    for (path, (name, message)) in paths.iter().zip(expected) {
        assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(name));
        let checked = checked(path);
        assert!(
            checked.findings().any(|finding| finding.message == message),
            "{}",
            shown(&checked)
        );
        // Without this one, ringdns would start.
        let is_other = |finding: &Finding<'_>| {
            finding.severity == Severity::Error
                && finding.message != message
                && !finding.message.ends_with("not built yet")
                && !finding.message.contains("unknown property 'upstream'")
        };
        assert_eq!(checked.findings().find(is_other), None);
    }
}

/// The deadline of a log line.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server logs each warning on one line, at start-up and at each reload.
#[test]
fn warnings_are_logged() {
    let corefile = |zone: &str| {
        format!(".:0 {{\n bind 127.0.0.1\n cache 30s {zone}\n forward . 192.0.2.1\n}}\n")
    };
    let rig = Rig::new(&[("Corefile", &corefile("a"))]);
    let mut server = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .current_dir(rig.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let log = BufReader::new(server.stdout.take().expect("its log")).lines();
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || log.map_while(Result::ok).try_for_each(|line| send.send(line)));
    let expected = "[WARNING] plugin/cache: Corefile:3 - '30s' is read as the name of a zone; the \
                    TTL of `cache` is a number of seconds without a unit, such as `cache 30`";
    let is_logged = || {
        let mut next = std::iter::from_fn(|| lines.recv_timeout(PATIENCE).ok());
        next.any(|line| line == expected)
    };
    let at_start = is_logged();
    fs::write(rig.folder.path().join("Corefile"), corefile("b")).expect("a written file");
    let pid = server.id().to_string();
    let sent = Command::new("kill").args(["-s", "USR1", &pid]).status().expect("kill");
    let at_reload = is_logged();
    server.kill().expect("it was running");
    server.wait().expect("its end");
    assert!(sent.success() && at_start && at_reload, "{at_start} {at_reload}");
}
