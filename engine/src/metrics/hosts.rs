//! The families of hosts files: CoreDNS's two, and whether a file can be read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::UNIX_EPOCH;

use super::HostsFacts;
use super::families::{Families, Labels};

impl Families<'_, '_> {
    /// Nothing without a `hosts` block. Of blocks that read the same file, the last one counts, as
    /// in CoreDNS.
    pub(super) fn hosts(&mut self, hosts: &[HostsFacts]) -> fmt::Result {
        if hosts.is_empty() {
            return Ok(());
        }
        let by_file: BTreeMap<&str, usize> =
            hosts.iter().map(|one| (one.file.as_str(), one.entry_count)).collect();
        let entries: Vec<(Labels<'_>, f64)> = by_file
            .into_iter()
            .map(|(file, count)| (vec![("hostsfile", file.into())], count as f64))
            .collect();
        let help = "Entries of the hosts file and of the Corefile";
        self.gauges("coredns_hosts_entries", help, &entries)?;
        let modified = hosts.iter().filter_map(|one| one.modified).max();
        let since_1970 = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
        self.gauges(
            "coredns_hosts_reload_timestamp_seconds",
            "Newest modification time of a hosts file that was read, in seconds since 1970",
            &[(Vec::new(), since_1970.unwrap_or_default().as_secs_f64())],
        )?;
        let by_file: BTreeMap<&str, bool> =
            hosts.iter().map(|one| (one.file.as_str(), one.problem.is_none())).collect();
        let current: Vec<(Labels<'_>, f64)> = by_file
            .into_iter()
            .map(|(file, is_current)| (vec![("hostsfile", file.into())], f64::from(is_current)))
            .collect();
        let help = "1 if the hosts file could be read the last time";
        self.gauges("ringdns_hosts_current", help, &current)
    }
}
