//! The memory of the `uring` backend that the kernel reads and writes on its own time.
//!
//! Each buffer has one owner at a time. From `give_back` until the completion of the receive that
//! names it, the kernel writes it. From `send` until that send is submitted, the kernel reads it
//! and its send header. In between it is ours. Debug builds check each change of owner.
//! Invariant: addresses never change; nothing is freed while the kernel owns a part.

use std::mem::zeroed;
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::opcode;
use io_uring::squeue::{self, Flags};
use io_uring::types::{BufRingEntry, Fd, RecvMsgOut};
use wire::reply::UDP_LEN_MAX;

use super::Datagram;
use super::control::{CONTROL_LEN, ControlMessage, reply_control};
use super::late::ReturnAddress;
use super::peer::{ADDRESS_LEN, is_v6_address};
use crate::client::ListenerId;
use crate::limits::{DATAGRAM_BUFFER_LEN, DATAGRAM_BUFFERS};

/// What SENDMSG reads while it is submitted, in addition to the buffer.
struct SendHeader {
    header: libc::msghdr,
    payload: libc::iovec,
    control: ControlMessage,
}

/// Bytes before the peer's address in a buffer: the kernel's io_uring_recvmsg_out.
const ADDRESS_AT: usize = 16;
const CONTROL_AT: usize = ADDRESS_AT + ADDRESS_LEN;
const MESSAGE_AT: usize = CONTROL_AT + CONTROL_LEN;
const _: () = assert!(DATAGRAM_BUFFER_LEN - MESSAGE_AT == 1428);
const _: () = assert!(MESSAGE_AT + UDP_LEN_MAX as usize <= DATAGRAM_BUFFER_LEN);

pub(super) struct RingMemory {
    /// Hands buffers to the kernel: page-aligned, `DATAGRAM_BUFFERS` entries.
    buffer_ring: NonNull<BufRingEntry>,
    buffer_ring_tail: u16,
    buffers: Box<[u8]>,
    /// States the room for address and control messages in a buffer. The kernel reads it while a
    /// receive is active.
    receive_header: Box<libc::msghdr>,
    /// By buffer.
    send_headers: Box<[SendHeader]>,
    owners: BufferOwners,
}

/// Who may access a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BufferOwner {
    /// Between a receive and the send, or the return to the buffer ring.
    Shard,
    /// In the buffer ring.
    KernelWrites,
    /// Being sent.
    KernelReads,
}

/// By buffer; debug builds only.
struct BufferOwners {
    #[cfg(debug_assertions)]
    owners: Box<[BufferOwner]>,
}

impl BufferOwners {
    fn new() -> Self {
        Self {
            #[cfg(debug_assertions)]
            owners: vec![BufferOwner::Shard; usize::from(DATAGRAM_BUFFERS)].into(),
        }
    }

    #[cfg_attr(not(debug_assertions), allow(unused_variables, reason = "checked in debug builds"))]
    fn pass(&mut self, buffer: u16, from: BufferOwner, to: BufferOwner) {
        #[cfg(debug_assertions)]
        {
            let owner = std::mem::replace(&mut self.owners[usize::from(buffer)], to);
            assert_eq!(owner, from, "buffer {buffer} goes to {to:?}");
        }
    }
}

const BUFFER_RING_LAYOUT: std::alloc::Layout = match std::alloc::Layout::from_size_align(
    size_of::<BufRingEntry>() * DATAGRAM_BUFFERS as usize,
    4096,
) {
    Ok(layout) => layout,
    Err(_) => panic!("a page-aligned ring is a valid layout"),
};

/// The bytes of a buffer in `RingMemory::buffers`.
fn range_of(buffer: u16) -> Range<usize> {
    let start = usize::from(buffer) * DATAGRAM_BUFFER_LEN;
    start..start + DATAGRAM_BUFFER_LEN
}

impl RingMemory {
    pub(super) fn new() -> Self {
        // SAFETY: the layout is not empty; zero bytes are valid entries. Nobody else has the memory
        // yet.
        let ring = unsafe { std::alloc::alloc_zeroed(BUFFER_RING_LAYOUT) };
        let buffer_ring = NonNull::new(ring.cast())
            .unwrap_or_else(|| std::alloc::handle_alloc_error(BUFFER_RING_LAYOUT));
        // SAFETY: plain C structs of integers and pointers, for which all zeros are a valid value.
        // They are owned by the boxes they are moved into.
        let (mut receive_header, send_header) =
            unsafe { (Box::<libc::msghdr>::new(zeroed()), || zeroed()) };
        receive_header.msg_namelen = ADDRESS_LEN as u32;
        receive_header.msg_controllen = (CONTROL_LEN as u8).into();
        Self {
            buffer_ring,
            buffer_ring_tail: 0,
            buffers: vec![0; usize::from(DATAGRAM_BUFFERS) * DATAGRAM_BUFFER_LEN].into(),
            receive_header,
            send_headers: (0..DATAGRAM_BUFFERS).map(|_| send_header()).collect(),
            owners: BufferOwners::new(),
        }
    }

