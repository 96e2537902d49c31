//! What a run does: the flags after validation.
//!
//! Invariant: a `Plan` can be run as it is; nothing validates it again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::cli::{Family, RunFlags};
use crate::flag_error::FlagError;
use crate::flight::SOCKET_OUTSTANDING_MAX;
use crate::schedule::{Rate, Spacing};
use crate::tally::LATENCY_NS_MAX;
use crate::transport::{Mode, Transport};
use crate::workload::mix::Mix;
use crate::workload::{ENTRY_COUNT_MAX, Options};

/// Longest run, if nothing else bounds it.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long the queries of --from are sent, unless a flag says otherwise.
const GENERATED_LIMIT_SECS: f64 = 10.0;
/// Sockets and connections of a run: below the usual limit on open files once it is raised.
pub const SOCKET_COUNT_MAX: usize = 60_000;
/// Queries in flight over all sockets.
pub const OUTSTANDING_MAX: u32 = 1 << 22;

#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    Closed,
    Open { rate: Rate, spacing: Spacing },
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub server: SocketAddr,
    /// Local address of the first socket; if it has a port, the others use the ports after it.
    pub local: Option<SocketAddr>,
    pub mode: Mode,
    pub load: Load,
    /// Valid: at least 1.
    pub thread_count: usize,
    /// Cores to pin the threads to, in turn; empty: none.
    pub cores: Vec<usize>,
    /// Sockets or connections of all threads, per transport. Valid: at least `thread_count`.
    pub socket_count: usize,
    pub buffer_len: usize,
    /// Queries in flight, all threads together. If there are fewer than sockets, the sockets take
    /// turns. Valid: at least `thread_count`.
    pub outstanding_max: u32,
    /// How long queries are sent: at most as long as the rate says.
    pub duration: Duration,
    pub sends_max: u64,
    pub timeout: Duration,
    pub late_after: Duration,
    pub seed: u64,
    pub spin: bool,
    /// UDP: send messages of one length as one buffer, which the kernel cuts.
    pub is_segmenting: bool,
    /// TCP: open a new connection after this many queries; `u64::MAX`: never.
    pub reconnect_after: u64,
    pub server_pid: Option<u32>,
}

impl RunFlags {
    pub fn message_options(&self) -> Options {
        Options { edns: self.edns || self.dnssec_ok, dnssec_ok: self.dnssec_ok }
    }

    /// How to generate queries for a cluster.
    pub fn mix(&self) -> Result<Mix, FlagError> {
        let shares = [
            ("--external", self.external),
            ("--nxdomain", self.nxdomain),
            ("--mixed-case", self.mixed_case),
            ("--edns-share", self.edns_share),
        ];
        for (flag, share) in shares {
            range((0.0..=1.0).contains(&share), flag, "a share from 0 to 1")?;
        }
        range(
            self.external + self.nxdomain <= 1.0,
            "--external and --nxdomain",
            "at most 1 together",
        )?;
        range((0.0..=10.0).contains(&self.zipf), "--zipf", "0 to 10")?;
        range((1..=ENTRY_COUNT_MAX / 8).contains(&self.messages), "--messages", "1 to 1250000")?;
        let options = self.message_options();
        Ok(Mix {
            profile: self.profile,
            external: self.external,
            nxdomain: self.nxdomain,
            mixed_case: self.mixed_case,
            edns: if options.edns { 1.0 } else { self.edns_share },
            dnssec_ok: options.dnssec_ok,
            zipf: self.zipf,
            messages: self.messages,
            seed: self.seed,
        })
    }

    /// Validates the flags; `message_count` is the length of the workload.
    pub fn plan(&self, message_count: usize) -> Result<Plan, FlagError> {
        let mode = self.mode()?;
        let clients = self.clients.unwrap_or(self.threads);
        range((1..=1024).contains(&self.threads), "-T", "1 to 1024")?;
        range((1..=SOCKET_COUNT_MAX).contains(&clients), "-c", "1 to 60000")?;
        range((1..=1 << 20).contains(&self.buffer), "-b", "1 to 1048576")?;
        range(self.reconnect != Some(0), "--reconnect", "at least 1")?;
        range(self.runs != Some(0), "-n", "at least 1")?;
        range(self.count != Some(0), "--count", "at least 1")?;
        let is_stats_ok = self.stats.is_none_or(|secs| (1.0..=86_400.0).contains(&secs));
        range(is_stats_ok, "-S", "1 to 86400 seconds")?;
        range(
            self.dnsperf || !self.histogram,
            "--histogram",
            "with --dnsperf, whose block it adds to",
        )?;
        range(
            self.reconnect.is_none() || mode.includes(Transport::Tcp),
            "--reconnect",
            "with -m tcp or --tcp-share: datagrams have no connection",
        )?;
        range(
            self.reconnect.is_none() || self.local_port.is_none(),
            "-x",
            "without --reconnect: a port cannot be reused at once",
        )?;
        let timeout =
            secs(self.timeout, "-t", "above 0 and at most 60", LATENCY_NS_MAX as f64 / 1e9)?;
        let late_after =
            secs(self.late_after / 1e3, "--late-after", "above 0 and at most 60000", 60.0)?;
        let rate_duration = self.rate_duration();
        // A query file is sent once, as dnsperf does; generated queries have no natural end.
        let generated_limit = (!self.from.is_empty()
            && self.runs.is_none()
            && self.count.is_none()
            && rate_duration == Duration::MAX)
            .then_some(GENERATED_LIMIT_SECS);
        let limit = self
            .limit
            .or(generated_limit)
            .map(|limit| secs(limit, "-l", "above 0 and at most 86400", DURATION_MAX.as_secs_f64()))
            .transpose()?;
        let has_end = limit.is_some() || self.count.is_some() || rate_duration < Duration::MAX;
        let runs = self.runs.or_else(|| (!has_end).then_some(1));
        let server = self.server()?;
        let from_runs = runs.map_or(u64::MAX, |runs| runs.saturating_mul(message_count as u64));
        Ok(Plan {
            server,
            local: self.local(server, clients)?,
            mode,
            load: match self.rate.clone() {
                Some(rate) => Load::Open { rate, spacing: self.spacing },
                None => Load::Closed,
            },
            thread_count: self.threads,
            cores: self.cores.clone(),
            socket_count: clients,
            buffer_len: self.buffer * 1024,
            outstanding_max: self.outstanding_max(clients)?,
            duration: limit.unwrap_or(DURATION_MAX).min(rate_duration),
            sends_max: from_runs.min(self.count.unwrap_or(u64::MAX)),
            timeout,
            late_after,
            seed: self.seed,
            spin: self.spin,
            is_segmenting: !self.no_gso,
            reconnect_after: self.reconnect.unwrap_or(u64::MAX),
            server_pid: self.server_pid,
        })
    }

