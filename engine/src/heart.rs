//! What a shard's thread shows the control plane of its health: the last ping that it answered, and
//! whether it has panicked or ended.
//!
//! Invariant: the shard's thread writes it and the control plane reads it, so nobody waits.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The health of one thread. A thread that takes a shard's place has a new one.
#[derive(Debug)]
pub struct Heart {
    answered: AtomicU64,
    has_panicked: AtomicBool,
    has_ended: AtomicBool,
    /// Wakes the control plane after a panic, and at the thread's end.
    trouble: Arc<Notify>,
}

thread_local! {
    /// The heart of this thread, if it is a shard's.
    static HEART: OnceCell<Arc<Heart>> = const { OnceCell::new() };
}

impl Heart {
    pub(crate) fn new(trouble: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            answered: AtomicU64::new(0),
            has_panicked: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            trouble,
        })
    }

    /// Makes it the heart of this thread, until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Lifetime {
        HEART.with(|heart| {
            let _ = heart.set(Arc::clone(self));
        });
        Lifetime(Arc::clone(self))
    }

    /// The shard answers a ping.
    pub(crate) fn answer(&self, ping: u64) {
        self.answered.store(ping, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked.load(Ordering::Acquire)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    fn panicked(&self) {
        self.has_panicked.store(true, Ordering::Release);
        self.trouble.notify_one();
    }
}

/// Ends with its thread.
pub(crate) struct Lifetime(Arc<Heart>);

impl Drop for Lifetime {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked();
        }
        self.0.has_ended.store(true, Ordering::Release);
        self.0.trouble.notify_one();
    }
}

/// For the panic hook: notes a panic of the thread that calls this. The runtime catches a panic of
/// a shard's task, whose flight or connection would then never end, so the shard starts anew.
pub fn note_panic() {
    // The thread may be ending, after its heart.
    let _ = HEART.try_with(|heart| heart.get().map(|heart| heart.panicked()));
}
