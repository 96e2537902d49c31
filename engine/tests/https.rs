//! DNS over HTTPS: the binary on loopback, with both ways of moving datagrams, and hyper's clients
//! over HTTP/1.1 and HTTP/2.

#[path = "rig/child.rs"]
mod child;
#[path = "upstream/identity.rs"]
#[allow(dead_code, unreachable_pub)] // Upstreams use the rest.
mod identity;
#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use child::TestChild;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::Identity;
use query::{ID, is_response, query};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const BACKENDS: [&str; 2] = ["uring", "mmsg"];
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

struct Server {
    folder: TempDir,
    identity: Identity,
    /// Of `https://` with a certificate, of `https://` without one, and of plain DNS.
    ports: [u16; 3],
    http: u16,
    child: TestChild,
}

/// Names of the first block are local, others come from the block with plain DNS.
fn corefile(ports: [u16; 3], http: u16, extra: &str) -> String {
    let [encrypted, plain, dns] = ports;
    let addresses: String = (1..=40).map(|host| format!("2001:db8::{host} big.test\n")).collect();
    let local = format!(
        "bind 127.0.0.1\nprometheus 127.0.0.1:{http}\nacl {{\n drop type TXT\n}}\n{extra}\n\
         hosts {{\n 192.0.2.1 www.test\n{addresses} ttl 77\n fallthrough\n}}\n\
         forward . 127.0.0.1:{dns}\n"
    );
    format!(
        "https://.:{encrypted} {{\n tls cert.pem key.pem\n {local}}}\n\
         https://.:{plain} {{\n {local}}}\n\
         .:{dns} {{\n bind 127.0.0.1\n hosts {{\n 192.0.2.2 far.test\n }}\n}}\n"
    )
}

impl Server {
    /// `extra`: lines of both `https://` blocks.
    fn start(io: &str, extra: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let identity = Identity::new(&["dns.test"]);
        let (ports, http) = ([(); 3].map(|()| port::free()), port::free());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("key.pem", &identity.key.serialize_pem());
        write("cert.pem", &identity.certificate.pem());
        write("Corefile", &corefile(ports, http, extra));
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["-conf", "Corefile", "--io", io])
            .current_dir(folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { folder, identity, ports, http, child: TestChild(child) };
        wait_until("the server listens", || server.connect().is_ok());
        server
    }

