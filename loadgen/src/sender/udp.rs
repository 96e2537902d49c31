//! UDP: connected sockets, 64 messages per system call.
//!
//! `sendmmsg` and `recvmmsg` come from nix, with headers that are allocated once. io_uring would
//! need unsafe code, and at saturation was measured 4 to 8 % slower than these calls with the echo
//! server of `benches/src/bin/echo.rs` (Linux 6.18).
//!
//! Sockets are connected, so the kernel demultiplexes responses by address and port, and a response
//! is matched within its own socket.

use std::cmp::Reverse;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, recvmmsg, sendmmsg};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::{BATCH, Burst, Carrier, Driver, Due, SLOT_COUNT, nth_local, timespec};
use crate::drops;
use crate::flight::Flight;
use crate::transport::Transport;
use crate::workload::MESSAGE_LEN_MAX;

/// Room for a response: more than `UDP_PAYLOAD_SIZE`, and an odd number of cache lines, so that the
/// first bytes of a batch do not all fall into one cache set.
const RESPONSE_LEN_MAX: usize = 4096 + 64;
/// Consecutive errors after which the rest of a batch is dropped.
const ERROR_COUNT_MAX: usize = 4;

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
    /// Tells which sockets are readable, if there are several.
    epoll: OwnedFd,
    is_segmenting: bool,
}

pub struct Udp {
    sockets: UdpSockets,
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
        Self { sockets, next_flow: 0, burst: Burst::new(), outgoing, incoming: Incoming::new() }
    }

    /// Readable if any of the sockets is.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.sockets.epoll
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
            epoll::add(
                &epoll,
                &socket,
                epoll::EventData::new_u64(index as u64),
                epoll::EventFlags::IN,
            )?;
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
            return self.incoming.receive(driver, only);
        }
        let mut events = [MaybeUninit::uninit(); BATCH];
        let Ok((ready, _)) =
            epoll::wait(&self.sockets.epoll, &mut events, Some(&Timespec::default()))
        else {
            return 0;
        };
        let mut received = 0;
        for event in ready {
            let index = event.data.u64() as usize;
            received += self.incoming.receive(driver, &mut self.sockets.flows[index]);
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
        let timeout = timespec(timeout_ns);
        // An epoll instance can itself be polled, and poll has nanosecond timeouts. An error (a
        // signal) only shortens the wait.
        let _ = match self.sockets.flows.as_slice() {
            [only] => poll(&mut [PollFd::new(&only.socket, PollFlags::IN)], Some(&timeout)),
            _ => poll(&mut [PollFd::new(&self.sockets.epoll, PollFlags::IN)], Some(&timeout)),
        };
    }
}

/// A batch to send.
struct Outgoing {
    headers: MultiHeaders<()>,
    /// One message with a control message that holds the segment length.
    run_headers: MultiHeaders<()>,
    /// Send messages of one length as one buffer, which the kernel cuts.
    is_segmenting: bool,
    /// The first `count` are the batch, in sending order.
    queries: [Outbound; BATCH],
    count: usize,
    /// The messages back to back, in that order.
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct Outbound {
    due: Due,
    id: u16,
    len: u16,
    /// Position in `Outgoing::bytes`.
    start: u32,
}

impl Outbound {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + usize::from(self.len)
    }
}

