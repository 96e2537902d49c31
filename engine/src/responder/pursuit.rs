//! Carries out pursuits: asks this server one question after another until a plugin has what it
//! needs for the client's response.
//!
//! A look-up is a query like any other, except that its response goes to the pursuit. Invariants: a
//! pursuit ends within `FORWARD_TIMEOUT`, with one response or as a dropped query; all its look-ups
//! are answered under the plan of its client's query. After a reload it begins again.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::{sleep, timeout};
use wire::answer::OwnedAnswer;
use wire::header::{HEADER_LEN, QR, Rcode};
use wire::name::Name;
use wire::reply::MESSAGE_LEN_MAX;
use wire::response::{self, Asked, Response, TtlRule, UpstreamPacket};

use super::{Action, Awaited, Responder};
use crate::client::{Arrival, Inside, InsideStart, Packet};
use crate::limits::{FORWARD_TIMEOUT, PURSUIT_STEPS_MAX};
use crate::plugin::exchange::{AskedQuestion, PluginCounts};
use crate::plugin::pursuit::{Found, InsideQuestion, Pursuit, PursuitFailure, Scope, Step};
use crate::resolve::waiter::{FlightResult, ReturnTo, Waiter};

/// A pursuit before it begins.
pub struct PursuitRequest {
    pub(super) pursuit: Box<Pursuit>,
    pub(super) origin: PursuitQuery,
}

/// The query that a pursuit is for.
pub(super) struct PursuitQuery {
    pub(super) client: Waiter,
    /// The records after the question: an OPT, with all its options.
    pub(super) records: Box<[u8]>,
    /// How many gates of the client's block have seen the query.
    pub(super) gates_done: usize,
    /// The options that `rewrite` has given to it: see `Trail::upstream_options`.
    pub(super) upstream_options: Option<Arc<[u8]>>,
}

/// How a pursuit ends.
enum PursuitEnd {
    Found(Found),
    /// The client's query is dropped.
    Dropped,
    Failed(PursuitFailure),
    /// The plan is not in force any more.
    Reloaded,
}

/// How a look-up ends.
enum LookUpEnd {
    Response(Box<[u8]>),
    /// There is no response; SERVFAIL instead of one.
    Dropped(Box<[u8]>),
    /// The plan is not in force any more.
    Reloaded,
}

/// Begins a pursuit in a task of its own. Beyond `PURSUITS_MAX` the client gets SERVFAIL.
pub(super) fn begin(
    responder: &mut Responder,
    request: PursuitRequest,
    return_to: ReturnTo,
    shared: &Rc<RefCell<Responder>>,
) {
    if responder.resolver.begin_pursuit() {
        tokio::task::spawn_local(run(request, return_to, Rc::clone(shared)));
    } else {
        fail(responder, request.origin.client, return_to, &PursuitFailure::TooMany);
    }
}

async fn run(request: PursuitRequest, return_to: ReturnTo, shared: Rc<RefCell<Responder>>) {
    let PursuitRequest { mut pursuit, origin } = request;
    let walk = walk(&mut pursuit, &origin, &shared);
    let end = timeout(FORWARD_TIMEOUT, walk).await;
    let end = end.unwrap_or(PursuitEnd::Failed(PursuitFailure::TimedOut));
    let responder = &mut *shared.borrow_mut();
    responder.resolver.end_pursuit();
    match end {
        PursuitEnd::Found(found) => respond(responder, origin.client, return_to, found),
        PursuitEnd::Dropped => {
            responder.resolver.late_answers().drop_query(&origin.client, return_to);
        }
        PursuitEnd::Failed(failure) => fail(responder, origin.client, return_to, &failure),
        PursuitEnd::Reloaded => ask_again(responder, &origin, return_to, &shared),
    }
}

