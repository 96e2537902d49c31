//! Sending and receiving datagrams: the trait that the shard's loop drives, and a file for each
//! backend. Beside them, the settings of the allocator and the scheduler.
//!
//! Invariant: `unsafe` is in this folder and nowhere else.

use std::io;
use std::net::UdpSocket;
use std::os::fd::BorrowedFd;

use crate::client::{Family, ListenerId};
use late::ReturnAddress;

pub mod allocator;
pub mod bell;
mod control;
pub mod late;
pub mod mmsg;
mod peer;
pub mod prefetch;
pub mod reuseport;
mod ring_memory;
pub mod slice;
pub mod socket;
pub mod uring;
pub mod wake;

/// A datagram that was received and not yet answered: the place of its bytes, not the bytes. `send`
/// or `recycle` gives it back.
#[derive(Debug)]
pub struct Datagram {
    pub listener: ListenerId,
    /// The datagram was longer than a receive buffer, and its end is lost.
    pub is_cut: bool,
    /// The peer has an IPv6 address that is not IPv4-mapped.
    is_from_v6: bool,
    buffer: u16,
    len: u16,
    address_len: u8,
    control_len: u8,
}

impl Datagram {
    /// The client's address family.
    #[inline]
    #[must_use]
    pub fn family(&self) -> Family {
        if self.is_from_v6 { Family::V6 } else { Family::V4 }
    }

    /// Bytes.
    #[inline]
    #[must_use]
    pub fn packet_len(&self) -> usize {
        usize::from(self.len)
    }
}

/// Datagrams of any number of sockets, in batches.
///
/// The loop: `turn` submits the responses of the last batch and fetches the next. `next` returns
/// its datagrams one by one. The response to each is written over it (`message`), and `send` or
/// `recycle` gives it back. To sleep, call `wait` in place of `turn`; or, if a turn fetched
/// nothing, await `wake_fd`, then call `look_again`.
pub trait DatagramIo {
    /// Starts to receive from a bound, non-blocking socket.
    ///
    /// # Errors
    /// The kernel's; the socket is closed then.
    fn open(&mut self, listener: ListenerId, socket: UdpSocket) -> io::Result<()>;
    /// Closes this listener's socket once the datagrams that it holds now are received and
    /// answered. Later ones go to other sockets that listen on its address. Does nothing if there
    /// is no such listener, or it closes already.
    fn close(&mut self, listener: ListenerId);
    /// Whether there are sockets, those that close among them.
    fn has_sockets(&self) -> bool;
    /// Stops receiving, and leaves what the sockets hold to others that have copies of them. What
    /// this has received already is still to be answered. Calling it again does nothing.
    fn leave(&mut self);
    /// Submits the responses since the last turn and fetches datagrams; returns how many are
    /// available.
    ///
    /// # Errors
    /// Only those that make the backend unusable.
    fn turn(&mut self) -> io::Result<usize>;
    /// Whether nothing has come since the last turn, as far as is known without a system call.
    fn is_quiet(&mut self) -> bool;
    /// As `turn`, but sleeps until there is a datagram. Returns 0 if something else woke it: the
    /// bell, also one that rang during the last turn; a send that failed; a receive that ended; a
    /// signal. A further turn forgets that the bell has rung.
    ///
    /// # Errors
    /// As `turn`.
    fn wait(&mut self) -> io::Result<usize>;
    /// The next datagram of the batch; `None` at its end.
    fn next(&mut self) -> Option<Datagram>;
    /// The datagram's packet, with room after it for the response that is written over it: at least
    /// `UDP_LEN_MAX` bytes in all.
    fn message(&mut self, datagram: &Datagram) -> &mut [u8];
    /// Sends the first `len` bytes of the message to the datagram's sender, from the address that
    /// the datagram was sent to.
    fn send(&mut self, datagram: Datagram, len: usize);
    /// Where to send the response, if it is sent later.
    fn return_address(&self, datagram: &Datagram) -> ReturnAddress;
    /// Gives the datagram back without a response.
    fn recycle(&mut self, datagram: Datagram);
    /// Readable when a turn would fetch something, or when the bell has rung. Each of these is an
    /// edge.
    fn wake_fd(&self) -> BorrowedFd<'_>;
    /// Makes the next turn check every socket, without a wake-up: for polling instead of sleeping.
    fn look_again(&mut self);
    /// Counts the datagrams that the kernel has dropped since the last call because a socket's
    /// buffer was full. One system call per socket: call it once a second, not per batch.
    fn count_drops(&mut self);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::rc::Rc;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::bell::{Bell, Ringer};
    use super::mmsg::Mmsg;
    use super::uring::Uring;
    use super::*;
    use crate::limits::DATAGRAM_BUFFERS;
    use crate::metrics::{Build, Metrics, ShardMetrics};

    const LISTENER: ListenerId = ListenerId(3);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A backend with one socket, its client, and its bell.
    struct Bench<I> {
        io: I,
        bell: Rc<Bell>,
        client: UdpSocket,
        ringer: Arc<Ringer>,
    }

