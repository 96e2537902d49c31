//! dnsperf's flags that loadgen does not have: each is refused by its name, with what to say instead.
//!
//! They are parsed so that the message is ours. Invariant: with `cli::RunFlags`, every letter of dnsperf 2.10 is known; nothing
//! that a script says is ignored in silence.

use clap::Args;

use crate::plan::FlagError;

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
            (self.edns_option.is_some(), "-E", "-e and -D send EDNS without options"),
            (self.tsig_key.is_some(), "-y", "queries go unsigned; leave it out"),
            (
                !self.long_option.is_empty(),
                "-O",
                "--reconnect N is num-queries-per-conn=N; there is no DoH, and nothing to suppress",
            ),
            (self.updates, "-u", "only queries are sent; dnsperf itself sends updates"),
            (self.binary_file, "-B", "write the queries as lines of a name and a type"),
            (
                self.verbose,
                "-v",
                "a line for each query would slow the run: --verify checks answers, --json has the counts",
            ),
            (self.long_help, "-H", "--help lists all there is"),
        ];
        match rows.into_iter().find(|(is_given, ..)| *is_given) {
            Some((_, flag, instead)) => Err(FlagError::DnsperfOnly { flag, instead }),
            None => Ok(()),
        }
    }
}
