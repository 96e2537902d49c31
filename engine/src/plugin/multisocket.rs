//! `multisocket`: accepted. Each shard always has its own socket for every address; only the number
//! of sockets is not the line's.

use std::future::ready;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::Statement;
use crate::corefile::value::number;
use crate::corefile::{Context, Place};

/// `multisocket [NUM_SOCKETS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiSocket {
    /// 1 to 1024 [one per core].
    pub count: Option<u16>,
    pub place: Place,
}

impl Plugin for MultiSocket {
    fn name(&self) -> &'static str {
        "multisocket"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        if let Some(count) = self.count {
            block.warnings.push(format!(
                "plugin/multisocket: {}: the number is not used: there is one socket per shard, \
                 which is one per core; for {count} start ringdns with `--shards {count}`",
                self.place
            ));
        }
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "multisocket [NUM_SOCKETS]";

const COUNT_MAX: i64 = 1024;

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    if block.line::<MultiSocket>().is_some() {
        let message = "Wrong argument count or unexpected line ending after 'multisocket'";
        let mistake = Mistake::error(statement.name.span, message).label("used again here");
        return context.report(mistake.help("delete it: a server block has one `multisocket`"));
    }
    let count = match statement.args.as_slice() {
        [] => None,
        [word] => {
            let message = match number::read(word) {
                Ok(count @ 1..=COUNT_MAX) => {
                    let place = context.place(statement.name.span);
                    return block.push(MultiSocket { count: Some(count as u16), place });
                }
                Ok(count @ ..=0) => format!("num sockets can not be zero or negative: {count}"),
                Ok(count) => format!("num sockets exceeds maximum ({COUNT_MAX}): {count}"),
                Err(refusal) => format!("invalid num sockets: {}", refusal.message),
            };
            let refusal = Refusal::new(message, "not 1 to 1024");
            return context.refuse(word.span, refusal.help(format!("usage: `{USAGE}`")));
        }
        [_, _, ..] => return statement.wrong_count(1, USAGE, context),
    };
    block.push(MultiSocket { count, place: context.place(statement.name.span) });
}
