//! The command line: CoreDNS's flags, with one dash or two, and ours.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};

use crate::corefile::value::duration;
use crate::limits::BUSY_POLL_MAX;

/// A Kubernetes cluster's DNS server.
///
/// Without -conf it reads ./Corefile; where there is none, it serves the example cluster of its source tree
/// (deploy/example) on 127.0.0.1:1053.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ringdns",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    // Of a flag that is given twice the last counts, as in Go.
    args_override_self = true
)]
pub struct Cli {
    /// Without one it serves.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The Corefile to serve; `stdin` reads it from a pipe.
    #[arg(long, value_name = "FILE")]
    pub conf: Option<PathBuf>,

    /// Port of server blocks that name none.
    #[arg(long = "dns.port", short = 'p', alias = "p", value_name = "PORT", default_value_t = 53)]
    pub dns_port: u16,

    /// Write the process id to this file.
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// List the Corefile plugins that are built in, and exit.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true,
        action = ArgAction::Set,
        value_parser = parse_bool
    )]
    pub plugins: bool,

    /// Leave out the lines that say what is served.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true,
        action = ArgAction::Set,
        value_parser = parse_bool
    )]
    pub quiet: bool,

    /// How log lines are written.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Print the version, and exit.
    #[arg(
        long, short = 'V',
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        hide_default_value = true,
        action = ArgAction::Set,
        value_parser = parse_bool
    )]
    pub version: bool,

    /// How datagrams move: `uring` (io_uring), `mmsg` (recvmmsg and sendmmsg), or the first that this machine allows.
    #[arg(long, value_name = "WAY", value_enum, default_value_t = Io::Auto)]
    pub io: Io,

    /// How long a shard polls for datagrams before it sleeps, such as 50us: lower latency for an idle core's heat.
    #[arg(long, value_name = "DURATION", value_parser = parse_busy_poll)]
    pub busy_poll: Option<Duration>,

    /// How many shards to run [default: one for each core that the process may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,

    /// Cores to pin shards to, such as 0,2-3 [default: those that the process may use].
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    pub cores: Option<Cores>,
}

/// What is done instead of serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Write a Corefile for ringdns, out of an older one or out of kube-dns's ConfigMap.
    ///
    /// FILE is a Corefile, whose retired words (`proxy`, `federation`, `upstream`, `resyncperiod`, …) are brought up to date
    /// and which is else left as it is; or a ConfigMap in YAML or JSON, kube-dns's or one that holds a Corefile. The Corefile
    /// goes to standard output, and what was changed and why to standard error. A ConfigMap with parts of a Corefile
    /// (`coredns-custom`, with `*.server`, `*.override`, `*.include`) stays one.
    #[command(after_help = EXIT_CODES)]
    Convert {
        /// What to convert, such as the output of `kubectl get configmap kube-dns -n kube-system -o yaml`; `-` is standard
        /// input.
        file: PathBuf,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
  0  converted; ringdns reads the Corefile
  1  FILE cannot be read or understood; nothing is written
  2  mistaken command line
  3  converted, but ringdns does not read all of it yet: standard error says what is left to do";

/// `--io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Io {
    Auto,
    Uring,
    Mmsg,
}

/// `-log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `[INFO] plugin/reload: …`
    Text,
    /// One JSON object a line.
    Json,
}

/// Core numbers, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

impl Cli {
    /// Reads the process's arguments; prints help or the mistake, and exits, where that is called for.
    #[must_use]
    pub fn from_process() -> Self {
        Self::parse_from(std::env::args_os().map(with_two_dashes))
    }
}

/// Go programs take long flags with one dash: `-conf` is `--conf`. One-letter flags stay what they are.
fn with_two_dashes(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text)
            if text.len() > 2
                && text.starts_with('-')
                && text[1..].starts_with(|first: char| first.is_ascii_alphabetic())
                // -p1053, as clap has it.
                && !text[2..].starts_with(|second: char| second.is_ascii_digit()) =>
        {
            format!("-{text}").into()
        }
        _ => argument,
    }
}

/// What Go takes for a boolean: `-quiet` is `-quiet=true`.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false".into()),
    }
}

fn parse_busy_poll(text: &str) -> Result<Duration, String> {
    match duration::read(text).ok() {
        Some(duration) if duration <= BUSY_POLL_MAX => Ok(duration),
        Some(_) => Err(format!("at most {BUSY_POLL_MAX:?}")),
        None => Err("a duration is a number and a unit: 50us, 1ms".into()),
    }
}

