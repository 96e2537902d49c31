//! Kubeconfigs for a real API server that client-go accepts, and thus CoreDNS.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::ask::Transport;
use e2e::cluster::Cluster;
use e2e::corefile::Corefile;
use e2e::deadline::poll;
use e2e::question::Question;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use serde_json::json;

/// How long a server may take to read the cluster, or to log what is wrong.
const LIMIT: Duration = Duration::from_secs(20);

const COREFILE: &str = ".:5353 {
    bind 127.0.0.1
    errors
    kubernetes cluster.local {
        manifests -
        startup_timeout 1s
    }
}
";

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

/// An API server, and a folder for kubeconfigs and the files that they name.
struct Access {
    _cluster: Cluster,
    at: String,
    tools: Tools,
    folder: tempfile::TempDir,
}

impl Access {
    fn start(tools: Tools) -> Self {
        let cluster = Cluster::start(&tools);
        cluster.objects().create(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.1.4", "ports": [{"name": "http", "port": 80}]},
        }));
        let folder = tempfile::tempdir().expect("a folder");
        // The kubeconfig's extension is the port, and the certificates are next to it.
        let kubeconfig = cluster.kubeconfig();
        let port = kubeconfig.extension().and_then(OsStr::to_str).expect("kubeconfig.PORT");
        let at = format!("127.0.0.1:{port}");
        for name in ["ca.crt", "server.crt"] {
            fs::copy(kubeconfig.with_file_name(name), folder.path().join(name)).expect("a file");
        }
        Self { _cluster: cluster, at, tools, folder }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        // Renamed into place, so that it is never read half written, nor run while it is.
        let next = self.folder.path().join("next");
        fs::write(&next, text).expect("a file");
        fs::set_permissions(&next, Permissions::from_mode(0o755)).expect("a file");
        fs::rename(next, path).expect("a file");
    }

    /// Starts ringdns with this kubeconfig, in which `AT` stands for the API server's address.
    fn launch(&self, kubeconfig: &str, environment: &[(&str, &str)]) -> Server {
        self.write("kubeconfig", &kubeconfig.replace("AT", &self.at));
        let file = self.folder.path().join("kubeconfig");
        let corefile = Corefile::new(COREFILE).with_kubeconfig(&file);
        Server::launch_in(environment, Kind::subject(), &corefile, Some(&self.tools))
    }

    fn check(&self, kubeconfig: &str, environment: &[(&str, &str)]) {
        until_it_answers(&self.launch(kubeconfig, environment), kubeconfig);
    }

    /// Checks the log about a kubeconfig that does not work; ringdns keeps retrying meanwhile.
    fn check_log(&self, kubeconfig: &str, environment: &[(&str, &str)], parts: &[&str]) {
        let server = self.launch(kubeconfig, environment);
        poll(LIMIT, &format!("{parts:?} of {kubeconfig}"), || {
            let log = server.log();
            parts.iter().all(|part| log.contains(part)).then_some(())
        });
    }
}

fn until_it_answers(server: &Server, what: &str) {
    let web = Question::new("web.default.svc.cluster.local.".to_owned(), Rtype::A);
    poll(LIMIT, what, || {
        let answer = server.ask(&web, Transport::Udp).ok()?;
        (answer.rcode == "NOERROR" && answer.answer.len() == 1).then_some(())
    });
}

