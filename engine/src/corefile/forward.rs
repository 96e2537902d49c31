//! `forward`: names that others know, and the servers that are asked for them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Place;
use super::zone::Zone;

/// One `forward` line; defaults in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    pub place: Place,
    /// The zones whose names are forwarded, a CIDR expanded; at least one.
    pub from: Vec<Zone>,
    /// Zones below `from` that are not.
    pub except: Vec<Zone>,
    /// 1 to 15, in the order of the line.
    pub to: Vec<Target>,
    /// [as the client asked]
    pub transport: Transport,
    /// [random]
    pub policy: Policy,
    /// How long an idle connection is kept [10 s].
    pub expire: Duration,
    /// How long any connection is kept [no bound].
    pub max_age: Option<Duration>,
    /// Idle connections that are kept for each upstream [no bound but ours].
    pub max_idle_conns: Option<usize>,
    /// Failures in a row that make an upstream down; 0: never [2].
    pub max_fails: u32,
    /// Upstreams tried for one question; 0: until the time is over [0].
    pub max_connect_attempts: u32,
    /// `tls` [none]
    pub tls: Option<UpstreamTls>,
    /// The name that TLS upstreams must prove, where the target has none of its own.
    pub tls_servername: Option<String>,
    pub health_check: HealthCheck,
    /// Questions on their way at once; past it REFUSED [no bound but ours].
    pub max_concurrent: Option<usize>,
    /// Response codes after which the next `forward` of the block is asked.
    pub next: Vec<u16>,
    /// NODATA, too.
    pub next_on_nodata: bool,
    /// Response codes after which the next upstream is asked.
    pub failover: Vec<u16>,
    /// SERVFAIL when all upstreams are down, instead of trying one.
    pub failfast_all_unhealthy_upstreams: bool,
    pub source_address: Option<IpAddr>,
    /// For one upstream's answer [2 s].
    pub read_timeout: Duration,
    /// Servers that hostnames in `to` are looked up at [the system's].
    pub resolver: Vec<SocketAddr>,
    /// `hedge off` (ours): no second upstream before the first has timed out [on].
    pub hedge: bool,
    /// `randomize_case` (ours): 0x20, the question's case is drawn at random and must come back the same [off].
    pub randomize_case: bool,
    /// `truncated pass` (ours): a cut answer goes to the client as it is; else it is asked for again over TCP.
    pub passes_truncated: bool,
}

/// Where a `forward` sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `IP[:PORT]` or `dns://IP[:PORT]`
    Dns(SocketAddr),
    /// `tls://IP[:PORT][%NAME]`
    Tls { address: SocketAddr, server_name: Option<String> },
    /// A host's name, looked up when the Corefile is put to work.
    Host { name: String, port: u16, is_tls: bool },
    /// A file like resolv.conf: its nameservers, read again when it changes.
    ResolvConf(PathBuf),
}

/// Over what upstreams are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP for a client that came over UDP, TCP for one that came over TCP.
    AsAsked,
    /// `force_tcp`
    Tcp,
    /// `prefer_udp`: UDP, and TCP for what does not fit.
    Udp,
}

/// Which upstream is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Random,
    RoundRobin,
    Sequential,
}

/// `tls [CERTIFICATE KEY] [CA]`: PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    pub client: Option<(PathBuf, PathBuf)>,
    /// [the system's certificates]
    pub authority: Option<PathBuf>,
}

/// How an upstream that failed is found to be well again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// [0.5 s]
    pub every: Duration,
    /// [yes]
    pub recursion_desired: bool,
    /// Whose NS records are asked for [the root].
    pub domain: Zone,
}
