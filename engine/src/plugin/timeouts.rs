//! `timeouts`: time limits of TCP connections, and how many queries a connection may carry.
//! `crate::tcp` enforces them.

use std::future::ready;
use std::time::Duration;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, sets};
use crate::corefile::value::{duration, number};
use crate::corefile::word::quoted;
use crate::limits::{TCP_IDLE_TIMEOUT, TCP_READ_TIMEOUT, TCP_WRITE_TIMEOUT};

/// Time limits of TCP connections, each from 1 s to 24 h; defaults in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To receive a whole query [3 s].
    pub read: Duration,
    /// For the peer to read a response [5 s].
    pub write: Duration,
    /// Between queries [10 s].
    pub idle: Duration,
    /// Queries per connection, at least 1 [no limit].
    pub max_tcp_queries: Option<u32>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            read: TCP_READ_TIMEOUT,
            write: TCP_WRITE_TIMEOUT,
            idle: TCP_IDLE_TIMEOUT,
            max_tcp_queries: None,
        }
    }
}

impl Plugin for Timeouts {
    fn name(&self) -> &'static str {
        "timeouts"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.timeouts = Some(*self);
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "timeouts { … }";

const READ: &str = "read DURATION";
const WRITE: &str = "write DURATION";
const IDLE: &str = "idle DURATION";
const MAX_TCP_QUERIES: &str = "maxtcpqueries NUMBER";

pub(crate) const SETTINGS: &[Setting<Timeouts>] = &[
    sets("read", READ, read_timeout),
    sets("write", WRITE, write_timeout),
    sets("idle", IDLE, idle_timeout),
    sets("maxtcpqueries", MAX_TCP_QUERIES, max_tcp_queries),
];

const MIN: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Several `timeouts` blocks of a server block add up; the last occurrence of an option is used.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    if !statement.args.is_empty() {
        return statement.wrong_count(0, USAGE, context);
    }
    if statement.body.as_ref().is_none_or(|body| body.lines.is_empty()) {
        let message = "timeouts block with no timeouts specified";
        let mistake = Mistake::error(statement.name.span, message).label("no option is set");
        return context.report(mistake.help("the options are read, write, idle, maxtcpqueries"));
    }
    let timeouts = block.line_or(Timeouts::default());
    statement.read_settings(SETTINGS, timeouts, context);
}

fn read_timeout(line: &Statement, timeouts: &mut Timeouts, context: &mut Context<'_>) {
    set(&mut timeouts.read, line, READ, context);
}

fn write_timeout(line: &Statement, timeouts: &mut Timeouts, context: &mut Context<'_>) {
    set(&mut timeouts.write, line, WRITE, context);
}

fn idle_timeout(line: &Statement, timeouts: &mut Timeouts, context: &mut Context<'_>) {
    set(&mut timeouts.idle, line, IDLE, context);
}

fn set(timeout: &mut Duration, line: &Statement, usage: &str, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(usage, context) else { return };
    match read_seconds(word) {
        Ok(read) if (MIN..=MAX).contains(&read) => *timeout = read,
        Ok(read) => {
            let message = format!(
                "timeout provided '{}' needs to be between 1 second and 24 hours",
                duration::shown(read)
            );
            context.refuse(word.span, Refusal::new(message, "out of range"));
        }
        Err(refusal) => context.refuse(word.span, refusal),
    }
}

/// A duration. A number without a unit is in seconds.
fn read_seconds(word: &Token) -> Result<Duration, Refusal> {
    let text = match word.text.parse::<i64>() {
        Ok(_) => format!("{}s", word.text),
        Err(_) => word.text.clone(),
    };
    duration::read(&text).map_err(|refusal| Refusal {
        message: format!("failed to parse duration '{}'", quoted(&word.text)),
        ..refusal
    })
}

fn max_tcp_queries(line: &Statement, timeouts: &mut Timeouts, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(MAX_TCP_QUERIES, context) else { return };
    match number::read(word) {
        Ok(-1) => timeouts.max_tcp_queries = None,
        Ok(count @ 1..) => {
            timeouts.max_tcp_queries = Some(u32::try_from(count).unwrap_or(u32::MAX));
        }
        Ok(count) => {
            let message = format!(
                "maxtcpqueries provided '{count}' needs to be -1 (unlimited) or a positive integer"
            );
            context.refuse(word.span, Refusal::new(message, "out of range"));
        }
        Err(refusal) => {
            let message = format!(
                "invalid value for maxtcpqueries '{}': {}",
                quoted(&word.text),
                refusal.message
            );
            context.refuse(word.span, Refusal { message, ..refusal });
        }
    }
}
