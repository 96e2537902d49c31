//! Clients that wait for upstreams, and how their responses get to them.

use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;

use wire::header::HEADER_LEN;
use wire::name::Name;
use wire::query::Query;
use wire::reply::{self, MESSAGE_LEN_MAX, Stamped};
use wire::response::{self, Alias, Response, TtlRule};
use wire::table::OwnedAnswer;

use super::outbox::Outbox;
use crate::answer::chase::View;
use crate::answer::exit::{Exit, Made, Timing};
use crate::answer::{Ask, Sources};
use crate::cache;
use crate::client::{Arrival, ListenerId, Transport};
use crate::forward::ForwardFailure;
use crate::io::late::{self, ReturnAddress};
use crate::limits::LISTENERS_MAX;
use crate::metrics::answerer::Answerer;
use crate::metrics::{ShardEvent, ShardMetrics};
use crate::plan::Plan;

/// A client that waits, and all that its response will need: the plan by which its query was read included, so
/// that finishes, counters and the log still mean the right block after a reload.
pub struct Waiter {
    plan: Arc<Plan>,
    /// Index in the plan.
    block: usize,
    arrival: Arrival,
    query: Query,
    /// The query's header and question.
    packet: Box<[u8]>,
    rotation: usize,
    /// CNAMEs of a table that may be gone when the response comes.
    alias: Option<OwnedAnswer>,
}

/// Where the response goes.
pub enum ReturnTo {
    Udp(ReturnAddress),
    Tcp(Rc<Outbox>),
}

/// What a client that waited is given.
pub enum Landing<'o> {
    /// `sources`: what its CNAMEs may lead to.
    Response {
        response: &'o Response,
        ttl: TtlRule,
        sources: Sources<'o>,
    },
    Failure(&'o ForwardFailure),
}

impl<'o> Landing<'o> {
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
    /// `packet`: the query's bytes.
    #[must_use]
    pub fn new(
        plan: &Arc<Plan>,
        ask: &Ask<'_>,
        arrival: &Arrival,
        packet: &[u8],
        rotation: usize,
    ) -> Self {
        let kept_len = HEADER_LEN + ask.query.question_len();
        let rotates = plan.blocks.get(ask.block).is_some_and(|block| block.rotates);
        Self {
            plan: Arc::clone(plan),
            block: ask.block,
            arrival: *arrival,
            query: ask.query,
            packet: packet.get(..kept_len).unwrap_or_default().into(),
            rotation: if rotates { rotation } else { 0 },
            alias: ask.alias.map(|cnames| cnames.to_owned()),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        self.arrival.transport
    }

    fn stamp(&self, landing: &Landing<'_>, message: &mut [u8]) -> Stamped {
        message[..self.packet.len()].copy_from_slice(&self.packet);
        let (response, ttl, sources) = match landing {
            Landing::Response { response, ttl, sources } => (*response, *ttl, *sources),
            Landing::Failure(failure) => {
                return reply::stamp_reject(&self.query.reject(failure.rcode()), message);
            }
        };
        let envelope = self.arrival.transport.envelope(&self.query, self.rotation);
        let alias = self.alias.as_ref().map(|alias| Alias { answer: alias.as_answer() });
        let view = View { sources, listener: self.arrival.listener, qtype: self.query.qtype };
        let end = view.end_of(response);
        let end = end.as_ref();
        response::stamp(&self.query, response, ttl, alias, end, envelope, message)
    }

    /// The response, which `stamp` has written.
    fn made(&self, landing: &Landing<'_>, stamped: Stamped) -> Made<'_> {
        let block = self.plan.blocks.get(self.block);
        let is_failure = matches!(landing, Landing::Failure(_));
        Made {
            len: stamped.len,
            rcode: stamped.rcode,
            qtype: self.query.qtype,
            edns: self.query.edns,
            // CoreDNS names no plugin for a response that its server made up for one that failed.
            by: if is_failure { Answerer::SERVER } else { const { Answerer::plugin("forward") } },
            counted_as: block.and_then(|block| block.counted_as),
            logged_as: block.and_then(|block| block.logged_as).filter(|_| is_failure),
            finishes: block.map_or(&[], |block| &block.finishes),
        }
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
    exit: Exit,
}

impl LateAnswers {
    #[must_use]
    pub fn new(metrics: Arc<ShardMetrics>, exit: Exit) -> Self {
        Self {
            sockets: [const { None }; LISTENERS_MAX],
            copy_count: 0,
            message: vec![0; MESSAGE_LEN_MAX].into(),
            metrics,
            exit,
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

    /// Sends a client its response.
    pub fn give(&mut self, waiter: Waiter, return_to: ReturnTo, landing: &Landing<'_>) {
        let stamped = waiter.stamp(landing, &mut self.message);
        let made = waiter.made(landing, stamped);
        let problem = match landing {
            Landing::Response { .. } => None,
            Landing::Failure(failure) => Some(failure as &dyn ToString),
        };
        // Counted first: whoever has the response can see it counted.
        let timing = Timing::Took(waiter.arrival.now.elapsed());
        let (arrival, name) = (&waiter.arrival, waiter.name());
        let len = self.exit.leave(&made, arrival, &name, &mut self.message, timing, problem);
        let message = &self.message[..len];
        match return_to {
            ReturnTo::Tcp(outbox) => outbox.deliver(message),
            ReturnTo::Udp(to) => {
                let copy = self.sockets[to.listener.0].as_ref();
                if copy.is_some_and(|copy| late::send(&copy.socket, &to, message).is_err()) {
                    self.metrics.count(ShardEvent::SendFailed, 1);
                }
            }
        }
    }
}
