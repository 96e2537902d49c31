//! `minimal`: successful responses without their authority and additional sections.

use std::future::ready;

use wire::edit;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::finish::{Finish, Leaving};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::statement::Statement;
use crate::metrics::answerer::Answerer;

/// `minimal`, which has no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minimal;

impl Plugin for Minimal {
    fn name(&self) -> &'static str {
        "minimal"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.finishes.push(Finish::Minimal);
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "minimal";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    if statement.exactly::<0>(USAGE, context).is_some() && block.line::<Minimal>().is_none() {
        block.push(Minimal);
    }
}

/// Changes responses of the plugins after this one, the cache's included: it keeps what came
/// through here.
pub(super) fn finish(leaving: Leaving<'_>, message: &mut [u8], len: usize) -> usize {
    let is_behind = leaving.by.is_at_or_after(const { Answerer::plugin("cache") });
    let Some(message) = message.get_mut(..len).filter(|_| is_behind) else { return len };
    edit::keep_answers(message)
}
