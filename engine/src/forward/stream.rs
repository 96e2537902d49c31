//! TCP and TLS: the pool of connections from one shard to one upstream.
//!
//! A query takes an idle connection; else a new one, while the pool has room and few are being
//! opened; else the least busy one. So an upstream that answers one query at a time gets one per
//! connection until very many are in flight, and a burst does not overflow its backlog. Each
//! connection is a task. Responses are matched by id (RFC 7766, section 6.2.1.1).
//! Invariant: a connection that left a query unanswered gets no more queries.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use wire::header::HEADER_LEN;

use super::failure::{ExchangeFailure, FailureCause, UpstreamProtocol};
use super::query::Query;
use super::settings::Way;
use super::tls;
use super::udp::Route;
use crate::client::LENGTH_LEN;
use crate::limits::{
    UPSTREAM_CONNECT_TIMEOUT, UPSTREAM_CONNECTIONS_MAX, UPSTREAM_CONNECTIONS_OPENING_MAX,
    UPSTREAM_PIPELINE_MAX, UPSTREAM_READ_LEN,
};

/// The connections to one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    to: Rc<Destination>,
    /// `max_age`
    age_max: Option<Duration>,
    /// `max_idle_conns`
    idle_count_max: usize,
    connections: RefCell<Vec<Rc<UpstreamConnection>>>,
}

/// The target of the connections, and how long they are kept.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) route: Route,
    pub(super) way: Way,
    /// `read_timeout`
    pub(super) read_timeout: Duration,
    /// `expire`
    pub(super) idle_max: Duration,
}

/// Which connections a query may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    Any,
    /// Only one opened since this time.
    OpenedSince(Instant),
}

/// Whether a query uses a kept connection or opened one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionOrigin {
    Kept,
    Opened,
}

impl Pool {
    pub(super) fn new(
        to: Destination,
        age_max: Option<Duration>,
        idle_count_max: Option<usize>,
    ) -> Self {
        Self {
            to: Rc::new(to),
            age_max,
            idle_count_max: idle_count_max.unwrap_or(UPSTREAM_CONNECTIONS_MAX),
            connections: RefCell::default(),
        }
    }

    /// Sends the query and returns the message with its id. If a kept connection turns out to be
    /// closed, the query is sent once more on a newer one. `count` is called for each connection
    /// used.
    pub(super) async fn exchange(
        &self,
        query: &mut Query,
        reuse: Reuse,
        deadline: Instant,
        count: impl Fn(ConnectionOrigin),
    ) -> Result<Vec<u8>, ExchangeFailure> {
        let began = Instant::now();
        let (connection, found) = self.take(reuse);
        count(found);
        let outcome = self.ask(&connection, query, deadline).await;
        let was_closed = |cause: &FailureCause| match cause {
            FailureCause::Closed | FailureCause::Read(_) | FailureCause::Write(_) => true,
            FailureCause::Connect(_)
            | FailureCause::ConnectTimeout
            | FailureCause::Handshake(_) => false,
            FailureCause::ReadTimeout | FailureCause::Malformed | FailureCause::Foreign => false,
        };
        match outcome {
            Err(failure) if found == ConnectionOrigin::Kept && was_closed(&failure.cause) => {
                let (connection, found) = self.take(Reuse::OpenedSince(began));
                count(found);
                self.ask(&connection, query, deadline).await
            }
            outcome => outcome,
        }
    }

