//! The table of a block's zone files, those of `file` or of `auto`: the records of all their zones.
//!
//! No file is read here. Invariant: a zone without records has no name in the table, so its
//! questions get SERVFAIL.

use std::sync::Arc;

use wire::compile::{TableBuilder, TableOptions, ZoneRecords};
use wire::hash::HashSeed;
use wire::table::Table;

use crate::corefile::value::zone::Zone;

/// The newest generation of a block's answers from zone files.
pub struct ZoneTable {
    builder: TableBuilder,
}

impl ZoneTable {
    /// A table that has no generation yet. `seed`: the process's.
    #[must_use]
    pub fn new(seed: HashSeed) -> Self {
        let mut builder = TableBuilder::new(TableOptions::zones(Vec::new()), seed);
        builder.set_synced();
        Self { builder }
    }

    /// The next generation, of these zones and of the records of those that have been read.
    pub fn update<'z>(
        &mut self,
        zones: impl Iterator<Item = (&'z Zone, Option<&'z ZoneRecords>)> + Clone,
    ) -> Arc<Table> {
        let names: Vec<&[u8]> = zones.clone().map(|(zone, _)| zone.wire.as_slice()).collect();
        self.builder.set_zones(&names);
        for records in zones.filter_map(|(_, records)| records) {
            self.builder.insert_zone(records);
        }
        // Each zone has its own SOA.
        self.builder.publish(0)
    }
}
