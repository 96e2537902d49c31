//! Reads the queries and expectations that the flags name, before the run.

use std::io::{self, IsTerminal};
use std::path::Path;

use crate::cli::RunFlags;
use crate::command_error::CommandError;
use crate::flag_error::FlagError;
use crate::workload::expect::Expectations;
use crate::workload::{Workload, cluster, mix, query_file};

/// The queries to send, with the answers to expect.
pub(crate) fn workload(flags: &RunFlags) -> Result<Workload, CommandError> {
    let read = |path: &Path| {
        query_file::read(path, flags.message_options()).map_err(CommandError::Queries)
    };
    let mut workload = match (&flags.queries, flags.from.as_slice()) {
        (Some(path), _) => read(path)?,
        // Nobody types queries by hand.
        (None, []) if io::stdin().is_terminal() => {
            return Err(CommandError::Flags(FlagError::NoQueries));
        }
        (None, []) => read(Path::new("-"))?,
        (None, paths) => {
            let mix = flags.mix().map_err(CommandError::Flags)?;
            let cluster = cluster::read(paths, &flags.zone).map_err(CommandError::Cluster)?;
            mix::generate(&cluster, &mix).map_err(CommandError::Mix)?
        }
    };
    if let Some(path) = &flags.verify {
        let expectations = Expectations::read(path).map_err(CommandError::Expectations)?;
        if workload.expect(expectations) == 0 {
            return Err(CommandError::NothingExpected { path: path.clone() });
        }
    }
    Ok(workload)
}
