//! Datagrams over io_uring: multishot receives into a ring of provided buffers, one SEND or SENDMSG an answer.
//!
//! The life of a datagram: the kernel takes a buffer from the buffer ring, fills it, and posts a completion; the answer is
//! written over the query; `send` queues the buffer; the send's completion gives it back to the buffer ring. Any completion
//! may end its multishot receive (an empty datagram does, as does an empty buffer ring): the next turn starts it again.
//! Invariant: memory that the kernel may touch is owned by `Memory`, whose addresses never change.

use std::collections::VecDeque;
use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};
use wire::reply::UDP_LEN_MAX;

use super::control::{CONTROL_LEN, ControlMessage, reply_control};
use super::late::ReturnAddress;
use super::peer::{ADDRESS_LEN, is_v6_address};
use super::socket::{Drops, divert, holds_a_datagram};
use super::{Datagram, DatagramIo};
use crate::client::ListenerId;
use crate::limits::{
    COMPLETIONS, DATAGRAM_BUFFER_LEN, DATAGRAM_BUFFERS, LISTENERS_MAX, SUBMISSIONS,
};
use crate::metrics::{ShardEvent, ShardMetrics};

/// The one group of provided buffers.
const BUFFER_GROUP: u16 = 0;

/// What a completion belongs to: the upper half of its user data; the lower is an index.
const RECEIVE: u64 = 0;
const SEND: u64 = 1 << 32;
const CANCEL: u64 = 2 << 32;

/// The io_uring backend.
pub struct Uring {
    ring: IoUring,
    memory: Memory,
    /// Signalled by the kernel with each completion, and by other threads to wake the shard.
    wake: Arc<OwnedFd>,
    listeners: [Option<UringListener>; LISTENERS_MAX],
    /// Receive completions of this turn, not yet handed out.
    received: VecDeque<(ListenerId, u16)>,
    /// Sends whose completion has not come yet.
    sending_count: usize,
    metrics: Arc<ShardMetrics>,
}

struct UringListener {
    socket: UdpSocket,
    /// A multishot receive is in the kernel.
    is_receiving: bool,
    closing: Closing,
    drops: Drops,
}

/// How far a listener is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// Nothing more comes; what is queued is still answered.
    Draining,
    /// Goes with the next turn.
    Empty,
}

