//! The `process_*` families, under the names that Prometheus's own clients use.
//!
//! Each scrape reads them from /proc. If a file cannot be read, its families are omitted.
//! Invariant: the parsers are pure and accept any text.

use std::fs;

/// Ticks per second in /proc: the kernel's USER_HZ is 100 on every architecture that this server
/// runs on.
const TICKS_PER_SECOND: f64 = 100.0;
const KIB: f64 = 1024.0;

/// A family: name, help, whether it is a counter, value.
pub(super) struct ProcessFamily {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: ProcessFamilyKind,
    pub(super) value: f64,
}

pub(super) enum ProcessFamilyKind {
    /// Named without its `_total`.
    Counter,
    Gauge,
}

/// The families that can be read now.
pub(super) fn families() -> Vec<ProcessFamily> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    let status = read("/proc/self/status");
    let limits = read("/proc/self/limits");
    let network = read("/proc/self/net/netstat");
    let boot_seconds = boot_seconds(&read("/proc/stat"));
    // One of the entries is the directory itself, opened to count them.
    let open_fds =
        fs::read_dir("/proc/self/fd").map(|entries| entries.count().saturating_sub(1)).ok();

    let gauge = |name, help, value| (name, help, ProcessFamilyKind::Gauge, value);
    let counter = |name, help, value| (name, help, ProcessFamilyKind::Counter, value);
    let rows: [(_, _, _, Option<f64>); 9] = [
        counter("process_cpu_seconds", "CPU time, user and system", cpu_seconds(&stat)),
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors",
            limit(&limits, "Max open files"),
        ),
        counter(
            "process_network_receive_bytes",
            "Bytes received by IPv4 in this network namespace",
            ip_octets(&network, "InOctets"),
        ),
        counter(
            "process_network_transmit_bytes",
            "Bytes sent by IPv4 in this network namespace",
            ip_octets(&network, "OutOctets"),
        ),
        gauge("process_open_fds", "Open file descriptors", open_fds.map(|count| count as f64)),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            status_kib(&status, "VmRSS").map(|kib| kib * KIB),
        ),
        gauge(
            "process_start_time_seconds",
            "Start time of the process, in seconds since 1970",
            start_ticks(&stat)
                .zip(boot_seconds)
                .map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND),
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory",
            status_kib(&status, "VmSize").map(|kib| kib * KIB),
        ),
        gauge(
            "process_virtual_memory_max_bytes",
            "Maximum virtual memory",
            limit(&limits, "Max address space"),
        ),
    ];
    rows.into_iter()
        .filter_map(|(name, help, kind, value)| {
            value.map(|value| ProcessFamily { name, help, kind, value })
        })
        .collect()
}

/// Field `number` of /proc/PID/stat, counted from 1 as in proc_pid_stat(5). The second field is a
/// name in parentheses, which may contain spaces and parentheses.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_ticks(stat: &str) -> Option<f64> {
    stat_field(stat, 22)
}

fn boot_seconds(system_stat: &str) -> Option<f64> {
    system_stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn status_kib(status: &str, key: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// The soft limit. Like Prometheus's clients, 2^64 − 1 if there is none.
fn limit(limits: &str, key: &str) -> Option<f64> {
    let value = limits.lines().find_map(|line| line.strip_prefix(key))?;
    match value.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// A column of the two lines that begin with `IpExt:`.
fn ip_octets(netstat: &str, column: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let at = lines.next()?.split_ascii_whitespace().position(|name| name == column)?;
    lines.next()?.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_parsed_from_proc() {
        let stat = "7 (a) b) S 1 2 3 0 -1 4194560 5 0 0 0 150 50 0 0 20 0 4 0 12345 1000 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(start_ticks(stat), Some(12345.0));
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(status_kib("VmSize:\t  100 kB\nVmRSS:\t   42 kB\n", "VmRSS"), Some(42.0));
        let limits = "Max open files            1024                 4096                 files\n\
            Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(limit(limits, "Max address space"), Some(u64::MAX as f64));
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InOctets OutOctets\nIpExt: 3 4\n";
        assert_eq!(ip_octets(netstat, "OutOctets"), Some(4.0));
    }

    #[test]
    fn malformed_text_yields_no_number() {
        for text in ["", ")", "IpExt:\nIpExt:", "VmRSS:", "Max open files", "btime x", "1 (a) S"] {
            assert_eq!(cpu_seconds(text), None);
            assert_eq!(start_ticks(text), None);
            assert_eq!(boot_seconds(text), None);
            assert_eq!(status_kib(text, "VmRSS"), None);
            assert_eq!(limit(text, "Max open files"), None);
            assert_eq!(ip_octets(text, "InOctets"), None);
        }
    }

    #[test]
    fn this_process_has_all_families() {
        assert_eq!(families().len(), 9);
    }
}
