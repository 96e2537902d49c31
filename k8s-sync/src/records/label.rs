//! One label of a name, as spelled in the API server's objects.
//!
//! Invariant: 1 to 63 bytes of letters, digits and hyphens (RFC 1123, section 2.1), after at most
//! one underscore of ours. Names fold them to lower case.

use std::net::IpAddr;

use wire::endpoint::AddressLabel;
use wire::name::Name;

use super::pen::Pen;
use crate::cluster::ModelEndpoint;

const LABEL_LEN_MAX: usize = 63;

/// The name of a namespace, Service or endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label<'t> {
    text: &'t str,
}

impl<'t> Label<'t> {
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let is_valid = (1..=LABEL_LEN_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_valid.then_some(Self { text })
    }

    pub(super) const fn as_slice(&self) -> &'t [u8] {
        self.text.as_bytes()
    }
}

/// The name of a port: `_http` (RFC 2782).
pub(super) struct PortLabel {
    bytes: [u8; LABEL_LEN_MAX],
    len: usize,
}

impl PortLabel {
    pub(super) fn read(name: &str) -> Option<Self> {
        let name = Label::read(name)?.as_slice();
        let len = 1 + name.len();
        let mut bytes = [b'_'; LABEL_LEN_MAX];
        bytes.get_mut(1..len)?.copy_from_slice(name);
        Some(Self { bytes, len })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The label of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndpointLabel<'m> {
    /// It spells this address. Of an odd host name, it may be another's.
    Spelled(IpAddr),
    /// In lower case.
    Own(Label<'m>),
}

impl<'m> EndpointLabel<'m> {
    /// `None`: it is invalid.
    pub(super) fn of(endpoint: &ModelEndpoint<'m>) -> Option<Self> {
        match endpoint.label {
            None => Some(Self::Spelled(endpoint.address)),
            Some(label) => Label::read(label).map(Self::of_label),
        }
    }

    /// `label`: in lower case.
    pub(super) fn of_label(label: Label<'m>) -> Self {
        AddressLabel::read(label.as_slice()).map_or(Self::Own(label), Self::Spelled)
    }

    /// The name of the endpoint below that of its Service.
    pub(super) fn name(self, pen: &mut Pen<'_>, service: &Name) -> Option<Name> {
        self.with_text(|label| pen.name(&[label], service))
    }

    pub(super) fn with_text<R>(self, take: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Spelled(address) => take(AddressLabel::of_endpoint(address).as_slice()),
            Self::Own(label) => take(label.as_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let longest = "a".repeat(63);
        for text in ["web", "Web-0", &longest] {
            let label = Label::read(text);
            assert_eq!(label.as_ref().map(Label::as_slice), Some(text.as_bytes()));
        }
        for text in ["", "a.b", "a b", "_a", "*", "é", &format!("{longest}a")] {
            assert!(Label::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn ports() {
        let longest = "a".repeat(62);
        for text in ["http", &longest] {
            let label = PortLabel::read(text);
            let expected = format!("_{text}");
            assert_eq!(label.as_ref().map(PortLabel::as_slice), Some(expected.as_bytes()));
        }
        for text in ["", "a.b", &format!("{longest}a")] {
            assert!(PortLabel::read(text).is_none(), "{text}");
        }
    }
}
