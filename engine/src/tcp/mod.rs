//! DNS over TCP (RFC 7766): connections as tasks of the shard's thread, each read answered in one write.
//!
//! A connection owns no buffer while it idles: bytes are read into the shard's one input buffer and answered into its one
//! output buffer; only what a read left unfinished, or the peer did not take, is kept with the connection. Invariant: a
//! borrow of the shard or of its buffers never lasts over an await.

mod connection;
mod recency;

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use tokio::task::JoinHandle;

use crate::limits::{
    ACCEPT_BACK_OFF, LISTENERS_MAX, TCP_CONNECTIONS_MAX, TCP_READ_LEN, TCP_WRITE_LEN,
};
use crate::metrics::Event;
use crate::plan::ListenerId;
use crate::shard::Shard;

use connection::Connection;
pub use connection::Peer;
use recency::Recency;

/// The TCP side of one shard: its listeners, and what its connections share.
pub struct TcpService {
    accepting: [Option<JoinHandle<()>>; LISTENERS_MAX],
    shared: Rc<Shared>,
}

struct Shared {
    buffers: RefCell<Buffers>,
    /// The open connections, by when they last took or gave something whole.
    connections: RefCell<Recency<Rc<Peer>>>,
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
            accepting: [const { None }; LISTENERS_MAX],
            shared: Rc::new(Shared {
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
        shard: &Rc<RefCell<Shard>>,
    ) -> io::Result<()> {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let accepting = accept(socket, listener, Rc::clone(shard), Rc::clone(&self.shared));
        self.accepting[listener.0] = Some(tokio::task::spawn_local(accepting));
        Ok(())
    }

    /// Accepts no more; connections that are open go on until they idle out.
    pub fn close(&mut self, listener: ListenerId) {
        if let Some(accepting) = self.accepting[listener.0].take() {
            accepting.abort();
        }
    }
}

async fn accept(
    socket: tokio::net::TcpListener,
    listener: ListenerId,
    shard: Rc<RefCell<Shard>>,
    shared: Rc<Shared>,
) {
    loop {
        let Ok((stream, address)) = socket.accept().await else {
            shard.borrow().metrics().count(Event::TcpAcceptFailed, 1);
            // Out of descriptors, or the peer is gone already: either way not at once again.
            tokio::time::sleep(ACCEPT_BACK_OFF).await;
            continue;
        };
        shard.borrow().metrics().count(Event::TcpAccepted, 1);
        if shared.connections.borrow().len() >= TCP_CONNECTIONS_MAX {
            // The one that has been of no use for longest makes room (RFC 7766, section 6.1).
            shard.borrow().metrics().count(Event::TcpEvicted, 1);
            let oldest = shared.connections.borrow_mut().remove_oldest();
            oldest.iter().for_each(|peer| peer.close());
        }
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, address, listener, &shard, &shared);
        tokio::task::spawn_local(connection.serve());
    }
}
