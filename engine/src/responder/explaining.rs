//! Answers one question for `ringdns explain`, with the decisions that led to the response.
//!
//! Invariant: the question takes the same way as a client's query over UDP, except for the fast
//! path, which answers as the full path does.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::oneshot;
use wire::header::{CLASS_IN, HEADER_LEN, TYPE_OPT};
use wire::reply::{MESSAGE_LEN_MAX, UDP_LEN_MAX};

use super::pursuit::InsidePacket;
use super::{Action, Awaited, Responder};
use crate::answer::decision::{Decision, Recorder};
use crate::client::{Arrival, Family, ListenerId, Transport};
use crate::question::OwnedQuestion;

/// A question whose answer is to be explained.
#[derive(Debug)]
pub struct ExplainRequest {
    pub question: OwnedQuestion,
    /// Where the query arrives.
    pub listener: ListenerId,
    pub peer: SocketAddr,
    /// Upstreams may be queried.
    pub asks_upstreams: bool,
    /// Dropped if the shard cannot write the query.
    pub explained: oneshot::Sender<Explained>,
}

/// What was decided about a question, and the response.
#[derive(Debug)]
pub struct Explained {
    pub decisions: Vec<Decision>,
    pub outcome: ExplainedOutcome,
}

/// How the question ended.
#[derive(Debug)]
pub enum ExplainedOutcome {
    /// This response.
    Response(Box<[u8]>),
    /// A plugin drops the query.
    Dropped,
    /// Upstreams would be queried, or might be.
    UpstreamsNotAsked,
}

/// Answers the question in a task of its own. Must be called in the shard's runtime.
pub(crate) fn begin(request: ExplainRequest, shared: &Rc<RefCell<Responder>>) {
    tokio::task::spawn_local(run(request, Rc::clone(shared)));
}

async fn run(request: ExplainRequest, shared: Rc<RefCell<Responder>>) {
    let ExplainRequest { question, listener, peer, asks_upstreams, explained } = request;
    let mut buffer = vec![0; MESSAGE_LEN_MAX];
    let query = written(&question);
    let Some(room) = buffer.get_mut(..query.len()) else { return };
    room.copy_from_slice(&query);
    let now = Instant::now();
    let family = match peer.ip() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let (transport, len) = (Transport::Udp, query.len());
    let arrival = Arrival { listener, transport, family, len, now, inside: None };
    let mut recorder = Recorder::default();
    let answer = {
        let responder = &mut *shared.borrow_mut();
        responder.resolver().take_fills(now);
        let mut packet = InsidePacket { message: &mut buffer, peer: Some(peer) };
        let action = responder.answer_recorded(&arrival, &mut packet, &mut recorder);
        let answer = match action {
            // The look-ups of a pursuit may lead to upstreams too.
            Action::Ask(_) if !asks_upstreams => None,
            Action::ReplyAndRefresh(len, _) if !asks_upstreams => Some(Awaited::Written(len)),
            action => Some(responder.carry_out(action, now, &shared)),
        };
        responder.finish_batch(now);
        answer
    };
    let outcome = match answer {
        None => ExplainedOutcome::UpstreamsNotAsked,
        Some(Awaited::Written(len)) => {
            ExplainedOutcome::Response(buffer.get(..len).unwrap_or_default().into())
        }
        Some(Awaited::Dropped) => ExplainedOutcome::Dropped,
        Some(Awaited::Late(late)) => {
            late.await.map_or(ExplainedOutcome::Dropped, ExplainedOutcome::Response)
        }
    };
    // Whoever asked may have given up.
    let _ = explained.send(Explained { decisions: recorder.decisions, outcome });
}

/// The query as a stub resolver sends it: RD, and an OPT for UDP responses of a common size.
fn written(question: &OwnedQuestion) -> Vec<u8> {
    let mut query = vec![0; HEADER_LEN];
    query[2] = 1;
    query[5] = 1;
    query[11] = 1;
    query.extend_from_slice(&question.name);
    query.extend_from_slice(&question.qtype.to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    query.push(0);
    query.extend_from_slice(&TYPE_OPT.to_be_bytes());
    query.extend_from_slice(&UDP_LEN_MAX.to_be_bytes());
    query.extend_from_slice(&[0; 6]);
    query
}
