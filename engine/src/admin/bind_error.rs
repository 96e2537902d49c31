//! Why an endpoint could not listen, and what to do about it.
//!
//! The first line is CoreDNS's, so that what looks for it finds it; the lines below say who is in the way and the next step.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;

use super::endpoint::Plugin;

/// An endpoint that cannot listen.
#[derive(Debug)]
pub struct BindError {
    pub plugin: Plugin,
    /// As the Corefile has it.
    pub address: String,
    pub cause: BindCause,
}

/// What is in the way.
#[derive(Debug)]
pub enum BindCause {
    /// No `HOST:PORT` and no `:PORT`.
    Malformed,
    /// The host has no address.
    Unresolved(io::Error),
    /// Someone listens there; `None` where it cannot be seen who.
    InUse(Option<Holder>),
    /// The port is below 1024 and the process may not.
    Denied,
    /// No interface of this host has the address.
    NotLocal,
    Other(io::Error),
}

/// The process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
}

impl BindCause {
    pub(super) fn of(error: io::Error, address: SocketAddr) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(holder(address.port())),
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::AddrNotAvailable => Self::NotLocal,
            _ => Self::Other(error),
        }
    }
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, address, cause } = self;
        let name = plugin.name();
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let example = plugin.default_address();
        match cause {
            BindCause::Malformed => write!(
                f,
                "plugin/{name}: address {address}: no HOST:PORT\n\
                 Write a host and a port, or a port alone, such as `{name} {example}`."
            ),
            BindCause::Unresolved(error) => write!(
                f,
                "plugin/{name}: listen tcp {address}: {error}\n\
                 Write an IP address, or see what the name comes to: getent hosts HOST"
            ),
            BindCause::InUse(holder) => {
                writeln!(f, "plugin/{name}: listen tcp {address}: bind: address already in use")?;
                match holder {
                    Some(Holder { pid, command }) => {
                        write!(f, "`{command}`, process {pid}, listens on port {port}. ")?;
                    }
                    None => {
                        write!(f, "Who listens there cannot be seen from here: another user's ")?;
                        write!(f, "process, or another container's on this host's network. ")?;
                    }
                }
                write!(
                    f,
                    "Stop it, or give `{name}` another address in the Corefile.\n\
                     To see all who listen there: ss -ltnp 'sport = :{port}'"
                )
            }
            BindCause::Denied => write!(
                f,
                "plugin/{name}: listen tcp {address}: bind: permission denied\n\
                 Ports below 1024 take the capability NET_BIND_SERVICE (in a container: \
                 securityContext.capabilities.add).\n\
                 To do without: a port from 1024 on, such as `{name} {example}`."
            ),
            BindCause::NotLocal => write!(
                f,
                "plugin/{name}: listen tcp {address}: bind: cannot assign requested address\n\
                 No interface of this host has it; those it has: ip -brief address"
            ),
            BindCause::Other(error) => {
                write!(f, "plugin/{name}: listen tcp {address}: {error}")
            }
        }
    }
}

/// The process that listens on this TCP port, if it can be seen: its socket in /proc/net, then whose descriptor that is.
fn holder(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let sockets: Vec<String> = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|target| {
                sockets.iter().any(|socket| target.as_os_str() == socket.as_str())
            })
        })
    })?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, command: command.trim().to_owned() })
}

/// The inodes of listening sockets in /proc/net/tcp's text. Columns: slot, local address, remote address, state (0A is
/// listening), queues, timer, retransmits, user, timeout, inode.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let mut inodes = Vec::new();
    for line in table.lines() {
        let mut columns = line.split_ascii_whitespace();
        let (Some(local), Some(state)) = (columns.nth(1), columns.nth(1)) else { continue };
        let local_port =
            local.rsplit_once(':').and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
        if local_port == Some(port) && state == "0A" {
            inodes.extend(columns.nth(5).and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_by_its_columns() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n\
            2: 0100007F:1F91 00000000:0000 0A\n";
        assert_eq!(listening_inodes(table, 8080), [4711]);
        assert!(listening_inodes(table, 8081).is_empty());
        assert!(listening_inodes("", 8080).is_empty());
    }

    #[test]
    fn every_cause_names_the_plugin_the_address_and_a_way_out() {
        let holder = Holder { pid: 7, command: "coredns".to_owned() };
        for (cause, words) in [
            (BindCause::Malformed, "such as `health :8080`"),
            (BindCause::Unresolved(io::ErrorKind::NotFound.into()), "getent hosts"),
            (BindCause::InUse(Some(holder)), "`coredns`, process 7, listens on port 99"),
            (BindCause::InUse(None), "ss -ltnp 'sport = :99'"),
            (BindCause::Denied, "NET_BIND_SERVICE"),
            (BindCause::NotLocal, "ip -brief address"),
        ] {
            let error = BindError { plugin: Plugin::Health, address: "h:99".to_owned(), cause };
            let text = error.to_string();
            assert!(text.starts_with("plugin/health: "), "{text}");
            assert!(text.lines().next().is_some_and(|line| line.contains("h:99")), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }
}