impl Outgoing {
    fn new(is_segmenting: bool) -> Self {
        let none = Outbound { due: Due { query: 0, intended_ns: 0 }, id: 0, len: 0, start: 0 };
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            run_headers: MultiHeaders::preallocate(1, Some(nix::cmsg_space!(u16))),
            is_segmenting,
            queries: [none; BATCH],
            count: 0,
            bytes: vec![0; BATCH * MESSAGE_LEN_MAX].into(),
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes the queries that are due, at most `count_max`.
    fn fill(
        &mut self,
        driver: &mut Driver<'_>,
        flight: &mut Flight,
        count_max: usize,
        now_ns: u64,
    ) {
        let workload = driver.workload();
        self.count = 0;
        for query in self.queries.iter_mut().take(count_max) {
            let Some(due) = driver.take_due(Transport::Udp, now_ns) else { break };
            let id = flight.reserve(due.query, due.intended_ns).expect("the caller has seen room");
            driver.outstanding += 1;
            let len = workload.message(due.query).bytes.len() as u16;
            *query = Outbound { due, id, len, start: 0 };
            self.count += 1;
        }
        let batch = &mut self.queries[..self.count];
        if self.is_segmenting {
            // Messages of a batch leave at the same time, so their order does not matter. Longest
            // first: see `run_count`.
            batch.sort_unstable_by_key(|query| Reverse(query.len));
        }
        let mut start = 0;
        for query in batch {
            query.start = start as u32;
            let message = &mut self.bytes[query.range()];
            message.copy_from_slice(workload.message(query.due.query).bytes);
            message[..2].copy_from_slice(&query.id.to_be_bytes());
            start += message.len();
        }
    }

    /// Sends the batch. Blocks if the socket's buffer is full, which shows as late sends.
    fn send(&mut self, driver: &mut Driver<'_>, flow: &mut Flow, now_ns: u64) -> usize {
        let mut done = 0;
        let mut errors = 0;
        while done < self.count {
            let socket = flow.socket.as_raw_fd();
            let result = match self.run_count(done) {
                1 => self.send_singly(done, socket),
                count => self.send_run(done, count, socket),
            };
            match result {
                Ok(sent) => {
                    for query in &self.queries[done..done + sent] {
                        driver.count_sent(Transport::Udp, query.due, now_ns, query.len.into());
                    }
                    done += sent;
                }
                Err(Errno::EINTR) => {}
                // This kernel or network device cannot cut: send each message by itself from now
                // on.
                Err(Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT)
                    if self.is_segmenting =>
                {
                    self.is_segmenting = false;
                }
                // An ICMP message about an earlier query, reported and cleared by this call:
                // nothing was sent.
                Err(error) => {
                    let counts = driver.counts(Transport::Udp);
                    match error {
                        Errno::ECONNREFUSED => counts.refused += 1,
                        _ => counts.send_errors += 1,
                    }
                    errors += 1;
                    if errors == ERROR_COUNT_MAX {
                        break;
                    }
                }
            }
        }
        for query in &self.queries[done..self.count] {
            flow.flight.cancel(query.id);
            driver.outstanding -= 1;
        }
        done
    }

    /// How many messages from `first` on can be sent as one: those of equal length, and a shorter
    /// one as the last.
    fn run_count(&self, first: usize) -> usize {
        if !self.is_segmenting {
            return 1;
        }
        let batch = &self.queries[first..self.count];
        let equal = batch.iter().take_while(|query| query.len == batch[0].len).count();
        batch.len().min(equal + 1)
    }

    /// Sends `count` messages as one buffer, which the kernel cuts (UDP_SEGMENT).
    fn send_run(&mut self, first: usize, count: usize, socket: i32) -> nix::Result<usize> {
        let run = &self.queries[first..first + count];
        let bytes = &self.bytes[run[0].range().start..run[count - 1].range().end];
        let control = [ControlMessage::UdpGsoSegments(&run[0].len)];
        let slices = [[IoSlice::new(bytes)]];
        sendmmsg(socket, &mut self.run_headers, &slices, [None], control, MsgFlags::empty())?;
        Ok(count)
    }

    /// Sends the messages from `first` on, each by itself.
    fn send_singly(&mut self, first: usize, socket: i32) -> nix::Result<usize> {
        let batch = &self.queries[first..self.count];
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|at| {
            [IoSlice::new(batch.get(at).map_or(&[], |query| &self.bytes[query.range()]))]
        });
        let flags = MsgFlags::empty();
        let slices = &slices[..batch.len()];
        let sent = sendmmsg(socket, &mut self.headers, slices, [None; BATCH], [], flags)?;
        Ok(sent.count())
    }
}

/// A received batch.
struct Incoming {
    headers: MultiHeaders<()>,
    bytes: Box<[u8]>,
}

impl Incoming {
    fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            bytes: vec![0; BATCH * RESPONSE_LEN_MAX].into(),
        }
    }

    fn receive(&mut self, driver: &mut Driver<'_>, flow: &mut Flow) -> usize {
        let mut len = [0usize; BATCH];
        let count = match self.receive_batch(flow.socket.as_raw_fd(), &mut len) {
            Ok(count) => count,
            Err(Errno::ECONNREFUSED) => {
                driver.counts(Transport::Udp).refused += 1;
                0
            }
            Err(_) => 0,
        };
        if count == 0 {
            return 0;
        }
        let now_ns = driver.now_ns();
        for (packet, len) in self.bytes.chunks_exact(RESPONSE_LEN_MAX).zip(&len[..count]) {
            driver.take_response(Transport::Udp, &mut flow.flight, &packet[..*len], now_ns);
        }
        count
    }

    /// Receives without waiting; fills `len`.
    fn receive_batch(&mut self, socket: i32, len: &mut [usize; BATCH]) -> nix::Result<usize> {
        let mut chunks = self.bytes.chunks_exact_mut(RESPONSE_LEN_MAX);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().expect("a chunk for each"))]);
        let received =
            recvmmsg(socket, &mut self.headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for (len, message) in len.iter_mut().zip(received) {
            *len = message.bytes;
            count += 1;
        }
        Ok(count)
    }
}
