//! The families of the cluster's tables: their age and size, and the faults in the cluster's
//! objects.
//!
//! Invariant: everything here comes from `Facts`, none from the shards.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::families::{Families, Labels};
use super::{Facts, ObjectFaults, SnapshotFacts, TableFacts};

/// A family's name and help, and its counter.
type FaultRow = (&'static str, &'static str, fn(&ObjectFaults) -> u64);

impl Families<'_, '_> {
    pub(super) fn tables(&mut self, facts: &Facts, now: SystemTime) -> fmt::Result {
        let each = |value: &dyn Fn(&TableFacts) -> Option<f64>| -> Vec<(Labels<'_>, f64)> {
            facts
                .tables
                .iter()
                .filter_map(|table| Some((table_labels(table), value(table)?)))
                .collect()
        };
        let generations = each(&|table| Some(table.generation as f64));
        self.gauges("ringdns_table_generation", "Newest generation", &generations)?;
        let names = each(&|table| Some(table.name_count as f64));
        self.gauges("ringdns_table_names", "Names in the newest generation", &names)?;
        let bytes = each(&|table| Some(table.len as f64));
        self.gauges("ringdns_table_bytes", "Bytes of the newest generation", &bytes)?;
        let synced = each(&|table| Some(f64::from(u8::from(table.is_synced))));
        let help = "1 once the whole cluster was listed, or its snapshot is served";
        self.gauges("ringdns_table_synced", help, &synced)?;
        let current = each(&|table| Some(f64::from(u8::from(table.is_current))));
        let help =
            "1 while watches keep every kind up to date; 0 if disconnected, or listed periodically";
        self.gauges("ringdns_table_current", help, &current)?;
        let ages = each(&|table| {
            Some(now.duration_since(table.published_at?).unwrap_or_default().as_secs_f64())
        });
        self.gauges("ringdns_table_age_seconds", "Time since the newest generation", &ages)?;
        let confirmed = each(&|table| {
            Some(now.duration_since(table.confirmed_at?).unwrap_or_default().as_secs_f64())
        });
        let help = "How old the served state may be: time since its source last confirmed it";
        self.gauges("ringdns_sync_age_seconds", help, &confirmed)?;
        let connected = each(&|table| Some(f64::from(u8::from(table.is_connected?))));
        let help = "1 if the API server answered the last request, 0 if it could not be reached";
        self.gauges("ringdns_apiserver_connected", help, &connected)?;
        let events = each(&|table| {
            Some(table.last_event_at?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
        });
        self.gauges(
            "ringdns_kubernetes_last_event_timestamp_seconds",
            "When the API server last sent anything for the kind that has been silent longest, \
             in seconds since 1970",
            &events,
        )?;
        self.snapshots(&facts.tables)?;
        self.refused_names(&facts.tables)?;
        self.object_faults(&facts.tables)
    }

    fn snapshots(&mut self, tables: &[TableFacts]) -> fmt::Result {
        let each = |value: &dyn Fn(&SnapshotFacts) -> Option<f64>| -> Vec<(Labels<'_>, f64)> {
            let samples = tables.iter().filter_map(|table| {
                let value = value(table.snapshot.as_ref()?)?;
                Some((table_labels(table), value))
            });
            samples.collect()
        };
        let served = each(&|snapshot| Some(f64::from(u8::from(snapshot.is_served))));
        let help = "1 while the snapshot is served, because the API server has not been read yet";
        self.gauges("ringdns_snapshot_served", help, &served)?;
        let written = each(&|snapshot| {
            let at = snapshot.written_at?.duration_since(UNIX_EPOCH);
            Some(at.unwrap_or_default().as_secs_f64())
        });
        let help = "When the state in the last written snapshot was confirmed, in seconds since \
                    1970";
        self.gauges("ringdns_snapshot_written_timestamp_seconds", help, &written)?;
        let failures = tables
            .iter()
            .filter_map(|table| Some((table_labels(table), table.snapshot.as_ref()?.failures)));
        let help = "Snapshots that could not be written";
        self.counters("ringdns_snapshot_write_failures", help, &failures.collect::<Vec<_>>())
    }

    fn refused_names(&mut self, tables: &[TableFacts]) -> fmt::Result {
        let samples = tables.iter().map(|table| (table_labels(table), table.refused_name_count));
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

fn table_labels(table: &TableFacts) -> Labels<'_> {
    vec![("table", table.slot.to_string().into()), ("zone", table.zone.as_str().into())]
}
