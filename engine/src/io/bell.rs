//! What wakes a shard besides datagrams: updates from other threads, and new TCP connections.
//!
//! A shard that sleeps in its backend does not see what its runtime watches. So the backend watches
//! the bell. Invariant: the bell keeps no listener open after `forget`.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::client::ListenerId;
use crate::limits::{LISTENERS_MAX, UPDATES_WAITING_MAX};

/// The bell of one shard. Its descriptor signals each event as an edge.
pub struct Bell {
    poller: OwnedFd,
    /// A `Ringer` writes to the other end of this pipe. It is no eventfd: the kernel does not let
    /// one eventfd signal another, which is how a ring wakes the runtime.
    pipe: OwnedFd,
    /// Copies: the runtime owns the listeners.
    tcp: RefCell<[Option<TcpListener>; LISTENERS_MAX]>,
}

/// Rings the bell of a shard from other threads. The bell rings when this is dropped, too.
pub struct Ringer(OwnedFd);

impl Ringer {
    /// Does nothing if the shard's thread has ended.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.0, &[0]);
    }
}

impl Bell {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<(Self, Ringer)> {
        let (pipe, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poller, &pipe, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        let tcp = RefCell::new([const { None }; LISTENERS_MAX]);
        Ok((Self { poller, pipe, tcp }, Ringer(writer)))
    }

    /// Makes room for later rings, once some of the updates that they announce are taken.
    pub fn empty(&self) {
        // Does not block. As long as the longest queue of updates.
        let _ = rustix::io::read(&self.pipe, &mut [0u8; UPDATES_WAITING_MAX]);
    }

    /// Rings for each connection to this listener from now on. `copy`: of its socket.
    ///
    /// # Errors
    /// The kernel's, for want of memory.
    pub fn watch(&self, listener: ListenerId, copy: TcpListener) -> io::Result<()> {
        epoll::add(&self.poller, &copy, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        self.tcp.borrow_mut()[listener.0] = Some(copy);
        Ok(())
    }

    /// Does nothing if it does not watch this listener.
    pub fn forget(&self, listener: ListenerId) {
        if let Some(copy) = self.tcp.borrow_mut()[listener.0].take() {
            // A closed descriptor stays in the poller as long as its socket has other copies.
            let _ = epoll::delete(&self.poller, &copy);
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
