//! The name servers of a resolv.conf file, as addresses that a socket can connect to.
//!
//! Invariant: a line that cannot be used is reported and skipped; it never invalidates the file.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use resolv_conf::{Config, ParseError, ScopedIp};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

const DNS_PORT: u16 = 53;

/// The name servers of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NameServers {
    /// In the file's order, each once.
    pub(super) addresses: Vec<SocketAddr>,
    /// Link-local addresses whose interface is missing.
    pub(super) unreachable: Vec<SocketAddr>,
    /// Messages about lines that cannot be used.
    pub(super) problems: Vec<String>,
}

/// Why an address cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AddressError {
    NoInterface {
        address: Ipv6Addr,
        interface: String,
    },
    /// A link-local address that names no interface.
    InterfaceMissing(Ipv6Addr),
}

/// Reads the `nameserver` lines. All others configure the search list and the resolver library.
pub(super) fn name_servers(text: &[u8]) -> NameServers {
    const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut found = NameServers::default();
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
        match name_server(line) {
            None => {}
            Some(Ok(address)) if found.addresses.contains(&address) => {}
            Some(Ok(address)) => found.addresses.push(address),
            Some(Err(problem)) => {
                found.problems.push(format!("line {number}: {problem}"));
                if let Problem::Address(error) = problem {
                    found.unreachable.push(error.bare(DNS_PORT));
                }
            }
        }
    }
    found
}

/// What is wrong with a line.
enum Problem {
    NoAddress(String),
    Address(AddressError),
}

fn name_server(line: &[u8]) -> Option<Result<SocketAddr, Problem>> {
    let (config, errors) = Config::parse_with_errors(line);
    let (ip, interface) = match config.nameservers.into_iter().next() {
        Some(ScopedIp::V4(ip)) => (IpAddr::V4(ip), None),
        Some(ScopedIp::V6(ip, interface)) => (IpAddr::V6(ip), interface),
        None => {
            errors.iter().find(|error| matches!(error, ParseError::InvalidIp(..)))?;
            let text = str::from_utf8(line).ok()?.split([';', '#']).next()?;
            let word = text.trim().strip_prefix("nameserver")?.split_whitespace().next()?;
            // The crate accepts only letters and digits, but interfaces may be called br-lan or
            // eth0.100.
            let scoped = word.split_once('%').and_then(|(ip, interface)| {
                Some((ip.parse::<Ipv6Addr>().ok()?, interface.to_owned()))
            });
            let Some((ip, interface)) = scoped else {
                return Some(Err(Problem::NoAddress(word.to_owned())));
            };
            (IpAddr::V6(ip), Some(interface))
        }
    };
    Some(upstream_address(ip, interface.as_deref(), DNS_PORT).map_err(Problem::Address))
}

/// The address to connect to, from which responses will come. `interface`: a name or a number.
///
/// # Errors
/// The address needs an interface that is not named or does not exist.
pub(super) fn upstream_address(
    ip: IpAddr,
    interface: Option<&str>,
    port: u16,
) -> Result<SocketAddr, AddressError> {
    let ip = match ip.to_canonical() {
        // "This host" (RFC 1122, section 3.2.1.3): responses come from the loopback address.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    match (ip, interface) {
        (IpAddr::V6(ip), Some(interface)) if ip.is_unicast_link_local() => {
            match scope_id(interface) {
                Some(scope_id) => Ok(SocketAddrV6::new(ip, port, 0, scope_id).into()),
                None => {
                    Err(AddressError::NoInterface { address: ip, interface: interface.to_owned() })
                }
            }
        }
        (IpAddr::V6(ip), None) if ip.is_unicast_link_local() => {
            Err(AddressError::InterfaceMissing(ip))
        }
        // The kernel ignores the interface of other addresses.
        (ip, Some(_) | None) => Ok(SocketAddr::new(ip, port)),
    }
}

/// The index of an interface, given by number or name (RFC 4007, section 11.2).
fn scope_id(interface: &str) -> Option<u32> {
    interface.parse().ok().filter(|index| *index != 0).or_else(|| {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
        netdevice::name_to_index(any, interface).ok()
    })
}

