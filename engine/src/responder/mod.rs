//! What a shard answers from: its plan, tables, caches and upstreams.
//!
//! The shard's loop and its TCP connections share one `Responder`, in one thread. Invariant: no
//! borrow of it lasts across an await.

pub mod explaining;
mod pursuit;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_rustls::rustls::ServerConfig;
use wire::name::Name;
use wire::pod_index::PodIndex;
use wire::query;
use wire::table::Table;

use crate::answer::decision::Recorder;
use crate::answer::exit::{Answered, Exit, Reports, Timing};
use crate::answer::glance::{Glance, Looked, at_a_glance, look};
use crate::answer::{Pursue, Scratch, Sources, Verdict, in_full, seen_by};
use crate::cache::Cache;
use crate::client::{Arrival, ListenerId, Packet};
use crate::limits::{LOOK_AHEAD, VIEW_TEXT_LEN_MAX};
use crate::metrics::ShardMetrics;
use crate::plan::{Block, Plan, TableSlot};
use crate::plugin::exchange::{NameTexts, Trail};
use crate::plugin::https::HttpsListener;
use crate::plugin::pattern::BlockPatterns;
use crate::plugin::rewrite::Ends;
use crate::plugin::timeouts::Timeouts;
use crate::plugin::view::program::TextBuffer;
use crate::resolve::fills::Fills;
use crate::resolve::waiter::{LateAnswers, ReturnTo, Waiter};
use crate::resolve::{Flight, Resolver, UpstreamRequest};
use pursuit::{InsidePacket, PursuitQuery, PursuitRequest};

/// The result of the first look at a packet.
pub(crate) type FirstLook = Result<Looked, Glance<'static>>;

/// Answers the queries of one shard.
pub struct Responder {
    exit: Exit,
    metrics: Arc<ShardMetrics>,
    sources: Sources,
    resolver: Resolver,
    /// Question names of the packets that are inspected together.
    names: Box<[Name; LOOK_AHEAD]>,
    memory: Box<QueryMemory>,
}

/// What answering in full writes to, one query after another.
#[derive(Default)]
struct QueryMemory {
    /// Of the query that is being answered.
    trail: Trail,
    /// By block: this shard's copies.
    patterns: Vec<BlockPatterns>,
    texts: NameTexts,
    view_texts: TextBuffer,
}

impl QueryMemory {
    fn scratch<'r>(
        &'r mut self,
        caches: &'r mut [Cache],
        metrics: &'r ShardMetrics,
    ) -> Scratch<'r> {
        let Self { trail, patterns, texts, view_texts } = self;
        Scratch { caches, patterns, trail, texts, metrics, view_texts }
    }
}

impl Responder {
    #[must_use]
    pub fn new(shard: usize, reports: Reports, fills: Fills, metrics: Arc<ShardMetrics>) -> Self {
        let exit = Exit::new(Arc::clone(&metrics), reports, shard);
        let late_answers = LateAnswers::new(Arc::clone(&metrics), exit.clone());
        Self {
            exit,
            resolver: Resolver::new(shard, Arc::clone(&metrics), late_answers, fills),
            metrics,
            // Different in each shard, so that they do not rotate in step.
            sources: Sources::new(shard.wrapping_mul(7919)),
            names: Box::new(std::array::from_fn(|_| Name::default())),
            memory: Box::default(),
        }
    }

    /// Answers one query of a client. The response is written over it.
    pub fn answer(&mut self, arrival: &Arrival, packet: &mut impl Packet) -> Action {
        let looked = self.look(0, arrival.listener, &packet.message()[..arrival.len]);
        self.answer_looked(0, &looked, arrival, packet)
    }

    /// Inspects a packet. `place`: where its name is kept, less than `LOOK_AHEAD`.
    #[inline(always)]
    pub(crate) fn look(&mut self, place: usize, listener: ListenerId, packet: &[u8]) -> FirstLook {
        look(&self.sources, listener, packet, &mut self.names[place])
    }

    #[inline(always)]
    pub(crate) fn answer_looked(
        &mut self,
        place: usize,
        looked: &FirstLook,
        arrival: &Arrival,
        packet: &mut impl Packet,
    ) -> Action {
        self.sources.rotation = self.sources.rotation.wrapping_add(1);
        let sources = &self.sources;
        let name = &mut self.names[place];
        let message = packet.message();
        let made = match looked {
            Ok(looked) => at_a_glance(sources, arrival, looked, name, message),
            Err(glance) => Err(*glance),
        };
        match made {
            Ok(made) => Action::Reply(self.exit.leave_at_a_glance(&made, arrival)),
            Err(glance) => {
                self.memory.trail.begin(sources.plan.reads_peers.then(|| packet.peer()));
                let message = packet.message();
                let mut scratch = self.memory.scratch(self.resolver.caches(), &self.metrics);
                let verdict = in_full(sources, &mut scratch, arrival, glance, name, message);
                self.follow(verdict, arrival, place, message)
            }
        }
    }

