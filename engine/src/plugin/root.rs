//! `root`: the folder where relative paths of the block's other lines start.

use std::path::PathBuf;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::draft::{BlockDraft, LoadContext, LoadError, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::statement::Statement;
use crate::corefile::{Context, Place};
use crate::limits::FILE_TIMEOUT;

/// `root PATH`; the last line of a block counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// A relative one starts at the working directory.
    pub folder: PathBuf,
    pub place: Place,
}

impl Plugin for Root {
    fn name(&self) -> &'static str {
        "root"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    /// The other lines find it with `ServerBlock::in_root`. A folder that is missing may appear
    /// later, so it is no error.
    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(async {
            let folder = self.folder.clone();
            let look = spawn_blocking(move || std::fs::metadata(folder).map(|_| ()));
            let problem = match timeout(FILE_TIMEOUT, look).await {
                Ok(Ok(Ok(()))) => return Ok(()),
                Ok(Ok(Err(error))) if error.kind() == std::io::ErrorKind::NotFound => {
                    block.warnings.push(format!(
                        "plugin/root: {}: Root path does not exist: {}",
                        self.place,
                        self.folder.display()
                    ));
                    return Ok(());
                }
                Ok(Ok(Err(error))) => error.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", FILE_TIMEOUT.as_secs()),
            };
            let problem =
                format!("unable to access root path '{}': {problem}", self.folder.display());
            Err(LoadError { place: self.place.clone(), problem: problem.into() })
        })
    }
}

pub(crate) const USAGE: &str = "root PATH";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let Some([path]) = statement.exactly::<1>(USAGE, context) else { return };
    let place = context.place(statement.name.span);
    let folder = PathBuf::from(&path.text);
    let root = block.line_or(Root { folder: folder.clone(), place });
    root.folder = folder;
}
