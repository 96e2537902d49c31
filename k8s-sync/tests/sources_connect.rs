//! Requests to an API server over real connections: what the server receives, and retries until it
//! works.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_sync::options::{ApiServer, Options, Source};
use k8s_sync::status::SourceStatus;
use k8s_sync::watch::Watch;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use wire::pod::PodMode;

/// Upper bound for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The head of the first request, in lower case, and the server name sent over TLS.
#[derive(Debug)]
struct Asked {
    head: String,
    name: Option<String>,
}

/// The self-signed certificate of the server.
struct Identity {
    pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "api.example".to_owned()];
        let certificate = CertificateParams::new(names).expect("names");
        let certificate = certificate.self_signed(&key).expect("a certificate");
        let (pem, key) = (certificate.pem(), key.serialize_der());
        Identity { pem, certificate: certificate.into(), key }
    })
}

/// Answers each request with an error. The thread ends with the test process.
fn serve(is_tls: bool) -> (SocketAddr, Receiver<Asked>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            // A client that gives up is not the server's problem.
            let _ = if is_tls {
                let mut tls = StreamOwned::new(ServerConnection::new(tls()).expect("TLS"), stream);
                let head = exchange(&mut tls);
                let name = tls.conn.server_name().map(str::to_owned);
                sender.send(Asked { head, name })
            } else {
                let head = exchange(&mut stream);
                sender.send(Asked { head, name: None })
            };
        }
    });
    (address, asked)
}

fn tls() -> Arc<ServerConfig> {
    let identity = identity();
    let key = PrivateKeyDer::try_from(identity.key.clone()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth();
    let chain = vec![identity.certificate.clone()];
    Arc::new(config.with_single_cert(chain, key).expect("a certificate"))
}

fn exchange(stream: &mut (impl Read + Write)) -> String {
    let head = read_head(stream);
    let _ =
        stream.write_all(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.flush();
    head.to_lowercase()
}

fn read_head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|len| len == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A proxy for one connection at a time. It reports the requests it gets.
fn proxy() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let head = read_head(&mut client);
            let target = head.split_whitespace().nth(1).expect("CONNECT HOST:PORT").to_owned();
            let _ = sender.send(head);
            let server = TcpStream::connect(target).expect("the server is up");
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").expect("a client");
            pass_on(client, server);
        }
    });
    (address, asked)
}

/// A SOCKS 5 proxy (RFC 1928), without authentication and for IPv4 only.
fn socks_proxy() -> (SocketAddr, Receiver<SocketAddr>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut greeting, mut request) = ([0; 3], [0; 10]);
            client.read_exact(&mut greeting).expect("version, one method");
            assert_eq!(greeting, [5, 1, 0]);
            client.write_all(&[5, 0]).expect("a client");
            client.read_exact(&mut request).expect("CONNECT to an IPv4 address");
            assert_eq!(request[..4], [5, 1, 0, 1]);
            let ip = Ipv4Addr::new(request[4], request[5], request[6], request[7]);
            let target = (ip, u16::from_be_bytes([request[8], request[9]])).into();
            let _ = sender.send(target);
            let server = TcpStream::connect(target).expect("the server is up");
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).expect("a client");
            pass_on(client, server);
        }
    });
    (address, asked)
}

fn pass_on(mut client: TcpStream, mut server: TcpStream) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::thread::spawn(move || std::io::copy(&mut server, &mut client));
}

/// A running watch and the folder of its kubeconfig.
struct Running {
    folder: TempDir,
    status: Arc<SourceStatus>,
    _events: tokio::sync::mpsc::Receiver<k8s_sync::object::Event>,
}

impl Running {
    /// `prepare` fills the folder first.
    fn start(prepare: impl FnOnce(&TempDir)) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("ca.crt"), &identity().pem).expect("a file");
        prepare(&folder);
        let kubeconfig = Some((folder.path().join("kubeconfig"), None));
        let server = ApiServer { kubeconfig, ..ApiServer::default() };
        let options = options(&server);
        let status = Arc::new(SourceStatus::new(&options));
        let watch = Watch::new(&server, &options, Arc::clone(&status), |certificates| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates);
            Ok(WebPkiServerVerifier::builder(Arc::new(roots)).build()?)
        });
        let (sender, events) = tokio::sync::mpsc::channel(4);
        // The thread ends when the receiver is dropped.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(watch.run(sender));
        });
        Self { folder, status, _events: events }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Waits until the source reports this error.
    #[track_caller]
    fn until_error(&self, part: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let error = self.status.reports().into_iter().find_map(|report| report.error);
            match error {
                Some(error) if error.contains(part) => return,
                found => assert!(std::time::Instant::now() < deadline, "{part:?}: {found:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn options(server: &ApiServer) -> Options {
    Options {
        zones: Vec::new(),
        source: Source::ApiServer(server.clone()),
        namespaces: Vec::new(),
        namespace_labels: None,
        labels: None,
        pods: PodMode::Disabled,
        indexes_pods: false,
        endpoint_pod_names: false,
        ttl_secs: 5,
        no_endpoints: true,
        ignore_empty_service: false,
        server_addresses: Vec::new(),
        startup_timeout: Duration::from_secs(5),
    }
}

fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    )
}

