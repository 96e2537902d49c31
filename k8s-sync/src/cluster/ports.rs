//! Lists of ports, each stored once: ten thousand Services have about a dozen different ones.
//!
//! Invariant: a list is sorted, and has each port once.

use std::collections::HashSet;
use std::sync::Arc;

use rapidhash::fast::RandomState;

use crate::object::Port;

#[derive(Debug, Default)]
pub(super) struct PortLists {
    lists: HashSet<Arc<[Port]>, RandomState>,
    /// At this many lists, unused ones are dropped.
    purge_at: usize,
}

impl PortLists {
    /// Returns a shared copy of these ports.
    pub(super) fn share(&mut self, ports: Box<[Port]>) -> Arc<[Port]> {
        let mut ports = Vec::from(ports);
        ports.sort_unstable();
        ports.dedup();
        if let Some(known) = self.lists.get(&*ports) {
            return Arc::clone(known);
        }
        if self.lists.len() >= self.purge_at {
            self.lists.retain(|list| Arc::strong_count(list) > 1);
            self.purge_at = (self.lists.len() * 2).max(64);
        }
        let ports: Arc<[Port]> = ports.into();
        self.lists.insert(Arc::clone(&ports));
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Protocol;

    #[test]
    fn equal_lists_are_shared_and_unused_ones_dropped() {
        let port = |number| Port { name: "p".into(), protocol: Protocol::Tcp, number };
        let mut lists = PortLists::default();
        let kept = lists.share([port(Some(1))].into());
        for number in 0..1000 {
            let same = lists.share([port(Some(1))].into());
            assert!(Arc::ptr_eq(&kept, &same));
            lists.share([port(Some(number)), port(None)].into());
        }
        assert!(lists.lists.len() <= 64, "{} lists", lists.lists.len());
    }
}
