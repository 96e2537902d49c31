//! The shards' sockets: per address one UDP and one TCP socket for each shard, all sharing the
//! port, or TCP alone.
//!
//! Invariant: the first socket claims its port alone, so another server's port is never shared
//! silently.

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
    /// `None`: the address has no UDP.
    pub udp: Option<UdpSocket>,
    pub tcp: TcpListener,
}

impl ListenerSockets {
    /// Copies, which share the queues of the originals.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let udp = self.udp.as_ref().map(UdpSocket::try_clone).transpose()?;
        Ok(Self { udp, tcp: self.tcp.try_clone()? })
    }
}

/// What a shard gets for one address. The copies are made beforehand, where a lack of descriptors
/// is an error of the start or the reload rather than of a shard that serves.
#[derive(Debug)]
pub struct ShardSockets {
    /// To receive and accept from.
    pub own: ListenerSockets,
    /// For late answers, and for the bell.
    pub copies: ListenerSockets,
}

impl ShardSockets {
    /// # Errors
    /// No descriptor is left for the copies.
    pub fn of(own: ListenerSockets) -> io::Result<Self> {
        Ok(Self { copies: own.try_clone()?, own })
    }
}

/// Which other process may have a port already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortClaim {
    /// None: the port is in use.
    Alone,
    /// One of the same user that shares its ports, such as the ringdns that this one replaces.
    TakeOver,
}

/// Binds `shards` pairs of sockets to one address. All share its port (SO_REUSEPORT), and the
/// kernel spreads clients over them.
///
/// With port 0 the kernel chooses one port for all pairs. An unspecified IPv6 address listens for
/// IPv4 too. Addresses of this process may overlap, like `::` and `127.0.0.1`: a packet goes to the
/// most specific one.
///
/// # Errors
/// The kernel's error for the first socket that fails; none stays open then. AddrInUse if another
/// process is bound to the port, and `claim` or that process does not share it.
pub fn bind(address: SocketAddr, shards: usize, claim: PortClaim) -> io::Result<Vec<ShardSockets>> {
    if address.port() == 0 {
        return bind_any_port(address, shards);
    }
    (0..shards)
        .map(|index| {
            let sharing = if index == 0 { Sharing::Claim } else { Sharing::Join };
            let udp =
                claim_or_join(address, claim, sharing, ports::PortProtocol::Udp, |sharing| {
                    bind_udp(address, sharing)
                })?;
            let tcp =
                claim_or_join(address, claim, sharing, ports::PortProtocol::Tcp, |sharing| {
                    bind_tcp(address, sharing)
                })?;
            ShardSockets::of(ListenerSockets { udp: Some(udp), tcp })
        })
        .collect()
}

/// Binds `shards` TCP listeners to one address, and no UDP socket. Otherwise as `bind`.
///
/// # Errors
/// As `bind`.
pub fn bind_streams(
    mut address: SocketAddr,
    shards: usize,
    claim: PortClaim,
) -> io::Result<Vec<ShardSockets>> {
    let mut sockets = Vec::with_capacity(shards);
    for index in 0..shards {
        let sharing = if index == 0 { Sharing::Claim } else { Sharing::Join };
        let tcp = claim_or_join(address, claim, sharing, ports::PortProtocol::Tcp, |sharing| {
            bind_tcp(address, sharing)
        })?;
        // With port 0 the kernel has chosen one.
        address.set_port(tcp.local_addr()?.port());
        sockets.push(ShardSockets::of(ListenerSockets { udp: None, tcp })?);
    }
    Ok(sockets)
}

/// How a socket shares its port with the other shards' sockets. SO_REUSEPORT alone would also share
/// it with another server of this user: each would silently lose queries to the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Binds alone, so that a port in use is an error, and allows sharing only then.
    Claim,
    /// Binds beside the socket that has claimed the port.
    Join,
}

/// Claims the port, or joins those that have it: sockets of this process, or those to take over
/// from.
fn claim_or_join<T>(
    address: SocketAddr,
    claim: PortClaim,
    sharing: Sharing,
    protocol: ports::PortProtocol,
    bind: impl Fn(Sharing) -> io::Result<T>,
) -> io::Result<T> {
    match bind(sharing) {
        Err(error)
            if sharing == Sharing::Claim
                && error.kind() == io::ErrorKind::AddrInUse
                && (claim == PortClaim::TakeOver || ports::is_ours_alone(address, protocol)) =>
        {
            bind(Sharing::Join)
        }
        outcome => outcome,
    }
}

/// Retries for `IN_USE_PATIENCE` while the address is in use: the kernel releases the sockets of a
/// killed process's ring 10 to 30 ms after the process was reaped, and a supervisor restarts it
/// faster.
///
/// # Errors
/// The last attempt's.
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

