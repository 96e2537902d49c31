//! The addresses of this machine that `bind` names, by address or by interface. No socket is opened
//! here.

use std::net::IpAddr;

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenIp {
    pub ip: IpAddr,
    /// The interface's index for a link-local IPv6 address that was found by the interface's name,
    /// otherwise 0.
    pub scope_id: u32,
}

impl From<IpAddr> for ListenIp {
    fn from(ip: IpAddr) -> Self {
        Self { ip, scope_id: 0 }
    }
}

/// The addresses of a network interface of this machine; `None` if there is no such interface.
pub(crate) fn interface_addresses(name: &str) -> Option<Vec<ListenIp>> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let found: Vec<_> = interfaces
        .iter()
        .filter(|interface| interface.name == name)
        .map(|interface| {
            let ip = interface.ip();
            let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            let scope_id = interface.index.filter(|_| is_link_local).unwrap_or(0);
            ListenIp { ip, scope_id }
        })
        .collect();
    let is_there = !found.is_empty() || is_interface(name);
    is_there.then_some(found)
}

fn is_interface(name: &str) -> bool {
    std::fs::read_dir("/sys/class/net").is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|one| one.file_name() == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let found = interface_addresses("lo").unwrap_or_default();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert!(found.contains(&loopback.into()), "{found:?}");
        for none in ["no-such-if0", "", "..", "lo/"] {
            assert_eq!(interface_addresses(none), None, "{none:?}");
        }
    }
}
