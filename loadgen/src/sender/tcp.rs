//! TCP: connections that each carry many queries at a time, framed by RFC 1035, section 4.2.2 and
//! pipelined by RFC 7766.
//!
//! One pass writes all that is due on a connection with one call and reads all that has arrived
//! with another, so that system calls are paid once per batch. Invariant: the unread bytes of a
//! connection begin with a frame's length.

#[cfg(test)]
mod reconnect;

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::local_ports::LocalPorts;
use super::{BATCH, Burst, Carrier, Driver, SLOT_COUNT, nth_local, timespec};
use crate::flight::Flight;
use crate::plan::any_address;
use crate::transport::Transport;
use crate::workload::MESSAGE_LEN_MAX;

/// Room for the longest frame (2 + 65535 bytes) and as much again, so that a read is rarely cut
/// short.
const INCOMING_LEN: usize = 128 * 1024;
const OUTGOING_LEN: usize = 64 * 1024;
/// Delay before the next attempt after a connection failed.
const RETRY_NS: u64 = 100_000_000;
/// How often a write is retried while the server does not read.
const BLOCKED_NS: u64 = 100_000;

#[derive(Clone, Debug)]
pub struct TcpOptions {
    pub server: SocketAddr,
    /// Local address of the first connection. Without a port if connections are replaced.
    pub local: Option<SocketAddr>,
    /// Valid: at least 1.
    pub connection_count: usize,
    /// Queries in flight over all connections.
    pub outstanding_max: u32,
    /// A connection is replaced after this many queries; `u64::MAX`: never.
    pub reconnect_after: u64,
}

struct Connection {
    /// `None` while the connection is down.
    stream: Option<TcpStream>,
    /// The handshake is complete, so it can be written to. `false` while the connection is down.
    is_open: bool,
    flight: Flight,
    incoming: Box<[u8]>,
    /// Bytes of `incoming` that hold the start of a frame.
    incoming_len: usize,
    outgoing: Box<[u8]>,
    /// The part of `outgoing` that is still to be written.
    unwritten: std::ops::Range<usize>,
    /// Queries sent since the connection was opened.
    sent_count: u64,
    /// While the connection is down, when it is opened again; 0: at once.
    retry_ns: u64,
}

pub struct Tcp {
    options: TcpOptions,
    connections: Vec<Connection>,
    /// Per connection.
    outstanding_max: u32,
    /// The connection that sends next: the one after the last that has sent.
    next: usize,
    burst: Burst,
    epoll: OwnedFd,
    /// `None`: the kernel chooses, or the options.
    ports: Option<LocalPorts>,
    /// Some connection has succeeded.
    has_connected: bool,
    /// When a connection was last open; 0: never.
    last_open_ns: u64,
}

impl Tcp {
    /// Allocates the connections. They are opened once the run has started, since a failed one does
    /// not prevent the run.
    pub fn new(options: TcpOptions) -> io::Result<Self> {
        assert!(options.connection_count > 0 && options.reconnect_after > 0);
        let outstanding_max = options.outstanding_max.div_ceil(options.connection_count as u32);
        let connection = || Connection {
            stream: None,
            is_open: false,
            flight: Flight::new(outstanding_max as usize, SLOT_COUNT / options.connection_count),
            incoming: vec![0; INCOMING_LEN].into(),
            incoming_len: 0,
            outgoing: vec![0; OUTGOING_LEN].into(),
            unwritten: 0..0,
            sent_count: 0,
            retry_ns: 0,
        };
        let connections = (0..options.connection_count).map(|_| connection()).collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let ports = (options.reconnect_after < u64::MAX).then(LocalPorts::of_kernel);
        Ok(Self {
            options,
            connections,
            outstanding_max,
            next: 0,
            burst: Burst::new(),
            epoll,
            ports,
            has_connected: false,
            last_open_ns: 0,
        })
    }

    /// Readable if any of the connections is.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// How much of `timeout_ns` to sleep: less while there is something to write, and nothing if a
    /// connection can be replaced now.
    pub(crate) fn patience_ns(&self, timeout_ns: u64) -> u64 {
        let is_any = |is: fn(&Connection) -> bool| self.connections.iter().any(is);
        if is_any(|connection| connection.stream.is_none() && connection.retry_ns == 0) {
            0
        } else if is_any(|connection| !connection.unwritten.is_empty()) {
            timeout_ns.min(BLOCKED_NS)
        } else {
            timeout_ns
        }
    }

