//! Parses addresses by the rules of Kubernetes.

use std::fmt::Display;
use std::net::IpAddr;

use crate::fault::{Faults, Problem};

/// What a slice declares its addresses to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressType {
    V4,
    V6,
    Fqdn,
    /// Each address is used by its own family.
    Unknown,
}

/// Distinct valid addresses.
pub(super) struct Addresses {
    address_type: AddressType,
    found: Vec<IpAddr>,
}

impl Addresses {
    pub(super) fn with_capacity(address_type: AddressType, count: usize) -> Self {
        Self { address_type, found: Vec::with_capacity(count) }
    }

    /// `path` of the text, which costs nothing while the address is valid.
    pub(super) fn add(&mut self, text: &str, path: impl Display, faults: &mut Faults) {
        let Some(address) = address(text) else {
            faults.note(path, Problem::Address(text.into()));
            return;
        };
        let promised = match self.address_type {
            AddressType::V4 if !address.is_ipv4() => Some("IPv4"),
            AddressType::V6 if !address.is_ipv6() => Some("IPv6"),
            AddressType::V4 | AddressType::V6 | AddressType::Fqdn | AddressType::Unknown => None,
        };
        if let Some(address_type) = promised {
            faults.note(path, Problem::Family { address, address_type });
        } else if !self.found.contains(&address) {
            self.found.push(address);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_boxed(self) -> Box<[IpAddr]> {
        self.found.into()
    }
}

/// Parses like Kubernetes (netutils.ParseIPSloppy): leading zeros are ignored, so `010` is ten, and
/// `::ffff:10.0.0.1` is an IPv4 address.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let mut plain = String::with_capacity(text.len());
    let mut is_leading = true;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let is_last_digit = !bytes.peek().is_some_and(u8::is_ascii_hexdigit);
        if !(is_leading && byte == b'0' && !is_last_digit) {
            plain.push(byte.into());
            is_leading = matches!(byte, b'.' | b':');
        }
    }
    plain.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let address = address(text).map(|address| address.to_string());
        assert_eq!(address.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn addresses_by_the_rules_of_kubernetes() {
        check("10.1.2.3", Some("10.1.2.3"));
        check("010.001.002.004", Some("10.1.2.4"));
        check("0.0.0.0", Some("0.0.0.0"));
        check("000.00.0.0000", Some("0.0.0.0"));
        check("10.96.011.012", Some("10.96.11.12"));
        check("010.96.000.256", None);
        check("0x10.1.2.3", None);
        check("10.1.2", None);
        check("10.1.2.3.", None);
        check("10.1.2.3/32", None);
        check(" 10.1.2.3", None);
        check("10.1.2.3 ", None);
        check("fd00::1", Some("fd00::1"));
        check("FD00:0:0::001", Some("fd00::1"));
        check("fd00::00001", Some("fd00::1"));
        check("::", Some("::"));
        check("::ffff:10.1.3.4", Some("10.1.3.4"));
        check("::ffff:010.01.3.04", Some("10.1.3.4"));
        check("::ffff:0a01:0304", Some("10.1.3.4"));
        check("::10.1.3.4", Some("::a01:304"));
        check("fe80::1%eth0", None);
        check("[fd00::1]", None);
        for text in ["", ".", ":", "0", "None", "localhost", "é", "1.2.3.4.5", "1:2:3:4:5:6:7:8:9"]
        {
            check(text, None);
        }
    }
}
