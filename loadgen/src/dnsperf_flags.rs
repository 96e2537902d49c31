//! dnsperf's flags that loadgen does not support. Each is rejected by name, with what to do
//! instead.
//!
//! They are parsed so that loadgen can explain them. Invariant: together with `cli::RunFlags`,
//! every flag of dnsperf 2.10 is known; none is silently ignored.

use clap::Args;

use crate::flag_error::FlagError;

#[derive(Args, Clone, Debug, Default)]
pub struct DnsperfOnly {
    #[arg(short = 'E', hide = true, value_name = "CODE:VALUE", allow_hyphen_values = true)]
    edns_option: Option<String>,
    #[arg(short = 'y', hide = true, value_name = "KEY", allow_hyphen_values = true)]
    tsig_key: Option<String>,
    #[arg(short = 'O', hide = true, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    long_option: Vec<String>,
    #[arg(short = 'u', hide = true)]
    updates: bool,
    #[arg(short = 'B', hide = true)]
    binary_file: bool,
    #[arg(short = 'v', hide = true)]
    verbose: bool,
    #[arg(short = 'H', hide = true)]
    long_help: bool,
}

impl DnsperfOnly {
    pub(crate) fn check(&self) -> Result<(), FlagError> {
        let rows = [
            (
                self.edns_option.is_some(),
                "-E",
                "EDNS options are not supported; -e and -D send EDNS without options",
            ),
            (self.tsig_key.is_some(), "-y", "queries cannot be signed; leave it out"),
            (
                !self.long_option.is_empty(),
                "-O",
                "--reconnect N replaces num-queries-per-conn=N; nothing replaces the others",
            ),
            (self.updates, "-u", "loadgen sends queries only; use dnsperf for updates"),
            (self.binary_file, "-B", "write the query file as text, a name and a type per line"),
            (
                self.verbose,
                "-v",
                "it would slow the run; use --verify to check answers, --json for counts",
            ),
            (self.long_help, "-H", "use --help, which lists all flags"),
        ];
        match rows.into_iter().find(|(is_given, ..)| *is_given) {
            Some((_, flag, instead)) => Err(FlagError::DnsperfOnly { flag, instead }),
            None => Ok(()),
        }
    }
}
