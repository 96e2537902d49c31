//! What a shard answers from: its tables, its plan, its caches and upstreams. The shard's loop and its TCP
//! connections share one `Responder`, all in one thread.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use wire::compile::Table;
use wire::name::Name;

use crate::answer::exit::ErrorReport;
use crate::answer::{
    Answered, Glance, Looked, Question, Sources, Tables, Verdict, at_a_glance, in_full, look,
};
use crate::client::ListenerId;
use crate::forward::ShardNumber;
use crate::limits::{LOOK_AHEAD, TABLES_MAX};
use crate::metrics::{Observation, ShardMetrics};
use crate::plan::{Plan, TableSlot};
use crate::plugin::timeouts::Timeouts;
use crate::resolve::fills::Fills;
use crate::resolve::waiter::{LateAnswers, ReturnTo, Waiter};
use crate::resolve::{Departure, Flight, Resolver};

/// What the first look at a packet came to.
pub(crate) type FirstLook = Result<Looked, Glance<'static>>;

/// What a shard answers from. Its loop and its TCP connections share it, all in one thread.
pub struct Responder {
    errors: Sender<ErrorReport>,
    metrics: Arc<ShardMetrics>,
    known: Known,
    resolver: Resolver,
    /// Of the packets that are looked at together.
    names: Box<[Name; LOOK_AHEAD]>,
}

/// What packets are answered from, caches left out.
struct Known {
    plan: Arc<Plan>,
    tables: Tables,
    rotation: usize,
}

impl Known {
    #[inline]
    fn sources(&self) -> Sources<'_> {
        Sources { plan: &self.plan, tables: &self.tables, rotation: self.rotation }
    }
}

impl Responder {
    #[must_use]
    pub fn new(
        number: ShardNumber,
        errors: Sender<ErrorReport>,
        fills: Fills,
        metrics: Arc<ShardMetrics>,
    ) -> Self {
        let late_answers = LateAnswers::new(Arc::clone(&metrics), errors.clone());
        Self {
            errors,
            resolver: Resolver::new(number, Arc::clone(&metrics), late_answers, fills),
            metrics,
            known: Known {
                plan: Arc::default(),
                tables: [const { None }; TABLES_MAX],
                // So that shards do not march in step.
                rotation: number.index.wrapping_mul(7919),
            },
            names: Box::new(std::array::from_fn(|_| Name::default())),
        }
    }

    /// Answers the packet that begins `message`, over itself; for its room see `answer::at_a_glance`.
    pub fn answer(&mut self, question: &Question, message: &mut [u8]) -> Action {
        let looked = self.look(0, question.listener, &message[..question.len]);
        self.answer_looked(0, looked, question, message)
    }

    /// The first look at a packet, of which `place` keeps the name.
    #[inline(always)]
    pub(crate) fn look(&mut self, place: usize, listener: ListenerId, packet: &[u8]) -> FirstLook {
        look(self.known.sources(), listener, packet, &mut self.names[place])
    }

    #[inline(always)]
    pub(crate) fn answer_looked(
        &mut self,
        place: usize,
        looked: FirstLook,
        question: &Question,
        message: &mut [u8],
    ) -> Action {
        self.known.rotation = self.known.rotation.wrapping_add(1);
        let sources = self.known.sources();
        let name = &mut self.names[place];
        match looked.and_then(|looked| at_a_glance(sources, question, &looked, name, message)) {
            Ok(answered) => {
                self.count(question, &answered, place);
                Action::Reply(answered.len)
            }
            Err(glance) => {
                let caches = self.resolver.caches();
                let verdict = in_full(sources, caches, question, glance, name, message);
                self.follow(verdict, question, place, message)
            }
        }
    }

    /// What a verdict asks for. `message` still holds the packet where upstreams must be asked first.
    #[inline(never)]
    fn follow(
        &self,
        verdict: Verdict<'_>,
        question: &Question,
        place: usize,
        message: &[u8],
    ) -> Action {
        let name = &self.names[place];
        match verdict {
            Verdict::Reply(answered) => {
                self.count(question, &answered, place);
                Action::Reply(answered.len)
            }
            Verdict::ReplyAndRefresh(answered, ask) => {
                self.count(question, &answered, place);
                let departure = self.resolver.departure(&ask, name, None);
                Action::ReplyAndRefresh(answered.len, Box::new(departure))
            }
            Verdict::Ask(ask) => {
                let packet = &message[..question.len];
                let waiter = Waiter::new(&ask, question, packet, self.known.rotation);
                Action::Ask(Box::new(self.resolver.departure(&ask, name, Some(waiter))))
            }
            Verdict::Drop => {
                self.metrics.ignored();
                Action::Drop
            }
        }
    }

