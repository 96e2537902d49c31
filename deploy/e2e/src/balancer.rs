//! A load balancer in front of an API server. It forwards connections and can silently drop them,
//! or it terminates TLS and requires client certificates.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::authority::{Authority, Identity};
use crate::port;

/// A running balancer. Its thread ends with the test's process.
pub struct Balancer {
    port: u16,
    state: Arc<BalancerState>,
}

struct BalancerState {
    upstream: SocketAddr,
    /// `None`: bytes are forwarded unchanged.
    tls: Mutex<Option<Tls>>,
    fate: watch::Sender<Fate>,
}

/// TLS towards clients and towards the API server.
#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// What happens to existing connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They stay open, but nothing is forwarded any more.
    Frozen,
    Cut,
}

/// The certificates of a balancer that terminates TLS.
pub struct Terminator<'a> {
    /// The certificate that clients see.
    pub server: &'a Identity,
    /// The authority that signs the clients' certificates.
    pub clients: &'a Authority,
    /// The certificate that the API server sees, and the authority of the API server's own.
    pub client: &'a Identity,
    pub authority: &'a str,
}

impl Balancer {
    /// Forwards bytes to `upstream`, a port of 127.0.0.1.
    pub fn start(upstream: u16) -> Self {
        let port = port::free();
        let state = Arc::new(BalancerState {
            upstream: (Ipv4Addr::LOCALHOST, upstream).into(),
            tls: Mutex::new(None),
            fate: watch::Sender::new(Fate::Cut),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = listener.expect("a port that was free");
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, served)).expect("a socket");
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, terminates TLS with these certificates; existing connections are cut.
    pub fn terminate(&self, how: &Terminator<'_>) {
        let tls = Tls::new(how);
        *self.state.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls);
        self.state.fate.send_replace(Fate::Cut);
    }

    /// Stops forwarding on existing connections without telling either side. New ones work.
    pub fn freeze(&self) {
        self.state.fate.send_replace(Fate::Frozen);
    }
}

impl Tls {
    fn new(how: &Terminator<'_>) -> Self {
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots(how.clients.certificate())));
        let (chain, key) = parts(how.server);
        let server = ServerConfig::builder()
            .with_client_cert_verifier(verifier.build().expect("an authority"))
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let (chain, key) = parts(how.client);
        let client = ClientConfig::builder()
            .with_root_certificates(roots(how.authority))
            .with_client_auth_cert(chain, key)
            .expect("a certificate and its key");
        Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() }
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<BalancerState>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        let state = Arc::clone(&state);
        let fate = state.fate.subscribe();
        // A failed handshake, or an API server that is down, ends the connection.
        tokio::spawn(async move { connect(client, &state, fate).await });
    }
}

async fn connect(
    client: TcpStream,
    state: &BalancerState,
    fate: watch::Receiver<Fate>,
) -> io::Result<()> {
    let server = TcpStream::connect(state.upstream).await?;
    let tls = state.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(tls) = tls else {
        pass(client, server, fate).await;
        return Ok(());
    };
    let client = tls.acceptor.accept(client).await?;
    let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST)));
    let server = tls.connector.connect(name, server).await?;
    pass(client, server, fate).await;
    Ok(())
}

async fn pass(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    mut fate: watch::Receiver<Fate>,
) {
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = fate.changed() => {}
    }
    let fate = *fate.borrow();
    match fate {
        Fate::Frozen => std::future::pending().await,
        Fate::Cut => {}
    }
}

fn roots(authority: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes());
    roots.add(certificate.expect("a certificate in PEM")).expect("an authority");
    roots
}

fn parts(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    (vec![certificate.expect("a certificate in PEM")], key.expect("a key in PEM"))
}
