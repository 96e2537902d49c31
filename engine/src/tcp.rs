//! DNS over TCP (RFC 7766): connections as tasks of the shard's thread, each read answered in one write.
//!
//! A connection owns no buffer while it idles: bytes are read into the shard's one input buffer and answered into its one
//! output buffer; only what a read left unfinished, or the peer did not take, is kept with the connection. Invariant: a
//! borrow of the shard or of its buffers never lasts over an await.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant as Deadline, timeout_at};
use wire::header::HEADER_LEN;
use wire::reply::MESSAGE_LEN_MAX;

use crate::answer::Transport;
use crate::limits::{
    ACCEPT_BACK_OFF, LISTENERS_MAX, TCP_CONNECTIONS_MAX, TCP_IDLE_TIMEOUT, TCP_READ_LEN,
    TCP_READ_TIMEOUT, TCP_WRITE_LEN, TCP_WRITE_TIMEOUT,
};
use crate::metrics::Event;
use crate::plan::ListenerId;
use crate::shard::{Question, Shard};

/// Bytes of the length before each message (RFC 1035, section 4.2.2).
const LENGTH_LEN: usize = 2;

/// The TCP side of one shard: its listeners, and what its connections share.
pub struct TcpService {
    accepting: [Option<JoinHandle<()>>; LISTENERS_MAX],
    shared: Rc<Shared>,
}

struct Shared {
    buffers: RefCell<Buffers>,
    connection_count: Cell<usize>,
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
                connection_count: Cell::new(0),
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
        let Ok((stream, peer)) = socket.accept().await else {
            shard.borrow().metrics().count(Event::TcpAcceptFailed, 1);
            // Out of descriptors, or the peer is gone already: either way not at once again.
            tokio::time::sleep(ACCEPT_BACK_OFF).await;
            continue;
        };
        if shared.connection_count.get() >= TCP_CONNECTIONS_MAX {
            shard.borrow().metrics().count(Event::TcpRefused, 1);
            continue;
        }
        shard.borrow().metrics().count(Event::TcpAccepted, 1);
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, peer, listener, &shard, &shared);
        tokio::task::spawn_local(connection.serve());
    }
}

struct Connection {
    stream: TcpStream,
    listener: ListenerId,
    is_from_v6: bool,
    shard: Rc<RefCell<Shard>>,
    shared: Rc<Shared>,
    /// Bytes read and not yet answered: part of a message, or messages behind an answer that the peer did not take.
    unanswered: Vec<u8>,
    /// Answers that the peer has not taken yet, and how much of them it has.
    unsent: Vec<u8>,
    sent_len: usize,
    /// The last step answered a query or sent some of an answer.
    has_progressed: bool,
}

/// What a connection waits for after it has done what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The next query.
    Query,
    /// The rest of a query that has begun.
    RestOfQuery,
    /// The peer, to take answers.
    Peer,
    /// Nothing: there may be more to answer.
    Nothing,
    /// Nothing: it is over.
    End,
}

impl Connection {
    fn new(
        stream: TcpStream,
        peer: SocketAddr,
        listener: ListenerId,
        shard: &Rc<RefCell<Shard>>,
        shared: &Rc<Shared>,
    ) -> Self {
        shared.connection_count.set(shared.connection_count.get() + 1);
        Self {
            stream,
            listener,
            is_from_v6: peer.ip().to_canonical().is_ipv6(),
            shard: Rc::clone(shard),
            shared: Rc::clone(shared),
            unanswered: Vec::new(),
            unsent: Vec::new(),
            sent_len: 0,
            has_progressed: false,
        }
    }

    async fn serve(mut self) {
        // A first query has as long to come whole as any query has from its first byte.
        let mut waiting = Waiting::RestOfQuery;
        let mut deadline = Deadline::now() + TCP_READ_TIMEOUT;
        loop {
            let woken = match waiting {
                Waiting::Query | Waiting::RestOfQuery => {
                    timeout_at(deadline, self.stream.readable()).await
                }
                Waiting::Peer => timeout_at(deadline, self.stream.writable()).await,
                Waiting::Nothing => Ok(Ok(())),
                Waiting::End => return,
            };
            if !matches!(woken, Ok(Ok(()))) {
                return;
            }
            let before = waiting;
            self.has_progressed = false;
            waiting = if before == Waiting::Peer { self.flush() } else { self.exchange(before) };
            // What is waited for keeps its deadline until something whole was done: a byte a second buys no time.
            if waiting != before || self.has_progressed {
                deadline = Deadline::now()
                    + match waiting {
                        Waiting::RestOfQuery => TCP_READ_TIMEOUT,
                        Waiting::Peer => TCP_WRITE_TIMEOUT,
                        Waiting::Query | Waiting::Nothing | Waiting::End => TCP_IDLE_TIMEOUT,
                    };
            }
        }
    }

