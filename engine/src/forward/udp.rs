//! One query and its response over UDP.
//!
//! Each exchange opens its own socket. So besides the random id it has a random port, which the
//! kernel draws from `ip_local_port_range` (28,232 ports by default): RFC 5452, section 9.2.
//! Invariant: only a packet from the upstream's address and port that matches id and question ends
//! the wait; others are counted.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use wire::reply::MESSAGE_LEN_MAX;
use wire::response::{UpstreamPacket, read};

use super::failure::{ExchangeFailure, FailureCause, UpstreamProtocol};
use super::query::Query;
use crate::metrics::{UpstreamCounters, UpstreamEvent};

/// The receive buffer that all exchanges of one `forward` line share; never borrowed over an await.
#[derive(Debug)]
pub(super) struct Buffer(RefCell<Box<[u8]>>);

impl Default for Buffer {
    fn default() -> Self {
        Self(RefCell::new(vec![0; MESSAGE_LEN_MAX].into()))
    }
}

/// The addresses of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) to: SocketAddr,
    /// `source_address`
    pub(super) from: Option<IpAddr>,
}

/// Sends a query and waits for the response until `until`.
pub(super) async fn exchange(
    query: &Query,
    route: Route,
    until: Instant,
    buffer: &Buffer,
    counters: &UpstreamCounters,
) -> Result<UpstreamPacket, ExchangeFailure> {
    let fail = |from, cause| ExchangeFailure {
        protocol: UpstreamProtocol::Udp,
        from,
        to: route.to,
        cause,
    };
    let socket = open(route).map_err(|error| fail(None, FailureCause::connect(&error)))?;
    let fail = |cause| fail(socket.local_addr().ok(), cause);
    let sent = timeout_at(until, socket.send(query.message())).await;
    match sent {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(fail(FailureCause::write(&error))),
        Err(_) => return Err(fail(FailureCause::ReadTimeout)),
    }
    loop {
        let ready =
            match timeout_at(until, socket.ready(Interest::READABLE | Interest::ERROR)).await {
                Ok(Ok(ready)) => ready,
                Ok(Err(error)) => return Err(fail(FailureCause::read(&error))),
                Err(_) => return Err(fail(FailureCause::ReadTimeout)),
            };
        // ICMP reported an error. Reading would miss it: to tokio the socket is not readable then.
        if ready.is_error() {
            let error = socket.take_error().ok().flatten();
            let error = error.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into());
            return Err(fail(FailureCause::read(&error)));
        }
        let packet = &mut *buffer.0.borrow_mut();
        let (len, from) = match socket.try_recv_from(packet) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(fail(FailureCause::read(&error))),
        };
        // Packets that arrived before the socket was connected may be from anyone.
        let reading = if from == route.to {
            read(&packet[..len], &query.asked())
        } else {
            UpstreamPacket::Foreign
        };
        match reading {
            UpstreamPacket::Foreign => counters.count(UpstreamEvent::Foreign),
            UpstreamPacket::Answer(_)
            | UpstreamPacket::Truncated(_)
            | UpstreamPacket::Malformed => return Ok(reading),
        }
    }
}

/// A new socket, on a random port that the kernel chooses.
pub(super) fn open(route: Route) -> io::Result<UdpSocket> {
    let any = match route.to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = std::net::UdpSocket::bind((route.from.unwrap_or(any), 0))?;
    socket.connect(route.to)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
