//! The flags. dnsperf's letters mean what they mean in dnsperf; `plan` checks the values.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::dnsperf_flags::DnsperfOnly;
use crate::schedule::{Rate, Spacing};
use crate::transport::Transport;
use crate::workload::mix::Profile;

/// loadgen's version, with the commit if it was built from a clone.
pub const VERSION: &str = env!("LOADGEN_VERSION");

/// `command_error::Code` in words.
const EXIT_CODES: &str = "\
Exit codes: 0 report written; 1 the run could not start, a server exited during it, or a report \
could not be written; 2 bad flags or input; 3 no responses at all (compare: none from one of the \
servers); 4 answers differ from --verify; 130 stopped by a signal (the report covers what was \
measured)";

#[derive(Parser, Debug)]
#[command(
    name = "loadgen",
    version = VERSION,
    about = "Load-test a DNS server, measuring latency from the intended send time",
    args_conflicts_with_subcommands = true,
    allow_negative_numbers = true,
    after_help = EXIT_CODES
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Subcommand>,
    #[command(flatten)]
    pub run: RunFlags,
}

impl Cli {
    /// The flags of the given command.
    pub fn run_flags(&self) -> &RunFlags {
        match &self.command {
            Some(Subcommand::Compare(flags)) => &flags.run,
            None => &self.run,
        }
    }
}

#[derive(clap::Subcommand, Debug)]
pub enum Subcommand {
    /// Measure two or more servers in turn under the same load
    #[command(after_help = EXIT_CODES)]
    Compare(Box<CompareFlags>),
}

#[derive(Args, Clone, Debug)]
pub struct CompareFlags {
    /// Servers: NAME=HOST:PORT, with @PID to report CPU time per answer; the first is the baseline
    #[arg(value_name = "SERVER", value_parser = ServerSpec::parse)]
    pub servers: Vec<ServerSpec>,
    /// Start CoreDNS and ringdns, both serving the cluster given by --from
    #[arg(long, value_enum, conflicts_with = "servers")]
    pub against: Option<Against>,
    /// With --against: CoreDNS's binary [default: target/e2e/bin/coredns, built by
    /// deploy/e2e/build.sh]
    #[arg(long, value_name = "PATH")]
    pub coredns: Option<PathBuf>,
    /// With --against: ringdns's binary, its flags, or both, as one word: 'PATH --io mmsg'. Given
    /// again, it adds another ringdns to the same rounds [default: next to loadgen, then
    /// target/release/ringdns]
    #[arg(long, value_name = "COMMAND", value_parser = RingdnsSpec::parse)]
    #[arg(allow_hyphen_values = true)]
    pub ringdns: Vec<RingdnsSpec>,
    /// With --against: the core to pin the servers to; they are measured in turn
    #[arg(long, value_name = "CORE")]
    pub server_core: Option<usize>,
    /// Measure clients on the servers' node, in place of --rates: servers and clients run on any
    /// core, as pods do. One query at a time, 64 in flight, one client per core, and one client
    /// with 256 in flight; each from 32 sockets, or as many as -c says
    #[arg(long, conflicts_with_all = ["rates", "loss_max", "p99_max", "server_core"])]
    #[arg(conflicts_with_all = ["outstanding", "threads", "cores"])]
    pub same_node: bool,
    /// Rates to test, lowest first
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
    /// A rate counts as met if at most this share of the queries is lost
    #[arg(long, default_value_t = 0.001, value_name = "SHARE")]
    pub loss_max: f64,
    /// and p99 is at most this many milliseconds
    #[arg(long, default_value_t = 10.0, value_name = "MS")]
    pub p99_max: f64,
    #[command(flatten)]
    pub run: RunFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Against {
    Coredns,
}

/// A ringdns to start. With neither: the default binary, without flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingdnsSpec {
    pub binary: Option<PathBuf>,
    pub flags: Vec<String>,
}

impl RingdnsSpec {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = shlex::split(text).ok_or("a quotation mark is not closed")?;
        let has_binary = words.first().is_some_and(|word| !word.starts_with('-'));
        let binary = has_binary.then(|| words.remove(0).into());
        Ok(Self { binary, flags: words })
    }
}

/// `NAME=HOST:PORT[@PID]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    pub name: String,
    pub address: SocketAddr,
    pub pid: Option<u32>,
}

impl ServerSpec {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').unwrap_or((text, text));
        let (address, pid) = match rest.split_once('@') {
            Some((address, pid)) => {
                (address, Some(pid.parse().map_err(|_| format!("'{pid}' is not a process id"))?))
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
    /// Server address or host name [default: 127.0.0.1]
    #[arg(short = 's', long, value_name = "HOST")]
    pub server: Option<String>,
    /// Server port [default: 53]
    #[arg(short = 'p', long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Which addresses of a server's name to use
    #[arg(short = 'f', long, value_enum, default_value = "any")]
    pub family: Family,
    /// Transport: udp or tcp
    #[arg(short = 'm', long, value_parser = mode, default_value = "udp")]
    pub mode: Transport,
    /// Use both transports: the share of queries sent over TCP, chosen at random from the seed
    #[arg(long, value_name = "SHARE", conflicts_with = "mode")]
    pub tcp_share: Option<f64>,
    /// Local address to send from
    #[arg(short = 'a', long, value_name = "ADDRESS")]
    pub local: Option<IpAddr>,
    /// Local port of the first socket; the others use the ports after it
    #[arg(short = 'x', long, value_name = "PORT")]
    pub local_port: Option<u16>,

    /// Query file: a name and a type per line; - reads standard input, the default without -d and
    /// --from
    #[arg(short = 'd', long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Query the names of a cluster: manifests as kubectl prints them, files or folders
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "queries")]
    pub from: Vec<PathBuf>,
    /// The cluster's zone
    #[arg(long, default_value = "cluster.local")]
    pub zone: String,
    /// How a look-up becomes queries (with --from)
    #[arg(long, value_enum, default_value = "plain")]
    pub profile: Profile,
    /// Share of look-ups of external names (with --from)
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
    /// Zipf exponent of the names' popularity (with --from); 0: all names equally popular
    #[arg(long, default_value_t = 1.0, value_name = "EXPONENT")]
    pub zipf: f64,
    /// Queries to generate before the run; they are then sent in a loop (with --from)
    #[arg(long, default_value_t = 100_000, value_name = "COUNT")]
    pub messages: usize,
    /// Check the answers against FILE: lines of NAME TYPE RCODE and the addresses
    #[arg(long, value_name = "FILE")]
    pub verify: Option<PathBuf>,
    /// Send queries with EDNS
    #[arg(short = 'e', long)]
    pub edns: bool,
    /// Set the DNSSEC OK bit (implies EDNS)
    #[arg(short = 'D', long)]
    pub dnssec_ok: bool,

