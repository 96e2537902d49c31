//! Exec plugins, run as real programs.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn plugin(script: &str, user: &str) -> (TempDir, Result<String, String>) {
    let surroundings = Surroundings::new(&[]);
    surroundings.write(
        "plugin",
        format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho x >> runs\n{script}\n"),
    );
    let file = surroundings.folder.path().join("plugin");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a file");
    let exec = "apiVersion: client.authentication.k8s.io/v1, command: ./plugin";
    let text = entries("server: 'https://a'", &format!("exec: {{{exec}, {user}}}"));
    let server = kubeconfig_file(&surroundings, &text, None);
    let Ok(access) = Access::load(&server, &surroundings.environment()) else {
        panic!("no access")
    };
    let Credentials::Plugin(plugin) = access.credentials else { panic!("no plugin") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let identity = plugin.log_in().await?;
        let header = plugin.header().await?;
        let header =
            header.map_or_else(|| "none".to_owned(), |header| header.to_str().unwrap().to_owned());
        Ok(if identity.is_some() { format!("certificate {header}") } else { header })
    });
    let outcome = outcome.map_err(|error: ConnectError| format!("{error}; {}", error.next_step));
    (surroundings.folder, outcome)
}

#[test]
fn plugins() {
    #[track_caller]
    fn check(script: &str, user: &str, runs: usize, expected: Result<&str, &str>) {
        let (folder, outcome) = plugin(script, user);
        match (&outcome, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, _) => panic!("{found:?}"),
        }
        let ran = std::fs::read_to_string(folder.path().join("runs")).unwrap_or_default();
        assert_eq!(ran.lines().count(), runs, "{script}");
    }
    let prints = |status: &str| {
        format!(
            "printf '%s\\n' \
             '{{\"kind\":\"ExecCredential\",\"apiVersion\":\"v\",\"status\":{status}}}'"
        )
    };
    check(&prints(r#"{"token":"abc"}"#), "", 1, Ok("Bearer abc"));
    check(&prints(r#"{"token":"abc\n"}"#), "", 1, Ok("Bearer abc"));
    let until =
        |year: u16| format!(r#"{{"token":"abc","expirationTimestamp":"{year}-01-01T00:00:00Z"}}"#);
    check(&prints(&until(2999)), "", 1, Ok("Bearer abc"));
    // An expired token is fetched again.
    check(&prints(&until(2001)), "", 2, Ok("Bearer abc"));
    check(&prints("{}"), "", 1, Err("it returned neither a token nor a certificate"));
    check(&prints("null"), "", 1, Err("has no status"));
    check(&prints(r#"{"clientKeyData":"k"}"#), "", 1, Err("only one of certificate and key"));
    let pair = r#"
        json() { awk '{printf "%s\\n", $0}' "$1"; }
        cert=$(json CERT) key=$(json KEY)
        printf '{"status":{"clientCertificateData":"%s","clientKeyData":"%s"}}' "$cert" "$key""#;
    check(pair, "", 1, Ok("certificate none"));
    check("echo nonsense", "", 1, Err("its output is not an ExecCredential"));
    let secret = r#"{"token":["hush"]}"#;
    check(&prints(secret), "", 1, Err("in JSON: line 1, column"));
    let by_hand = "exit status: 3: no identity provider; run it by hand";
    check("echo no identity >&2; echo provider >&2; exit 3", "", 1, Err(by_hand));
    check("", "command: nowhere", 0, Err("exec plugin nowhere: no such program; add it"));
    check("", "command: nowhere, installHint: 'see x'", 0, Err("no such program (see x)"));
    check("", "command: ./token", 0, Err("cannot run it: Permission denied"));
    // Environment and arguments.
    let script = prints(r#"{"token":"'"$A $1"'"}"#);
    check(&script, "args: [b], env: [{name: A, value: a}]", 1, Ok("Bearer a b"));
    let info = r#"
        case "$KUBERNETES_EXEC_INFO" in
        *'"apiVersion":"client.authentication.k8s.io/v1"'*'"server":"https://a"'*) t=with;;
        *'"interactive":false'*) t=without;; esac"#;
    let script = format!("{info}\n{}", prints(r#"{"token":"'"$t"'"}"#));
    check(&script, "", 1, Ok("Bearer without"));
    check(&script, "provideClusterInfo: true", 1, Ok("Bearer with"));
}
