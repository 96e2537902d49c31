//! Finishes: plugins that change or log a complete response before it is sent. Their rules are in
//! the plugins' own files.

use std::cell::RefCell;
use std::sync::Arc;

use wire::name::Name;
use wire::query::Edns;
use wire::reply::MESSAGE_LEN_MAX;
use wire::text::NameText;

use super::bufsize::BufSize;
use super::exchange::{NameTexts, Trail};
use super::header::FlagChange;
use super::log::BlockLog;
use super::log::ring::ShardRing;
use super::minimal;
use super::nsid::ServerId;
use super::rewrite::Rules;
use crate::client::{Arrival, Inside};
use crate::limits::REWRITES_MAX;
use crate::metrics::answerer::Answerer;

/// A finish of a block. Finishes run in the reverse of CoreDNS's order, as in CoreDNS: the last
/// plugin sees a response first.
#[derive(Clone, Debug)]
pub enum Finish {
    Nsid(ServerId),
    BufSize(BufSize),
    Log(Arc<BlockLog>),
    Rewrite(Arc<Rules>),
    Header(FlagChange),
    Minimal,
}

/// A response that is about to leave, without its bytes.
#[derive(Clone, Copy)]
pub struct Leaving<'l> {
    pub arrival: &'l Arrival,
    /// The query's.
    pub edns: Option<Edns>,
    /// The plugin that made it.
    pub by: Answerer,
    pub trail: &'l Trail,
    /// The question's, as it was asked of the sources.
    pub name: &'l Name,
    /// Where the query log takes queries.
    pub queries: ShardRing<'l>,
    /// Not borrowed while a finish runs, except by that finish.
    pub bench: &'l RefCell<Workbench>,
}

/// Memory that finishes work with. A shard has one for all responses.
pub struct Workbench {
    /// Room for any message.
    pub copy: Box<[u8]>,
    pub texts: NameTexts,
    /// The question's names, from the client's to the one that was asked.
    pub chain: Box<[NameText]>,
}

impl Default for Workbench {
    fn default() -> Self {
        Self {
            copy: vec![0; MESSAGE_LEN_MAX].into(),
            texts: NameTexts::default(),
            chain: vec![NameText::default(); REWRITES_MAX + 1].into(),
        }
    }
}

impl Finish {
    /// Changes the response, which is the first `len` bytes of `message`, and returns its new
    /// length. The message has room as `Packet::message` says.
    pub fn run(&self, leaving: Leaving<'_>, message: &mut [u8], len: usize) -> usize {
        match self {
            Self::Nsid(id) => id.finish(leaving, message, len),
            Self::Rewrite(rules) => rules.finish(leaving, message, len),
            Self::BufSize(bufsize) => bufsize.finish(leaving, message, len),
            Self::Log(log) => {
                log.finish(leaving, message.get(..len).unwrap_or_default());
                len
            }
            Self::Header(change) => change.finish(leaving, message, len),
            Self::Minimal => minimal::finish(leaving, message, len),
        }
    }

    /// Sees a query that gets no response. `message` begins with its header and its question.
    pub fn see_drop(&self, leaving: Leaving<'_>, message: &[u8]) {
        match self {
            Self::Log(log) => log.see_drop(leaving, message),
            Self::Nsid(_)
            | Self::Rewrite(_)
            | Self::BufSize(_)
            | Self::Header(_)
            | Self::Minimal => {}
        }
    }

    /// Whether it runs on the response to this kind of query. A client's response passes all
    /// finishes. That to an inside query passes the one that changes the question back, if a gate
    /// has changed it, and those of plugins after the ones that pursue: they see no response of
    /// `autopath` or `dns64`, only what it is made from.
    #[must_use]
    pub const fn runs_on(&self, inside: Option<Inside>) -> bool {
        match self {
            Self::Rewrite(_) | Self::Header(_) | Self::Minimal => true,
            Self::Nsid(_) | Self::BufSize(_) | Self::Log(_) => inside.is_none(),
        }
    }

    /// Whether it reads the client's address.
    #[must_use]
    pub const fn reads_peer(&self) -> bool {
        match self {
            Self::Nsid(_)
            | Self::BufSize(_)
            | Self::Header(_)
            | Self::Minimal
            | Self::Rewrite(_) => false,
            Self::Log(_) => true,
        }
    }

    /// Whether the fast path may skip it, with the reason.
    #[must_use]
    pub const fn allows_fast_path(&self) -> bool {
        match self {
            // The fast path leaves queries that ask for an NSID to the full path.
            Self::Nsid(_) => true,
            // Any response of the block may be truncated.
            Self::BufSize(_) => false,
            // It logs every response.
            Self::Log(_) => false,
            // Every response of a table is changed, or many.
            Self::Header(_) | Self::Minimal => false,
            // It changes the responses of queries that its gate noted, and a gate that may note
            // any closes the fast path.
            Self::Rewrite(_) => true,
        }
    }
}
