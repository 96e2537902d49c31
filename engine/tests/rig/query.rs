//! Queries as bytes, for tests that send them through a socket. Malformed packets are in
//! `malformed.rs`.
//!
//! Invariant: each has RD, no OPT, and one question of class IN.
#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of its copy.

use domain::base::Name as DomainName;

/// A query with the id 0x1234.
pub fn query(name: &str, qtype: u16) -> Vec<u8> {
    query_with_id(name, qtype, 0x1234)
}

pub fn query_with_id(name: &str, qtype: u16, id: u16) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend(wire_name(name));
    packet.extend(qtype.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

pub fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName<Vec<u8>>>().expect("a name").as_slice().to_vec()
}
