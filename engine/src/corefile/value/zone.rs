//! Zone names, and the reverse zones of a CIDR.
//!
//! Invariant: a `Zone`'s `wire` is a whole name of 1 to 255 bytes in lower case (RFC 1035, section
//! 3.1).

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::zone::ZoneSet;

use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;

/// A zone's name as text and in wire format.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Lower case, ends with a dot.
    pub text: String,
    /// Wire format, lower case, uncompressed.
    pub wire: Vec<u8>,
}

/// The zones whose names stand for addresses.
pub(crate) const REVERSE_ZONES: [&str; 2] = ["in-addr.arpa.", "ip6.arpa."];

/// Escapes spell one zone in several ways.
impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.wire == other.wire
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire.hash(state);
    }
}

impl Zone {
    /// The root zone, which contains every name.
    #[must_use]
    pub fn root() -> Self {
        Self { text: ".".to_owned(), wire: vec![0] }
    }

    /// A set of zones to look names up in.
    pub fn set<'z>(zones: impl IntoIterator<Item = &'z Self>) -> ZoneSet {
        ZoneSet::new(&zones.into_iter().map(|zone| &zone.wire).collect::<Vec<_>>())
    }

    /// Whether names in the zone stand for addresses: `in-addr.arpa`, `ip6.arpa` or below.
    #[must_use]
    pub fn is_reverse(&self) -> bool {
        REVERSE_ZONES.iter().any(|tree| {
            self.text.strip_suffix(tree).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Whether `other` is this zone or below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let mut rest = other.wire.as_slice();
        while rest.len() > self.wire.len() {
            let Some(below) = rest.first().and_then(|len| rest.get(1 + usize::from(*len)..)) else {
                return false;
            };
            rest = below;
        }
        rest == self.wire
    }

    /// Whether a name may be both in one of these zones and in one of the others.
    #[must_use]
    pub fn any_meet(zones: &[Self], others: &[Self]) -> bool {
        let meet = |one: &Self, other: &Self| one.contains(other) || other.contains(one);
        zones.iter().any(|one| others.iter().any(|other| meet(one, other)))
    }

    /// Parses a name in the syntax of zone files: `\.` and `\DDD` escapes, the final dot is
    /// optional. As in CoreDNS any character is allowed; `oddity` reports those that are probably
    /// mistakes.
    pub(crate) fn from_name(text: &str) -> Result<Self, Refusal> {
        if text == "." {
            return Ok(Self::root());
        }
        let refusal = || {
            Refusal::new(
                format!("zone is not a valid domain name: {}", quoted(text)),
                "not a domain name",
            )
        };
        if text.is_empty() {
            return Err(refusal().help("write `.` for the root zone"));
        }
        if text.chars().any(char::is_control) {
            return Err(refusal().help("a name has no such character"));
        }
        let wire = wire(text).ok_or_else(|| match text.strip_suffix('{') {
            Some(zone) => refusal().help(format!("write `{} {{`", quoted(zone))),
            None => refusal().help("each label between two dots has 1 to 63 bytes, the name 255"),
        })?;
        let mut text = text.to_ascii_lowercase();
        // The name ends with a dot unless the last one is escaped.
        let escapes = text.trim_end_matches('.').chars().rev().take_while(|c| *c == '\\').count();
        if !text.ends_with('.') || escapes % 2 == 1 {
            text.push('.');
        }
        Ok(Self { text, wire })
    }
}

/// Why a valid name was probably not meant as a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Oddity {
    /// A short description.
    pub(crate) label: &'static str,
    /// What to write instead.
    pub(crate) help: String,
}

/// What is unusual about a name.
pub(crate) fn oddity(text: &str) -> Option<Oddity> {
    let odd = |label, help: &str| Some(Oddity { label, help: help.to_owned() });
    if reverse_zones(text).is_some() {
        return None;
    }
    if let Some(zone) = text.strip_suffix('{') {
        let help = format!(
            "write `{} {{`: without a space before it, the brace is part of the name, as in \
             CoreDNS",
            quoted(zone)
        );
        return Some(Oddity { label: "the brace is part of this word", help });
    }
    if let Some((scheme, _)) = text.split_once("://") {
        let help = format!("`{}://` is not a scheme: write the zone without it", quoted(scheme));
        return Some(Oddity { label: "all of this is read as the name", help });
    }
    let is_odd = |c: &char| c.is_whitespace() || "{}(),:\"[]".contains(*c);
    match text.chars().find(is_odd) {
        Some(',') => return odd("the comma is part of this word", "write a space after the comma"),
        Some(':') => {
            return odd("the colon is part of the name", "a port is a number after the last colon");
        }
        Some('{' | '}' | '(' | ')') => {
            return odd("a name has no such character", "write the brace with spaces around it");
        }
        Some(_) => return odd("a name has no such character", "delete it, or the whole word"),
        None => {}
    }
    if let Some((address, _)) = text.rsplit_once('/')
        && let Ok(address) = address.parse::<IpAddr>()
    {
        let len_max = if address.is_ipv4() { 32 } else { 128 };
        let help = format!("the length after `/` is 0 to {len_max}");
        return Some(Oddity { label: "not a CIDR", help });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let len = if address.is_ipv4() { 32 } else { 128 };
        let help = format!("the reverse zone of an address is written `{address}/{len}`");
        return Some(Oddity { label: "looks like an address", help });
    }
    if text.parse::<u64>().is_ok() {
        return odd("looks like a number", "write a zone, or delete it");
    }
    if super::duration::read(text).is_ok() {
        return odd("looks like a duration", "write a zone, or delete it");
    }
    None
}

