//! Responses that leave after their query's batch: their return address, and sending a single one.
//!
//! Invariant: a response leaves from the address that its query was sent to.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use super::control::ControlMessage;
use super::peer::{ADDRESS_LEN, socket_address};
use crate::client::ListenerId;

/// Where to send the response to a datagram, and from which address.
#[derive(Clone)]
pub struct ReturnAddress {
    pub listener: ListenerId,
    pub(super) address: [u8; ADDRESS_LEN],
    pub(super) address_len: u8,
    /// Empty if the kernel chooses the source address.
    pub(super) control: ControlMessage,
    pub(super) control_len: u8,
}

impl ReturnAddress {
    /// The client.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        socket_address(self.address.get(..usize::from(self.address_len)).unwrap_or_default())
    }
}

/// Sends a response on a socket of the listener that received the query.
///
/// # Errors
/// The kernel's; WouldBlock if the socket's buffer is full.
pub fn send(socket: &UdpSocket, to: &ReturnAddress, message: &[u8]) -> io::Result<()> {
    let mut payload =
        libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: a plain C struct of integers and pointers, for which all zeros are a valid value. It
    // is ours.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = to.address.as_ptr().cast_mut().cast();
    header.msg_namelen = libc::socklen_t::from(to.address_len);
    header.msg_iov = &raw mut payload;
    header.msg_iovlen = 1;
    header.msg_controllen = to.control_len.into();
    header.msg_control =
        if to.control_len == 0 { null_mut() } else { to.control.0.as_ptr().cast_mut().cast() };
    // SAFETY: everything that the header points at is borrowed until the call returns, and the
    // kernel only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
