//! Ports that nobody listens on.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Below the range that the kernel gives to outgoing connections (32768 and up), so that a port
/// found free is not taken by one of those before its server binds it.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// What this process was given: nobody comes back to the address of a server that was killed.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that is free on 127.0.0.1 for UDP and for TCP. None is given twice.
pub fn free() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1_000 {
        let port = fastrand::u16(RANGE);
        let here = (Ipv4Addr::LOCALHOST, port);
        let is_free = || UdpSocket::bind(here).is_ok() && TcpListener::bind(here).is_ok();
        if !given.contains(&port) && is_free() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port in {RANGE:?}: see 'ss -lntu' for who holds them");
}