    /// The same for an inside query, which never takes the fast path either. `options`: see
    /// `Trail::upstream_options`.
    fn answer_inside(
        &mut self,
        arrival: &Arrival,
        packet: &mut InsidePacket<'_>,
        options: Option<Arc<[u8]>>,
    ) -> Action {
        self.sources.rotation = self.sources.rotation.wrapping_add(1);
        let sources = &self.sources;
        self.memory.trail.begin(packet.peer);
        self.memory.trail.upstream_options = options;
        let (name, message) = (&mut self.names[0], packet.message());
        let mut scratch = self.memory.scratch(self.resolver.caches(), &self.metrics);
        let verdict = in_full(sources, &mut scratch, arrival, Glance::Unread, name, message);
        self.follow(verdict, arrival, 0, message)
    }

    /// The same for a client's query whose decisions are recorded. It never takes the fast path.
    fn answer_recorded(
        &mut self,
        arrival: &Arrival,
        packet: &mut impl Packet,
        recorder: &mut Recorder,
    ) -> Action {
        let sources = &self.sources;
        self.memory.trail.begin(sources.plan.reads_peers.then(|| packet.peer()));
        let (name, message) = (&mut self.names[0], packet.message());
        let mut scratch = self.memory.scratch(self.resolver.caches(), &self.metrics);
        let query = (arrival, Glance::Unread);
        let verdict = seen_by(recorder, sources, &mut scratch, query, name, message);
        self.follow(verdict, arrival, 0, message)
    }

    /// Carries out a verdict. `message` still holds the query if upstreams must be queried first.
    #[inline(never)]
    fn follow(
        &self,
        verdict: Verdict<'_>,
        arrival: &Arrival,
        place: usize,
        message: &mut [u8],
    ) -> Action {
        let (plan, name, trail) = (&self.sources.plan, &self.names[place], &self.memory.trail);
        let answered = Answered { arrival, trail, name };
        match verdict {
            Verdict::Reply(made) => {
                let len = self.exit.leave(&made, answered, message, Timing::WithBatch, None);
                Action::Reply(len)
            }
            Verdict::ReplyAndRefresh(made, ask) => {
                let options = self.edns_options(ask.block, ask.query.qtype, &answered);
                let request = self.resolver.request(plan, &ask, name, options, None);
                let len = self.exit.leave(&made, answered, message, Timing::WithBatch, None);
                Action::ReplyAndRefresh(len, Box::new(Request::Upstreams(request)))
            }
            Verdict::Ask(ask) => {
                let rotation = self.sources.rotation;
                let waiter = Waiter::new(plan, ask.block, &ask.query, &answered, message, rotation);
                let waiter = Some(waiter.asking(&ask));
                let options = self.edns_options(ask.block, ask.query.qtype, &answered);
                let request = self.resolver.request(plan, &ask, name, options, waiter);
                Action::Ask(Box::new(Request::Upstreams(request)))
            }
            Verdict::Pursue(Pursue { pursuit, query, block, gates_done }) => {
                let rotation = self.sources.rotation;
                let client = Waiter::new(plan, block, &query, &answered, message, rotation);
                let upstream_options = self.edns_options(block, query.qtype, &answered);
                let records = query::records(message, query.question_len()).into();
                let origin = PursuitQuery { client, records, gates_done, upstream_options };
                let request = PursuitRequest { pursuit, origin };
                Action::Ask(Box::new(Request::Pursuit(request)))
            }
            Verdict::Drop(made) => {
                self.exit.drop_query(&made, answered, message, Timing::WithBatch);
                Action::Drop
            }
            Verdict::Ignore => {
                self.metrics.ignored();
                Action::Drop
            }
        }
    }

    /// The options that `rewrite` gives to a query to upstreams. `block`: the client's, by index.
    fn edns_options(&self, block: usize, qtype: u16, answered: &Answered<'_>) -> Option<Arc<[u8]>> {
        let Answered { arrival, trail, name } = answered;
        let plan = &self.sources.plan;
        let Some(rules) = plan.blocks.get(block)?.rewrite() else {
            return trail.upstream_options.clone();
        };
        let server = plan.listeners.get(arrival.listener.0).and_then(|listener| listener.address);
        let ends = Ends { peer: trail.peer, server, transport: arrival.transport };
        rules.edns_options(trail, name.bytes(), qtype, ends)
    }

    /// The caches and upstreams.
    pub fn resolver(&mut self) -> &mut Resolver {
        &mut self.resolver
    }

    /// Queries upstreams, or adds the waiter to a flight with the same question, or begins a
    /// pursuit. `shared`: this responder.
    pub fn begin(
        &mut self,
        request: Request,
        return_to: Option<ReturnTo>,
        now: Instant,
        shared: &Rc<RefCell<Self>>,
    ) {
        match (request, return_to) {
            (Request::Upstreams(request), return_to) => {
                let sources = &self.sources;
                if let Some(flight) = self.resolver.begin(request, return_to, now, sources) {
                    tokio::task::spawn_local(run_flight(flight, Rc::clone(shared)));
                }
            }
            (Request::Pursuit(request), Some(return_to)) => {
                pursuit::begin(self, request, return_to, shared);
            }
            (Request::Pursuit(_), None) => debug_assert!(false, "a pursuit has a client"),
        }
    }