/// Takes one step after another.
async fn walk(
    pursuit: &mut Pursuit,
    origin: &PursuitQuery,
    shared: &Rc<RefCell<Responder>>,
) -> PursuitEnd {
    let mut last = None;
    let mut buffer = vec![0; MESSAGE_LEN_MAX];
    for _ in 0..PURSUIT_STEPS_MAX {
        let is_first = last.is_none();
        let question = match pursuit.next(last) {
            Step::Ask(question) => question,
            Step::Respond(found) => return PursuitEnd::Found(found),
            Step::Wait(delay) => {
                sleep(delay).await;
                last = None;
                continue;
            }
        };
        last = match look_up(&question, origin, &mut buffer, shared).await {
            LookUpEnd::Response(response) => Some(response),
            // The first question behind the gate is the client's own.
            LookUpEnd::Dropped(_) if is_first && question.scope == Scope::Behind => {
                return PursuitEnd::Dropped;
            }
            LookUpEnd::Dropped(failure) => Some(failure),
            LookUpEnd::Reloaded => return PursuitEnd::Reloaded,
        };
    }
    PursuitEnd::Failed(PursuitFailure::TooLong)
}

/// Asks this server one question.
async fn look_up(
    question: &InsideQuestion,
    origin: &PursuitQuery,
    buffer: &mut [u8],
    shared: &Rc<RefCell<Responder>>,
) -> LookUpEnd {
    let PursuitQuery { client, gates_done, upstream_options, .. } = origin;
    let mut fixed = [0; 4];
    fixed[..2].copy_from_slice(&question.qtype.to_be_bytes());
    fixed[3] = 1;
    let Some(query_len) = write_query(origin, &[&question.name, &fixed], buffer) else {
        return LookUpEnd::Dropped(Box::default());
    };
    let failure = failure_of(&buffer[..query_len], question.name.len());
    let late = {
        let responder = &mut *shared.borrow_mut();
        if !is_in_force(client, responder) {
            return LookUpEnd::Reloaded;
        }
        let start = match question.scope {
            Scope::Behind => InsideStart::Gate { block: client.block(), gate: *gates_done },
            Scope::Server => InsideStart::Server,
        };
        let depth = client.arrival().inside.map_or(0, |inside| inside.depth) + 1;
        let inside = Some(Inside { depth, start });
        let now = Instant::now();
        let arrival = Arrival { len: query_len, now, inside, ..*client.arrival() };
        let mut packet = InsidePacket { message: buffer, peer: client.trail().peer };
        let action = responder.answer_inside(&arrival, &mut packet, upstream_options.clone());
        match responder.carry_out(action, now, shared) {
            Awaited::Written(len) => return LookUpEnd::Response(buffer[..len].into()),
            Awaited::Late(late) => late,
            Awaited::Dropped => return LookUpEnd::Dropped(failure),
        }
    };
    match late.await {
        Ok(response) => LookUpEnd::Response(response),
        // A pursuit for this look-up was dropped, or a reload ended it.
        Err(_) if is_in_force(client, &shared.borrow()) => LookUpEnd::Dropped(failure),
        Err(_) => LookUpEnd::Reloaded,
    }
}

/// Whether the plan of the client's query is the responder's.
fn is_in_force(client: &Waiter, responder: &Responder) -> bool {
    Arc::ptr_eq(client.plan(), &responder.sources.plan)
}

/// Writes the client's query with this question, given by the parts of its bytes. Returns its
/// length.
fn write_query(origin: &PursuitQuery, question: &[&[u8]], buffer: &mut [u8]) -> Option<usize> {
    let PursuitQuery { client, records, .. } = origin;
    let header = client.packet().get(..HEADER_LEN)?;
    let mut len = 0;
    for part in [header].into_iter().chain(question.iter().copied()).chain([&records[..]]) {
        buffer.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    Some(len)
}

/// SERVFAIL in response to this query.
fn failure_of(query: &[u8], name_len: usize) -> Box<[u8]> {
    let question_end = HEADER_LEN + name_len + 4;
    let mut failure: Box<[u8]> = query.get(..question_end).unwrap_or_default().into();
    if let Some(flags) = failure.get_mut(2..4) {
        flags.copy_from_slice(&(QR | Rcode::ServFail as u16).to_be_bytes());
    }
    if let Some(counts) = failure.get_mut(6..HEADER_LEN) {
        counts.fill(0);
    }
    failure
}

/// An inside query. There is room for any response.
pub(super) struct InsidePacket<'p> {
    pub(super) message: &'p mut [u8],
    pub(super) peer: Option<SocketAddr>,
}

