//! `any`: queries of type ANY get a minimal response (RFC 8482). It is a gate: no source of answers
//! sees the query.

use std::future::ready;

use wire::header::TYPE_ANY;
use wire::reply;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::Exchange;
use super::gate::{Gate, Passage};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::statement::Statement;
use crate::metrics::answerer::Answerer;

/// `any`, which has no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Any;

impl Plugin for Any {
    fn name(&self) -> &'static str {
        "any"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.gates.push(Gate::Any);
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "any";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    if statement.exactly::<0>(USAGE, context).is_some() {
        block.push(Any);
    }
}

const TYPE_HINFO: u16 = 13;
/// CoreDNS's TTL, in seconds.
const TTL_SECS: u32 = 8482;
/// HINFO's CPU and OS (RFC 8482, section 4.2; RFC 1035, section 3.3.2).
const CPU_AND_OS: &[u8] = b"\x0dANY obsoleted\x0cSee RFC 8482";

/// One HINFO record, whether or not the name exists.
pub(super) fn pass(exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
    if exchange.query.qtype != TYPE_ANY {
        return Passage::Pass;
    }
    let stamped = reply::stamp_record(&exchange.query, TYPE_HINFO, TTL_SECS, CPU_AND_OS, message);
    Passage::Answer(stamped, const { Answerer::plugin("any") })
}
