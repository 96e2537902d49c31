//! The flags of node mode: those of NodeLocal DNSCache's node-cache.
//!
//! Invariant: as in `cli`, of which this is a part.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{BOOL, parse_bool};
use crate::corefile::value::duration;
use crate::corefile::value::http_address::{HttpAddress, read_address};
use crate::limits::INTERFACE_NAME_LEN_MAX;

/// Node mode.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Node mode: a server on every node")]
pub struct NodeOptions {
    /// Addresses that this process adds to its node, such as 169.254.20.10,10.96.0.10. It turns
    /// node mode on. `bind` in the Corefile decides on which of them it answers.
    #[arg(long = "localip", value_name = "IP,…", value_delimiter = ',', value_parser = parse_ip)]
    pub local_ips: Vec<IpAddr>,

    /// Interface that gets the addresses. It is made if it is missing, and removed by the last
    /// process that uses it.
    #[arg(
        long = "interfacename",
        value_name = "NAME",
        default_value = "nodelocaldns",
        value_parser = parse_interface_name
    )]
    pub interface_name: String,

    /// Add the addresses to the interface.
    #[arg(
        long = "setupinterface",
        value_name = BOOL,
        default_value = "true"
    )]
    pub has_interface: bool,

    /// Keep DNS at the addresses out of connection tracking, with rules of nftables that end with
    /// the process.
    #[arg(
        long = "setupiptables",
        value_name = BOOL,
        default_value = "true"
    )]
    pub has_rules: bool,

    /// Leave the interface at shutdown.
    #[arg(
        long = "skipteardown",
        value_name = BOOL,
        default_value = "false",
        hide_default_value = true
    )]
    pub skips_take_down: bool,

    /// Seconds between two checks of the interface.
    #[arg(
        long = "syncinterval",
        value_name = "SECONDS",
        default_value = "60",
        value_parser = parse_seconds
    )]
    pub sync_interval: Duration,

    /// Base Corefile, which is rendered in memory and loaded instead of -conf's [default:
    /// /etc/coredns/Corefile.base if it exists].
    #[arg(long = "basecorefile", value_name = "FILE", requires = "local_ips")]
    pub base_corefile: Option<PathBuf>,

    /// Folder with the mounted ConfigMap of kube-dns, whose stub domains and upstreams are rendered
    /// into the base Corefile [default: /etc/kube-dns if it exists].
    #[arg(long = "kubednscm", value_name = "FOLDER", requires = "local_ips")]
    pub kube_dns_folder: Option<PathBuf>,

    /// Service of the cluster's DNS servers. Its address comes from the environment, and replaces
    /// `__PILLAR__CLUSTER__DNS__` in the base Corefile.
    #[arg(long = "upstreamsvc", value_name = "SERVICE", default_value = "kube-dns")]
    pub upstream_service: String,

    /// Follow changes of the base Corefile and of the ConfigMap without the plugin `reload`.
    #[arg(
        long = "reloadwithsignal",
        value_name = BOOL,
        default_value = "false",
        hide_default_value = true
    )]
    pub reloads_with_signal: bool,

    /// Serve the metrics at this address, too. Without a host it is every address of the node.
    #[arg(
        long = "metrics-listen-address",
        value_name = "[HOST]:PORT",
        requires = "local_ips",
        value_parser = parse_http_address
    )]
    pub metrics_address: Option<HttpAddress>,

    /// Port of `health`, which is kept out of connection tracking too.
    #[arg(long = "health-port", value_name = "PORT", default_value_t = 8080)]
    pub health_port: u16,

    #[command(flatten)]
    pub ignored: IgnoredOptions,
}

/// Flags of node-cache that change nothing, here or there.
#[derive(Clone, Debug, Args)]
pub struct IgnoredOptions {
    /// -conf takes precedence over it, always.
    #[arg(long, value_name = "FILE", hide = true)]
    pub corefile: Option<PathBuf>,

    /// The rules are in force once the sockets are open.
    #[arg(long = "initialdelay", value_name = "SECONDS", hide = true)]
    pub initial_delay: Option<String>,

    /// Rules for bridges are not built.
    #[arg(
        long = "setupebtables",
        value_name = "false",
        hide = true,
        num_args(0..=1),
        require_equals = true,
        default_missing_value = "true",
        value_parser = parse_no_bridge_rules
    )]
    pub has_bridge_rules: Option<bool>,
}

