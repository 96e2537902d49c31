//! The families of steering: how queries at each address find their shard.

use std::fmt;

use super::families::{Families, Labels};
use super::{SteeringFacts, position};

impl Families<'_, '_> {
    /// Nothing if the shards are not steered to.
    pub(super) fn steering(&mut self, groups: &[SteeringFacts]) -> fmt::Result {
        let labels = |group: &SteeringFacts| -> Labels<'_> {
            let proto = position::proto(group.transport).into();
            vec![("address", group.address.to_string().into()), ("proto", proto)]
        };
        let by_cpu: Vec<_> = groups
            .iter()
            .filter_map(|group| Some((labels(group), f64::from(group.is_by_cpu?))))
            .collect();
        let help = "1 while the shard of the CPU that received a query answers it, 0 while the \
                    hash of the client's address and port chooses the shard";
        self.gauges("ringdns_steering_by_cpu", help, &by_cpu)?;
        let fallbacks: Vec<_> =
            groups.iter().map(|group| (labels(group), group.fallbacks)).collect();
        let help = "Falls back to the hash because one shard was overloaded while others idled";
        self.counters("ringdns_steering_fallbacks", help, &fallbacks)
    }
}