#[test]
fn requests_that_the_server_receives() {
    #[track_caller]
    fn check(is_tls: bool, server: &str, more: &str, user: &str, heads: &[&str]) -> Asked {
        let (address, asked) = serve(is_tls);
        let cluster = format!("server: '{}'{more}", server.replace("AT", &address.to_string()));
        let _running = Running::start(|folder| {
            let text = kubeconfig(&cluster, user);
            std::fs::write(folder.path().join("kubeconfig"), text).expect("a file");
            std::fs::write(folder.path().join("token"), "secret\n").expect("a file");
        });
        let asked = asked.recv_timeout(PATIENCE).expect("a request");
        for part in heads {
            assert!(asked.head.contains(part), "{part:?}: {asked:?}");
        }
        asked
    }
    let ca = ", certificate-authority: ca.crt";
    let bearer = "authorization: bearer secret\r\n";
    let asked = check(true, "https://AT", ca, "tokenFile: token", &["get /api/v1/", bearer]);
    assert_eq!(asked.name, None, "an address is no name");
    let asked = check(
        true,
        "AT",
        &format!("{ca}, tls-server-name: api.example"),
        "token: secret",
        &[bearer],
    );
    assert_eq!(asked.name.as_deref(), Some("api.example"));
    let skip = ", insecure-skip-tls-verify: true";
    check(
        true,
        "https://AT",
        skip,
        "username: me, password: pw",
        &["authorization: basic bwu6chc=\r\n"],
    );
    check(
        true,
        "https://AT/k8s/c-1/",
        ca,
        "as: me",
        &["get /k8s/c-1/api/v1/", "impersonate-user: me\r\n"],
    );
    // No token goes over plain http.
    for server in ["http://AT", "AT"] {
        let asked = check(false, server, "", "tokenFile: token", &["get /api/v1/"]);
        assert!(!asked.head.contains("authorization"), "{asked:?}");
    }
}

#[test]
fn through_a_proxy() {
    let ((server, asked), (proxy, connected)) = (serve(true), proxy());
    let cluster = format!(
        "server: 'https://{server}', certificate-authority: ca.crt, proxy-url: \
         'http://me:pw@{proxy}'"
    );
    let running = Running::start(|folder| {
        let text = kubeconfig(&cluster, "token: secret");
        std::fs::write(folder.path().join("kubeconfig"), text).expect("a file");
    });
    let head = connected.recv_timeout(PATIENCE).expect("a CONNECT");
    assert!(head.starts_with(&format!("CONNECT {server} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic bWU6cHc=\r\n"), "{head}");
    let asked = asked.recv_timeout(PATIENCE).expect("a request");
    assert!(asked.head.contains("authorization: bearer secret\r\n"), "{asked:?}");
    assert!(!asked.head.contains("proxy-authorization"), "{asked:?}");
    running.until_error(&format!("https://{server} through the proxy http://{proxy}: "));
}

#[test]
fn through_a_socks_proxy() {
    let ((server, asked), (proxy, connected)) = (serve(true), socks_proxy());
    let cluster = format!(
        "server: 'https://{server}', certificate-authority: ca.crt, proxy-url: 'socks5://{proxy}'"
    );
    let running = Running::start(|folder| {
        let text = kubeconfig(&cluster, "token: secret");
        std::fs::write(folder.path().join("kubeconfig"), text).expect("a file");
    });
    assert_eq!(connected.recv_timeout(PATIENCE).expect("a connection"), server);
    let asked = asked.recv_timeout(PATIENCE).expect("a request");
    assert!(asked.head.contains("authorization: bearer secret\r\n"), "{asked:?}");
    running.until_error(&format!("https://{server} through the proxy socks5://{proxy}: "));
}

#[test]
fn failures_are_retried_until_it_works() {
    let (server, asked) = serve(true);
    let running = Running::start(|_| {});
    running.until_error("kubeconfig: No such file");
    running.write("kubeconfig", "clusters: [");
    running.until_error("/kubeconfig: ");
    let cluster = format!("server: 'https://{server}', certificate-authority: ca.crt");
    running.write("kubeconfig", &kubeconfig(&cluster, "tokenFile: token"));
    running.until_error("/token: No such file");
    let user = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin}";
    running.write("kubeconfig", &kubeconfig(&cluster, user));
    running.until_error("no such program");
    let plugin = running.write("next", "#!/bin/sh\necho not yet >&2; exit 1\n");
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).expect("a file");
    let place = running.folder.path().join("plugin");
    std::fs::rename(&plugin, &place).expect("a file");
    running.until_error("exit status: 1: not yet");
    let works = "#!/bin/sh\necho '{\"status\": {\"token\": \"secret\"}}'\n";
    let plugin = running.write("next", works);
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).expect("a file");
    std::fs::rename(&plugin, &place).expect("a file");
    let asked = asked.recv_timeout(PATIENCE).expect("a request");
    assert!(asked.head.contains("authorization: bearer secret\r\n"), "{asked:?}");
    running.until_error(&format!("https://{server}: "));
}

#[test]
fn a_rotated_token_is_sent_next() {
    let (server, asked) = serve(true);
    let cluster = format!("server: 'https://{server}', certificate-authority: ca.crt");
    let running = Running::start(|folder| {
        let text = kubeconfig(&cluster, "tokenFile: token");
        std::fs::write(folder.path().join("kubeconfig"), text).expect("a file");
        std::fs::write(folder.path().join("token"), "first\n").expect("a file");
    });
    let first = asked.recv_timeout(PATIENCE).expect("a request");
    assert!(first.head.contains("bearer first\r\n"), "{first:?}");
    running.write("token", "second\r\n");
    let rotated = std::iter::from_fn(|| asked.recv_timeout(PATIENCE).ok())
        .find(|asked| !asked.head.contains("bearer first\r\n"))
        .expect("another request");
    assert!(rotated.head.contains("bearer second\r\n"), "{rotated:?}");
    // Once the file is gone, the last token counts (kubernetes#68164).
    std::fs::remove_file(running.folder.path().join("token")).expect("a file");
    let after = std::iter::from_fn(|| asked.recv_timeout(PATIENCE).ok()).nth(4).expect("a request");
    assert!(after.head.contains("bearer second\r\n"), "{after:?}");
}
