//! DNS over TCP (RFC 7766) and TLS (RFC 7858). Connections are tasks of the shard's thread; each
//! read is answered in one write.
//!
//! An idle TCP connection owns no buffer: the shard has one input and one output buffer for all. A
//! connection keeps only the rest of an incomplete read, and responses that the peer has not taken.
//! Invariant: a borrow of the shard or of its buffers never lasts over an await.

mod connection;
mod frames;
mod recency;
mod stream;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::client::ListenerId;
use crate::io::socket::divert_connections;
use crate::limits::{
    ACCEPT_BACK_OFF, LISTENERS_MAX, TCP_BACKLOG, TCP_CONNECTIONS_MAX, TCP_HAND_OVER_TIMEOUT,
    TCP_READ_LEN, TCP_WRITE_LEN, TLS_HANDSHAKES_MAX,
};
use crate::metrics::ShardEvent;
use crate::resolve::outbox::Outbox;
use crate::responder::Responder;

use connection::ClientConnection;
use recency::Recency;
use stream::{ClientStream, TlsStream};

/// The TCP listeners of one shard, and the state that its connections share.
pub struct TcpService {
    /// By listener; notified to close it.
    closing: [Option<Rc<Notify>>; LISTENERS_MAX],
    shared: Rc<TcpShared>,
}

struct TcpShared {
    buffers: RefCell<Buffers>,
    /// The open connections, by when they last answered a query or took a part of a response.
    connections: RefCell<Recency<Rc<Outbox>>>,
    /// TLS handshakes in progress.
    handshake_count: Cell<usize>,
}

struct Buffers {
    input: Box<[u8]>,
    output: Box<[u8]>,
}

impl Default for TcpService {
    fn default() -> Self {
        let buffers =
            Buffers { input: vec![0; TCP_READ_LEN].into(), output: vec![0; TCP_WRITE_LEN].into() };
        Self {
            closing: [const { None }; LISTENERS_MAX],
            shared: Rc::new(TcpShared {
                buffers: RefCell::new(buffers),
                connections: RefCell::default(),
                handshake_count: Cell::new(0),
            }),
        }
    }
}

impl TcpService {
    /// Accepts connections on this socket from now on. Must be called in the shard's runtime.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub fn open(
        &mut self,
        listener: ListenerId,
        socket: TcpListener,
        responder: &Rc<RefCell<Responder>>,
    ) -> io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let closing = Rc::new(Notify::new());
        self.closing[listener.0] = Some(Rc::clone(&closing));
        let acceptor =
            Acceptor { listener, responder: Rc::clone(responder), shared: Rc::clone(&self.shared) };
        tokio::task::spawn_local(accept(socket, acceptor, closing));
        Ok(())
    }

    /// Accepts the connections that have begun, and no more. Open ones continue until they idle
    /// out.
    pub fn close(&mut self, listener: ListenerId) {
        if let Some(closing) = self.closing[listener.0].take() {
            closing.notify_one();
        }
    }
}

/// Accepts the connections of one listener.
#[derive(Clone)]
struct Acceptor {
    listener: ListenerId,
    responder: Rc<RefCell<Responder>>,
    shared: Rc<TcpShared>,
}

async fn accept(socket: tokio::net::TcpListener, acceptor: Acceptor, closing: Rc<Notify>) {
    accept_until(closing.notified(), &socket, &acceptor).await;
    if divert_connections(&socket) {
        accept_until(sleep(TCP_HAND_OVER_TIMEOUT), &socket, &acceptor).await;
    }
    accept_waiting(&socket, &acceptor);
}

async fn accept_until(
    end: impl Future<Output = ()>,
    socket: &tokio::net::TcpListener,
    acceptor: &Acceptor,
) {
    let mut end = pin!(end);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => acceptor.admit(stream, address),
            Err(_) => {
                acceptor.responder.borrow().metrics().count(ShardEvent::TcpAcceptFailed, 1);
                // No descriptor is left, or the peer is gone. Either way pause before the next
                // accept.
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

/// Accepts queued connections: the kernel would reset them when the socket closes.
fn accept_waiting(socket: &tokio::net::TcpListener, acceptor: &Acceptor) {
    for _ in 0..TCP_BACKLOG {
        let Ok((stream, address)) = SockRef::from(socket).accept() else { return };
        let stream: std::net::TcpStream = stream.into();
        if let Some(address) = address.as_socket()
            && stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            acceptor.admit(stream, address);
        }
    }
}

impl Acceptor {
    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let handshake = self.responder.borrow().tls(self.listener);
        match handshake {
            None => self.serve(stream, address),
            Some(config) => {
                tokio::task::spawn_local(self.clone().shake_hands(stream, address, config));
            }
        }
    }

    /// Begins a TLS session, and serves it.
    async fn shake_hands(self, stream: TcpStream, address: SocketAddr, config: Arc<ServerConfig>) {
        let in_progress = &self.shared.handshake_count;
        let patience = self.responder.borrow().timeouts(self.listener).read;
        let mut session = None;
        if in_progress.get() < TLS_HANDSHAKES_MAX {
            in_progress.set(in_progress.get() + 1);
            let accepted = timeout(patience, TlsAcceptor::from(config).accept(stream)).await;
            in_progress.set(in_progress.get() - 1);
            session = accepted.ok().and_then(Result::ok);
        }
        let Some(session) = session else {
            return self.responder.borrow().metrics().count(ShardEvent::TlsHandshakeFailed, 1);
        };
        let (stream, session) = session.into_inner();
        self.serve(TlsStream::new(stream, session), address);
    }

    fn serve(&self, stream: impl ClientStream + 'static, address: SocketAddr) {
        let Self { listener, responder, shared } = self;
        responder.borrow().metrics().count(ShardEvent::TcpAccepted, 1);
        if shared.connections.borrow().len() >= TCP_CONNECTIONS_MAX {
            // Close the connection that has been idle longest (RFC 7766, section 6.1).
            responder.borrow().metrics().count(ShardEvent::TcpEvicted, 1);
            let oldest = shared.connections.borrow_mut().remove_oldest();
            oldest.iter().for_each(|outbox| outbox.close());
        }
        let connection = ClientConnection::new(stream, address, *listener, responder, shared);
        tokio::task::spawn_local(connection.serve());
    }
}