    /// To the address without a certificate.
    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports[1]))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    async fn client(&self, version: Version) -> Client {
        let port = self.ports[usize::from(version == Version::Plain)];
        let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        if version == Version::Plain {
            return Client::http1(stream).await;
        }
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.identity.authority.as_bytes());
        roots.add(authority.unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        let protocol: &[u8] = if version == Version::Http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect("dns.test".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        match version {
            Version::Http2 => Client::http2(stream).await,
            Version::Http11 | Version::Plain => Client::http1(stream).await,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of ringdns:\n{}", self.log());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Plain,
    Http11,
    Http2,
}

enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A request, its status, and of the response: max-age and the number of answers.
type Row<'r> = (&'r str, &'r str, &'r [u8], u16, Option<(&'r str, u8)>);

/// The status, the header `cache-control`, and the body.
type Answer = (u16, Option<String>, Bytes);

impl Client {
    async fn http1(stream: impl Stream) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    async fn http2(stream: impl Stream) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> hyper::Result<Answer> {
        let host = if matches!(self, Self::Http2(_)) { "https://dns.test" } else { "" };
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(format!("{host}{path}"))
            .header("host", "dns.test")
            .body(Full::from(body.to_vec()))
            .unwrap();
        let response = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let age = response.headers().get("cache-control");
        let age = age.map(|age| age.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        Ok((status, age, response.into_body().collect().await?.to_bytes()))
    }

    /// Of the response to this question: how many records it has.
    async fn ask(&mut self, name: &str, qtype: u16) -> hyper::Result<u8> {
        let (status, _, message) = self.send("POST", "/dns-query", &query(name, qtype)).await?;
        assert_eq!(status, 200);
        assert!(is_response(&message, ID));
        Ok(message[7])
    }
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Stream for S {}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(3 * PATIENCE, test).await.expect("in time") });
}

fn path_of(message: &[u8]) -> String {
    format!("/dns-query?dns={}", URL_SAFE_NO_PAD.encode(message))
}

#[test]
fn requests_are_queries() {
    let (www, far) = (query("www.test", TYPE_A), query("far.test", TYPE_A));
    let (big, dropped) = (query("big.test", TYPE_AAAA), query("www.test", 16));
    let (get, twice) = (path_of(&www), format!("{}&dns=AAAA", path_of(&www)));
    let too_long = vec![0; 65536];
    let rows: [Row<'_>; 16] = [
        ("GET", &get, b"", 200, Some(("max-age=77", 1))),
        ("POST", "/dns-query", &www, 200, Some(("max-age=77", 1))),
        ("POST", "/dns-query", &big, 200, Some(("max-age=77", 40))),
        ("GET", &path_of(&far), b"", 200, Some(("max-age=3600", 1))),
        ("POST", "/dns-query", &far, 200, Some(("max-age=3600", 1))),
        ("GET", &path_of(&dropped), b"", 500, None),
        ("GET", "/dns-query", b"", 400, None),
        ("GET", &twice, b"", 400, None),
        ("GET", "/dns-query?dns=!", b"", 400, None),
        ("GET", "/", b"", 404, None),
        ("GET", "/dns-query/", b"", 404, None),
        ("PUT", "/dns-query", &www, 400, None),
        ("HEAD", &get, b"", 400, None),
        ("POST", "/dns-query", b"", 400, None),
        ("POST", "/dns-query", &www[..11], 400, None),
        ("POST", "/dns-query", &too_long, 400, None),
    ];
    for io in BACKENDS {
        let server = Server::start(io, "");
        in_runtime(async {
            for version in [Version::Plain, Version::Http11, Version::Http2] {
                let mut client = server.client(version).await;
                for (method, path, body, status, expected) in &rows {
                    let answer = client.send(method, path, body).await;
                    let (found, age, message) = answer.unwrap_or_else(|error| {
                        panic!("{version:?} {method} {path}: {error:?}");
                    });
                    assert_eq!(found, *status, "{version:?} {method} {path}");
                    let found = age.as_deref().map(|age| (age, message[7]));
                    assert_eq!(found, *expected, "{version:?} {method} {path}");
                    // HTTP/1.1 cannot go on after a body that was not read.
                    if body.len() == too_long.len() {
                        client = server.client(version).await;
                    }
                }
            }
        });
        let scrape = server.metrics();
        for (port, status, count) in
            [(server.ports[0], 200, 10), (server.ports[1], 200, 5), (server.ports[1], 404, 2)]
        {
            let line = format!(
                "coredns_dns_https_responses_total{{server=\"https://127.0.0.1:{port}\",\
                 status=\"{status}\"}} {count}\n"
            );
            assert!(scrape.contains(&line), "{line}{scrape}");
        }
        wait_until("the log says so", || server.log().contains("is served over plain HTTP"));
        assert!(server.log().contains(&format!("127.0.0.1:{} (HTTPS)", server.ports[1])));
    }
}

#[test]
fn many_requests_of_one_connection_are_answered() {
    const COUNT: usize = 500;
    for io in BACKENDS {
        let server = Server::start(io, "");
        in_runtime(async {
            let client = server.client(Version::Http2).await;
            let Client::Http2(sender) = client else { unreachable!() };
            let mut requests = tokio::task::JoinSet::new();
            for index in 0..COUNT {
                let mut client = Client::Http2(sender.clone());
                requests.spawn(async move {
                    let name = ["www.test", "far.test"][index % 2];
                    client.ask(name, TYPE_A).await.unwrap()
                });
            }
            let answers = requests.join_all().await;
            assert_eq!(answers, [1; COUNT]);
        });
    }
}

#[test]
fn connections_end_in_time() {
    let server = Server::start("uring", "timeouts {\n read 1s\n idle 2s\n}");
    let head = "POST /dns-query HTTP/1.1\r\nhost: x\r\ncontent-length: 33\r\n\r\n";
    // Nothing; a part of a request; a request without its body; an answered request.
    let whole = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", path_of(&query("www.test", TYPE_A)));
    for (sent, is_answered) in [("", false), ("GET /dns", false), (head, true), (&whole, true)] {
        let mut client = server.connect().unwrap();
        client.write_all(sent.as_bytes()).unwrap();
        let mut read = Vec::new();
        let _ = client.read_to_end(&mut read);
        assert_eq!(!read.is_empty(), is_answered, "{sent}");
    }
    in_runtime(async {
        let mut client = server.client(Version::Http2).await;
        assert_eq!(client.ask("www.test", TYPE_A).await.unwrap(), 1);
        let Client::Http2(sender) = &mut client else { unreachable!() };
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let open = |scrape: &str| {
        let lines = scrape.lines().filter(|line| line.starts_with("ringdns_tcp_connections{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    wait_until("none is open", || open(&server.metrics()) == 0.0);
}

#[test]
fn connections_are_limited() {
    let server = Server::start("mmsg", "https {\n max_connections 2\n max_streams 1\n}");
    in_runtime(async {
        let mut first = server.client(Version::Plain).await;
        let mut second = server.client(Version::Plain).await;
        // The connection that found the server listening may still be open.
        while first.ask("www.test", TYPE_A).await.is_err() {
            first = server.client(Version::Plain).await;
        }
        while second.ask("www.test", TYPE_A).await.is_err() {
            second = server.client(Version::Plain).await;
        }
        assert!(server.client(Version::Plain).await.ask("www.test", TYPE_A).await.is_err());
        drop(first);
        loop {
            let mut next = server.client(Version::Plain).await;
            if next.ask("www.test", TYPE_A).await.is_ok() {
                break;
            }
        }
        assert_eq!(second.ask("www.test", TYPE_A).await.unwrap(), 1);
    });
}

#[test]
fn a_reload_and_the_end_lose_no_request() {
    for io in BACKENDS {
        let mut server = Server::start(io, "");
        in_runtime(async {
            let mut clients = Vec::new();
            for version in [Version::Plain, Version::Http11, Version::Http2] {
                let mut client = server.client(version).await;
                assert_eq!(client.ask("www.test", TYPE_A).await.unwrap(), 1);
                clients.push(client);
            }
            let text = corefile(server.ports, server.http, "https {\n max_connections 9\n}");
            fs::write(server.folder.path().join("Corefile"), text).unwrap();
            server.child.signal(Signal::USR1);
            wait_until("it is reloaded", || server.log().contains("Reloading complete"));
            for client in &mut clients {
                assert_eq!(client.ask("www.test", TYPE_A).await.unwrap(), 1);
            }
            server.child.signal(Signal::TERM);
            for client in &mut clients {
                // Answered, or refused before it was sent.
                match client.ask("far.test", TYPE_A).await {
                    Ok(count) => assert_eq!(count, 1),
                    Err(error) => assert!(error.is_canceled() || error.is_closed(), "{error:?}"),
                }
            }
        });
        wait_until("it has ended", || server.child.try_wait().unwrap().is_some());
    }
}
