//! `health`, `ready` and `prometheus`: where their HTTP endpoints listen, and what they are asked
//! to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::duration;
use super::report::Refusal;
use super::statement::{Setting, SettingOutcome, Statement};
use super::word::{nearest, quoted};
use super::{Context, Place, ServerBlock};

/// Where an HTTP endpoint listens.
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
    /// Is looked up when it is listened on.
    Name(String),
}

impl std::fmt::Display for HttpAddress {
    /// As a listener takes it: `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Every => write!(f, ":{}", self.port),
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// `health`: always 200; on termination the server goes on answering for `lameduck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub address: HttpAddress,
    /// Of its line.
    pub place: Place,
    pub lameduck: Duration,
}

/// `ready`: 503 until every plugin of every block is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub address: HttpAddress,
    /// Of its line.
    pub place: Place,
    pub monitor: Monitor,
}

/// How long a plugin is asked whether it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Monitor {
    /// Until it first was.
    #[default]
    UntilReady,
    Continuously,
}

/// `prometheus`: metrics of the blocks that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    pub address: HttpAddress,
    /// Of its line.
    pub place: Place,
}

const HEALTH_DEFAULT: HttpAddress = HttpAddress { host: Host::Every, port: 8080 };
const READY_DEFAULT: HttpAddress = HttpAddress { host: Host::Every, port: 8181 };
const PROMETHEUS_DEFAULT: HttpAddress =
    HttpAddress { host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 9153 };

pub(super) const HEALTH_USAGE: &str = "health [[HOST]:PORT] { lameduck DURATION }";
pub(super) const HEALTH_SETTINGS: &[Setting<Health>] = &[Setting {
    name: "lameduck",
    usage: "lameduck DURATION",
    outcome: SettingOutcome::Sets(lameduck),
}];

/// Several `health`s in a block are one: the last address and the last `lameduck` count.
pub(super) fn read_health(
    statement: &Statement,
    block: &mut ServerBlock,
    context: &mut Context<'_>,
) {
    let place = context.place(statement.name.span);
    let default = Health { address: HEALTH_DEFAULT, place, lameduck: Duration::ZERO };
    let mut health = block.health.take().unwrap_or(default);
    health.address = address(statement, health.address, HEALTH_USAGE, context);
    statement.read_settings(HEALTH_SETTINGS, &mut health, context);
    block.health = Some(health);
}

fn lameduck(line: &Statement, health: &mut Health, context: &mut Context<'_>) {
    let Some([word]) = line.exactly("lameduck DURATION", context) else { return };
    match duration::read(&word.text) {
        Ok(lameduck) => health.lameduck = lameduck,
        Err(refusal) => {
            let message = format!(
                "unable to parse lameduck duration value: '{}' : {}",
                quoted(&word.text),
                refusal.message
            );
            context.refuse(word.span, Refusal { message, ..refusal });
        }
    }
}

pub(super) const READY_USAGE: &str = "ready [[HOST]:PORT] { monitor until-ready|continuously }";
pub(super) const READY_SETTINGS: &[Setting<Ready>] = &[Setting {
    name: "monitor",
    usage: "monitor until-ready|continuously",
    outcome: SettingOutcome::Sets(monitor),
}];

pub(super) fn read_ready(
    statement: &Statement,
    block: &mut ServerBlock,
    context: &mut Context<'_>,
) {
    let address = address(statement, READY_DEFAULT, READY_USAGE, context);
    let place = context.place(statement.name.span);
    let mut ready = Ready { address, place, monitor: Monitor::UntilReady };
    statement.read_settings(READY_SETTINGS, &mut ready, context);
    block.ready = Some(ready);
}

fn monitor(line: &Statement, ready: &mut Ready, context: &mut Context<'_>) {
    let Some([word]) = line.exactly("monitor until-ready|continuously", context) else { return };
    match word.text.as_str() {
        "until-ready" => ready.monitor = Monitor::UntilReady,
        "continuously" => ready.monitor = Monitor::Continuously,
        other => {
            let message = format!("monitor type '{}' not supported", quoted(other));
            let refusal = Refusal::new(message, "no such monitor")
                .help("write `until-ready` or `continuously`");
            context.refuse(word.span, refusal);
        }
    }
}

pub(super) const PROMETHEUS_USAGE: &str = "prometheus [[HOST]:PORT]";
pub(super) const PROMETHEUS_SETTINGS: &[Setting<Prometheus>] = &[
    Setting {
        name: "runtime_metrics",
        usage: "runtime_metrics",
        outcome: SettingOutcome::NotBuilt(
            "delete the line: these are metrics of Go's runtime, and ringdns has none",
        ),
    },
    Setting {
        name: "tls",
        usage: "tls FILE",
        outcome: SettingOutcome::NotBuilt("delete the line: metrics are served over plain HTTP"),
    },
];

pub(super) fn read_prometheus(
    statement: &Statement,
    block: &mut ServerBlock,
    context: &mut Context<'_>,
) {
    let address = address(statement, PROMETHEUS_DEFAULT, PROMETHEUS_USAGE, context);
    let place = context.place(statement.name.span);
    let mut prometheus = Prometheus { address, place };
    statement.read_settings(PROMETHEUS_SETTINGS, &mut prometheus, context);
    block.prometheus = Some(prometheus);
}

/// The one argument that all three take, or the default.
fn address(
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
fn read_address(text: &str) -> Result<HttpAddress, Refusal> {
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
            .help("an IPv6 address stands in brackets: `[::1]:8080`"));
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

/// Whether a name may be a host's (RFC 1123, section 2.1), which one of nothing but digits and dots is not: it was meant as an
/// address.
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

/// `localhost4` and `localhost6` are names that systems have.
fn is_misspelt_localhost(host: &str) -> bool {
    !host.starts_with("localhost") && nearest(host, ["localhost"]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        // Some are written another way than they are shown.
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
