//! A batch of queries to send from one socket: messages of one length leave as one buffer, which
//! the kernel cuts (UDP_SEGMENT).
//!
//! Invariant: what could not be sent is taken back from the flight, and counted as never sent.

use std::cmp::Reverse;
use std::io::IoSlice;
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg};
use rustix::net::{SendFlags, send};

use super::Flow;
use crate::flight::Flight;
use crate::sender::{BATCH, Driver, Due};
use crate::transport::Transport;
use crate::workload::MESSAGE_LEN_MAX;

/// Consecutive errors after which the rest of a batch is dropped.
const ERROR_COUNT_MAX: usize = 4;

/// A batch to send.
pub(super) struct Outgoing {
    headers: MultiHeaders<()>,
    /// One message with a control message that holds the segment length.
    run_headers: MultiHeaders<()>,
    /// Send messages of one length as one buffer, which the kernel cuts.
    is_segmenting: bool,
    /// The first `count` are the batch, in sending order.
    queries: [Outbound; BATCH],
    count: usize,
    /// The messages back to back, in that order.
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct Outbound {
    due: Due,
    id: u16,
    len: u16,
    /// Position in `Outgoing::bytes`.
    start: u32,
}

impl Outbound {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + usize::from(self.len)
    }
}

impl Outgoing {
    pub(super) fn new(is_segmenting: bool) -> Self {
        let none = Outbound { due: Due { query: 0, intended_ns: 0 }, id: 0, len: 0, start: 0 };
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            run_headers: MultiHeaders::preallocate(1, Some(nix::cmsg_space!(u16))),
            is_segmenting,
            queries: [none; BATCH],
            count: 0,
            bytes: vec![0; BATCH * MESSAGE_LEN_MAX].into(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes the queries that are due, at most `count_max`.
    pub(super) fn fill(
        &mut self,
        driver: &mut Driver<'_>,
        flight: &mut Flight,
        count_max: usize,
        now_ns: u64,
    ) {
        let workload = driver.workload();
        self.count = 0;
        for query in self.queries.iter_mut().take(count_max) {
            let Some(due) = driver.take_due(Transport::Udp, now_ns) else { break };
            let id = flight.reserve(due.query, due.intended_ns).expect("the caller has seen room");
            driver.outstanding += 1;
            let len = workload.message(due.query).bytes.len() as u16;
            *query = Outbound { due, id, len, start: 0 };
            self.count += 1;
        }
        let batch = &mut self.queries[..self.count];
        if self.is_segmenting {
            // Messages of a batch leave at the same time, so their order does not matter. Longest
            // first: see `run_count`.
            batch.sort_unstable_by_key(|query| Reverse(query.len));
        }
        let mut start = 0;
        for query in batch {
            query.start = start as u32;
            let message = &mut self.bytes[query.range()];
            message.copy_from_slice(workload.message(query.due.query).bytes);
            message[..2].copy_from_slice(&query.id.to_be_bytes());
            start += message.len();
        }
    }

    /// Sends the batch. Blocks if the socket's buffer is full, which shows as late sends.
    pub(super) fn send(&mut self, driver: &mut Driver<'_>, flow: &mut Flow, now_ns: u64) -> usize {
        let mut done = 0;
        let mut errors = 0;
        while done < self.count {
            let socket = flow.socket.as_raw_fd();
            let result = match self.run_count(done) {
                1 if done + 1 == self.count => self.send_last(&flow.socket),
                1 => self.send_singly(done, socket),
                count => self.send_run(done, count, socket),
            };
            match result {
                Ok(sent) => {
                    for query in &self.queries[done..done + sent] {
                        driver.count_sent(Transport::Udp, query.due, now_ns, query.len.into());
                    }
                    done += sent;
                    errors = 0;
                }
                Err(Errno::EINTR) => {}
                // This kernel or network device cannot cut: send each message by itself from now
                // on.
                Err(Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT)
                    if self.is_segmenting =>
                {
                    self.is_segmenting = false;
                }
                // An ICMP message about an earlier query, reported and cleared by this call:
                // nothing was sent.
                Err(error) => {
                    let counts = driver.counts(Transport::Udp);
                    match error {
                        Errno::ECONNREFUSED => counts.refused += 1,
                        _ => counts.send_errors += 1,
                    }
                    errors += 1;
                    if errors == ERROR_COUNT_MAX {
                        break;
                    }
                }
            }
        }
        for query in &self.queries[done..self.count] {
            flow.flight.cancel(query.id);
            driver.outstanding -= 1;
            driver.counts(Transport::Udp).unsent += 1;
        }
        done
    }

    /// How many messages from `first` on can be sent as one: those of equal length, and a shorter
    /// one as the last.
    fn run_count(&self, first: usize) -> usize {
        if !self.is_segmenting {
            return 1;
        }
        let batch = &self.queries[first..self.count];
        let equal = batch.iter().take_while(|query| query.len == batch[0].len).count();
        batch.len().min(equal + 1)
    }

    /// Sends `count` messages as one buffer, which the kernel cuts (UDP_SEGMENT).
    fn send_run(&mut self, first: usize, count: usize, socket: i32) -> nix::Result<usize> {
        let run = &self.queries[first..first + count];
        let bytes = &self.bytes[run[0].range().start..run[count - 1].range().end];
        let control = [ControlMessage::UdpGsoSegments(&run[0].len)];
        let slices = [[IoSlice::new(bytes)]];
        sendmmsg(socket, &mut self.run_headers, &slices, [None], control, MsgFlags::empty())?;
        Ok(count)
    }

    /// Sends the last message of the batch, for which a header would only cost time.
    fn send_last(&self, socket: &UdpSocket) -> nix::Result<usize> {
        let bytes = &self.bytes[self.queries[self.count - 1].range()];
        match send(socket, bytes, SendFlags::empty()) {
            Ok(_) => Ok(1),
            Err(error) => Err(Errno::from_raw(error.raw_os_error())),
        }
    }

    /// Sends the messages from `first` on, each by itself.
    fn send_singly(&mut self, first: usize, socket: i32) -> nix::Result<usize> {
        let batch = &self.queries[first..self.count];
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|at| {
            [IoSlice::new(batch.get(at).map_or(&[], |query| &self.bytes[query.range()]))]
        });
        let flags = MsgFlags::empty();
        let slices = &slices[..batch.len()];
        let sent = sendmmsg(socket, &mut self.headers, slices, [None; BATCH], [], flags)?;
        Ok(sent.count())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use domain::base::Rtype;

    use super::*;
    use crate::collect::collect;
    use crate::schedule::{NANOS_PER_SEC, Rate, Schedule, Spacing};
    use crate::sender::udp::{Udp, UdpOptions, UdpSockets};
    use crate::sender::{Clock, Pace, Share, run};
    use crate::tally::recorders;
    use crate::transport::Mode;
    use crate::workload::{Options, Question, Workload};

    /// A socket that was shut down for writing refuses every send.
    #[test]
    fn queries_of_a_socket_that_refuses_every_send_count_as_never_sent() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets = UdpSockets::open(&UdpOptions {
            server: server.local_addr().unwrap(),
            local: None,
            buffer_len: 64 * 1024,
            socket_count: 1,
            outstanding_max: 100,
            is_segmenting: false,
        });
        let sockets = sockets.unwrap();
        socket2::SockRef::from(&sockets.flows[0].socket).shutdown(Shutdown::Write).unwrap();
        let mut workload = Workload::default();
        let question = Question { name: "a.example".parse().unwrap(), rtype: Rtype::A };
        workload.push(&question, Options::default()).unwrap();
        let share = Share {
            clock: Clock::Monotonic(Instant::now()),
            workload: &workload,
            pace: Pace::Open(Schedule::new(&Rate::constant(1e5), Spacing::Constant, 0, 1, 1)),
            outstanding_max: 100,
            index: 0,
            count: 1,
            sends_max: 1_000,
            end_ns: NANOS_PER_SEC,
            timeout_ns: NANOS_PER_SEC,
            late_after_ns: NANOS_PER_SEC,
            mode: Mode::One(Transport::Udp),
            seed: 1,
            spin: false,
            stop: &AtomicBool::new(false),
        };
        let (mut recorders, intervals) = recorders(1);
        run(Udp::new(sockets), Driver::new(share, recorders.remove(0)));
        let counts = collect(&intervals, 1, |_| {}).counts();
        assert_eq!((counts.sent, counts.unsent), (0, 1_000), "{counts:?}");
        assert!(counts.send_errors > 0, "{counts:?}");
    }
}
