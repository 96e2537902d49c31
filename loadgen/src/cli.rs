//! Flags to a checked `Plan`. dnsperf's letters mean what they mean there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::dnsperf_flags::DnsperfOnly;
use crate::run::{Load, Plan, Transport};
use crate::schedule::{Rate, Spacing};
use crate::tally::LATENCY_NS_MAX;
use crate::workload::mix::{Mix, Profile};
use crate::workload::{ENTRY_COUNT_MAX, Options};

/// Longest run, when nothing else bounds it.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a tape that was drawn with --from is sent, when nothing else is said.
const DRAWN_LIMIT_SECS: f64 = 10.0;
/// Sockets and connections of a run: below the usual limit of open files once it is raised.
pub const SOCKET_COUNT_MAX: usize = 60_000;
/// Queries in flight in all sockets together.
pub const OUTSTANDING_MAX: u32 = 1 << 22;

#[derive(Parser, Debug)]
#[command(
    name = "loadgen",
    version,
    about = "Puts load on a DNS server and tells the truth about it",
    args_conflicts_with_subcommands = true,
    allow_negative_numbers = true,
    after_help = "Exit codes: 0 a report was made; 1 the run could not be made; 2 bad flags or input; 3 no answer at all; \
                  4 answers were not as --verify expects; 130 stopped by a signal (the report covers what was measured)"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Subcommand>,
    #[command(flatten)]
    pub run: RunFlags,
}

impl Cli {
    /// Of the command that was given.
    pub fn run_flags(&self) -> &RunFlags {
        match &self.command {
            Some(Subcommand::Compare(flags)) => &flags.run,
            None => &self.run,
        }
    }
}

#[derive(clap::Subcommand, Debug)]
pub enum Subcommand {
    /// Two or more servers under the same load, in turn
    Compare(Box<CompareFlags>),
}

#[derive(Args, Clone, Debug)]
pub struct CompareFlags {
    /// Servers: NAME=HOST:PORT, and @PID for the CPU time of an answer; the first is what the others are compared with
    #[arg(value_name = "SERVER")]
    pub servers: Vec<ServerSpec>,
    /// Start CoreDNS and ringdns here, on the cluster of --from
    #[arg(long, value_enum, conflicts_with = "servers")]
    pub against: Option<Against>,
    /// CoreDNS's binary [default: target/e2e/bin/coredns, which deploy/e2e/build.sh builds]
    #[arg(long, value_name = "PATH")]
    pub coredns: Option<PathBuf>,
    /// ringdns's binary [default: beside loadgen, then target/release/ringdns]
    #[arg(long, value_name = "PATH")]
    pub ringdns: Option<PathBuf>,
    /// With --against: the core that the servers are pinned to, in turn
    #[arg(long, value_name = "CORE")]
    pub server_core: Option<usize>,
    /// Rates to ask, rising
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "5k,10k,15k,20k,30k,40k,50k,60k,80k,100k,\
          150k,200k,250k,300k,350k,400k,450k,500k"
    )]
    pub rates: Vec<Rate>,
    /// Rounds at each rate
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// A rate is met when no greater share than this is lost
    #[arg(long, default_value_t = 0.001, value_name = "SHARE")]
    pub loss_max: f64,
    /// and p99 is at most so many milliseconds
    #[arg(long, default_value_t = 10.0, value_name = "MS")]
    pub p99_max: f64,
    #[command(flatten)]
    pub run: RunFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Against {
    Coredns,
}

/// `NAME=HOST:PORT[@PID]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    pub name: String,
    pub address: SocketAddr,
    pub pid: Option<u32>,
}