    /// Open loop: queries per second, whether or not the server keeps up: 20000, 20k, or
    /// 10k..100k+10k/5 in steps of 5 s
    #[arg(short = 'Q', long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Gaps between the queries of an open loop
    #[arg(long, value_enum, default_value = "poisson")]
    pub spacing: Spacing,
    /// Queries in flight at once [default: 100; with -Q: limited only by the query ids]
    #[arg(short = 'q', long, value_name = "COUNT")]
    pub outstanding: Option<u32>,
    /// Sockets or connections to send from; with --tcp-share, this many of each [default: one per
    /// thread]
    #[arg(short = 'c', long, value_name = "COUNT")]
    pub clients: Option<usize>,
    /// TCP: open a new connection after this many queries
    #[arg(long, value_name = "COUNT")]
    pub reconnect: Option<u64>,
    /// Sending threads
    #[arg(short = 'T', long, default_value_t = 1, value_name = "COUNT")]
    pub threads: usize,
    /// Cores to pin the threads to: 1 or 0,2,3
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub cores: Vec<usize>,

    /// Send for this many seconds
    #[arg(short = 'l', long, value_name = "SECONDS")]
    pub limit: Option<f64>,
    /// Send all queries at most this many times [default: once, unless -l is given]
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub runs: Option<u64>,
    /// Send at most this many queries
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
    /// Seconds after which a query counts as lost
    #[arg(short = 't', long, default_value_t = 5.0, value_name = "SECONDS")]
    pub timeout: f64,
    /// Socket buffers in kilobytes
    #[arg(short = 'b', long, default_value_t = 4096, value_name = "KB")]
    pub buffer: usize,
    /// A send counts as late if it leaves this many milliseconds after its intended time
    #[arg(long, default_value_t = 1.0, value_name = "MS")]
    pub late_after: f64,
    /// Never sleep: more accurate latencies if the generator has cores of its own
    #[arg(long)]
    pub spin: bool,
    /// UDP: pass each query to the kernel in its own call. By default, queries of one length that
    /// are due at the same time are passed as one buffer, which the kernel cuts into the same
    /// datagrams (UDP_SEGMENT): the server receives the same packets and the generator uses less
    /// CPU
    #[arg(long)]
    pub no_gso: bool,
    /// Seed for all random choices; the same seed sends the same queries at the same times
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Print the rate every this many seconds: to standard output, or to standard error if a report
    /// (-) goes there
    #[arg(short = 'S', long, value_name = "SECONDS")]
    pub stats: Option<f64>,
    /// Process id of the server, to report its CPU time per answer
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Print dnsperf's statistics block instead of the table
    #[arg(long)]
    pub dnsperf: bool,
    /// Print warnings and errors to standard output
    #[arg(short = 'W', long)]
    pub warn_on_stdout: bool,
    /// With --dnsperf: #histogram lines, one per millisecond
    #[arg(long)]
    pub histogram: bool,
    /// Write an HTML page with the percentile plot, which opens from disk. Report files are opened
    /// before the run: if one cannot be written, the command ends at once
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write HdrHistogram's percentile table
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write HdrHistogram's interval log, one histogram per second
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write the report as JSON; - writes it to standard output instead of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    #[command(flatten)]
    pub dnsperf_only: DnsperfOnly,
}

fn mode(text: &str) -> Result<Transport, String> {
    match text {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        "dot" | "doh" => {
            Err("loadgen supports udp and tcp, the transports that pods use".to_owned())
        }
        _ => Err("must be udp or tcp".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a page that run loadgen, each joined with its continuation lines.
    fn commands(page: &str) -> Vec<String> {
        let joined = page.replace("\\\n ", "");
        let is_command = |line: &&str| {
            line.starts_with("loadgen ") || line.starts_with("target/release/loadgen ")
        };
        // A remark follows the command after several blanks.
        let command = |line: &str| line.split("   ").next().unwrap_or_default().to_owned();
        joined.lines().filter(is_command).map(command).collect()
    }

    #[test]
    fn documented_commands_parse() {
        for (page, count) in [
            (include_str!("../README.md"), 9),
            (include_str!("../../README.md"), 1),
            (include_str!("../../docs/benchmarks.md"), 2),
        ] {
            let commands = commands(page);
            assert_eq!(commands.len(), count, "{commands:#?}");
            for command in commands {
                let words = shlex::split(&command.replace("@PID", "@1")).unwrap();
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
            }
        }
    }
}
