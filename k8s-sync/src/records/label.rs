//! One label of a name, as spelled in the API server's objects.
//!
//! Invariant: 1 to 63 bytes of letters, digits and hyphens in lower case (RFC 1123, section 2.1),
//! after at most one underscore of ours.

use std::fmt::{self, Write};
use std::net::IpAddr;

use wire::endpoint::AddressLabel;

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

    /// The address of an endpoint without a name.
    pub(super) fn of_address(address: IpAddr) -> Self {
        let label = AddressLabel::new(address);
        let spelled = std::str::from_utf8(label.as_slice()).ok().and_then(Self::read);
        spelled.expect("hexadecimal digits and hyphens")
    }

    /// The address of a pod, as used by `pods verified`.
    pub(super) fn of_pod(address: IpAddr) -> Self {
        let mut label = Self { bytes: [0; LABEL_LEN_MAX], len: 0 };
        write!(label, "{}", address.to_canonical()).expect("an address has at most 39 characters");
        label
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

/// Accepts the text of an address. Dots and colons become hyphens.
impl Write for Label {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let to = self.bytes.get_mut(usize::from(self.len)).ok_or(fmt::Error)?;
            *to = if matches!(byte, b'.' | b':') { b'-' } else { byte };
            self.len += 1;
        }
        Ok(())
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
