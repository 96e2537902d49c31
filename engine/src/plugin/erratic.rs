//! `erratic`: addresses for every name, in responses that are dropped, truncated or late, to test
//! clients. It answers what no plugin before it takes.
//!
//! Invariant: each query has a number of its own, in the order in which the server takes them.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wire::header::{AA, HEADER_LEN, Rcode, TC, TYPE_A, TYPE_AAAA};
use wire::query::Query;
use wire::reply::listing::{ListedRecord, Listing, Owner};
use wire::reply::{self, Stamped};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::Exchange;
use super::gate::{Gate, Passage};
use super::pursuit::{Found, Pursuit, Step};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, sets, warn_of_surplus};
use crate::corefile::value::{duration, number};
use crate::corefile::word::quoted;
use crate::limits::ERRATIC_DELAY_MAX;
use crate::metrics::answerer::Answerer;

/// All `erratic` lines of a block: of each option, the last line counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erratic {
    /// [2 if the other two amounts are 0, otherwise 0]
    pub drop_amount: Option<u32>,
    pub truncate_amount: u32,
    pub delay_amount: u32,
    /// At most `ERRATIC_DELAY_MAX`.
    pub delay: Duration,
    /// Whether responses to A have many records.
    pub is_large: bool,
}

impl Plugin for Erratic {
    fn name(&self) -> &'static str {
        "erratic"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.last.push(Gate::Erratic(Arc::new(Faults::new(self))));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "erratic { … }";

pub(crate) const SETTINGS: &[Setting<Erratic>] = &[
    sets("drop", DROP, |line, erratic, context| {
        // As in CoreDNS, it changes nothing without AMOUNT.
        if !line.args.is_empty() {
            erratic.drop_amount = only_amount(line, DROP, context).or(erratic.drop_amount);
        }
    }),
    sets("truncate", TRUNCATE, |line, erratic, context| {
        if let Some(amount) = only_amount(line, TRUNCATE, context) {
            erratic.truncate_amount = amount;
        }
    }),
    sets("delay", DELAY, read_delay),
    sets("large", LARGE, |line, erratic, context| {
        erratic.is_large |= line.exactly::<0>(LARGE, context).is_some();
    }),
];

const DROP: &str = "drop [AMOUNT]";
const TRUNCATE: &str = "truncate [AMOUNT]";
const DELAY: &str = "delay [AMOUNT [DURATION]]";
const LARGE: &str = "large";

const AMOUNT_DEFAULT: u32 = 2;
const DELAY_DEFAULT: Duration = Duration::from_millis(100);
/// Records of a response to A with `large`: CoreDNS's.
const LARGE_COUNT: usize = 30;

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    warn_of_surplus(&statement.args, USAGE, context);
    let erratic = block.line_or(Erratic {
        drop_amount: None,
        truncate_amount: 0,
        delay_amount: 0,
        delay: DELAY_DEFAULT,
        is_large: false,
    });
    statement.read_settings(SETTINGS, erratic, context);
}

fn only_amount(line: &Statement, usage: &str, context: &mut Context<'_>) -> Option<u32> {
    match line.args.as_slice() {
        [] => Some(AMOUNT_DEFAULT),
        [word] => amount(word, context),
        [_, _, ..] => {
            line.wrong_count(1, usage, context);
            None
        }
    }
}

fn read_delay(line: &Statement, erratic: &mut Erratic, context: &mut Context<'_>) {
    let (delay_amount, delay) = match line.args.as_slice() {
        [] => (Some(AMOUNT_DEFAULT), Some(DELAY_DEFAULT)),
        [word] => (amount(word, context), Some(DELAY_DEFAULT)),
        [word, delay] => (amount(word, context), delay_of(delay, context)),
        [_, _, _, ..] => return line.wrong_count(2, DELAY, context),
    };
    if let (Some(delay_amount), Some(delay)) = (delay_amount, delay) {
        erratic.delay_amount = delay_amount;
        erratic.delay = delay;
    }
}

fn amount(word: &Token, context: &mut Context<'_>) -> Option<u32> {
    let amount = number::of_32_bits(word).and_then(|amount| {
        u32::try_from(amount).map_err(|_| {
            let message = format!("illegal amount value given \"{}\"", quoted(&word.text));
            Refusal::new(message, "negative").help("0 for never, 1 for each query, 2 for half")
        })
    });
    amount.map_err(|refusal| context.refuse(word.span, refusal)).ok()
}

/// A delay that CoreDNS takes gets at most a warning, and is used as the nearest possible one.
fn delay_of(word: &Token, context: &mut Context<'_>) -> Option<Duration> {
    let unsigned = word.text.strip_prefix('-');
    if unsigned.is_some_and(|text| duration::read(text).is_ok()) {
        let mistake = Mistake::warning(word.span, "the delay is negative").label("used as 0s");
        context.report(mistake.help("write it without the minus, or an AMOUNT of 0 for never"));
        return Some(Duration::ZERO);
    }
    match duration::read(&word.text) {
        Ok(delay) if delay > ERRATIC_DELAY_MAX => {
            let longest = duration::shown(ERRATIC_DELAY_MAX);
            let message = format!("a delay of {} is longer than {longest}", duration::shown(delay));
            let mistake = Mistake::warning(word.span, message).label(format!("used as {longest}"));
            context.report(mistake.help("write `drop` for clients that are to get no response"));
            Some(ERRATIC_DELAY_MAX)
        }
        Ok(delay) => Some(delay),
        Err(refusal) => {
            context.refuse(word.span, refusal);
            None
        }
    }
}

