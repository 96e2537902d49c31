//! The upstreams of a `forward` as its line names them: addresses, hosts and files. No name is
//! looked up here and no file is read.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::zone::{Zone, oddity};
use crate::corefile::report::Refusal;
use crate::corefile::word::{nearest, quoted};

/// One word after the zone of a `forward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `IP[:PORT]` or `dns://IP[:PORT]`
    Dns(SocketAddr),
    /// `IP%INTERFACE[:PORT]`: a link-local address with the interface's name or number, which is
    /// looked up when the Corefile is loaded.
    LinkLocal { ip: Ipv6Addr, interface: String, port: u16 },
    /// `tls://IP[:PORT][%NAME]`
    Tls { address: SocketAddr, server_name: Option<String> },
    /// A host's name, looked up when the Corefile is loaded.
    Host { name: String, port: u16, is_tls: bool },
    /// A file in the format of resolv.conf: its nameservers, read again when it changes. The path
    /// is relative to the working directory of the process.
    ResolvConf(PathBuf),
}

/// Parses a word. A path contains a slash or names an existing file; any other word is a host's
/// name.
pub(crate) fn read(text: &str) -> Result<Target, Refusal> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let is_tls = match scheme {
        None | Some("dns") => false,
        Some("tls") => true,
        Some(scheme @ ("https" | "quic")) => return Err(not_built(scheme)),
        Some(other) => return Err(unsupported(other, text)),
    };
    if rest.is_empty() {
        let message = format!("invalid address: \"{}\"", quoted(text));
        return Err(Refusal::new(message, "not an address").help(FORMS));
    }
    if scheme.is_none() && rest.contains('/') {
        return Ok(Target::ResolvConf(PathBuf::from(rest)));
    }
    let TargetParts { host, port, server_name } = split(rest).ok_or_else(|| not_a_target(text))?;
    let port = match port {
        None if is_tls => TLS_PORT,
        None => DNS_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            Ok(_) | Err(_) => {
                let message = format!("invalid port in \"{}\"", quoted(text));
                return Err(Refusal::new(message, "not a port")
                    .help("a port is a number from 1 to 65535 after the last colon"));
            }
        },
    };
    match (host.parse::<IpAddr>(), server_name) {
        (Ok(IpAddr::V6(ip)), Some(interface)) if !is_tls => {
            Ok(if ip.is_unicast_link_local() {
                Target::LinkLocal { ip, interface: interface.to_owned(), port }
            } else {
                // An interface is part of a link-local address only.
                Target::Dns(SocketAddr::new(IpAddr::V6(ip), port))
            })
        }
        (Ok(_), Some(name)) if !is_tls => Err(only_over_tls(text, name)),
        (Ok(ip), server_name) => {
            let address = SocketAddr::new(ip.to_canonical(), port);
            Ok(match is_tls {
                true => Target::Tls { address, server_name: server_name.map(str::to_owned) },
                false => Target::Dns(address),
            })
        }
        (Err(_), Some(_)) => Err(not_a_target(text)
            .help("the host's own name is verified; to verify another, write `tls_servername`")),
        (Err(_), None) if scheme.is_none() && Path::new(text).is_file() => {
            Ok(Target::ResolvConf(PathBuf::from(text)))
        }
        (Err(_), None) if is_host_name(host) => {
            Ok(Target::Host { name: host.to_owned(), port, is_tls })
        }
        (Err(_), None) => Err(not_a_target(text)),
    }
}

const DNS_PORT: u16 = 53;
const TLS_PORT: u16 = 853;
const FORMS: &str = "write an IP address, `IP:PORT`, `[IPv6]:PORT`, `tls://IP%NAME`, a host's name \
     or the path of a resolv.conf";

struct TargetParts<'t> {
    /// Without brackets; may not be an address.
    host: &'t str,
    /// May not be a number.
    port: Option<&'t str>,
    /// After a `%`: the server's name, or the interface of an IPv6 address without TLS.
    server_name: Option<&'t str>,
}

/// `HOST`, `HOST:PORT`, `HOST%NAME`, `HOST%NAME:PORT`, `HOST:PORT%NAME`. An IPv6 address before a
/// port is in brackets, with the name inside or outside of them.
fn split(text: &str) -> Option<TargetParts<'_>> {
    let Some((before, name)) = text.rsplit_once('%') else {
        let (host, port) = split_port(text)?;
        return Some(TargetParts { host, port, server_name: None });
    };
    let (name, outer_port) = match name.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (name, None),
    };
    let (name, (host, inner_port)) = match name.strip_suffix(']') {
        Some(name) => (name, (before.strip_prefix('[')?, None)),
        None => (name, split_port(before)?),
    };
    if name.is_empty() || (inner_port.is_some() && outer_port.is_some()) {
        return None;
    }
    Some(TargetParts { host, port: outer_port.or(inner_port), server_name: Some(name) })
}

fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// Whether the last label is all digits: then it is a mistyped address.
fn is_host_name(text: &str) -> bool {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    Zone::from_name(text).is_ok()
        && oddity(text).is_none()
        && !text.contains('/')
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

fn not_a_target(text: &str) -> Refusal {
    let message = format!("not an IP address, file, or valid domain: \"{}\"", quoted(text));
    Refusal::new(message, "not an upstream").help(FORMS)
}

fn only_over_tls(text: &str, name: &str) -> Refusal {
    let message = format!("'%{}' without TLS: \"{}\"", quoted(name), quoted(text));
    Refusal::new(message, "only TLS verifies a server's name")
        .help("write `tls://` before the address")
}

fn not_built(scheme: &str) -> Refusal {
    let message = format!("'{scheme}://' is known but not built yet");
    Refusal::new(message, "not in this version of ringdns")
        .help("this version sends queries over UDP, TCP and TLS: write `tls://` or no scheme")
}

fn unsupported(scheme: &str, text: &str) -> Refusal {
    let message = format!(
        "'{}' is not supported as a destination protocol in forward: {}",
        quoted(scheme),
        quoted(text)
    );
    let refusal = Refusal::new(message, "unsupported protocol");
    match nearest(scheme, ["dns", "tls"]) {
        Some(meant) => refusal.help(format!("did you mean `{meant}://`?")),
        None => refusal.help("write `tls://`, or no scheme for UDP and TCP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match read(text) {
            Ok(Target::Dns(address)) => format!("dns {address}"),
            Ok(Target::Tls { address, server_name }) => {
                format!("tls {address} {}", server_name.unwrap_or_default())
            }
            Ok(Target::LinkLocal { ip, interface, port }) => {
                format!("link {ip} {interface} {port}")
            }
            Ok(Target::Host { name, port, is_tls }) => format!("host {name} {port} {is_tls}"),
            Ok(Target::ResolvConf(path)) => format!("file {}", path.display()),
            Err(refusal) => refusal.message,
        };
        assert_eq!(found.trim_end(), expected, "{text}");
    }

    #[test]
    fn link_local_addresses() {
        check("fe80::1%eth0", "link fe80::1 eth0 53");
        check("dns://fe80::1%2", "link fe80::1 2 53");
        check("[fe80::1%br-lan]:5353", "link fe80::1 br-lan 5353");
        check("[fe80::1]%eth0.100:5353", "link fe80::1 eth0.100 5353");
        check("fe80::1", "dns [fe80::1]:53");
        check("2001:db8::1%eth0", "dns [2001:db8::1]:53");
        check("tls://fe80::1%dns.example", "tls [fe80::1]:853 dns.example");
    }

    #[test]
    fn targets() {
        check("1.1.1.1", "dns 1.1.1.1:53");
        check("1.1.1.1:5353", "dns 1.1.1.1:5353");
        check("dns://1.1.1.1", "dns 1.1.1.1:53");
        check("2001:db8::1", "dns [2001:db8::1]:53");
        check("[2001:db8::1]", "dns [2001:db8::1]:53");
        check("dns://[2001:db8::1]:5353", "dns [2001:db8::1]:5353");
        check("::ffff:192.0.2.1", "dns 192.0.2.1:53");
        check("tls://9.9.9.9", "tls 9.9.9.9:853");
        check("tls://9.9.9.9:53", "tls 9.9.9.9:53");
        check("tls://9.9.9.9%dns.quad9.net", "tls 9.9.9.9:853 dns.quad9.net");
        check("tls://9.9.9.9%dns.quad9.net:10853", "tls 9.9.9.9:10853 dns.quad9.net");
        check("tls://9.9.9.9:10853%dns.quad9.net", "tls 9.9.9.9:10853 dns.quad9.net");
        check("tls://2620:fe::fe%dns.quad9.net", "tls [2620:fe::fe]:853 dns.quad9.net");
        check("tls://[2620:fe::fe%dns.quad9.net]:8853", "tls [2620:fe::fe]:8853 dns.quad9.net");
        check("tls://[2620:fe::fe]:8853%dns.quad9.net", "tls [2620:fe::fe]:8853 dns.quad9.net");
        check("tls://[2620:fe::fe]%dns.quad9.net:8853", "tls [2620:fe::fe]:8853 dns.quad9.net");
        check("/etc/resolv.conf", "file /etc/resolv.conf");
        check("./upstreams", "file ./upstreams");
        check("Cargo.toml", "file Cargo.toml"); // the test's folder is the crate's
        check("dns.google", "host dns.google 53 false");
        check("dns.google.:5353", "host dns.google. 5353 false");
        check("tls://one.one.one.one", "host one.one.one.one 853 true");
        let nowhere = |text: &str| {
            check(text, &format!("not an IP address, file, or valid domain: \"{text}\""));
        };
        for text in [
            "1.1.1.300",
            "1.1.1.1.",
            "1::2::3",
            "a..b",
            "[::1",
            "[::1]x",
            "::1]:53",
            "a:b:53",
            "tls://9.9.9.9%",
            "tls://9.9.9.9:1%a:2",
            "tls://9.9.9.9%a]:1",
            "tls://a%b",
            "dns:///f",
        ] {
            nowhere(text);
        }
        check("", "invalid address: \"\"");
        check("tls://", "invalid address: \"tls://\"");
        check("1.1.1.1:0", "invalid port in \"1.1.1.1:0\"");
        check("dns.google:x", "invalid port in \"dns.google:x\"");
        check("1.1.1.1%eth0", "'%eth0' without TLS: \"1.1.1.1%eth0\"");
        check("https://1.1.1.1", "'https://' is known but not built yet");
        check("quic://1.1.1.1", "'quic://' is known but not built yet");
        check(
            "grpc://1.1.1.1",
            "'grpc' is not supported as a destination protocol in forward: grpc://1.1.1.1",
        );
    }
}
