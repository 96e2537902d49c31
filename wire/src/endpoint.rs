//! Names of endpoints that spell an address, such as `10-1-0-1.SVC.NS.svc`: the label, and the list
//! of such endpoints in the entry of their Service.
//!
//! A cluster has more of these names than of all others together, and they are hardly ever queried.
//! So none of them is stored: the look-up reads the address from the label and finds it in the
//! list. Invariant: the addresses of a list are sorted and canonical, and its endpoints have the
//! same ports.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::IpAddr;

use crate::header::{TYPE_A, TYPE_AAAA, TYPE_SRV};
use crate::pod::dashed_address;

/// Most ports of a list.
const PORTS_MAX: usize = 1000;
/// Most bytes of a list's addresses, so that the length of the list fits a row.
const ADDRESSES_LEN_MAX: usize = 60_000;

/// A name that begins with an address, `1-2-3-4.NS.pod.ZONE` or `1-2-3-4.SVC.NS.svc.ZONE`; more
/// labels may stand before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressName<'t> {
    pub address: IpAddr,
    /// Offset of the address's label in the question's name.
    pub name_offset: usize,
    /// Of each SRV record.
    pub weight: u16,
    /// One SRV record for each port, in network byte order.
    pub ports: &'t [[u8; 2]],
}

impl AddressName<'_> {
    /// Whether the name has records of this type.
    #[must_use]
    pub(crate) const fn has_type(&self, qtype: u16) -> bool {
        match (self.address, qtype) {
            (IpAddr::V4(_), TYPE_A) | (IpAddr::V6(_), TYPE_AAAA) => true,
            (_, TYPE_SRV) => !self.ports.is_empty(),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
        }
    }
}

/// The label of a pod, or of an endpoint without a name: its address with hyphens.
#[derive(Clone, Copy)]
pub struct AddressLabel {
    bytes: [u8; Self::LEN_MAX],
    len: usize,
}

impl AddressLabel {
    /// An address has at most 39 characters, and 0 may follow.
    pub const LEN_MAX: usize = 40;

    /// That of an endpoint, which does not end in a hyphen: 0 follows an address that ends in `::`.
    #[must_use]
    pub fn of_endpoint(address: IpAddr) -> Self {
        let mut label = Self::of_pod(address);
        if label.as_slice().ends_with(b"-") {
            label.put(b'0');
        }
        label
    }

    /// That of a pod.
    #[must_use]
    pub fn of_pod(address: IpAddr) -> Self {
        let mut label = Self { bytes: [0; Self::LEN_MAX], len: 0 };
        match address.to_canonical() {
            // Most addresses: without the cost of formatting.
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                label.put_decimal(first);
                for octet in rest {
                    label.put(b'-');
                    label.put_decimal(octet);
                }
            }
            IpAddr::V6(address) => {
                write!(label, "{address}").expect("an address has at most 39 characters");
            }
        }
        label
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn put_decimal(&mut self, number: u8) {
        if number >= 100 {
            self.put(b'0' + number / 100);
        }
        if number >= 10 {
            self.put(b'0' + number / 10 % 10);
        }
        self.put(b'0' + number % 10);
    }

    fn put(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    /// The address of the endpoint with this label. An address has one spelling: `010-1-0-1` is
    /// none.
    #[must_use]
    pub fn read(label: &[u8]) -> Option<IpAddr> {
        // The zero may belong to the address, or follow it.
        let address = dashed_address(label)?;
        (Self::of_endpoint(address).as_slice() == label).then_some(address)
    }
}

/// Accepts the text of an address. Dots and colons become hyphens.
impl Write for AddressLabel {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.bytes.get_mut(self.len).ok_or(fmt::Error)? =
                if matches!(byte, b'.' | b':') { b'-' } else { byte };
            self.len += 1;
        }
        Ok(())
    }
}

/// The endpoints of a Service whose names spell their addresses.
///
/// ```text
///   list   weight of an SRV record (u16) · count of ports (u16) · ports (u16 each) · count of IPv4
///          addresses (u16) · IPv4 addresses · IPv6 addresses          all in network byte order
/// ```
#[derive(Clone, Copy)]
pub(crate) struct EndpointList<'t> {
    weight: u16,
    ports: &'t [[u8; 2]],
    v4: &'t [[u8; 4]],
    v6: &'t [[u8; 16]],
}

impl<'t> EndpointList<'t> {
    pub(crate) fn read(list: &'t [u8]) -> Option<Self> {
        let (weight, rest) = list.split_first_chunk()?;
        let (ports, rest) = counted(rest)?;
        let (v4, rest) = counted(rest)?;
        let (v6, _) = rest.as_chunks();
        Some(Self { weight: u16::from_be_bytes(*weight), ports, v4, v6 })
    }

