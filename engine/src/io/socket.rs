//! Sockets as the shards need them: one of each address for each shard, sharing the port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits::{
    IN_USE_LOOK_EVERY, IN_USE_PATIENCE, PORT_TRIES, SOCKET_BUFFER_LEN, TCP_BACKLOG,
};
use crate::ports;

/// The UDP socket and the TCP listener of one shard at one address.
#[derive(Debug)]
pub struct ListenerSockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

/// Binds `shards` pairs of sockets to one address, all sharing its port (SO_REUSEPORT): the kernel spreads clients over them.
///
/// Port 0 lets the kernel choose; all pairs then have the port it chose. An unspecified IPv6 address listens for IPv4 too.
/// Addresses of this process may overlap, as `::` and `127.0.0.1` do: a packet is for the most specific one.
///
/// # Errors
/// What the kernel says to the first socket that cannot be had; none stays open then. AddrInUse where another process is
/// bound to the port.
pub fn bind(address: SocketAddr, shards: usize) -> io::Result<Vec<ListenerSockets>> {
    if address.port() == 0 {
        return bind_any_port(address, shards);
    }
    (0..shards)
        .map(|index| {
            let sharing = if index == 0 { Sharing::Claim } else { Sharing::Join };
            let udp = claim_or_join(address, sharing, ports::PortProtocol::Udp, |sharing| {
                bind_udp(address, sharing)
            })?;
            let tcp = claim_or_join(address, sharing, ports::PortProtocol::Tcp, |sharing| {
                bind_tcp(address, sharing)
            })?;
            Ok(ListenerSockets { udp, tcp })
        })
        .collect()
}

/// How a socket comes to share its port with the other shards'. SO_REUSEPORT alone would share it with another server of this
/// user too, silently, and lose it half the queries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Binds alone, so that a port that is taken is an error, and lets others in only then.
    Claim,
    /// Binds beside the one that has claimed the port.
    Join,
}

/// Claims, or joins where only sockets of this process are in the way.
fn claim_or_join<T>(
    address: SocketAddr,
    sharing: Sharing,
    protocol: ports::PortProtocol,
    bind: impl Fn(Sharing) -> io::Result<T>,
) -> io::Result<T> {
    match bind(sharing) {
        Err(error)
            if sharing == Sharing::Claim
                && error.kind() == io::ErrorKind::AddrInUse
                && ports::is_ours_alone(address, protocol) =>
        {
            bind(Sharing::Join)
        }
        outcome => outcome,
    }
}

/// Tries again for `IN_USE_PATIENCE` while the address is in use: the kernel lets go of the sockets of a killed process's ring
/// 10 to 30 ms after the process has been reaped, and what started it again is faster.
///
/// # Errors
/// The last try's.
pub async fn until_released<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && began.elapsed() < IN_USE_PATIENCE =>
            {
                tokio::time::sleep(IN_USE_LOOK_EVERY).await;
            }
            outcome => return outcome,
        }
    }
}

/// Has the kernel queue nothing more at a socket that is about to close, and hand what comes to other sockets that listen for
/// its address: a connected socket is for its peer only, and this one's is itself. What is queued already stays. False where it
/// cannot be done.
pub(super) fn divert(socket: &UdpSocket) -> bool {
    let Ok(address) = socket.local_addr() else { return false };
    let is_wildcard = address.ip().is_unspecified();
    // An unspecified IPv6 address has IPv4's loopback too, for machines whose IPv6 is off.
    let candidates = match address.ip() {
        IpAddr::V4(_) if is_wildcard => [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), None],
        IpAddr::V6(_) if is_wildcard => [
            Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            Some(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())),
        ],
        _ => [Some(address.ip()), None],
    };
    candidates.into_iter().flatten().any(|ip| {
        let mut peer = address;
        peer.set_ip(ip);
        SockRef::from(socket).connect(&peer.into()).is_ok()
    })
}

/// The same for a listening socket: it is bound to an interface that does not exist. Handshakes that have begun end here, and who
/// waits to be accepted goes on waiting. False where it cannot be done: before Linux 5.7 without CAP_NET_RAW, and where the address
/// is one of an interface.
pub(crate) fn divert_connections(listener: &impl AsFd) -> bool {
    const NOWHERE: NonZeroU32 = NonZeroU32::new(i32::MAX as u32).unwrap();
    // The option is the socket's, whichever family it is of.
    SockRef::from(listener).bind_device_by_index_v4(Some(NOWHERE)).is_ok()
}

/// Whether a datagram waits at a socket.
pub(super) fn holds_a_datagram(socket: &UdpSocket) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// The kernel chooses a free port for UDP, which may be taken for TCP: then another.
fn bind_any_port(mut address: SocketAddr, shards: usize) -> io::Result<Vec<ListenerSockets>> {
    for _ in 0..PORT_TRIES {
        address.set_port(UdpSocket::bind((address.ip(), 0))?.local_addr()?.port());
        match bind(address, shards) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn bind_udp(address: SocketAddr, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = unbound_socket(address, Type::DGRAM, Protocol::UDP, sharing)?;
    // The kernel grants what net.core allows; less is not worth refusing to start for.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_LEN);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_LEN);
    if address.ip().is_unspecified() {
        // An answer must leave from the address that was asked, which only the kernel can tell then.
        if address.is_ipv6() {
            enable(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
        } else {
            enable(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?;
        }
    }
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = unbound_socket(address, Type::STREAM, Protocol::TCP, sharing)?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

fn unbound_socket(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    sharing: Sharing,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(sharing == Sharing::Join)?;
    if let SocketAddr::V6(address) = address {
        socket.set_only_v6(!address.ip().is_unspecified())?;
        // For the first second of an interface the kernel does not know yet whether another machine has its address too
        // (RFC 4862, section 5.4), and would not let it be bound.
        socket.set_freebind_v6(address.ip().is_unicast_link_local())?;
    }
    Ok(socket)
}

/// How far a socket's drops have been counted.
#[derive(Default)]
pub(super) struct Drops(u32);

impl Drops {
    /// What the kernel has dropped since this was last asked; 0 where it does not tell.
    pub(super) fn since_last(&mut self, socket: &UdpSocket) -> u64 {
        let Ok(count) = dropped_count(socket) else { return 0 };
        count.wrapping_sub(std::mem::replace(&mut self.0, count)).into()
    }
}

/// Datagrams that the kernel has dropped at this socket since it was opened, for want of room in its buffer.
///
/// # Errors
/// On kernels before 4.12.
fn dropped_count(socket: &UdpSocket) -> io::Result<u32> {
    /// Where the count stands in the array of SO_MEMINFO (linux/sock_diag.h, SK_MEMINFO_DROPS), and how long that is.
    const DROPS: usize = 8;
    const FIELD_COUNT: usize = 9;
    let mut fields = [0u32; FIELD_COUNT];
    let mut len = size_of_val(&fields) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `fields`, and their number into `len`; both live until the call
    // returns, and the descriptor is open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            fields.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(fields[DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// Sets a boolean socket option that no safe crate covers.
fn enable(socket: &Socket, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads four bytes of `on`, which lives until the call returns, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
