//! `[HOST]:PORT`, the address that an HTTP endpoint listens on: the argument of `health`, `ready`
//! and `prometheus`. Host names are not looked up here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::corefile::Context;
use crate::corefile::report::Refusal;
use crate::corefile::statement::Statement;
use crate::corefile::word::{nearest, quoted};

/// The address that an HTTP endpoint listens on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpAddress {
    pub host: Host,
    pub port: u16,
}

/// The host of an HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Every address of the machine, IPv6 and IPv4.
    Every,
    Ip(IpAddr),
    /// Looked up when the endpoint starts to listen.
    Name(String),
}

impl std::fmt::Display for HttpAddress {
    /// In the form that a listener needs: `:8080`, `127.0.0.1:8080`, `[::1]:8080`,
    /// `localhost:8080`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Every => write!(f, ":{}", self.port),
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// The only argument of a directive, or the default.
pub(crate) fn argument(
    statement: &Statement,
    default: HttpAddress,
    usage: &str,
    context: &mut Context<'_>,
) -> HttpAddress {
    match statement.args.as_slice() {
        [] => default,
        [word] => match read_address(&word.text) {
            Ok(address) => address,
            Err(refusal) => {
                context.refuse(word.span, refusal);
                default
            }
        },
        [_, _, ..] => {
            statement.wrong_count(1, usage, context);
            default
        }
    }
}

/// `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.
pub(crate) fn read_address(text: &str) -> Result<HttpAddress, Refusal> {
    let word = quoted(text);
    let refuse =
        |why: &str| Refusal::new(format!("address {word}: {why}"), "not an address to listen on");
    let Some((host, port)) = text.rsplit_once(':') else {
        let help = if text.parse::<u16>().is_ok() {
            format!("write `:{word}`")
        } else {
            format!("write `{word}:PORT`")
        };
        return Err(refuse("missing port in address").help(help));
    };
    let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if unbracketed.is_none() && host.contains(':') {
        return Err(refuse("too many colons in address")
            .help("write an IPv6 address in brackets: `[::1]:8080`"));
    }
    let Ok(port) = port.parse::<u16>() else {
        return Err(refuse("invalid port").help("a port is a number from 0 to 65535"));
    };
    let host = match unbracketed.unwrap_or(host) {
        "" => Host::Every,
        "localhost" => Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => match (host.parse::<IpAddr>(), unbracketed) {
            (Ok(ip), _) => Host::Ip(ip),
            (Err(_), None) if is_host_name(host) && !is_misspelt_localhost(host) => {
                Host::Name(host.to_owned())
            }
            (Err(_), _) => {
                let help = "write an IP address, a host's name, or nothing for every address";
                let meant = is_misspelt_localhost(host).then_some("did you mean `localhost`?");
                return Err(refuse("no such host").help(meant.unwrap_or(help)));
            }
        },
    };
    Ok(HttpAddress { host, port })
}

/// Whether a name is a valid host name (RFC 1123, section 2.1). A name of only digits and dots is
/// not: it was meant as an address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_of_it = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        !label.is_empty() && label.len() <= 63 && label.chars().all(is_of_it)
    };
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    text.len() <= 253
        && text.trim_end_matches('.').split('.').all(is_label)
        && !text.chars().all(is_number)
}

/// `localhost4` and `localhost6` are names on some systems.
fn is_misspelt_localhost(host: &str) -> bool {
    !host.starts_with("localhost") && nearest(host, ["localhost"]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        // Some are displayed in another form than they were written.
        let check = |text: &str, expected: Option<&str>| {
            let found = read_address(text).ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        for same in [
            ":8080",
            "127.0.0.1:9153",
            "0.0.0.0:9153",
            "[::1]:8080",
            "ip6-localhost:80",
            "localhost6:80",
        ] {
            check(same, Some(same));
        }
        check("localhost:9153", Some("127.0.0.1:9153"));
        check("node-1.example.org.:80", Some("node-1.example.org.:80"));
        for refused in [
            "",
            "8080",
            "localhost",
            "::1:8080",
            "a:b",
            ":99999",
            "1.2.3:80",
            "a b:80",
            "[a]:80",
            "localhst:80",
        ] {
            check(refused, None);
        }
    }
}
