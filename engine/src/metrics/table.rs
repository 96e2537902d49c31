//! The families of the cluster's tables: their age and size, and the faults in the cluster's
//! objects.
//!
//! Invariant: everything here comes from `Facts`, none from the shards.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::families::{Families, Labels};
use super::{Facts, ObjectFaults, TableFacts};

/// A family's name and help, and its counter.
type FaultRow = (&'static str, &'static str, fn(&ObjectFaults) -> u64);

impl Families<'_, '_> {
    pub(super) fn tables(&mut self, facts: &Facts, now: SystemTime) -> fmt::Result {
        let each = |value: &dyn Fn(&TableFacts) -> Option<f64>| -> Vec<(Labels<'_>, f64)> {
            facts
                .tables
                .iter()
                .filter_map(|table| {
                    let slot = table.slot.to_string().into();
                    let labels = vec![("table", slot), ("zone", table.zone.as_str().into())];
                    Some((labels, value(table)?))
                })
                .collect()
        };
        let generations = each(&|table| Some(table.generation as f64));
        self.gauges("ringdns_table_generation", "Newest generation", &generations)?;
        let names = each(&|table| Some(table.name_count as f64));
        self.gauges("ringdns_table_names", "Names in the newest generation", &names)?;
        let bytes = each(&|table| Some(table.len as f64));
        self.gauges("ringdns_table_bytes", "Bytes of the newest generation", &bytes)?;
        let synced = each(&|table| Some(f64::from(u8::from(table.is_synced))));
        self.gauges("ringdns_table_synced", "1 once the whole cluster was listed", &synced)?;
        let current = each(&|table| Some(f64::from(u8::from(table.is_current))));
        let help =
            "1 while watches keep every kind up to date; 0 if disconnected, or listed periodically";
        self.gauges("ringdns_table_current", help, &current)?;
        let ages = each(&|table| {
            Some(now.duration_since(table.published_at?).unwrap_or_default().as_secs_f64())
        });
        self.gauges("ringdns_table_age_seconds", "Time since the newest generation", &ages)?;
        let events = each(&|table| {
            Some(table.last_event_at?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
        });
        self.gauges(
            "ringdns_kubernetes_last_event_timestamp_seconds",
            "When the API server last sent an event, in seconds since 1970",
            &events,
        )?;
        self.refused_names(&facts.tables)?;
        self.object_faults(&facts.tables)
    }

    fn refused_names(&mut self, tables: &[TableFacts]) -> fmt::Result {
        let samples = tables.iter().map(|table| {
            let slot = table.slot.to_string().into();
            let labels: Labels<'_> = vec![("table", slot), ("zone", table.zone.as_str().into())];
            (labels, table.refused_name_count)
        });
        self.counters(
            "ringdns_kubernetes_names_refused",
            "Names skipped: too long, not host names, or a second host of a name that allows one",
            &samples.collect::<Vec<_>>(),
        )
    }

    fn object_faults(&mut self, tables: &[TableFacts]) -> fmt::Result {
        let rows: [FaultRow; 3] = [
            ("ringdns_kubernetes_objects_refused", "Objects that cannot be served", |faults| {
                faults.refused
            }),
            (
                "ringdns_kubernetes_odd_parts",
                "Parts of served objects that are skipped or corrected",
                |faults| faults.odd_parts,
            ),
            (
                "ringdns_kubernetes_repaired_objects",
                "Objects whose change the watch had lost, found by comparing with the API server",
                |faults| faults.repaired,
            ),
        ];
        for (name, help, count) in rows {
            let samples = tables.iter().flat_map(|table| {
                table.faults.iter().map(move |faults| {
                    let labels: Labels<'_> = vec![
                        ("kind", faults.kind.into()),
                        ("table", table.slot.to_string().into()),
                        ("zone", table.zone.as_str().into()),
                    ];
                    (labels, count(faults))
                })
            });
            self.counters(name, help, &samples.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
