//! Answers that take their time: where they go is kept apart from the batch that the question came in, and they are sent one
//! by one.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use super::control::ControlMessage;
use super::peer::ADDRESS_LEN;
use crate::client::ListenerId;

/// Where the answer to a datagram goes, and from which address it leaves.
#[derive(Clone)]
pub struct ReturnAddress {
    pub listener: ListenerId,
    pub(super) address: [u8; ADDRESS_LEN],
    pub(super) address_len: u8,
    /// Empty where the kernel is to choose.
    pub(super) control: ControlMessage,
    pub(super) control_len: u8,
}

/// Sends an answer by a socket of the listener that was asked.
///
/// # Errors
/// What the kernel says: WouldBlock when the socket's buffer is full.
pub fn send(socket: &UdpSocket, to: &ReturnAddress, message: &[u8]) -> io::Result<()> {
    let mut payload =
        libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: a plain C struct of integers and pointers, for which all zeroes is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = to.address.as_ptr().cast_mut().cast();
    header.msg_namelen = libc::socklen_t::from(to.address_len);
    header.msg_iov = &raw mut payload;
    header.msg_iovlen = 1;
    header.msg_controllen = usize::from(to.control_len);
    header.msg_control =
        if to.control_len == 0 { null_mut() } else { to.control.0.as_ptr().cast_mut().cast() };
    // SAFETY: all that the header points at is borrowed until the call returns, and sending only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
