//! DNS over TCP (RFC 7766): connections as tasks of the shard's thread, each read answered in one write.
//!
//! A connection owns no buffer while it idles: bytes are read into the shard's one input buffer and answered into its one
//! output buffer; only what a read left unfinished, or the peer did not take, is kept with the connection. Invariant: a
//! borrow of the shard or of its buffers never lasts over an await.

mod connection;
mod recency;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::client::ListenerId;
use crate::io::socket::divert_connections;
use crate::limits::{
    ACCEPT_BACK_OFF, LISTENERS_MAX, TCP_BACKLOG, TCP_CONNECTIONS_MAX, TCP_HAND_OVER_TIMEOUT,
    TCP_READ_LEN, TCP_WRITE_LEN,
};
use crate::metrics::ShardEvent;
use crate::resolve::outbox::Outbox;
use crate::responder::Responder;

use connection::ClientConnection;
use recency::Recency;

/// The TCP side of one shard: its listeners, and what its connections share.
pub struct TcpService {
    /// Notified when the listener is to close.
    closing: [Option<Rc<Notify>>; LISTENERS_MAX],
    shared: Rc<TcpShared>,
}

struct TcpShared {
    buffers: RefCell<Buffers>,
    /// The open connections, by when they last took or gave something whole.
    connections: RefCell<Recency<Rc<Outbox>>>,
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
            }),
        }
    }
}

impl TcpService {
    /// Accepts connections of this listener from now on. Must be called in the shard's runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub fn open(
        &mut self,
        listener: ListenerId,
        socket: TcpListener,
        responder: &Rc<RefCell<Responder>>,
    ) -> io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let closing = Rc::new(Notify::new());
        self.closing[listener.0] = Some(Rc::clone(&closing));
        let door =
            Door { listener, responder: Rc::clone(responder), shared: Rc::clone(&self.shared) };
        tokio::task::spawn_local(accept(socket, door, closing));
        Ok(())
    }

    /// Accepts who has begun to connect by now, and no more; connections that are open go on until they idle out.
    pub fn close(&mut self, listener: ListenerId) {
        if let Some(closing) = self.closing[listener.0].take() {
            closing.notify_one();
        }
    }
}

/// Where connections of a listener come in.
struct Door {
    listener: ListenerId,
    responder: Rc<RefCell<Responder>>,
    shared: Rc<TcpShared>,
}

async fn accept(socket: tokio::net::TcpListener, door: Door, closing: Rc<Notify>) {
    accept_until(closing.notified(), &socket, &door).await;
    if divert_connections(&socket) {
        accept_until(sleep(TCP_HAND_OVER_TIMEOUT), &socket, &door).await;
    }
    accept_waiting(&socket, &door);
}

async fn accept_until(
    end: impl Future<Output = ()>,
    socket: &tokio::net::TcpListener,
    door: &Door,
) {
    let mut end = pin!(end);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => door.let_in(stream, address),
            Err(_) => {
                door.responder.borrow().metrics().count(ShardEvent::TcpAcceptFailed, 1);
                // Out of descriptors, or the peer is gone already: either way not at once again.
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

/// Whom the kernel has queued it would reset when the socket closes.
fn accept_waiting(socket: &tokio::net::TcpListener, door: &Door) {
    for _ in 0..TCP_BACKLOG {
        let Ok((stream, address)) = SockRef::from(socket).accept() else { return };
        let stream: std::net::TcpStream = stream.into();
        if let Some(address) = address.as_socket()
            && stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            door.let_in(stream, address);
        }
    }
}

impl Door {
    fn let_in(&self, stream: TcpStream, address: SocketAddr) {
        let Self { listener, responder, shared } = self;
        responder.borrow().metrics().count(ShardEvent::TcpAccepted, 1);
        if shared.connections.borrow().len() >= TCP_CONNECTIONS_MAX {
            // The one that has been of no use for longest makes room (RFC 7766, section 6.1).
            responder.borrow().metrics().count(ShardEvent::TcpEvicted, 1);
            let oldest = shared.connections.borrow_mut().remove_oldest();
            oldest.iter().for_each(|outbox| outbox.close());
        }
        let _ = stream.set_nodelay(true);
        let connection = ClientConnection::new(stream, address, *listener, responder, shared);
        tokio::task::spawn_local(connection.serve());
    }
}