impl FromStr for ServerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').unwrap_or((text, text));
        let (address, pid) = match rest.split_once('@') {
            Some((address, pid)) => {
                (address, Some(pid.parse().map_err(|_| format!("'{pid}' is no process id"))?))
            }
            None => (rest, None),
        };
        let mut addresses = address
            .to_socket_addrs()
            .map_err(|error| format!("'{address}': {error}; write HOST:PORT"))?;
        let address = addresses.next().ok_or_else(|| format!("'{address}' has no address"))?;
        Ok(Self { name: name.to_owned(), address, pid })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    Any,
    Inet,
    Inet6,
}

#[derive(Args, Clone, Debug)]
pub struct RunFlags {
    /// The server: an address or a name [default: 127.0.0.1]
    #[arg(short = 's', long, value_name = "HOST")]
    pub server: Option<String>,
    /// Its port [default: 53]
    #[arg(short = 'p', long)]
    pub port: Option<u16>,
    /// Which addresses of a server's name to use
    #[arg(short = 'f', long, value_enum, default_value = "any")]
    pub family: Family,
    /// Transport: udp or tcp
    #[arg(short = 'm', long, value_parser = mode, default_value = "udp")]
    pub mode: Transport,
    /// The local address to send from
    #[arg(short = 'a', long, value_name = "ADDRESS")]
    pub local: Option<IpAddr>,
    /// The local port of the first socket; the others have the ports after it
    #[arg(short = 'x', long, value_name = "PORT")]
    pub local_port: Option<u16>,