    /// Where the kernel finds the buffer ring.
    pub(super) fn buffer_ring_address(&self) -> u64 {
        self.buffer_ring.as_ptr() as u64
    }

    /// The header of every receive; valid as long as this memory.
    pub(super) fn receive_header(&self) -> *const libc::msghdr {
        &raw const *self.receive_header
    }

    /// Records that a buffer changes its owner, and checks the old one; debug builds only.
    #[inline]
    pub(super) fn pass(&mut self, buffer: u16, from: BufferOwner, to: BufferOwner) {
        self.owners.pass(buffer, from, to);
    }

    /// Hands a buffer to the kernel, to receive into.
    #[inline]
    pub(super) fn give_back(&mut self, buffer: u16) {
        self.pass(buffer, BufferOwner::Shard, BufferOwner::KernelWrites);
        let mask = DATAGRAM_BUFFERS - 1;
        let address = self.buffers[range_of(buffer)].as_mut_ptr();
        // SAFETY: the index is masked to the ring's length, and nobody else writes the ring. The
        // kernel reads an entry only after the tail has passed it, and the tail is published last;
        // from then until the completion of the receive the kernel owns the buffer.
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

    /// The packet, and the rest of the buffer after it.
    #[inline]
    pub(super) fn message(&mut self, buffer: u16) -> &mut [u8] {
        &mut self.buffers[range_of(buffer)][MESSAGE_AT..]
    }

    /// Parses the kernel's header in a buffer; `None` if it is malformed.
    #[inline]
    pub(super) fn describe(&self, listener: ListenerId, buffer: u16) -> Option<Datagram> {
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

    /// The peer's address, and the control message for the response.
    pub(super) fn return_address(&self, datagram: &Datagram) -> ReturnAddress {
        let bytes = &self.buffers[range_of(datagram.buffer)];
        let mut to = ReturnAddress {
            listener: datagram.listener,
            address: [0; ADDRESS_LEN],
            address_len: datagram.address_len,
            control: ControlMessage::default(),
            control_len: 0,
        };
        to.address.copy_from_slice(&bytes[ADDRESS_AT..][..ADDRESS_LEN]);
        let received = &bytes[CONTROL_AT..][..usize::from(datagram.control_len)];
        to.control_len = reply_control(received, &mut to.control) as u8;
        to
    }

    /// The send of a buffer's message to the peer, from the address that the query was sent to. It
    /// does not wait for room in the socket, and has a completion only if it fails.
    #[inline]
    pub(super) fn reply(&mut self, fd: Fd, datagram: &Datagram, len: usize) -> squeue::Entry {
        let (head, message) = self.buffers[range_of(datagram.buffer)].split_at_mut(MESSAGE_AT);
        let message = &mut message[..len];
        let address = &mut head[ADDRESS_AT..][..usize::from(datagram.address_len)];
        if datagram.control_len == 0 {
            // Without a control message SEND will do: it spares the kernel from reading a header in
            // four pieces.
            return opcode::Send::new(fd, message.as_ptr(), len as u32)
                .flags(libc::MSG_DONTWAIT)
                .dest_addr(address.as_ptr().cast())
                .dest_addr_len(address.len() as u32)
                .build()
                .flags(Flags::SKIP_SUCCESS);
        }
        let SendHeader { header, payload, control } =
            &mut self.send_headers[usize::from(datagram.buffer)];
        payload.iov_base = message.as_mut_ptr().cast();
        payload.iov_len = len;
        header.msg_name = address.as_mut_ptr().cast();
        header.msg_namelen = address.len() as u32;
        header.msg_iov = payload;
        header.msg_iovlen = 1;
        let received = &head[CONTROL_AT..][..usize::from(datagram.control_len)];
        header.msg_controllen = (reply_control(received, control) as u8).into();
        header.msg_control = match header.msg_controllen {
            0 => null_mut(),
            _ => control.0.as_mut_ptr().cast(),
        };
        let send = opcode::SendMsg::new(fd, header).flags(libc::MSG_DONTWAIT as u32);
        send.build().flags(Flags::SKIP_SUCCESS)
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed only here. The kernel owns none of
        // it: `Uring::drop` leaks the memory otherwise.
        unsafe { std::alloc::dealloc(self.buffer_ring.as_ptr().cast(), BUFFER_RING_LAYOUT) };
    }
}
