//! Datagrams over io_uring: multishot receives into a ring of provided buffers, one SEND or SENDMSG
//! per response.
//!
//! The life of a datagram: the kernel takes a buffer from the buffer ring, fills it, and posts a
//! completion. The response is written over the query, and `send` queues the buffer. No send waits
//! for room in its socket, so it is over once it is submitted, and the buffer returns to the buffer
//! ring; only a send that fails has a completion. Any completion may end its multishot receive (an
//! empty datagram does, and so does an empty buffer ring); the next turn starts it again. In
//! `wait`, one system call sends the responses, sleeps, and receives the next query.
//! Invariant: all memory that the kernel may touch belongs to `RingMemory`.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use super::bell::Bell;
use super::late::ReturnAddress;
use super::ring_memory::{BufferOwner, RingMemory};
use super::socket::{Drops, divert, holds_a_datagram};
use super::{Datagram, DatagramIo};
use crate::client::ListenerId;
use crate::limits::{COMPLETIONS, DATAGRAM_BUFFERS, LISTENERS_MAX, SUBMISSIONS};
use crate::metrics::{ShardEvent, ShardMetrics};

/// The one group of provided buffers.
const BUFFER_GROUP: u16 = 0;

/// The upper half of a completion's user data is its operation, the lower half an index.
const RECEIVE: u64 = 0;
const SEND: u64 = 1 << 32;
const CANCEL: u64 = 2 << 32;
const BELL: u64 = 3 << 32;

/// The io_uring backend.
pub struct Uring {
    ring: IoUring,
    memory: RingMemory,
    /// The kernel signals it with each completion, unless the shard sleeps in the ring.
    completed: OwnedFd,
    /// Where `wait` sleeps if it must not do so in the ring: an epoll instance with `completed`.
    beside: Option<OwnedFd>,
    bell: Rc<Bell>,
    /// A multishot poll of the bell is in the kernel.
    is_listening: bool,
    /// The bell has rung since the last turn began.
    has_rung: bool,
    listeners: [Option<UringListener>; LISTENERS_MAX],
    /// Receive completions of this turn, not yet handed out.
    received: VecDeque<(ListenerId, u16)>,
    /// The buffers of the sends that are queued.
    sending: Vec<u16>,
    metrics: Arc<ShardMetrics>,
}

struct UringListener {
    socket: UdpSocket,
    /// A multishot receive is in the kernel.
    is_receiving: bool,
    closing: Closing,
    drops: Drops,
}

/// Whether a listener closes, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// The kernel queues nothing more; what is queued is still answered.
    Draining,
    /// The next turn closes the socket, once nothing is received from it.
    Empty,
}

