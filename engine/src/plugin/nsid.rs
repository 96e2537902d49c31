//! `nsid`: the server's identifier, in responses to clients that ask for it (RFC 5001).

use std::future::ready;
use std::sync::Arc;

use wire::edit::{self, EdnsOption, OPTION_NSID};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::finish::{Finish, Leaving};
use super::host_name::host_name;
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::statement::Statement;

/// `nsid [DATA]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nsid {
    /// The words of the line, one blank between them [the name of the machine].
    pub data: Option<String>,
}

impl Plugin for Nsid {
    fn name(&self) -> &'static str {
        "nsid"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        let data = self.data.clone().unwrap_or_else(host_name);
        block.finishes.push(Finish::Nsid(ServerId(data.into_bytes().into())));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "nsid [DATA]";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let words: Vec<&str> = statement.args.iter().map(|word| word.text.as_str()).collect();
    block.push(Nsid { data: (!words.is_empty()).then(|| words.join(" ")) });
}

/// The data of the option.
#[derive(Clone, Debug)]
pub struct ServerId(Arc<[u8]>);

impl ServerId {
    /// Appends it to the OPT of a response whose client asks for it. One that does not fit beside
    /// the question is left out.
    pub(super) fn finish(&self, leaving: Leaving<'_>, message: &mut [u8], len: usize) -> usize {
        if !leaving.edns.is_some_and(|edns| edns.asks_nsid) {
            return len;
        }
        let option = EdnsOption { code: OPTION_NSID, data: &self.0 };
        edit::add_option(message, len, option, leaving.arrival.len_max(leaving.edns))
    }
}
