//! Ports that are free.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Below the kernel's range for outgoing connections (32768 and up), so that none of those takes a
/// free port before its server binds it.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Ports that this process has used: none is reused after its server was killed.
static GIVEN: Mutex<BTreeMap<u16, Claim>> = Mutex::new(BTreeMap::new());

/// Reserves a port against test processes that run at the same time, until this one ends: a server
/// binds its port long after it was chosen.
struct Claim {
    _name: UnixListener,
}

impl Claim {
    /// `None`: another process has it.
    fn of(port: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("ringdns-e2e-port-{port}"));
        let name = UnixListener::bind_addr(&name.expect("a short name")).ok()?;
        Some(Self { _name: name })
    }
}

/// A port that is free on 127.0.0.1 for UDP and for TCP. None is returned twice.
pub fn free() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1_000 {
        let port = fastrand::u16(RANGE);
        let here = (Ipv4Addr::LOCALHOST, port);
        let is_free = || UdpSocket::bind(here).is_ok() && TcpListener::bind(here).is_ok();
        if given.contains_key(&port) {
            continue;
        }
        if let Some(claim) = Claim::of(port)
            && is_free()
        {
            given.insert(port, claim);
            return port;
        }
    }
    panic!("no free port in {RANGE:?}: see 'ss -lntu' for who holds them");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_returned_twice() {
        let port = free();
        assert!(Claim::of(port).is_none());
    }
}
