//! The flags. dnsperf's letters mean what they mean there; `plan` checks the figures.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, ValueEnum};

use crate::dnsperf_flags::DnsperfOnly;
use crate::plan::Transport;
use crate::report::about::VERSION;
use crate::schedule::{Rate, Spacing};
use crate::workload::mix::Profile;

/// `command::Code` in words.
const EXIT_CODES: &str = "\
Exit codes: 0 a report was made; 1 the run could not be made or was ended by the end of a server, or a report not written; 2 bad \
flags or input; 3 no answer at all, of compare: from one of the servers; 4 answers were not as --verify expects; 130 stopped by a signal (the report covers what was measured)";

#[derive(Parser, Debug)]
#[command(
    name = "loadgen",
    version = VERSION,
    about = "Puts load on a DNS server and tells the truth about it",
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
    #[command(after_help = EXIT_CODES)]
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
    /// With --against: CoreDNS's binary [default: target/e2e/bin/coredns, which deploy/e2e/build.sh builds]
    #[arg(long, value_name = "PATH")]
    pub coredns: Option<PathBuf>,
    /// With --against: ringdns's binary [default: beside loadgen, then target/release/ringdns]
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
    #[arg(short = 'p', long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Which addresses of a server's name to use
    #[arg(short = 'f', long, value_enum, default_value = "any")]
    pub family: Family,
    /// Transport: udp or tcp
    #[arg(short = 'm', long, value_parser = mode, default_value = "udp")]
    pub mode: Transport,
    /// Both transports: the share of the queries that goes over TCP, by the toss of a seeded coin
    #[arg(long, value_name = "SHARE", conflicts_with = "mode")]
    pub tcp_share: Option<f64>,
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
    /// Sockets or connections to send from; with --tcp-share so many of each [default: one a thread]
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
    /// UDP: hand each query to the kernel by itself. Else those of one length that leave at one time go in one piece, which
    /// the kernel cuts into the same datagrams (UDP_SEGMENT): the server receives the same, and the generator spends less
    #[arg(long)]
    pub no_gso: bool,
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
    /// Write a page with the percentile plot, to be opened from disk. Files of reports are opened before the run: one that cannot
    /// be written ends the command at once
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands of a page that call loadgen, each joined with its continuation lines.
    fn commands(page: &str) -> Vec<String> {
        let joined = page.replace("\\\n ", "");
        let is_command = |line: &&str| {
            line.starts_with("loadgen ") || line.starts_with("target/release/loadgen ")
        };
        // What follows many blanks is a remark.
        let command = |line: &str| line.split("   ").next().unwrap_or_default().to_owned();
        joined.lines().filter(is_command).map(command).collect()
    }

    #[test]
    fn the_commands_in_the_documentation_can_be_typed() {
        for (page, count) in [
            (include_str!("../README.md"), 8),
            (include_str!("../../README.md"), 1),
            (include_str!("../../docs/benchmarks.md"), 1),
        ] {
            let commands = commands(page);
            assert_eq!(commands.len(), count, "{commands:#?}");
            for command in commands {
                let words = command.replace("@PID", "@1");
                let parsed = Cli::try_parse_from(words.split_ascii_whitespace());
                assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
            }
        }
    }
}
