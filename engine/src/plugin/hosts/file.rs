//! Reads the format of a hosts file, as CoreDNS's `hosts` does: bytes to entries.
//!
//! A line is an address and its names. `#` begins a comment, even within a word. As in CoreDNS,
//! lines without an address, invalid names and names outside the zones are ignored without a
//! message. No file is opened here. Invariant: the name of an entry is valid and in one of the
//! zones.

use std::fmt;
use std::net::IpAddr;

use wire::name::Name;
use wire::zone::ZoneSet;

use crate::corefile::value::zone::Zone;
use crate::limits::{HOSTS_ENTRIES_MAX, HOSTS_FILE_LEN_MAX};

/// An address and one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// An IPv4-mapped IPv6 address is the IPv4 address.
    pub address: IpAddr,
    /// Wire format, lower case, uncompressed.
    pub name: Box<[u8]>,
}

impl HostEntry {
    /// Whether the leftmost label is `*`: it stands for one label, and has no PTR record.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.name.starts_with(b"\x01*")
    }
}

/// Why a hosts file is not used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostsFileError {
    TooLong,
    TooManyEntries,
}

impl fmt::Display for HostsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {HOSTS_FILE_LEN_MAX} bytes"),
            Self::TooManyEntries => write!(f, "it has more than {HOSTS_ENTRIES_MAX} entries"),
        }
    }
}

impl std::error::Error for HostsFileError {}

/// The entries of a file, in its order.
///
/// # Errors
/// A file beyond the limits.
pub fn read(bytes: &[u8], zones: &ZoneSet) -> Result<Vec<HostEntry>, HostsFileError> {
    if bytes.len() > HOSTS_FILE_LEN_MAX {
        return Err(HostsFileError::TooLong);
    }
    read_entries(bytes, zones, HOSTS_ENTRIES_MAX)
}

fn read_entries(
    bytes: &[u8],
    zones: &ZoneSet,
    count_max: usize,
) -> Result<Vec<HostEntry>, HostsFileError> {
    let mut entries = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut words = words(line);
        let Some(address) = words.next().and_then(address) else { continue };
        for name in words.filter_map(name).filter(|name| is_in(name, zones)) {
            if entries.len() == count_max {
                return Err(HostsFileError::TooManyEntries);
            }
            entries.push(HostEntry { address, name });
        }
    }
    Ok(entries)
}

/// The words of a line, up to its comment.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let comment_at = line.iter().position(|byte| *byte == b'#');
    let words = line[..comment_at.unwrap_or(line.len())].split(|byte| is_blank(*byte));
    words.filter(|word| !word.is_empty())
}

/// Go's `isSpace`, which counts the vertical tab and not NUL.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r')
}

