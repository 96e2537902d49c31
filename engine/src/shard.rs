//! The life of a packet: one pinned thread with one loop, which TCP connections (`tcp`) share.
//!
//! ```text
//!   wake ─→ take updates ─→ turn: submit the last batch, receive the next
//!    ▲                          ▲           │
//!    │                          │           ▼
//!    └─ sleep ◄─ nothing there ─┤    look at up to 16 packets, prefetch the table's memory
//!                               │           │
//!                               └─ send ◄─ answer each over its query
//! ```
//! A shard sleeps in its runtime, beside its TCP connections and its queries to upstreams. With
//! none of them it sleeps in the turn itself (`DatagramIo::wait`), until the next query or until
//! the bell rings. Its timers stand still meanwhile; a ping gives them a turn five times a second.
//! Invariants: updates are taken between batches only, so a batch sees one table and one plan; the
//! packet path neither allocates nor frees; the control plane frees the tables and plans that a
//! shard drops, because it still holds them.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use tokio::io::unix::AsyncFd;
use wire::header::HEADER_LEN;
use wire::pod_index::PodIndex;
use wire::table::Table;

use crate::client::{Arrival, ListenerId, Packet, Transport};
use crate::heart::Heart;
use crate::io::bell::Bell;
use crate::io::prefetch::prefetch;
use crate::io::socket::ShardSockets;
use crate::io::wake::watch;
use crate::io::{Datagram, DatagramIo};
use crate::limits::{
    BATCHES_PER_TURN, COUNT_DROPS_EVERY, CROWDED_AFTER, DRAIN_CLOSES_AFTER,
    LATE_ANSWERS_AFTER_CLOSE, LISTENERS_MAX, LOOK_AHEAD, POLLS_PER_TURN, STOPPING_LOOK_EVERY,
};
use crate::plan::{Plan, TableSlot};
use crate::resolve::waiter::ReturnTo;
use crate::responder::explaining::{self, ExplainRequest};
use crate::responder::{Action, FirstLook, Responder};
use crate::steering::Company;
use crate::tcp::{Handshakes, TcpService};

/// An update from the control plane. Taken between batches, in the order sent.
#[derive(Debug)]
pub enum Update {
    /// The next generation of a table.
    Table(TableSlot, Arc<Table>),
    /// The next index of the pods of the cluster whose table is in this slot.
    Pods(TableSlot, Arc<PodIndex>),
    /// The table's block was removed. The shard drops the token once it has dropped the table, and
    /// the pod index of this slot.
    NoTable(TableSlot, Arc<()>),
    /// The plan of the next Corefile.
    Plan(Arc<Plan>),
    Open(ListenerId, ShardSockets),
    /// And who else has sockets at its addresses.
    Close(ListenerId, Company),
    /// Answer this question and report each decision.
    Explain(Box<ExplainRequest>),
    /// Show that the shard is alive.
    Ping(u64),
    /// Call this function. Only tests send it.
    Call(fn()),
    /// Answer the queries that the sockets hold, then end.
    Stop,
}

/// What `take_updates` has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    Updates,
    /// The shard is to stop.
    Stop,
}

/// How often a shard yields to its runtime's other tasks before it sleeps in its backend, where
/// they would not run: once for those that are ready; and once more, because the runtime polls the
/// shard's loop before the tasks that its driver has just woken.
const YIELDS: u8 = 2;

