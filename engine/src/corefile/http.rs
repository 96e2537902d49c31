//! `health`, `ready` and `prometheus`: where their HTTP endpoints listen, and what they are asked
//! to do.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::duration;
use super::report::Refusal;
use super::statement::{Setting, SettingOutcome, Statement};
use super::word::{nearest, quoted};
use super::{Context, Place, ServerBlock};

/// Where an HTTP endpoint listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HttpAddress {
    /// `None` is every address of the machine, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    pub port: u16,
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

const HEALTH_DEFAULT: HttpAddress = HttpAddress { ip: None, port: 8080 };
const READY_DEFAULT: HttpAddress = HttpAddress { ip: None, port: 8181 };
const PROMETHEUS_DEFAULT: HttpAddress =
    HttpAddress { ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 9153 };

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
    let ip = match unbracketed.unwrap_or(host) {
        "" => None,
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => match host.parse::<IpAddr>() {
            Ok(ip) => Some(ip),
            Err(_) => {
                let meant =
                    nearest(host, ["localhost"]).map(|name| format!("did you mean `{name}`?"));
                let help = "write an IP address, `localhost`, or nothing for every address";
                return Err(refuse("no such host").help(meant.unwrap_or_else(|| help.to_owned())));
            }
        },
    };
    Ok(HttpAddress { ip, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<(Option<&str>, u16)>| {
            let expected = expected.map(|(ip, port)| HttpAddress {
                ip: ip.map(|ip| ip.parse().expect("an address")),
                port,
            });
            assert_eq!(read_address(text).ok(), expected, "{text}");
        };
        check(":8080", Some((None, 8080)));
        check("127.0.0.1:9153", Some((Some("127.0.0.1"), 9153)));
        check("0.0.0.0:9153", Some((Some("0.0.0.0"), 9153)));
        check("[::1]:8080", Some((Some("::1"), 8080)));
        check("localhost:9153", Some((Some("127.0.0.1"), 9153)));
        for refused in ["", "8080", "localhost", "::1:8080", "a:b", "example.org:80", ":99999"] {
            check(refused, None);
        }
    }
}
