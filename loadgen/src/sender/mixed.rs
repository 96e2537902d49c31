//! Both transports in one run, like resolvers that retry over TCP or use only TCP.
//!
//! A seeded coin decides each query's transport, in the order in which queries fall due. Invariant:
//! a query that was dealt to a transport waits for that transport only, so the share holds even if
//! one of them is slow.

use std::collections::VecDeque;

use rand_distr::{Bernoulli, Distribution};
use rand_pcg::Pcg64;
use rustix::event::{PollFd, PollFlags, poll};

use super::tcp::Tcp;
use super::udp::Udp;
use super::{Carrier, Driver, Due, timespec};
use crate::transport::Transport;

/// Most queries that wait for one transport while the other takes more; at this number both wait.
const WAITING_MAX: usize = 256;

/// Deals queries to the transports.
pub(crate) struct Deal {
    coin: Pcg64,
    is_tcp: Bernoulli,
    waiting: [VecDeque<Due>; Transport::COUNT],
}

impl Deal {
    /// Sends `tcp_share` of the queries over TCP. Valid: 0 to 1. `thread` gives each thread its own
    /// random stream.
    pub(crate) fn new(tcp_share: f64, seed: u64, thread: u64) -> Self {
        // A different stream from the schedule's, which uses the thread numbers.
        let stream = (1 << 64) | u128::from(thread);
        Self {
            coin: Pcg64::new(u128::from(seed), stream),
            is_tcp: Bernoulli::new(tcp_share).expect("a share is checked"),
            waiting: std::array::from_fn(|_| VecDeque::with_capacity(WAITING_MAX)),
        }
    }

    pub(crate) fn deal(&mut self, due: Due) {
        let transport =
            if self.is_tcp.sample(&mut self.coin) { Transport::Tcp } else { Transport::Udp };
        self.waiting[transport.index()].push_back(due);
    }

    pub(crate) fn take(&mut self, transport: Transport) -> Option<Due> {
        self.waiting[transport.index()].pop_front()
    }

    /// No more can be dealt until some are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.len() == WAITING_MAX)
    }

    pub(crate) fn count(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// A datagram can be sent at any time, so a waiting one is a reason not to sleep.
    pub(crate) fn has_datagrams(&self) -> bool {
        !self.waiting[Transport::Udp.index()].is_empty()
    }
}

/// The sockets of both transports.
pub(crate) struct Mixed {
    pub(crate) udp: Udp,
    pub(crate) tcp: Tcp,
}

impl Carrier for Mixed {
    fn send(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize {
        self.udp.send(driver, now_ns) + self.tcp.send(driver, now_ns)
    }

    fn receive(&mut self, driver: &mut Driver<'_>) -> usize {
        self.udp.receive(driver) + self.tcp.receive(driver)
    }

    fn expire(&mut self, driver: &mut Driver<'_>, deadline_ns: u64) {
        self.udp.expire(driver, deadline_ns);
        self.tcp.expire(driver, deadline_ns);
    }

    fn own_drops(&self) -> u64 {
        self.udp.own_drops() + self.tcp.own_drops()
    }

    fn wait(&mut self, timeout_ns: u64) {
        let timeout = timespec(self.tcp.patience_ns(timeout_ns));
        let mut fds = [self.udp.epoll(), self.tcp.epoll()].map(|fd| PollFd::new(fd, PollFlags::IN));
        // An error (a signal) only shortens the wait.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_holds_and_the_seed_repeats() {
        let dealt = |seed, thread| {
            let mut deal = Deal::new(0.2, seed, thread);
            let one = |query| {
                deal.deal(Due { query, intended_ns: 0 });
                let taken = Transport::ALL.map(|transport| deal.take(transport));
                assert_eq!(taken.iter().flatten().count(), 1);
                taken[Transport::Tcp.index()].is_some()
            };
            (0..20_000).map(one).collect::<Vec<bool>>()
        };
        let share = dealt(1, 0).iter().filter(|is_tcp| **is_tcp).count() as f64 / 20_000.0;
        assert!((share - 0.2).abs() < 0.01, "{share}");
        assert_eq!(dealt(1, 0), dealt(1, 0));
        assert_ne!(dealt(1, 0), dealt(2, 0));
        assert_ne!(dealt(1, 0), dealt(1, 1));
    }

    #[test]
    fn waiting_queries_keep_their_order_and_are_bounded() {
        let mut deal = Deal::new(1.0, 1, 0);
        let mut count = 0;
        while !deal.is_full() {
            deal.deal(Due { query: count, intended_ns: 0 });
            count += 1;
        }
        assert_eq!(
            (count as usize, deal.count(), deal.has_datagrams()),
            (WAITING_MAX, WAITING_MAX, false)
        );
        assert!(deal.take(Transport::Udp).is_none());
        let taken: Vec<u32> =
            std::iter::from_fn(|| deal.take(Transport::Tcp)).map(|due| due.query).collect();
        assert_eq!(taken, (0..count).collect::<Vec<u32>>());
    }
}
