//! The ports of Services and slices: name, protocol and number, each of which may be invalid by
//! itself.

use std::fmt::{Arguments, Display};

use crate::fault::{Faults, Problem};
use crate::object::{Port, Protocol};
use crate::raw::RawPort;
use crate::raw::field::Field;

use super::{label, read_element};

/// A port of a Service or of a slice.
pub(super) struct CheckedPort {
    /// Empty if the port has none.
    pub(super) name: Box<str>,
    pub(super) protocol: Protocol,
    pub(super) number: PortNumber,
}

#[derive(PartialEq, Eq)]
pub(super) enum PortNumber {
    Absent,
    Is(u16),
    /// Invalid, and reported already.
    Invalid,
}

impl PortNumber {
    pub(super) const fn good(&self) -> Option<u16> {
        match self {
            Self::Is(number) => Some(*number),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// A bad number costs the SRV record, a bad name the record of that name. A port with an unknown
/// protocol is dropped. `finish` gets the path of each port that is left.
pub(super) fn ports(
    ports: Field<Vec<Field<RawPort>>>,
    list: impl Display + Copy,
    faults: &mut Faults,
    finish: impl Fn(Arguments<'_>, CheckedPort, &mut Faults) -> Port,
) -> Box<[Port]> {
    let found = faults.read(ports, list).unwrap_or_default();
    let mut ports = Vec::with_capacity(found.len());
    for (index, port) in found.into_iter().enumerate() {
        let path = format_args!("{list}[{index}]");
        let Some(port) = read_element(port, path, faults) else { continue };
        let name = faults.read(port.name, format_args!("{path}.name")).unwrap_or_default();
        let name = if name.is_empty() { Ok(Box::default()) } else { label(name) };
        let name = name.unwrap_or_else(|problem| {
            faults.note(format_args!("{path}.name"), problem);
            Box::default()
        });
        let number = match port.port {
            Field::Absent => PortNumber::Absent,
            number => read_number(number, path, faults).map_or(PortNumber::Invalid, PortNumber::Is),
        };
        let protocol = faults.read(port.protocol, format_args!("{path}.protocol"));
        if let Some(protocol) = read_protocol(protocol, path, faults) {
            ports.push(finish(path, CheckedPort { name, protocol, number }, faults));
        }
    }
    ports.into()
}

fn read_number(number: Field<i64>, path: Arguments<'_>, faults: &mut Faults) -> Option<u16> {
    let number = faults.read(number, format_args!("{path}.port"))?;
    match u16::try_from(number) {
        Ok(port) if port != 0 => Some(port),
        Ok(_) | Err(_) => {
            faults.note(format_args!("{path}.port"), Problem::Port(number));
            None
        }
    }
}

/// The default is TCP, as in the API server. Case is ignored, as in CoreDNS.
fn read_protocol(
    name: Option<String>,
    path: Arguments<'_>,
    faults: &mut Faults,
) -> Option<Protocol> {
    let name = name.unwrap_or_default();
    let names = [
        ("", Protocol::Tcp),
        ("TCP", Protocol::Tcp),
        ("UDP", Protocol::Udp),
        ("SCTP", Protocol::Sctp),
    ];
    let found = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
    if found.is_none() {
        faults.note(format_args!("{path}.protocol"), Problem::Protocol(name.into()));
    }
    found.map(|(_, protocol)| *protocol)
}