    async fn ask(
        &self,
        connection: &Rc<UpstreamConnection>,
        query: &mut Query,
        deadline: Instant,
    ) -> ExchangeResult {
        let outcome = connection.ask(query, deadline).await;
        if outcome.is_err() || !self.may_keep(connection) {
            // It gets no more queries, and closes when those in flight have ended.
            self.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, connection));
        }
        outcome
    }

    fn take(&self, reuse: Reuse) -> (Rc<UpstreamConnection>, ConnectionOrigin) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| {
            let is_over_age = self.is_old(connection) && connection.busy_count() == 0;
            !connection.shared.takes_no_more.get() && !is_over_age
        });
        let may_be_used = |connection: &&Rc<UpstreamConnection>| {
            let is_young = match reuse {
                Reuse::Any => true,
                Reuse::OpenedSince(time) => connection.opened_at >= time,
            };
            is_young && !self.is_old(connection)
        };
        let least_busy = connections.iter().filter(may_be_used).min_by_key(|one| one.busy_count());
        let opening_count = connections.iter().filter(|one| !one.shared.is_open.get()).count();
        if let Some(connection) = least_busy {
            let is_crowded = connection.busy_count() >= UPSTREAM_PIPELINE_MAX / 2;
            let may_open = connections.len() < UPSTREAM_CONNECTIONS_MAX
                && (opening_count < UPSTREAM_CONNECTIONS_OPENING_MAX || is_crowded);
            if connection.busy_count() == 0 || !may_open {
                return (Rc::clone(connection), ConnectionOrigin::Kept);
            }
        }
        let connection = Rc::new(UpstreamConnection::open(&self.to));
        connections.push(Rc::clone(&connection));
        (connection, ConnectionOrigin::Opened)
    }

    fn is_old(&self, connection: &UpstreamConnection) -> bool {
        self.age_max.is_some_and(|max| connection.opened_at.elapsed() >= max)
    }

    /// Whether a connection stays in the pool after a response.
    fn may_keep(&self, connection: &UpstreamConnection) -> bool {
        if connection.busy_count() > 0 {
            return true;
        }
        let is_idle = |one: &&Rc<UpstreamConnection>| one.busy_count() == 0;
        let idle_count = self.connections.borrow().iter().filter(is_idle).count();
        idle_count <= self.idle_count_max && !self.is_old(connection)
    }

    pub(super) fn failure(&self, cause: FailureCause) -> ExchangeFailure {
        self.to.failure(None, cause)
    }
}

/// A connection, open or being opened. It closes when this value is dropped.
#[derive(Debug)]
struct UpstreamConnection {
    to: Rc<Destination>,
    opened_at: Instant,
    outbox: mpsc::Sender<Vec<u8>>,
    shared: Rc<ConnectionState>,
}

/// What a connection's task shares with the queries on it.
#[derive(Debug, Default)]
struct ConnectionState {
    /// Queries in flight, by id.
    waiting: RefCell<HashMap<u16, oneshot::Sender<ExchangeResult>>>,
    /// Our address, once connected.
    local: Cell<Option<SocketAddr>>,
    is_open: Cell<bool>,
    /// Notified when `is_open` becomes true.
    opened: Notify,
    /// The connection is closed, or may be dead.
    takes_no_more: Cell<bool>,
}

impl ConnectionState {
    fn open(&self) {
        self.is_open.set(true);
        self.opened.notify_waiters();
    }
}

type ExchangeResult = Result<Vec<u8>, ExchangeFailure>;

impl UpstreamConnection {
    fn open(to: &Rc<Destination>) -> Self {
        let (outbox, inbox) = mpsc::channel(UPSTREAM_PIPELINE_MAX);
        let shared = Rc::new(ConnectionState::default());
        tokio::task::spawn_local(serve(Rc::clone(to), Rc::clone(&shared), inbox));
        Self { to: Rc::clone(to), opened_at: Instant::now(), outbox, shared }
    }

    /// Queries in flight.
    fn busy_count(&self) -> usize {
        self.shared.waiting.borrow().len()
    }

    async fn ask(&self, query: &mut Query, deadline: Instant) -> ExchangeResult {
        debug_assert!(!self.shared.takes_no_more.get(), "`Pool::take` skips such connections");
        let mut answer = {
            let mut waiting = self.shared.waiting.borrow_mut();
            debug_assert!(waiting.len() < usize::from(u16::MAX), "there is a free id");
            while waiting.contains_key(&query.id()) {
                query.draw_id();
            }
            let (sender, answer) = oneshot::channel();
            let replaced = waiting.insert(query.id(), sender);
            debug_assert!(replaced.is_none());
            answer
        };
        let _pending = PendingQuery { shared: &self.shared, id: query.id() };
        if self.outbox.try_send(query.stream().to_vec()).is_err() {
            return Err(self.to.failure(self.shared.local.get(), FailureCause::Closed));
        }
        let fail = |cause| Err(self.to.failure(self.shared.local.get(), cause));
        if !self.shared.is_open.get() {
            tokio::select! {
                outcome = &mut answer => {
                    return outcome.unwrap_or_else(|_| fail(FailureCause::Closed));
                }
                () = self.shared.opened.notified() => {}
                () = sleep_until(deadline) => return fail(FailureCause::ConnectTimeout),
            }
        }
        match timeout_at(deadline.min(Instant::now() + self.to.read_timeout), answer).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| fail(FailureCause::Closed)),
            Err(_) => fail(FailureCause::ReadTimeout),
        }
    }
}

/// Removes a query from `ConnectionState::waiting` when its task is done with it.
struct PendingQuery<'p> {
    shared: &'p ConnectionState,
    id: u16,
}

