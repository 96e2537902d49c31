//! Datagrams by recvmmsg and sendmmsg, for hosts that deny io_uring.
//!
//! One batch at a time: `turn` sends the responses of the last batch, then receives from the next
//! socket that may hold datagrams. Each slot of a batch has a buffer, in which the response is
//! written over the query, and the data of both headers. Invariant: the kernel uses this memory
//! only during a system call.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::io::Errno;

use super::bell::Bell;
use super::control::{CONTROL_LEN, ControlMessage, reply_control};
use super::late::ReturnAddress;
use super::peer::{ADDRESS_LEN, is_v6_address};
use super::socket::{Drops, divert};
use super::{Datagram, DatagramIo};
use crate::client::ListenerId;
use crate::limits::{DATAGRAM_BATCH, DATAGRAM_BUFFER_LEN, LISTENERS_MAX, SEND_WAIT_MS_MAX};
use crate::metrics::{ShardEvent, ShardMetrics};

/// The flag of both calls as a byte, because glibc and musl take flags of different types.
const DONT_WAIT: u8 = libc::MSG_DONTWAIT as u8;
const _: () = assert!(DONT_WAIT as libc::c_int == libc::MSG_DONTWAIT);

/// The recvmmsg/sendmmsg backend.
pub struct Mmsg {
    _bell: Rc<Bell>,
    /// Readable when a socket is, or when the bell has rung.
    poller: OwnedFd,
    listeners: [Option<MmsgListener>; LISTENERS_MAX],
    batch: BatchMemory,
    /// The listener that the batch was received from.
    current: usize,
    /// At most `DATAGRAM_BATCH`.
    received_count: usize,
    /// Datagrams that `next` has returned; at most `received_count`.
    handed_out: usize,
    /// Slots to send, in the order of their responses; each at most once.
    answered: Vec<u16>,
    /// The bell has rung since the last turn began.
    has_rung: bool,
    metrics: Arc<ShardMetrics>,
}

struct MmsgListener {
    socket: UdpSocket,
    /// Found empty since the last wake-up.
    is_empty: bool,
    /// The kernel queues nothing more; the socket closes when it is empty.
    is_closing: bool,
    drops: Drops,
}

/// The memory of a batch. Its addresses never change.
struct BatchMemory {
    slots: Box<[BatchSlot]>,
    buffers: Box<[u8]>,
    /// The headers for the system calls, filled before each call.
    headers: Box<[libc::mmsghdr]>,
}

struct BatchSlot {
    /// The slot's buffer, with the length to receive or send.
    message: libc::iovec,
    address: [u8; ADDRESS_LEN],
    address_len: usize,
    control_in: ControlMessage,
    control_in_len: usize,
    control_out: ControlMessage,
    control_out_len: usize,
    is_cut: bool,
}

impl Mmsg {
    /// # Errors
    /// The kernel has no descriptor left for epoll.
    pub fn new(bell: Rc<Bell>, metrics: Arc<ShardMetrics>) -> io::Result<Self> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let key = epoll::EventData::new_u64(LISTENERS_MAX as u64);
        epoll::add(&poller, &*bell, key, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok(Self {
            _bell: bell,
            poller,
            listeners: [const { None }; LISTENERS_MAX],
            batch: BatchMemory::new(),
            current: 0,
            received_count: 0,
            handed_out: 0,
            answered: Vec::with_capacity(DATAGRAM_BATCH),
            has_rung: false,
            metrics,
        })
    }

