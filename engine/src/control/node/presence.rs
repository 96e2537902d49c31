//! Whether other processes use the same interface of this node.
//!
//! Each announces itself with an abstract socket: such names belong to the network namespace, as
//! the interface does, and the kernel removes them with the process, even a killed one. Invariant:
//! whoever adds or removes the interface holds the lock, so a process that ends never removes it
//! from under one that starts.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use engine::limits::{NODE_LOCK_TRIES, NODE_LOCK_TRY_EVERY};

/// Where the kernel lists the sockets of this network namespace.
const LIST: &str = "/proc/net/unix";

/// This process's announcement.
pub(super) struct Presence {
    prefix: String,
    name: String,
    _socket: UnixListener,
}

impl Presence {
    /// # Errors
    /// The kernel's.
    pub(super) fn announce(interface: &str) -> io::Result<Self> {
        let prefix = prefix(interface);
        // The number of a process is its own only in its namespace, so that of a socket is added.
        let name = format!("{prefix}{}-{:x}", std::process::id(), rand::random::<u32>());
        let socket = bind(&name)?;
        Ok(Self { prefix, name, _socket: socket })
    }

    /// Withdraws it. True if no other process uses the interface.
    pub(super) fn leave(self) -> bool {
        // Other programs' names may be no text. Without the list there may be others.
        std::fs::read(LIST).is_ok_and(|list| {
            !has_others(&String::from_utf8_lossy(&list), &self.prefix, &self.name)
        })
    }
}

/// Waits for the lock of an interface, but not for ever: then goes on without it.
pub(super) fn lock(interface: &str) -> Option<UnixListener> {
    let name = format!("ringdns-lock/{interface}");
    for attempt in 0..NODE_LOCK_TRIES {
        if attempt > 0 {
            std::thread::sleep(NODE_LOCK_TRY_EVERY);
        }
        if let Ok(lock) = bind(&name) {
            return Some(lock);
        }
    }
    let waited: Duration = NODE_LOCK_TRY_EVERY * NODE_LOCK_TRIES;
    tracing::warn!("node mode: another process has held the lock of {interface} for {waited:?}");
    None
}

fn prefix(interface: &str) -> String {
    format!("ringdns/{interface}/")
}

fn bind(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// `list`: the kernel's. The name is the last word of a line, an abstract one begins with `@`.
fn has_others(list: &str, prefix: &str, own: &str) -> bool {
    let names = list.lines().filter_map(|line| line.rsplit(' ').next()?.strip_prefix('@'));
    names.into_iter().any(|name| name.starts_with(prefix) && name != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_same_interface_count() {
        let list = "Num: RefCount Protocol Flags Type St Inode Path\n\
                    0: 00000002 00000000 00010000 0001 01 19 @ringdns/nodelocaldns/7-a1\n\
                    0: 00000002 00000000 00010000 0001 01 20 /run/ringdns/nodelocaldns/8\n\
                    0: 00000002 00000000 00010000 0001 01 21 @ringdns/other/9-b\n\
                    0: 00000002 00000000 00010000 0001 01 22\n";
        let check = |interface: &str, own: &str, expected| {
            let prefix = prefix(interface);
            assert_eq!(
                has_others(list, &prefix, &format!("{prefix}{own}")),
                expected,
                "{interface}"
            );
        };
        check("nodelocaldns", "7-a1", false);
        check("nodelocaldns", "8-a1", true);
        check("other", "9-b", false);
        check("third", "1-1", false);
    }

    #[test]
    fn the_last_one_to_leave_is_alone() {
        let interface = format!("test{}", std::process::id());
        let first = Presence::announce(&interface).unwrap();
        let second = Presence::announce(&interface).unwrap();
        assert!(!first.leave());
        assert!(second.leave());
    }

    #[test]
    fn one_holds_the_lock() {
        let interface = format!("lock{}", std::process::id());
        let held = lock(&interface).unwrap();
        assert!(bind(&format!("ringdns-lock/{interface}")).is_err());
        drop(held);
        assert!(lock(&interface).is_some());
    }
}