/// The zone of a name, or the reverse zones that cover a CIDR: split at octets for IPv4, at nibbles
/// for IPv6, at most 128 zones.
pub(crate) fn expand(text: &str) -> Result<Vec<Zone>, Refusal> {
    match reverse_zones(text) {
        Some(names) => names.iter().map(|name| Zone::from_name(name)).collect(),
        None => Ok(vec![Zone::from_name(text)?]),
    }
}

/// The reverse zones that cover a CIDR; `None` if the text is not a CIDR but a name.
fn reverse_zones(text: &str) -> Option<Vec<String>> {
    let (address, len) = text.rsplit_once('/')?;
    match (address.parse().ok()?, len.parse::<u32>().ok()?) {
        (IpAddr::V4(address), len @ 0..=32) => Some(octet_zones(address, len)),
        (IpAddr::V6(address), len @ 0..=128) => Some(nibble_zones(address, len)),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    }
}

/// `len` is 0..=32.
fn octet_zones(address: Ipv4Addr, len: u32) -> Vec<String> {
    let boundary = len.next_multiple_of(8);
    let bits = u32::from(address) & u32::MAX.checked_shl(32 - len).unwrap_or(0);
    let zone = |index: u32| {
        let network = bits | index.checked_shl(32 - boundary).unwrap_or(0);
        let octets = network.to_be_bytes();
        let kept = octets.iter().take((boundary / 8) as usize);
        kept.rev().map(|octet| format!("{octet}.")).collect::<String>() + "in-addr.arpa."
    };
    (0..1u32 << (boundary - len)).map(zone).collect()
}

/// `len` is 0..=128.
fn nibble_zones(address: Ipv6Addr, len: u32) -> Vec<String> {
    let boundary = len.next_multiple_of(4);
    let bits = u128::from(address) & u128::MAX.checked_shl(128 - len).unwrap_or(0);
    let zone = |index: u128| {
        let network = bits | index.checked_shl(128 - boundary).unwrap_or(0);
        let nibbles = (0..boundary / 4).rev().map(|at| (network >> (124 - 4 * at)) & 0xf);
        nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa."
    };
    (0..1u128 << (boundary - len)).map(zone).collect()
}

/// `None` for an empty label, one of more than 63 bytes, a bad escape, or a name of more than 255
/// bytes.
fn wire(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    let mut label = Vec::new();
    let mut rest = text.bytes();
    loop {
        let byte = rest.next();
        match byte {
            Some(b'.') | None => {
                if label.is_empty() || label.len() > 63 {
                    return None;
                }
                wire.push(label.len() as u8);
                wire.append(&mut label);
                if byte.is_none() || rest.len() == 0 {
                    break;
                }
            }
            Some(b'\\') => label.push(escaped(&mut rest)?.to_ascii_lowercase()),
            Some(byte) => label.push(byte.to_ascii_lowercase()),
        }
    }
    wire.push(0);
    (wire.len() <= 255).then_some(wire)
}

