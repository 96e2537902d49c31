//! Queries as bytes, for tests that send them through a socket, and what a response to one is.
//! Malformed packets are in `malformed.rs`.
//!
//! Invariant: each query has RD, no OPT, and one question of class IN.
#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of its copy.

use domain::base::Name as DomainName;

/// The id of queries for which it does not matter.
pub const ID: u16 = 0x1234;

pub fn query(name: &str, qtype: u16) -> Vec<u8> {
    query_with_id(name, qtype, ID)
}

pub fn query_with_id(name: &str, qtype: u16, id: u16) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend(wire_name(name));
    packet.extend(qtype.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

/// Whether these bytes are a response to the query with this id, and not the query itself.
pub fn is_response(message: &[u8], id: u16) -> bool {
    message.len() >= 12 && message[..2] == id.to_be_bytes() && message[2] & 0x80 != 0
}

pub fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName<Vec<u8>>>().expect("a name").as_slice().to_vec()
}
