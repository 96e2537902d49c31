//! DNS over TLS: the binary on loopback, with both ways of moving datagrams, and clients with
//! certificates of their own.

#[path = "upstream/identity.rs"]
#[allow(dead_code, unreachable_pub)] // Upstreams use the rest.
mod identity;
#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use identity::{Identity, Trust};
use query::{ID, is_response, query};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    folder: TempDir,
    port: u16,
    http: u16,
    child: Child,
}

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

impl Server {
    /// `tls`: the lines that say how clients are served.
    fn start(io: &str, identity: &Identity, tls: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let (port, http) = (port::free(), port::free());
        let addresses: String =
            (1..=40).map(|host| format!("2001:db8::{host} big.test\n")).collect();
        let corefile = format!(
            "tls://.:{port} {{\n bind 127.0.0.1\n root {}\n prometheus 127.0.0.1:{http}\n\
             ready 127.0.0.1:{http}\n{tls}\n timeouts {{\n read 5s\n }}\n\
             hosts names.hosts {{\n 192.0.2.1 www.test\n{addresses}}}\n}}\n",
            folder.path().display()
        );
        fs::write(folder.path().join("Corefile"), corefile).unwrap();
        let mut server = Self { folder, port, http, child: Command::new("true").spawn().unwrap() };
        server.child.wait().unwrap();
        server.write(identity);
        let log = fs::File::create(server.folder.path().join("log")).unwrap();
        server.child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["-conf", "Corefile", "--io", io])
            .current_dir(server.folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until("the server listens", || server.connect().is_ok());
        server
    }

    /// Replaces the certificate and its key.
    fn write(&self, identity: &Identity) {
        let write = |name: &str, text: &str| {
            let new = self.folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.folder.path().join(name)).unwrap();
        };
        write("key.pem", &identity.key.serialize_pem());
        write("cert.pem", &identity.certificate.pem());
        write("ca.pem", &identity.authority);
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A session, its handshake included.
    fn tls(&self, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
        let name = "dns.test".try_into().unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut client = StreamOwned::new(session, self.connect()?);
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock)?;
        }
        Ok(client)
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of ringdns:\n{}", self.log());
        }
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn config(
    trusted: &Identity,
    client: Option<&Identity>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(client.key.serialize_der()));
            builder.with_client_auth_cert(vec![client.certificate.der().clone()], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"dot".to_vec()];
    Arc::new(config)
}

fn framed(name: &str, qtype: u16) -> Vec<u8> {
    let query = query(name, qtype);
    [&(query.len() as u16).to_be_bytes(), query.as_slice()].concat()
}

/// The number of answers of the next response.
fn read_response(client: &mut impl Read) -> io::Result<u8> {
    let mut len = [0; 2];
    client.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    client.read_exact(&mut message)?;
    assert!(is_response(&message, ID));
    Ok(message[7])
}

fn answers(client: &mut (impl Read + Write), name: &str, qtype: u16) -> io::Result<u8> {
    client.write_all(&framed(name, qtype))?;
    read_response(client)
}

const BACKENDS: [&str; 2] = ["uring", "mmsg"];

#[test]
fn queries_are_answered_over_tls() {
    for io in BACKENDS {
        let identity = Identity::new(&["dns.test"]);
        let server = Server::start(io, &identity, "tls cert.pem key.pem");
        for version in [&TLS12, &TLS13] {
            let mut client = server.tls(&config(&identity, None, version)).unwrap();
            assert_eq!(client.conn.alpn_protocol(), Some(&b"dot"[..]));
            assert_eq!(answers(&mut client, "www.test", 1).unwrap(), 1);
            assert_eq!(answers(&mut client, "big.test", 28).unwrap(), 40);
            // More responses than any buffer holds, before the first is read.
            const COUNT: usize = 3000;
            let queries = framed("big.test", 28).repeat(COUNT);
            let mut writing = client.sock.try_clone().unwrap();
            client.conn.set_buffer_limit(None);
            client.conn.writer().write_all(&queries).unwrap();
            let mut encrypted = Vec::new();
            while client.conn.wants_write() {
                client.conn.write_tls(&mut encrypted).unwrap();
            }
            let writer = std::thread::spawn(move || writing.write_all(&encrypted).unwrap());
            for _ in 0..COUNT {
                assert_eq!(read_response(&mut client).unwrap(), 40);
            }
            writer.join().unwrap();
            // The server ends the session after the client has, which may come with a query.
            client.conn.writer().write_all(&framed("www.test", 1)).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            assert_eq!(read_response(&mut client).unwrap(), 1);
            client.sock.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut rest = Vec::new();
            assert_eq!(client.read_to_end(&mut rest).unwrap(), 0);
        }
        let scrape = server.get("/metrics");
        let labels = format!("server=\"tls://127.0.0.1:{}\"", server.port);
        let counted = |line: &str| {
            line.starts_with("coredns_dns_requests_total")
                && line.contains(&labels)
                && line.contains("proto=\"tcp\"")
        };
        assert!(scrape.lines().any(counted), "{scrape}");
        let zone = format!("tls://.:{}\n", server.port);
        wait_until("the log says so", || server.log().contains(&zone));
        // There is no UDP here.
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
        udp.send(&query("www.test", 1)).unwrap();
        assert!(udp.recv(&mut [0; 512]).is_err());
    }
}

