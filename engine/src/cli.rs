//! The command line: CoreDNS's flags, with one dash or two, and our own.
//!
//! Doc comments of fields are the text of `--help`. Invariant: parsing has no effect but `--help`.

pub mod node;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, CommandFactory as _, Parser, Subcommand};
use domain::base::Name as DomainName;
use domain::base::iana::Rtype;

use crate::corefile::value::duration;
use crate::limits::{BUSY_POLL_MAX, CPU_COUNT_MAX};
use node::NodeOptions;

/// A Kubernetes cluster's DNS server.
///
/// Without -conf it reads ./Corefile. If there is none, it serves the example cluster of its source
/// tree (deploy/example) on 127.0.0.1:1053, and outside of one, `whoami` and `log`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ringdns",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    // If a flag is repeated, the last one counts, as in Go.
    args_override_self = true,
    mut_args(as_in_go)
)]
pub struct Cli {
    /// `None` serves DNS.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Corefile to load; `stdin` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    pub conf: Option<PathBuf>,

    /// Port for server blocks without a port.
    #[arg(long = "dns.port", short = 'p', alias = "p", value_name = "PORT", default_value_t = 53)]
    pub dns_port: u16,

    /// Write the process id to this file.
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// List the built-in plugins and exit.
    #[arg(
        long,
        value_name = BOOL,
        default_value = "false",
        hide_default_value = true
    )]
    pub plugins: bool,

    /// Do not print the served zones at start-up.
    #[arg(
        long,
        value_name = BOOL,
        default_value = "false",
        hide_default_value = true
    )]
    pub quiet: bool,

    /// Format of log lines.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Print the version and exit.
    #[arg(
        long, short = 'V', alias = "V",
        value_name = BOOL,
        default_value = "false",
        hide_default_value = true
    )]
    pub version: bool,

    /// Socket backend: `uring` (io_uring), `mmsg` (recvmmsg and sendmmsg), or `auto`: `uring` if it
    /// is available, else `mmsg`.
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t = Io::Auto)]
    pub io: Io,

    /// Time that a shard polls for datagrams before it sleeps, such as 50us. Lowers latency for
    /// clients on other machines, but keeps idle cores busy.
    #[arg(long, value_name = "DURATION", value_parser = parse_busy_poll)]
    pub busy_poll: Option<Duration>,

    /// Which shard answers a query: `cpu`, that of the CPU which received it; `hash`, one by the
    /// client's address and port; `auto`: `cpu`, but `hash` while one shard would be overloaded and
    /// others idle.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Steer::Auto)]
    pub steer: Steer,

    /// Start beside a ringdns of the same user that has the same ports, and serve alone once it has
    /// ended. Without such a process this changes nothing.
    #[arg(
        long,
        value_name = BOOL,
        default_value = "false",
        hide_default_value = true
    )]
    pub take_over: bool,

    /// Number of shards [default: one for each core that the process may use, within its CPU quota
    /// and with 16 MiB of its memory limit for each].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,

    /// Cores to pin shards to, such as 0,2-3 [default: the cores that the process may use].
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    pub cores: Option<Cores>,

    #[command(flatten)]
    pub node: NodeOptions,
}

/// What to do instead of serving DNS.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check a Corefile: list all its mistakes and warnings, each with its place and what to write.
    ///
    /// PATH is a Corefile, a folder with one (as a ConfigMap is mounted), or ConfigMaps in YAML or
    /// JSON: every Corefile, `*.server`, `*.override` and `*.include` in them is checked. No
    /// socket is opened, and neither the API server nor an upstream is asked. Files that lines name
    /// (resolv.conf, zone files, certificates, manifests) are only looked for, unless --online is
    /// given: then their contents are checked too, and host names of upstreams are resolved.
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(CheckOptions),

    /// Explain an answer: which block takes the query, what each plugin does with it, which objects
    /// the records come from, and why there are none.
    ///
    /// The Corefile is read as at a start-up, and its tables are loaded from the same files and API
    /// servers, but no socket is opened for queries. Then the question is asked, of upstreams too
    /// if it leads there.
    #[command(after_help = EXPLAIN_EXIT_CODES)]
    Explain(ExplainOptions),

    /// Convert an older Corefile, or kube-dns's ConfigMap, to a Corefile for ringdns.
    ///
    /// FILE is a Corefile, or a ConfigMap in YAML or JSON: kube-dns's, or one with a Corefile.
    /// Removed directives and options (`proxy`, `federation`, `upstream`, `resyncperiod`, …) are
    /// replaced, and everything else stays as it is. The Corefile goes to standard output, and a
    /// list of the changes to standard error. A ConfigMap with parts of a Corefile
    /// (`coredns-custom`, with `*.server`, `*.override`, `*.include`) is converted to a ConfigMap.
    #[command(after_help = EXIT_CODES)]
    Convert {
        /// File to convert, such as the output of `kubectl get configmap kube-dns -n kube-system -o
        /// yaml`; `-` reads standard input.
        file: PathBuf,
    },
}

