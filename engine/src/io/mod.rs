//! Sending and receiving datagrams: the trait that the shard's loop drives, and a file for each
//! backend. Beside them, the settings of the allocator and the scheduler.
//!
//! Invariant: `unsafe` is in this folder and nowhere else.

use std::io;
use std::net::UdpSocket;
use std::os::fd::BorrowedFd;

use crate::client::{Family, ListenerId};
use late::ReturnAddress;

pub mod allocator;
mod control;
pub mod late;
pub mod mmsg;
mod peer;
pub mod prefetch;
pub mod reuseport;
mod ring_memory;
pub mod slice;
pub mod socket;
pub mod uring;
pub mod wake;

/// A datagram that was received and not yet answered: the place of its bytes, not the bytes. `send`
/// or `recycle` gives it back.
#[derive(Debug)]
pub struct Datagram {
    pub listener: ListenerId,
    /// The datagram was longer than a receive buffer, and its end is lost.
    pub is_cut: bool,
    /// The peer has an IPv6 address that is not IPv4-mapped.
    is_from_v6: bool,
    buffer: u16,
    len: u16,
    address_len: u8,
    control_len: u8,
}

impl Datagram {
    /// The client's address family.
    #[inline]
    #[must_use]
    pub fn family(&self) -> Family {
        if self.is_from_v6 { Family::V6 } else { Family::V4 }
    }

    /// Bytes.
    #[inline]
    #[must_use]
    pub fn packet_len(&self) -> usize {
        usize::from(self.len)
    }
}

/// Datagrams of any number of sockets, in batches.
///
/// The loop: `turn` submits the responses of the last batch and fetches the next. `next` returns
/// its datagrams one by one. The response to each is written over it (`message`), and `send` or
/// `recycle` gives it back. If a turn fetched nothing, wait for `wake_fd`, then call `acknowledge`.
pub trait DatagramIo {
    /// Starts to receive from a bound, non-blocking socket.
    ///
    /// # Errors
    /// The kernel's; the socket is closed then.
    fn open(&mut self, listener: ListenerId, socket: UdpSocket) -> io::Result<()>;
    /// Closes this listener's socket once the datagrams that it holds now are received and
    /// answered. Later ones go to other sockets that listen on its address. Does nothing if there
    /// is no such listener, or it closes already.
    fn close(&mut self, listener: ListenerId);
    /// Whether there are sockets, those that close among them.
    fn has_sockets(&self) -> bool;
    /// Stops receiving, and leaves what the sockets hold to others that have copies of them. What
    /// this has received already is still to be answered. Calling it again does nothing.
    fn leave(&mut self);
    /// Submits the responses since the last turn and fetches datagrams; returns how many are
    /// available.
    ///
    /// # Errors
    /// Only those that make the backend unusable.
    fn turn(&mut self) -> io::Result<usize>;
    /// The next datagram of the batch; `None` at its end.
    fn next(&mut self) -> Option<Datagram>;
    /// The datagram's packet, with room after it for the response that is written over it: at least
    /// `UDP_LEN_MAX` bytes in all.
    fn message(&mut self, datagram: &Datagram) -> &mut [u8];
    /// Sends the first `len` bytes of the message to the datagram's sender, from the address that
    /// the datagram was sent to.
    fn send(&mut self, datagram: Datagram, len: usize);
    /// Where to send the response, if it is sent later.
    fn return_address(&self, datagram: &Datagram) -> ReturnAddress;
    /// Gives the datagram back without a response.
    fn recycle(&mut self, datagram: Datagram);
    /// Readable when a turn would fetch something, or when another thread wrote to it to wake the
    /// shard.
    fn wake_fd(&self) -> BorrowedFd<'_>;
    /// Makes the next turn check every socket, without a wake-up: for polling instead of sleeping.
    fn look_again(&mut self);
    /// Resets a wake-up, so that the next one shows.
    fn acknowledge(&mut self);
    /// Counts the datagrams that the kernel has dropped since the last call because a socket's
    /// buffer was full. One system call per socket: call it once a second, not per batch.
    fn count_drops(&mut self);
}
