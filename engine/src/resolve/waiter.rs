//! Clients that wait for upstreams, and how their responses are sent.
//!
//! Invariant: a waiter owns everything that its response needs of the query: the query's buffer is
//! reused meanwhile.

use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;
use wire::answer::OwnedAnswer;
use wire::edit;
use wire::header::{HEADER_LEN, Rcode};
use wire::name::Name;
use wire::query::Query;
use wire::reply::{self, MESSAGE_LEN_MAX, Stamped};
use wire::response::{self, Alias, Response, TtlRule};

use super::outbox::Outbox;
use crate::answer::chase::View;
use crate::answer::exit::{Answered, Exit, Made, Timing};
use crate::answer::{self, Ask, Sources};
use crate::cache;
use crate::client::{Arrival, ListenerId, Transport};
use crate::forward::ForwardFailure;
use crate::io::late::{self, ReturnAddress};
use crate::limits::LISTENERS_MAX;
use crate::metrics::answerer::Answerer;
use crate::metrics::{ShardEvent, ShardMetrics};
use crate::plan::Plan;
use crate::plugin::exchange::Trail;
use crate::plugin::pursuit::PursuitFailure;

/// A waiting client, and everything that its response needs. It keeps the plan under which its
/// query was read, so that finishes and counters refer to the right block after a reload.
pub struct Waiter {
    plan: Arc<Plan>,
    /// Index in the plan.
    block: usize,
    arrival: Arrival,
    query: Query,
    /// The query's header, and its question as it was asked of the sources.
    packet: Box<[u8]>,
    /// What the block's finishes need of the query.
    trail: Trail,
    rotation: usize,
    /// CNAMEs of a table, copied: the table may be gone when the response comes. Or that of a
    /// pursuit.
    alias: Option<OwnedAnswer>,
    is_authority: bool,
    /// Options of the response of a pursuit, as an OPT has them.
    options: Box<[u8]>,
    /// The plugin that counts as the one that answers, unless the flight fails.
    by: Answerer,
}

/// Where the response goes.
pub enum ReturnTo {
    Udp(ReturnAddress),
    Tcp(Rc<Outbox>),
    /// To a task of this thread: a pursuit, an explanation, a request over HTTPS.
    Task(oneshot::Sender<Box<[u8]>>),
}

impl ReturnTo {
    /// Ends a query that gets no response.
    pub fn drop_query(self) {
        match self {
            Self::Tcp(outbox) => outbox.cancel(),
            // The client waits in vain; the task finds the other end gone.
            Self::Udp(_) | Self::Task(_) => {}
        }
    }
}