impl Uring {
    /// Makes the ring on the thread that will use it: the kernel lets no other enter it (SINGLE_ISSUER).
    ///
    /// # Errors
    /// EPERM, ENOSYS or EACCES where io_uring is denied, EINVAL on kernels before 6.1, ENOMEM by RLIMIT_MEMLOCK.
    pub fn new(wake: Arc<OwnedFd>, metrics: Arc<ShardMetrics>) -> io::Result<Self> {
        let ring = builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?;
        let memory = Memory::new();
        // SAFETY: the buffer ring is `memory`'s, page-aligned and as long as said; `Drop` keeps it until the ring is done.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                memory.buffer_ring.as_ptr() as u64,
                DATAGRAM_BUFFERS,
                BUFFER_GROUP,
                0,
            )?;
        }
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        let mut uring = Self {
            ring,
            memory,
            wake,
            listeners: [const { None }; LISTENERS_MAX],
            received: VecDeque::with_capacity(COMPLETIONS as usize),
            sending_count: 0,
            metrics,
        };
        for buffer in 0..DATAGRAM_BUFFERS {
            uring.memory.give_back(buffer);
        }
        Ok(uring)
    }

    /// Whether a ring can be had at all, tried with a small one.
    ///
    /// # Errors
    /// What the kernel says, as for `new`.
    pub fn probe() -> io::Result<()> {
        let ring = builder().build(8)?;
        drop(ring);
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: every entry that is pushed points into `memory` or at nothing, and `memory` outlives the ring.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // The queue is full: the kernel empties it. Nothing is lost if it will not just now; the loop ends when it has.
            if self.ring.submit().is_err() {
                std::thread::yield_now();
            }
        }
    }

    fn start_receiving(&mut self, index: usize) {
        let Some(listener) = self.listeners[index].as_mut() else { return };
        listener.is_receiving = true;
        let fd = Fd(listener.socket.as_raw_fd());
        let header = &raw const *self.memory.receive_header;
        let entry = opcode::RecvMsgMulti::new(fd, header, BUFFER_GROUP).build();
        self.push(&entry.user_data(RECEIVE | index as u64));
    }

    fn stop_receiving(&mut self, index: usize) {
        let receives = CancelBuilder::user_data(RECEIVE | index as u64).all();
        let entry = opcode::AsyncCancel2::new(receives).build();
        self.push(&entry.user_data(CANCEL));
    }

    /// Has every socket receive. One that closes receives what it still holds, and no more; true where one is empty.
    fn arm(&mut self) -> bool {
        let mut is_any_empty = false;
        for index in 0..LISTENERS_MAX {
            let Some(listener) = self.listeners[index].as_mut() else { continue };
            if listener.is_receiving {
                continue;
            }
            match listener.closing {
                Closing::No => self.start_receiving(index),
                Closing::Draining if holds_a_datagram(&listener.socket) => {
                    self.start_receiving(index);
                    self.stop_receiving(index);
                }
                Closing::Draining | Closing::Empty => {
                    listener.closing = Closing::Empty;
                    is_any_empty = true;
                }
            }
        }
        is_any_empty
    }

    /// Closes the listeners that are empty. Sends that wait for the kernel name their socket by its number: they go first.
    fn close_empty(&mut self) {
        if !self.ring.submission().is_empty() {
            return;
        }
        for listener in &mut self.listeners {
            listener.take_if(|one| one.closing == Closing::Empty && !one.is_receiving);
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) {
        let index = (completion.user_data() & u64::from(u32::MAX)) as usize;
        match completion.user_data() & !u64::from(u32::MAX) {
            SEND => {
                // The network loses packets too: the client asks again.
                if completion.result() < 0 {
                    self.metrics.count(ShardEvent::SendFailed, 1);
                }
                self.sending_count -= 1;
                self.memory.give_back(index as u16);
            }
            RECEIVE => {
                if !cqueue::more(completion.flags())
                    && let Some(listener) = self.listeners[index].as_mut()
                {
                    listener.is_receiving = false;
                    let empty = completion.result() == -libc::ENOBUFS;
                    let why =
                        if empty { ShardEvent::BuffersEmpty } else { ShardEvent::ReceiveRestarted };
                    self.metrics.count(why, 1);
                }
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    if completion.result() >= 0 {
                        self.received.push_back((ListenerId(index), buffer));
                    } else {
                        self.memory.give_back(buffer);
                    }
                }
            }
            _ => {}
        }
    }
}

impl DatagramIo for Uring {
    fn open(&mut self, listener: ListenerId, socket: UdpSocket) -> io::Result<()> {
        if self.listeners[listener.0].is_some() {
            // One that closes has its place still: its last answers leave before its socket goes.
            let _ = self.ring.submit();
        }
        self.listeners[listener.0] = Some(UringListener {
            socket,
            is_receiving: false,
            closing: Closing::No,
            drops: Drops::default(),
        });
        self.start_receiving(listener.0);
        Ok(())
    }

    fn close(&mut self, listener: ListenerId) {
        if let Some(listener) = self.listeners[listener.0].as_mut() {
            listener.closing =
                if divert(&listener.socket) { Closing::Draining } else { Closing::Empty };
        }
        self.stop_receiving(listener.0);
    }