    fn mode(&self) -> Result<Mode, FlagError> {
        let Some(tcp_share) = self.tcp_share else { return Ok(Mode::One(self.mode)) };
        let is_share = tcp_share > 0.0 && tcp_share < 1.0;
        range(is_share, "--tcp-share", "above 0 and below 1; -m tcp sends all over TCP")?;
        Ok(Mode::Both { tcp_share })
    }

    fn outstanding_max(&self, clients: usize) -> Result<u32, FlagError> {
        let outstanding_max = self.outstanding.unwrap_or_else(|| match &self.rate {
            Some(_) => (clients as u32).saturating_mul(SOCKET_OUTSTANDING_MAX).min(OUTSTANDING_MAX),
            None => 100.max(clients as u32),
        });
        range((1..=OUTSTANDING_MAX).contains(&outstanding_max), "-q", "1 to 4194304")?;
        range(
            u64::from(outstanding_max) <= clients as u64 * u64::from(SOCKET_OUTSTANDING_MAX),
            "-q",
            "at most 32768 for each socket (-c), half of the 65536 query ids",
        )?;
        if clients < self.threads {
            return Err(FlagError::FewerClientsThanThreads);
        }
        if (outstanding_max as usize) < self.threads {
            return Err(FlagError::FewerOutstandingThanThreads);
        }
        Ok(outstanding_max)
    }

    /// `Duration::MAX`: the rate has no end of its own.
    fn rate_duration(&self) -> Duration {
        let end_ns = self.rate.as_ref().and_then(Rate::duration_ns);
        end_ns.map_or(Duration::MAX, Duration::from_nanos)
    }

    fn server(&self) -> Result<SocketAddr, FlagError> {
        let host = self.server.as_deref().unwrap_or("127.0.0.1");
        let fail = |reason: String| FlagError::Server { host: host.to_owned(), reason };
        let addresses = (host, self.port.unwrap_or(53))
            .to_socket_addrs()
            .map_err(|error| fail(error.to_string()))?;
        let fits = |address: &SocketAddr| match self.family {
            Family::Any => true,
            Family::Inet => address.is_ipv4(),
            Family::Inet6 => address.is_ipv6(),
        };
        addresses
            .into_iter()
            .find(fits)
            .ok_or_else(|| fail("the host has no address of the family given by -f".to_owned()))
    }

    /// Local address of the first socket.
    fn local(&self, server: SocketAddr, clients: usize) -> Result<Option<SocketAddr>, FlagError> {
        if self.local.is_none() && self.local_port.is_none() {
            return Ok(None);
        }
        let address = self.local.unwrap_or_else(|| any_address(server));
        range(address.is_ipv4() == server.is_ipv4(), "-a", "an address of the server's family")?;
        let port = self.local_port.unwrap_or(0);
        let last = usize::from(port) + clients - 1;
        range(
            last <= usize::from(u16::MAX),
            "-x",
            "low enough to leave a port for each socket (-c)",
        )?;
        Ok(Some(SocketAddr::new(address, port)))
    }
}

/// Any local address of the server's family.
pub(crate) fn any_address(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn range(is_ok: bool, flag: &'static str, range: &'static str) -> Result<(), FlagError> {
    if is_ok { Ok(()) } else { Err(FlagError::OutOfRange { flag, range }) }
}

fn secs(
    value: f64,
    flag: &'static str,
    range: &'static str,
    max: f64,
) -> Result<Duration, FlagError> {
    // Written so that NaN is rejected too.
    if value > 0.0 && value <= max {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(FlagError::OutOfRange { flag, range })
    }
}
