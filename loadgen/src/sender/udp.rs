//! UDP: connected sockets, up to 64 messages per system call.
//!
//! `sendmmsg` and `recvmmsg` come from nix, with headers that are allocated once. io_uring would
//! need unsafe code, and at saturation was measured 4 to 8 % slower than these calls with the echo
//! server of `benches/src/bin/echo.rs` (Linux 6.18).
//!
//! Sockets are connected, so the kernel demultiplexes responses by address and port, and a response
//! is matched within its own socket.

mod incoming;
mod outgoing;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::{BATCH, Burst, Carrier, Driver, SLOT_COUNT, nth_local, timespec};
use crate::drops;
use crate::flight::Flight;
use crate::transport::Transport;
use incoming::{Drained, Incoming};
use outgoing::Outgoing;

/// Reported once per arrival.
const READABLE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);

/// Where to send, from where, and how much the kernel may buffer.
#[derive(Clone, Debug)]
pub struct UdpOptions {
    pub server: SocketAddr,
    /// Local address of the first socket.
    pub local: Option<SocketAddr>,
    /// Requested in each direction; the kernel grants at most net.core.rmem_max and wmem_max.
    pub buffer_len: usize,
    /// Valid: at least 1.
    pub socket_count: usize,
    /// Queries in flight over all sockets.
    pub outstanding_max: u32,
    /// Send messages of one length as one buffer, which the kernel cuts (UDP_SEGMENT).
    pub is_segmenting: bool,
}

struct Flow {
    socket: UdpSocket,
    flight: Flight,
}

/// Open sockets that are ready to be handed to their thread.
pub struct UdpSockets {
    flows: Vec<Flow>,
    /// Per socket.
    outstanding_max: u32,
    /// Tells which sockets became readable, if there are several: once per arrival, so each is read
    /// until nothing is left.
    epoll: OwnedFd,
    is_segmenting: bool,
}

pub struct Udp {
    sockets: UdpSockets,
    /// Sockets that became readable and were not read yet.
    ready: Vec<epoll::Event>,
    /// The socket that sends next.
    next_flow: usize,
    burst: Burst,
    outgoing: Outgoing,
    incoming: Incoming,
}

impl Udp {
    /// Headers hold pointers into this thread's buffers, so the thread creates them itself.
    pub fn new(sockets: UdpSockets) -> Self {
        let outgoing = Outgoing::new(sockets.is_segmenting);
        Self {
            sockets,
            ready: Vec::with_capacity(BATCH),
            next_flow: 0,
            burst: Burst::new(),
            outgoing,
            incoming: Incoming::new(),
        }
    }

    /// Readable if any of the sockets is.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.sockets.epoll
    }

    /// Finds sockets that became readable.
    fn find_ready(&mut self) {
        let (epoll, at_once) = (&self.sockets.epoll, timespec(0));
        // An error (a signal) only puts it off.
        let _ = epoll::wait(epoll, spare_capacity(&mut self.ready), Some(&at_once));
    }
}

impl UdpSockets {
    pub fn open(options: &UdpOptions) -> io::Result<Self> {
        assert!(options.socket_count > 0);
        let outstanding_max = options.outstanding_max.div_ceil(options.socket_count as u32);
        let capacity_max = SLOT_COUNT / options.socket_count;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut flows = Vec::with_capacity(options.socket_count);
        for index in 0..options.socket_count {
            let socket = open_socket(options, index)?;
            epoll::add(&epoll, &socket, epoll::EventData::new_u64(index as u64), READABLE)?;
            flows
                .push(Flow { socket, flight: Flight::new(outstanding_max as usize, capacity_max) });
        }
        Ok(Self { flows, outstanding_max, epoll, is_segmenting: options.is_segmenting })
    }
}

fn open_socket(options: &UdpOptions, index: usize) -> io::Result<UdpSocket> {
    let socket =
        Socket::new(Domain::for_address(options.server), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(options.buffer_len)?;
    socket.set_send_buffer_size(options.buffer_len)?;
    if let Some(local) = options.local {
        socket.bind(&nth_local(local, index).into())?;
    }
    socket.connect(&options.server.into())?;
    Ok(socket.into())
}

impl Carrier for Udp {
    fn send(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize {
        let batch = if driver.is_open() { self.burst.len(self.sockets.flows.len()) } else { BATCH };
        let mut sent = 0;
        for _ in 0..self.sockets.flows.len() {
            let flow = &mut self.sockets.flows[self.next_flow];
            let room =
                self.sockets.outstanding_max.saturating_sub(flow.flight.outstanding()) as usize;
            if room > 0 {
                self.outgoing.fill(driver, &mut flow.flight, batch.min(room), now_ns);
                if self.outgoing.is_empty() {
                    break;
                }
                sent += self.outgoing.send(driver, flow, now_ns);
            }
            self.next_flow = (self.next_flow + 1) % self.sockets.flows.len();
        }
        self.burst.adapt(sent, self.sockets.flows.len());
        sent
    }

    fn receive(&mut self, driver: &mut Driver<'_>) -> usize {
        if let [only] = self.sockets.flows.as_mut_slice() {
            return self.incoming.receive(driver, only).unwrap_or(0);
        }
        if self.ready.is_empty() {
            self.find_ready();
        }
        let mut received = 0;
        for event in self.ready.drain(..) {
            let token = event.data;
            let flow = &mut self.sockets.flows[token.u64() as usize];
            received += match self.incoming.drain(driver, flow) {
                Drained::All(count) => count,
                Drained::Some(count) => {
                    // Reports the socket again if it is still readable.
                    let _ = epoll::modify(&self.sockets.epoll, &flow.socket, token, READABLE);
                    count
                }
            };
        }
        received
    }

    fn expire(&mut self, driver: &mut Driver<'_>, deadline_ns: u64) {
        for flow in &mut self.sockets.flows {
            driver.expire(Transport::Udp, &mut flow.flight, deadline_ns);
        }
    }

    fn own_drops(&self) -> u64 {
        drops::own(
            &self.sockets.flows.iter().filter_map(|flow| drops::inode(&flow.socket)).collect(),
        )
    }

    fn wait(&mut self, timeout_ns: u64) {
        // An epoll instance can itself be polled. Waiting in it instead costs less, but the kernel
        // then wakes this thread on another core more often: half as many answers one at a time.
        let wanted = match self.sockets.flows.as_slice() {
            [only] => PollFd::new(&only.socket, PollFlags::IN),
            _ => PollFd::new(&self.sockets.epoll, PollFlags::IN),
        };
        // An error (a signal) only shortens the wait.
        let _ = poll(&mut [wanted], Some(&timespec(timeout_ns)));
    }
}
