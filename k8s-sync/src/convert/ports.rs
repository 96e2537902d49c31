//! The ports of Services and slices: name, protocol and number, each of which may be invalid by
//! itself.

use crate::fault::{Faults, Problem};
use crate::object::Protocol;
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

/// The ports with their paths. A bad number costs the SRV record, a bad name the record of that
/// name. A port with an unknown protocol is dropped.
pub(super) fn ports(
    ports: Field<Vec<Field<RawPort>>>,
    list: &str,
    faults: &mut Faults,
) -> Vec<(String, CheckedPort)> {
    let found = faults.read(ports, list).unwrap_or_default();
    let ports = found.into_iter().enumerate().filter_map(|(index, port)| {
        let path = format!("{list}[{index}]");
        let port = read_element(port, &path, faults)?;
        let name = faults.read(port.name, format_args!("{path}.name")).unwrap_or_default();
        let name = if name.is_empty() { Ok(Box::default()) } else { label(name) };
        let name = name.unwrap_or_else(|problem| {
            faults.note(format_args!("{path}.name"), problem);
            Box::default()
        });
        let number = match port.port {
            Field::Absent => PortNumber::Absent,
            number => {
                read_number(number, &path, faults).map_or(PortNumber::Invalid, PortNumber::Is)
            }
        };
        let protocol = faults.read(port.protocol, format_args!("{path}.protocol"));
        let protocol = read_protocol(protocol, &path, faults)?;
        Some((path, CheckedPort { name, protocol, number }))
    });
    ports.collect()
}

fn read_number(number: Field<i64>, path: &str, faults: &mut Faults) -> Option<u16> {
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
fn read_protocol(name: Option<String>, path: &str, faults: &mut Faults) -> Option<Protocol> {
    let name = name.unwrap_or_default();
    match name.to_ascii_uppercase().as_str() {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => {
            faults.note(format_args!("{path}.protocol"), Problem::Protocol(name.into()));
            None
        }
    }
}