/// The loop of one shard. It returns after `Update::Stop`, once no client waits for an upstream,
/// the TCP connections have ended, and the sockets are empty.
///
/// # Errors
/// The ring or the wake-up descriptor failed for good: the shard can no longer serve.
pub async fn serve<I: DatagramIo>(
    responder: Rc<RefCell<Responder>>,
    heart: Arc<Heart>,
    updates: Receiver<Update>,
    bell: &Bell,
    mut io: I,
    mut tcp: TcpService,
    busy_poll: Duration,
) -> io::Result<()> {
    let wake = watch(io.wake_fd())?;
    // At the first one, tokio allocates its list of those that have yielded.
    tokio::task::yield_now().await;
    let mut stopping: Option<Stopping> = None;
    let mut drops_counted_at = Instant::now();
    // Batches since the other tasks had a turn, and datagrams received since there were none.
    let (mut batches, mut backlog) = (0, 0);
    let mut yields_due = YIELDS;
    loop {
        let taken = take_updates(&updates, bell, &responder, &heart, &mut io, &mut tcp)?;
        if taken == Taken::Stop && stopping.is_none() {
            stopping = Some(Stopping { since: Instant::now(), is_closing: false });
            tcp.drain();
        }
        let is_alone = busy_poll.is_zero()
            && stopping.is_none()
            && tcp.is_idle()
            && !responder.borrow_mut().resolver().is_asking();
        if !is_alone || taken != Taken::Nothing {
            yields_due = YIELDS;
        }
        let may_wait = is_alone && yields_due == 0;
        if may_wait && io.is_quiet() {
            backlog = 0;
        }
        let received = if may_wait { io.wait()? } else { io.turn()? };
        if received > 0 {
            backlog += received;
            let began = Instant::now();
            if began.duration_since(drops_counted_at) >= COUNT_DROPS_EVERY {
                drops_counted_at = began;
                io.count_drops();
            }
            answer_batch(&responder, &mut io, began, backlog > CROWDED_AFTER);
            batches += 1;
            if batches == BATCHES_PER_TURN || (is_alone && yields_due > 0) {
                batches = 0;
                tokio::task::yield_now().await;
                yields_due = yields_due.saturating_sub(1);
                if let Some(stopping) = &mut stopping
                    && stopping.advance(&responder, &mut io, &mut tcp)
                {
                    return Ok(());
                }
            }
            continue;
        }
        backlog = 0;
        if may_wait {
            yields_due = YIELDS;
            continue;
        }
        if let Some(stopping) = &mut stopping {
            if stopping.advance(&responder, &mut io, &mut tcp) {
                return Ok(());
            }
            tokio::time::sleep(STOPPING_LOOK_EVERY).await;
            continue;
        }
        if !busy_poll.is_zero() && found_by_polling(&mut io, busy_poll).await? {
            continue;
        }
        batches = 0;
        if is_alone {
            tokio::task::yield_now().await;
            yields_due -= 1;
        } else {
            sleep_in_runtime(&wake, &mut io).await?;
        }
    }
}

/// Sleeps until datagrams come, while the other tasks run.
async fn sleep_in_runtime<I: DatagramIo>(wake: &AsyncFd<OwnedFd>, io: &mut I) -> io::Result<()> {
    let mut woken = wake.readable().await?;
    io.look_again();
    woken.clear_ready();
    Ok(())
}

/// How far a shard has come with its end: it answers what is in flight, then closes its sockets.
struct Stopping {
    since: Instant,
    is_closing: bool,
}

impl Stopping {
    /// Takes the next step that is due; true if it was the last. `Fleet::stop` limits how long this
    /// may last; a thread that was replaced has a limit of its own.
    fn advance<I: DatagramIo>(
        &mut self,
        responder: &RefCell<Responder>,
        io: &mut I,
        tcp: &mut TcpService,
    ) -> bool {
        if self.since.elapsed() > LATE_ANSWERS_AFTER_CLOSE {
            return true;
        }
        // Nobody waits for upstreams, or is to take a response.
        let is_idle = responder.borrow_mut().resolver().is_idle() && tcp.is_idle();
        let is_time = is_idle || self.since.elapsed() > DRAIN_CLOSES_AFTER;
        if is_time && !self.is_closing {
            // From now on the kernel refuses what comes. What the sockets hold is still answered.
            self.is_closing = true;
            for index in 0..LISTENERS_MAX {
                io.close(ListenerId(index));
                tcp.close(ListenerId(index), Handshakes::Refused);
            }
            return false;
        }
        is_idle && self.is_closing && !io.has_sockets()
    }
}

/// Polls for a while before sleeping. A wake-up costs a client some 40 µs, a poll next to nothing
/// when there is no load.
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
        // A client on this core cannot send its next query while the shard spins.
        rustix::thread::sched_yield();
        tokio::task::yield_now().await;
    }
    Ok(false)
}

/// Answers everything that a turn received, in place.
fn answer_batch<I: DatagramIo>(
    this: &Rc<RefCell<Responder>>,
    io: &mut I,
    began: Instant,
    is_crowded: bool,
) {
    let responder = &mut *this.borrow_mut();
    responder.resolver().take_fills(began);
    let mut places = [const { None }; LOOK_AHEAD];
    loop {
        let count = look_ahead(responder, io, &mut places);
        let Some((first, _)) = &places[0] else { break };
        if is_crowded {
            // Those with the first are nearly always of the same listener.
            responder.metrics().crowded(first.listener, count as u64);
        }
        for (place, taken) in places.iter_mut().enumerate() {
            let Some((datagram, looked)) = taken.take() else { break };
            let arrival = Arrival {
                listener: datagram.listener,
                transport: Transport::Udp,
                family: datagram.family(),
                len: trusted_len(&datagram),
                now: began,
                inside: None,
            };
            let mut packet = UdpPacket { io, datagram: &datagram };
            match responder.answer_looked(place, &looked, &arrival, &mut packet) {
                Action::Reply(len) => io.send(datagram, len),
                Action::ReplyAndRefresh(len, request) => {
                    io.send(datagram, len);
                    responder.begin(*request, None, began, this);
                }
                Action::Ask(request) => {
                    let return_to = ReturnTo::Udp(io.return_address(&datagram));
                    io.recycle(datagram);
                    responder.begin(*request, Some(return_to), began, this);
                }
                Action::Drop => io.recycle(datagram),
            }
        }
    }
    responder.finish_batch(began);
}