fn entries(cluster: &str, user: &str) -> String {
    format!(
        "clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    )
}

#[test]
fn kubeconfigs_that_client_go_accepts() {
    let Some(tools) = Tools::find("access::kubeconfigs_that_client_go_accepts") else { return };
    let _alone = ALONE.lock();
    let access = Access::start(tools);
    let ca = "server: 'https://AT', certificate-authority: ca.crt";
    let token = "token: e2e-token";
    let with_token = entries(ca, token);
    for ending in ["", "\n", "\r\n", "  "] {
        access.write("token", &format!("e2e-token{ending}"));
        access.check(&entries(ca, "tokenFile: token"), &[]);
    }
    access.check(&entries(ca, "token: '', tokenFile: token"), &[]);
    access.check(&entries(ca, "token: old, tokenFile: token"), &[]);
    access.check(
        &with_token.replace("contexts: [", "contexts: [{name: half, context: {user: u}}, "),
        &[],
    );
    access.check(&format!("current-context: none\n{with_token}"), &[]);
    // A server certificate that is trusted itself, without an authority.
    access.check(&entries("server: 'https://AT', certificate-authority: server.crt", token), &[]);
    let nowhere = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
    let skip = "server: 'https://AT', insecure-skip-tls-verify: true";
    access.check(&entries(skip, token), &nowhere);
    let proxy = ("HTTPS_PROXY", "http://proxy.invalid:3128");
    access.check(&with_token, &[proxy, ("NO_PROXY", "127.0.0.0/8")]);
    access.check(&with_token, &[proxy]);
    if Kind::subject() == Kind::Ringdns {
        // Here client-go speaks plain http and fails.
        access.check(&entries("server: 'AT', certificate-authority: ca.crt", token), &[]);
    }
}

#[test]
fn a_late_or_slow_plugin_delays_nothing_else() {
    let name = "access::a_late_or_slow_plugin_delays_nothing_else";
    let Some(tools) = Tools::find(name) else { return };
    let _alone = ALONE.lock();
    let access = Access::start(tools);
    let ca = "server: 'https://AT', certificate-authority: ca.crt";
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, \
                interactiveMode: Never}";
    let prints = "echo '{\"kind\": \"ExecCredential\", \"status\": {\"token\": \"e2e-token\"}, \
                  \"apiVersion\": \"client.authentication.k8s.io/v1\"}'";
    let kubeconfig = entries(ca, exec);
    let other = Question::new("example.org.".to_owned(), Rtype::A);
    let is_there = |server: &Server| server.ask(&other, Transport::Udp).ok().map(|_| ());

    access.write("plugin", "#!/bin/sh\necho no identity provider >&2\nexit 1\n");
    let server = access.launch(&kubeconfig, &[]);
    poll(LIMIT, "other zones to be served", || is_there(&server));
    access.write("plugin", &format!("#!/bin/sh\n{prints}\n"));
    until_it_answers(&server, "a plugin that has become ready");
    // Otherwise this server would run the next plugin too.
    drop(server);

    // The plugin waits for a file, as real ones do for a network.
    let waits = format!(
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho x >> runs\nwhile ! [ -f go ]; do sleep 0.1; \
         done\n{prints}\n"
    );
    access.write("plugin", &waits);
    let server = access.launch(&kubeconfig, &[]);
    poll(LIMIT, "other zones to be served", || is_there(&server));
    access.write("go", "");
    until_it_answers(&server, "a plugin that is slow");
    let runs = fs::read_to_string(access.folder.path().join("runs")).expect("the plugin ran");
    assert_eq!(runs.lines().count(), 1, "once for all kinds");
}

#[test]
fn failures_are_logged_with_their_cause() {
    let Some(tools) = Tools::find("access::failures_are_logged_with_their_cause") else { return };
    if Kind::subject() == Kind::CoreDns {
        return;
    }
    let _alone = ALONE.lock();
    let access = Access::start(tools);
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).expect("a certificate");
    access.write("other.crt", &other.cert.pem());
    let at = format!("server=\"https://{}\"", access.at);
    let ca = "server: 'https://AT', certificate-authority";
    let token = "token: e2e-token";
    let of_ca = "does the CA of the kubernetes block sign the API server's certificate?";
    access.check_log(
        &entries(&format!("{ca}: other.crt"), token),
        &[],
        &[&at, "UnknownIssuer", of_ca],
    );
    let name = format!("{ca}: ca.crt, tls-server-name: other.example");
    access.check_log(&entries(&name, token), &[], &[&at, "set tls-server-name"]);
    let old = entries(&format!("{ca}: ca.crt"), "token: old");
    access.check_log(&old, &[], &[&at, "(HTTP 401)", "still valid?"]);
    let plain = entries("server: 'http://AT'", token);
    let parts = ["are not sent to http://", "HTTP request to an HTTPS server", "write https://"];
    access.check_log(&plain, &[], &parts);
    let closed = entries("server: 'https://127.0.0.1:1', certificate-authority: ca.crt", token);
    let parts = ["server=\"https://127.0.0.1:1\"", "is the port right?"];
    access.check_log(&closed, &[], &parts);
    let path = entries("server: 'https://AT/no/such', certificate-authority: ca.crt", token);
    access.check_log(&path, &[], &["/no/such\"", "(HTTP 404)", "the URL of an API server"]);
    let nowhere = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
    let system = entries("server: 'https://AT'", token);
    access.check_log(&system, &nowhere, &["no certificates of its own", "certificate-authority"]);
    let parts = ["through the proxy http://127.0.0.1:1", "does the proxy (proxy-url"];
    let proxy = format!("{ca}: ca.crt, proxy-url: 'http://127.0.0.1:1'");
    access.check_log(&entries(&proxy, token), &[], &parts);
}
