//! `header`: sets and clears flags of queries and responses.

use std::future::ready;

use wire::edit;
use wire::header::{AA, RA, RD};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::Exchange;
use super::finish::{Finish, Leaving};
use super::gate::{Gate, Passage};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::{Setting, Statement, adds};
use crate::corefile::word::quoted;
use crate::metrics::answerer::Answerer;

/// The first `header` of a block, as in CoreDNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub query: FlagChange,
    pub response: FlagChange,
}

/// Bits of a header's second word: no bit is in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlagChange {
    pub set: u16,
    pub clear: u16,
}

impl Plugin for Header {
    fn name(&self) -> &'static str {
        "header"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        if self.query != FlagChange::default() {
            block.gates.push(Gate::Header(self.query));
        }
        if self.response != FlagChange::default() {
            block.finishes.push(Finish::Header(self.response));
        }
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "header { … }";

pub(crate) const SETTINGS: &[Setting<Header>] =
    &[adds("query", QUERY, query), adds("response", RESPONSE, response)];

const QUERY: &str = "query set|clear FLAGS…";
const RESPONSE: &str = "response set|clear FLAGS…";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    if statement.exactly::<0>(USAGE, context).is_none() {
        return;
    }
    if statement.body.as_ref().is_none_or(|body| body.lines.is_empty()) {
        return statement.wrong_count(1, USAGE, context);
    }
    let mut header = Header::default();
    let other = |line: &Statement, header: &mut Header, context: &mut Context<'_>| {
        match line.name.text.to_ascii_lowercase().as_str() {
            "query" => return query(line, header, context),
            "response" => return response(line, header, context),
            _ => {}
        }
        let message = format!(
            "setting up rule: invalid selector={} should be query or response",
            quoted(&line.name.text)
        );
        refuse(line.name.span, message, "neither `query` nor `response`", context);
    };
    statement.read_settings_or(SETTINGS, other, &mut header, context);
    if block.line::<Header>().is_some() {
        let mistake = Mistake::warning(statement.name.span, "a second 'header' in this block");
        return context.report(mistake.label("ignored").help("write its lines into the first one"));
    }
    block.push(header);
}

fn refuse(span: Span, message: String, label: &'static str, context: &mut Context<'_>) {
    let refusal = Refusal::new(message, label);
    context.refuse(span, refusal.help(format!("usage: `{QUERY}` or `{RESPONSE}`")));
}

fn query(line: &Statement, header: &mut Header, context: &mut Context<'_>) {
    read_change(line, &mut header.query, context);
}

fn response(line: &Statement, header: &mut Header, context: &mut Context<'_>) {
    read_change(line, &mut header.response, context);
}

/// Adds one line to a change: where two contradict, the later one counts.
fn read_change(line: &Statement, change: &mut FlagChange, context: &mut Context<'_>) {
    const MISSING: &str = "something is missing after this";
    let [action, flags @ ..] = line.args.as_slice() else {
        let message = "setting up rule: no flag action provided".to_owned();
        return refuse(line.name.span, message, MISSING, context);
    };
    if flags.is_empty() {
        let message =
            "setting up rule: invalid length for flags, at least one should be provided".to_owned();
        return refuse(action.span, message, MISSING, context);
    }
    let sets = match action.text.to_ascii_lowercase().as_str() {
        "set" => true,
        "clear" => false,
        other => {
            let other = quoted(other);
            let message =
                format!("setting up rule: unknown flag action={other}, should be set or clear");
            return refuse(action.span, message, "neither `set` nor `clear`", context);
        }
    };
    for flag in flags {
        let bit = match flag.text.to_ascii_lowercase().as_str() {
            "aa" => AA,
            "ra" => RA,
            "rd" => RD,
            other => {
                let message =
                    format!("setting up rule: unknown/unsupported flag={}", quoted(other));
                return refuse(flag.span, message, "none of aa, ra, rd", context);
            }
        };
        change.set &= !bit;
        change.clear &= !bit;
        match sets {
            true => change.set |= bit,
            false => change.clear |= bit,
        }
    }
}

impl FlagChange {
    /// Of a query's flags, only RD matters to anything after this.
    pub(super) fn pass(self, exchange: &mut Exchange<'_>) -> Passage {
        let flags = exchange.query.kept_flags & !(self.clear & RD);
        exchange.query.kept_flags = flags | self.set & RD;
        Passage::Pass
    }

    /// Changes responses of the plugins after this one, the cache's included: it keeps what came
    /// through here.
    pub(super) fn finish(self, leaving: Leaving<'_>, message: &mut [u8], len: usize) -> usize {
        if leaving.by.is_at_or_after(const { Answerer::plugin("cache") }) {
            edit::change_flags(message, self.set, self.clear);
        }
        len
    }
}
