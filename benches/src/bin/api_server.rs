//! The API server that gives CoreDNS its cluster in `side-by-side.sh`: manifests over plain HTTP on
//! loopback.
//!
//! `api_server MANIFEST…` prints its address, and serves until its standard input is closed, so
//! that it cannot outlive the script.
#![forbid(unsafe_code)]

use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: api_server MANIFEST…");
        return ExitCode::from(2);
    }
    match loadgen::compare::api_server::serve(&files) {
        Ok(address) => println!("{address}"),
        Err(reason) => {
            eprintln!("api_server: cannot serve the manifests: {reason}");
            return ExitCode::FAILURE;
        }
    }
    // The input does not matter, and an error ends the wait as well.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}
