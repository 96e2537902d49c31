//! Why a command failed, and the exit codes.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::compare::ServerExit;
use crate::compare::binary::BinaryError;
use crate::compare::launch::LaunchError;
use crate::flag_error::FlagError;
use crate::output::OutputError;
use crate::run::RunError;
use crate::workload::cluster::ClusterError;
use crate::workload::expect::ExpectError;
use crate::workload::mix::MixError;
use crate::workload::query_file::QueryFileError;

/// How a run ended. The numbers are documented in `--help` and README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Reported = 0,
    /// Also if a server exited during the run or a report could not be written.
    NotRun = 1,
    BadInput = 2,
    NoAnswer = 3,
    NotAsExpected = 4,
    /// 128 + SIGINT, the shell convention.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

#[derive(Debug)]
pub enum CommandError {
    Flags(FlagError),
    Queries(QueryFileError),
    Cluster(ClusterError),
    Mix(MixError),
    Expectations(ExpectError),
    NothingExpected {
        path: PathBuf,
    },
    Run(RunError),
    Binary(BinaryError),
    Launch(LaunchError),
    ServerExited(ServerExit),
    /// Stopped by a signal before the first round was complete.
    NothingMeasured,
    Signal(io::Error),
    Output(OutputError),
}

impl CommandError {
    pub fn exit_code(&self) -> Code {
        match self {
            Self::Flags(_)
            | Self::Queries(_)
            | Self::Cluster(_)
            | Self::Mix(_)
            | Self::Expectations(_)
            | Self::NothingExpected { .. }
            | Self::Output(OutputError::Same { .. }) => Code::BadInput,
            Self::Launch(LaunchError::Stopped { .. }) | Self::NothingMeasured => Code::Interrupted,
            Self::Run(_)
            | Self::Binary(_)
            | Self::Launch(_)
            | Self::ServerExited(_)
            | Self::Signal(_)
            | Self::Output(_) => Code::NotRun,
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags(error) => error.fmt(f),
            Self::Queries(error) => error.fmt(f),
            Self::Cluster(error) => error.fmt(f),
            Self::Mix(error) => error.fmt(f),
            Self::Expectations(error) => error.fmt(f),
            Self::NothingExpected { path } => {
                write!(
                    f,
                    "none of the queries is listed in {}, so nothing can be verified",
                    path.display()
                )
            }
            Self::Run(error) => error.fmt(f),
            Self::Binary(error) => error.fmt(f),
            Self::Launch(error) => error.fmt(f),
            Self::Signal(error) => write!(f, "cannot watch for Ctrl-C: {error}"),
            Self::ServerExited(exit) => exit.fmt(f),
            Self::NothingMeasured => {
                write!(
                    f,
                    "stopped by a signal before the first round was complete: nothing to report"
                )
            }
            Self::Output(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CommandError {}