/// The result of a flight, for each waiting client, or that of a pursuit.
pub enum FlightResult<'o> {
    /// `sources`: where the targets of its CNAMEs are looked up.
    Response {
        response: &'o Response,
        ttl: TtlRule,
        sources: &'o Sources,
    },
    Failure(&'o ForwardFailure),
    PursuitFailure(&'o PursuitFailure),
}

impl<'o> FlightResult<'o> {
    /// A cached response to a question for this name, if clients of this view may have it.
    #[must_use]
    pub fn cached(
        answer: cache::CachedResponse<'o>,
        view: View<'o>,
        question: &[u8],
    ) -> Option<Self> {
        let cache::CachedResponse { response, ttl } = answer;
        let may_be_sent = view.may_be_sent(response, question);
        may_be_sent.then_some(Self::Response { response, ttl, sources: view.sources })
    }
}

impl Waiter {
    /// `block`: the client's, by index; `message`: the query's bytes, with the question that is
    /// asked.
    #[must_use]
    pub fn new(
        plan: &Arc<Plan>,
        block: usize,
        query: &Query,
        answered: &Answered<'_>,
        message: &[u8],
        rotation: usize,
    ) -> Self {
        let kept_len = HEADER_LEN + query.question_len();
        let rotates = plan.blocks.get(block).is_some_and(|block| block.rotates);
        Self {
            plan: Arc::clone(plan),
            block,
            arrival: *answered.arrival,
            query: *query,
            packet: message.get(..kept_len).unwrap_or_default().into(),
            trail: answered.trail.clone(),
            rotation: if rotates { rotation } else { 0 },
            alias: None,
            is_authority: false,
            options: Box::default(),
            by: const { Answerer::plugin("forward") },
        }
    }

    /// The client of a question for upstreams.
    #[must_use]
    pub fn asking(self, ask: &Ask<'_>) -> Self {
        let alias = ask.alias.map(|cnames| cnames.to_owned());
        Self { is_authority: alias.is_some(), alias, ..self }
    }

    /// The client of a pursuit that has ended: the response comes after this CNAME, and has these
    /// options.
    #[must_use]
    pub fn finding(self, cname: Option<OwnedAnswer>, options: Box<[u8]>, by: Answerer) -> Self {
        Self { alias: cname, options, by, ..self }
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(crate) fn block(&self) -> usize {
        self.block
    }

    pub(crate) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    pub(crate) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The query's header and question, as it was asked of the sources.
    pub(crate) fn packet(&self) -> &[u8] {
        &self.packet
    }

    pub(crate) fn transport(&self) -> Transport {
        self.arrival.transport
    }

    fn stamp(&self, result: &FlightResult<'_>, message: &mut [u8]) -> Stamped {
        message[..self.packet.len()].copy_from_slice(&self.packet);
        let (response, ttl, sources) = match result {
            FlightResult::Response { response, ttl, sources } => (*response, *ttl, *sources),
            FlightResult::Failure(failure) => {
                return reply::stamp_reject(&self.query.reject(failure.rcode()), message);
            }
            FlightResult::PursuitFailure(_) => {
                return reply::stamp_reject(&self.query.reject(Rcode::ServFail), message);
            }
        };
        let is_changed = self.trail.asked.is_some();
        let envelope = self.arrival.envelope(&self.query, self.rotation, is_changed);
        let is_authority = self.is_authority;
        let alias = self.alias.as_ref();
        let alias = alias.map(|alias| Alias { answer: alias.as_answer(), is_authority });
        let vantage = self.plan.vantage(self.arrival.listener, self.block);
        let (wanted, peer) = (self.query.wanted(self.rotation), self.trail.peer);
        let view = View { sources, vantage, wanted, peer };
        let end = view.end_of(response);
        let end = end.as_ref();
        let mut stamped =
            response::stamp(&self.query, response, ttl, alias, end, envelope, message);
        for option in edit::options_in(&self.options) {
            stamped.len = edit::add_option(message, stamped.len, option, envelope.len_max);
        }
        stamped
    }

    /// Describes the response that `stamp` has written.
    fn made(&self, result: &FlightResult<'_>, stamped: Stamped) -> Made<'_> {
        let block = self.plan.blocks.get(self.block);
        let is_failure = match result {
            FlightResult::Response { .. } => false,
            FlightResult::Failure(_) | FlightResult::PursuitFailure(_) => true,
        };
        Made {
            len: stamped.len,
            rcode: stamped.rcode,
            qtype: self.query.qtype,
            edns: self.query.edns,
            // CoreDNS counts no plugin for a response that its server writes after a failure.
            by: if is_failure { Answerer::SERVER } else { self.by },
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
struct SocketCopy {
    socket: UdpSocket,
    number: u64,
}

/// Sends responses one by one, after the batch of their query.
pub struct LateAnswers {
    /// By `ListenerId`.
    sockets: [Option<SocketCopy>; LISTENERS_MAX],
    /// Copies made so far.
    copy_count: u64,
    /// The response being written.
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

    /// Sends responses of this listener through this socket, a copy of the one that receives.
    pub fn open(&mut self, listener: ListenerId, socket: UdpSocket) {
        self.copy_count += 1;
        self.sockets[listener.0] = Some(SocketCopy { socket, number: self.copy_count });
    }

    /// The number of the listener's copy. Numbers are never reused.
    #[must_use]
    pub fn copy_of(&self, listener: ListenerId) -> Option<u64> {
        self.sockets[listener.0].as_ref().map(|copy| copy.number)
    }

    /// Must be called after the listener was closed, since the copy keeps its address bound. Does
    /// nothing if the listener has a newer copy by now.
    pub fn close(&mut self, listener: ListenerId, copy: u64) {
        if self.copy_of(listener) == Some(copy) {
            self.sockets[listener.0] = None;
        }
    }

    /// Sends a client its response.
    pub fn send_to(&mut self, waiter: Waiter, return_to: ReturnTo, result: &FlightResult<'_>) {
        let stamped = waiter.stamp(result, &mut self.message);
        let made = waiter.made(result, stamped);
        let problem = match result {
            FlightResult::Response { .. } => None,
            FlightResult::Failure(failure) => Some(failure as &dyn ToString),
            FlightResult::PursuitFailure(failure) => Some(failure as &dyn ToString),
        };
        // Counted first, so that a client that has the response finds it in the metrics.
        let timing = Timing::Took(waiter.arrival.now.elapsed());
        let (Waiter { arrival, trail, .. }, name) = (&waiter, &waiter.name());
        let answered = Answered { arrival, trail, name };
        let len = self.exit.leave(&made, answered, &mut self.message, timing, problem);
        self.deliver(return_to, len);
    }

    /// Counts a client's query that a plugin drops after look-ups.
    pub fn drop_query(&mut self, waiter: &Waiter, return_to: ReturnTo) {
        if let Some(block) = waiter.plan.blocks.get(waiter.block) {
            let timing = Timing::Took(waiter.arrival.now.elapsed());
            let answered =
                Answered { arrival: &waiter.arrival, trail: &waiter.trail, name: &waiter.name() };
            let made = answer::dropped(block, &waiter.query);
            self.exit.drop_query(&made, answered, &waiter.packet, timing);
        }
        return_to.drop_query();
    }

    /// Sends a response that has left by the exit. `message`: its bytes.
    pub fn send(&mut self, return_to: ReturnTo, message: &[u8]) {
        self.message[..message.len()].copy_from_slice(message);
        self.deliver(return_to, message.len());
    }

    fn deliver(&self, return_to: ReturnTo, len: usize) {
        let message = &self.message[..len];
        match return_to {
            ReturnTo::Tcp(outbox) => {
                if !outbox.deliver(message) {
                    self.metrics.count(ShardEvent::TcpResponseRefused, 1);
                }
            }
            ReturnTo::Udp(to) => {
                let copy = self.sockets[to.listener.0].as_ref();
                if copy.is_some_and(|copy| late::send(&copy.socket, &to, message).is_err()) {
                    self.metrics.count(ShardEvent::SendFailed, 1);
                }
            }
            // The task may have run out of time.
            ReturnTo::Task(task) => drop(task.send(message.into())),
        }
    }
}