/// Which queries are dropped, and which responses are truncated or late.
#[derive(Debug)]
pub struct Faults {
    drop_amount: u64,
    truncate_amount: u64,
    delay_amount: u64,
    delay: Duration,
    /// Records of a response to A: at least 1.
    a_count: usize,
    /// Queries so far. All shards share it, because the kernel spreads the queries of a test over
    /// them: with a counter per shard, which of them are dropped would depend on chance. Shards
    /// slow one another down by it, which a plugin for tests may do.
    query_count: AtomicU64,
}

impl Faults {
    fn new(erratic: &Erratic) -> Self {
        let Erratic { drop_amount, truncate_amount, delay_amount, delay, is_large } = *erratic;
        let is_only = truncate_amount == 0 && delay_amount == 0;
        let drop_amount = drop_amount.unwrap_or(if is_only { AMOUNT_DEFAULT } else { 0 });
        Self {
            drop_amount: drop_amount.into(),
            truncate_amount: truncate_amount.into(),
            delay_amount: delay_amount.into(),
            delay,
            a_count: if is_large { LARGE_COUNT } else { 1 },
            query_count: AtomicU64::new(0),
        }
    }

    pub(super) fn pass(&self, exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
        let number = self.query_count.fetch_add(1, Ordering::Relaxed);
        if is_due(number, self.drop_amount) {
            return Passage::Drop;
        }
        // CoreDNS compares the bits of the two numbers, and so does this.
        let is_truncated = self.truncate_amount > 0 && number & self.truncate_amount == 0;
        let shape = Shape { is_truncated, a_count: self.a_count };
        let Exchange { arrival, query, .. } = exchange;
        let len_max = arrival.len_max(query.edns);
        if is_due(number, self.delay_amount) && !self.delay.is_zero() {
            let asked = message.get(..HEADER_LEN + query.question_len()).unwrap_or_default();
            let late = LateResponse::new(self.delay, query, shape, len_max, asked);
            return Passage::Pursue(Box::new(Pursuit::Erratic(late)));
        }
        let (stamped, by) = respond(query, shape, len_max, message);
        Passage::Answer(stamped, by)
    }
}

/// Whether it is the turn of the query of this number, if every query whose number is a multiple
/// of `amount` has its turn; with 0, none has.
fn is_due(number: u64, amount: u64) -> bool {
    amount > 0 && number.is_multiple_of(amount)
}

/// What a response with addresses looks like.
#[derive(Clone, Copy)]
struct Shape {
    is_truncated: bool,
    /// Records if the type is A: at least 1.
    a_count: usize,
}

/// Writes the response over the query: an address, or SERVFAIL if the type has none.
fn respond(query: &Query, shape: Shape, len_max: usize, message: &mut [u8]) -> (Stamped, Answerer) {
    let (count, rdata): (usize, &[u8]) = match query.qtype {
        TYPE_A => (shape.a_count, &[192, 0, 2, 53]),
        TYPE_AAAA => (1, &[0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53]),
        _ => {
            let stamped = reply::stamp_reject(&query.reject(Rcode::ServFail), message);
            return (stamped, Answerer::SERVER);
        }
    };
    let mut listing = Listing::begin(query, len_max, message);
    let record = ListedRecord { rtype: query.qtype, ttl_secs: 0, rdata };
    for _ in 0..count {
        listing.answer(Owner::Question { from: 0 }, record);
    }
    let flags = if shape.is_truncated { AA | TC } else { AA };
    (listing.finish(flags, Rcode::NoError), const { Answerer::plugin("erratic") })
}

/// A response that comes later.
#[derive(Debug)]
pub struct LateResponse {
    /// `None` once it is over.
    delay: Option<Duration>,
    /// The whole message.
    message: Box<[u8]>,
    by: Answerer,
}

/// Bytes of the most A records, whose owners are compressed, and of an OPT record without options.
const RECORDS_LEN_MAX: usize = LARGE_COUNT * 16 + 11;

impl LateResponse {
    /// `asked`: the query's header and question.
    fn new(delay: Duration, query: &Query, shape: Shape, len_max: usize, asked: &[u8]) -> Self {
        let mut message = [asked, &[0; RECORDS_LEN_MAX]].concat();
        let (stamped, by) = respond(query, shape, len_max, &mut message);
        message.truncate(stamped.len);
        Self { delay: Some(delay), message: message.into(), by }
    }

    pub(super) fn next(&mut self) -> Step {
        match self.delay.take() {
            Some(delay) => Step::Wait(delay),
            None => Step::Respond(Found::new(std::mem::take(&mut self.message), self.by)),
        }
    }
}