/// The bytes after a backslash: three digits, or a character that stands for itself (RFC 1035,
/// section 5.1).
fn escaped(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = rest.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digits = [first, rest.next()?, rest.next()?];
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &[u8])]) {
        let zones = expand(text).unwrap_or_default();
        let found: Vec<_> = zones.iter().map(|z| (z.text.as_str(), z.wire.as_slice())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn names() {
        check(".", &[(".", b"\0")]);
        check("Cluster.Local", &[("cluster.local.", b"\x07cluster\x05local\0")]);
        check("cluster.local.", &[("cluster.local.", b"\x07cluster\x05local\0")]);
        check(
            "0/25.2.0.192.in-addr.arpa",
            &[("0/25.2.0.192.in-addr.arpa.", b"\x040/25\x012\x010\x03192\x07in-addr\x04arpa\0")],
        );
        check(r"a\.B\065", &[(r"a\.b\065.", b"\x04a.ba\0")]);
        check(r"a\.", &[(r"a\..", b"\x02a.\0")]);
        check(r"a\\.", &[(r"a\\.", b"\x02a\\\0")]);
        for refused in ["", "..", "a..b", ".a", ".a{", "a\nb", r"a\", r"a\25", r"\999"] {
            check(refused, &[]);
        }
        check(&"a".repeat(64), &[]);
        check(&"a.".repeat(128), &[]);
        assert_eq!(expand(&"a.".repeat(127)).map(|zones| zones.len()), Ok(1));
    }

    fn check_cidr(text: &str, count: usize, first: &str, last: &str) {
        let zones = expand(text).unwrap_or_default();
        assert_eq!(zones.len(), count, "{text}");
        assert_eq!(zones.first().map(|zone| zone.text.as_str()), Some(first), "{text}");
        assert_eq!(zones.last().map(|zone| zone.text.as_str()), Some(last), "{text}");
    }

    #[test]
    fn cidrs() {
        check_cidr("10.96.0.0/12", 16, "96.10.in-addr.arpa.", "111.10.in-addr.arpa.");
        check_cidr("10.0.0.0/8", 1, "10.in-addr.arpa.", "10.in-addr.arpa.");
        check_cidr("10.0.0.0/9", 128, "0.10.in-addr.arpa.", "127.10.in-addr.arpa.");
        check_cidr("192.168.1.1/23", 2, "0.168.192.in-addr.arpa.", "1.168.192.in-addr.arpa.");
        check_cidr("192.0.2.5/32", 1, "5.2.0.192.in-addr.arpa.", "5.2.0.192.in-addr.arpa.");
        check_cidr("0.0.0.0/0", 1, "in-addr.arpa.", "in-addr.arpa.");
        check_cidr("128.0.0.0/1", 128, "128.in-addr.arpa.", "255.in-addr.arpa.");
        check_cidr("2001:db8::/32", 1, "8.b.d.0.1.0.0.2.ip6.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa.");
        check_cidr("2001:db8::/31", 2, "8.b.d.0.1.0.0.2.ip6.arpa.", "9.b.d.0.1.0.0.2.ip6.arpa.");
        check_cidr("::/0", 1, "ip6.arpa.", "ip6.arpa.");
        check_cidr("8000::/1", 8, "8.ip6.arpa.", "f.ip6.arpa.");
        assert_eq!(expand("fd00::1/128").map(|zones| zones[0].text.len()), Ok(73));
        for name in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x"] {
            check_cidr(name, 1, &format!("{name}."), &format!("{name}."));
        }
    }

    #[test]
    fn oddities() {
        let check = |text: &str, expected: &str| {
            assert_eq!(oddity(text).map_or("", |oddity| oddity.label), expected, "{text}");
            assert!(Zone::from_name(text).is_ok(), "{text}");
        };
        for name in [
            ".",
            "cluster.local",
            "Cluster.Local.",
            "10.0.0.0/8",
            "2001:db8::/32",
            "::/0",
            "_tcp.a",
            "0/25.2.0.192.in-addr.arpa",
            "bücher.example",
            r"a\.b",
            "30s.example",
            "1h.",
            "5.",
            "3com",
            "h",
            "s",
            "local",
        ] {
            check(name, "");
        }
        check("a:5300{", "the brace is part of this word");
        check("a}", "a name has no such character");
        check("a b", "a name has no such character");
        check("a,b", "the comma is part of this word");
        check("a:http", "the colon is part of the name");
        check("foo://a", "all of this is read as the name");
        check("10.0.0.0/33", "not a CIDR");
        check("8.8.8.8", "looks like an address");
        check("30", "looks like a number");
        check("30s", "looks like a duration");
        check("1h30m", "looks like a duration");
        check("1.5h", "looks like a duration");
    }

    #[test]
    fn reverse_zones() {
        let check = |text: &str, expected: bool| {
            assert_eq!(Zone::from_name(text).map(|zone| zone.is_reverse()), Ok(expected), "{text}");
        };
        check("in-addr.arpa", true);
        check("10.in-addr.arpa", true);
        check("IP6.ARPA.", true);
        check("notip6.arpa", false);
        check("cluster.local", false);
        check(".", false);
    }

    #[test]
    fn escapes_spell_the_same_zone() {
        let zone = |text| Zone::from_name(text).unwrap();
        assert_eq!(zone("aa.Test."), zone(r"a\097.test"));
        assert_ne!(zone("aa.test"), zone("ab.test"));
    }

    #[test]
    fn containment() {
        let check = |outer: &str, inner: &str, expected: bool| {
            let [outer, inner] = [outer, inner].map(|text| Zone::from_name(text).expect("a name"));
            assert_eq!(outer.contains(&inner), expected, "{} {}", outer.text, inner.text);
        };
        check(".", ".", true);
        check(".", "cluster.local", true);
        check("cluster.local", "Cluster.Local.", true);
        check("cluster.local", "svc.cluster.local", true);
        check("cluster.local", "xcluster.local", false);
        check("cluster.local", "local", false);
        check("cluster.local", ".", false);
    }
}