#[test]
fn handshakes_end_in_time() {
    let identity = Identity::new(&["dns.test"]);
    let server = Server::start("mmsg", &identity, "tls cert.pem key.pem");
    // One client says nothing, another sends plain DNS.
    let mut silent = server.connect().unwrap();
    let mut plain = server.connect().unwrap();
    plain.write_all(&framed("www.test", 1)).unwrap();
    plain.shutdown(Shutdown::Write).unwrap();
    let mut read = Vec::new();
    let _ = plain.read_to_end(&mut read);
    assert!(!read.ends_with(&[192, 0, 2, 1]), "an answer in the clear");
    assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap(), 0);
    let errors = |scrape: &str| -> u64 {
        let lines = scrape.lines().filter(|line| line.starts_with("ringdns_tls_handshake_errors"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    };
    // The connection that found the server listening is one too.
    wait_until("failed handshakes are counted", || errors(&server.get("/metrics")) >= 2);
    let mut client = server.tls(&config(&identity, None, &TLS13)).unwrap();
    assert_eq!(answers(&mut client, "www.test", 1).unwrap(), 1);
}

#[test]
fn silent_clients_keep_no_others_out() {
    let identity = Identity::new(&["dns.test"]);
    let server = Server::start("uring", &identity, "tls cert.pem key.pem");
    let _silent: Vec<_> = (0..800).map(|_| server.connect().unwrap()).collect();
    for _ in 0..8 {
        let mut client = server.tls(&config(&identity, None, &TLS13)).unwrap();
        assert_eq!(answers(&mut client, "www.test", 1).unwrap(), 1);
    }
}

#[test]
fn clients_are_verified_as_the_corefile_says() {
    let mut identity = Identity::new(&["dns.test"]);
    // Its certificate, with CA:TRUE, is in the file of the authorities itself.
    let own_authority = Trust::SelfSignedAuthority;
    let listed =
        Identity::with(&["client.test"], own_authority, &rcgen::PKCS_ECDSA_P256_SHA256, 4096);
    identity.authority.push_str(&listed.authority);
    let stranger = Identity::new(&["client.test"]);
    for (client_auth, without, with_own, with_other) in [
        ("nocert", true, true, true),
        ("request", true, true, true),
        ("require", false, true, true),
        ("verify_if_given", true, true, false),
        ("require_and_verify", false, true, false),
    ] {
        let tls = format!("tls cert.pem key.pem ca.pem {{\nclient_auth {client_auth}\n}}");
        let server = Server::start("mmsg", &identity, &tls);
        for (client, expected) in [
            (None, without),
            (Some(&identity), with_own),
            (Some(&listed), with_own),
            (Some(&stranger), with_other),
        ] {
            for version in [&TLS12, &TLS13] {
                let outcome = server
                    .tls(&config(&identity, client, version))
                    .and_then(|mut client| answers(&mut client, "www.test", 1));
                assert_eq!(outcome.is_ok(), expected, "{client_auth} {outcome:?}");
            }
        }
    }
}

#[test]
fn a_new_certificate_is_used_and_a_bad_one_is_not() {
    let [first, second, third] = [(); 3].map(|()| Identity::new(&["dns.test"]));
    // A line with a warning.
    let server = Server::start("uring", &first, "tls cert.pem key.pem\ndebug");
    let is_served = |identity: &Identity| {
        let client = server.tls(&config(identity, None, &TLS13));
        client.and_then(|mut client| answers(&mut client, "www.test", 1)).is_ok()
    };
    assert!(is_served(&first) && !is_served(&second));
    server.write(&second);
    wait_until("the new certificate is served", || is_served(&second));
    fs::write(server.folder.path().join("cert.pem"), "not a certificate").unwrap();
    wait_until("the bad file is reported", || {
        server.log().contains("could not load TLS cert") && server.log().contains("last ones")
    });
    assert!(is_served(&second));
    assert!(server.get("/metrics").contains("coredns_reload_failed_total 1"));
    wait_until("/ready names it", || server.get("/ready").contains("are still used: "));
    server.write(&third);
    wait_until("a good file is read again", || is_served(&third));
    assert_eq!(server.log().matches("[WARNING] plugin/debug: ").count(), 1, "{}", server.log());
    wait_until("/ready forgets it", || !server.get("/ready").contains("are still used: "));
}

#[test]
fn without_a_certificate_it_is_plain_tcp() {
    let identity = Identity::new(&["dns.test"]);
    for io in BACKENDS {
        let server = Server::start(io, &identity, "");
        let mut client = server.connect().unwrap();
        assert_eq!(answers(&mut client, "www.test", 1).unwrap(), 1);
        wait_until("the log says so", || server.log().contains("is served over plain TCP"));
    }
}
