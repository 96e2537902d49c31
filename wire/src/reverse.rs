//! Reverse names: the address that such a name spells (RFC 1035, section 3.5; RFC 3596, section
//! 2.5), and the stored pointer from an address to the Service of its endpoint.
//!
//! Every endpoint has a PTR record, and hardly any is ever queried. So a table does not store it as
//! a name with a record, but as an address with the hash of the Service's name, whose entry has the
//! rest. A pod's name is stored in the same way, with the hash of its namespace's name. Invariant:
//! a pointer's Service is stored in the same generation.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::name::{BLOCK_LEN, Block, Name, block_count};

/// The labels below which IPv4 and IPv6 addresses are.
const TREE_V4: &[u8] = b"\x07in-addr\x04arpa\0";
const TREE_V6: &[u8] = b"\x03ip6\x04arpa\0";
/// Both trees, in wire format: of IPv4 addresses, and of IPv6 addresses.
pub const TREES: [&[u8]; 2] = [TREE_V4, TREE_V6];

/// Whether a name is that of a tree, or below one.
#[must_use]
pub fn is_in_tree(name: &Name) -> bool {
    TREES.iter().any(|tree| {
        let tree_at = name.bytes().len().checked_sub(tree.len());
        tree_at
            .is_some_and(|at| name.bytes().ends_with(tree) && name.label_starting_at(at).is_some())
    })
}

/// A PTR record: the name of this endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer<'t> {
    /// The first label of the endpoint's name spells it.
    pub address: IpAddr,
    /// The name of the Service, in wire format.
    pub service: &'t [u8],
}

/// Blocks of the longest reverse name: 32 labels of one digit, and the tree.
const BLOCK_COUNT: usize = block_count(64 + TREE_V6.len());

/// The reverse name of an address, in wire format.
#[derive(Clone, Copy)]
pub struct ReverseName {
    /// Zeros follow the name.
    blocks: [Block; BLOCK_COUNT],
    len: usize,
}

impl ReverseName {
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let mut name = Self { blocks: [[0; BLOCK_LEN]; BLOCK_COUNT], len: 0 };
        match address {
            IpAddr::V4(address) => {
                for octet in address.octets().into_iter().rev() {
                    let [hundreds, tens, ones] =
                        [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                    match octet {
                        0..10 => name.put(&[1, ones]),
                        10..100 => name.put(&[2, tens, ones]),
                        100.. => name.put(&[3, hundreds, tens, ones]),
                    }
                }
                name.put(TREE_V4);
            }
            IpAddr::V6(address) => {
                for octet in address.octets().into_iter().rev() {
                    for half in [octet & 0xF, octet >> 4] {
                        let digit = if half < 10 { b'0' + half } else { b'a' + half - 10 };
                        name.put(&[1, digit]);
                    }
                }
                name.put(TREE_V6);
            }
        }
        name
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.blocks.as_flattened().get(..self.len).unwrap_or_default()
    }

    #[must_use]
    pub fn into_name(self) -> Name {
        Name::from_blocks(self.blocks(), self.len)
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        self.blocks.get(..block_count(self.len)).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        let place = self.blocks.as_flattened_mut().get_mut(self.len..self.len + bytes.len());
        if let Some(place) = place {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

/// The address whose reverse name this is. An address has one spelling.
#[must_use]
pub fn address(name: &Name) -> Option<IpAddr> {
    match name.label_count() {
        6 if name.suffix(4) == TREE_V4 => {
            let mut octets = [0; 4];
            for (index, octet) in octets.iter_mut().rev().enumerate() {
                *octet = decimal(name.label(index))?;
            }
            Some(octets.into())
        }
        34 if name.suffix(32) == TREE_V6 => {
            let mut octets = [0; 16];
            for (index, octet) in octets.iter_mut().rev().enumerate() {
                let [low, high] = [0, 1].map(|half| hexadecimal(name.label(2 * index + half)));
                *octet = high? << 4 | low?;
            }
            Some(octets.into())
        }
        _ => None,
    }
}

fn decimal(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            core::str::from_utf8(label).ok()?.parse().ok()
        }
        _ => None,
    }
}

fn hexadecimal(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [digit @ b'a'..=b'f'] => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Most bytes that a pointer has behind the head of its entry.
pub(crate) const POINTER_LEN_MAX: usize = 24;

/// Appends what a pointer has behind the head of its entry, which has neither a name nor rows: the
/// hash of the other name (u64), and the address (4 or 16 bytes).
pub(crate) fn write_pointer(address: IpAddr, other: u64, entry: &mut Vec<u8>) {
    entry.extend_from_slice(&other.to_le_bytes());
    match address {
        IpAddr::V4(address) => entry.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => entry.extend_from_slice(&address.octets()),
    }
}

/// The address, and the hash of the other name.
pub(crate) fn read_pointer(pointer: &[u8]) -> Option<(IpAddr, u64)> {
    let (other, address) = pointer.split_first_chunk()?;
    let address = match (address.as_array::<4>(), address.as_array::<16>()) {
        (Some(v4), _) => IpAddr::from(*v4),
        (None, Some(v6)) => IpAddr::from(*v6),
        (None, None) => return None,
    };
    Some((address, u64::from_le_bytes(*other)))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn addresses_of_reverse_names() {
        let wire = |text: &str| {
            let mut wire = Vec::new();
            for label in text.split('.') {
                wire.push(label.len() as u8);
                wire.extend_from_slice(label.as_bytes());
            }
            wire.push(0);
            Name::from_wire(&wire).unwrap()
        };
        let six = "8.b.d.0.1.0.0.2.ip6.arpa";
        let six = format!("e.{}{six}", "0.".repeat(23));
        for (name, expected) in [
            ("1.0.128.10.in-addr.arpa", Some("10.128.0.1")),
            ("255.99.100.0.in-addr.arpa", Some("0.100.99.255")),
            (&six, Some("2001:db8::e")),
            ("01.0.128.10.in-addr.arpa", None),
            ("+1.0.128.10.in-addr.arpa", None),
            ("256.0.128.10.in-addr.arpa", None),
            ("0.128.10.in-addr.arpa", None),
            ("9.1.0.128.10.in-addr.arpa", None),
            ("1.0.128.10.in-addr.example", None),
            (&six.replace("e.0", "g.0"), None),
            (&six.replace("e.0", "0e.0"), None),
        ] {
            let expected: Option<IpAddr> = expected.map(|text| text.parse().unwrap());
            assert_eq!(address(&wire(name)), expected, "{name}");
            if let Some(address) = expected {
                let reverse = ReverseName::new(address);
                assert_eq!(reverse.as_slice(), wire(name).bytes(), "{name}");
                assert_eq!(reverse.blocks(), wire(name).blocks(), "{name}");
                assert_eq!(reverse.into_name(), wire(name), "{name}");
            }
        }
    }

    #[test]
    fn a_pointer_is_read_as_it_was_written() {
        for text in ["10.128.0.1", "2001:db8::e"] {
            let (address, mut bytes) = (text.parse().unwrap(), Vec::new());
            write_pointer(address, 0x1234_5678_9ABC_DEF0, &mut bytes);
            assert_eq!(read_pointer(&bytes), Some((address, 0x1234_5678_9ABC_DEF0)));
            bytes.pop();
            assert_eq!(read_pointer(&bytes), None);
        }
    }
}
