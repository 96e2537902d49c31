//! DNS over TCP (RFC 7766), TLS (RFC 7858) and HTTPS (`https`). Connections are tasks of the
//! shard's thread; each read is answered in one write, after the reads of the other connections
//! that are ready.
//!
//! The shard has one input and one output buffer for all connections. A connection keeps only the
//! rest of an incomplete read, and responses that the peer has not taken; an idle one has at most
//! `TCP_KEPT_LEN` bytes for each.
//! Invariant: a borrow of the shard or of its buffers never lasts over an await.

mod connection;
mod frames;
mod https;
mod output;
mod recency;
mod stream;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::client::ListenerId;
use crate::io::bell::Bell;
use crate::io::socket::divert_connections;
use crate::limits::{
    ACCEPT_BACK_OFF, LISTENERS_MAX, TCP_BACKLOG, TCP_CONNECTIONS_MAX, TCP_HAND_OVER_TIMEOUT,
    TCP_READ_LEN, TLS_HANDSHAKES_MAX,
};
use crate::metrics::ShardEvent;
use crate::plugin::https::HttpsListener;
use crate::resolve::outbox::{Outbox, OwedBytes};
use crate::responder::Responder;

use connection::ClientConnection;
use https::HttpsConnection;
use output::Output;
use recency::{Recency, Ticket};
use stream::{ClientStream, TlsStream};

/// The TCP listeners of one shard, and the state that its connections share.
pub struct TcpService {
    /// By listener.
    acceptors: [Option<RunningAcceptor>; LISTENERS_MAX],
    shared: Rc<TcpShared>,
    bell: Rc<Bell>,
}

struct RunningAcceptor {
    closing: Rc<AcceptorClosing>,
    task: AbortHandle,
}

/// Notified to close a listener.
struct AcceptorClosing {
    wake: Notify,
    handshakes: Cell<Handshakes>,
}

/// What happens to the handshakes that have begun when a listener closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshakes {
    /// Their connections are accepted: other sockets take later ones.
    Awaited,
    /// The same, while a program gives later ones to the sockets of another process.
    AwaitedInGroup,
    /// The process ends.
    Refused,
}

struct TcpShared {
    buffers: RefCell<Buffers>,
    /// The open connections, by when they last answered a query or took a part of a response.
    connections: RefCell<Recency<Rc<Outbox>>>,
    /// What the connections owe their peers.
    owed: Rc<OwedBytes>,
    /// TLS handshakes in progress, by their beginning. Notified to end one.
    handshakes: RefCell<Recency<Rc<Notify>>>,
    /// Listeners that close and still accept the connections that have begun.
    closing_count: Cell<usize>,
    /// Connections end once they owe no response.
    is_draining: Cell<bool>,
}

struct Buffers {
    input: Box<[u8]>,
    output: Output,
}

impl TcpService {
    /// `bell`: is to ring for each connection.
    pub fn new(bell: Rc<Bell>) -> Self {
        let buffers = Buffers { input: vec![0; TCP_READ_LEN].into(), output: Output::default() };
        Self {
            acceptors: [const { None }; LISTENERS_MAX],
            shared: Rc::new(TcpShared {
                buffers: RefCell::new(buffers),
                connections: RefCell::default(),
                owed: Rc::default(),
                handshakes: RefCell::default(),
                closing_count: Cell::new(0),
                is_draining: Cell::new(false),
            }),
            bell,
        }
    }

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
        let handshakes = Cell::new(Handshakes::Awaited);
        let closing = Rc::new(AcceptorClosing { wake: Notify::new(), handshakes });
        let acceptor =
            Acceptor { listener, responder: Rc::clone(responder), shared: Rc::clone(&self.shared) };
        let task = tokio::task::spawn_local(accept(socket, acceptor, Rc::clone(&closing)));
        self.acceptors[listener.0] = Some(RunningAcceptor { closing, task: task.abort_handle() });
        Ok(())
    }

    /// Accepts the connections that have begun, and no more. Open ones continue until they idle
    /// out. Does nothing if there is no such listener.
    pub fn close(&mut self, listener: ListenerId, handshakes: Handshakes) {
        self.bell.forget(listener);
        if let Some(acceptor) = self.acceptors[listener.0].take() {
            self.shared.closing_count.set(self.shared.closing_count.get() + 1);
            acceptor.closing.handshakes.set(handshakes);
            acceptor.closing.wake.notify_one();
        }
    }

    /// Accepts no more, and leaves the connections that wait to others that have the same sockets.
    pub fn leave(&mut self) {
        for index in 0..LISTENERS_MAX {
            self.bell.forget(ListenerId(index));
        }
        self.acceptors.iter_mut().filter_map(Option::take).for_each(|one| one.task.abort());
    }

    /// Has each connection end once it owes no response.
    pub fn drain(&mut self) {
        self.shared.is_draining.set(true);
        self.shared.connections.borrow().iter().for_each(|outbox| outbox.wake.notify_one());
    }

    /// Whether nothing is left to drain.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let TcpShared { connections, handshakes, closing_count, .. } = &*self.shared;
        connections.borrow().len() + handshakes.borrow().len() + closing_count.get() == 0
    }
}

