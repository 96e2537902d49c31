//! Ports that nobody listens on.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the range that the kernel gives to outgoing connections (32768 and up), so that a port
/// found free is not taken by one of those before its server binds it.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that is free on 127.0.0.1 for UDP and for TCP.
pub fn free() -> u16 {
    for _ in 0..1_000 {
        let port = fastrand::u16(RANGE);
        let here = (Ipv4Addr::LOCALHOST, port);
        if UdpSocket::bind(here).is_ok() && TcpListener::bind(here).is_ok() {
            return port;
        }
    }
    panic!("no free port in {RANGE:?}: see 'ss -lntu' for who holds them");
}
