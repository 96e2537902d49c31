//! The families of zone files. CoreDNS has none.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::ZoneFacts;
use super::families::{Families, Labels};

impl Families<'_, '_> {
    /// Nothing without a line of `file` or `auto`. Of blocks that serve the same zone from the same
    /// file, the last one counts.
    pub(super) fn zones(&mut self, zones: &[Arc<ZoneFacts>]) -> fmt::Result {
        let mut keys = HashSet::new();
        let mut seen: Vec<&ZoneFacts> = zones
            .iter()
            .rev()
            .map(Arc::as_ref)
            .filter(|zone| keys.insert((&zone.zone, &zone.file)))
            .collect();
        seen.reverse();
        let labels = |zone: &'_ ZoneFacts| -> Labels<'_> {
            vec![("zone", zone.zone.clone().into()), ("file", zone.file.clone().into())]
        };
        let serials: Vec<_> =
            seen.iter().filter_map(|zone| Some((labels(zone), f64::from(zone.serial?)))).collect();
        self.gauges("ringdns_zone_serial", "Serial number of the zone that is served", &serials)?;
        let current: Vec<_> = seen
            .iter()
            .map(|zone| (labels(zone), f64::from(u8::from(zone.problem.is_none()))))
            .collect();
        let help = "1 if the zone's file could be read the last time";
        self.gauges("ringdns_zone_current", help, &current)
    }
}