impl Uring {
    /// Call this on the thread that will use the ring: the kernel lets no other thread enter it
    /// (SINGLE_ISSUER).
    ///
    /// # Errors
    /// EPERM, ENOSYS or EACCES if io_uring is denied, EINVAL before Linux 6.1, ENOMEM by
    /// RLIMIT_MEMLOCK.
    pub fn new(bell: Rc<Bell>, metrics: Arc<ShardMetrics>) -> io::Result<Self> {
        let ring = builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?;
        let memory = RingMemory::new();
        // SAFETY: the buffer ring is part of `memory`, page-aligned and DATAGRAM_BUFFERS entries
        // long. It is the kernel's until the ring is closed, and `Drop` keeps it until then.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                memory.buffer_ring_address(),
                DATAGRAM_BUFFERS,
                BUFFER_GROUP,
                0,
            )?;
        }
        let completed = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(completed.as_raw_fd())?;
        // Before Linux 6.15, a thread that sleeps in a ring counts as waiting for a disk: in the
        // CPU's iowait and in the I/O pressure.
        let is_seen = !ring.params().is_feature_no_iowait();
        let beside = is_seen.then(|| beside(&completed)).transpose()?;
        let mut uring = Self {
            ring,
            memory,
            completed,
            beside,
            bell,
            is_listening: false,
            has_rung: false,
            listeners: [const { None }; LISTENERS_MAX],
            received: VecDeque::with_capacity(COMPLETIONS as usize),
            sending: Vec::with_capacity(DATAGRAM_BUFFERS.into()),
            metrics,
        };
        for buffer in 0..DATAGRAM_BUFFERS {
            uring.memory.give_back(buffer);
        }
        Ok(uring)
    }

    /// As on kernels where `wait` must not sleep in the ring.
    #[cfg(test)]
    pub(super) fn on_older_kernels(bell: Rc<Bell>, metrics: Arc<ShardMetrics>) -> io::Result<Self> {
        let mut uring = Self::new(bell, metrics)?;
        uring.beside = Some(beside(&uring.completed)?);
        Ok(uring)
    }

    /// Checks that io_uring is available, by the system calls that a small ring needs: a sandbox
    /// may deny one of the three.
    ///
    /// # Errors
    /// The kernel's error, as for `new`.
    pub fn probe() -> io::Result<()> {
        let mut ring = builder().build(8)?;
        let completed = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(completed.as_raw_fd())?;
        // SAFETY: a no-op points at nothing.
        unsafe { ring.submission().push(&opcode::Nop::new().build()) }.map_err(io::Error::other)?;
        match ring.submit_and_wait(1) {
            Err(error) if !is_passing(&error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: every entry points into `memory` or at nothing, and `memory` outlives the ring.
        // What it points at is the kernel's until the entry's completion. A send does not wait, so
        // the kernel has copied its message once the entry is submitted.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // The queue is full, and submitting empties it. If the kernel refuses for now, nothing
            // is lost: the loop tries again.
            if self.ring.submit().is_ok() {
                self.take_back_sent();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Returns the buffers of the sends to the buffer ring, once all of them are submitted.
    fn take_back_sent(&mut self) {
        if self.ring.submission().is_empty() {
            for buffer in self.sending.drain(..) {
                self.memory.pass(buffer, BufferOwner::KernelReads, BufferOwner::Shard);
                self.memory.give_back(buffer);
            }
        }
    }

    fn listen(&mut self) {
        self.is_listening = true;
        let fd = Fd(self.bell.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.push(&entry.user_data(BELL));
    }

    fn start_receiving(&mut self, index: usize) {
        let Some(listener) = self.listeners[index].as_mut() else { return };
        listener.is_receiving = true;
        let fd = Fd(listener.socket.as_raw_fd());
        let header = self.memory.receive_header();
        let entry = opcode::RecvMsgMulti::new(fd, header, BUFFER_GROUP).build();
        self.push(&entry.user_data(RECEIVE | index as u64));
    }

    fn stop_receiving(&mut self, index: usize) {
        let receives = CancelBuilder::user_data(RECEIVE | index as u64).all();
        let entry = opcode::AsyncCancel2::new(receives).build();
        self.push(&entry.user_data(CANCEL));
    }

    /// Starts a receive on every socket without one. A socket that closes receives only what it
    /// still holds. True if such a socket is empty.
    fn arm(&mut self) -> bool {
        if !self.is_listening {
            self.listen();
        }
        let mut is_any_empty = false;
        for index in 0..LISTENERS_MAX {
            let Some(listener) = self.listeners[index].as_mut() else { continue };
            if listener.is_receiving {
                continue;
            }
            match listener.closing {
                Closing::No => self.start_receiving(index),
                Closing::Draining if holds_a_datagram(&listener.socket) => {
                    self.start_receiving(index);
                    self.stop_receiving(index);
                }
                Closing::Draining | Closing::Empty => {
                    listener.closing = Closing::Empty;
                    is_any_empty = true;
                }
            }
        }
        is_any_empty
    }

    /// Makes a place free that may still hold a listener that closes: its last responses leave, and
    /// its receive ends, whose completions would be taken for those of the next listener. What it
    /// still holds is lost.
    fn vacate(&mut self, listener: ListenerId) -> io::Result<()> {
        if self.listeners[listener.0].is_none() {
            return Ok(());
        }
        self.stop_receiving(listener.0);
        self.enter(0)?;
        self.take_completions();
        for _ in 0..COMPLETIONS {
            if self.listeners[listener.0].as_ref().is_none_or(|one| !one.is_receiving) {
                break;
            }
            self.enter(1)?;
            self.take_completions();
        }
        let Self { received, memory, .. } = self;
        received.retain(|(of, buffer)| {
            let is_kept = *of != listener;
            if !is_kept {
                memory.give_back(*buffer);
            }
            is_kept
        });
        self.listeners[listener.0] = None;
        Ok(())
    }

    /// Closes the listeners that are empty, unless sends are queued: those name the socket by its
    /// number.
    fn close_empty(&mut self) {
        if !self.ring.submission().is_empty() {
            return;
        }
        for listener in &mut self.listeners {
            listener.take_if(|one| one.closing == Closing::Empty && !one.is_receiving);
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) {
        let index = (completion.user_data() & u64::from(u32::MAX)) as usize;
        match completion.user_data() & !u64::from(u32::MAX) {
            SEND => {
                // Like a packet that the network loses: the client retries. EAGAIN: the socket's
                // buffer is full.
                debug_assert!(completion.result() < 0, "a send that succeeds has no completion");
                self.metrics.count(ShardEvent::SendFailed, 1);
            }
            RECEIVE => {
                if !cqueue::more(completion.flags())
                    && let Some(listener) = self.listeners[index].as_mut()
                {
                    listener.is_receiving = false;
                    let empty = completion.result() == -libc::ENOBUFS;
                    let why =
                        if empty { ShardEvent::BuffersEmpty } else { ShardEvent::ReceiveRestarted };
                    self.metrics.count(why, 1);
                }
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    self.memory.pass(buffer, BufferOwner::KernelWrites, BufferOwner::Shard);
                    if completion.result() >= 0 {
                        self.received.push_back((ListenerId(index), buffer));
                        debug_assert!(self.received.len() <= usize::from(DATAGRAM_BUFFERS));
                    } else {
                        self.memory.give_back(buffer);
                    }
                }
            }
            BELL => {
                self.has_rung = true;
                self.is_listening = cqueue::more(completion.flags());
            }
            _ => {}
        }
    }

    /// Submits what is queued, and waits until there are `want` completions.
    fn enter(&mut self, want: usize) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        let mut flags = EnterFlags::GETEVENTS;
        flags.set(EnterFlags::NO_IOWAIT, want > 0);
        // SAFETY: without an argument, the call touches nothing but the ring. What the entries
        // point at is the kernel's since `push`.
        let entered = unsafe {
            let submitter = self.ring.submitter();
            submitter.enter::<libc::sigset_t>(queued, want as u32, flags.bits(), None)
        };
        self.take_back_sent();
        match entered {
            Err(error) if !is_passing(&error) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns how many datagrams there are.
    fn take_completions(&mut self) -> usize {
        // Taken out of the queue first, since `complete` borrows all of self.
        while let Some(completion) = { self.ring.completion().next() } {
            self.complete(&completion);
        }
        self.received.len()
    }

    /// `wait` without sleeping in the ring. Completions that the shard has already taken have
    /// signaled the eventfd, too.
    fn wait_beside(&mut self) -> io::Result<usize> {
        let received = self.turn()?;
        let is_deaf = self.listeners.iter().flatten().any(|one| !one.is_receiving);
        if received > 0 || self.has_rung || is_deaf {
            return Ok(received);
        }
        while self.is_quiet() {
            let Some(poller) = &self.beside else { break };
            await_edge(poller)?;
        }
        self.turn()
    }
}

impl DatagramIo for Uring {
    fn open(&mut self, listener: ListenerId, socket: UdpSocket) -> io::Result<()> {
        self.vacate(listener)?;
        let drops = Drops::until_now(&socket);
        self.listeners[listener.0] =
            Some(UringListener { socket, is_receiving: false, closing: Closing::No, drops });
        self.start_receiving(listener.0);
        Ok(())
    }

    fn close(&mut self, listener: ListenerId) {
        let Some(closing) =
            self.listeners[listener.0].as_mut().filter(|one| one.closing == Closing::No)
        else {
            return;
        };
        let is_diverted = divert(&closing.socket);
        closing.closing = if is_diverted { Closing::Draining } else { Closing::Empty };
        self.stop_receiving(listener.0);
    }

    fn has_sockets(&self) -> bool {
        self.listeners.iter().any(Option::is_some)
    }

    fn leave(&mut self) {
        for index in 0..LISTENERS_MAX {
            if let Some(listener) = self.listeners[index].as_mut()
                && listener.closing == Closing::No
            {
                listener.closing = Closing::Empty;
                self.stop_receiving(index);
            }
        }
    }

    fn turn(&mut self) -> io::Result<usize> {
        self.has_rung = false;
        let is_any_empty = self.arm();
        let was_waiting = self.ring.completion().eventfd_disabled();
        if was_waiting {
            self.ring.completion().enable_eventfd();
        }
        let is_queue_empty = self.ring.submission().is_empty();
        // Entering the ring submits, and runs the kernel's deferred work. With neither to do, the
        // call would be wasted. What came just before the eventfd was enabled gave no signal, so
        // look at it here.
        if !is_queue_empty || !self.is_quiet() || was_waiting {
            self.enter(0)?;
        }
        if is_any_empty {
            self.close_empty();
        }
        Ok(self.take_completions())
    }

    fn is_quiet(&mut self) -> bool {
        // TASKRUN_FLAG shows deferred work.
        let submissions = self.ring.submission();
        !submissions.taskrun() && !submissions.cq_overflow()
    }

    fn wait(&mut self) -> io::Result<usize> {
        if std::mem::take(&mut self.has_rung) {
            return Ok(0);
        }
        if self.beside.is_some() {
            return self.wait_beside();
        }
        if self.arm() {
            return self.turn();
        }
        if !self.ring.completion().eventfd_disabled() {
            self.ring.completion().disable_eventfd();
        }
        self.enter(1)?;
        Ok(self.take_completions())
    }

    fn next(&mut self) -> Option<Datagram> {
        loop {
            let (listener, buffer) = self.received.pop_front()?;
            let datagram = self.memory.describe(listener, buffer);
            if datagram.is_some() {
                return datagram;
            }
            // The kernel wrote a malformed header. Never seen, and no reason to stop.
            self.memory.give_back(buffer);
        }
    }

    fn message(&mut self, datagram: &Datagram) -> &mut [u8] {
        self.memory.message(datagram.buffer)
    }

    fn send(&mut self, datagram: Datagram, len: usize) {
        let Some(listener) = self.listeners[datagram.listener.0].as_ref() else {
            return self.recycle(datagram);
        };
        let fd = Fd(listener.socket.as_raw_fd());
        let entry = self.memory.reply(fd, &datagram, len);
        self.memory.pass(datagram.buffer, BufferOwner::Shard, BufferOwner::KernelReads);
        self.push(&entry.user_data(SEND));
        self.sending.push(datagram.buffer);
        debug_assert!(self.sending.len() <= usize::from(DATAGRAM_BUFFERS));
    }

    fn return_address(&self, datagram: &Datagram) -> ReturnAddress {
        self.memory.return_address(datagram)
    }

    fn recycle(&mut self, datagram: Datagram) {
        self.memory.give_back(datagram.buffer);
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.completed.as_fd()
    }

    fn look_again(&mut self) {
        // Nothing to do: the completion queue shows in memory what has come.
    }

    fn count_drops(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            self.metrics.count(ShardEvent::SocketFull, listener.drops.since_last(&listener.socket));
        }
    }
}

impl Drop for Uring {
    /// Waits until the kernel owns none of the memory, before that is freed. Leaves the sockets as
    /// they are: after a panic, the next thread of the shard has copies of them.
    fn drop(&mut self) {
        self.leave();
        for index in 0..LISTENERS_MAX {
            if self.listeners[index].is_some() {
                self.stop_receiving(index);
            }
        }
        for _ in 0..COMPLETIONS {
            let is_any_receiving = self.listeners.iter().flatten().any(|one| one.is_receiving);
            if !is_any_receiving && self.ring.submission().is_empty() {
                return;
            }
            if self.ring.submit_and_wait(is_any_receiving.into()).is_err() {
                break;
            }
            while let Some(completion) = { self.ring.completion().next() } {
                self.complete(&completion);
            }
        }
        // The kernel still owns a part. Leak the memory rather than let the kernel write to it
        // after it is freed.
        std::mem::forget(std::mem::replace(&mut self.memory, RingMemory::new()));
    }
}

/// The set-up of every ring: one thread enters it, and completions are posted when it does (Linux
/// 6.1).
fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .dontfork();
    builder
}

/// An epoll instance with an eventfd.
fn beside(completed: &OwnedFd) -> io::Result<OwnedFd> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&poller, completed, epoll::EventData::new_u64(0), edges)?;
    Ok(poller)
}

fn await_edge(poller: &OwnedFd) -> io::Result<()> {
    match epoll::wait(poller, &mut [MaybeUninit::uninit()], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error of io_uring_enter is temporary: interrupted, busy, or completions must be read
/// first.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Build, Metrics};

    /// The end of the old receive is not taken for that of the new one.
    #[test]
    fn a_place_is_used_again_while_its_listener_closes() {
        let (bell, _ringer) = Bell::new().unwrap();
        let metrics = Metrics::new(Build::default(), 1).shard(0);
        let mut uring = Uring::new(Rc::new(bell), metrics).unwrap();
        let (place, other) = (ListenerId(3), ListenerId(4));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |to: &UdpSocket| client.send_to(b"query", to.local_addr().unwrap()).unwrap();
        for _ in 0..20 {
            let [first, second, beside] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
            let [to_second, to_beside] = [&second, &beside].map(|one| one.try_clone().unwrap());
            send(&first);
            uring.open(place, first).unwrap();
            uring.open(other, beside).unwrap();
            uring.turn().unwrap();
            send(&to_beside);
            uring.close(place);
            uring.open(place, second).unwrap();
            send(&to_second);
            uring.turn().unwrap();
            assert!(uring.listeners[place.0].as_ref().is_some_and(|one| one.is_receiving));
            let mut from = Vec::new();
            while let Some(datagram) = uring.next() {
                from.push(datagram.listener);
                uring.recycle(datagram);
            }
            from.sort_unstable();
            assert_eq!(from, [place, other]);
            uring.close(place);
            uring.close(other);
        }
    }
}
