//! Sockets for the addresses that a plan listens on, and why one is unavailable.
//!
//! Invariant: each error names the line of the Corefile, the cause, and what to do next.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use engine::corefile::value::key::Scheme;
use engine::io::socket::{self, PortClaim, ShardSockets};
use engine::plan::draft::Listen;
use engine::ports::{self, Holder, PortProtocol};

/// For each address a pair of sockets per shard. None stays open while another's address is in
/// use: what it receives meanwhile would be lost if the reload fails.
///
/// # Errors
/// Why an address is unavailable, and what to do about it.
pub(crate) async fn bind<'l>(
    listens: &[&'l Listen],
    shards: usize,
    claim: PortClaim,
) -> anyhow::Result<Vec<Vec<ShardSockets>>> {
    let failed = Cell::new(None);
    let bind_one = |listen: &&'l Listen| {
        bind_or_fall_back(listen, shards, claim).inspect_err(|_| failed.set(Some(*listen)))
    };
    let bind_all = || listens.iter().map(bind_one).collect::<io::Result<Vec<_>>>();
    socket::until_released(bind_all).await.map_err(|error| match failed.get() {
        Some(listen) => anyhow::Error::msg(explain(listen, &error)),
        None => error.into(),
    })
}

/// Logs that another process has the address too.
pub(crate) fn log_company(address: SocketAddr) {
    let other = match ports::holder(address, &PortProtocol::ALL) {
        Some(Holder { pid, command }) if pid != std::process::id() => {
            format!("`{command}`, process {pid}")
        }
        Some(_) | None => "another process".to_owned(),
    };
    tracing::warn!(
        "{address}: shared with {other}, which has the port too; send it SIGTERM, and this process \
         serves alone"
    );
}

/// What an operator can do about an unavailable address.
fn explain(listen: &Listen, error: &io::Error) -> String {
    let Listen { address, place, names_port, .. } = listen;
    let port = address.port();
    let advice = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::AddrInUse, _) => in_use(*address, *names_port),
        (io::ErrorKind::PermissionDenied, _) if port < 1024 => format!(
            "ports below 1024 need CAP_NET_BIND_SERVICE: in Kubernetes \
             `capabilities: {{add: [NET_BIND_SERVICE]}}` in the container's securityContext, \
             elsewhere `setcap cap_net_bind_service=+p ringdns`; or \
             `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
        ),
        (io::ErrorKind::PermissionDenied, _) => {
            "a security policy of this machine forbids it, such as SELinux's: see its log".into()
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "no interface of this machine has the address: see `bind` in the Corefile, and \
             `ip address`"
                .into()
        }
        (_, Some(libc::EAFNOSUPPORT)) => {
            "the kernel has no IPv6: delete the address from `bind` in the Corefile".into()
        }
        (_, Some(libc::EINVAL)) if is_link_local_without_interface(*address) => {
            "a link-local address needs its interface: write the interface's name instead, such as \
             `bind eth0`"
                .into()
        }
        (_, Some(libc::EMFILE | libc::ENFILE)) => {
            "raise the limit of open files: `ulimit -n`".into()
        }
        _ => "see `bind` and the ports in the Corefile".into(),
    };
    format!("{place}: cannot listen on {address}: {error}\n  {advice}")
}

/// Machines without IPv6 listen on all of IPv4.
fn bind_or_fall_back(
    listen: &Listen,
    shards: usize,
    claim: PortClaim,
) -> io::Result<Vec<ShardSockets>> {
    let address = listen.address;
    let bind = match listen.scheme {
        Scheme::Tls | Scheme::Https => socket::bind_streams,
        Scheme::Dns | Scheme::Quic | Scheme::Grpc | Scheme::Https3 => socket::bind,
    };
    match bind(address, shards, claim) {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && matches!(
                    error.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) =>
        {
            let all = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind(all, shards, claim)
        }
        result => result,
    }
}

/// Which process has the port, and what to do about it.
fn in_use(address: SocketAddr, names_port: bool) -> String {
    let port = address.port();
    let is_ours = ports::is_ours_alone(address, PortProtocol::Tcp);
    if is_ours && !ports::is_of_others(address, PortProtocol::Udp) {
        return "`health`, `ready` or `prometheus` of this Corefile has it: give one of them \
                another port"
            .into();
    }
    let holder = match ports::holder(address, &PortProtocol::ALL) {
        Some(Holder { pid, command }) if command == "ringdns" => format!(
            "`{command}`, process {pid}, has it: stop it, take over from it with `--take-over`"
        ),
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
        "write another port after the zone"
    } else {
        "serve another port with `-dns.port`"
    };
    format!("{holder}, {other_address}, or {other_port}")
}

fn is_link_local_without_interface(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}
