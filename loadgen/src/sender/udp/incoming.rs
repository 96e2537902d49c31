//! Receives from one socket what it expects, in as few calls as that takes.
//!
//! Invariant: a socket is left only when nothing more is expected, when nothing is left, or with a
//! note that something may be.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};

use super::Flow;
use crate::sender::{BATCH, Driver};
use crate::transport::Transport;

/// Room for a response: more than `UDP_PAYLOAD_SIZE`, and an odd number of cache lines, so that the
/// first bytes of a batch do not all fall into one cache set.
const RESPONSE_LEN_MAX: usize = 4096 + 64;
/// Reads from one socket without a pause before the others get their turn.
const READS_MAX: usize = 64;

/// A received batch.
pub(super) struct Incoming {
    headers: MultiHeaders<()>,
    bytes: Box<[u8]>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            bytes: vec![0; BATCH * RESPONSE_LEN_MAX].into(),
        }
    }

    /// Receives from a socket until nothing is left, or until it has had its turn.
    pub(super) fn drain(&mut self, driver: &mut Driver<'_>, flow: &mut Flow) -> Drained {
        let mut received = 0;
        for _ in 0..READS_MAX {
            let expected = flow.flight.outstanding() as usize;
            match self.receive(driver, flow) {
                Ok(count) => {
                    received += count;
                    let settled = expected - flow.flight.outstanding() as usize;
                    let is_all_expected = count == settled;
                    if count < wanted(expected) || (is_all_expected && settled == expected) {
                        return Drained::All(received);
                    }
                }
                Err(Errno::EAGAIN) => return Drained::All(received),
                // The call has cleared it.
                Err(_) => {}
            }
        }
        Drained::Some(received)
    }

    /// Receives, without waiting, as many responses as the socket expects, and at least one.
    pub(super) fn receive(
        &mut self,
        driver: &mut Driver<'_>,
        flow: &mut Flow,
    ) -> nix::Result<usize> {
        let wanted = wanted(flow.flight.outstanding() as usize);
        // The slices are made anew for each call, so there are not many more than needed.
        let received = match wanted {
            0..=2 => self.receive_batch::<2>(driver, flow, wanted),
            3..=8 => self.receive_batch::<8>(driver, flow, wanted),
            _ => self.receive_batch::<BATCH>(driver, flow, wanted),
        };
        if received == Err(Errno::ECONNREFUSED) {
            driver.counts(Transport::Udp).refused += 1;
        }
        received
    }

    fn receive_batch<const N: usize>(
        &mut self,
        driver: &mut Driver<'_>,
        flow: &mut Flow,
        wanted: usize,
    ) -> nix::Result<usize> {
        let mut len = [0; N];
        let mut chunks = self.bytes.chunks_exact_mut(RESPONSE_LEN_MAX);
        let mut slices: [[IoSliceMut<'_>; 1]; N] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().expect("a chunk for each"))]);
        let (socket, flags) = (flow.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let received = recvmmsg(socket, &mut self.headers, &mut slices[..wanted], flags, None)?;
        let mut count = 0;
        for (len, message) in len.iter_mut().zip(received) {
            *len = message.bytes;
            count += 1;
        }
        let now_ns = driver.now_ns();
        for (packet, len) in self.bytes.chunks_exact(RESPONSE_LEN_MAX).zip(&len[..count]) {
            driver.take_response(Transport::Udp, &mut flow.flight, &packet[..*len], now_ns);
        }
        Ok(count)
    }
}

/// How many packets to ask for.
fn wanted(expected: usize) -> usize {
    // A socket that expects nothing has late or foreign packets, any number of them.
    if expected == 0 { BATCH } else { expected.min(BATCH) }
}

/// What a socket has given, and whether it may hold more.
pub(super) enum Drained {
    All(usize),
    Some(usize),
}