    fn turn(&mut self) -> io::Result<usize> {
        let is_any_empty = self.arm();
        let (is_idle, has_overflown) = {
            let submissions = self.ring.submission();
            (submissions.is_empty() && !submissions.taskrun(), submissions.cq_overflow())
        };
        // Entering the ring submits, and runs the kernel's deferred work (TASKRUN_FLAG). Without either it is a wasted call.
        if !is_idle || has_overflown {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if is_any_empty {
            self.close_empty();
        }
        // Taken out first: `complete` wants the whole of self.
        while let Some(completion) = { self.ring.completion().next() } {
            self.complete(&completion);
        }
        Ok(self.received.len())
    }

    fn next(&mut self) -> Option<Datagram> {
        loop {
            let (listener, buffer) = self.received.pop_front()?;
            let datagram = self.memory.describe(listener, buffer);
            if datagram.is_some() {
                return datagram;
            }
            // The kernel wrote a header that is no header: not seen yet, and no reason to stop.
            self.memory.give_back(buffer);
        }
    }

    fn message(&mut self, datagram: &Datagram) -> &mut [u8] {
        self.memory.message(datagram.buffer)
    }

    fn send(&mut self, datagram: Datagram, len: usize) {
        let Some(listener) = self.listeners[datagram.listener.0].as_ref() else {
            return self.recycle(datagram);
        };
        let fd = Fd(listener.socket.as_raw_fd());
        let entry = self.memory.reply(fd, &datagram, len);
        self.push(&entry.user_data(SEND | u64::from(datagram.buffer)));
        self.sending_count += 1;
    }

    fn return_address(&self, datagram: &Datagram) -> ReturnAddress {
        self.memory.return_address(datagram)
    }

    fn recycle(&mut self, datagram: Datagram) {
        self.memory.give_back(datagram.buffer);
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn look_again(&mut self) {
        // The ring shows by itself, in memory, that something has come.
    }

    fn acknowledge(&mut self) {
        // Not blocking; empty if another read was first.
        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
    }

    fn count_drops(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            self.metrics.count(ShardEvent::SocketFull, listener.drops.since_last(&listener.socket));
        }
    }
}

impl Drop for Uring {
    /// Takes the kernel's hands off the memory before it is freed.
    fn drop(&mut self) {
        for index in 0..LISTENERS_MAX {
            if self.listeners[index].is_some() {
                self.close(ListenerId(index));
            }
        }
        for _ in 0..COMPLETIONS {
            if self.sending_count == 0
                && !self.listeners.iter().flatten().any(|one| one.is_receiving)
            {
                return;
            }
            if self.ring.submit_and_wait(1).is_err() {
                break;
            }
            while let Some(completion) = { self.ring.completion().next() } {
                self.complete(&completion);
            }
        }
        // The kernel still holds some of it: better leaked than written to when it is another's.
        std::mem::forget(std::mem::replace(&mut self.memory, Memory::new()));
    }
}

/// What every ring is set up with: one thread enters it, and completions are made when it does (6.1).
fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .dontfork();
    builder
}

/// Errors of io_uring_enter that pass by themselves: interrupted, busy, completions to be taken first.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME))
}

/// What SENDMSG reads until its completion, beside the buffer.
struct SendHeader {
    header: libc::msghdr,
    payload: libc::iovec,
    control: ControlMessage,
}

/// Bytes in front of the peer's address in a buffer: the kernel's io_uring_recvmsg_out.
const ADDRESS_AT: usize = 16;
const CONTROL_AT: usize = ADDRESS_AT + ADDRESS_LEN;
const MESSAGE_AT: usize = CONTROL_AT + CONTROL_LEN;
const _: () = assert!(MESSAGE_AT + UDP_LEN_MAX as usize <= DATAGRAM_BUFFER_LEN);

/// All memory that the kernel reads or writes on its own time.
///
/// Owner by time: a buffer is the kernel's to write from `give_back` until the completion of the receive that names it, and
/// the kernel's to read, with its send header, from `send` until the completion of that. In between it is ours.
struct Memory {
    /// The ring in which buffers are handed to the kernel: page-aligned, `DATAGRAM_BUFFERS` entries.
    buffer_ring: NonNull<BufRingEntry>,
    buffer_ring_tail: u16,
    buffers: Box<[u8]>,
    /// Says how much of a buffer is for address and control messages. Read by the kernel as long as a receive runs.
    receive_header: Box<libc::msghdr>,
    /// One for each buffer.
    send_headers: Box<[SendHeader]>,
}

const BUFFER_RING_LAYOUT: std::alloc::Layout = match std::alloc::Layout::from_size_align(
    size_of::<BufRingEntry>() * DATAGRAM_BUFFERS as usize,
    4096,
) {
    Ok(layout) => layout,
    Err(_) => panic!("a page-aligned ring is a valid layout"),
};

/// Where in `Memory::buffers` a buffer is.
fn range_of(buffer: u16) -> Range<usize> {
    let start = usize::from(buffer) * DATAGRAM_BUFFER_LEN;
    start..start + DATAGRAM_BUFFER_LEN
}

impl Memory {
    fn new() -> Self {
        // SAFETY: the layout is not empty; zero bytes are valid entries.
        let ring = unsafe { std::alloc::alloc_zeroed(BUFFER_RING_LAYOUT) };
        let buffer_ring = NonNull::new(ring.cast())
            .unwrap_or_else(|| std::alloc::handle_alloc_error(BUFFER_RING_LAYOUT));
        // SAFETY: plain C structs of integers and pointers, for which all zeroes is a value.
        let (mut receive_header, send_header) =
            unsafe { (Box::<libc::msghdr>::new(zeroed()), || zeroed()) };
        receive_header.msg_namelen = ADDRESS_LEN as u32;
        receive_header.msg_controllen = CONTROL_LEN;
        Self {
            buffer_ring,
            buffer_ring_tail: 0,
            buffers: vec![0; usize::from(DATAGRAM_BUFFERS) * DATAGRAM_BUFFER_LEN].into(),
            receive_header,
            send_headers: (0..DATAGRAM_BUFFERS).map(|_| send_header()).collect(),
        }
    }