    /// Carries out an action for a task of this thread, which wants the response. `shared`: this
    /// responder.
    pub(crate) fn carry_out(
        &mut self,
        action: Action,
        now: Instant,
        shared: &Rc<RefCell<Self>>,
    ) -> Awaited {
        match action {
            Action::Reply(len) => Awaited::Written(len),
            Action::ReplyAndRefresh(len, request) => {
                self.begin(*request, None, now, shared);
                Awaited::Written(len)
            }
            Action::Ask(request) => {
                let (sender, late) = oneshot::channel();
                self.begin(*request, Some(ReturnTo::Task(sender)), now, shared);
                Awaited::Late(late)
            }
            Action::Drop => Awaited::Dropped,
        }
    }

    /// Takes the next generation of a table; `None` if its block was removed.
    pub fn take_table(&mut self, slot: TableSlot, table: Option<Arc<Table>>) {
        if let Some(table) = &table {
            self.metrics.table_taken(table.generation());
        }
        self.sources.tables[slot.0] = table;
    }

    /// Takes the next index of a cluster's pods; `None` if its block was removed.
    pub fn take_pods(&mut self, slot: TableSlot, pods: Option<Arc<PodIndex>>) {
        self.sources.pods[slot.0] = pods;
    }

    /// Takes the next plan. Must be called in the shard's runtime.
    pub fn take_plan(&mut self, plan: Arc<Plan>) {
        self.resolver.take_plan(&plan);
        let copies = |block: &Block| BlockPatterns::new(&block.patterns);
        self.memory.patterns = plan.blocks.iter().map(copies).collect();
        self.memory.trail.patterns = None;
        if plan.listeners.iter().any(|listener| listener.viewed.is_some()) {
            self.memory.view_texts.grow_to(VIEW_TEXT_LEN_MAX);
        }
        self.sources.plan = plan;
    }

    /// The memory that the table reads first for this packet: see `Table::slot_line`.
    #[inline(always)]
    pub(crate) fn slot_line(&self, looked: &Looked) -> &[u8] {
        looked.slot_line(&self.sources)
    }

    /// The memory that it reads next: see `Table::entry_line`.
    #[inline(always)]
    pub(crate) fn entry_line(&self, looked: &Looked) -> &[u8] {
        looked.entry_line(&self.sources)
    }

    /// The time-outs of a listener's connections.
    #[must_use]
    pub fn timeouts(&self, listener: ListenerId) -> Timeouts {
        let listener = self.sources.plan.listeners.get(listener.0);
        listener.map(|listener| listener.timeouts).unwrap_or_default()
    }

    /// What the handshakes of a listener's connections need; `None` if they are plain TCP.
    #[must_use]
    pub fn tls(&self, listener: ListenerId) -> Option<Arc<ServerConfig>> {
        let listener = self.sources.plan.listeners.get(listener.0)?;
        Some(Arc::clone(listener.tls.as_ref()?.config(listener.scheme)))
    }

    /// What the connections to an `https://` address share; `None` for another one.
    #[must_use]
    pub fn https(&self, listener: ListenerId) -> Option<HttpsListener> {
        self.sources.plan.listeners.get(listener.0)?.https.clone()
    }

    /// The counters that this shard's thread writes.
    #[must_use]
    pub fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    /// Ends a batch, or the query of a task: counts its duration for each of its responses.
    pub fn finish_batch(&mut self, began: Instant) {
        self.metrics.finish_batch(began.elapsed());
        self.resolver.publish_look_ups();
    }
}

/// What must be done before a client gets its response.
pub enum Request {
    Upstreams(UpstreamRequest),
    Pursuit(PursuitRequest),
}

/// What the caller must do with a packet.
pub enum Action {
    /// Send this many bytes of the message.
    Reply(usize),
    /// Send them, and pass the request to `Responder::begin`.
    ReplyAndRefresh(usize, Box<Request>),
    /// Pass the request to `Responder::begin`. The response is sent later.
    Ask(Box<Request>),
    /// Send no response.
    Drop,
}

/// The response to a query of a task.
pub(crate) enum Awaited {
    /// These bytes of the message.
    Written(usize),
    /// Sent later. The sender is dropped if there is none after all.
    Late(oneshot::Receiver<Box<[u8]>>),
    /// There is none.
    Dropped,
}

/// Runs a flight from start to landing. Its clients get a response whether it succeeds or fails.
async fn run_flight(flight: Flight, responder: Rc<RefCell<Responder>>) {
    let outcome = {
        let mut asking = pin!(flight.ask());
        let in_time = match flight.stale_after() {
            Some(timeout) => tokio::time::timeout(timeout, &mut asking).await.ok(),
            None => None,
        };
        match in_time {
            Some(outcome) => outcome,
            None => {
                if flight.stale_after().is_some() {
                    let Responder { resolver, sources, .. } = &mut *responder.borrow_mut();
                    resolver.send_stale(&flight, sources, Instant::now());
                }
                asking.await
            }
        }
    };
    let Responder { resolver, sources, .. } = &mut *responder.borrow_mut();
    resolver.land(&flight, outcome, sources, Instant::now());
    resolver.publish_counts();
}