    /// Sends the responses of the batch. Those that the socket does not take within
    /// `SEND_WAIT_MS_MAX` are lost, as the network may lose packets.
    fn send_answers(&mut self) {
        let Some(listener) = self.listeners[self.current].as_ref() else {
            self.answered.clear();
            return;
        };
        let count = self.batch.fill_send_headers(&self.answered);
        self.answered.clear();
        let mut sent = 0;
        while sent < count {
            let headers = &mut self.batch.headers[sent..count];
            // By number, because musl's `sendmmsg` calls the kernel once per message.
            // SAFETY: the headers point into `batch`, which is the kernel's to read until the call
            // returns; nothing moves or writes it meanwhile. Their padding is zero since `new`.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_sendmmsg,
                    listener.socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(result) {
                Ok(some) if some > 0 => sent += some,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => {
                    if !waited_for_room(&listener.socket) {
                        self.metrics.count(ShardEvent::SendFailed, (count - sent) as u64);
                        return;
                    }
                }
                // This one cannot be sent, for example to port 0: skip it.
                _ => {
                    self.metrics.count(ShardEvent::SendFailed, 1);
                    sent += 1;
                }
            }
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some(listener) = self.listeners[index].take() {
            // A closed descriptor stays in the poller as long as its socket has copies.
            let _ = epoll::delete(&self.poller, &listener.socket);
        }
    }

    fn receive(&mut self) {
        for step in 1..=LISTENERS_MAX {
            // Start after the last socket, so that a busy one does not starve the others.
            let index = (self.current + step) % LISTENERS_MAX;
            let Some(listener) = self.listeners[index].as_mut().filter(|one| !one.is_empty) else {
                continue;
            };
            self.batch.fill_receive_headers();
            // SAFETY: the headers point into `batch`, which is the kernel's to write until the call
            // returns; nothing moves or reads it meanwhile.
            let result = unsafe {
                libc::recvmmsg(
                    listener.socket.as_raw_fd(),
                    self.batch.headers.as_mut_ptr(),
                    DATAGRAM_BATCH as libc::c_uint,
                    DONT_WAIT.into(),
                    null_mut(),
                )
            };
            let count = usize::try_from(result).unwrap_or(0);
            if listener.is_closing && count == 0 {
                self.remove(index);
                continue;
            }
            listener.is_empty = count < DATAGRAM_BATCH && !listener.is_closing;
            if count > 0 {
                debug_assert!(count <= DATAGRAM_BATCH && self.answered.is_empty());
                self.batch.note_received(count);
                (self.current, self.received_count, self.handed_out) = (index, count, 0);
                return;
            }
        }
    }
}

/// Waits up to `SEND_WAIT_MS_MAX` for a full socket buffer to drain.
fn waited_for_room(socket: &UdpSocket) -> bool {
    let timeout = Duration::from_millis(SEND_WAIT_MS_MAX);
    let timeout = rustix::event::Timespec::try_from(timeout).ok();
    poll(&mut [PollFd::new(socket, PollFlags::OUT)], timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

impl DatagramIo for Mmsg {
    fn open(&mut self, listener: ListenerId, socket: UdpSocket) -> io::Result<()> {
        if self.listeners[listener.0].is_some() {
            // The place still holds a listener that closes: send its last responses first.
            self.send_answers();
            self.remove(listener.0);
        }
        let key = epoll::EventData::new_u64(listener.0 as u64);
        epoll::add(&self.poller, &socket, key, epoll::EventFlags::IN)?;
        let drops = Drops::until_now(&socket);
        self.listeners[listener.0] =
            Some(MmsgListener { socket, is_empty: false, is_closing: false, drops });
        Ok(())
    }

    fn close(&mut self, listener: ListenerId) {
        let Some(closing) = self.listeners[listener.0].as_mut().filter(|one| !one.is_closing)
        else {
            return;
        };
        if !divert(&closing.socket) {
            self.send_answers();
            self.remove(listener.0);
            return;
        }
        (closing.is_closing, closing.is_empty) = (true, false);
    }

    fn has_sockets(&self) -> bool {
        self.listeners.iter().any(Option::is_some)
    }

    fn leave(&mut self) {
        self.send_answers();
        for index in 0..LISTENERS_MAX {
            if self.listeners[index].as_ref().is_some_and(|listener| !listener.is_closing) {
                self.remove(index);
            }
        }
    }

    fn turn(&mut self) -> io::Result<usize> {
        self.has_rung = false;
        if !self.answered.is_empty() {
            self.send_answers();
        }
        if self.handed_out == self.received_count {
            (self.received_count, self.handed_out) = (0, 0);
            self.receive();
        }
        Ok(self.received_count - self.handed_out)
    }

    fn is_quiet(&mut self) -> bool {
        self.listeners.iter().flatten().all(|listener| listener.is_empty)
    }

    fn wait(&mut self) -> io::Result<usize> {
        if std::mem::take(&mut self.has_rung) {
            return Ok(0);
        }
        // The last batch was full.
        if !self.is_quiet() {
            let received = self.turn()?;
            if received > 0 {
                return Ok(received);
            }
        }
        if !self.answered.is_empty() {
            self.send_answers();
        }
        let mut events = [const { MaybeUninit::uninit() }; LISTENERS_MAX + 1];
        let (events, _) = match epoll::wait(&self.poller, &mut events, None) {
            Ok(events) => events,
            Err(Errno::INTR) => return self.turn(),
            Err(error) => return Err(error.into()),
        };
        let mut has_rung = false;
        for event in events {
            match self.listeners.get_mut(event.data.u64() as usize) {
                Some(listener) => listener.iter_mut().for_each(|one| one.is_empty = false),
                None => has_rung = true,
            }
        }
        let received = self.turn();
        self.has_rung = has_rung;
        received
    }

    fn next(&mut self) -> Option<Datagram> {
        if self.handed_out == self.received_count {
            return None;
        }
        let index = self.handed_out;
        self.handed_out += 1;
        debug_assert!(self.handed_out <= self.received_count);
        let slot = &self.batch.slots[index];
        Some(Datagram {
            listener: ListenerId(self.current),
            is_cut: slot.is_cut,
            is_from_v6: is_v6_address(&slot.address[..slot.address_len]),
            buffer: index as u16,
            len: slot.message.iov_len as u16,
            address_len: slot.address_len as u8,
            control_len: slot.control_in_len as u8,
        })
    }

    fn message(&mut self, datagram: &Datagram) -> &mut [u8] {
        let start = usize::from(datagram.buffer) * DATAGRAM_BUFFER_LEN;
        &mut self.batch.buffers[start..start + DATAGRAM_BUFFER_LEN]
    }

    fn send(&mut self, datagram: Datagram, len: usize) {
        let slot = &mut self.batch.slots[usize::from(datagram.buffer)];
        slot.message.iov_len = len.min(DATAGRAM_BUFFER_LEN);
        slot.control_out_len =
            reply_control(&slot.control_in.0[..slot.control_in_len], &mut slot.control_out);
        debug_assert!(usize::from(datagram.buffer) < self.handed_out);
        debug_assert!(self.answered.len() < self.handed_out, "each datagram is sent once");
        self.answered.push(datagram.buffer);
    }

    fn return_address(&self, datagram: &Datagram) -> ReturnAddress {
        let slot = &self.batch.slots[usize::from(datagram.buffer)];
        let mut control = ControlMessage::default();
        let control_len = reply_control(&slot.control_in.0[..slot.control_in_len], &mut control);
        ReturnAddress {
            listener: datagram.listener,
            address: slot.address,
            address_len: slot.address_len as u8,
            control,
            control_len: control_len as u8,
        }
    }

    fn recycle(&mut self, _datagram: Datagram) {}

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    fn look_again(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            listener.is_empty = false;
        }
    }

    fn count_drops(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            self.metrics.count(ShardEvent::SocketFull, listener.drops.since_last(&listener.socket));
        }
    }
}

impl BatchMemory {
    fn new() -> Self {
        let mut buffers: Box<[u8]> = vec![0; DATAGRAM_BATCH * DATAGRAM_BUFFER_LEN].into();
        let slots = buffers.chunks_exact_mut(DATAGRAM_BUFFER_LEN).map(|buffer| BatchSlot {
            message: libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 0 },
            address: [0; ADDRESS_LEN],
            address_len: 0,
            control_in: ControlMessage::default(),
            control_in_len: 0,
            control_out: ControlMessage::default(),
            control_out_len: 0,
            is_cut: false,
        });
        let slots = slots.collect();
        // SAFETY: a plain C struct of integers and pointers, for which all zeros are a valid value.
        // It is owned by the box that it is moved into.
        let headers = (0..DATAGRAM_BATCH).map(|_| unsafe { zeroed() }).collect();
        Self { slots, buffers, headers }
    }