/// An IP address; a `%` and what follows it are ignored.
pub(super) fn address(word: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(word).ok()?;
    let text = text.split_once('%').map_or(text, |(address, _interface)| address);
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// A host's name in wire format.
pub(super) fn name(word: &[u8]) -> Option<Box<[u8]>> {
    if word.len() > NAME_TEXT_LEN_MAX {
        return None;
    }
    let zone = Zone::from_name(std::str::from_utf8(word).ok()?).ok()?;
    // Names are compared in padded blocks, so a zero byte within a label is not told from the end.
    let (root, labels) = zone.wire.split_last()?;
    (*root == 0 && !labels.contains(&0)).then(|| zone.wire.as_slice().into())
}

/// Bytes of the longest name as text, with every byte written as `\DDD`.
const NAME_TEXT_LEN_MAX: usize = 1024;

/// Whether the name is in one of the zones.
pub(super) fn is_in(name: &[u8], zones: &ZoneSet) -> bool {
    Name::from_wire(name).is_some_and(|name| zones.find(&name).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zones(zones: &[&str]) -> ZoneSet {
        let zones = zones.iter().map(|zone| Zone::from_name(zone).unwrap());
        Zone::set(&zones.collect::<Vec<_>>())
    }

    /// Entries as `ADDRESS NAME`, the name with a final dot.
    fn shown(entries: &[HostEntry]) -> Vec<String> {
        let entries = entries.iter().map(|entry| format!("{} {}", entry.address, text(entry)));
        entries.collect()
    }

    fn text(entry: &HostEntry) -> String {
        dotted(&entry.name, |label| String::from_utf8_lossy(label).into_owned())
    }

    /// The labels as `shown`, each with a dot.
    fn dotted(name: &[u8], shown: impl Fn(&[u8]) -> String) -> String {
        let mut text = String::new();
        let mut rest = name;
        while let [len, others @ ..] = rest
            && *len > 0
        {
            let (label, others) = others.split_at(usize::from(*len));
            text += &shown(label);
            text.push('.');
            rest = others;
        }
        if text.is_empty() { ".".to_owned() } else { text }
    }

    fn check(file: &[u8], in_zones: &[&str], expected: &[&str]) {
        let entries = read(file, &zones(in_zones)).unwrap();
        assert_eq!(shown(&entries), expected, "{}", file.escape_ascii());
    }

    #[test]
    fn lines() {
        check(b"", &["."], &[]);
        check(b"10.0.0.1 db.lan", &["."], &["10.0.0.1 db.lan."]);
        check(
            b"10.0.0.1\tDB.Lan.  db\r\n\n \x0b\x0c::1 six # seven\n10.0.0.2 x#y z\n#10.0.0.3 w\n",
            &["."],
            &["10.0.0.1 db.lan.", "10.0.0.1 db.", "::1 six.", "10.0.0.2 x."],
        );
        // Lines without an address, and an address without a name.
        check(b"db.lan 10.0.0.1\n10.0.0 x\n010.0.0.1 x\n10.0.0.1\n 1 x\n", &["."], &[]);
        check(
            b"fe80::1%eth0 link\n10.0.0.1%eth0 four\n::ffff:10.0.0.2 mapped\n%eth0 none\n",
            &["."],
            &["fe80::1 link.", "10.0.0.1 four.", "10.0.0.2 mapped."],
        );
        // A carriage return alone is a blank, and so ends no line.
        check(
            b"10.0.0.1 a\r10.0.0.2 b",
            &["."],
            &["10.0.0.1 a.", "10.0.0.1 10.0.0.2.", "10.0.0.1 b."],
        );
    }

    #[test]
    fn names() {
        let long = "a".repeat(64);
        let many = "a.".repeat(128);
        let line = format!("10.0.0.1 a..b .a {long} {many} {} ok", "x".repeat(5000));
        check(line.as_bytes(), &["."], &["10.0.0.1 ok."]);
        check(
            b"10.0.0.1 \xff x\xc3\xbc \\195\\188 a\\.b .\n",
            &["."],
            &["10.0.0.1 xü.", "10.0.0.1 ü.", "10.0.0.1 a.b.", "10.0.0.1 ."],
        );
        check(b"10.0.0.1 a\\000 b.\\000c ok", &["."], &["10.0.0.1 ok."]);
        check(
            b"10.0.0.1 *.lan a.*.lan **.lan *\n",
            &["."],
            &["10.0.0.1 *.lan.", "10.0.0.1 a.*.lan.", "10.0.0.1 **.lan.", "10.0.0.1 *."],
        );
        let entries = read(b"10.0.0.1 *.lan a.*.lan **.lan *", &zones(&["."])).unwrap();
        let wildcards: Vec<bool> = entries.iter().map(HostEntry::is_wildcard).collect();
        assert_eq!(wildcards, [true, false, false, true]);
    }

    #[test]
    fn only_names_in_the_zones_count() {
        check(
            b"10.0.0.1 lan a.LAN a.xlan b.test c",
            &["lan", "test"],
            &["10.0.0.1 lan.", "10.0.0.1 a.lan.", "10.0.0.1 b.test."],
        );
        check(b"10.0.0.1 a", &[], &[]);
    }

    #[test]
    fn a_file_beyond_the_limits_is_refused() {
        let zones = zones(&["."]);
        assert_eq!(read(&vec![b'#'; HOSTS_FILE_LEN_MAX], &zones), Ok(Vec::new()));
        let longer = vec![b'#'; HOSTS_FILE_LEN_MAX + 1];
        assert_eq!(read(&longer, &zones), Err(HostsFileError::TooLong));
        let four = b"::1 a b\n::2 c\n::3 d";
        assert_eq!(read_entries(four, &zones, 4).map(|entries| entries.len()), Ok(4));
        assert_eq!(read_entries(four, &zones, 3), Err(HostsFileError::TooManyEntries));
    }

    fn any_name() -> impl Strategy<Value = Box<[u8]>> {
        let label = prop::collection::vec(1..=u8::MAX, 1..20);
        prop::collection::vec(label, 0..8).prop_map(|labels| {
            let mut name = Vec::new();
            for label in labels {
                name.push(label.len() as u8);
                name.extend(label.to_ascii_lowercase());
            }
            name.push(0);
            name.into()
        })
    }

    /// A name with all its bytes as `\DDD`.
    fn escaped(name: &[u8]) -> String {
        dotted(name, |label| label.iter().map(|byte| format!("\\{byte:03}")).collect())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let entries = read(&bytes, &zones(&["."])).unwrap();
            prop_assert!(entries.iter().all(|entry| Name::from_wire(&entry.name).is_some()));
        }

        #[test]
        fn what_is_written_is_read(
            entries in prop::collection::vec((any::<IpAddr>(), any_name()), 0..10),
        ) {
            let mut file = String::new();
            let mut expected = Vec::new();
            for (address, name) in entries {
                file += &format!("{address} {}\n", escaped(&name));
                expected.push(HostEntry { address: address.to_canonical(), name });
            }
            prop_assert_eq!(read(file.as_bytes(), &zones(&["."])).unwrap(), expected);
        }
    }
}