    /// One read, its whole messages answered, one write.
    fn exchange(&mut self, waited_for: Waiting) -> Waiting {
        let shared = Rc::clone(&self.shared);
        let Buffers { input, output } = &mut *shared.buffers.borrow_mut();
        let kept = self.unanswered.len();
        input[..kept].copy_from_slice(&self.unanswered);
        self.unanswered.clear();
        let mut len = kept;
        if waited_for != Waiting::Nothing {
            match self.stream.try_read(&mut input[kept..]) {
                Ok(0) => return Waiting::End,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unanswered.extend_from_slice(&input[..kept]);
                    return waited_for;
                }
                Err(_) => return Waiting::End,
            }
        }
        let answered = self.answer_messages(&input[..len], output);
        self.has_progressed = answered.input_len > 0;
        self.unanswered.extend_from_slice(&input[answered.input_len..len]);
        let after_write = match answered.stopped {
            Stopped::InputEmpty => Waiting::Query,
            Stopped::MessageCut => Waiting::RestOfQuery,
            Stopped::OutputFull => Waiting::Nothing,
            Stopped::NotDns => Waiting::End,
        };
        self.write(&output[..answered.output_len], after_write)
    }

    fn answer_messages(&self, input: &[u8], output: &mut [u8]) -> Answers {
        let began = Instant::now();
        let mut shard = self.shard.borrow_mut();
        let mut answers = Answers { input_len: 0, output_len: 0, stopped: Stopped::InputEmpty };
        loop {
            let rest = &input[answers.input_len..];
            let Some((length, behind)) = rest.split_first_chunk::<LENGTH_LEN>() else {
                if !rest.is_empty() {
                    answers.stopped = Stopped::MessageCut;
                }
                break;
            };
            let message_len = usize::from(u16::from_be_bytes(*length));
            if message_len < HEADER_LEN {
                answers.stopped = Stopped::NotDns;
                break;
            }
            let Some(packet) = behind.get(..message_len) else {
                answers.stopped = Stopped::MessageCut;
                break;
            };
            let room = &mut output[answers.output_len..];
            if room.len() < LENGTH_LEN + MESSAGE_LEN_MAX {
                answers.stopped = Stopped::OutputFull;
                break;
            }
            let (length, out) = room.split_at_mut(LENGTH_LEN);
            let question = Question {
                listener: self.listener,
                transport: Transport::Tcp,
                is_from_v6: self.is_from_v6,
                is_cut: false,
                packet,
            };
            if let Some(reply_len) = shard.answer(&question, out) {
                length.copy_from_slice(&(reply_len as u16).to_be_bytes());
                answers.output_len += LENGTH_LEN + reply_len;
            }
            answers.input_len += LENGTH_LEN + message_len;
        }
        shard.finish_batch(began);
        answers
    }

    /// Writes what it can; keeps the rest.
    fn write(&mut self, bytes: &[u8], after: Waiting) -> Waiting {
        if bytes.is_empty() {
            return after;
        }
        let written = match self.stream.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Waiting::End,
        };
        if written == bytes.len() {
            return after;
        }
        self.unsent.extend_from_slice(&bytes[written..]);
        Waiting::Peer
    }

    /// The peer may take more of what it left.
    fn flush(&mut self) -> Waiting {
        match self.stream.try_write(&self.unsent[self.sent_len..]) {
            Ok(written) => {
                self.sent_len += written;
                self.has_progressed = written > 0;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Waiting::End,
        }
        if self.sent_len < self.unsent.len() {
            return Waiting::Peer;
        }
        // A peer that lagged once may never again: its megabyte goes back.
        self.unsent = Vec::new();
        self.sent_len = 0;
        if self.unanswered.is_empty() { Waiting::Query } else { Waiting::Nothing }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.connection_count.set(self.shared.connection_count.get() - 1);
        self.shard.borrow().metrics().count(Event::TcpClosed, 1);
    }
}

/// How far a run of messages was answered.
struct Answers {
    input_len: usize,
    output_len: usize,
    stopped: Stopped,
}

/// Why answering stopped.
enum Stopped {
    InputEmpty,
    MessageCut,
    OutputFull,
    /// A message too short for a header: what follows cannot be trusted to be one.
    NotDns,
}
