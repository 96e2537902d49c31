//! `bufsize`: the largest UDP payload that a client may advertise with EDNS. It only lowers a
//! client's size.

use std::future::ready;

use wire::edit;
use wire::reply::UDP_LEN_MAX;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::finish::{Finish, Leaving};
use super::{Plugin, ServerBlock};
use crate::client::Transport;
use crate::corefile::Context;
use crate::corefile::report::Refusal;
use crate::corefile::statement::Statement;
use crate::corefile::word::quoted;

/// `bufsize [SIZE]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufSize {
    /// In bytes, 512 to 4096 [1232].
    pub udp_len_max: u16,
}

impl Plugin for BufSize {
    fn name(&self) -> &'static str {
        "bufsize"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        // The last one that runs: `nsid` makes responses longer.
        block.finishes.insert(0, Finish::BufSize(*self));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "bufsize [SIZE]";

const UDP_LEN_MAX_DEFAULT: u16 = 1232;

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let udp_len_max = match statement.args.as_slice() {
        [] => UDP_LEN_MAX_DEFAULT,
        [word] => match word.text.parse() {
            Ok(size @ 512..=4096) => size,
            Ok(_) | Err(_) => {
                let message = format!("ineligible or missing value: {}", quoted(&word.text));
                let refusal = Refusal::new(message, "not 512 to 4096");
                let refusal = refusal.help("a number of bytes without a unit: `bufsize 1232`");
                return context.refuse(word.span, refusal);
            }
        },
        [_, _, ..] => return statement.wrong_count(1, USAGE, context),
    };
    block.push(BufSize { udp_len_max });
}

impl BufSize {
    /// Lowers the size that the response's OPT announces, and truncates a UDP response to it. A
    /// client without EDNS has advertised nothing and accepts 512 bytes in any case.
    pub(super) fn finish(self, leaving: Leaving<'_>, message: &mut [u8], len: usize) -> usize {
        let message = message.get_mut(..len).filter(|_| leaving.edns.is_some());
        let Some(message) = message else { return len };
        edit::set_udp_len(message, self.udp_len_max.min(UDP_LEN_MAX));
        match leaving.arrival.transport {
            Transport::Udp => edit::cut_to(message, self.udp_len_max.into()),
            Transport::Tcp => len,
        }
    }
}
