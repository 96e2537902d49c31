//! `chaos`: the server's version, name and authors, in class CH (RFC 4892).

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;

use wire::header::{CLASS_CH, Rcode, TYPE_TXT};
use wire::reply::listing::{ListedRecord, Listing, Owner};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::Exchange;
use super::gate::{Gate, Passage};
use super::host_name::host_name;
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::statement::Statement;
use crate::metrics::answerer::Answerer;

/// `chaos [VERSION] [AUTHORS…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chaos {
    /// [ringdns and its version]
    pub version: String,
    /// Each once, in their order [The ringdns authors].
    pub authors: Vec<String>,
}

impl Plugin for Chaos {
    fn name(&self) -> &'static str {
        "chaos"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        let answers = ChaosAnswers {
            version: text_record(&self.version),
            authors: self.authors.iter().map(|author| text_record(author)).collect(),
            host_name: text_record(&host_name()),
        };
        block.gates.push(Gate::Chaos(Arc::new(answers)));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "chaos [VERSION] [AUTHORS…]";

const VERSION_DEFAULT: &str = concat!("ringdns-", env!("CARGO_PKG_VERSION"));
const AUTHORS_DEFAULT: &str = "The ringdns authors";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let (version, authors) = match statement.args.as_slice() {
        [] => (VERSION_DEFAULT, [].as_slice()),
        [version, authors @ ..] => (version.text.as_str(), authors),
    };
    let authors: BTreeSet<&str> = match authors {
        [] => [AUTHORS_DEFAULT].into(),
        authors => authors.iter().map(|author| author.text.as_str()).collect(),
    };
    let authors = authors.into_iter().map(str::to_owned).collect();
    block.push(Chaos { version: version.to_owned(), authors });
}

/// The data of TXT records, made before the first query.
#[derive(Debug)]
pub struct ChaosAnswers {
    version: Box<[u8]>,
    authors: Box<[Box<[u8]>]>,
    host_name: Box<[u8]>,
}

/// One string of at most 255 bytes; CoreDNS cuts longer ones likewise.
fn text_record(text: &str) -> Box<[u8]> {
    let text = &text.as_bytes()[..text.len().min(255)];
    [&[text.len() as u8], text].concat().into()
}

impl ChaosAnswers {
    pub(super) fn pass(&self, exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
        let Exchange { arrival, query, name, .. } = exchange;
        if (query.qclass, query.qtype) != (CLASS_CH, TYPE_TXT) {
            return Passage::Pass;
        }
        let texts = match name.bytes() {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => {
                std::slice::from_ref(&self.version)
            }
            b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => {
                std::slice::from_ref(&self.host_name)
            }
            b"\x07authors\x04bind\0" => &self.authors,
            _ => return Passage::Pass,
        };
        let mut listing = Listing::begin(query, arrival.len_max(query.edns), message);
        for rdata in texts {
            let record = ListedRecord { rtype: TYPE_TXT, ttl_secs: 0, rdata };
            listing.answer(Owner::Question { from: 0 }, record);
        }
        let stamped = listing.finish(0, Rcode::NoError);
        Passage::Answer(stamped, const { Answerer::plugin("chaos") })
    }
}
