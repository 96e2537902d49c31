//! `reload`: how often the Corefile is checked for changes. `control` checks it.

use std::future::ready;
use std::time::Duration;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::Statement;
use crate::corefile::value::duration;

/// Check every `interval`, shifted once at start-up by up to half of `jitter` either way, so that
/// replicas do not reload at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// At least 2 s.
    pub interval: Duration,
    /// 0, or at least 1 s; at most half of `interval`.
    pub jitter: Duration,
}

const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const INTERVAL_MIN: Duration = Duration::from_secs(2);
const JITTER_DEFAULT: Duration = Duration::from_secs(15);
const JITTER_MIN: Duration = Duration::from_secs(1);

impl Plugin for Reload {
    fn name(&self) -> &'static str {
        "reload"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, _: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "reload [INTERVAL [JITTER]]";

/// Advice for a value that is too short.
const USUAL: &str = "the defaults are `reload 30s 15s`";

/// Of several `reload` lines in a block the first is used, as in CoreDNS; ringdns warns of the
/// others.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    if statement.args.len() > 2 {
        statement.wrong_count(2, USAGE, context);
        return;
    }
    statement.takes_no_block(USAGE, context);
    let mut durations = [INTERVAL_DEFAULT, JITTER_DEFAULT];
    for (word, duration) in statement.args.iter().zip(&mut durations) {
        match duration::read(&word.text) {
            Ok(read) => *duration = read,
            Err(refusal) => return context.refuse(word.span, refusal),
        }
    }
    let [interval, jitter] = durations;
    if let (Some(word), true) = (statement.args.first(), interval < INTERVAL_MIN) {
        let message = "interval value must be greater or equal to 2s";
        return context.refuse(word.span, Refusal::new(message, "too short").help(USUAL));
    }
    if let (Some(word), true) = (statement.args.get(1), !jitter.is_zero() && jitter < JITTER_MIN) {
        let message = "jitter value must be 0 or greater or equal to 1s";
        return context.refuse(word.span, Refusal::new(message, "too short").help(USUAL));
    }
    if block.line::<Reload>().is_some() {
        let mistake = Mistake::warning(statement.name.span, "'reload' is set twice")
            .label("this one is ignored")
            .help("the block's first `reload` is used");
        return context.report(mistake);
    }
    block.push(Reload { interval, jitter: jitter.min(interval / 2) });
}