    /// The name of the endpoint with this label, if the list has its address.
    pub(crate) fn find(&self, label: &[u8]) -> Option<AddressName<'t>> {
        let address = AddressLabel::read(label)?;
        let is_listed = match address {
            IpAddr::V4(address) => self.v4.binary_search(&address.octets()).is_ok(),
            IpAddr::V6(address) => self.v6.binary_search(&address.octets()).is_ok(),
        };
        let Self { weight, ports, .. } = *self;
        is_listed.then_some(AddressName { address, name_offset: 0, weight, ports })
    }
}

/// A count, and as many elements.
fn counted<const LEN: usize>(bytes: &[u8]) -> Option<(&[[u8; LEN]], &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    let (elements, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * LEN)?;
    Some((elements.as_chunks().0, rest))
}

/// How many of these addresses a list holds, with this many ports. The names of the others have to
/// be stored.
#[must_use]
pub fn list_capacity(port_count: usize, addresses: &[IpAddr]) -> usize {
    if port_count > PORTS_MAX {
        return 0;
    }
    let mut len = 0;
    let fits = addresses.iter().take_while(|address| {
        len += if address.is_ipv4() { 4 } else { 16 };
        len <= ADDRESSES_LEN_MAX
    });
    fits.count()
}

/// Appends a list. `ports`: distinct; `addresses`: sorted, so IPv4 comes first, and as many as
/// `list_capacity` says.
pub(crate) fn write_list(weight: u16, ports: &[u16], addresses: &[IpAddr], list: &mut Vec<u8>) {
    debug_assert!(
        addresses.is_sorted() && list_capacity(ports.len(), addresses) == addresses.len()
    );
    list.extend_from_slice(&weight.to_be_bytes());
    list.extend_from_slice(&(ports.len() as u16).to_be_bytes());
    for port in ports {
        list.extend_from_slice(&port.to_be_bytes());
    }
    let v4_count = addresses.partition_point(IpAddr::is_ipv4);
    list.extend_from_slice(&(v4_count as u16).to_be_bytes());
    for address in addresses {
        match address {
            IpAddr::V4(address) => list.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => list.extend_from_slice(&address.octets()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_addresses() {
        for (address, label) in [
            ("10.1.0.1", "10-1-0-1"),
            ("255.99.100.0", "255-99-100-0"),
            ("fd00:244:2::e", "fd00-244-2--e"),
            ("fd00:1::", "fd00-1--0"),
            ("::1", "--1"),
            ("::", "--0"),
            ("2001:db8:1:2:3:4:5:6", "2001-db8-1-2-3-4-5-6"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(AddressLabel::of_endpoint(address).as_slice(), label.as_bytes());
            assert_eq!(AddressLabel::read(label.as_bytes()), Some(address), "{label}");
        }
        for label in [
            "",
            "web",
            "010-1-0-1",
            "10-1-0-1-",
            "10-1-1",
            "10-1-0-256",
            "fd00-1--",
            "fd00-0001--1",
            "--",
            // An IPv4 address in the spelling of an IPv6 address.
            "--ffff-a01-1",
            "--ffff-10.1.0.1",
            "0-0-0-0-0-0-0-1",
        ] {
            assert_eq!(AddressLabel::read(label.as_bytes()), None, "{label}");
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let addresses = ["10.1.0.1", "10.1.0.9", "fd00::1"].map(|text| text.parse().unwrap());
        let mut bytes = Vec::new();
        write_list(50, &[80, 9090], &addresses, &mut bytes);
        let list = EndpointList::read(&bytes).unwrap();
        for (label, address) in [("10-1-0-9", addresses[1]), ("fd00--1", addresses[2])] {
            let ports: &[[u8; 2]] = &[[0, 80], [35, 130]];
            let name = AddressName { address, name_offset: 0, weight: 50, ports };
            assert_eq!(list.find(label.as_bytes()), Some(name));
        }
        assert_eq!(list.find(b"10-1-0-2"), None);
        for len in 0..bytes.len() - 16 - 8 {
            assert!(EndpointList::read(&bytes[..len]).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn long_lists_are_bounded() {
        let v4: Vec<IpAddr> = (0..20_000u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
        assert_eq!(list_capacity(1, &v4), 15_000);
        assert_eq!(list_capacity(1001, &v4), 0);
        let v6: Vec<IpAddr> = (0..20_000u128).map(|n| IpAddr::from(n.to_be_bytes())).collect();
        assert_eq!(list_capacity(0, &v6), 3_750);
    }
}
