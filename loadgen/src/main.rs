//! `loadgen`: parses the flags, runs the command and prints its error. All logic is in the library,
//! where tests can reach it.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let warns_on_stdout = cli.run_flags().warn_on_stdout;
    match loadgen::command::execute(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            let text = format!("loadgen: {error}\n");
            // If the stream is closed, nobody reads the error.
            let _ = match warns_on_stdout {
                true => io::stdout().write_all(text.as_bytes()),
                false => io::stderr().write_all(text.as_bytes()),
            };
            error.exit_code().into()
        }
    }
}
