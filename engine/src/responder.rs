//! What a shard answers from: its tables, its plan, its caches and upstreams. The shard's loop and its TCP
//! connections share one `Responder`, all in one thread.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use wire::name::Name;
use wire::table::Table;

use crate::answer::exit::{ErrorReport, Exit, Timing};
use crate::answer::{Glance, Looked, Sources, Tables, Verdict, at_a_glance, in_full, look};
use crate::client::{Arrival, ListenerId, Packet};
use crate::forward::ShardNumber;
use crate::limits::{LOOK_AHEAD, TABLES_MAX};
use crate::metrics::ShardMetrics;
use crate::plan::{Plan, TableSlot};
use crate::plugin::timeouts::Timeouts;
use crate::resolve::fills::Fills;
use crate::resolve::waiter::{LateAnswers, ReturnTo, Waiter};
use crate::resolve::{Departure, Flight, Resolver};

/// The result of the first look at a packet.
pub(crate) type FirstLook = Result<Looked, Glance<'static>>;

/// What a shard answers from. Its loop and its TCP connections share it, all in one thread.
pub struct Responder {
    exit: Exit,
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
        let exit = Exit::new(Arc::clone(&metrics), errors);
        let late_answers = LateAnswers::new(Arc::clone(&metrics), exit.clone());
        Self {
            exit,
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

    /// Answers one query, over itself.
    pub fn answer(&mut self, arrival: &Arrival, packet: &mut impl Packet) -> Action {
        let looked = self.look(0, arrival.listener, &packet.message()[..arrival.len]);
        self.answer_looked(0, looked, arrival, packet)
    }

    /// The first look at a packet. `place` keeps its name.
    #[inline(always)]
    pub(crate) fn look(&mut self, place: usize, listener: ListenerId, packet: &[u8]) -> FirstLook {
        look(self.known.sources(), listener, packet, &mut self.names[place])
    }

    #[inline(always)]
    pub(crate) fn answer_looked(
        &mut self,
        place: usize,
        looked: FirstLook,
        arrival: &Arrival,
        packet: &mut impl Packet,
    ) -> Action {
        self.known.rotation = self.known.rotation.wrapping_add(1);
        let sources = self.known.sources();
        let name = &mut self.names[place];
        let message = packet.message();
        match looked.and_then(|looked| at_a_glance(sources, arrival, &looked, name, message)) {
            Ok(made) => {
                let len = self.exit.leave(&made, arrival, name, message, Timing::WithBatch, None);
                Action::Reply(len)
            }
            Err(glance) => {
                let (peer, message) = (packet.peer(), packet.message());
                let caches = self.resolver.caches();
                let verdict = in_full(sources, caches, arrival, peer, glance, name, message);
                self.follow(verdict, arrival, place, message)
            }
        }
    }

    /// What a verdict asks for. `message` still holds the packet where upstreams must be asked first.
    #[inline(never)]
    fn follow(
        &self,
        verdict: Verdict<'_>,
        arrival: &Arrival,
        place: usize,
        message: &mut [u8],
    ) -> Action {
        let (plan, name) = (&self.known.plan, &self.names[place]);
        match verdict {
            Verdict::Reply(made) => {
                let len = self.exit.leave(&made, arrival, name, message, Timing::WithBatch, None);
                Action::Reply(len)
            }
            Verdict::ReplyAndRefresh(made, ask) => {
                let departure = self.resolver.departure(plan, &ask, name, None);
                let len = self.exit.leave(&made, arrival, name, message, Timing::WithBatch, None);
                Action::ReplyAndRefresh(len, Box::new(departure))
            }
            Verdict::Ask(ask) => {
                let packet = &message[..arrival.len];
                let waiter = Waiter::new(plan, &ask, arrival, packet, self.known.rotation);
                Action::Ask(Box::new(self.resolver.departure(plan, &ask, name, Some(waiter))))
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
