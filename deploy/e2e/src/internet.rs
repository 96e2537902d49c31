//! The internet of a `Machine`: the same upstream at each of its addresses, over UDP, TCP and TLS.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::{Authority, Identity};
use crate::machine::Machine;
use crate::upstream::Zone;

/// The ports of DNS and of DNS over TLS.
const DNS: u16 = 53;
const DNS_OVER_TLS: u16 = 853;

/// What all machines' internets have in common. Its sockets close with it.
pub struct Internet {
    runtime: Runtime,
    zone: Arc<Zone>,
    acceptor: TlsAcceptor,
    authority: Authority,
}

impl Internet {
    /// `zone`: lines of the root zone. `names`: those of the servers that offer TLS.
    pub fn new(zone: &str, names: Vec<String>) -> Self {
        let authority = Authority::new("e2e internet");
        let identity = authority.issue_for("e2e upstream", names);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self {
            runtime: runtime.expect("a runtime"),
            zone: Arc::new(Zone::parse(zone)),
            acceptor: acceptor(&identity),
            authority,
        }
    }

    /// What a machine trusts: the authority of the upstreams' certificates, in PEM.
    pub fn authority(&self) -> &str {
        self.authority.certificate()
    }

    /// Serves the machine's upstreams at these addresses, and DNS over TLS beside each.
    pub fn serve(&self, machine: &Machine, upstreams: &[SocketAddr]) {
        let _inside = self.runtime.enter();
        for address in upstreams {
            let (udp, tcp) =
                machine.outside(|| (UdpSocket::bind(address), TcpListener::bind(address)));
            self.runtime.spawn(serve_udp(into_udp(udp), Arc::clone(&self.zone)));
            self.runtime.spawn(serve_tcp(into_tcp(tcp), Arc::clone(&self.zone), None));
        }
        let mut hosts: Vec<IpAddr> = upstreams.iter().map(SocketAddr::ip).collect();
        hosts.sort_unstable();
        hosts.dedup();
        for host in hosts {
            let tls = machine.outside(|| TcpListener::bind((host, DNS_OVER_TLS)));
            let acceptor = Some(self.acceptor.clone());
            self.runtime.spawn(serve_tcp(into_tcp(tls), Arc::clone(&self.zone), acceptor));
        }
    }

    /// Passes the machine's connections to its own `port` on to the same port of this process's
    /// network.
    pub fn relay(&self, machine: &Machine, port: u16) {
        let _inside = self.runtime.enter();
        let listener = into_tcp(Ok(machine.listen(port)));
        self.runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
                    if let Ok(mut server) = server {
                        // Either side may end it.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
    }
}

/// An upstream of a Corefile with its port; port 853 is that of TLS, and is served anyway.
pub fn upstream(address: IpAddr, port: Option<u16>) -> SocketAddr {
    SocketAddr::new(address, port.filter(|port| *port != DNS_OVER_TLS).unwrap_or(DNS))
}

async fn serve_udp(socket: tokio::net::UdpSocket, zone: Arc<Zone>) {
    let mut buffer = [0; 4096];
    while let Ok((len, client)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = zone.answer(&buffer[..len]) {
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

async fn serve_tcp(
    listener: tokio::net::TcpListener,
    zone: Arc<Zone>,
    acceptor: Option<TlsAcceptor>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let zone = Arc::clone(&zone);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => serve_stream(acceptor.accept(stream).await.ok()?, &zone).await,
                None => serve_stream(stream, &zone).await,
            }
        });
    }
}

/// Ends with `None` when the client does.
async fn serve_stream(mut stream: impl AsyncRead + AsyncWrite + Unpin, zone: &Zone) -> Option<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut query).await.ok()?;
        let answer = zone.answer(&query)?;
        let len = u16::try_from(answer.len()).expect("a short answer");
        stream.write_all(&[&len.to_be_bytes()[..], &answer].concat()).await.ok()?;
    }
}

fn into_udp(socket: std::io::Result<UdpSocket>) -> tokio::net::UdpSocket {
    let socket = socket.expect("a port of a new machine");
    socket.set_nonblocking(true).expect("a socket");
    tokio::net::UdpSocket::from_std(socket).expect("a runtime")
}

fn into_tcp(listener: std::io::Result<TcpListener>) -> tokio::net::TcpListener {
    let listener = listener.expect("a port of a new machine");
    listener.set_nonblocking(true).expect("a socket");
    tokio::net::TcpListener::from_std(listener).expect("a runtime")
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(
        vec![certificate.expect("a certificate in PEM")],
        key.expect("a key in PEM"),
    );
    Arc::new(config.expect("a certificate and its key")).into()
}
