//! A list of things by when they were last used: a use, an admission and a removal take the same few steps however many there are.
//!
//! Invariant: the occupied places form one chain from `oldest` to `newest`; a place that was given up is used again.

/// Where a thing stands, from `admit`. `admission` tells it from a later thing in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    place: usize,
    admission: u64,
}

pub(super) struct Recency<T> {
    places: Vec<RecencyNode<T>>,
    free: Vec<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
    admissions: u64,
}

struct RecencyNode<T> {
    thing: Option<T>,
    admission: u64,
    older: Option<usize>,
    newer: Option<usize>,
}

impl<T> Default for Recency<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), oldest: None, newest: None, admissions: 0 }
    }
}

impl<T> Recency<T> {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a thing in as the newest.
    pub(super) fn admit(&mut self, thing: T) -> Ticket {
        self.admissions += 1;
        let admission = self.admissions;
        let place = RecencyNode { thing: Some(thing), admission, older: None, newer: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.places[at] = place;
                at
            }
            None => {
                self.places.push(place);
                // Removing pushes there and must not allocate: it happens in the middle of the work of a shard.
                self.free.reserve(self.places.len());
                self.places.len() - 1
            }
        };
        self.link(at);
        Ticket { place: at, admission }
    }

    /// Makes it the newest.
    pub(super) fn touch(&mut self, ticket: Ticket) {
        if self.newest != Some(ticket.place) && self.holds(ticket) {
            self.unlink(ticket.place);
            self.link(ticket.place);
        }
    }

    /// Gives it up; nothing if that was done before.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.holds(ticket).then(|| self.take(ticket.place)).flatten()
    }

    pub(super) fn remove_oldest(&mut self) -> Option<T> {
        self.oldest.and_then(|at| self.take(at))
    }

    fn holds(&self, ticket: Ticket) -> bool {
        let place = &self.places[ticket.place];
        place.thing.is_some() && place.admission == ticket.admission
    }

    fn take(&mut self, at: usize) -> Option<T> {
        self.unlink(at);
        self.free.push(at);
        self.places[at].thing.take()
    }

    fn link(&mut self, at: usize) {
        let newest = self.newest.replace(at);
        self.places[at].older = newest;
        self.places[at].newer = None;
        match newest {
            Some(newest) => self.places[newest].newer = Some(at),
            None => self.oldest = Some(at),
        }
    }

    fn unlink(&mut self, at: usize) {
        let (older, newer) = (self.places[at].older, self.places[at].newer);
        match older {
            Some(older) => self.places[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.places[newer].older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Beside a plain vector, which is the list in order.
        #[test]
        fn is_a_list_in_the_order_of_use(steps in prop::collection::vec((0..4u8, 0..12usize), 0..200)) {
            let mut list = Recency::default();
            let mut model: Vec<(Ticket, usize)> = Vec::new();
            let mut gone: Vec<Ticket> = Vec::new();
            for (number, (step, pick)) in steps.into_iter().enumerate() {
                let picked = (!model.is_empty()).then(|| pick % model.len().max(1));
                match (step, picked) {
                    (0, _) => {
                        let ticket = list.admit(number);
                        model.push((ticket, number));
                    }
                    (1, Some(at)) => {
                        let (ticket, thing) = model.remove(at);
                        list.touch(ticket);
                        model.push((ticket, thing));
                    }
                    (2, Some(at)) => {
                        let (ticket, thing) = model.remove(at);
                        prop_assert_eq!(list.remove(ticket), Some(thing));
                        gone.push(ticket);
                    }
                    (3, _) => {
                        let oldest = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(list.remove_oldest(), oldest.map(|(_, thing)| thing));
                        gone.extend(oldest.map(|(ticket, _)| ticket));
                    }
                    _ => {}
                }
                prop_assert_eq!(list.len(), model.len());
                for ticket in &gone {
                    list.touch(*ticket);
                    prop_assert_eq!(list.remove(*ticket), None);
                }
            }
        }
    }
}
