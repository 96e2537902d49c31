//! One connection, over TCP or TLS: a state machine around what it waits for.
//!
//! Accepting and evicting connections is in the parent. Invariant: a connection makes progress, or
//! ends by the deadline of what it waits for.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{Instant as Deadline, timeout_at};
use wire::reply::MESSAGE_LEN_MAX;

use super::frames::{EMPTY_PLACES, InputEnd, look_ahead};
use super::output::{OutputPart, others_first};
use super::recency::Ticket;
use super::stream::ClientStream;
use super::{Buffers, TcpShared};
use crate::client::{Arrival, Family, LENGTH_LEN, ListenerId, Packet, Transport};
use crate::limits::TCP_KEPT_LEN;
use crate::metrics::ShardEvent;
use crate::plugin::timeouts::Timeouts;
use crate::resolve::outbox::Outbox;
use crate::resolve::waiter::ReturnTo;
use crate::responder::{Action, Responder};

pub(super) struct ClientConnection<S> {
    stream: S,
    listener: ListenerId,
    timeouts: Timeouts,
    peer: SocketAddr,
    responder: Rc<RefCell<Responder>>,
    shared: Rc<TcpShared>,
    outbox: Rc<Outbox>,
    ticket: Ticket,
    /// Bytes read and not yet answered: a partial message, or messages that wait until the peer
    /// takes a response.
    unanswered: Vec<u8>,
    /// Responses of the last exchange, before they are sent.
    answered: Option<OutputPart>,
    query_count: u32,
    /// Nothing more is read; the connection ends when everything is answered and sent.
    is_ending: bool,
    /// The last step answered a query or sent a part of a response.
    has_progressed: bool,
}

/// What a connection waits for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The next query.
    Query,
    /// The rest of an incomplete query.
    RestOfQuery,
    /// Responses in flight; no query is read meanwhile.
    Answers,
    /// The peer, to take responses.
    Peer,
    /// Nothing: there may be more to answer.
    Nothing,
    /// Nothing: the connection ends.
    End,
}

/// What ended the waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Socket,
    Shard,
    Deadline,
    Error,
}

/// A message of a connection, where its response is written.
pub(super) struct TcpPacket<'p> {
    pub(super) message: &'p mut [u8],
    pub(super) peer: SocketAddr,
}

