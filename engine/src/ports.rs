//! The processes bound to a port of this machine, from the kernel's tables in /proc/net.
//!
//! Read only after an address was found in use. Invariant: unreadable entries are skipped; nothing
//! here fails.

use std::fs::{self, DirEntry};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Which of the kernel's tables to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortProtocol {
    Udp,
    /// Listening sockets only.
    Tcp,
}

impl PortProtocol {
    pub const ALL: [Self; 2] = [Self::Udp, Self::Tcp];
}

/// The process that is bound to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
}

/// A row of one of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SocketRow {
    address: IpAddr,
    inode: u64,
}

/// Whether this process, and no other, is bound to sockets that conflict with an address.
#[must_use]
pub fn is_ours_alone(address: SocketAddr, protocol: PortProtocol) -> bool {
    // Ours first: a shard may close a socket at any moment, which must not look like another's.
    let ours = inodes_of(Path::new("/proc/self/fd"));
    let mut inodes = overlapping(address, protocol).peekable();
    inodes.peek().is_some() && inodes.all(|inode| ours.contains(&inode))
}

/// Whether another process is bound to a socket that conflicts with an address.
#[must_use]
pub fn is_of_others(address: SocketAddr, protocol: PortProtocol) -> bool {
    let ours = inodes_of(Path::new("/proc/self/fd"));
    overlapping(address, protocol).any(|inode| !ours.contains(&inode))
}

/// Whether another process is bound to exactly this address: the kernel then spreads the clients
/// over both.
#[must_use]
pub fn is_shared(address: SocketAddr, protocol: PortProtocol) -> bool {
    let ours = inodes_of(Path::new("/proc/self/fd"));
    let at_port = rows(protocol, address.port());
    let is_same = |row: &SocketRow| row.address == address.ip().to_canonical();
    at_port.iter().filter(|row| is_same(row)).any(|row| !ours.contains(&row.inode))
}

/// A process whose socket conflicts with an address; this process only if there is no other.
/// Processes of other users and other containers are not visible.
#[must_use]
pub fn holder(address: SocketAddr, protocols: &[PortProtocol]) -> Option<Holder> {
    let inodes: Vec<u64> =
        protocols.iter().flat_map(|protocol| overlapping(address, *protocol)).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let this = std::process::id();
    let pid = pids.filter(|pid| *pid != this).chain([this]).find(|pid| {
        let theirs = inodes_of(Path::new(&format!("/proc/{pid}/fd")));
        theirs.iter().any(|inode| inodes.contains(inode))
    })?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, command: command.trim().to_owned() })
}

/// The inodes of a process's sockets. Reads the descriptors' links but never opens their targets,
/// which may be on a file system that hangs.
fn inodes_of(folder: &Path) -> Vec<u64> {
    let descriptors = fs::read_dir(folder).into_iter().flatten().flatten();
    let inode = |entry: DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    descriptors.filter_map(inode).collect()
}

/// The inodes of the sockets that conflict with an address.
fn overlapping(address: SocketAddr, protocol: PortProtocol) -> impl Iterator<Item = u64> {
    let rows = rows(protocol, address.port()).into_iter();
    rows.filter(move |row| overlap(row.address, address.ip())).map(|row| row.inode)
}

fn rows(protocol: PortProtocol, port: u16) -> Vec<SocketRow> {
    let paths = match protocol {
        PortProtocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        PortProtocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let tables = paths.iter().filter_map(|path| fs::read_to_string(path).ok());
    tables.flat_map(|table| rows_of(&table, protocol, port)).collect()
}

/// The rows of a port. Columns: slot, local address, remote address, state (0A is listening),
/// queues, timer, retransmits, user, timeout, inode.
fn rows_of(table: &str, protocol: PortProtocol, port: u16) -> Vec<SocketRow> {
    let row = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (local, state) = (columns.nth(1)?, columns.nth(1)?);
        let (address, local_port) = local.rsplit_once(':')?;
        if u16::from_str_radix(local_port, 16).ok()? != port
            || (protocol == PortProtocol::Tcp && state != "0A")
        {
            return None;
        }
        Some(SocketRow { address: address_of(address)?, inode: columns.nth(5)?.parse().ok()? })
    };
    table.lines().filter_map(row).collect()
}