/// Accepts the connections of one listener.
#[derive(Clone)]
struct Acceptor {
    listener: ListenerId,
    responder: Rc<RefCell<Responder>>,
    shared: Rc<TcpShared>,
}

async fn accept(socket: tokio::net::TcpListener, acceptor: Acceptor, closing: Rc<AcceptorClosing>) {
    accept_until(closing.wake.notified(), &socket, &acceptor).await;
    let are_awaited = match closing.handshakes.get() {
        Handshakes::Awaited => divert_connections(&socket),
        Handshakes::AwaitedInGroup => true,
        Handshakes::Refused => false,
    };
    if are_awaited {
        accept_until(sleep(TCP_HAND_OVER_TIMEOUT), &socket, &acceptor).await;
    }
    accept_waiting(&socket, &acceptor);
    acceptor.shared.closing_count.set(acceptor.shared.closing_count.get() - 1);
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
            None => match self.responder.borrow().https(self.listener) {
                Some(https) => self.serve_requests(stream, address, https),
                None => self.serve(stream, address),
            },
            Some(config) => {
                tokio::task::spawn_local(self.clone().shake_hands(stream, address, config));
            }
        }
    }

    /// Begins a TLS session, and serves it.
    async fn shake_hands(self, stream: TcpStream, address: SocketAddr, config: Arc<ServerConfig>) {
        let patience = self.responder.borrow().timeouts(self.listener).read;
        let one_too_many = Rc::new(Notify::new());
        let ticket = self.begin_handshake(&one_too_many);
        let accepted = tokio::select! {
            biased;
            accepted = timeout(patience, TlsAcceptor::from(config).accept(stream)) => accepted,
            () = one_too_many.notified() => Ok(Err(io::ErrorKind::ConnectionAborted.into())),
        };
        self.shared.handshakes.borrow_mut().remove(ticket);
        let Some(session) = accepted.ok().and_then(Result::ok) else {
            return self.responder.borrow().metrics().count(ShardEvent::TlsHandshakeFailed, 1);
        };
        let https = self.responder.borrow().https(self.listener);
        if let Some(https) = https {
            return self.serve_requests(session, address, https);
        }
        let (stream, session) = session.into_inner();
        self.serve(TlsStream::new(stream, session), address);
    }

    /// Ends the oldest handshake if there are too many: clients that say nothing must not keep the
    /// others out.
    fn begin_handshake(&self, one_too_many: &Rc<Notify>) -> Ticket {
        let handshakes = &mut *self.shared.handshakes.borrow_mut();
        if handshakes.len() >= TLS_HANDSHAKES_MAX {
            handshakes.remove_oldest().iter().for_each(|oldest| oldest.notify_one());
        }
        handshakes.admit(Rc::clone(one_too_many))
    }

    fn serve(&self, stream: impl ClientStream + 'static, address: SocketAddr) {
        self.make_room();
        let Self { listener, responder, shared } = self;
        let connection = ClientConnection::new(stream, address, *listener, responder, shared);
        tokio::task::spawn_local(connection.serve());
    }

    fn serve_requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        address: SocketAddr,
        https: HttpsListener,
    ) {
        self.make_room();
        if let Some(connection) = HttpsConnection::new(self, address, https) {
            tokio::task::spawn_local(connection.serve(stream));
        }
    }

    /// Counts a connection, and closes another one if there are too many.
    fn make_room(&self) {
        let Self { responder, shared, .. } = self;
        responder.borrow().metrics().count(ShardEvent::TcpAccepted, 1);
        if shared.connections.borrow().len() >= TCP_CONNECTIONS_MAX {
            // Close the connection that has been idle longest (RFC 7766, section 6.1).
            responder.borrow().metrics().count(ShardEvent::TcpEvicted, 1);
            let oldest = shared.connections.borrow_mut().remove_oldest();
            oldest.iter().for_each(|outbox| outbox.close());
        }
    }
}