/// `ringdns check`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct CheckOptions {
    /// File or folder to check; `-` reads standard input.
    pub path: PathBuf,

    /// Write a JSON array of {file, line, column, severity, plugin, message, help} instead of text.
    #[arg(long)]
    pub json: bool,

    /// Exit with code 2 if there are warnings.
    #[arg(long)]
    pub strict: bool,

    /// Also load what a start-up would load: host names of upstreams, files, certificates and
    /// manifests, but nothing from an API server.
    #[arg(long)]
    pub online: bool,
}

/// `ringdns explain`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ExplainOptions {
    /// Name to explain. Without a final dot, and with --from or --namespace, it is searched for as
    /// a pod does: each name of the search path is tried.
    #[arg(value_parser = parse_name)]
    pub name: String,

    /// Type of the question, such as AAAA or SRV.
    #[arg(value_name = "TYPE", default_value = "A", value_parser = parse_qtype)]
    pub qtype: QuestionType,

    /// Address of the client [default: 127.0.0.1]. A pod's address also gives its namespace.
    #[arg(long, value_name = "IP")]
    pub from: Option<IpAddr>,

    /// Namespace of the client, whose search path is followed.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Corefile [default: as for serving].
    #[arg(long, value_name = "FILE")]
    pub conf: Option<PathBuf>,

    /// Ask a running server instead: the address of its `health`, `ready` or `prometheus`, such as
    /// 127.0.0.1:8080. It answers on its own machine only.
    #[arg(long, value_name = "ADDR", value_parser = parse_server, conflicts_with = "conf")]
    pub server: Option<String>,

    /// Port that the query arrives on [default: the first with a block for the name].
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// Do not query upstreams: show which ones would be.
    #[arg(long)]
    pub no_upstreams: bool,

    /// Write a JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// The type of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionType(pub u16);

const EXPLAIN_EXIT_CODES: &str = "\
Exit codes:
  0  explained, whatever the response is
  1  the Corefile cannot be used, what it needs cannot be loaded, no block listens on PORT, or the
     server cannot be asked
  2  invalid command line";

const CHECK_EXIT_CODES: &str = "\
Exit codes:
  0  no mistakes; with --strict, no warnings either
  1  at least one mistake: ringdns would not start
  2  with --strict: no mistakes, but warnings; or an invalid command line";

const EXIT_CODES: &str = "\
Exit codes:
  0  converted; ringdns accepts the Corefile
  1  FILE cannot be read or parsed; nothing is written
  2  invalid command line
  3  converted, but ringdns does not accept the Corefile: standard error lists what is left to do";

/// `--io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Io {
    Auto,
    Uring,
    Mmsg,
}

/// `--steer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Steer {
    Auto,
    Cpu,
    Hash,
}

/// `-log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `[INFO] plugin/reload: …`
    Text,
    /// One JSON object per line.
    Json,
}

/// Core numbers, in the given order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

impl Cli {
    /// Parses the process's arguments. Prints help or an error and exits, if needed.
    #[must_use]
    pub fn from_process() -> Self {
        let arguments = std::env::args_os().map(with_two_dashes);
        Self::try_parse_from(arguments).unwrap_or_else(|error| with_hint(error).exit())
    }
}

/// Says how to serve or check a file that was given as the only argument. A word after flags is no
/// subcommand that cannot be used with them, unless there is one of that name.
fn with_hint(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let mut command = Cli::command();
    if error.kind() == ErrorKind::ArgumentConflict && command.find_subcommand(word).is_none() {
        return command
            .error(ErrorKind::UnknownArgument, format!("unexpected argument '{word}' found"));
    }
    if error.kind() == ErrorKind::InvalidSubcommand
        && error.get(ContextKind::SuggestedSubcommand).is_none()
    {
        let hint = format!(
            "to serve or check a Corefile, use 'ringdns -conf {word}' or 'ringdns check {word}'"
        );
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// Go programs accept long flags with one dash: `-conf` is `--conf`. One-letter flags are not
/// changed.
fn with_two_dashes(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text)
            if text.len() > 2
                && text.starts_with('-')
                && text[1..].starts_with(|first: char| first.is_ascii_alphabetic())
                // `-p1053`: clap accepts a value right after a short flag.
                && !text[2..].starts_with(|second: char| second.is_ascii_digit()) =>
        {
            format!("-{text}").into()
        }
        _ => argument,
    }
}

/// The value of boolean flags.
const BOOL: &str = "BOOL";

/// Has boolean flags take values as in Go: `-quiet` is `-quiet=true`.
fn as_in_go(flag: Arg) -> Arg {
    if flag.get_value_names().is_none_or(|names| names != [BOOL]) {
        return flag;
    }
    flag.num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .action(ArgAction::Set)
        .value_parser(parse_bool)
}

