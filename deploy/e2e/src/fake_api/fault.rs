//! What a fake API server does wrong, and how often.

use std::collections::HashMap;

use super::object::Resource;

/// A fault that happens a number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An event of a watch is never sent.
    Lose,
    /// An event is sent twice.
    Repeat,
    /// Two events of one batch are sent in the wrong order.
    Swap,
    /// A running watch reports 410 Gone and ends.
    GoneInWatch,
    /// The next watch, which would resume, is answered with the status 410.
    GoneAsStatus,
    /// A page after the first is answered with the status 410.
    GoneWhilePaging,
    /// The connection breaks in the middle of a list.
    CutList,
    /// 429 with Retry-After: 1.
    Throttle,
    /// 500.
    Fail,
}

/// What a fake API server does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Habit {
    SendsNoBookmarks,
    /// It sends a byte at a time.
    IsSlow,
    /// It closes each new connection.
    IsDown,
}

/// The faults still to come.
#[derive(Default)]
pub(super) struct Faults(HashMap<(Resource, Fault), usize>);

impl Faults {
    pub(super) fn add(&mut self, resource: Resource, fault: Fault, count: usize) {
        *self.0.entry((resource, fault)).or_default() += count;
    }

    /// Whether the fault happens now.
    pub(super) fn take(&mut self, resource: Resource, fault: Fault) -> bool {
        let left = self.0.get_mut(&(resource, fault)).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    pub(super) fn left(&self) -> usize {
        self.0.values().sum()
    }
}
