//! One label of a name, as spelled in the API server's objects.
//!
//! Invariant: 1 to 63 bytes of letters, digits and hyphens in lower case (RFC 1123, section 2.1),
//! after at most one underscore of ours.

use std::net::IpAddr;

use wire::endpoint::AddressLabel;

use crate::cluster::ModelEndpoint;

const LABEL_LEN_MAX: usize = 63;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    bytes: [u8; LABEL_LEN_MAX],
    /// Valid: 1..=63.
    len: u8,
}

impl Label {
    /// The name of a namespace, Service or endpoint.
    pub(super) fn read(text: &str) -> Option<Self> {
        Self::prefixed(b"", text.as_bytes())
    }

    /// `_http` or `_tcp` (RFC 2782).
    pub(super) fn underscored(text: &str) -> Option<Self> {
        Self::prefixed(b"_", text.as_bytes())
    }

    /// The address of a pod, as used by `pods verified`.
    pub(super) fn of_pod(address: IpAddr) -> Self {
        Self::spelled(&AddressLabel::of_pod(address))
    }

    fn spelled(label: &AddressLabel) -> Self {
        let text = label.as_slice();
        let mut bytes = [0; LABEL_LEN_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Self { bytes, len: text.len() as u8 }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn prefixed(prefix: &[u8], text: &[u8]) -> Option<Self> {
        let len = prefix.len() + text.len();
        if text.is_empty() || len > LABEL_LEN_MAX {
            return None;
        }
        let mut bytes = [0; LABEL_LEN_MAX];
        bytes[..prefix.len()].copy_from_slice(prefix);
        for (to, from) in bytes[prefix.len()..].iter_mut().zip(text) {
            if !from.is_ascii_alphanumeric() && *from != b'-' {
                return None;
            }
            *to = from.to_ascii_lowercase();
        }
        Some(Self { bytes, len: len as u8 })
    }
}

/// The label of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndpointLabel {
    /// It spells this address. Of an odd host name, it may be another's.
    Spelled(IpAddr),
    Own(Label),
}

impl EndpointLabel {
    /// `None`: it is invalid.
    pub(super) fn of(endpoint: &ModelEndpoint<'_>) -> Option<Self> {
        match endpoint.label {
            None => Some(Self::Spelled(endpoint.address)),
            Some(label) => Label::read(label).map(Self::of_label),
        }
    }

    pub(super) fn of_label(label: Label) -> Self {
        AddressLabel::read(label.as_slice()).map_or(Self::Own(label), Self::Spelled)
    }

    pub(super) fn label(self) -> Label {
        match self {
            Self::Spelled(address) => Label::spelled(&AddressLabel::of_endpoint(address)),
            Self::Own(label) => label,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(label: Option<Label>, expected: Option<&str>) {
        assert_eq!(label.as_ref().map(Label::as_slice), expected.map(str::as_bytes));
    }

    #[test]
    fn names_and_ports() {
        let longest = "a".repeat(63);
        check(Label::read("web"), Some("web"));
        check(Label::read("Web-0"), Some("web-0"));
        check(Label::read(&longest), Some(&longest));
        check(Label::underscored("http"), Some("_http"));
        check(Label::underscored(&longest[1..]), Some(&format!("_{}", &longest[1..])));
        for text in ["", "a.b", "a b", "_a", "*", "é", &format!("{longest}a")] {
            check(Label::read(text), None);
        }
        check(Label::underscored(""), None);
        check(Label::underscored(&longest), None);
    }

    #[test]
    fn pods() {
        for (address, pod) in [
            ("10.1.0.1", "10-1-0-1"),
            ("fd00:244:2::e", "fd00-244-2--e"),
            ("fd00:1::", "fd00-1--"),
            ("::1", "--1"),
            ("::", "--"),
            ("::ffff:10.1.0.1", "10-1-0-1"),
        ] {
            let address = address.parse().unwrap();
            check(Some(Label::of_pod(address)), Some(pod));
        }
    }
}