/// Stops the kernel from queueing more datagrams at a socket that is about to close; they go to
/// other sockets that listen on its address. It connects the socket to itself, since a connected
/// socket receives only from its peer. Queued datagrams stay. False if that fails.
pub(super) fn divert(socket: &UdpSocket) -> bool {
    let Ok(address) = socket.local_addr() else { return false };
    let is_wildcard = address.ip().is_unspecified();
    // For an unspecified IPv6 address try IPv4's loopback too: IPv6 may be disabled.
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

/// Does the same for a listening socket, by binding it to an interface that does not exist.
/// Handshakes that have begun end here, and connections stay queued. Only for addresses that no
/// other process has: from a group of sockets, the kernel chooses one without a look at its
/// interface. False if that fails: before Linux 5.7 without CAP_NET_RAW, or for an address with an
/// interface.
pub(crate) fn divert_connections(listener: &impl AsFd) -> bool {
    const NOWHERE: NonZeroU32 = NonZeroU32::new(i32::MAX as u32).unwrap();
    let socket = SockRef::from(listener);
    // The option applies to sockets of either family, despite the function's name. Without
    // CAP_NET_RAW it can be set only once; an interface that does not exist has no name.
    socket.bind_device_by_index_v4(Some(NOWHERE)).is_ok() || socket.device().is_err()
}

/// Takes a socket that is about to close from those that share its address, and diverts it: sockets
/// that are bound to the address from now on share it without this one. That takes SO_REUSEADDR, of
/// this socket from now on, and of the new ones while they are bound. False if the kernel refuses.
pub(crate) fn retire(socket: &UdpSocket) -> bool {
    let shared = SockRef::from(socket);
    shared.set_reuse_address(true).is_ok() && shared.set_reuse_port(false).is_ok() && divert(socket)
}

/// Has the kernel prefer this socket for what arrives on a CPU, where no program chooses (Linux
/// 6.2). `None`: no longer.
///
/// # Errors
/// The kernel's.
pub(crate) fn prefer_cpu(socket: &impl AsFd, cpu: Option<usize>) -> io::Result<()> {
    // Without a CPU the kernel expects -1, which this becomes.
    SockRef::from(socket).set_cpu_affinity(cpu.unwrap_or(usize::MAX))
}

/// Whether a socket has a datagram queued.
pub(super) fn holds_a_datagram(socket: &UdpSocket) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Lets the kernel choose a free UDP port, and tries another if it is in use for TCP.
fn bind_any_port(mut address: SocketAddr, shards: usize) -> io::Result<Vec<ShardSockets>> {
    for _ in 0..PORT_TRIES {
        address.set_port(UdpSocket::bind((address.ip(), 0))?.local_addr()?.port());
        match bind(address, shards, PortClaim::Alone) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn bind_udp(address: SocketAddr, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = unbound_socket(address, Type::DGRAM, Protocol::UDP, sharing)?;
    // The kernel caps the size by net.core; a smaller buffer is no reason not to start.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_LEN);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_LEN);
    if address.ip().is_unspecified() {
        // A response must leave from the address that was queried, which only the kernel knows
        // here.
        if address.is_ipv6() {
            enable(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
        } else {
            enable(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?;
        }
    }
    // Those that are retired let a socket bind beside them only if it reuses the address.
    socket.set_reuse_address(sharing == Sharing::Join)?;
    socket.bind(&address.into())?;
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = unbound_socket(address, Type::STREAM, Protocol::TCP, sharing)?;
    // A restart must not wait for the connections of the previous process.
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
        // In an interface's first second the kernel checks whether another machine has its address
        // (RFC 4862, section 5.4). Without this option binding would fail until then.
        socket.set_freebind_v6(address.ip().is_unicast_link_local())?;
    }
    Ok(socket)
}

/// The drops of a socket that were counted so far.
pub(super) struct Drops(u32);

impl Drops {
    /// Those until now count as counted: the thread that had the socket before has counted them.
    pub(super) fn until_now(socket: &UdpSocket) -> Self {
        Self(dropped_count(socket).unwrap_or(0))
    }

    /// The datagrams dropped since the last call; 0 if the kernel does not report them.
    pub(super) fn since_last(&mut self, socket: &UdpSocket) -> u64 {
        let Ok(count) = dropped_count(socket) else { return 0 };
        count.wrapping_sub(std::mem::replace(&mut self.0, count)).into()
    }
}

/// Datagrams that the kernel has dropped since the socket was opened because its buffer was full.
///
/// # Errors
/// On kernels before 4.12.
fn dropped_count(socket: &UdpSocket) -> io::Result<u32> {
    /// The index of the count in the array of SO_MEMINFO (SK_MEMINFO_DROPS in linux/sock_diag.h).
    const DROPS: usize = 8;
    /// The length of that array.
    const FIELD_COUNT: usize = 9;
    let mut fields = [0u32; FIELD_COUNT];
    let mut len = size_of_val(&fields) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `fields`, and their number into `len`.
    // Both are ours and live until the call returns, and the descriptor is open.
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

/// Sets a boolean socket option that no safe crate offers.
fn enable(socket: &Socket, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads four bytes of `on`, which lives until the call returns, and the
    // descriptor is open.
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
