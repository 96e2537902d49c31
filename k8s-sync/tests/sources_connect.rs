//! Settings that no retry can mend: the error names the setting or file, the cause and the next step.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_sync::options::{ApiServer, ClientTls, Options, Source};
use k8s_sync::status::SourceStatus;
use k8s_sync::watch::Watch;
use wire::PodMode;

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {}}]
contexts: [{name: good, context: {cluster: c, user: u}}, {name: bad, context: {cluster: x, user: u}}]
current-context: good
";

fn options(server: &ApiServer) -> Options {
    Options {
        zones: Vec::new(),
        source: Source::ApiServer(server.clone()),
        namespaces: Vec::new(),
        namespace_labels: None,
        labels: None,
        pods: PodMode::Disabled,
        endpoint_pod_names: false,
        ttl_secs: 5,
        no_endpoints: false,
        ignore_empty_service: false,
        server_addresses: Vec::new(),
        startup_timeout: Duration::from_secs(5),
    }
}

/// `expected`: what the error begins with; empty where there is to be none.
#[track_caller]
fn check(server: &ApiServer, expected: &str) {
    let options = options(server);
    let status = Arc::new(SourceStatus::new(&options));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let error = runtime.block_on(Watch::new(server, &options, status)).err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(error.starts_with(expected) && error.is_empty() == expected.is_empty(), "{error}");
}

fn kubeconfig(file: &Path, context: Option<&str>) -> ApiServer {
    let kubeconfig = Some((file.to_path_buf(), context.map(str::to_owned)));
    ApiServer { kubeconfig, ..ApiServer::default() }
}

#[test]
fn kubeconfigs() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("config");
    let at = format!("kubeconfig {}", file.display());
    check(&kubeconfig(&file, None), &format!("{at}: failed to read kubeconfig"));
    std::fs::write(&file, "clusters: [").expect("a file");
    check(&kubeconfig(&file, None), &format!("{at}: failed to parse kubeconfig YAML"));
    std::fs::write(&file, KUBECONFIG).expect("a file");
    check(&kubeconfig(&file, None), "");
    check(&kubeconfig(&file, Some("good")), "");
    let at = format!("{at}, context");
    check(
        &kubeconfig(&file, Some("bad")),
        &format!("{at} bad: failed to load the cluster of context: x"),
    );
    check(
        &kubeconfig(&file, Some("none")),
        &format!("{at} none: failed to load current context: none"),
    );
}

#[test]
fn endpoints() {
    let endpoint = |endpoint: &str, tls: Option<ClientTls>| ApiServer {
        endpoint: Some(endpoint.to_owned()),
        tls,
        qps: Some(5),
        max_inflight: Some(4),
        ..ApiServer::default()
    };
    check(&endpoint("http://127.0.0.1:8080", None), "");
    check(&endpoint("127.0.0.1:8080", None), "");
    check(&endpoint("http://a b", None), "endpoint http://a b: ");
    let file = |name: &str| Path::new("/does/not/exist").join(name);
    let tls = ClientTls { certificate: file("cert"), key: file("key"), authority: file("ca") };
    check(
        &endpoint("https://127.0.0.1:6443", Some(tls)),
        "tls file /does/not/exist/cert: No such file",
    );
}

#[test]
fn outside_a_cluster() {
    check(&ApiServer::default(), "the pod's service account: failed to read");
}
