//! The life of a packet: one pinned thread, one ring, one loop.
//!
//! ```text
//!   wake ─→ take the updates ─→ turn: submit the last batch, receive the next
//!    ▲                              ▲           │
//!    │                              │           ▼
//!    └── sleep ◄─ nothing received ─┤    a few: look, have the table's memory fetched
//!                                   │           │
//!                                   └─ send ◄─ each: answer over the query
//! ```
//! TCP connections (`tcp`) are tasks of the same thread and share this `Shard`. Invariants: a batch sees one table and one
//! plan, for updates are taken between batches only; answering neither allocates nor frees; a table or plan that is let go
//! here is freed by the control plane, which still holds it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use wire::compile::Table;
use wire::header::{HEADER_LEN, Rcode};
use wire::name::Name;

use crate::answer::{
    Answered, Glance, Looked, Question, Sources, Tables, Verdict, at_a_glance, in_full, look,
};
use crate::client::{ListenerId, Transport};
use crate::fills::Fills;
use crate::forward::ShardNumber;
use crate::io::prefetch::prefetch;
use crate::io::socket::ListenerSockets;
use crate::io::wake::watch;
use crate::io::{Datagram, DatagramIo};
use crate::limits::{
    BATCHES_PER_TURN, COUNT_DROPS_EVERY, LATE_ANSWERS_AFTER_CLOSE, LOOK_AHEAD, POLLS_PER_TURN,
    STOPPING_LOOK_EVERY, TABLES_MAX,
};
use crate::metrics::{Observation, ShardMetrics};
use crate::outside::{Departure, Outside};
use crate::plan::{Plan, TableSlot};
use crate::plugin::timeouts::Timeouts;
use crate::tcp::TcpService;
use crate::waiter::{LateAnswers, ReturnTo, Waiter};

/// What the control plane tells a shard. Taken between batches, in the order sent.
#[derive(Debug)]
pub enum Update {
    /// The next generation of a table.
    Table(TableSlot, Arc<Table>),
    /// The table's block is gone.
    NoTable(TableSlot),
    /// The next Corefile.
    Plan(Arc<Plan>),
    Open(ListenerId, ListenerSockets),
    Close(ListenerId),
    /// Answer what the sockets hold, then end.
    Stop,
}

/// One failed answer, for the log of a block with `errors`.
#[derive(Clone)]
pub struct ErrorReport {
    /// Index of the block in the Corefile.
    pub logged_as: usize,
    pub rcode: Rcode,
    pub name: Name,
    pub qtype: u16,
    /// What went wrong with an upstream; `None` at the end of the plugin chain.
    pub message: Option<String>,
}

impl ErrorReport {
    /// A full queue loses the line, not the answer.
    pub fn send(self, log: &Sender<Self>, metrics: &ShardMetrics) {
        if log.try_send(self).is_err() {
            metrics.error_line_lost();
        }
    }
}

/// What the first look at a packet came to.
type FirstLook = Result<Looked, Glance<'static>>;

/// What a shard answers from. Its loop and its TCP connections share it, all in one thread.
pub struct Shard {
    updates: Receiver<Update>,
    errors: Sender<ErrorReport>,
    metrics: Arc<ShardMetrics>,
    known: Known,
    outside: Outside,
    /// Of the packets that are looked at together.
    names: Box<[Name; LOOK_AHEAD]>,
    drops_counted_at: Instant,
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

impl Shard {
    #[must_use]
    pub fn new(
        number: ShardNumber,
        updates: Receiver<Update>,
        errors: Sender<ErrorReport>,
        fills: Fills,
        metrics: Arc<ShardMetrics>,
    ) -> Self {
        let late_answers = LateAnswers::new(Arc::clone(&metrics), errors.clone());
        Self {
            updates,
            errors,
            outside: Outside::new(number, Arc::clone(&metrics), late_answers, fills),
            metrics,
            known: Known {
                plan: Arc::default(),
                tables: [const { None }; TABLES_MAX],
                // So that shards do not march in step.
                rotation: number.index.wrapping_mul(7919),
            },
            names: Box::new(std::array::from_fn(|_| Name::default())),
            drops_counted_at: Instant::now(),
        }
    }

    /// Answers the packet that begins `message`, over itself; for its room see `answer::at_a_glance`.
    pub fn answer(&mut self, question: &Question, message: &mut [u8]) -> Outcome {
        let looked = self.look(0, question.listener, &message[..question.len]);
        self.answer_looked(0, looked, question, message)
    }