impl Drop for PendingQuery<'_> {
    fn drop(&mut self) {
        // Still there: no response came, and the connection may be dead.
        if self.shared.waiting.borrow_mut().remove(&self.id).is_some() {
            self.shared.takes_no_more.set(true);
        }
    }
}

impl Destination {
    fn failure(&self, from: Option<SocketAddr>, cause: FailureCause) -> ExchangeFailure {
        let protocol = match self.way {
            Way::Dns => UpstreamProtocol::Tcp,
            Way::Tls { .. } => UpstreamProtocol::Tls,
        };
        ExchangeFailure { protocol, from, to: self.route.to, cause }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.route.to {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(from) = self.route.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(self.route.to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The task of a connection. At the end, queries in flight fail with the cause.
async fn serve(
    to: Rc<Destination>,
    shared: Rc<ConnectionState>,
    mut inbox: mpsc::Receiver<Vec<u8>>,
) {
    let cause = connect_and_run(&to, &shared, &mut inbox).await;
    shared.takes_no_more.set(true);
    let failure = to.failure(shared.local.get(), cause);
    let waiting = std::mem::take(&mut *shared.waiting.borrow_mut());
    for sender in waiting.into_values() {
        // Fails if the query was given up just now.
        let _ = sender.send(Err(failure.clone()));
    }
}

async fn connect_and_run(
    to: &Destination,
    shared: &ConnectionState,
    inbox: &mut mpsc::Receiver<Vec<u8>>,
) -> FailureCause {
    let until = Instant::now() + UPSTREAM_CONNECT_TIMEOUT;
    let stream = match timeout_at(until, to.connect()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return FailureCause::connect(&error),
        Err(_) => return FailureCause::ConnectTimeout,
    };
    shared.local.set(stream.local_addr().ok());
    match &to.way {
        Way::Dns => {
            shared.open();
            run(stream, to, shared, inbox).await
        }
        Way::Tls { server_name, config } => {
            let connector = TlsConnector::from(config.clone());
            match timeout_at(until, connector.connect(server_name.clone(), stream)).await {
                Ok(Ok(stream)) => {
                    shared.open();
                    run(stream, to, shared, inbox).await
                }
                Ok(Err(error)) => FailureCause::Handshake(tls::handshake_failure(&error)),
                Err(_) => FailureCause::ConnectTimeout,
            }
        }
    }
}

/// Sends the messages of the inbox and delivers responses, until either side closes.
async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    to: &Destination,
    shared: &ConnectionState,
    inbox: &mut mpsc::Receiver<Vec<u8>>,
) -> FailureCause {
    let (mut reader, mut writer) = split(stream);
    let mut input = Vec::new();
    loop {
        let is_idle = shared.waiting.borrow().is_empty();
        let expires = Instant::now() + to.idle_max;
        input.reserve(UPSTREAM_READ_LEN);
        tokio::select! {
            message = inbox.recv() => {
                // The `UpstreamConnection` was dropped: no more queries can come.
                let Some(message) = message else { return FailureCause::Closed };
                let write = async {
                    writer.write_all(&message).await?;
                    writer.flush().await
                };
                match timeout(to.read_timeout, write).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return FailureCause::write(&error),
                    Err(_) => return FailureCause::ReadTimeout,
                }
            }
            read = reader.read_buf(&mut input) => match read {
                Ok(0) => return FailureCause::Closed,
                Ok(_) => {
                    if !deliver(&mut input, shared) {
                        return FailureCause::Malformed;
                    }
                }
                Err(error) => return FailureCause::read(&error),
            },
            () = sleep_until(expires), if is_idle => return FailureCause::Closed,
        }
    }
}

/// Delivers each whole message to the query with its id. False if the bytes are not DNS.
fn deliver(input: &mut Vec<u8>, shared: &ConnectionState) -> bool {
    let mut at = 0;
    while let Some((length, behind)) = input[at..].split_first_chunk::<LENGTH_LEN>() {
        let message_len = usize::from(u16::from_be_bytes(*length));
        if message_len < HEADER_LEN {
            return false;
        }
        let Some(message) = behind.get(..message_len) else { break };
        let id = u16::from_be_bytes([message[0], message[1]]);
        // Without a sender the query was given up.
        if let Some(sender) = shared.waiting.borrow_mut().remove(&id) {
            let _ = sender.send(Ok(message.to_vec()));
        }
        at += LENGTH_LEN + message_len;
    }
    input.drain(..at);
    if input.is_empty() {
        // After one long response, do not hold its memory as long as the connection lasts.
        input.shrink_to(UPSTREAM_READ_LEN);
    }
    true
}
