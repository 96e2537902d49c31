//! Pod names: when they exist, and the address that such a name spells.
//!
//! The look-up of pod names is in `table`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The `pods` option of the `kubernetes` plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodMode {
    /// There are no pod names.
    Disabled,
    /// `1-2-3-4.NS.pod` is answered from the label wherever the namespace exists.
    Insecure,
    /// The pod must exist with that address in that namespace: the table has both of each pod.
    Verified,
}

/// The address that a pod's label spells: `1-2-3-4`, or the groups of an IPv6 address.
#[must_use]
pub fn dashed_address(label: &[u8]) -> Option<IpAddr> {
    let mut text = [0u8; 63];
    let spelled = text.get_mut(..label.len())?;
    spelled.copy_from_slice(label);
    let dashes = label.iter().filter(|byte| **byte == b'-').count();
    let is_v4 = dashes == 3 && !label.windows(2).any(|pair| pair == b"--");
    for byte in spelled.iter_mut().filter(|byte| **byte == b'-') {
        *byte = if is_v4 { b'.' } else { b':' };
    }
    let spelled = core::str::from_utf8(spelled).ok()?;
    if is_v4 {
        spelled.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        // A mapped address is the IPv4 address that it maps, as CoreDNS reads it.
        spelled.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
    }
}
