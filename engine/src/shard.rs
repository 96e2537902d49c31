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
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use wire::header::HEADER_LEN;
use wire::table::Table;

use crate::client::{Arrival, ListenerId, Packet, Transport};
use crate::io::prefetch::prefetch;
use crate::io::socket::ListenerSockets;
use crate::io::wake::watch;
use crate::io::{Datagram, DatagramIo};
use crate::limits::{
    BATCHES_PER_TURN, COUNT_DROPS_EVERY, LATE_ANSWERS_AFTER_CLOSE, LOOK_AHEAD, POLLS_PER_TURN,
    STOPPING_LOOK_EVERY,
};
use crate::plan::{Plan, TableSlot};
use crate::resolve::waiter::ReturnTo;
use crate::responder::{Action, FirstLook, Responder};
use crate::tcp::TcpService;

/// What the control plane tells a shard. Taken between batches, in the order sent.
#[derive(Debug)]
pub enum Update {
    /// The next generation of a table.
    Table(TableSlot, Arc<Table>),
    /// The table's block is gone. Dropping the token tells the control plane that the table is let go.
    NoTable(TableSlot, Arc<()>),
    /// The next Corefile.
    Plan(Arc<Plan>),
    Open(ListenerId, ListenerSockets),
    Close(ListenerId),
    /// Answer what the sockets hold, then end.
    Stop,
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
    responder: Rc<RefCell<Responder>>,
    updates: Receiver<Update>,
    mut io: I,
    mut tcp: TcpService,
    busy_poll: Duration,
) -> io::Result<()> {
    let wake = watch(io.wake_fd())?;
    let mut state = State::Running;
    let mut drops_counted_at = Instant::now();
    let mut batches = 0;
    loop {
        if take_updates(&updates, &responder, &mut io, &mut tcp)? == State::Stopping {
            state = State::Stopping;
        }
        if io.turn()? > 0 {
            let began = Instant::now();
            if began.duration_since(drops_counted_at) >= COUNT_DROPS_EVERY {
                drops_counted_at = began;
                io.count_drops();
            }
            answer_batch(&responder, &mut io, began);
            batches += 1;
            if batches == BATCHES_PER_TURN {
                batches = 0;
                tokio::task::yield_now().await;
            }
            continue;
        }
        if state == State::Stopping {
            if responder.borrow_mut().resolver().is_idle() {
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
fn answer_batch<I: DatagramIo>(this: &Rc<RefCell<Responder>>, io: &mut I, began: Instant) {
    let responder = &mut *this.borrow_mut();
    responder.resolver().take_fills(began);
    let mut places = [const { None }; LOOK_AHEAD];
    while look_ahead(responder, io, &mut places) {
        for (place, taken) in places.iter_mut().enumerate() {
            let Some((datagram, looked)) = taken.take() else { break };
            let arrival = Arrival {
                listener: datagram.listener,
                transport: Transport::Udp,
                family: datagram.family(),
                len: trusted_len(&datagram),
                now: began,
            };
            let mut packet = UdpPacket { io, datagram: &datagram };
            match responder.answer_looked(place, looked, &arrival, &mut packet) {
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

/// A datagram where the backend keeps it.
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

/// Of a datagram whose end is lost nothing can be trusted but the header.
fn trusted_len(datagram: &Datagram) -> usize {
    if datagram.is_cut { HEADER_LEN } else { datagram.packet_len() }
}

/// Looks at the next datagrams and has the memory fetched that their answers need: three passes, in each of which no packet
/// waits for another's. False at the batch's end.
#[inline(always)]
fn look_ahead<I: DatagramIo>(
    responder: &mut Responder,
    io: &mut I,
    places: &mut [Option<(Datagram, FirstLook)>; LOOK_AHEAD],
) -> bool {
    let mut count = 0;
    for (place, taken) in places.iter_mut().enumerate() {
        let Some(datagram) = io.next() else { break };
        let packet = &io.message(&datagram)[..trusted_len(&datagram)];
        let looked = responder.look(place, datagram.listener, packet);
        if let Ok(looked) = &looked {
            prefetch(responder.slot_line(looked));
        }
        *taken = Some((datagram, looked));
        count += 1;
    }
    // A single packet would only wait here instead of there.
    if count > 1 {
        for (_, looked) in places.iter().flatten() {
            if let Ok(looked) = looked {
                prefetch(responder.entry_line(looked));
            }
        }
    }
    count > 0
}

/// Lets go of the socket by which late answers of a closed listener leave, once nobody waits for one. It receives nothing.
async fn close_copy(responder: Rc<RefCell<Responder>>, listener: ListenerId, copy: u64) {
    tokio::time::sleep(LATE_ANSWERS_AFTER_CLOSE).await;
    responder.borrow_mut().resolver().late_answers().close(listener, copy);
}

fn take_updates<I: DatagramIo>(
    updates: &Receiver<Update>,
    responder: &Rc<RefCell<Responder>>,
    io: &mut I,
    tcp: &mut TcpService,
) -> io::Result<State> {
    loop {
        match updates.try_recv() {
            Ok(Update::Table(slot, table)) => responder.borrow_mut().take_table(slot, Some(table)),
            Ok(Update::NoTable(slot, token)) => {
                responder.borrow_mut().take_table(slot, None);
                drop(token);
            }
            Ok(Update::Plan(plan)) => responder.borrow_mut().take_plan(plan),
            Ok(Update::Open(listener, sockets)) => {
                let copy = sockets.udp.try_clone()?;
                responder.borrow_mut().resolver().late_answers().open(listener, copy);
                io.open(listener, sockets.udp)?;
                tcp.open(listener, sockets.tcp, responder)?;
            }
            Ok(Update::Close(listener)) => {
                let copy = responder.borrow_mut().resolver().late_answers().copy_of(listener);
                io.close(listener);
                tcp.close(listener);
                if let Some(copy) = copy {
                    tokio::task::spawn_local(close_copy(Rc::clone(responder), listener, copy));
                }
            }
            Ok(Update::Stop) => return Ok(State::Stopping),
            Err(TryRecvError::Empty) => return Ok(State::Running),
            // The control plane is gone: no update will come, and nobody could say stop.
            Err(TryRecvError::Disconnected) => return Ok(State::Stopping),
        }
    }
}
