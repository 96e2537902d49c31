//! `https`: limits of the connections to a block's `https://` addresses, and what those connections
//! share. `crate::tcp::https` serves them.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, adds};
use crate::corefile::value::key::Scheme;
use crate::corefile::value::number;
use crate::corefile::word::quoted;
use crate::metrics::{BlockLabels, CounterFamily, PluginCounter};

/// `https { … }`; defaults in brackets. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Https {
    /// Connections that are open at one address, over all shards [0].
    pub max_connections: Option<u32>,
    /// Queries of one connection at a time [0]. `TCP_PENDING_MAX` limits them in any case.
    pub max_streams: Option<u32>,
}

impl Plugin for Https {
    fn name(&self) -> &'static str {
        "https"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.https = Some(*self);
        Box::pin(ready(Ok(())))
    }
}

/// What the connections to an `https://` address share.
#[derive(Clone, Debug, Default)]
pub struct HttpsListener {
    pub limits: Https,
    /// Connections that are open, over all shards. A reload keeps it.
    pub open_count: Arc<AtomicU32>,
    /// By `HttpsStatus`: from `Metrics::plugin_counter`.
    pub counters: [Option<usize>; HttpsStatus::ALL.len()],
}

/// The status of a response over HTTPS, as in CoreDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpsStatus {
    /// With a DNS response, whatever its response code.
    Ok,
    /// Not a request for a DNS response.
    BadRequest,
    /// Another path.
    NotFound,
    /// A plugin has dropped the query.
    NoResponse,
}

impl HttpsStatus {
    pub const ALL: [Self; 4] = [Self::Ok, Self::BadRequest, Self::NotFound, Self::NoResponse];

    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::NoResponse => 500,
        }
    }

    /// Its counter, of each `https://` address.
    #[must_use]
    pub fn counter(self) -> PluginCounter {
        PluginCounter { family: &RESPONSES, labels: vec![("status", self.code().to_string())] }
    }
}

const RESPONSES: CounterFamily = CounterFamily {
    name: "coredns_dns_https_responses",
    help: "Responses over HTTPS by HTTP status",
    block_labels: BlockLabels::Server,
};

pub(crate) const USAGE: &str = "https { … }";

const MAX_CONNECTIONS: &str = "max_connections NUMBER";
const MAX_STREAMS: &str = "max_streams NUMBER";

pub(crate) const SETTINGS: &[Setting<Https>] = &[
    adds("max_connections", MAX_CONNECTIONS, max_connections),
    adds("max_streams", MAX_STREAMS, max_streams),
];

/// Several `https` lines of a server block add up; no option may be given twice.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    if !statement.args.is_empty() {
        return statement.wrong_count(0, USAGE, context);
    }
    if block.keys.iter().all(|key| key.scheme != Scheme::Https) {
        let message = "'https' in a block without a zone that begins with `https://`";
        let mistake = Mistake::warning(statement.name.span, message).label("not used");
        context.report(mistake.help("write `https://` before a zone, as in `https://.`"));
    }
    statement.read_settings(SETTINGS, block.line_or(Https::default()), context);
}

fn max_connections(line: &Statement, https: &mut Https, context: &mut Context<'_>) {
    set(&mut https.max_connections, line, MAX_CONNECTIONS, context);
}

fn max_streams(line: &Statement, https: &mut Https, context: &mut Context<'_>) {
    set(&mut https.max_streams, line, MAX_STREAMS, context);
}

fn set(limit: &mut Option<u32>, line: &Statement, usage: &str, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(usage, context) else { return };
    let name = &line.name.text;
    if limit.is_some() {
        let message = format!("{name} already defined for this server block");
        return context.refuse(line.name.span, Refusal::new(message, "given again here"));
    }
    match read_limit(word, name) {
        Ok(read) => *limit = Some(read),
        Err(refusal) => context.refuse(word.span, refusal.help(format!("usage: `{usage}`"))),
    }
}

/// A number from 0 on. One that no limit can reach is as good as any.
fn read_limit(word: &Token, name: &str) -> Result<u32, Refusal> {
    match number::read(word) {
        Ok(limit @ 0..) => Ok(u32::try_from(limit).unwrap_or(u32::MAX)),
        Ok(limit) => {
            let message = format!("{name} must be a non-negative integer: {limit}");
            Err(Refusal::new(message, "negative"))
        }
        Err(refusal) => {
            let word = quoted(&word.text);
            let message = format!("invalid {name} value '{word}': {}", refusal.message);
            Err(Refusal { message, ..refusal })
        }
    }
}
