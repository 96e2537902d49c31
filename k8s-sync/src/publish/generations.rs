//! Hands tables and pod indexes to the shards, and frees those that no shard holds any more.
//!
//! Invariant: a table is also held here until no shard holds it, so a shard that drops one never
//! frees memory.

use std::sync::Arc;

use wire::table::Table;

/// Hands a table, or something else that has generations, to one shard and wakes it. Returns false
/// if the shard's channel is full; the newest one is offered again later.
pub type Deliver<T = Table> = Box<dyn Fn(Arc<T>) -> bool + Send>;

/// All tables that may still be in use, and the shards.
///
/// The number of tables is bounded by the capacity of the shards' channels, plus one per shard that
/// it reads, plus the newest.
pub struct Generations<T = Table> {
    shards: Vec<Shard<T>>,
    /// In the order of publication; the last is the newest.
    alive: Vec<Arc<T>>,
}

struct Shard<T> {
    deliver: Deliver<T>,
    /// The shard does not have the newest table yet.
    is_behind: bool,
}

impl<T> Generations<T> {
    #[must_use]
    pub fn new(shards: Vec<Deliver<T>>) -> Self {
        let shards = shards.into_iter().map(|deliver| Shard { deliver, is_behind: false });
        Self { shards: shards.collect(), alive: Vec::new() }
    }

    /// Offers every shard this table, which is now the newest.
    pub fn publish(&mut self, table: Arc<T>) {
        self.alive.push(table);
        for shard in &mut self.shards {
            shard.is_behind = true;
        }
        self.deliver();
    }

    /// Offers the newest table to the shards that could not take it before.
    pub fn deliver(&mut self) {
        let Some(newest) = self.alive.last() else { return };
        for shard in self.shards.iter_mut().filter(|shard| shard.is_behind) {
            shard.is_behind = !(shard.deliver)(Arc::clone(newest));
        }
    }

    /// Whether every shard has the newest table.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        !self.shards.iter().any(|shard| shard.is_behind)
    }

    /// Frees the tables that are held only here, except the newest. Returns the last of them.
    pub fn retire(&mut self) -> Option<T> {
        let newest = self.alive.pop()?;
        let freed = self.alive.extract_if(.., |table| Arc::strong_count(table) == 1).last();
        self.alive.push(newest);
        freed.and_then(Arc::into_inner)
    }

    /// Tables that are held here, the newest among them.
    #[must_use]
    pub fn alive_count(&self) -> usize {
        self.alive.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Mutex;

    use wire::compile::{TableBuilder, TableOptions};
    use wire::hash::HashSeed;
    use wire::pod::PodMode;

    use super::*;

    type Mailbox = Arc<Mutex<Vec<Arc<Table>>>>;

    /// A shard whose channel holds `capacity` tables.
    fn shard(capacity: usize) -> (Deliver, Mailbox) {
        let mailbox = Mailbox::default();
        let inbox = Arc::clone(&mailbox);
        let deliver = move |table| {
            let mut inbox = inbox.lock().unwrap();
            let has_room = inbox.len() < capacity;
            if has_room {
                inbox.push(table);
            }
            has_room
        };
        (Box::new(deliver), mailbox)
    }

    fn tables() -> impl FnMut() -> Arc<Table> {
        let options = TableOptions::kubernetes(vec![vec![0]], PodMode::Disabled, 5);
        let mut builder = TableBuilder::new(options, HashSeed::new(1));
        move || builder.publish(0)
    }

    fn generations_of(mailbox: &Mailbox) -> Vec<u64> {
        mailbox.lock().unwrap().iter().map(|table| table.generation()).collect()
    }

    #[test]
    fn a_full_channel_gets_the_newest_later() {
        let ((quick, quick_box), (slow, slow_box)) = (shard(9), shard(1));
        let mut generations = Generations::new(vec![quick, slow]);
        let mut next = tables();
        for _ in 0..3 {
            generations.publish(next());
        }
        assert_eq!(generations_of(&quick_box), [1, 2, 3]);
        assert_eq!(generations_of(&slow_box), [1]);
        assert!(!generations.is_delivered());
        slow_box.lock().unwrap().clear();
        generations.deliver();
        assert_eq!(generations_of(&slow_box), [3], "2 was overtaken");
        assert!(generations.is_delivered());
        generations.deliver();
        assert_eq!(generations_of(&quick_box), [1, 2, 3], "nobody is given a table twice");
    }

    #[test]
    fn a_table_is_freed_when_no_shard_holds_it() {
        let (deliver, mailbox) = shard(9);
        let mut generations = Generations::new(vec![deliver]);
        let mut next = tables();
        for _ in 0..4 {
            generations.publish(next());
        }
        assert!(generations.retire().is_none());
        assert_eq!(generations.alive_count(), 4, "all are held");
        let weak = Arc::downgrade(&mailbox.lock().unwrap()[1]);
        mailbox.lock().unwrap().drain(..2);
        assert!(weak.upgrade().is_some(), "the shard let go, but did not free");
        assert_eq!(generations.retire().map(|table| table.generation()), Some(2));
        assert!(weak.upgrade().is_none());
        assert_eq!(generations.alive_count(), 2);
        mailbox.lock().unwrap().clear();
        generations.retire();
        assert_eq!(generations.alive_count(), 1, "the newest stays");
    }

    #[test]
    fn without_shards_everything_is_delivered() {
        let calls = Rc::new(Cell::new(0));
        let mut generations = Generations::new(Vec::new());
        generations.deliver();
        generations.publish(tables()());
        assert!(generations.is_delivered());
        assert_eq!(calls.get(), 0);
    }
}
