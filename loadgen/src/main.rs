//! `loadgen`: flags → workload → run → report. The story is in `loadgen`, the library, so that its tests can reach it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match loadgen::command::execute(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("loadgen: {error}");
            error.exit_code().into()
        }
    }
}
