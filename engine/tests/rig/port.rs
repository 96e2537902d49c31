//! Ports for servers that a test starts.
//!
//! The kernel's own choice (port 0) will not do for a server that binds its port later: meanwhile
//! the kernel may give the same port to a socket that asks whether the server is up, and that
//! socket then talks to itself. So these ports lie outside of the range that the kernel chooses
//! from. Invariant: no port is returned twice, by this process or by another one that still runs.
#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of its copy.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Where ports are looked for, unless the kernel chooses from there.
const PORTS: RangeInclusive<u16> = 10_000..=32_767;

/// Fewer ports below the kernel's range than this are not enough for a run of the tests.
const PORT_COUNT_MIN: u16 = 2_000;

/// The ports that this process has returned. None is reused after its server has ended.
static GIVEN: Mutex<BTreeMap<u16, Claim>> = Mutex::new(BTreeMap::new());

/// Reserves a port against other test processes until this one ends.
struct Claim {
    _name: UnixListener,
}

impl Claim {
    /// `None`: the port is claimed already.
    fn of(port: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("ringdns-test-port-{port}"));
        let name = UnixListener::bind_addr(&name.expect("a short name")).ok()?;
        Some(Self { _name: name })
    }
}

/// A port that is free and stays free until the caller uses it.
pub fn free() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let ports = range();
    let count = u32::from(ports.end() - ports.start()) + 1;
    // Test processes that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(97) % count + given.len() as u32;
    for step in 0..count {
        let port = ports.start() + ((begin + step) % count) as u16;
        if !given.contains_key(&port)
            && let Some(claim) = Claim::of(port)
            && is_free(port)
        {
            given.insert(port, claim);
            return port;
        }
    }
    panic!("no free port in {ports:?}: `ss -lntu` shows who has them");
}

/// Outside of the kernel's range if there is room.
fn range() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let text = text.unwrap_or_default();
    let mut kernel = text.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    let (Some(first), Some(last)) = (kernel.next(), kernel.next()) else { return PORTS };
    if first >= PORTS.start() + PORT_COUNT_MIN {
        *PORTS.start()..=first - 1
    } else if last < u16::MAX - PORT_COUNT_MIN {
        last + 1..=u16::MAX
    } else {
        PORTS
    }
}

/// For UDP and TCP at every address. The sockets of the check close before this returns.
pub fn is_free(port: u16) -> bool {
    let udp = |at: std::net::SocketAddr| UdpSocket::bind(at).map(drop);
    let tcp = |at: std::net::SocketAddr| TcpListener::bind(at).map(drop);
    // A machine without IPv6 has no such address.
    let every = (Ipv6Addr::UNSPECIFIED, port).into();
    let is_missing = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err();
    let ipv4 = (Ipv4Addr::UNSPECIFIED, port).into();
    [udp(ipv4), tcp(ipv4)].iter().all(Result::is_ok)
        && (is_missing || [udp(every), tcp(every)].iter().all(Result::is_ok))
}
