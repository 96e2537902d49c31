//! Pursuits: answers that need several look-ups in this server, one after another, or that come
//! later. Their steps are in the plugins' own files.
//!
//! A step gets the response of the last look-up and says what to look up next, or what to respond.
//! `responder/pursuit.rs` carries it out. Invariant: a pursuit has at most `PURSUIT_STEPS_MAX`
//! steps.

use std::fmt;
use std::time::Duration;

use wire::edit;

use super::autopath::pursuit::AutopathPursuit;
use super::dns64::Dns64Pursuit;
use super::erratic::LateResponse;
use super::exchange::CounterSlot;
use super::rewrite::CnamePursuit;
use super::targets::TargetPursuit;
use crate::limits::{FORWARD_TIMEOUT, PURSUIT_DEPTH_MAX, PURSUIT_STEPS_MAX, PURSUITS_MAX};
use crate::metrics::answerer::Answerer;

/// A pursuit and its progress.
#[derive(Debug)]
pub enum Pursuit {
    Dns64(Dns64Pursuit),
    Autopath(AutopathPursuit),
    Targets(TargetPursuit),
    Cname(CnamePursuit),
    Erratic(LateResponse),
}

/// What a pursuit does next.
#[derive(Debug)]
pub enum Step {
    Ask(InsideQuestion),
    Respond(Found),
    /// Take the next step after this time, without a response. Less than `FORWARD_TIMEOUT` for all
    /// steps together.
    Wait(Duration),
}

/// An inside query: a question that this server asks itself, of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsideQuestion {
    /// Wire format, uncompressed.
    pub name: Box<[u8]>,
    pub qtype: u16,
    pub scope: Scope,
}

/// What answers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The gates after the one that pursues, and the sources of its block.
    Behind,
    /// The whole server, as if a client asked.
    Server,
}

/// What the client gets.
#[derive(Debug)]
pub struct Found {
    /// A whole response. Its question is the client's, or another one that a CNAME leads to.
    pub message: Box<[u8]>,
    /// The TTL of that CNAME; `None` if there is none.
    pub cname_ttl_secs: Option<u32>,
    /// Options of the client's response, as an OPT has them: extended errors.
    pub options: Box<[u8]>,
    /// The plugin that counts as the one that answers.
    pub by: Answerer,
    /// The counter of the plugin that counts it.
    pub counts: Option<CounterSlot>,
}

/// Why a pursuit has no response. The client gets SERVFAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PursuitFailure {
    /// Too many are in flight.
    TooMany,
    /// It needs too many look-ups.
    TooLong,
    /// Its look-ups took too long.
    TimedOut,
    /// Too many are nested in one another.
    TooDeep,
}

impl fmt::Display for PursuitFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => {
                write!(formatter, "more than {PURSUITS_MAX} answers that need other look-ups first")
            }
            Self::TooLong => {
                write!(formatter, "the answer needs more than {PURSUIT_STEPS_MAX} look-ups")
            }
            Self::TimedOut => {
                write!(
                    formatter,
                    "the look-ups for the answer took longer than {FORWARD_TIMEOUT:?}"
                )
            }
            Self::TooDeep => {
                write!(
                    formatter,
                    "look-ups for one another are nested over {PURSUIT_DEPTH_MAX} deep"
                )
            }
        }
    }
}

impl Found {
    /// This response and its options, about the client's question. Nothing is counted.
    pub(super) fn new(message: Box<[u8]>, by: Answerer) -> Self {
        let options = edit::option_data(&message).into();
        Self { message, cname_ttl_secs: None, options, by, counts: None }
    }
}

impl Pursuit {
    /// The next step. `last`: the response of the last look-up, `None` without one. It is a
    /// whole message with a question; SERVFAIL if there was no response.
    pub fn next(&mut self, last: Option<Box<[u8]>>) -> Step {
        match self {
            Self::Dns64(pursuit) => pursuit.next(last),
            Self::Autopath(pursuit) => pursuit.next(last),
            Self::Targets(pursuit) => pursuit.next(last),
            Self::Cname(pursuit) => pursuit.next(last),
            Self::Erratic(late) => late.next(),
        }
    }

    /// Whether its response only comes later, and it looks nothing up.
    #[must_use]
    pub const fn only_waits(&self) -> bool {
        match self {
            Self::Erratic(_) => true,
            Self::Dns64(_) | Self::Autopath(_) | Self::Targets(_) | Self::Cname(_) => false,
        }
    }
}