    fn fill_receive_headers(&mut self) {
        for (slot, header) in self.slots.iter_mut().zip(&mut self.headers) {
            slot.message.iov_len = DATAGRAM_BUFFER_LEN;
            let header = &mut header.msg_hdr;
            header.msg_name = slot.address.as_mut_ptr().cast();
            header.msg_namelen = ADDRESS_LEN as libc::socklen_t;
            header.msg_iov = &raw mut slot.message;
            header.msg_iovlen = 1;
            header.msg_control = slot.control_in.0.as_mut_ptr().cast();
            header.msg_controllen = (CONTROL_LEN as u8).into();
            header.msg_flags = 0;
        }
    }

    fn note_received(&mut self, count: usize) {
        for (slot, header) in self.slots.iter_mut().zip(&self.headers[..count]) {
            slot.message.iov_len = header.msg_len as usize;
            slot.address_len = (header.msg_hdr.msg_namelen as usize).min(ADDRESS_LEN);
            let control_len = u8::try_from(header.msg_hdr.msg_controllen).unwrap_or(u8::MAX);
            slot.control_in_len = usize::from(control_len).min(CONTROL_LEN);
            slot.is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        }
    }

    fn fill_send_headers(&mut self, answered: &[u16]) -> usize {
        for (index, header) in answered.iter().zip(&mut self.headers) {
            let slot = &mut self.slots[usize::from(*index)];
            let header = &mut header.msg_hdr;
            header.msg_name = slot.address.as_mut_ptr().cast();
            header.msg_namelen = slot.address_len as libc::socklen_t;
            header.msg_iov = &raw mut slot.message;
            header.msg_iovlen = 1;
            header.msg_controllen = (slot.control_out_len as u8).into();
            header.msg_control = if slot.control_out_len == 0 {
                null_mut()
            } else {
                slot.control_out.0.as_mut_ptr().cast()
            };
            header.msg_flags = 0;
        }
        answered.len()
    }
}
