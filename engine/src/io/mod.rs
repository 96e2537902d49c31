//! How datagrams come and go: the one trait that the shard's loop drives, and a file for each way of doing it.
//!
//! `unsafe` stands in this folder and nowhere else.

use std::io;
use std::net::UdpSocket;
use std::os::fd::BorrowedFd;

use crate::client::ListenerId;
use late::ReturnAddress;

mod control;
pub mod late;
pub mod mmsg;
mod peer;
pub mod prefetch;
pub mod socket;
pub mod uring;
pub mod wake;

/// A datagram that waits for its answer: where its bytes are, not the bytes themselves. Given back by `send` or `recycle`.
#[derive(Debug)]
pub struct Datagram {
    pub listener: ListenerId,
    /// The datagram was longer than a receive buffer: its end is lost.
    pub is_cut: bool,
    /// Whether the peer has an IPv6 address, IPv4-mapped ones left out.
    pub is_from_v6: bool,
    buffer: u16,
    len: u16,
    address_len: u8,
    control_len: u8,
}

impl Datagram {
    /// Bytes of the packet.
    #[inline]
    #[must_use]
    pub fn packet_len(&self) -> usize {
        usize::from(self.len)
    }
}

/// Datagrams of any number of sockets, in batches.
///
/// The loop: `turn` submits the answers of the batch before and fetches the next; `next` hands out its datagrams one by one;
/// each is answered where it lies (`message`) and given back by `send` or `recycle`. When a turn fetched nothing, wait for
/// `wake_fd`, then `acknowledge`.
pub trait DatagramIo {
    /// Takes a bound, non-blocking socket and receives from it.
    ///
    /// # Errors
    /// What the kernel says to it; the socket is closed then.
    fn open(&mut self, listener: ListenerId, socket: UdpSocket) -> io::Result<()>;
    /// Closes this listener's socket when what it holds by now has been received and answered; what comes from now on is for
    /// other sockets that listen for its address.
    fn close(&mut self, listener: ListenerId);
    /// Submits what was sent since the last turn and fetches what has come in; returns how many datagrams wait.
    ///
    /// # Errors
    /// Only such that make the backend useless.
    fn turn(&mut self) -> io::Result<usize>;
    /// The next datagram of the batch; `None` at its end.
    fn next(&mut self) -> Option<Datagram>;
    /// The datagram's packet, and behind it room for the answer that is written over it: `UDP_LEN_MAX` bytes in all, or more.
    fn message(&mut self, datagram: &Datagram) -> &mut [u8];
    /// Sends the first `len` bytes of the message to where the datagram came from, from the address that it was sent to.
    fn send(&mut self, datagram: Datagram, len: usize);
    /// Where the datagram's answer goes, for one that takes its time.
    fn return_address(&self, datagram: &Datagram) -> ReturnAddress;
    /// Gives the datagram up without an answer.
    fn recycle(&mut self, datagram: Datagram);
    /// Readable when a turn would fetch something, or when another thread wrote to it to wake the shard.
    fn wake_fd(&self) -> BorrowedFd<'_>;
    /// Has the next turn look at every socket, though nothing has said that there is something: for polling instead of
    /// sleeping.
    fn look_again(&mut self);
    /// Takes note of a wake-up, so that the next one shows.
    fn acknowledge(&mut self);
    /// Counts what the kernel has dropped since the last call because a socket's buffer was full. A system call a socket:
    /// for once a second, not for each batch.
    fn count_drops(&mut self);
}
