//! The kernel's socket addresses, as bytes. Invariant: nothing here assumes a valid length.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the longer kind.
pub(super) const ADDRESS_LEN: usize = size_of::<libc::sockaddr_in6>();

const V6_AT: usize = offset_of!(libc::sockaddr_in6, sin6_addr);

/// Whether a socket address is IPv6, and not an IPv4 client of an IPv6 socket (::ffff:a.b.c.d).
pub(super) fn is_v6_address(address: &[u8]) -> bool {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];
    address.len() == ADDRESS_LEN && address.get(V6_AT..V6_AT + 12) != Some(&MAPPED)
}

/// The address as a value; an unspecified one if the bytes are not a socket address.
pub(super) fn socket_address(address: &[u8]) -> SocketAddr {
    const PORT_AT: usize = offset_of!(libc::sockaddr_in6, sin6_port);
    const V4_AT: usize = offset_of!(libc::sockaddr_in, sin_addr);
    let v4 = || address.get(V4_AT..)?.first_chunk::<4>().copied().map(Ipv4Addr::from);
    let v6 = || address.get(V6_AT..)?.first_chunk::<16>().copied().map(Ipv6Addr::from);
    let ip = match address.len() {
        ADDRESS_LEN => v6().map(|ip| IpAddr::V6(ip).to_canonical()),
        _ => v4().map(IpAddr::V4),
    };
    let port = address.get(PORT_AT..).and_then(<[u8]>::first_chunk).copied();
    let port = port.map_or(0, u16::from_be_bytes);
    SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port)
}

const _: () =
    assert!(offset_of!(libc::sockaddr_in, sin_port) == offset_of!(libc::sockaddr_in6, sin6_port));
