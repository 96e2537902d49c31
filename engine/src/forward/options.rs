//! The options of one `forward` line. The plugin parses them. Invariant: plain data; nothing is
//! resolved or loaded yet.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::corefile::Place;
use crate::corefile::value::target::Target;
use crate::corefile::value::zone::Zone;

/// One `forward` line; defaults in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardOptions {
    pub place: Place,
    /// The zones whose names are forwarded, with CIDRs expanded; at least one.
    pub from: Vec<Zone>,
    /// Zones below `from` that are not forwarded.
    pub except: Vec<Zone>,
    /// 1 to 15, in the order of the line, without duplicates.
    pub to: Vec<Target>,
    /// [as the client asked]
    pub transport: UpstreamTransport,
    /// [random]
    pub policy: Policy,
    /// How long an idle connection is kept [10 s].
    pub expire: Duration,
    /// How long any connection is kept, at least `expire` [no bound].
    pub max_age: Option<Duration>,
    /// Idle connections kept per upstream [no bound but ours].
    pub max_idle_conns: Option<usize>,
    /// Failed health checks in a row after which an upstream is down; 0: never [2].
    pub max_fails: u32,
    /// Tries of one question without a response; 0: no bound but time and ours [0].
    pub max_connect_attempts: u32,
    /// `tls` [none]
    pub tls: Option<UpstreamTls>,
    /// The place of the `tls` option.
    pub tls_place: Option<Place>,
    /// The name in the certificate of TLS upstreams whose target has no name of its own.
    pub tls_servername: Option<String>,
    pub health_check: HealthCheck,
    /// Questions in flight; beyond it clients get REFUSED [no bound but ours].
    pub max_concurrent: Option<usize>,
    /// Response codes after which the block's next `forward` line is tried.
    pub next: Vec<u16>,
    /// NODATA counts as such a code.
    pub next_on_nodata: bool,
    /// Response codes after which the next upstream is tried.
    pub failover: Vec<u16>,
    /// SERVFAIL if all upstreams are down, instead of trying one.
    pub failfast_all_unhealthy_upstreams: bool,
    pub source_address: Option<IpAddr>,
    /// Time for one upstream's response [2 s].
    pub read_timeout: Duration,
    /// Servers that resolve host names in `to` [the system's].
    pub resolver: Vec<SocketAddr>,
    /// `hedge` (ours): whether a second upstream is asked before the first has failed [`None`:
    /// unless the policy is sequential].
    pub hedge: Option<bool>,
    /// `randomize_case` (ours): 0x20, the letter case of the question is random and must come back
    /// unchanged [off].
    pub randomize_case: bool,
    /// `truncated pass` (ours): a truncated response goes to the client as it is. Otherwise the
    /// query is sent again over TCP.
    pub passes_truncated: bool,
    /// `cancel` of the block: time for a question, if that is less than ours [none].
    pub cancel_after: Option<Duration>,
}

/// The transport of queries to plain DNS upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTransport {
    /// The client's transport.
    AsAsked,
    /// `force_tcp`
    Tcp,
    /// `prefer_udp`: UDP, and TCP after a truncated response.
    Udp,
}

/// The order in which upstreams are tried.
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

/// How health checks query an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// At least 10 ms [0.5 s].
    pub every: Duration,
    /// [yes]
    pub recursion_desired: bool,
    /// The domain whose NS records are queried [the root].
    pub domain: Zone,
}

impl ForwardOptions {
    pub(crate) fn with_defaults(place: Place, from: Vec<Zone>, to: Vec<Target>) -> Self {
        Self {
            place,
            from,
            except: Vec::new(),
            to,
            transport: UpstreamTransport::AsAsked,
            policy: Policy::Random,
            expire: Duration::from_secs(10),
            max_age: None,
            max_idle_conns: None,
            max_fails: 2,
            max_connect_attempts: 0,
            tls: None,
            tls_place: None,
            tls_servername: None,
            health_check: HealthCheck {
                every: Duration::from_millis(500),
                recursion_desired: true,
                domain: Zone::root(),
            },
            max_concurrent: None,
            next: Vec::new(),
            next_on_nodata: false,
            failover: Vec::new(),
            failfast_all_unhealthy_upstreams: false,
            source_address: None,
            read_timeout: Duration::from_secs(2),
            resolver: Vec::new(),
            hedge: None,
            randomize_case: false,
            passes_truncated: false,
            cancel_after: None,
        }
    }

    /// Whether the block's next `forward` line never gets a name of this zone.
    pub(crate) fn takes_all_of(&self, zone: &Zone) -> bool {
        let passes_on = !self.next.is_empty() || self.next_on_nodata;
        !passes_on
            && self.from.iter().any(|from| from.contains(zone))
            && !self.except.iter().any(|except| except.contains(zone) || zone.contains(except))
    }
}