/// An address in these tables: 32-bit words in hexadecimal, each in the machine's byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

/// Whether a packet could be for both addresses.
#[must_use]
pub fn overlap(one: IpAddr, other: IpAddr) -> bool {
    covers(one, other) || covers(other, one)
}

/// Whether every packet for `narrow` could also be for `wide`. `::` includes IPv4, as it does
/// unless its socket is set to IPv6 only.
#[must_use]
pub fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    let is_everywhere = match wide {
        IpAddr::V4(ip) => {
            ip.is_unspecified() && (narrow.is_ipv4() || narrow == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    wide == narrow || is_everywhere
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_kernels_table_is_read_by_its_columns() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
            retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 \
            00000000     0        0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 \
            00000000     0        0 4712 1 0 20 4 30 10 -1\n\
            2: 0100007F:1F91 00000000:0000 0A\n\
            3: 0100007F:1F92 00000000:0000 07 00000000:00000000 00:00000000 \
            00000000     0        0 4713 1 0\n";
        let check = |protocol, port, expected: &[u64]| {
            let inodes: Vec<_> =
                rows_of(table, protocol, port).iter().map(|row| row.inode).collect();
            assert_eq!(inodes, expected, "{protocol:?} {port}");
        };
        check(PortProtocol::Tcp, 8080, &[4711]);
        check(PortProtocol::Tcp, 8081, &[]);
        check(PortProtocol::Tcp, 8082, &[]);
        check(PortProtocol::Udp, 8082, &[4713]);
        assert!(rows_of("", PortProtocol::Udp, 8080).is_empty());
    }

    #[test]
    fn sockets_of_this_process_are_recognized() {
        for ip in ["127.0.0.9", "0.0.0.0", "::1", "::"].map(|ip| ip.parse::<IpAddr>().unwrap()) {
            let udp = UdpSocket::bind((ip, 0)).unwrap();
            let tcp = TcpListener::bind((ip, 0)).unwrap();
            let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
            assert!(is_ours_alone(udp_at, PortProtocol::Udp), "{udp_at}");
            assert!(is_ours_alone(tcp_at, PortProtocol::Tcp), "{tcp_at}");
            assert!(!is_of_others(udp_at, PortProtocol::Udp), "{udp_at}");
            assert!(!is_shared(udp_at, PortProtocol::Udp), "{udp_at}");
            let pid = |at| holder(at, &[PortProtocol::Udp]).map(|holder| holder.pid);
            assert_eq!(pid(udp_at), Some(std::process::id()));
            // Another address has no conflict, unless this is the wildcard.
            let beside = SocketAddr::new("127.0.0.10".parse().unwrap(), udp_at.port());
            assert_eq!(pid(beside).is_some(), ip.is_unspecified(), "{udp_at}");
            drop(udp);
            // A free port is not ours.
            assert!(!is_ours_alone(udp_at, PortProtocol::Udp), "{udp_at}");
        }
    }

    #[test]
    fn overlaps() {
        let check = |one: &str, other: &str, expected: bool| {
            let [one, other] = [one, other].map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
            // Of two different addresses only the wildcard covers the other.
            let by_one = expected && (one == other || one.is_unspecified());
            assert_eq!(covers(one, other), by_one, "{one} {other}");
        };
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0", "127.0.0.2", true);
        check("0.0.0.0", "::", true);
        check("0.0.0.0", "::1", false);
        check("::", "127.0.0.2", true);
        check("::", "::1", true);
        check("::1", "::2", false);
    }
}
