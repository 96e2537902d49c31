//! Clients that wait for an answer from outside, and how it gets to them.

use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use wire::header::{HEADER_LEN, Rcode};
use wire::name::Name;
use wire::query::Query;
use wire::reply::{self, MESSAGE_LEN_MAX, Stamped};
use wire::response::{self, Alias, Response, TtlRule};
use wire::table::OwnedAnswer;

use super::outbox::Outbox;
use crate::answer::chase::View;
use crate::answer::exit::ErrorReport;
use crate::answer::{AnsweredBy, Ask, Question, Sources};
use crate::cache;
use crate::client::{Family, ListenerId, Transport};
use crate::forward::ForwardFailure;
use crate::io::late::{self, ReturnAddress};
use crate::limits::LISTENERS_MAX;
use crate::metrics::{Observation, ShardEvent, ShardMetrics};

/// A client that waits.
pub struct Waiter {
    query: Query,
    /// Header and question as they came.
    packet: Box<[u8]>,
    /// Of the whole query.
    query_len: usize,
    pub transport: Transport,
    family: Family,
    listener: ListenerId,
    counted_as: Option<usize>,
    logged_as: Option<usize>,
    rotation: usize,
    /// CNAMEs of a table that may be gone when the answer comes.
    alias: Option<OwnedAnswer>,
    began: Instant,
}

/// How the answer gets there.
pub enum ReturnTo {
    Udp(ReturnAddress),
    Tcp(Rc<Outbox>),
}

/// What the waiting came to.
pub enum Outcome<'o> {
    /// `sources`: what its CNAMEs may lead to.
    Response {
        response: &'o Response,
        ttl: TtlRule,
        sources: Sources<'o>,
    },
    Failure(&'o ForwardFailure),
}

impl<'o> Outcome<'o> {
    /// What a cache has on a question for this name, if it may be given in this view.
    #[must_use]
    pub fn kept(
        answer: cache::CachedResponse<'o>,
        view: View<'o>,
        question: &[u8],
    ) -> Option<Self> {
        let cache::CachedResponse { response, ttl } = answer;
        let may_be_given = view.may_be_given(response, question);
        may_be_given.then_some(Self::Response { response, ttl, sources: view.sources })
    }
}

impl Waiter {
    #[must_use]
    pub fn new(ask: &Ask<'_>, question: &Question, packet: &[u8], rotation: usize) -> Self {
        let kept_len = HEADER_LEN + ask.query.question_len();
        Self {
            query: ask.query,
            packet: packet.get(..kept_len).unwrap_or_default().into(),
            query_len: packet.len(),
            transport: question.transport,
            family: question.family(),
            listener: question.listener,
            counted_as: ask.block.counted_as,
            logged_as: ask.block.logged_as,
            rotation: if ask.block.rotates { rotation } else { 0 },
            alias: ask.alias.map(|cnames| cnames.to_owned()),
            began: question.now,
        }
    }

    fn stamp(&self, outcome: &Outcome<'_>, message: &mut [u8]) -> Stamped {
        message[..self.packet.len()].copy_from_slice(&self.packet);
        let (response, ttl, sources) = match outcome {
            Outcome::Response { response, ttl, sources } => (*response, *ttl, *sources),
            Outcome::Failure(failure) => {
                return reply::stamp_reject(&self.query.reject(failure.rcode()), message);
            }
        };
        let envelope = self.transport.envelope(&self.query, self.rotation);
        let alias = self.alias.as_ref().map(|alias| Alias { answer: alias.as_answer() });
        let view = View { sources, listener: self.listener, qtype: self.query.qtype };
        let end = view.end_of(response);
        let end = end.as_ref();
        response::stamp(&self.query, response, ttl, alias, end, envelope, message)
    }

    fn name(&self) -> Name {
        Name::from_wire(self.packet.get(HEADER_LEN..).unwrap_or_default()).unwrap_or_default()
    }
}

/// A copy of a listener's socket.
struct Copy {
    socket: UdpSocket,
    number: u64,
}

/// Answers that leave by themselves, not in the batch that their questions came in.
pub struct LateAnswers {
    /// By `ListenerId`.
    sockets: [Option<Copy>; LISTENERS_MAX],
    /// Copies made so far.
    copy_count: u64,
    /// The message that is being made.
    message: Box<[u8]>,
    metrics: Arc<ShardMetrics>,
    errors: Sender<ErrorReport>,
}

impl LateAnswers {
    #[must_use]
    pub fn new(metrics: Arc<ShardMetrics>, errors: Sender<ErrorReport>) -> Self {
        Self {
            sockets: [const { None }; LISTENERS_MAX],
            copy_count: 0,
            message: vec![0; MESSAGE_LEN_MAX].into(),
            metrics,
            errors,
        }
    }

    /// Answers of this listener leave by this socket, a copy of the one that receives.
    pub fn open(&mut self, listener: ListenerId, socket: UdpSocket) {
        self.copy_count += 1;
        self.sockets[listener.0] = Some(Copy { socket, number: self.copy_count });
    }

    /// Which copy a listener has; none has the number of another.
    #[must_use]
    pub fn copy_of(&self, listener: ListenerId) -> Option<u64> {
        self.sockets[listener.0].as_ref().map(|copy| copy.number)
    }

    /// Must follow when the listener is closed: the copy keeps its address bound. If another copy has taken its place by now,
    /// nothing happens.
    pub fn close(&mut self, listener: ListenerId, copy: u64) {
        if self.copy_of(listener) == Some(copy) {
            self.sockets[listener.0] = None;
        }
    }

    /// Answers, counts and logs.
    pub fn give(&mut self, waiter: Waiter, return_to: ReturnTo, outcome: &Outcome<'_>) {
        let stamped = waiter.stamp(outcome, &mut self.message);
        // Counted first: who has the answer can see it counted.
        let observation = Observation {
            block: waiter.counted_as,
            transport: waiter.transport,
            family: waiter.family,
            qtype: waiter.query.qtype,
            dnssec_ok: waiter.query.dnssec_ok(),
            rcode: stamped.rcode,
            // CoreDNS names no plugin for an answer that its server made up for one that failed.
            plugin: match outcome {
                Outcome::Response { .. } => AnsweredBy::Forward,
                Outcome::Failure(_) => AnsweredBy::EndOfChain,
            },
            query_len: waiter.query_len,
            reply_len: stamped.len,
        };
        self.metrics.observe_one(&observation, waiter.began.elapsed());
        let message = &self.message[..stamped.len];
        match return_to {
            ReturnTo::Tcp(outbox) => outbox.deliver(message),
            ReturnTo::Udp(to) => {
                let copy = self.sockets[to.listener.0].as_ref();
                if copy.is_some_and(|copy| late::send(&copy.socket, &to, message).is_err()) {
                    self.metrics.count(ShardEvent::SendFailed, 1);
                }
            }
        }
        if let (Outcome::Failure(failure), Some(logged_as)) = (outcome, waiter.logged_as) {
            self.log(&waiter, logged_as, stamped.rcode, failure);
        }
    }

    fn log(&self, waiter: &Waiter, logged_as: usize, rcode: Rcode, failure: &ForwardFailure) {
        let report = ErrorReport {
            logged_as,
            rcode,
            name: waiter.name(),
            qtype: waiter.query.qtype,
            message: Some(failure.to_string()),
        };
        report.send(&self.errors, &self.metrics);
    }
}
