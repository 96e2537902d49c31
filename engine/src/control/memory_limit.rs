//! The memory limit of the process: that of its control group, as Kubernetes sets it.

use std::fs;
use std::path::Path;

/// The hierarchy of version 2, and that of version 1's memory controller.
const UNIFIED: (&str, &str) = ("/sys/fs/cgroup", "memory.max");
const MEMORY: (&str, &str) = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");

/// The limit in bytes; `None` without one, or if none can be read.
pub(crate) fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    smallest(&groups, |path| fs::read_to_string(path).ok())
}

/// The smallest limit of the group and of those above it, since each of them holds.
///
/// `groups`: /proc/self/cgroup (cgroups(7)). A container without a cgroup namespace reads the
/// node's path there, but finds its own group at the root.
fn smallest(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let hierarchy = if controllers.is_empty() {
            Some(UNIFIED)
        } else {
            controllers.split(',').any(|one| one == "memory").then_some(MEMORY)
        };
        let group = Path::new(group.trim_start_matches('/'));
        hierarchy.into_iter().flat_map(|(root, file)| {
            group.ancestors().map(move |above| Path::new(root).join(above).join(file))
        })
    });
    limits.filter_map(|path| read(&path)?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_from_the_group_to_the_root_counts() {
        let limit = |groups: &str, files: &[(&str, &str)]| {
            smallest(groups, |path| {
                let found = files.iter().find(|(name, _)| Path::new(name) == path);
                found.map(|(_, text)| (*text).to_owned())
            })
        };
        // A container with a cgroup namespace.
        assert_eq!(
            limit("0::/\n", &[("/sys/fs/cgroup/memory.max", "178257920\n")]),
            Some(178257920)
        );
        assert_eq!(limit("0::/\n", &[("/sys/fs/cgroup/memory.max", "max\n")]), None);
        // Without one.
        let container = [("/sys/fs/cgroup/memory.max", "1000\n")];
        assert_eq!(limit("0::/kubepods/burstable/pod1\n", &container), Some(1000));
        // A service of systemd, whose slice has the smaller limit.
        let service = [
            ("/sys/fs/cgroup/system.slice/ringdns.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "2000\n"),
        ];
        assert_eq!(limit("0::/system.slice/ringdns.service\n", &service), Some(2000));
        // Version 1, whose root has a limit that none reaches.
        let old = [
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "3000\n"),
        ];
        assert_eq!(limit("4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n", &old), Some(3000));
        assert_eq!(limit("", &old), None);
        assert_eq!(limit("not a group\n", &old), None);
    }
}