    /// Opens the connection at `index` if it is down and its retry time has come.
    fn connect(&mut self, driver: &mut Driver<'_>, index: usize, now_ns: u64) {
        let connection = &mut self.connections[index];
        let token = epoll::EventData::new_u64(index as u64);
        if connection.stream.is_some() {
            if !connection.is_open {
                connection.check_handshake(driver, &self.epoll, token, now_ns);
            }
            return;
        }
        if now_ns < connection.retry_ns {
            return;
        }
        connection.incoming_len = 0;
        connection.unwritten = 0..0;
        connection.sent_count = 0;
        let server = self.options.server;
        let opened = match (&self.ports, self.options.local) {
            (Some(ports), local) => {
                let address = local.map_or_else(|| any_address(server), |local| local.ip());
                ports.open(|port| open(server, Some(SocketAddr::new(address, port))))
            }
            (None, local) => open(server, local.map(|local| nth_local(local, index))),
        };
        let opened = opened.and_then(|stream| {
            let is_open = stream.peer_addr().is_ok();
            // The end of a handshake makes a connection writable, and the loop must not sleep
            // through it.
            let wake = if is_open { epoll::EventFlags::IN } else { epoll::EventFlags::OUT };
            epoll::add(&self.epoll, &stream, token, wake)?;
            Ok((stream, is_open))
        });
        match opened {
            Ok((stream, is_open)) => {
                connection.stream = Some(stream);
                connection.is_open = is_open;
                driver.counts(Transport::Tcp).connects += u64::from(is_open);
            }
            Err(error) => {
                count_error(driver, &error);
                connection.retry_ns = now_ns + RETRY_NS;
            }
        }
    }
}

/// Opens a connection, which may still be in its handshake. `local`: where from.
fn open(server: SocketAddr, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(server), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(local) = local {
        // Allows a port again while its last connection is in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
    }
    match socket.connect(&server.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(socket.into()),
    }
}

fn count_error(driver: &mut Driver<'_>, error: &io::Error) {
    let counts = driver.counts(Transport::Tcp);
    match error.kind() {
        ErrorKind::ConnectionRefused => counts.refused += 1,
        _ => counts.send_errors += 1,
    }
}

impl Carrier for Tcp {
    fn send(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize {
        let batch =
            if driver.is_open() { self.burst.len(self.connections.len()) } else { usize::MAX };
        let mut sent = 0;
        let (first, count) = (self.next, self.connections.len());
        for index in (first..count).chain(0..first) {
            let outstanding_max = self.outstanding_max;
            let reconnect_after = self.options.reconnect_after;
            if self.connections[index].is_used_up(reconnect_after) && driver.may_send(now_ns) {
                // Its replacement sends in this same pass.
                self.connections[index].close();
            }
            self.connect(driver, index, now_ns);
            let connection = &mut self.connections[index];
            let room = u64::from(outstanding_max.saturating_sub(connection.flight.outstanding()))
                .min(reconnect_after - connection.sent_count);
            let filled = connection.fill(driver, batch.min(room as usize), now_ns);
            if filled > 0 {
                self.next = (index + 1) % count;
            }
            sent += filled;
            connection.write(driver, now_ns);
        }
        self.burst.adapt(sent, count);
        if self.connections.iter().any(|connection| connection.is_open) {
            self.has_connected = true;
            self.last_open_ns = now_ns;
        } else if now_ns > self.last_open_ns + driver.timeout_ns()
            // A server that comes back is part of what a run with an end measures.
            && !(self.has_connected && driver.has_end())
        {
            driver.give_up(now_ns);
        }
        sent
    }

    fn receive(&mut self, driver: &mut Driver<'_>) -> usize {
        let mut events = [MaybeUninit::uninit(); BATCH];
        let Ok((ready, _)) = epoll::wait(&self.epoll, &mut events, Some(&Timespec::default()))
        else {
            return 0;
        };
        let mut received = 0;
        for event in ready {
            let index = event.data.u64() as usize;
            let connection = &mut self.connections[index];
            // The next `send` finishes a handshake.
            if connection.is_open {
                received += connection.receive(driver);
            }
        }
        received
    }

    fn expire(&mut self, driver: &mut Driver<'_>, deadline_ns: u64) {
        for connection in &mut self.connections {
            driver.expire(Transport::Tcp, &mut connection.flight, deadline_ns);
        }
    }

    /// TCP drops nothing.
    fn own_drops(&self) -> u64 {
        0
    }

    fn wait(&mut self, timeout_ns: u64) {
        let timeout = timespec(self.patience_ns(timeout_ns));
        let _ = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout));
    }
}

