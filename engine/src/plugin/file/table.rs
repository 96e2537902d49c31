//! The table of a `file` block: the records of all its zones.
//!
//! No file is read here. Invariant: a zone whose file has not been read has no name in the table,
//! so its questions get SERVFAIL.

use std::sync::Arc;

use wire::compile::{TableBuilder, TableOptions, ZoneRecords};
use wire::hash::HashSeed;
use wire::table::Table;

use super::FileZone;

/// The newest generation of a `file` block's answers.
pub struct ZoneTable {
    builder: TableBuilder,
}

impl ZoneTable {
    /// A table that has no generation yet. `seed`: the process's.
    #[must_use]
    pub fn new(zones: &[FileZone], seed: HashSeed) -> Self {
        let zones = zones.iter().map(|zone| zone.zone.wire.clone()).collect();
        let mut builder = TableBuilder::new(TableOptions::zones(zones), seed);
        builder.set_synced();
        Self { builder }
    }

    /// The next generation, of the zones that have been read.
    pub fn update<'z>(&mut self, zones: impl IntoIterator<Item = &'z ZoneRecords>) -> Arc<Table> {
        self.builder.clear();
        for zone in zones {
            self.builder.insert_zone(zone);
        }
        // Each zone has its own SOA.
        self.builder.publish(0)
    }
}
