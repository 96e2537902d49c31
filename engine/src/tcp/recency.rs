//! A list of items ordered by last use. Admission, use and removal are O(1).
//!
//! Invariant: the occupied nodes form one chain from `oldest` to `newest`, linked both ways; the
//! others are in `free`.

/// Identifies an item of the list. `admission` distinguishes it from a later item in the same node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    index: usize,
    admission: u64,
}

pub(super) struct Recency<T> {
    nodes: Vec<RecencyNode<T>>,
    free: Vec<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
    admissions: u64,
}

struct RecencyNode<T> {
    /// `None`: the node is free.
    item: Option<T>,
    admission: u64,
    older: Option<usize>,
    newer: Option<usize>,
}

impl<T> Default for Recency<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), oldest: None, newest: None, admissions: 0 }
    }
}

impl<T> Recency<T> {
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Adds an item as the newest.
    pub(super) fn admit(&mut self, item: T) -> Ticket {
        self.assert_ends();
        self.admissions += 1;
        let admission = self.admissions;
        let node = RecencyNode { item: Some(item), admission, older: None, newer: None };
        let index = match self.free.pop() {
            Some(index) => {
                debug_assert!(self.nodes[index].item.is_none());
                self.nodes[index] = node;
                index
            }
            None => {
                self.nodes.push(node);
                // `remove` pushes to `free` and must not allocate: it runs in the middle of a
                // shard's work.
                self.free.reserve(self.nodes.len());
                self.nodes.len() - 1
            }
        };
        self.link(index);
        self.assert_ends();
        Ticket { index, admission }
    }

    /// Makes an item the newest. Does nothing if it was removed.
    pub(super) fn touch(&mut self, ticket: Ticket) {
        if self.newest != Some(ticket.index) && self.holds(ticket) {
            self.unlink(ticket.index);
            self.link(ticket.index);
        }
        self.assert_ends();
    }

    /// Removes an item; `None` if it was removed before.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.holds(ticket).then(|| self.take(ticket.index)).flatten()
    }

    pub(super) fn remove_oldest(&mut self) -> Option<T> {
        self.oldest.and_then(|index| self.take(index))
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().filter_map(|node| node.item.as_ref())
    }

    fn holds(&self, ticket: Ticket) -> bool {
        let node = &self.nodes[ticket.index];
        node.item.is_some() && node.admission == ticket.admission
    }

    fn take(&mut self, index: usize) -> Option<T> {
        self.unlink(index);
        self.free.push(index);
        let item = self.nodes[index].item.take();
        debug_assert!(item.is_some(), "a node is freed once");
        self.assert_ends();
        item
    }

    fn link(&mut self, index: usize) {
        let newest = self.newest.replace(index);
        debug_assert_ne!(newest, Some(index), "a node is in the chain once");
        self.nodes[index].older = newest;
        self.nodes[index].newer = None;
        match newest {
            Some(newest) => self.nodes[newest].newer = Some(index),
            None => self.oldest = Some(index),
        }
    }

    fn unlink(&mut self, index: usize) {
        debug_assert!(self.is_linked(index), "both neighbors link back");
        let (older, newer) = (self.nodes[index].older, self.nodes[index].newer);
        match older {
            Some(older) => self.nodes[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.nodes[newer].older = older,
            None => self.newest = older,
        }
    }

    fn is_linked(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let from_older = node.older.map_or(self.oldest, |older| self.nodes[older].newer);
        let from_newer = node.newer.map_or(self.newest, |newer| self.nodes[newer].older);
        from_older == Some(index) && from_newer == Some(index)
    }

    /// O(1); debug builds only.
    fn assert_ends(&self) {
        debug_assert!(self.free.len() <= self.nodes.len());
        let is_empty = self.len() == 0;
        debug_assert_eq!((self.oldest.is_none(), self.newest.is_none()), (is_empty, is_empty));
        debug_assert!(self.oldest.is_none_or(|index| self.nodes[index].older.is_none()));
        debug_assert!(self.newest.is_none_or(|index| self.nodes[index].newer.is_none()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl<T> Recency<T> {
        /// Walks the chain: it holds each occupied node once, linked both ways.
        fn is_consistent(&self) -> bool {
            let (mut count, mut next) = (0, self.oldest);
            while let Some(index) = next.filter(|_| count < self.nodes.len()) {
                if self.nodes[index].item.is_none() || !self.is_linked(index) {
                    return false;
                }
                (count, next) = (count + 1, self.nodes[index].newer);
            }
            let is_free = |index: &usize| self.nodes[*index].item.is_none();
            next.is_none() && count == self.len() && self.free.iter().all(is_free)
        }
    }

    proptest! {
        /// Compares the list with a plain vector in the same order.
        #[test]
        fn items_are_in_the_order_of_use(
            steps in prop::collection::vec((0..4u8, 0..12usize), 0..200),
        ) {
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
                        let (ticket, item) = model.remove(at);
                        list.touch(ticket);
                        model.push((ticket, item));
                    }
                    (2, Some(at)) => {
                        let (ticket, item) = model.remove(at);
                        prop_assert_eq!(list.remove(ticket), Some(item));
                        gone.push(ticket);
                    }
                    (3, _) => {
                        let oldest = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(list.remove_oldest(), oldest.map(|(_, item)| item));
                        gone.extend(oldest.map(|(ticket, _)| ticket));
                    }
                    _ => {}
                }
                prop_assert_eq!(list.len(), model.len());
                prop_assert!(list.is_consistent());
                for ticket in &gone {
                    list.touch(*ticket);
                    prop_assert_eq!(list.remove(*ticket), None);
                }
            }
        }
    }
}
