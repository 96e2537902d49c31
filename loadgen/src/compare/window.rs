//! Loads of a closed loop: how many queries are in flight, from how many sockets, and where the
//! sending threads run.
//!
//! Pure. Invariant: a window has at least one query and one socket per thread.

use serde::Serialize;

use crate::plan::{Load, Plan};

/// Queries in flight for the highest throughput, unless -q says less or -c needs more.
const THROUGHPUT_OUTSTANDING_MAX: u32 = 256;

/// A load that keeps queries in flight instead of a rate.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Window {
    /// Heads its figures.
    pub name: String,
    pub thread_count: usize,
    /// Cores to pin the threads to, in turn; empty: the kernel places them.
    pub cores: Vec<usize>,
    /// Of all threads together, as is `outstanding_max`.
    pub socket_count: usize,
    pub outstanding_max: u32,
}

impl Window {
    /// The highest throughput, with the threads and sockets of the flags.
    pub fn throughput(base: &Plan) -> Self {
        let outstanding_max = base.outstanding_max.min(THROUGHPUT_OUTSTANDING_MAX);
        Self {
            name: "Closed loop (hides stalls; for the highest throughput)".to_owned(),
            thread_count: base.thread_count,
            cores: base.cores.clone(),
            socket_count: base.socket_count,
            outstanding_max: outstanding_max.max(base.socket_count as u32),
        }
    }

    /// Clients on the server's node, as pods are: each has `socket_count` sockets. `cores`: those
    /// that the server runs on, in rising order.
    pub fn same_node(socket_count: usize, cores: &[usize]) -> Vec<Self> {
        let anywhere = |name: &str, outstanding_max| Self {
            name: name.to_owned(),
            thread_count: 1,
            cores: Vec::new(),
            socket_count,
            outstanding_max,
        };
        let mut windows = vec![
            anywhere("One query at a time, client on any core", 1),
            anywhere("64 in flight, client on any core", 64),
        ];
        // One core: the client has no choice.
        if let [_, .., last] = cores {
            let count = cores.len();
            windows.push(Self {
                name: format!("{count} clients, one per core, each with 64 in flight"),
                thread_count: count,
                cores: cores.to_vec(),
                socket_count: socket_count * count,
                outstanding_max: 64 * count as u32,
            });
            windows.push(Self {
                name: format!("256 in flight, one client on core {last}"),
                cores: vec![*last],
                ..anywhere("", 256)
            });
        }
        windows
    }

    /// The base, with this load.
    pub fn plan(&self, base: Plan) -> Plan {
        Plan {
            load: Load::Closed,
            thread_count: self.thread_count,
            cores: self.cores.clone(),
            socket_count: self.socket_count,
            outstanding_max: self.outstanding_max,
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_on_the_node_use_its_cores() {
        // Cores; per window: threads, the cores that they are pinned to, sockets, in flight.
        let rows: [(&[usize], &[&str]); 2] = [
            (&[3], &["1 [] 32 1", "1 [] 32 64"]),
            (&[0, 2, 3], &["1 [] 32 1", "1 [] 32 64", "3 [0, 2, 3] 96 192", "1 [3] 32 256"]),
        ];
        for (cores, expected) in rows {
            let describe = |window: Window| {
                let Window { thread_count, cores, socket_count, outstanding_max, .. } = window;
                format!("{thread_count} {cores:?} {socket_count} {outstanding_max}")
            };
            let windows = Window::same_node(32, cores).into_iter().map(describe);
            assert_eq!(windows.collect::<Vec<_>>(), expected);
        }
    }
}
