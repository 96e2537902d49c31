//! Control messages: turns the one that says which address a query was sent to into the one that
//! makes the response leave from there.
//!
//! Invariant: a message of an unknown kind or length yields none; the kernel then chooses the
//! address.

/// Bytes for control messages. The longest is IPV6_PKTINFO with its header. Fits into a byte, from
/// which glibc's and musl's `msg_controllen` can be made alike: they have different types.
pub(super) const CONTROL_LEN: usize = 64;
const _: () = assert!(CONTROL_LEN <= u8::MAX as usize);

/// A buffer for control messages, aligned for their header.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub(super) struct ControlMessage(pub(super) [u8; CONTROL_LEN]);

impl Default for ControlMessage {
    fn default() -> Self {
        Self([0; CONTROL_LEN])
    }
}

/// Copies a datagram's control message into the one for its response: the same structure serves
/// both directions (RFC 3542, section 6; ip(7) for IPv4).
///
/// Returns the bytes written to `reply`; 0 if the kernel chooses the address.
pub(super) fn reply_control(received: &[u8], reply: &mut ControlMessage) -> usize {
    const HEAD_LEN: usize = size_of::<libc::cmsghdr>();
    /// in_pktinfo: interface index, local address, address in the packet's header.
    const V4_LEN: usize = HEAD_LEN + 12;
    /// in6_pktinfo: address, interface index.
    const V6_LEN: usize = HEAD_LEN + 20;
    let reply = &mut reply.0;
    let Some((head, _)) = received.split_first_chunk::<HEAD_LEN>() else { return 0 };
    let (len, kind) = head.split_at(size_of::<usize>());
    let len = len.first_chunk().map_or(0, |len| usize::from_ne_bytes(*len));
    let word = |at: usize| kind[at..].first_chunk().map_or(0, |word| i32::from_ne_bytes(*word));
    let Some(received) = received.get(..len).filter(|_| len <= CONTROL_LEN) else { return 0 };
    match (word(0), word(4)) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) if len == V4_LEN => {
            reply[..len].copy_from_slice(received);
            // The local address is the one to send from. Without clearing the interface, the
            // response would leave by the interface that the query came in on, whatever the routes
            // say.
            reply[HEAD_LEN..HEAD_LEN + 4].fill(0);
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if len == V6_LEN => {
            reply[..len].copy_from_slice(received);
            // Only link-local addresses need their interface.
            let is_link_local = received[HEAD_LEN] == 0xFE && received[HEAD_LEN + 1] & 0xC0 == 0x80;
            if !is_link_local {
                reply[HEAD_LEN + 16..V6_LEN].fill(0);
            }
        }
        _ => return 0,
    }
    len.next_multiple_of(size_of::<usize>())
}
