//! Where the Corefile's blocks listen: their addresses, the sockets there, and why one cannot be had.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use engine::config::Config;
use engine::corefile::{ListenIp, Place};
use engine::io::socket::{self, ListenerSockets};
use engine::plugin::ServerBlock;
use engine::plugin::bind::BindAddress;
use engine::ports::{self, Holder};

/// An address that the Corefile asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) address: SocketAddr,
    /// Of the first line that asks for it: `bind`, or the zone.
    pub(crate) place: Place,
    /// The port stands there, and is not `-dns.port`'s.
    names_port: bool,
}

/// Every address that the Corefile listens on, each once.
pub(crate) fn asked(config: &Config) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    for block in &config.blocks {
        for key in &block.keys {
            for (address, place) in places(block, key.port) {
                if !asked.iter().any(|other| other.address == address) {
                    let place = place.clone();
                    asked.push(Asked { address, place, names_port: key.names_port });
                }
            }
        }
    }
    asked
}

/// The addresses of a block at this port: those of `bind`, or all of the machine's.
pub(crate) fn addresses(block: &ServerBlock, port: u16) -> impl Iterator<Item = SocketAddr> {
    places(block, port).into_iter().map(|(address, _)| address)
}

/// Each address once, and the line that asks for it. As for Go's listeners `0.0.0.0` is every address, IPv6's included.
fn places(block: &ServerBlock, port: u16) -> Vec<(SocketAddr, &Place)> {
    let all = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    if block.bound().is_empty() {
        return vec![(all, &block.place)];
    }
    let mut places: Vec<(SocketAddr, &Place)> = Vec::with_capacity(block.bound().len());
    for BindAddress { address: ListenIp { ip, scope_id }, place } in block.bound() {
        let address = match *ip {
            ip if ip.is_unspecified() => all,
            IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), port),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, *scope_id)),
        };
        if !places.iter().any(|(other, _)| *other == address) {
            places.push((address, place));
        }
    }
    places
}

/// The addresses by which the cluster may know this server.
pub(crate) fn known_addresses(block: &ServerBlock) -> Vec<IpAddr> {
    let is_everywhere = block.bound().iter().any(|bind| bind.address.ip.is_unspecified());
    let listens: Vec<IpAddr> = if block.bound().is_empty() || is_everywhere {
        if_addrs::get_if_addrs()
            .map(|interfaces| interfaces.iter().map(if_addrs::Interface::ip).collect())
            .unwrap_or_default()
    } else {
        block.bound().iter().map(|bind| bind.address.ip).collect()
    };
    // Another machine cannot reach a link-local IPv6 address by its number alone.
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let is_known = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified() && !is_link_local(ip);
    listens.into_iter().filter(is_known).collect()
}

impl Asked {
    /// A pair of sockets for each shard.
    ///
    /// # Errors
    /// Why there are none, and what to do about it.
    pub(crate) async fn bind(&self, shards: usize) -> anyhow::Result<Vec<ListenerSockets>> {
        socket::until_released(|| bind_or_fall_back(self.address, shards))
            .await
            .map_err(|error| anyhow::Error::msg(self.explain(&error)))
    }

    /// What an operator can do about an address that cannot be had.
    fn explain(&self, error: &io::Error) -> String {
        let Self { address, place, names_port } = self;
        let port = address.port();
        let advice = match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::AddrInUse, _) => in_use(*address, *names_port),
            (io::ErrorKind::PermissionDenied, _) if port < 1024 => format!(
                "ports below 1024 need CAP_NET_BIND_SERVICE, or `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
            ),
            (io::ErrorKind::PermissionDenied, _) => {
                "a security policy of this machine forbids it, such as SELinux's: see its log".into()
            }
            (io::ErrorKind::AddrNotAvailable, _) => {
                "no interface of this machine has the address: see `bind` in the Corefile, and `ip address`".into()
            }
            (_, Some(libc::EAFNOSUPPORT)) => {
                "the kernel has no IPv6: delete the address from `bind` in the Corefile".into()
            }
            (_, Some(libc::EINVAL)) if is_link_local_of_no_interface(*address) => {
                "a link-local address needs its interface: write the interface's name instead, such as `bind eth0`".into()
            }
            (_, Some(libc::EMFILE | libc::ENFILE)) => {
                "raise the limit of open files: `ulimit -n`".into()
            }
            _ => "see `bind` and the ports in the Corefile".into(),
        };
        format!("{place}: cannot listen on {address}: {error}\n  {advice}")
    }
}

/// Machines without IPv6 listen on all of IPv4.
fn bind_or_fall_back(address: SocketAddr, shards: usize) -> io::Result<Vec<ListenerSockets>> {
    match socket::bind(address, shards) {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && matches!(
                    error.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) =>
        {
            let all = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            socket::bind(all, shards)
        }
        result => result,
    }
}

/// Who has the port, and how to serve nevertheless.
fn in_use(address: SocketAddr, names_port: bool) -> String {
    let port = address.port();
    let is_ours = ports::is_ours_alone(address, ports::PortProtocol::Tcp);
    if is_ours && !ports::is_of_others(address, ports::PortProtocol::Udp) {
        return "`health`, `ready` or `prometheus` of this Corefile has it: give one of them another port".into();
    }
    let who = match ports::holder(address, &[ports::PortProtocol::Udp, ports::PortProtocol::Tcp]) {
        Some(Holder { pid, command }) => format!("`{command}`, process {pid}, has it: stop it"),
        None => {
            format!("another server has it: `ss -lnptu 'sport = :{port}'` names it; stop it")
        }
    };
    let other_address = if address.ip().is_unspecified() {
        "`bind` to the addresses that are free"
    } else {
        "`bind` to another address"
    };
    let other_port = if names_port {
        "write another port behind the zone"
    } else {
        "serve another port with `-dns.port`"
    };
    format!("{who}, {other_address}, or {other_port}")
}

fn is_link_local_of_no_interface(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}