impl Connection {
    /// It has sent all that it may, and nothing is expected any more.
    fn is_used_up(&self, reconnect_after: u64) -> bool {
        self.sent_count == reconnect_after && self.flight.outstanding() == 0
    }

    fn close(&mut self) {
        self.stream = None;
        self.is_open = false;
    }

    fn check_handshake(
        &mut self,
        driver: &mut Driver<'_>,
        epoll: &OwnedFd,
        token: epoll::EventData,
        now_ns: u64,
    ) {
        let Some(stream) = &self.stream else { return };
        let opened = match stream.peer_addr() {
            Ok(_) => epoll::modify(epoll, stream, token, epoll::EventFlags::IN).map_err(Into::into),
            Err(_) => match stream.take_error() {
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => Err(error),
            },
        };
        match opened {
            Ok(()) => {
                self.is_open = true;
                driver.counts(Transport::Tcp).connects += 1;
            }
            Err(error) => {
                count_error(driver, &error);
                self.lose(driver, now_ns);
            }
        }
    }

    /// Frames the queries that are due: at most `count_max`, and as many as fit.
    fn fill(&mut self, driver: &mut Driver<'_>, count_max: usize, now_ns: u64) -> usize {
        if !self.is_open {
            return 0;
        }
        if self.unwritten.is_empty() {
            self.unwritten = 0..0;
        }
        let workload = driver.workload();
        let mut count = 0;
        while count < count_max && self.unwritten.end + 2 + MESSAGE_LEN_MAX <= OUTGOING_LEN {
            let Some(due) = driver.take_due(Transport::Tcp, now_ns) else { break };
            let message = workload.message(due.query);
            let id =
                self.flight.reserve(due.query, due.intended_ns).expect("the caller has seen room");
            driver.outstanding += 1;
            let len = message.bytes.len();
            let frame = &mut self.outgoing[self.unwritten.end..][..2 + len];
            frame[..2].copy_from_slice(&(len as u16).to_be_bytes());
            frame[2..].copy_from_slice(message.bytes);
            frame[2..4].copy_from_slice(&id.to_be_bytes());
            self.unwritten.end += 2 + len;
            driver.count_sent(Transport::Tcp, due, now_ns, len);
            count += 1;
        }
        self.sent_count += count as u64;
        count
    }

    fn write(&mut self, driver: &mut Driver<'_>, now_ns: u64) {
        let Some(stream) = &mut self.stream else { return };
        if self.unwritten.is_empty() {
            return;
        }
        match stream.write(&self.outgoing[self.unwritten.clone()]) {
            Ok(len) => self.unwritten.start += len,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                count_error(driver, &error);
                self.lose(driver, now_ns);
            }
        }
    }

    fn receive(&mut self, driver: &mut Driver<'_>) -> usize {
        let Some(stream) = &mut self.stream else { return 0 };
        let read = stream.read(&mut self.incoming[self.incoming_len..]);
        let now_ns = driver.now_ns();
        match read {
            Ok(0) => {
                self.lose(driver, now_ns);
                0
            }
            Ok(len) => {
                self.incoming_len += len;
                self.take_frames(driver, now_ns)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            Err(error) => {
                count_error(driver, &error);
                self.lose(driver, now_ns);
                0
            }
        }
    }

    fn take_frames(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize {
        let mut rest = &self.incoming[..self.incoming_len];
        let mut count = 0;
        while let Some((len, tail)) = rest.split_first_chunk::<2>() {
            let Some((packet, tail)) = tail.split_at_checked(u16::from_be_bytes(*len).into())
            else {
                break;
            };
            driver.take_response(Transport::Tcp, &mut self.flight, packet, now_ns);
            rest = tail;
            count += 1;
        }
        let rest_len = rest.len();
        self.incoming.copy_within(self.incoming_len - rest_len..self.incoming_len, 0);
        self.incoming_len = rest_len;
        count
    }

    /// Closes the connection: its queries are lost at once, and it is reopened shortly.
    fn lose(&mut self, driver: &mut Driver<'_>, now_ns: u64) {
        self.close();
        self.unwritten = 0..0;
        self.retry_ns = now_ns + RETRY_NS;
        if self.flight.outstanding() > 0 {
            driver.counts(Transport::Tcp).connections_lost += 1;
            driver.expire(Transport::Tcp, &mut self.flight, u64::MAX);
        } else if self.sent_count > 0 {
            // A server may close an idle connection at any time (RFC 7766, section 6.2.3).
            self.retry_ns = 0;
        }
    }
}