    fn bench<I: DatagramIo>(
        new: impl FnOnce(Rc<Bell>, Arc<ShardMetrics>) -> io::Result<I>,
    ) -> Bench<I> {
        let (bell, ringer) = Bell::new().unwrap();
        let (bell, ringer) = (Rc::new(bell), Arc::new(ringer));
        let metrics = Metrics::new(Build::default(), 1).shard(0);
        let mut io = new(Rc::clone(&bell), metrics).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        io.open(LISTENER, socket).unwrap();
        Bench { io, bell, client, ringer }
    }

    impl<I: DatagramIo> Bench<I> {
        /// Waits, while another thread does something; it rings the bell if the shard sleeps on.
        /// Returns what the wait returned, and whether the bell was needed.
        fn wait_while(&mut self, act: impl FnOnce() + Send + 'static) -> (usize, bool) {
            let ringer = Arc::clone(&self.ringer);
            let (woken, is_awake) = mpsc::channel::<()>();
            let other = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                act();
                let sleeps_on = is_awake.recv_timeout(PATIENCE).is_err();
                if sleeps_on {
                    ringer.ring();
                }
                sleeps_on
            });
            let received = self.io.wait().unwrap();
            let _ = woken.send(());
            (received, other.join().unwrap())
        }
    }

    /// All that a shard does while it sleeps in its backend.
    fn check<I: DatagramIo>(mut bench: Bench<I>) {
        while bench.io.turn().unwrap() > 0 || !bench.io.is_quiet() {}
        for _ in 0..3 {
            let client = bench.client.try_clone().unwrap();
            let ask = move || assert_eq!(client.send(b"ask").unwrap(), 3);
            assert_eq!(bench.wait_while(ask), (1, false), "a datagram wakes it");
            let datagram = bench.io.next().unwrap();
            bench.io.message(&datagram)[..3].copy_from_slice(b"say");
            bench.io.send(datagram, 3);
            let ringer = Arc::clone(&bench.ringer);
            let client = bench.client.try_clone().unwrap();
            let ring = move || {
                let mut response = [0; 16];
                assert_eq!(client.recv(&mut response).unwrap(), 3, "the wait sends it");
                ringer.ring();
            };
            assert_eq!(bench.wait_while(ring), (0, false), "an update wakes it");
            bench.bell.empty();
            while bench.io.turn().unwrap() > 0 || !bench.io.is_quiet() {}
        }
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        bench.bell.watch(LISTENER, tcp.try_clone().unwrap()).unwrap();
        for _ in 0..3 {
            let connect = move || drop(TcpStream::connect(address).unwrap());
            assert_eq!(bench.wait_while(connect), (0, false), "a connection wakes it");
            tcp.accept().unwrap();
            while bench.io.turn().unwrap() > 0 || !bench.io.is_quiet() {}
        }
        bench.bell.forget(LISTENER);
        drop(tcp);
        assert!(TcpStream::connect(address).is_err(), "the listener is closed");
        bench.io.close(LISTENER);
        for _ in 0..10 {
            bench.io.turn().unwrap();
        }
        assert!(!bench.io.has_sockets());
        let ringer = Arc::clone(&bench.ringer);
        assert_eq!(bench.wait_while(move || ringer.ring()), (0, false), "without a socket, too");
    }

    /// More datagrams at once than there are buffers: the ones that wait are received later, though
    /// nothing else wakes the shard.
    fn check_burst<I: DatagramIo>(mut bench: Bench<I>) {
        const SOCKETS: usize = 24;
        const DATAGRAMS: usize = 40;
        const _: () = assert!(SOCKETS * DATAGRAMS > DATAGRAM_BUFFERS as usize);
        let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
        while bench.io.turn().unwrap() > 0 || !bench.io.is_quiet() {}
        for index in 0..SOCKETS {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            bench.io.open(ListenerId(LISTENER.0 + 1 + index), socket).unwrap();
            for _ in 0..DATAGRAMS {
                asker.send_to(b"ask", address).unwrap();
            }
        }
        let ringer = Arc::clone(&bench.ringer);
        let (done, is_done) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let is_late = is_done.recv_timeout(PATIENCE).is_err();
            if is_late {
                ringer.ring();
            }
            is_late
        });
        let mut received = 0;
        while received < SOCKETS * DATAGRAMS {
            bench.io.wait().unwrap();
            while let Some(datagram) = bench.io.next() {
                received += 1;
                bench.io.send(datagram, 3);
            }
        }
        // The watch may have ended.
        let _ = done.send(());
        assert!(!watch.join().unwrap(), "it slept with datagrams to receive");
    }

    #[test]
    fn a_waiting_shard_wakes_up() {
        check(bench(Mmsg::new));
        check_burst(bench(Mmsg::new));
        if let Err(error) = Uring::probe() {
            eprintln!("io: !!! NO io_uring ({error}): how a shard sleeps in it IS NOT TESTED");
            return;
        }
        check(bench(Uring::new));
        check_burst(bench(Uring::new));
        check(bench(Uring::on_older_kernels));
        check_burst(bench(Uring::on_older_kernels));
    }
}
