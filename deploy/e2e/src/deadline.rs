//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Calls `probe` until it returns a value. Panics after `limit`, naming `what` was expected.
pub fn poll<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    match try_poll(limit, &mut probe) {
        Some(value) => value,
        None => panic!("waited {limit:?} for {what}"),
    }
}

/// Like [`poll`], but returns `None` after the deadline.
pub fn try_poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
