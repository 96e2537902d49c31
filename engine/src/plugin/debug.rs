//! `debug`: accepted, and without effect: ringdns has no debug messages to turn on.

use std::future::ready;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::statement::Statement;
use crate::corefile::{Context, Place};

/// `debug`, which has no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debugging {
    pub place: Place,
}

impl Plugin for Debugging {
    fn name(&self) -> &'static str {
        "debug"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.warnings.push(format!(
            "plugin/debug: {}: this line changes nothing: there are no debug messages, and every \
             panic is logged and counted without it",
            self.place
        ));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "debug";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    if statement.exactly::<0>(USAGE, context).is_some() && block.line::<Debugging>().is_none() {
        block.push(Debugging { place: context.place(statement.name.span) });
    }
}