impl Packet for TcpPacket<'_> {
    #[inline(always)]
    fn message(&mut self) -> &mut [u8] {
        self.message
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl<S: ClientStream> ClientConnection<S> {
    pub(super) fn new(
        stream: S,
        address: SocketAddr,
        listener: ListenerId,
        responder: &Rc<RefCell<Responder>>,
        shared: &Rc<TcpShared>,
    ) -> Self {
        let outbox = Rc::new(Outbox::new(&shared.owed));
        Self {
            stream,
            listener,
            timeouts: responder.borrow().timeouts(listener),
            // As for UDP: an IPv4 client of a socket for both families is an IPv4 client.
            peer: SocketAddr::new(address.ip().to_canonical(), address.port()),
            responder: Rc::clone(responder),
            shared: Rc::clone(shared),
            ticket: shared.connections.borrow_mut().admit(Rc::clone(&outbox)),
            outbox,
            unanswered: Vec::new(),
            answered: None,
            query_count: 0,
            is_ending: false,
            has_progressed: false,
        }
    }

    pub(super) async fn serve(mut self) {
        // The first query has as long to arrive whole as any query has from its first byte.
        let mut waiting = Waiting::RestOfQuery;
        let mut deadline = Deadline::now() + self.timeouts.read;
        loop {
            let before = waiting;
            self.has_progressed = false;
            waiting = match self.wait(waiting, deadline).await {
                Woken::Error => return,
                Woken::Deadline => {
                    let is_busy = self.outbox.pending_count.get() > 0;
                    if before == Waiting::Peer || !is_busy {
                        return;
                    }
                    self.has_progressed = true;
                    // Of a query that does not come whole, only what was asked before is answered.
                    self.is_ending |= before == Waiting::RestOfQuery;
                    self.settle(before)
                }
                Woken::Shard if self.outbox.is_closed.get() => return,
                Woken::Shard => match self.take_answers(before) {
                    // A query may have come together with the request to end.
                    Waiting::Query if self.shared.is_draining.get() => {
                        let next = self.exchange(Waiting::Query);
                        self.send_in_turn(next).await
                    }
                    next => next,
                },
                Woken::Socket if before == Waiting::Peer => self.flush(),
                Woken::Socket => {
                    let next = self.exchange(before);
                    self.send_in_turn(next).await
                }
            };
            if waiting == Waiting::End || waiting == Waiting::Query && self.is_drained() {
                return;
            }
            if self.has_progressed {
                self.shared.connections.borrow_mut().touch(self.ticket);
            }
            // The deadline moves only after progress: a peer that sends a byte per second gains no
            // time.
            if waiting != before || self.has_progressed {
                deadline = Deadline::now() + self.patience(waiting);
            }
        }
    }

    /// Whether the shard stops, and the connection owes no response.
    fn is_drained(&self) -> bool {
        self.shared.is_draining.get() && self.outbox.pending_count.get() == 0
    }

    fn patience(&self, waiting: Waiting) -> Duration {
        match waiting {
            Waiting::RestOfQuery => self.timeouts.read,
            Waiting::Peer => self.timeouts.write,
            Waiting::Query | Waiting::Answers | Waiting::Nothing | Waiting::End => {
                self.timeouts.idle
            }
        }
    }

    async fn wait(&self, waiting: Waiting, deadline: Deadline) -> Woken {
        let by_socket = |ready: io::Result<()>| match ready {
            Ok(()) => Woken::Socket,
            Err(_) => Woken::Error,
        };
        let woken = async {
            match waiting {
                Waiting::Query | Waiting::RestOfQuery => tokio::select! {
                    biased;
                    () = self.outbox.wake.notified() => Woken::Shard,
                    ready = self.stream.readable() => by_socket(ready),
                },
                Waiting::Answers => {
                    self.outbox.wake.notified().await;
                    Woken::Shard
                }
                Waiting::Peer => tokio::select! {
                    biased;
                    () = self.outbox.wake.notified() => Woken::Shard,
                    ready = self.stream.writable() => by_socket(ready),
                },
                Waiting::Nothing | Waiting::End => {
                    others_first().await;
                    Woken::Socket
                }
            }
        };
        timeout_at(deadline, woken).await.unwrap_or(Woken::Deadline)
    }

    /// What to wait for: `wanted`, unless something else comes first.
    fn settle(&self, wanted: Waiting) -> Waiting {
        let pending_count = self.outbox.pending_count.get();
        if self.outbox.has_unsent() || self.stream.has_unsent() {
            Waiting::Peer
        } else if self.is_ending {
            if pending_count == 0 { Waiting::End } else { Waiting::Answers }
        } else if !self.outbox.has_room(0) {
            debug_assert!(pending_count > 0, "a connection that owes nothing has room");
            Waiting::Answers
        } else {
            wanted
        }
    }

    /// What to do when everything is sent.
    fn next_input(&self) -> Waiting {
        if self.unanswered.is_empty() { Waiting::Query } else { Waiting::Nothing }
    }

    /// Sends the responses that have arrived, unless the peer is yet to take earlier ones.
    fn take_answers(&mut self, before: Waiting) -> Waiting {
        if before != Waiting::Peer {
            self.has_progressed = self.outbox.has_unsent();
            if self.send_unsent().is_none() {
                return Waiting::End;
            }
        }
        // The peer may have taken everything by now.
        let is_over = matches!(before, Waiting::Answers | Waiting::Peer);
        self.settle(if is_over { self.next_input() } else { before })
    }

    /// Reads once, and answers all whole messages. `send_in_turn` then sends the responses.
    fn exchange(&mut self, waited_for: Waiting) -> Waiting {
        let shared = Rc::clone(&self.shared);
        let Buffers { input, output } = &mut *shared.buffers.borrow_mut();
        let kept = self.unanswered.len();
        debug_assert!(kept <= input.len());
        input[..kept].copy_from_slice(&self.unanswered);
        self.unanswered.clear();
        let mut len = kept;
        if waited_for != Waiting::Nothing {
            match self.stream.try_read(&mut input[kept..]) {
                Ok(0) => {
                    // The peer may still read: send the responses in flight (RFC 7766, section
                    // 6.2.4).
                    self.is_ending = true;
                    return self.settle(Waiting::End);
                }
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unanswered.extend_from_slice(&input[..kept]);
                    return waited_for;
                }
                Err(_) => return Waiting::End,
            }
        }
        let (answered, stopped) = self.answer_messages(&input[..len], output.room());
        debug_assert!(answered.input_len <= len);
        self.has_progressed = answered.input_len > 0;
        self.unanswered.extend_from_slice(&input[answered.input_len..len]);
        if self.unanswered.len() <= TCP_KEPT_LEN {
            self.unanswered.shrink_to(TCP_KEPT_LEN);
        }
        self.answered = output.take(answered.output_len);
        let wanted = match stopped {
            Stopped::Input(InputEnd::Empty) => Waiting::Query,
            Stopped::Input(InputEnd::MessageCut) => Waiting::RestOfQuery,
            Stopped::OutputFull | Stopped::OwesMuch => Waiting::Nothing,
            Stopped::Input(InputEnd::NotDns) | Stopped::QueriesSpent => {
                self.is_ending = true;
                Waiting::End
            }
        };
        self.settle(wanted)
    }

    /// Sends the responses of an exchange, once the other connections that are ready have had
    /// theirs: see `Output`. Returns what to wait for; `next`: the same before.
    async fn send_in_turn(&mut self, next: Waiting) -> Waiting {
        if self.answered.is_none() {
            return next;
        }
        others_first().await;
        let shared = Rc::clone(&self.shared);
        let output = &mut shared.buffers.borrow_mut().output;
        let Some(part) = self.answered.take() else { return next };
        let is_open = self.write(output.bytes(&part));
        output.give_back(part);
        if is_open { self.settle(next) } else { Waiting::End }
    }

    fn family(&self) -> Family {
        if self.peer.is_ipv6() { Family::V6 } else { Family::V4 }
    }

    /// Answers the whole messages of `input`, in their order.
    fn answer_messages(&mut self, input: &[u8], output: &mut [u8]) -> (AnsweredRun, Stopped) {
        let began = Instant::now();
        let shared = Rc::clone(&self.responder);
        let responder = &mut *shared.borrow_mut();
        responder.resolver().take_fills(began);
        let mut answers = AnsweredRun { input_len: 0, output_len: 0 };
        let mut arrival = Arrival {
            listener: self.listener,
            transport: Transport::Tcp,
            family: self.family(),
            len: 0,
            now: began,
            inside: None,
        };
        let mut places = EMPTY_PLACES;
        let stopped = 'all: loop {
            let rest = &input[answers.input_len..];
            let ahead = look_ahead(responder, self.listener, rest, &mut places);
            for (place, (query, looked)) in places[..ahead.count].iter().enumerate() {
                let room = &mut output[answers.output_len..];
                if let Some(stopped) = self.limit(room.len(), answers.output_len) {
                    break 'all stopped;
                }
                let (length, message) = room.split_at_mut(LENGTH_LEN);
                message[..query.len()].copy_from_slice(query);
                arrival.len = query.len();
                let mut packet = TcpPacket { message, peer: self.peer };
                let mut reply = |reply_len: usize| {
                    length.copy_from_slice(&(reply_len as u16).to_be_bytes());
                    answers.output_len += LENGTH_LEN + reply_len;
                };
                match responder.answer_looked(place, looked, &arrival, &mut packet) {
                    Action::Reply(reply_len) => reply(reply_len),
                    Action::ReplyAndRefresh(reply_len, request) => {
                        reply(reply_len);
                        responder.begin(*request, None, began, &shared);
                    }
                    Action::Ask(request) => {
                        self.outbox.expect();
                        let return_to = ReturnTo::Tcp(Rc::clone(&self.outbox));
                        responder.begin(*request, Some(return_to), began, &shared);
                    }
                    Action::Drop => {}
                }
                self.query_count = self.query_count.saturating_add(1);
                answers.input_len += LENGTH_LEN + query.len();
            }
            if self.has_spent_queries() {
                break Stopped::QueriesSpent;
            }
            if let Some(end) = ahead.end {
                break Stopped::Input(end);
            }
        };
        responder.finish_batch(began);
        (answers, stopped)
    }

    fn has_spent_queries(&self) -> bool {
        self.timeouts.max_tcp_queries.is_some_and(|max| self.query_count >= max)
    }

    /// Why the next message must wait, or gets no response. `room_len`: room for responses;
    /// `output_len`: those of this exchange.
    fn limit(&self, room_len: usize, output_len: usize) -> Option<Stopped> {
        if self.has_spent_queries() {
            Some(Stopped::QueriesSpent)
        } else if !self.outbox.has_room(output_len) {
            Some(Stopped::OwesMuch)
        } else if room_len < LENGTH_LEN + MESSAGE_LEN_MAX {
            Some(Stopped::OutputFull)
        } else {
            None
        }
    }

    /// Writes as much as the peer takes and keeps the rest. False if the connection is broken.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let mut written = 0;
        if !self.outbox.has_unsent() {
            written = match self.stream.try_write(bytes) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return false,
            };
        }
        if written < bytes.len() {
            self.outbox.hold(&[&bytes[written..]]);
        }
        true
    }

    /// Sends responses that the peer has not taken. Returns how many bytes, or `None` if the
    /// connection is broken.
    fn send_unsent(&mut self) -> Option<usize> {
        match self.outbox.send(|bytes| self.stream.try_write(bytes)) {
            Ok(written) => Some(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    /// Sends more to a peer that is ready for it.
    fn flush(&mut self) -> Waiting {
        debug_assert!(self.outbox.has_unsent() || self.stream.has_unsent());
        let Some(written) = self.send_unsent() else { return Waiting::End };
        self.has_progressed = written > 0 || !self.stream.has_unsent();
        self.settle(self.next_input())
    }
}

impl<S> Drop for ClientConnection<S> {
    fn drop(&mut self) {
        if let Some(part) = self.answered.take() {
            self.shared.buffers.borrow_mut().output.give_back(part);
        }
        self.shared.connections.borrow_mut().remove(self.ticket);
        self.outbox.close();
        self.responder.borrow().metrics().count(ShardEvent::TcpClosed, 1);
    }
}

/// How much input was answered.
struct AnsweredRun {
    input_len: usize,
    output_len: usize,
}

/// Why answering stopped.
enum Stopped {
    Input(InputEnd),
    OutputFull,
    /// Responses are in flight, or not taken yet, and there is no room for more: see
    /// `Outbox::has_room`.
    OwesMuch,
    /// The connection has sent `max_tcp_queries` queries.
    QueriesSpent,
}
