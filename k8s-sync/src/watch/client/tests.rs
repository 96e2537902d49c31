//! client-go's interpretation of settings, item by item: a kubeconfig, an endpoint or a pod's
//! folder, and the resulting access.

mod clients;
mod keys;
mod plugins;
mod proxies;
mod texts;

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::access::{Access, Trust};
use super::*;
use crate::options::ClientTls;

/// The files and variables of a process. `CA`, `CERT` and `KEY` are in the folder.
struct Surroundings {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Surroundings {
    fn new(variables: &[(&'static str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec!["api".to_owned()]).expect("a name");
        let certificate = certificate.self_signed(&key).expect("a certificate").pem();
        let surroundings = Self {
            folder,
            variables: variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        };
        surroundings.write("CA", &certificate);
        surroundings.write("CERT", format!("some words before it\n{certificate}"));
        surroundings.write("KEY", key.serialize_pem());
        surroundings.write("token", "secret\n");
        surroundings
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn environment(&self) -> Environment {
        let variables = self.variables.iter().cloned().collect::<HashMap<_, _>>();
        Environment::of(variables, self.folder.path())
    }

    /// The resulting access, or the error. The folder is shown as FOLDER.
    fn load(&self, server: &ApiServer) -> String {
        let loaded = Access::load(server, &self.environment());
        let text = match loaded {
            Ok(access) => shown(access),
            Err(error) => format!("error: {error}; {}", error.next_step),
        };
        text.replace(&self.folder.path().display().to_string(), "FOLDER")
    }
}

/// In one line: URL, trust, server name, certificate, credentials, impersonated user, proxy, notes.
fn shown(access: Access) -> String {
    let mut words = vec![access.url.to_string()];
    if let Some(tls) = &access.tls {
        words.push(match &tls.trust {
            Trust::System => "trusts=machine".to_owned(),
            Trust::Given(certificates) => format!("trusts={}", certificates.len()),
            Trust::Anyone => "trusts=anyone".to_owned(),
        });
        words.extend(tls.server_name.as_ref().map(|name| format!("name={}", name.to_str())));
        words.extend(tls.identity.as_ref().map(|_| "certificate".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    words.push(match &access.credentials {
        Credentials::Plugin(_) => "plugin".to_owned(),
        other => {
            let header = runtime.expect("a runtime").block_on(other.header()).expect("no plugin");
            header.map_or_else(
                || "anonymous".to_owned(),
                |header| header.to_str().unwrap().to_owned(),
            )
        }
    });
    words.extend(access.impersonated.impersonate.as_ref().map(|user| format!("as={user}")));
    words.extend(access.proxy.as_ref().map(|proxy| format!("proxy={}", proxy.shown())));
    words.extend(access.notes.iter().map(|note| format!("note: {note}")));
    words.join(" ")
}

fn kubeconfig_file(surroundings: &Surroundings, text: &str, context: Option<&str>) -> ApiServer {
    surroundings.write("kubeconfig", text);
    let file = surroundings.folder.path().join("kubeconfig");
    let kubeconfig = Some((file, context.map(str::to_owned)));
    ApiServer { kubeconfig, ..ApiServer::default() }
}

/// A kubeconfig of one cluster and one user.
fn entries(cluster: &str, user: &str) -> String {
    format!(
        "clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    )
}

/// `expected` is the whole access, or a part of the error.
#[track_caller]
fn check_entries(cluster: &str, user: &str, expected: &str) {
    let surroundings = Surroundings::new(&[]);
    let server = kubeconfig_file(&surroundings, &entries(cluster, user), None);
    let found = surroundings.load(&server);
    match expected.strip_prefix("error: ") {
        Some(part) => assert!(
            found.starts_with("error: kubeconfig FOLDER/") && found.contains(part),
            "{found}"
        ),
        None => assert_eq!(found, expected, "{cluster} {user}"),
    }
}

#[test]
fn servers() {
    let check = |server: &str, expected: &str| {
        check_entries(&format!("server: {server:?}"), "", expected);
    };
    let tls = "trusts=machine anonymous";
    check("https://10.0.0.1:6443", &format!("https://10.0.0.1:6443/ {tls}"));
    check("https://10.0.0.1:6443/", &format!("https://10.0.0.1:6443/ {tls}"));
    check("HTTPS://API.example", &format!("https://API.example/ {tls}"));
    check(" https://10.0.0.1 ", &format!("https://10.0.0.1/ {tls}"));
    check("https://rancher/k8s/clusters/c-1/", &format!("https://rancher/k8s/clusters/c-1 {tls}"));
    check("https://a/b?c=d#e", &format!("https://a/b {tls}"));
    check("https://[fd00::1]:6443", &format!("https://[fd00::1]:6443/ {tls}"));
    check("http://127.0.0.1:8001", "http://127.0.0.1:8001/ anonymous");
    check("localhost:8001", "http://localhost:8001/ anonymous");
    check("10.0.0.1", "http://10.0.0.1/ anonymous");
    check("ftp://a", "error: server ftp://a: neither http nor https; write the server like");
    check("https://", "error: missing or invalid host");
    check("https://a b", "error: missing or invalid host");
    check("fd00::1:6443", "error: server fd00::1:6443: missing or invalid host");
    check("https://a:99999", "error: server https://a:99999: invalid port");
    check("https://me:secret@a", "error: server https://a: user and password belong");
    check("", "error: cluster c has no server; try `kubectl get namespaces`");
    // A server without a scheme uses TLS if TLS is configured.
    check_entries(
        "server: 'a:1', certificate-authority: CA",
        "",
        "https://a:1/ trusts=1 anonymous",
    );
    let skip = "server: 'a:1', insecure-skip-tls-verify: true";
    check_entries(skip, "", "https://a:1/ trusts=anyone anonymous");
    check_entries(
        "server: 'a:1', tls-server-name: b",
        "",
        "https://a:1/ trusts=machine name=b anonymous",
    );
}

#[test]
fn trust() {
    let check = |cluster: &str, expected: &str| {
        check_entries(&format!("server: 'https://a', {cluster}"), "", expected);
    };
    let surroundings = Surroundings::new(&[]);
    let pem = std::fs::read_to_string(surroundings.path("CA")).expect("a file");
    let encoded = BASE64_STANDARD.encode(&pem);
    let lines = |between: &str| {
        let lines = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
        lines.collect::<Vec<_>>().join(between)
    };
    check("certificate-authority: CA", "https://a/ trusts=1 anonymous");
    check(
        &format!("certificate-authority: {:?}", surroundings.path("CA")),
        "https://a/ trusts=1 anonymous",
    );
    for between in ["", "\\n", "\\r\\n", " ", "\\n      "] {
        let data = format!("certificate-authority-data: \"{}\"", lines(between));
        check(&data, "https://a/ trusts=1 anonymous");
    }
    // Data takes precedence over a file.
    let data = format!("certificate-authority: none, certificate-authority-data: {encoded}");
    check(&data, "https://a/ trusts=1 anonymous");
    let windows = BASE64_STANDARD.encode(pem.replace('\n', "\r\n"));
    check(&format!("certificate-authority-data: {windows}"), "https://a/ trusts=1 anonymous");
    let two = BASE64_STANDARD.encode(format!("# a comment\n{pem}\nwords\n{pem}"));
    check(&format!("certificate-authority-data: {two}"), "https://a/ trusts=2 anonymous");
    check(
        "certificate-authority: '', certificate-authority-data: ''",
        "https://a/ trusts=machine anonymous",
    );
    check("certificate-authority: ~", "https://a/ trusts=machine anonymous");
    check("insecure-skip-tls-verify: true", "https://a/ trusts=anyone anonymous");
    check("insecure-skip-tls-verify: yes", "https://a/ trusts=anyone anonymous");
    check("insecure-skip-tls-verify: ~", "https://a/ trusts=machine anonymous");
    check("tls-server-name: b.example", "https://a/ trusts=machine name=b.example anonymous");
    check("tls-server-name: 10.0.0.1", "https://a/ trusts=machine name=10.0.0.1 anonymous");
    check("tls-server-name: 'a b'", "error: tls-server-name a b: ");
    check("certificate-authority: none", "error: certificate-authority FOLDER/none: No such file");
    check(
        "certificate-authority: token",
        "error: certificate-authority contains no PEM certificate",
    );
    check(
        "certificate-authority-data: '%%'",
        "error: certificate-authority-data is not valid base64",
    );
    let both = "certificate-authority: CA, insecure-skip-tls-verify: true";
    check(both, "error: certificate-authority and insecure-skip-tls-verify are mutually exclusive");
}

#[test]
fn users() {
    let check = |user: &str, expected: &str| {
        let expected = match expected.strip_prefix("error: ") {
            Some(_) => expected.to_owned(),
            None => format!("https://a/ trusts=machine {expected}"),
        };
        check_entries("server: 'https://a'", user, &expected);
    };
    check("token: abc", "Bearer abc");
    check("token: \" abc\\n\"", "Bearer abc");
    check("tokenFile: token", "Bearer secret");
    check("token: '', tokenFile: token", "Bearer secret");
    check("token: ~, tokenFile: token", "Bearer secret");
    // The file takes precedence; `token` is used while the file cannot be read.
    check("token: abc, tokenFile: token", "Bearer secret");
    check("token: abc, tokenFile: none", "Bearer abc");
    check("tokenFile: none", "error: token file FOLDER/none: No such file");
    check("username: me, password: 'p:w'", "Basic bWU6cDp3");
    check("username: me", "Basic bWU6");
    check("username: '', password: ''", "anonymous");
    check("username: me, token: abc", "error: a token and a username are mutually exclusive");
    check("client-certificate: CERT, client-key: KEY", "certificate anonymous");
    check("client-certificate: CERT, client-key: KEY, token: abc", "certificate Bearer abc");
    check("client-certificate: CERT", "error: client-certificate is set but client-key is not");
    check("client-key: KEY", "anonymous");
    check(
        "client-certificate: CERT, client-key: CERT",
        "error: client-key contains no PEM private key",
    );
    check("token: \"a\\nb\"", "error: token contains a line break or a control character");
    check("as: somebody, as-groups: [a], as-uid: '1'", "anonymous as=somebody");
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./p, args: ~, env: ~}";
    check(exec, "plugin");
    check(&format!("{exec}, token: abc"), "Bearer abc");
    let with_certificate = format!("{exec}, client-certificate: CERT, client-key: KEY");
    check(&with_certificate, "certificate anonymous");
    check("exec: {command: ''}", "error: exec has no command");
    check(
        "auth-provider: {name: gcp, config: {access-token: a}}",
        "error: auth-provider gcp is not supported",
    );
    check("auth-provider: {name: azure}", "error: kubelogin");
    check("auth-provider: {name: oidc, config: {id-token: abc}}", "Bearer abc");
    check("auth-provider: {name: oidc}", "error: auth-provider oidc has no id-token");
    check("auth-provider: {name: other}", "error: unknown auth-provider other");
    check(
        &format!("auth-provider: {{name: oidc}}, {exec}"),
        "error: auth-provider and exec are mutually exclusive",
    );
}

#[test]
fn token_files() {
    #[track_caller]
    fn check(file: &[u8], expected: &str) {
        let surroundings = Surroundings::new(&[]);
        surroundings.write("token", file);
        let text = entries("server: 'https://a'", "tokenFile: token");
        let found = surroundings.load(&kubeconfig_file(&surroundings, &text, None));
        assert!(found.contains(expected), "{found}");
    }
    for ending in ["", "\n", "\r\n", " ", "\n\n", "\t"] {
        check(format!("abc{ending}").as_bytes(), " Bearer abc");
        check(format!("{ending}abc{ending}").as_bytes(), " Bearer abc");
    }
    check(b"", "token file FOLDER/token is empty");
    check(b"\n", "token file FOLDER/token is empty");
    check(b"abc\ndef", "contains a line break or a control character, which no header");
    check(b"\xff", "token file FOLDER/token: ");
}

#[test]
fn no_credentials_go_over_plain_http() {
    for user in [
        "token: abc",
        "tokenFile: none",
        "username: me, password: pw",
        "exec: {command: none}",
        "auth-provider: {name: gcp}",
    ] {
        for server in ["http://a:8001", "a:8001"] {
            let expected = "http://a:8001/ anonymous note: the credentials of the kubeconfig are \
                not sent to http://a:8001/, because plain http would expose them; write \
                https:// unless it is a `kubectl proxy`";
            check_entries(&format!("server: {server:?}"), user, expected);
        }
    }
    check_entries("server: 'http://a', certificate-authority: CA", "", "http://a/ anonymous");
}

#[test]
fn contexts() {
    #[track_caller]
    fn check(text: &str, context: Option<&str>, expected: &str) {
        let surroundings = Surroundings::new(&[]);
        let found = surroundings.load(&kubeconfig_file(&surroundings, text, context));
        let found = found.strip_prefix("error: kubeconfig FOLDER/kubeconfig").unwrap_or(&found);
        assert!(found.contains(expected), "{found}\n{text}");
    }
    let whole = entries("server: 'http://a'", "");
    let a = "http://a/ anonymous";
    check(&whole, None, a);
    check(&whole, Some("x"), a);
    check(&whole, Some(""), a);
    check(&whole, Some("none"), ", context none: it has no context none");
    check("", None, ": it has no current-context");
    check(
        "kind: Config\nclusters: ~\nusers: ~\ncontexts: ~\n",
        None,
        ": it has no current-context",
    );
    check("current-context: x", None, ": it has no context x");
    check("clusters: [", None, ": ");
    // Entries that the context does not refer to may be incomplete.
    let beside = [
        "clusters: [{name: other}, {name: third, cluster: {}}, {name: fourth, cluster: ~}, {}]\n",
        "users: [{name: other}, {name: third, user: {exec: {}}}, {user: {auth-provider: {}}}]\n",
        "contexts: [{name: other}, {name: third, context: {user: someone}}, {name: fourth, \
         context: ~}]\n",
        "preferences: {}\nextensions: [{name: a}]\nunknown: {a: [1]}\n",
    ];
    for other in beside {
        let key = other.split(':').next().unwrap();
        let merged = match whole.lines().find(|line| line.starts_with(key)) {
            Some(line) => {
                let item = line.split_once('[').unwrap().1;
                let list = other.trim_end().strip_suffix(']').unwrap();
                whole.replace(line, &format!("{list}, {item}"))
            }
            None => format!("{whole}{other}"),
        };
        check(&merged, None, a);
    }
    // A missing user is anonymous. A missing cluster is an error.
    check(&whole.replace("user: u}", "user: none}"), None, a);
    check(&whole.replace(", user: u}", "}"), None, a);
    check(
        &whole.replace("cluster: c,", "cluster: none,"),
        None,
        "names cluster \"none\", which the file does not define",
    );
    check(
        &whole.replace("cluster: c, ", ""),
        None,
        "names cluster \"\", which the file does not define",
    );
    // The last of duplicate keys counts, at any depth. Unquoted numbers are names too.
    check(&format!("current-context: other\n{whole}"), None, a);
    check(&entries("server: 'http://b', server: 'http://a'", "token: a, token: ''"), None, a);
    check(&whole.replace("name: x", "name: 7").replace("context: x", "context: 7"), None, a);
    check(&format!("---\n{whole}"), None, a);
    check(&format!("{whole}---\n{}", whole.replace("http://a", "http://b")), None, a);
    let json = r#"{"clusters":[{"name":"c","cluster":{"server":"http://a"}}],
        "contexts":[{"name":"x","context":{"cluster":"c"}}],"current-context":"x"}"#;
    check(json, None, a);
}

#[test]
fn endpoints() {
    let surroundings = Surroundings::new(&[]);
    let files = |key: &str| {
        let path = |name: &str| Path::new(&surroundings.path(name)).to_path_buf();
        ClientTls { certificate: path("CERT"), key: path(key), authority: path("CA") }
    };
    let check = |endpoint: &str, tls: Option<ClientTls>, expected: &str| {
        let endpoint = Some(endpoint.to_owned());
        let found = surroundings.load(&ApiServer { endpoint, tls, ..ApiServer::default() });
        assert!(found.starts_with(expected), "{found}");
    };
    let with_files = "https://a:6443/ trusts=1 certificate anonymous";
    check("http://a:8080", None, "http://a:8080/ anonymous");
    check("a:8080", None, "http://a:8080/ anonymous");
    check("https://a:6443", None, "https://a:6443/ trusts=machine anonymous");
    check("https://a:6443", Some(files("KEY")), with_files);
    check("a:6443", Some(files("KEY")), with_files);
    check("http://a", Some(files("KEY")), "http://a/ anonymous note: `tls` has no effect");
    check(
        "http://a b",
        None,
        "error: endpoint http://a b: server http://a b: missing or invalid host",
    );
    let tls = "error: tls file FOLDER/";
    check("https://a", Some(files("none")), &format!("{tls}none: No such file"));
    check(
        "https://a",
        Some(files("CA")),
        &format!("{tls}CA: client-key contains no PEM private key"),
    );
}

#[test]
fn pods() {
    let service = [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
    let check = |variables: &[(&'static str, &str)], ca: Option<&str>, expected: &str| {
        let surroundings = Surroundings::new(variables);
        if let Some(ca) = ca {
            std::fs::rename(surroundings.path(ca), surroundings.path("ca.crt")).expect("a file");
        }
        let found = surroundings.load(&ApiServer::default());
        assert!(found.starts_with(expected), "{found}");
        // A kubeconfig that selects no cluster counts as missing.
        let of_empty = surroundings.load(&kubeconfig_file(&surroundings, "kind: Config", None));
        if !expected.starts_with("error") {
            assert!(
                of_empty.starts_with(expected)
                    && of_empty.contains("using the pod's service account"),
                "{of_empty}"
            );
        }
    };
    // Neither `namespace` nor ca.crt is required.
    check(&service, Some("CA"), "https://10.96.0.1:443/ trusts=1 Bearer secret");
    let without =
        "https://10.96.0.1:443/ trusts=machine Bearer secret note: cannot read the cluster's CA";
    check(&service, None, without);
    check(&service, Some("KEY"), without);
    let v6 = [("KUBERNETES_SERVICE_HOST", "fd00::1"), service[1]];
    check(&v6, Some("CA"), "https://[fd00::1]:443/ trusts=1 Bearer secret");
    check(
        &service[..1],
        Some("CA"),
        "error: the pod's service account: KUBERNETES_SERVICE_HOST and",
    );
    check(&[], Some("CA"), "error: the pod's service account: KUBERNETES_SERVICE_HOST and");
    let surroundings = Surroundings::new(&service);
    std::fs::remove_file(surroundings.path("token")).expect("a file");
    let found = surroundings.load(&ApiServer::default());
    assert!(found.contains("token file FOLDER/token: No such file"), "{found}");
    assert!(found.contains("automountServiceAccountToken"), "{found}");
    let of_empty = surroundings.load(&kubeconfig_file(&surroundings, "", None));
    assert!(
        of_empty.starts_with("error: kubeconfig FOLDER/kubeconfig: it has no current"),
        "{of_empty}"
    );
}