/// Go's boolean values.
///
/// # Errors
/// Any other text.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let name = text.parse::<DomainName<Vec<u8>>>().map_err(|error| error.to_string());
    name.map(|_| text.to_owned())
}

fn parse_server(text: &str) -> Result<String, String> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if is_address {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT, such as 127.0.0.1:8080".into())
    }
}

/// # Errors
/// It is no type of DNS.
pub fn parse_qtype(text: &str) -> Result<QuestionType, String> {
    let qtype = text.to_ascii_uppercase().parse::<Rtype>();
    qtype
        .map(|qtype| QuestionType(qtype.to_int()))
        .map_err(|_| "expected a type, such as AAAA".into())
}

fn parse_busy_poll(text: &str) -> Result<Duration, String> {
    match duration::read(text).ok() {
        Some(duration) if duration <= BUSY_POLL_MAX => Ok(duration),
        Some(_) => Err(format!("at most {BUSY_POLL_MAX:?}")),
        None => Err("expected a number with a unit, such as 50us or 1ms".into()),
    }
}

const CORE_NUMBER_MAX: usize = CPU_COUNT_MAX - 1;

fn parse_cores(text: &str) -> Result<Cores, String> {
    let number = |part: &str| {
        part.trim().parse::<usize>().map_err(|_| format!("'{part}' is not a core number"))
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if last > CORE_NUMBER_MAX {
                    return Err(format!("'{part}': no core has a number over {CORE_NUMBER_MAX}"));
                }
                cores.extend(first..=last);
            }
            None => cores.push(number(part)?),
        }
    }
    if cores.is_empty() { Err("the list is empty".into()) } else { Ok(Cores(cores)) }
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

    /// As in Go, a value needs an `=`.
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
            (&["-V=true"], Some([false, false, true])),
            (&["-V=false"], Some([false, false, false])),
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
    fn ways_of_steering() {
        for (arguments, expected) in [
            ([].as_slice(), Some(Steer::Auto)),
            (&["-steer", "cpu"], Some(Steer::Cpu)),
            (&["--steer=hash"], Some(Steer::Hash)),
            (&["-steer=hash", "-steer=auto"], Some(Steer::Auto)),
            (&["--steer", "random"], None),
            (&["--steer"], None),
        ] {
            let steer = parse(arguments).ok().map(|cli| cli.steer);
            assert_eq!(steer, expected, "{arguments:?}");
        }
    }

    #[test]
    fn help() {
        for arguments in
            [["help"].as_slice(), &["-h"], &["-help"], &["--help"], &["help", "convert"]]
        {
            let kind = parse(arguments).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::DisplayHelp, "{arguments:?}");
        }
    }

    #[test]
    fn words_that_are_no_subcommand() {
        for (arguments, expected) in [
            (["Corefile"].as_slice(), Some("'ringdns -conf Corefile' or 'ringdns check Corefile'")),
            (&["/etc/coredns/Corefile"], Some("'ringdns check /etc/coredns/Corefile'")),
            (&["chekc"], None),
            (&["-cnof"], None),
            (&["-conf", "F", "extra"], Some("unexpected argument 'extra' found")),
            (&["-conf", "F", "check", "G"], Some("the subcommand 'check' cannot be used with")),
        ] {
            let text = with_hint(parse(arguments).unwrap_err()).to_string();
            match expected {
                Some(expected) => assert!(text.contains(expected), "{arguments:?}: {text}"),
                None => assert!(!text.contains("-conf chekc"), "{arguments:?}: {text}"),
            }
        }
    }

    #[test]
    fn subcommands() {
        let cli = parse(&["convert", "kube-dns.yaml"]).unwrap();
        assert_eq!(cli.command, Some(Command::Convert { file: "kube-dns.yaml".into() }));
        let cli = parse(&["explain", "web", "aaaa", "-conf", "Corefile", "--from", "::1"]).unwrap();
        let Some(Command::Explain(options)) = cli.command else { panic!("{cli:?}") };
        assert_eq!((options.name.as_str(), options.qtype), ("web", QuestionType(28)));
        assert_eq!(options.conf, Some("Corefile".into()));
        for arguments in [["web", "NOTYPE"].as_slice(), &["a..b"], &["web", "--server=nohost"]] {
            assert!(parse(&[&["explain"], arguments].concat()).is_err(), "{arguments:?}");
        }
        for (server, is_valid) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost:8080", true),
            (":8080", false),
            ("localhost:http", false),
            ("http://127.0.0.1:8080", false),
        ] {
            let parsed = parse(&["explain", "web", "--server", server]);
            assert_eq!(parsed.is_ok(), is_valid, "{server}: {parsed:?}");
        }
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