    /// What is asked of others than the tables.
    pub fn resolver(&mut self) -> &mut Resolver {
        &mut self.resolver
    }

    /// Asks upstreams, or has the waiter wait for a flight with the same question. `shared`: this responder.
    pub fn begin(
        &mut self,
        departure: Departure,
        return_to: Option<ReturnTo>,
        now: Instant,
        shared: &Rc<RefCell<Self>>,
    ) {
        let flight = self.resolver.begin(departure, return_to, now, self.known.sources());
        if let Some(flight) = flight {
            tokio::task::spawn_local(fly(flight, Rc::clone(shared)));
        }
    }

    /// The next generation of a table; `None` when its block is gone.
    pub fn take_table(&mut self, slot: TableSlot, table: Option<Arc<Table>>) {
        if let Some(table) = &table {
            self.metrics.table_taken(table.generation());
        }
        self.known.tables[slot.0] = table;
    }

    /// The next plan. Must be called in the shard's runtime.
    pub fn take_plan(&mut self, plan: Arc<Plan>) {
        self.resolver.take_plan(&plan);
        self.known.plan = plan;
    }

    /// The memory that the table reads first for this packet: see `Table::slot_line`.
    #[inline(always)]
    pub(crate) fn slot_line(&self, looked: &Looked) -> &[u8] {
        looked.slot_line(self.known.sources())
    }

    /// The memory that it reads next: see `Table::entry_line`.
    #[inline(always)]
    pub(crate) fn entry_line(&self, looked: &Looked) -> &[u8] {
        looked.entry_line(self.known.sources())
    }

    #[inline]
    fn count(&self, question: &Question, answered: &Answered, place: usize) {
        self.metrics.observe(&Observation {
            block: answered.counted_as,
            transport: question.transport,
            family: question.family(),
            qtype: answered.qtype,
            dnssec_ok: answered.dnssec_ok,
            rcode: answered.rcode,
            plugin: answered.by,
            query_len: question.len,
            reply_len: answered.len,
        });
        if let Some(logged_as) = answered.logged_as {
            let report = ErrorReport {
                logged_as,
                rcode: answered.rcode,
                name: self.names[place].clone(),
                qtype: answered.qtype,
                message: None,
            };
            report.send(&self.errors, &self.metrics);
        }
    }

    /// How patient the connections of a listener are.
    #[must_use]
    pub fn timeouts(&self, listener: ListenerId) -> Timeouts {
        let listener = self.known.plan.listeners.get(listener.0);
        listener.map(|listener| listener.timeouts).unwrap_or_default()
    }

    /// The counters that this shard's thread writes.
    #[must_use]
    pub fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    /// Ends a batch: all its answers took this long.
    pub fn finish_batch(&mut self, began: Instant) {
        self.metrics.finish_batch(began.elapsed());
        self.resolver.publish_look_ups();
    }
}

/// What is to be done for a packet.
pub enum Action {
    /// Send so many bytes of the output.
    Reply(usize),
    /// The same, and hand this to `Resolver::begin`.
    ReplyAndRefresh(usize, Box<Departure>),
    /// Hand this to `Resolver::begin`: the answer comes later.
    Ask(Box<Departure>),
    /// Say nothing.
    Drop,
}

/// Flies and lands: the flight's clients are answered whatever becomes of it.
async fn fly(flight: Flight, responder: Rc<RefCell<Responder>>) {
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
                    let Responder { resolver, known, .. } = &mut *responder.borrow_mut();
                    resolver.give_stale_of(&flight, known.sources(), Instant::now());
                }
                asking.await
            }
        }
    };
    let Responder { resolver, known, .. } = &mut *responder.borrow_mut();
    resolver.land(&flight, outcome, known.sources(), Instant::now());
    resolver.publish_counts();
}
