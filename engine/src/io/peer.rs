//! The kernel's socket addresses, as bytes. Invariant: nothing here assumes a valid length.

use std::mem::offset_of;

/// Bytes of the longer kind.
pub(super) const ADDRESS_LEN: usize = size_of::<libc::sockaddr_in6>();

const V6_AT: usize = offset_of!(libc::sockaddr_in6, sin6_addr);

/// Whether a socket address is IPv6, and not an IPv4 client of an IPv6 socket (::ffff:a.b.c.d).
pub(super) fn is_v6_address(address: &[u8]) -> bool {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];
    address.len() == ADDRESS_LEN && address.get(V6_AT..V6_AT + 12) != Some(&MAPPED)
}