    /// The first look at a packet, of which `place` keeps the name.
    #[inline(always)]
    fn look(&mut self, place: usize, listener: ListenerId, packet: &[u8]) -> FirstLook {
        look(self.known.sources(), listener, packet, &mut self.names[place])
    }

    #[inline(always)]
    fn answer_looked(
        &mut self,
        place: usize,
        looked: FirstLook,
        question: &Question,
        message: &mut [u8],
    ) -> Outcome {
        self.known.rotation = self.known.rotation.wrapping_add(1);
        let sources = self.known.sources();
        let name = &mut self.names[place];
        match looked.and_then(|looked| at_a_glance(sources, question, &looked, name, message)) {
            Ok(answered) => {
                self.count(question, &answered, place);
                Outcome::Reply(answered.len)
            }
            Err(glance) => {
                let caches = self.outside.caches();
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
    ) -> Outcome {
        let name = &self.names[place];
        match verdict {
            Verdict::Reply(answered) => {
                self.count(question, &answered, place);
                Outcome::Reply(answered.len)
            }
            Verdict::ReplyAndRefresh(answered, ask) => {
                self.count(question, &answered, place);
                let departure = self.outside.departure(&ask, name, None);
                Outcome::ReplyAndRefresh(answered.len, Box::new(departure))
            }
            Verdict::Ask(ask) => {
                let packet = &message[..question.len];
                let waiter = Waiter::new(&ask, question, packet, self.known.rotation);
                Outcome::Ask(Box::new(self.outside.departure(&ask, name, Some(waiter))))
            }
            Verdict::Drop => {
                self.metrics.ignored();
                Outcome::Drop
            }
        }
    }

    /// What is asked of others than the tables.
    pub fn outside(&mut self) -> &mut Outside {
        &mut self.outside
    }

    /// The same, and what packets are answered from besides.
    pub(crate) fn outside_with_sources(&mut self) -> (&mut Outside, Sources<'_>) {
        (&mut self.outside, self.known.sources())
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
        self.outside.publish_look_ups();
    }
}

/// What is to be done for a packet.
pub enum Outcome {
    /// Send so many bytes of the output.
    Reply(usize),
    /// The same, and hand this to `Outside::begin`.
    ReplyAndRefresh(usize, Box<Departure>),
    /// Hand this to `Outside::begin`: the answer comes later.
    Ask(Box<Departure>),
    /// Say nothing.
    Drop,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopping,
}

/// The loop of one shard; returns when it was told to stop, its sockets are empty and nobody waits for an upstream.
///
/// # Errors
/// When the ring or the wake-up descriptor fails for good: the shard cannot serve any more.
pub async fn serve<I: DatagramIo>(
    shard: Rc<RefCell<Shard>>,
    mut io: I,
    mut tcp: TcpService,
    busy_poll: Duration,
) -> io::Result<()> {
    let wake = watch(io.wake_fd())?;
    let mut state = State::Running;
    let mut batches = 0;
    loop {
        if take_updates(&shard, &mut io, &mut tcp)? == State::Stopping {
            state = State::Stopping;
        }
        if io.turn()? > 0 {
            answer_batch(&shard, &mut io);
            batches += 1;
            if batches == BATCHES_PER_TURN {
                batches = 0;
                tokio::task::yield_now().await;
            }
            continue;
        }
        if state == State::Stopping {
            if shard.borrow_mut().outside().is_idle() {
                return Ok(());
            }
            // Clients wait for upstreams still; how long that may take is `Fleet::stop`'s to say.
            tokio::time::sleep(STOPPING_LOOK_EVERY).await;
            continue;
        }
        if !busy_poll.is_zero() && found_by_polling(&mut io, busy_poll).await? {
            continue;
        }
        let mut woken = wake.readable().await?;
        io.acknowledge();
        woken.clear_ready();
        batches = 0;
    }
}

/// Polls for a while before sleeping: a wake-up costs a client some 40 µs, a poll next to nothing while there is no load.
async fn found_by_polling<I: DatagramIo>(io: &mut I, busy_poll: Duration) -> io::Result<bool> {
    let until = Instant::now() + busy_poll;
    while Instant::now() < until {
        for _ in 0..POLLS_PER_TURN {
            io.look_again();
            if io.turn()? > 0 {
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        tokio::task::yield_now().await;
    }
    Ok(false)
}

/// Everything that a turn fetched, answered in place.
fn answer_batch<I: DatagramIo>(this: &Rc<RefCell<Shard>>, io: &mut I) {
    let began = Instant::now();
    let shard = &mut *this.borrow_mut();
    if began.duration_since(shard.drops_counted_at) >= COUNT_DROPS_EVERY {
        shard.drops_counted_at = began;
        io.count_drops();
    }
    shard.outside.take_fills(began);
    let mut places = [const { None }; LOOK_AHEAD];
    while look_ahead(shard, io, &mut places) {
        for (place, taken) in places.iter_mut().enumerate() {
            let Some((datagram, looked)) = taken.take() else { break };
            let question = Question {
                listener: datagram.listener,
                transport: Transport::Udp,
                is_from_v6: datagram.is_from_v6,
                len: trusted_len(&datagram),
                now: began,
            };
            match shard.answer_looked(place, looked, &question, io.message(&datagram)) {
                Outcome::Reply(len) => io.send(datagram, len),
                Outcome::ReplyAndRefresh(len, departure) => {
                    io.send(datagram, len);
                    shard.outside.begin(*departure, None, began, shard.known.sources(), this);
                }
                Outcome::Ask(departure) => {
                    let return_to = ReturnTo::Udp(io.return_address(&datagram));
                    io.recycle(datagram);
                    let sources = shard.known.sources();
                    shard.outside.begin(*departure, Some(return_to), began, sources, this);
                }
                Outcome::Drop => io.recycle(datagram),
            }
        }
    }
    shard.finish_batch(began);
}

/// Of a datagram whose end is lost nothing can be trusted but the header.
fn trusted_len(datagram: &Datagram) -> usize {
    if datagram.is_cut { HEADER_LEN } else { datagram.packet_len() }
}

/// Looks at the next datagrams and has the memory fetched that their answers need: three passes, in each of which no packet
/// waits for another's. False at the batch's end.
#[inline(always)]
fn look_ahead<I: DatagramIo>(
    shard: &mut Shard,
    io: &mut I,
    places: &mut [Option<(Datagram, FirstLook)>; LOOK_AHEAD],
) -> bool {
    let mut count = 0;
    for (place, taken) in places.iter_mut().enumerate() {
        let Some(datagram) = io.next() else { break };
        let packet = &io.message(&datagram)[..trusted_len(&datagram)];
        let looked = shard.look(place, datagram.listener, packet);
        if let Ok(looked) = &looked {
            prefetch(looked.slot_line(shard.known.sources()));
        }
        *taken = Some((datagram, looked));
        count += 1;
    }
    // A single packet would only wait here instead of there.
    if count > 1 {
        for (_, looked) in places.iter().flatten() {
            if let Ok(looked) = looked {
                prefetch(looked.entry_line(shard.known.sources()));
            }
        }
    }
    count > 0
}

/// Lets go of the socket by which late answers of a closed listener leave, once nobody waits for one. It receives nothing.
async fn close_copy(shard: Rc<RefCell<Shard>>, listener: ListenerId, copy: u64) {
    tokio::time::sleep(LATE_ANSWERS_AFTER_CLOSE).await;
    shard.borrow_mut().outside.late_answers().close(listener, copy);
}

fn take_updates<I: DatagramIo>(
    shard: &Rc<RefCell<Shard>>,
    io: &mut I,
    tcp: &mut TcpService,
) -> io::Result<State> {
    loop {
        let mut state = shard.borrow_mut();
        match state.updates.try_recv() {
            Ok(Update::Table(slot, table)) => {
                state.metrics.table_taken(table.generation());
                state.known.tables[slot.0] = Some(table);
            }
            Ok(Update::NoTable(slot)) => state.known.tables[slot.0] = None,
            Ok(Update::Plan(plan)) => {
                state.outside.take_plan(&plan);
                state.known.plan = plan;
            }
            Ok(Update::Open(listener, sockets)) => {
                state.outside.late_answers().open(listener, sockets.udp.try_clone()?);
                drop(state);
                io.open(listener, sockets.udp)?;
                tcp.open(listener, sockets.tcp, shard)?;
            }
            Ok(Update::Close(listener)) => {
                let copy = state.outside.late_answers().copy_of(listener);
                drop(state);
                io.close(listener);
                tcp.close(listener);
                if let Some(copy) = copy {
                    tokio::task::spawn_local(close_copy(Rc::clone(shard), listener, copy));
                }
            }
            Ok(Update::Stop) => return Ok(State::Stopping),
            Err(TryRecvError::Empty) => return Ok(State::Running),
            // The control plane is gone: nothing will ever come, and nobody could say stop.
            Err(TryRecvError::Disconnected) => return Ok(State::Stopping),
        }
    }
}