impl Packet for InsidePacket<'_> {
    fn message(&mut self) -> &mut [u8] {
        self.message
    }

    fn peer(&self) -> SocketAddr {
        self.peer.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0))
    }
}

fn respond(responder: &mut Responder, client: Waiter, return_to: ReturnTo, found: Found) {
    let Found { message, cname_ttl_secs, options, by, counts } = found;
    if let (Some(slot), Some(block)) = (counts, client.plan().blocks.get(client.block())) {
        PluginCounts { metrics: &responder.metrics, indexes: &block.counters }.count(slot);
    }
    let cname = cname_ttl_secs
        .zip(asked_in(&message))
        .map(|(ttl_secs, asked)| OwnedAnswer::cname(client.query().name_len, ttl_secs, asked.name));
    let client = client.finding(cname, options, by);
    let response = &read(&message);
    let Responder { resolver, sources, .. } = responder;
    let result = FlightResult::Response { response, ttl: TtlRule::AS_SENT, sources };
    resolver.late_answers().send_to(client, return_to, &result);
}

fn fail(responder: &mut Responder, client: Waiter, return_to: ReturnTo, failure: &PursuitFailure) {
    let result = FlightResult::PursuitFailure(failure);
    responder.resolver.late_answers().send_to(client, return_to, &result);
}

/// A whole response as one that can be written for any client; SERVFAIL if it cannot be read.
fn read(message: &[u8]) -> Response {
    let packet = asked_in(message).map(|asked| response::read_own(message, &asked));
    match packet {
        Some(UpstreamPacket::Answer(response) | UpstreamPacket::Truncated(response)) => response,
        Some(UpstreamPacket::Foreign | UpstreamPacket::Malformed) | None => {
            Response::server_failure()
        }
    }
}

/// The query that a response answers, from the response itself.
fn asked_in(message: &[u8]) -> Option<Asked<'_>> {
    let (header, question) = message.split_first_chunk::<HEADER_LEN>()?;
    let name = question.get(..Name::default().read(question)?)?;
    let [type0, type1, class0, class1] = *question.get(name.len()..)?.first_chunk()?;
    Some(Asked {
        id: u16::from_be_bytes([header[0], header[1]]),
        name,
        qtype: u16::from_be_bytes([type0, type1]),
        qclass: u16::from_be_bytes([class0, class1]),
        case_must_match: true,
    })
}

/// Answers the client's query under the plan that is in force now. An inside query starts at a gate
/// of the old plan, so it is dropped, and the pursuit that asks it is the one that begins again.
fn ask_again(
    responder: &mut Responder,
    origin: &PursuitQuery,
    return_to: ReturnTo,
    shared: &Rc<RefCell<Responder>>,
) {
    let client = &origin.client;
    if client.arrival().inside.is_some() {
        return return_to.drop_query();
    }
    // The client's address was not needed before, so nobody kept it. It asks again by itself.
    if responder.sources.plan.reads_peers && client.trail().peer.is_none() {
        return return_to.drop_query();
    }
    let mut buffer = vec![0; MESSAGE_LEN_MAX];
    let asked = client.trail().asked.as_ref().map(AskedQuestion::bytes);
    let question = asked.unwrap_or_else(|| client.packet().get(HEADER_LEN..).unwrap_or_default());
    if write_query(origin, &[question], &mut buffer).is_none() {
        return return_to.drop_query();
    }
    // Of the same length: bytes after the last record are ignored, as they were before.
    let arrival = *client.arrival();
    let mut packet = InsidePacket { message: &mut buffer, peer: client.trail().peer };
    let now = arrival.now;
    match responder.answer(&arrival, &mut packet) {
        Action::Reply(len) => {
            responder.resolver.late_answers().send(return_to, &buffer[..len]);
        }
        Action::ReplyAndRefresh(len, request) => {
            responder.resolver.late_answers().send(return_to, &buffer[..len]);
            responder.begin(*request, None, now, shared);
        }
        Action::Ask(request) => responder.begin(*request, Some(return_to), now, shared),
        Action::Drop => return_to.drop_query(),
    }
    responder.finish_batch(now);
}
