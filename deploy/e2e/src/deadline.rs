//! Waiting for something to become true, with an end.

use std::time::{Duration, Instant};

/// Asks `probe` until it gives a value. Panics when `limit` has passed, naming `what` was awaited.
pub fn poll<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    match try_poll(limit, &mut probe) {
        Some(value) => value,
        None => panic!("waited {limit:?} for {what}"),
    }
}

/// As [`poll`], but a deadline that passed is an answer too.
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