impl AddressError {
    /// The address without its interface. Connecting to it fails, and the error says why.
    pub(super) fn bare(&self, port: u16) -> SocketAddr {
        match self {
            Self::NoInterface { address, .. } | Self::InterfaceMissing(address) => {
                SocketAddr::new(IpAddr::V6(*address), port)
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress(word) => write!(formatter, "`nameserver {word}` is not an IP address"),
            Self::Address(error) => write!(formatter, "{error}"),
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterface { address, interface } => write!(
                formatter,
                "{address}%{interface} cannot be reached: there is no interface {interface} here \
                 (`ip link` lists them; a pod has its own unless it runs with hostNetwork)"
            ),
            Self::InterfaceMissing(address) => write!(
                formatter,
                "{address} is a link-local address, which needs an interface: write it like \
                 {address}%eth0"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: impl AsRef<[u8]>, expected: &[&str], problems: &[&str]) {
        let text = text.as_ref();
        let expected: Vec<SocketAddr> =
            expected.iter().map(|address| address.parse().unwrap()).collect();
        let found = name_servers(text);
        let shown = String::from_utf8_lossy(text);
        assert_eq!(found.addresses, expected, "{shown}");
        assert_eq!(found.problems.len(), problems.len(), "{shown}: {:?}", found.problems);
        for (problem, expected) in found.problems.iter().zip(problems) {
            assert!(problem.contains(expected), "{shown}: {problem}");
        }
    }

    #[test]
    fn lines_of_all_kinds() {
        check(
            "# nameserver 10.0.0.9\n; nameserver 10.0.0.8\nsearch a.example b.example\n\
             nameserver 10.0.0.1\n  nameserver\t10.0.0.2 # the second\noptions ndots:5 new-option\n\
             sortlist 10.0.0.0/33\nnonsense\nnameserver 10.0.0.1\nnameserver fd00::1\n",
            &["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"],
            &[],
        );
        check("nameserver 127.0.0.53\r\noptions edns0 trust-ad\r\n", &["127.0.0.53:53"], &[]);
        check("\u{FEFF}nameserver 10.0.0.1\n", &["10.0.0.1:53"], &[]);
        check("nameserver 10.0.0.1", &["10.0.0.1:53"], &[]);
        check("nameserver 10.0.0.1;nameserver 10.0.0.2", &["10.0.0.1:53"], &[]);
        // Only the first word counts, as in every resolver.
        check("nameserver 10.0.0.1 10.0.0.2", &["10.0.0.1:53"], &[]);
        check("", &[], &[]);
        check("search cluster.local\noptions ndots:5", &[], &[]);
        check("nameserver\nNAMESERVER 1.1.1.1\n", &[], &[]);
        check(b"nameserver \xFF\nnameserver 10.0.0.1", &["10.0.0.1:53"], &[]);
        check(
            "nameserver dns.example\nnameserver 10.0.0.300\nnameserver 10.0.0.1:5353\n\
             nameserver 10.0.0.2",
            &["10.0.0.2:53"],
            &["line 1: `nameserver dns.example` is not", "line 2: ", "line 3: "],
        );
    }

    #[test]
    fn unspecified_and_mapped_addresses_are_normalized() {
        check("nameserver ::ffff:10.0.0.1\nnameserver 10.0.0.1", &["10.0.0.1:53"], &[]);
        check("nameserver 0.0.0.0\nnameserver ::", &["127.0.0.1:53", "[::1]:53"], &[]);
    }

    #[test]
    fn link_local_addresses_need_an_interface() {
        check("nameserver fe80::1%7\n", &["[fe80::1%7]:53"], &[]);
        check("nameserver fe80::1%lo\n", &["[fe80::1%1]:53"], &[]);
        check("nameserver fe80::1%no-such#7\n", &[], &["interface no-such here"]);
        check(
            "nameserver fe80::1%no-such.0\nnameserver fe80::2%none0\nnameserver fe80::3%0\n\
             nameserver fe80::4\n",
            &[],
            &["line 1: fe80::1%no-such.0 cannot", "interface none0", "interface 0", "fe80::4%eth0"],
        );
        // Other addresses need no interface.
        check("nameserver fd00::1%none0", &["[fd00::1]:53"], &[]);
        check("nameserver 10.0.0.1%eth0", &[], &["line 1: `nameserver 10.0.0.1%eth0` is not"]);
    }
}
