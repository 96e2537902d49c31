//! The queries of one socket or connection that have been sent: which id was used for what, and when.
//!
//! Pure, and of a fixed size: ids are given out in rising order, and id i lives in slot `i mod capacity`. Invariant:
//! `outstanding` is the number of slots in flight.
//!
//! Ids have 16 bits, so what an old answer belonged to can be told only until its id is used again. A timed-out id is
//! therefore rested for as long as there are others, and a used one comes back only after all the rest.

/// Ids there are.
pub const ID_COUNT: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No query has used the slot yet; its other fields mean nothing.
    Unused,
    InFlight,
    Answered,
    TimedOut,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    intended_ns: u64,
    query: u32,
    id: u16,
    state: State,
}

/// What an id that came back stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// In flight: the answer may be the awaited one. `settle` takes it.
    InFlight { query: u32, intended_ns: u64 },
    /// Answered before.
    Answered { query: u32 },
    /// Given up before.
    TimedOut { query: u32 },
    /// Never asked with this id, or too long ago to tell.
    Unknown,
}

pub struct Flight {
    /// Length: a power of two, at most `ID_COUNT`.
    slots: Box<[Slot]>,
    next_id: u16,
    outstanding: u32,
    /// Slots in state TimedOut, which are rested until half of all are.
    rested: u32,
}

impl Flight {
    /// Room for `outstanding_max` queries in flight, and as much again so that free slots are found at once.
    pub fn new(outstanding_max: usize, capacity_max: usize) -> Self {
        let capacity = capacity_max.max(outstanding_max * 2).next_power_of_two().clamp(2, ID_COUNT);
        let unused = Slot { intended_ns: 0, query: 0, id: 0, state: State::Unused };
        Self { slots: vec![unused; capacity].into(), next_id: 0, outstanding: 0, rested: 0 }
    }

    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Queries that can be in flight at once.
    pub fn outstanding_max(&self) -> u32 {
        (self.slots.len() / 2) as u32
    }

    /// Notes a query as sent and returns its id; `None` when `outstanding_max` are in flight.
    pub fn reserve(&mut self, query: u32, intended_ns: u64) -> Option<u16> {
        if self.outstanding >= self.outstanding_max() {
            return None;
        }
        // At most half are in flight and, below, at most a quarter rested: a free one is near.
        let rest_max = (self.slots.len() / 4) as u32;
        for _ in 0..self.slots.len() {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            let state = self.slot_mut(id).state;
            match state {
                State::InFlight => continue,
                State::TimedOut if self.rested <= rest_max => continue,
                State::TimedOut => self.rested -= 1,
                State::Unused | State::Answered => {}
            }
            *self.slot_mut(id) = Slot { intended_ns, query, id, state: State::InFlight };
            self.outstanding += 1;
            return Some(id);
        }
        None
    }

    /// Takes back a query that could not be sent after all.
    pub fn cancel(&mut self, id: u16) {
        let slot = self.slot_mut(id);
        debug_assert!(slot.state == State::InFlight && slot.id == id);
        slot.state = State::Unused;
        self.outstanding -= 1;
    }

    pub fn asked(&self, id: u16) -> Asked {
        let slot = &self.slots[usize::from(id) & (self.slots.len() - 1)];
        if slot.id != id {
            return Asked::Unknown;
        }
        let Slot { query, intended_ns, .. } = *slot;
        match slot.state {
            State::Unused => Asked::Unknown,
            State::InFlight => Asked::InFlight { query, intended_ns },
            State::Answered => Asked::Answered { query },
            State::TimedOut => Asked::TimedOut { query },
        }
    }

    /// Marks an id in flight as answered.
    pub fn settle(&mut self, id: u16) {
        let slot = self.slot_mut(id);
        debug_assert!(slot.state == State::InFlight && slot.id == id);
        slot.state = State::Answered;
        self.outstanding -= 1;
    }

    /// Gives up every query that was meant to leave at `deadline_ns` or before; `each` is told its query and that time.
    pub fn expire(&mut self, deadline_ns: u64, mut each: impl FnMut(u32, u64)) {
        if self.outstanding == 0 {
            return;
        }
        for slot in &mut self.slots {
            if slot.state == State::InFlight && slot.intended_ns <= deadline_ns {
                slot.state = State::TimedOut;
                self.outstanding -= 1;
                self.rested += 1;
                each(slot.query, slot.intended_ns);
            }
        }
    }

    fn slot_mut(&mut self, id: u16) -> &mut Slot {
        let mask = self.slots.len() - 1;
        &mut self.slots[usize::from(id) & mask]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_in_flight_then_answered_then_used_again_last() {
        let mut flight = Flight::new(2, 4);
        let first = flight.reserve(10, 1_000).unwrap();
        let second = flight.reserve(11, 2_000).unwrap();
        assert_eq!(flight.reserve(12, 3_000), None, "only two may be in flight");
        assert_eq!(flight.asked(first), Asked::InFlight { query: 10, intended_ns: 1_000 });
        flight.settle(first);
        assert_eq!(flight.asked(first), Asked::Answered { query: 10 });
        assert_eq!(flight.asked(second), Asked::InFlight { query: 11, intended_ns: 2_000 });
        assert_eq!(flight.asked(999), Asked::Unknown);
        let third = flight.reserve(12, 3_000).unwrap();
        assert_eq!(flight.asked(first), Asked::Answered { query: 10 }, "others come first");
        assert_ne!(third, first);
    }

    #[test]
    fn expiry_counts_each_once_and_rests_the_id() {
        let mut flight = Flight::new(64, 1024);
        let id = flight.reserve(1, 100).unwrap();
        flight.reserve(2, 200).unwrap();
        let mut lost = Vec::new();
        flight.expire(100, |query, intended_ns| lost.push((query, intended_ns)));
        flight.expire(100, |query, intended_ns| lost.push((query, intended_ns)));
        assert_eq!(lost, [(1, 100)]);
        assert_eq!(flight.outstanding(), 1);
        assert_eq!(flight.asked(id), Asked::TimedOut { query: 1 });
        for query in 0..2_000 {
            let other = flight.reserve(query, 300).unwrap();
            flight.settle(other);
        }
        assert_eq!(
            flight.asked(id),
            Asked::TimedOut { query: 1 },
            "a late answer can still be told"
        );
    }

    #[test]
    fn all_lost_for_ever_still_finds_ids() {
        let mut flight = Flight::new(8, 16);
        for round in 0..10_000u64 {
            while flight.reserve(0, round).is_some() {}
            assert_eq!(flight.outstanding(), 8);
            let mut count = 0;
            flight.expire(round, |_, _| count += 1);
            assert_eq!((count, flight.outstanding()), (8, 0));
        }
    }

    #[test]
    fn ids_wrap_round() {
        let mut flight = Flight::new(1, 8);
        for query in 0..200_000u32 {
            let id = flight.reserve(query, 0).unwrap();
            assert_eq!(id, query as u16);
            flight.settle(id);
        }
    }

    #[test]
    fn a_cancelled_query_was_never_asked() {
        let mut flight = Flight::new(4, 8);
        let id = flight.reserve(1, 1).unwrap();
        flight.cancel(id);
        assert_eq!((flight.asked(id), flight.outstanding()), (Asked::Unknown, 0));
    }
}