    /// Hands a buffer to the kernel, to receive into.
    fn give_back(&mut self, buffer: u16) {
        let mask = DATAGRAM_BUFFERS - 1;
        let address = self.buffers[range_of(buffer)].as_mut_ptr();
        // SAFETY: the index is masked to the ring's length; the kernel reads an entry only after the tail has passed it,
        // and the tail is published last. Nobody else writes the ring.
        unsafe {
            let entry = self.buffer_ring.add(usize::from(self.buffer_ring_tail & mask)).as_mut();
            entry.set_addr(address as u64);
            entry.set_len(DATAGRAM_BUFFER_LEN as u32);
            entry.set_bid(buffer);
            self.buffer_ring_tail = self.buffer_ring_tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.buffer_ring.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.buffer_ring_tail, Ordering::Release);
        }
    }

    /// The packet, and what is left of the buffer behind it.
    fn message(&mut self, buffer: u16) -> &mut [u8] {
        &mut self.buffers[range_of(buffer)][MESSAGE_AT..]
    }

    /// Reads the kernel's head of a buffer; `None` if it is none.
    fn describe(&self, listener: ListenerId, buffer: u16) -> Option<Datagram> {
        let bytes = &self.buffers[range_of(buffer)];
        let message = RecvMsgOut::parse(bytes, &self.receive_header).ok()?;
        let (address, packet) = (message.name_data(), message.payload_data());
        debug_assert_eq!(packet.as_ptr(), bytes[MESSAGE_AT..].as_ptr());
        Some(Datagram {
            listener,
            is_cut: message.is_payload_truncated(),
            is_from_v6: is_v6_address(address),
            buffer,
            len: packet.len() as u16,
            address_len: address.len() as u8,
            control_len: message.control_data().len() as u8,
        })
    }

    /// The peer's address, and the control message for the answer.
    fn return_address(&self, datagram: &Datagram) -> ReturnAddress {
        let bytes = &self.buffers[range_of(datagram.buffer)];
        let mut to = ReturnAddress {
            listener: datagram.listener,
            address: [0; ADDRESS_LEN],
            address_len: datagram.address_len,
            control: ControlMessage::default(),
            control_len: 0,
        };
        to.address.copy_from_slice(&bytes[ADDRESS_AT..][..ADDRESS_LEN]);
        let asked = &bytes[CONTROL_AT..][..usize::from(datagram.control_len)];
        to.control_len = reply_control(asked, &mut to.control) as u8;
        to
    }

    /// The send of a buffer's message: back to the peer, from the address that it asked.
    fn reply(&mut self, fd: Fd, datagram: &Datagram, len: usize) -> squeue::Entry {
        let (head, message) = self.buffers[range_of(datagram.buffer)].split_at_mut(MESSAGE_AT);
        let message = &mut message[..len];
        let address = &mut head[ADDRESS_AT..][..usize::from(datagram.address_len)];
        if datagram.control_len == 0 {
            // Without a control message there is no header to be read by the kernel, which it does in four pieces.
            return opcode::Send::new(fd, message.as_ptr(), len as u32)
                .dest_addr(address.as_ptr().cast())
                .dest_addr_len(address.len() as u32)
                .build();
        }
        let SendHeader { header, payload, control } =
            &mut self.send_headers[usize::from(datagram.buffer)];
        payload.iov_base = message.as_mut_ptr().cast();
        payload.iov_len = len;
        header.msg_name = address.as_mut_ptr().cast();
        header.msg_namelen = address.len() as u32;
        header.msg_iov = payload;
        header.msg_iovlen = 1;
        let asked = &head[CONTROL_AT..][..usize::from(datagram.control_len)];
        header.msg_controllen = reply_control(asked, control);
        header.msg_control = match header.msg_controllen {
            0 => null_mut(),
            _ => control.0.as_mut_ptr().cast(),
        };
        opcode::SendMsg::new(fd, header).build()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed only here.
        unsafe { std::alloc::dealloc(self.buffer_ring.as_ptr().cast(), BUFFER_RING_LAYOUT) };
    }
}