    /// A query file: a name and a type on each line; - for standard input, which is read without -d and --from too
    #[arg(short = 'd', long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Ask the names of a cluster: manifests as kubectl prints them, files or folders
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "queries")]
    pub from: Vec<PathBuf>,
    /// The cluster's zone
    #[arg(long, default_value = "cluster.local")]
    pub zone: String,
    /// How a look-up becomes questions (with --from)
    #[arg(long, value_enum, default_value = "plain")]
    pub profile: Profile,
    /// Share of look-ups of names outside the cluster (with --from)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub external: f64,
    /// Share of look-ups of names that do not exist (with --from)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub nxdomain: f64,
    /// Share of look-ups in mixed case, 0x20 (with --from)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub mixed_case: f64,
    /// Share of look-ups with EDNS (with --from)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub edns_share: f64,
    /// Exponent of the names' popularity (with --from); 0: all alike
    #[arg(long, default_value_t = 1.0, value_name = "EXPONENT")]
    pub zipf: f64,
    /// Questions drawn before the run, then asked round and round (with --from)
    #[arg(long, default_value_t = 100_000, value_name = "COUNT")]
    pub messages: usize,
    /// Check the answers: lines of NAME TYPE RCODE and the addresses
    #[arg(long, value_name = "FILE")]
    pub verify: Option<PathBuf>,
    /// Ask with EDNS
    #[arg(short = 'e', long)]
    pub edns: bool,
    /// Set the DNSSEC OK bit (with EDNS)
    #[arg(short = 'D', long)]
    pub dnssec_ok: bool,

    /// Open loop: so many queries a second, whatever the server does: 20000, 20k, or 10k..100k+10k/5 in steps of 5 s
    #[arg(short = 'Q', long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Gaps between the queries of an open loop
    #[arg(long, value_enum, default_value = "poisson")]
    pub spacing: Spacing,
    /// Queries outstanding at once [default: 100; with -Q: no bound but the ids]
    #[arg(short = 'q', long, value_name = "COUNT")]
    pub outstanding: Option<u32>,
    /// Sockets or connections to send from [default: one a thread]
    #[arg(short = 'c', long, value_name = "COUNT")]
    pub clients: Option<usize>,
    /// TCP: close a connection and make a new one after so many queries
    #[arg(long, value_name = "COUNT")]
    pub reconnect: Option<u64>,
    /// Threads
    #[arg(short = 'T', long, default_value_t = 1, value_name = "COUNT")]
    pub threads: usize,
    /// Cores to pin the threads to: 1 or 0,2,3
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub cores: Vec<usize>,

    /// Send for so many seconds
    #[arg(short = 'l', long, value_name = "SECONDS")]
    pub limit: Option<f64>,
    /// Go through the queries at most so many times [default: once, where -l is not given]
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub runs: Option<u64>,
    /// Send at most so many queries
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
    /// Seconds after which a query counts as lost
    #[arg(short = 't', long, default_value_t = 5.0, value_name = "SECONDS")]
    pub timeout: f64,
    /// Socket buffers in kilobytes
    #[arg(short = 'b', long, default_value_t = 4096, value_name = "KB")]
    pub buffer: usize,
    /// Milliseconds after its time from which on a send counts as late
    #[arg(long, default_value_t = 1.0, value_name = "MS")]
    pub late_after: f64,
    /// Never sleep: truer latencies where the generator has cores of its own
    #[arg(long)]
    pub spin: bool,
    /// UDP: let the kernel cut queries of one length out of one send (UDP_SEGMENT): for the most queries a core
    #[arg(long)]
    pub gso: bool,
    /// Decides everything that chance decides
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Print the rate every so many seconds
    #[arg(short = 'S', long, value_name = "SECONDS")]
    pub stats: Option<f64>,
    /// Count the CPU time of this process, the server's, for each answer
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Print dnsperf's statistics block instead of the table
    #[arg(long)]
    pub dnsperf: bool,
    /// Warnings and errors go to standard output
    #[arg(short = 'W', long)]
    pub warn_on_stdout: bool,
    /// With --dnsperf: #histogram lines, a millisecond each
    #[arg(long)]
    pub histogram: bool,
    /// Write a page with the percentile plot, to be opened from disk
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write HdrHistogram's percentile table
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write HdrHistogram's interval log, a histogram a second
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write the report as JSON; - for standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    #[command(flatten)]
    pub dnsperf_only: DnsperfOnly,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagError {
    DnsperfOnly { flag: &'static str, instead: &'static str },
    Server { host: String, reason: String },
    OutOfRange { flag: &'static str, range: &'static str },
    FewerClientsThanThreads,
    FewerOutstandingThanClients,
    NoQueries,
    NoServers,
    ManifestsNeeded,
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DnsperfOnly { flag, instead } => {
                write!(f, "{flag} is a flag of dnsperf that loadgen does not have: {instead}")
            }
            Self::Server { host, reason } => write!(f, "-s {host}: {reason}"),
            Self::OutOfRange { flag, range } => write!(f, "{flag} must be {range}"),
            Self::FewerClientsThanThreads => {
                write!(f, "-c must not be below -T: each thread needs a socket of its own")
            }
            Self::FewerOutstandingThanClients => {
                write!(f, "-q must not be below -c: each socket needs room for a query")
            }
            Self::NoServers => {
                write!(
                    f,
                    "nothing to compare: name two servers, A=HOST:PORT B=HOST:PORT, or say --against coredns"
                )
            }
            Self::ManifestsNeeded => write!(
                f,
                "--against needs the cluster that both serve: --from deploy/example/cluster"
            ),
            Self::NoQueries => write!(
                f,
                "nothing to ask: give a query file with -d, or a cluster's manifests with --from"
            ),
        }
    }
}

impl std::error::Error for FlagError {}

impl RunFlags {
    pub fn message_options(&self) -> Options {
        Options { edns: self.edns || self.dnssec_ok, dnssec_ok: self.dnssec_ok }
    }

    /// How to draw a cluster's queries.
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

