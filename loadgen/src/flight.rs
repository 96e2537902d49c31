//! The queries that one socket or connection has sent: what each id was used for, and when.
//!
//! Pure and of fixed size: ids are assigned in rising order, and id i uses slot `i mod capacity`.
//! Invariant: `outstanding` is the number of slots in flight.
//!
//! Ids have 16 bits, so a late response can be matched only until its id is reused. A timed-out id
//! is therefore rested as long as others are free, and a used id returns only after all the rest.

/// Number of ids.
pub const ID_COUNT: usize = 1 << 16;
/// Most queries in flight on one socket: half of the ids, so that a used one rests.
pub const SOCKET_OUTSTANDING_MAX: u32 = ID_COUNT as u32 / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
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
    state: SlotState,
}

/// What the id of a response stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdStatus {
    /// In flight: this may be the expected response. `settle` ends it.
    InFlight { query: u32, intended_ns: u64 },
    /// Already answered.
    Answered { query: u32 },
    /// Already timed out.
    TimedOut { query: u32 },
    /// Never sent with this id, or too long ago to know.
    Unknown,
}

pub struct Flight {
    /// Length: a power of two, at most `ID_COUNT`.
    slots: Box<[Slot]>,
    next_id: u16,
    outstanding: u32,
    /// Slots in state `TimedOut`; they are rested until more than a quarter of all slots are.
    rested: u32,
}

impl Flight {
    /// Room for `outstanding_max` queries in flight and as many again, so that a free slot is near.
    pub fn new(outstanding_max: usize, capacity_max: usize) -> Self {
        let ids_max = SOCKET_OUTSTANDING_MAX as usize;
        assert!(outstanding_max <= ids_max, "{outstanding_max} queries on one socket");
        let capacity = capacity_max.max(outstanding_max * 2).next_power_of_two().clamp(2, ID_COUNT);
        let unused = Slot { intended_ns: 0, query: 0, id: 0, state: SlotState::Unused };
        Self { slots: vec![unused; capacity].into(), next_id: 0, outstanding: 0, rested: 0 }
    }

    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Queries that can be in flight at once.
    pub fn outstanding_max(&self) -> u32 {
        (self.slots.len() / 2) as u32
    }

    /// Records a query as sent and returns its id; `None` if `outstanding_max` are in flight.
    #[inline]
    pub fn reserve(&mut self, query: u32, intended_ns: u64) -> Option<u16> {
        if self.outstanding >= self.outstanding_max() {
            return None;
        }
        // At most half of the slots are in flight and a quarter rested, so a free one is near.
        let rest_max = (self.slots.len() / 4) as u32;
        for _ in 0..self.slots.len() {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            let state = self.slot_mut(id).state;
            match state {
                SlotState::InFlight => continue,
                SlotState::TimedOut if self.rested <= rest_max => continue,
                SlotState::TimedOut => self.rested -= 1,
                SlotState::Unused | SlotState::Answered => {}
            }
            *self.slot_mut(id) = Slot { intended_ns, query, id, state: SlotState::InFlight };
            self.outstanding += 1;
            return Some(id);
        }
        None
    }

    /// Takes back a query that could not be sent.
    pub fn cancel(&mut self, id: u16) {
        let slot = self.slot_mut(id);
        debug_assert!(slot.state == SlotState::InFlight && slot.id == id);
        slot.state = SlotState::Unused;
        self.outstanding -= 1;
    }

    pub fn status(&self, id: u16) -> IdStatus {
        let slot = &self.slots[usize::from(id) & (self.slots.len() - 1)];
        if slot.id != id {
            return IdStatus::Unknown;
        }
        let Slot { query, intended_ns, .. } = *slot;
        match slot.state {
            SlotState::Unused => IdStatus::Unknown,
            SlotState::InFlight => IdStatus::InFlight { query, intended_ns },
            SlotState::Answered => IdStatus::Answered { query },
            SlotState::TimedOut => IdStatus::TimedOut { query },
        }
    }

    /// Marks an id in flight as answered.
    pub fn settle(&mut self, id: u16) {
        let slot = self.slot_mut(id);
        debug_assert!(slot.state == SlotState::InFlight && slot.id == id);
        slot.state = SlotState::Answered;
        self.outstanding -= 1;
    }

    /// Times out every query with an intended send time of `deadline_ns` or earlier; `each`
    /// receives the query and that time.
    pub fn expire(&mut self, deadline_ns: u64, mut each: impl FnMut(u32, u64)) {
        if self.outstanding == 0 {
            return;
        }
        for slot in &mut self.slots {
            if slot.state == SlotState::InFlight && slot.intended_ns <= deadline_ns {
                slot.state = SlotState::TimedOut;
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
        assert_eq!(flight.status(first), IdStatus::InFlight { query: 10, intended_ns: 1_000 });
        flight.settle(first);
        assert_eq!(flight.status(first), IdStatus::Answered { query: 10 });
        assert_eq!(flight.status(second), IdStatus::InFlight { query: 11, intended_ns: 2_000 });
        assert_eq!(flight.status(999), IdStatus::Unknown);
        let third = flight.reserve(12, 3_000).unwrap();
        assert_eq!(flight.status(first), IdStatus::Answered { query: 10 }, "others come first");
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
        assert_eq!(flight.status(id), IdStatus::TimedOut { query: 1 });
        for query in 0..2_000 {
            let other = flight.reserve(query, 300).unwrap();
            flight.settle(other);
        }
        assert_eq!(
            flight.status(id),
            IdStatus::TimedOut { query: 1 },
            "a late response can still be matched"
        );
    }

    #[test]
    fn ids_are_found_even_if_all_queries_are_lost() {
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
    fn ids_wrap_around() {
        let mut flight = Flight::new(1, 8);
        for query in 0..200_000u32 {
            let id = flight.reserve(query, 0).unwrap();
            assert_eq!(id, query as u16);
            flight.settle(id);
        }
    }

    #[test]
    fn a_cancelled_query_leaves_its_id_unknown() {
        let mut flight = Flight::new(4, 8);
        let id = flight.reserve(1, 1).unwrap();
        flight.cancel(id);
        assert_eq!((flight.status(id), flight.outstanding()), (IdStatus::Unknown, 0));
    }
}