/// A datagram in the backend's buffer.
struct UdpPacket<'p, I> {
    io: &'p mut I,
    datagram: &'p Datagram,
}

impl<I: DatagramIo> Packet for UdpPacket<'_, I> {
    #[inline(always)]
    fn message(&mut self) -> &mut [u8] {
        self.io.message(self.datagram)
    }

    fn peer(&self) -> SocketAddr {
        self.io.return_address(self.datagram).peer()
    }
}

/// Of a datagram that was cut only the header can be trusted.
fn trusted_len(datagram: &Datagram) -> usize {
    if datagram.is_cut { HEADER_LEN } else { datagram.packet_len() }
}

/// Inspects the next datagrams and prefetches the table memory that their answers need. Each pass
/// works on all of them, so that their fetches overlap. Returns how many: 0 at the end of the
/// batch.
#[inline(always)]
fn look_ahead<I: DatagramIo>(
    responder: &mut Responder,
    io: &mut I,
    places: &mut [Option<(Datagram, FirstLook)>; LOOK_AHEAD],
) -> usize {
    let mut count = 0;
    for (place, taken) in places.iter_mut().enumerate() {
        let Some(datagram) = io.next() else { break };
        let packet = &io.message(&datagram)[..trusted_len(&datagram)];
        let looked = responder.look(place, datagram.listener, packet);
        if let Ok(looked) = &looked {
            prefetch::<1>(responder.slot_line(looked));
        }
        *taken = Some((datagram, looked));
        count += 1;
    }
    // With a single packet there is no other work to overlap the fetch with.
    if count > 1 {
        for (_, looked) in places.iter().flatten() {
            if let Ok(looked) = looked {
                prefetch::<2>(responder.entry_line(looked));
            }
        }
    }
    count
}

/// Closes the socket that sends late responses of a closed listener, once no client can be waiting
/// for one. It receives nothing.
async fn close_copy(responder: Rc<RefCell<Responder>>, listener: ListenerId, copy: u64) {
    tokio::time::sleep(LATE_ANSWERS_AFTER_CLOSE).await;
    responder.borrow_mut().resolver().late_answers().close(listener, copy);
}

fn take_updates<I: DatagramIo>(
    updates: &Receiver<Update>,
    bell: &Bell,
    responder: &Rc<RefCell<Responder>>,
    heart: &Heart,
    io: &mut I,
    tcp: &mut TcpService,
) -> io::Result<Taken> {
    if !updates.is_empty() {
        bell.empty();
    }
    let mut taken = Taken::Nothing;
    loop {
        match updates.try_recv() {
            Ok(Update::Table(slot, table)) => responder.borrow_mut().take_table(slot, Some(table)),
            Ok(Update::Pods(slot, pods)) => responder.borrow_mut().take_pods(slot, Some(pods)),
            Ok(Update::NoTable(slot, token)) => {
                responder.borrow_mut().take_table(slot, None);
                responder.borrow_mut().take_pods(slot, None);
                drop(token);
            }
            Ok(Update::Plan(plan)) => responder.borrow_mut().take_plan(plan),
            Ok(Update::Open(listener, ShardSockets { own, copies })) => {
                if let (Some(udp), Some(copy)) = (own.udp, copies.udp) {
                    responder.borrow_mut().resolver().late_answers().open(listener, copy);
                    io.open(listener, udp)?;
                }
                bell.watch(listener, copies.tcp)?;
                tcp.open(listener, own.tcp, responder)?;
            }
            Ok(Update::Close(listener, company)) => {
                let copy = responder.borrow_mut().resolver().late_answers().copy_of(listener);
                tcp.close(
                    listener,
                    match company {
                        Company::None => Handshakes::Awaited,
                        Company::OtherProcess => Handshakes::AwaitedInGroup,
                    },
                );
                if let Some(copy) = copy {
                    io.close(listener);
                    tokio::task::spawn_local(close_copy(Rc::clone(responder), listener, copy));
                }
            }
            Ok(Update::Explain(request)) => explaining::begin(*request, responder),
            Ok(Update::Ping(ping)) => heart.answer(ping),
            Ok(Update::Call(function)) => function(),
            Ok(Update::Stop) => return Ok(Taken::Stop),
            Err(TryRecvError::Empty) => return Ok(taken),
            // Another thread has this shard's place, and copies of its sockets; or the control
            // plane is gone.
            Err(TryRecvError::Disconnected) => {
                io.leave();
                tcp.leave();
                return Ok(Taken::Stop);
            }
        }
        taken = Taken::Updates;
    }
}