    /// Checks the flags; `message_count` is the workload's length.
    pub fn plan(&self, message_count: usize) -> Result<Plan, FlagError> {
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
            self.reconnect.is_none() || self.mode == Transport::Tcp,
            "--reconnect",
            "with -m tcp: datagrams have no connection",
        )?;
        range(
            self.reconnect.is_none() || self.local_port.is_none(),
            "-x",
            "without --reconnect: a port rests after its connection",
        )?;
        let timeout =
            secs(self.timeout, "-t", "above 0 and at most 60", LATENCY_NS_MAX as f64 / 1e9)?;
        let late_after =
            secs(self.late_after / 1e3, "--late-after", "above 0 and at most 60000", 60.0)?;
        // A file is gone through once, as dnsperf does; a drawn tape has no end of its own.
        let drawn_limit = (!self.from.is_empty()
            && self.runs.is_none()
            && self.count.is_none()
            && self.rate_has_no_end())
        .then_some(DRAWN_LIMIT_SECS);
        let limit = self
            .limit
            .or(drawn_limit)
            .map(|limit| secs(limit, "-l", "above 0 and at most 86400", DURATION_MAX.as_secs_f64()))
            .transpose()?;
        let runs = self.runs.or_else(|| {
            (limit.is_none() && self.count.is_none() && self.rate_has_no_end()).then_some(1)
        });
        let server = self.server()?;
        let from_runs = runs.map_or(u64::MAX, |runs| runs.saturating_mul(message_count as u64));
        Ok(Plan {
            server,
            local: self.local(server, clients)?,
            transport: self.mode,
            load: match self.rate.clone() {
                Some(rate) => Load::Open { rate, spacing: self.spacing },
                None => Load::Closed,
            },
            thread_count: self.threads,
            cores: self.cores.clone(),
            socket_count: clients,
            buffer_len: self.buffer * 1024,
            outstanding_max: self.outstanding_max(clients)?,
            duration: limit.unwrap_or(DURATION_MAX),
            sends_max: from_runs.min(self.count.unwrap_or(u64::MAX)),
            timeout,
            late_after,
            seed: self.seed,
            spin: self.spin,
            is_segmenting: self.gso,
            reconnect_after: self.reconnect.unwrap_or(u64::MAX),
            server_pid: self.server_pid,
        })
    }

    fn outstanding_max(&self, clients: usize) -> Result<u32, FlagError> {
        let outstanding_max = self.outstanding.unwrap_or_else(|| match &self.rate {
            Some(_) => (clients as u32).saturating_mul(32_768).min(OUTSTANDING_MAX),
            None => 100.max(clients as u32),
        });
        range((1..=OUTSTANDING_MAX).contains(&outstanding_max), "-q", "1 to 4194304")?;
        range(
            u64::from(outstanding_max) <= clients as u64 * 32_768,
            "-q",
            "at most 32768 for each socket (-c), half of the ids that there are",
        )?;
        if clients < self.threads {
            return Err(FlagError::FewerClientsThanThreads);
        }
        if (outstanding_max as usize) < clients {
            return Err(FlagError::FewerOutstandingThanClients);
        }
        Ok(outstanding_max)
    }

    fn rate_has_no_end(&self) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.duration_ns().is_none())
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
            .ok_or_else(|| fail("no address of that family (-f)".to_owned()))
    }

    /// What the first socket is bound to.
    fn local(&self, server: SocketAddr, clients: usize) -> Result<Option<SocketAddr>, FlagError> {
        if self.local.is_none() && self.local_port.is_none() {
            return Ok(None);
        }
        let any = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = self.local.unwrap_or(any);
        range(address.is_ipv4() == server.is_ipv4(), "-a", "an address of the server's family")?;
        let port = self.local_port.unwrap_or(0);
        let last = usize::from(port) + clients - 1;
        range(last <= usize::from(u16::MAX), "-x", "so low that each socket (-c) has a port")?;
        Ok(Some(SocketAddr::new(address, port)))
    }
}

fn mode(text: &str) -> Result<Transport, String> {
    match text {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        "dot" | "doh" => {
            Err("dnsperf has it; loadgen speaks udp and tcp, which is what pods speak".to_owned())
        }
        _ => Err("it is udp or tcp".to_owned()),
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
    // Written so that NaN fails too.
    if value > 0.0 && value <= max {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(FlagError::OutOfRange { flag, range })
    }
}