fn parse_cores(text: &str) -> Result<Cores, String> {
    let number = |part: &str| {
        part.trim().parse::<usize>().map_err(|_| format!("'{part}' is no core number"))
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(number(first)?..=number(last)?),
            None => cores.push(number(part)?),
        }
    }
    if cores.is_empty() { Err("no core in the list".into()) } else { Ok(Cores(cores)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        let arguments = std::iter::once(&"ringdns").chain(arguments);
        Cli::try_parse_from(arguments.map(|argument| with_two_dashes(argument.into())))
    }

    #[test]
    fn one_dash_or_two() {
        for arguments in [
            ["-conf", "/etc/coredns/Corefile", "-dns.port", "1053"].as_slice(),
            &["--conf", "/etc/coredns/Corefile", "--dns.port", "1053"],
            &["-conf=/etc/coredns/Corefile", "-dns.port=1053"],
            &["-conf", "/etc/coredns/Corefile", "-p", "1053"],
            &["-conf", "/etc/coredns/Corefile", "-p1053"],
            &["-conf", "/etc/coredns/Corefile", "-p=1053"],
            &["-conf", "/etc/coredns/Corefile", "--p", "1053"],
            &["-conf", "a", "-dns.port=53", "-conf", "/etc/coredns/Corefile", "-dns.port=1053"],
        ] {
            let cli = parse(arguments).unwrap();
            assert_eq!(cli.conf, Some("/etc/coredns/Corefile".into()), "{arguments:?}");
            assert_eq!(cli.dns_port, 1053, "{arguments:?}");
        }
        let cli = parse(&["-pidfile", "/run/ringdns.pid"]).unwrap();
        assert_eq!(cli.pidfile, Some("/run/ringdns.pid".into()));
        assert!(parse(&["-cnof", "x"]).is_err());
    }

    /// Go's: a value needs its `=`.
    #[test]
    fn flags_that_are_true_or_false() {
        for (arguments, expected) in [
            ([].as_slice(), Some([false, false, false])),
            (&["-quiet"], Some([true, false, false])),
            (&["--quiet=true"], Some([true, false, false])),
            (&["-quiet=1", "-plugins=T", "-version=TRUE"], Some([true, true, true])),
            (&["-quiet=false", "-plugins=0", "-version=F"], Some([false, false, false])),
            (&["-quiet", "-quiet=false"], Some([false, false, false])),
            (&["-version", "-plugins"], Some([false, true, true])),
            (&["-V"], Some([false, false, true])),
            (&["-quiet=yes"], None),
            (&["-quiet="], None),
            (&["-quiet", "true"], None),
        ] {
            let cli = parse(arguments).ok();
            let flags = cli.map(|cli| [cli.quiet, cli.plugins, cli.version]);
            assert_eq!(flags, expected, "{arguments:?}");
        }
    }

    #[test]
    fn formats_of_the_log() {
        for (arguments, expected) in [
            ([].as_slice(), Some(LogFormat::Text)),
            (&["-log-format", "text"], Some(LogFormat::Text)),
            (&["-log-format=json"], Some(LogFormat::Json)),
            (&["--log-format", "json"], Some(LogFormat::Json)),
            (&["-log-format", "JSON"], None),
            (&["-log-format"], None),
        ] {
            let format = parse(arguments).ok().map(|cli| cli.log_format);
            assert_eq!(format, expected, "{arguments:?}");
        }
    }

    #[test]
    fn help() {
        for arguments in
            [["help"].as_slice(), &["-h"], &["-help"], &["--help"], &["help", "convert"]]
        {
            let kind = parse(arguments).unwrap_err().kind();
            assert_eq!(kind, clap::error::ErrorKind::DisplayHelp, "{arguments:?}");
        }
    }

    #[test]
    fn subcommands() {
        let cli = parse(&["convert", "kube-dns.yaml"]).unwrap();
        assert_eq!(cli.command, Some(Command::Convert { file: "kube-dns.yaml".into() }));
        assert_eq!(parse(&["-quiet"]).unwrap().command, None);
        for arguments in
            [["convert", "a", "b"].as_slice(), &["convert"], &["-quiet", "convert", "a"]]
        {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn core_lists() {
        assert_eq!(parse_cores("0,2-3"), Ok(Cores(vec![0, 2, 3])));
        assert!(parse_cores("").is_err());
        assert!(parse_cores("a").is_err());
        assert!(parse_cores("3-2").is_err());
    }
}
