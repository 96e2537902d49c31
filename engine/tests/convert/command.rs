//! The command: where it writes, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::config_maps::{CUSTOM, data};

/// The process: where it writes, and its exit codes.
#[test]
fn the_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_ringdns")).arg("convert").arg(&path).output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&*folder.path().to_string_lossy(), "")
        };
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, stderr) = run("Corefile", "# kept\n. {\n proxy . 1.1.1.1\n}\n");
    assert_eq!((code, out.as_str()), (Some(0), "# kept\n. {\n forward . 1.1.1.1\n}\n"));
    assert_eq!(stderr, "/Corefile:3: `proxy` is called `forward` since CoreDNS 1.5\n");
    let (code, out, stderr) = run("Corefile", ". {\n etcd\n}\n");
    assert_eq!((code, out.as_str()), (Some(3), ". {\n etcd\n}\n"));
    assert!(
        stderr.contains("by hand")
            && stderr.contains("Directive 'etcd' is known but not built yet"),
        "{stderr}"
    );
    let (code, out, stderr) = run("custom.yaml", CUSTOM);
    assert_eq!(
        (code, data(&out)["lke.include"].as_str()),
        (Some(0), Some("loadbalance\n")),
        "{stderr}"
    );
    let (code, out, stderr) = run("custom.yaml", &CUSTOM.replace("errors", "etcd"));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("/custom.yaml as converted, corp.server:2 - "), "{stderr}");
    assert!(out.contains("forward . 192.0.2.18"), "{out}");
    let (code, out, stderr) = run("kube-dns.yaml", "kind: Pod\n");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("/kube-dns.yaml: this is a Pod"), "{stderr}");
    assert!(!Path::new("nothing").exists());
    let output =
        Command::new(env!("CARGO_BIN_EXE_ringdns")).args(["convert", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let path = folder.path().join("Corefile");
    let output = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["convert", "-"])
        .stdin(fs::File::open(path).unwrap())
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(3), b". {\n etcd\n}\n".as_slice())
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input as converted:2 - "));
    // What the command before the pipe leaves if it fails.
    let output = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["convert", "-"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("standard input: it is empty"));
}