fn parse_no_bridge_rules(text: &str) -> Result<bool, String> {
    match parse_bool(text)? {
        false => Ok(false),
        true => Err("rules of ebtables are not built: leave it out".into()),
    }
}

/// One that a node can have: no other machine sends to it, or all do.
fn parse_ip(text: &str) -> Result<IpAddr, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            Err("expected an address of one machine".into())
        }
        Ok(ip) => Ok(ip),
        Err(_) => Err("expected IP addresses with commas between them".into()),
    }
}

fn parse_http_address(text: &str) -> Result<HttpAddress, String> {
    read_address(text).map_err(|_| "expected [HOST]:PORT, such as :9353 or 127.0.0.1:9353".into())
}

/// The kernel's rules for names: `dev_valid_name`.
fn parse_interface_name(text: &str) -> Result<String, String> {
    let is_valid = (1..=INTERFACE_NAME_LEN_MAX).contains(&text.len())
        && ![".", ".."].contains(&text)
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err("expected at most 15 letters and digits".into())
    }
}

/// A number of seconds, with or without a unit. node-cache demands a unit, and its help says
/// seconds, but it takes the nanoseconds for seconds: `60ns`.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix("ns").unwrap_or(text).parse::<u32>();
    let interval = match seconds {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => duration::read(text).ok(),
    };
    let interval = interval.filter(|interval| *interval >= Duration::from_secs(1));
    interval.ok_or_else(|| "expected a number of seconds, such as 60 or 60s".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn parse(arguments: &[&str]) -> Result<NodeOptions, clap::Error> {
        let node = ["ringdns", "--localip", "169.254.20.10,10.96.0.10"];
        let arguments = node.iter().chain(arguments);
        clap::Parser::try_parse_from(arguments).map(|cli: Cli| cli.node)
    }

    #[test]
    fn intervals() {
        for (text, expected) in [
            ("60", Some(60)),
            ("60s", Some(60)),
            ("60ns", Some(60)),
            ("2m", Some(120)),
            ("0", None),
            ("0ns", None),
            ("500ms", None),
            ("-1", None),
            ("x", None),
        ] {
            let options = parse(&[&format!("--syncinterval={text}")]).ok();
            let seconds = options.map(|options| options.sync_interval.as_secs());
            assert_eq!(seconds, expected, "{text}");
        }
    }

    #[test]
    fn metrics_addresses() {
        for (text, expected) in [
            (":9353", Some(":9353")),
            ("0.0.0.0:9353", Some("0.0.0.0:9353")),
            ("[::1]:9353", Some("[::1]:9353")),
            ("localhost:9353", Some("127.0.0.1:9353")),
            ("9353", None),
            ("127.0.0.1", None),
            (":65536", None),
        ] {
            let options = parse(&[&format!("--metrics-listen-address={text}")]).ok();
            let address = options.and_then(|options| options.metrics_address);
            let shown = address.map(|address| address.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn every_flag_of_node_cache_is_accepted() {
        let options = parse(&[
            "--interfacename=nodelocaldns",
            "--setupinterface=true",
            "--setupiptables=false",
            "--setupebtables=false",
            "--skipteardown=false",
            "--syncinterval=60ns",
            "--initialdelay=10ns",
            "--health-port=8080",
            "--basecorefile=/etc/coredns/Corefile.base",
            "--corefile=/etc/Corefile",
            "--kubednscm=/etc/kube-dns",
            "--upstreamsvc=kube-dns-upstream",
            "--metrics-listen-address=0.0.0.0:9353",
            "--reloadwithsignal",
        ])
        .unwrap();
        assert!(!options.has_rules && options.has_interface && options.reloads_with_signal);
        assert_eq!(options.upstream_service, "kube-dns-upstream");
        let refused = parse(&["--setupebtables"]).unwrap_err().to_string();
        assert!(refused.contains("rules of ebtables are not built"), "{refused}");
    }

    #[test]
    fn what_needs_node_mode_says_so() {
        for flag in ["--basecorefile=x", "--kubednscm=x", "--metrics-listen-address=[::]:9353"] {
            let refused = <Cli as clap::Parser>::try_parse_from(["ringdns", flag]).unwrap_err();
            assert!(refused.to_string().contains("--localip"), "{refused}");
        }
    }
}
