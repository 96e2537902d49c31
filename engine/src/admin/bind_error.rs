//! Why an endpoint could not listen, and what to do about it.
//!
//! Invariant: the first line is CoreDNS's, so that scripts which search for it find it. The lines
//! below name the cause and the next step.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::endpoint::EndpointKind;
use crate::ports::{Holder, PortProtocol, holder};

/// An endpoint that cannot listen.
#[derive(Debug)]
pub struct BindError {
    pub plugin: EndpointKind,
    /// As written in the Corefile.
    pub address: String,
    /// `FILE:LINE` of the directive; empty if there is none.
    pub place: String,
    pub cause: BindCause,
}

/// Why the address cannot be bound.
#[derive(Debug)]
pub enum BindCause {
    /// Neither `HOST:PORT` nor `:PORT`.
    Malformed,
    /// The host has no address.
    Unresolved(io::Error),
    /// Another process listens there; `None` if it is not visible.
    InUse(Option<Holder>),
    /// The port is below 1024 and the process lacks the capability, or a security policy denies it.
    Denied,
    /// No interface of this host has the address.
    NotLocal,
    Other(io::Error),
}

impl BindCause {
    pub(super) fn of(error: io::Error, address: SocketAddr) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(holder(address, &[PortProtocol::Tcp])),
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::AddrNotAvailable => Self::NotLocal,
            _ => Self::Other(error),
        }
    }
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, address, place, cause } = self;
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        let name = plugin.name();
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let example = plugin.default_address();
        match cause {
            BindCause::Malformed => write!(
                f,
                "plugin/{name}: address {address}: not HOST:PORT\n\
                 Write a host and a port, or a port alone, such as `{name} {example}`."
            ),
            BindCause::Unresolved(error) => write!(
                f,
                "plugin/{name}: listen tcp {address}: {error}\n\
                 Write an IP address, or check what the name resolves to: getent hosts HOST"
            ),
            BindCause::InUse(holder) => {
                writeln!(f, "plugin/{name}: listen tcp {address}: bind: address already in use")?;
                match holder {
                    Some(Holder { pid, .. }) if *pid == std::process::id() => {
                        return write!(
                            f,
                            "This server already listens on port {port}: give `{name}` another \
                             port, such as `{name} {example}`."
                        );
                    }
                    Some(Holder { pid, command }) => {
                        write!(f, "`{command}` (process {pid}) listens on port {port}. ")?;
                    }
                    None => {
                        write!(f, "The process that listens there is not visible from here: it ")?;
                        write!(f, "belongs to another user, or to another container on this ")?;
                        write!(f, "host's network. ")?;
                    }
                }
                let is_ringdns = holder.as_ref().is_some_and(|one| one.command == "ringdns");
                let take_over =
                    if is_ringdns { ", take over from it with `--take-over`" } else { "" };
                write!(
                    f,
                    "Stop it{take_over}, or give `{name}` another address in the Corefile.\n\
                     To list the processes on that port: ss -ltnp 'sport = :{port}'"
                )
            }
            BindCause::Denied if port.parse::<u16>().is_ok_and(|port| port >= 1024) => write!(
                f,
                "plugin/{name}: listen tcp {address}: bind: permission denied\n\
                 A security policy of this host, such as SELinux, denies it: check its log."
            ),
            BindCause::Denied => write!(
                f,
                "plugin/{name}: listen tcp {address}: bind: permission denied\n\
                 Ports below 1024 need the capability NET_BIND_SERVICE (in a container: \
                 securityContext.capabilities.add).\n\
                 Or use a port from 1024 up, such as `{name} {example}`."
            ),
            BindCause::NotLocal => write!(
                f,
                "plugin/{name}: listen tcp {address}: bind: cannot assign requested address\n\
                 No interface of this host has the address. To list them: ip -brief address"
            ),
            BindCause::Other(error) => {
                write!(f, "plugin/{name}: listen tcp {address}: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_names_the_plugin_the_address_and_a_remedy() {
        let holder = Holder { pid: 7, command: "coredns".to_owned() };
        let this = Holder { pid: std::process::id(), command: "ringdns".to_owned() };
        for (cause, words) in [
            (BindCause::Malformed, "such as `health :8080`"),
            (BindCause::Unresolved(io::ErrorKind::NotFound.into()), "getent hosts"),
            (BindCause::InUse(Some(holder)), "`coredns` (process 7) listens on port 99"),
            (BindCause::InUse(Some(this)), "This server already listens on port 99"),
            (BindCause::InUse(None), "ss -ltnp 'sport = :99'"),
            (BindCause::Denied, "NET_BIND_SERVICE"),
            (BindCause::NotLocal, "ip -brief address"),
        ] {
            let error = BindError {
                plugin: EndpointKind::Health,
                address: "h:99".to_owned(),
                place: String::new(),
                cause,
            };
            let text = error.to_string();
            assert!(text.starts_with("plugin/health: "), "{text}");
            assert!(text.lines().next().is_some_and(|line| line.contains("h:99")), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }
}
