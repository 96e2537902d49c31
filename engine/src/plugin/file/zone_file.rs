//! Reads the format of a zone file (RFC 1035, section 5): bytes to the records of a zone.
//!
//! `domain` parses it, as `zone_text` has rewritten it. No file is opened here: the caller reads
//! those of `$INCLUDE`. Invariant: no name has a zero byte in a label, because tables compare names
//! in padded blocks.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use domain::base::ToName as _;
use domain::base::iana::{Class, Rtype};
use domain::base::name::{Name, ParsedName};
use domain::base::rdata::{ComposeRecordData as _, ParseRecordData as _};
use domain::dep::octseq::Parser;
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, ScannedRecord, ScannedRecordData, Zonefile};
use wire::compile::{ZoneRecord, ZoneRecords};

use super::zone_text::{self, TextMistake, TtlInForce, ZoneText};
use crate::corefile::value::zone::Zone;
use crate::limits::{ZONE_FILE_LEN_MAX, ZONE_INCLUDE_DEPTH_MAX, ZONE_RECORDS_MAX};

/// Reads a file of this path, up to `ZONE_FILE_LEN_MAX` bytes and one more.
pub type ReadFile<'f> = &'f mut dyn FnMut(&Path) -> io::Result<Vec<u8>>;

/// Why a zone file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFileError(String);

impl fmt::Display for ZoneFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ZoneFileError {}

/// A zone as its file has it.
pub struct ReadZone {
    pub records: ZoneRecords,
    /// Records outside the zone, which are ignored.
    pub outside_count: usize,
}

/// Reads a zone. `bytes`: those of `path`. `read_file` is called for each `$INCLUDE`.
///
/// # Errors
/// Where the file is wrong, and how.
pub fn read(
    zone: &Zone,
    path: &Path,
    bytes: &[u8],
    read_file: ReadFile<'_>,
) -> Result<ReadZone, ZoneFileError> {
    let mut reading = ZoneFileReading {
        zone,
        path,
        records: Vec::new(),
        outside_count: 0,
        len_left: ZONE_FILE_LEN_MAX,
    };
    let start = FileStart { origin: zone.wire.clone(), ttl: None, depth: 0 };
    // No file may end the task that reads it, not even one that the parser was not made for.
    let parsed = catch_unwind(AssertUnwindSafe(|| reading.file(path, bytes, &start, read_file)));
    match parsed {
        Ok(read) => read?,
        Err(_) => return Err(reading.error(path, None, "the parser has failed; please report it")),
    }
    let ZoneFileReading { records, outside_count, .. } = reading;
    let Some(records) = ZoneRecords::new(&zone.wire, records) else {
        let (path, zone) = (path.display(), &zone.text);
        return Err(ZoneFileError(format!("file \"{path}\" has no SOA record for origin {zone}")));
    };
    Ok(ReadZone { records, outside_count })
}

/// The records of a file and of those that it includes.
struct ZoneFileReading<'z> {
    zone: &'z Zone,
    /// The outermost file.
    path: &'z Path,
    records: Vec<ZoneRecord>,
    outside_count: usize,
    /// Bytes that the files may still have.
    len_left: usize,
}

/// Where a file starts from.
struct FileStart {
    /// Wire format.
    origin: Vec<u8>,
    /// At the `$INCLUDE`.
    ttl: Option<TtlInForce>,
    /// The number of files around it.
    depth: usize,
}

impl ZoneFileReading<'_> {
    fn file(
        &mut self,
        path: &Path,
        bytes: &[u8],
        start: &FileStart,
        read_file: ReadFile<'_>,
    ) -> Result<(), ZoneFileError> {
        let Some(len_left) = self.len_left.checked_sub(bytes.len()) else {
            let problem = format!("the zone is longer than {ZONE_FILE_LEN_MAX} bytes");
            return Err(self.error(path, None, &problem));
        };
        self.len_left = len_left;
        let ZoneText { mut text, include_ttls, mistake } =
            zone_text::rewrite(bytes, start.ttl, &start.origin);
        // A quoted word at the end of its buffer makes `domain` panic.
        text.push(b'\n');
        let mut include_ttls = include_ttls.into_iter();
        let mut zonefile = Zonefile::from(text.as_slice());
        zonefile.set_origin(Name::from_octets(start.origin.clone().into()).expect("a whole name"));
        zonefile.set_default_class(Class::IN);
        loop {
            match zonefile.next_entry() {
                Ok(None) => {
                    return mistake.map_or(Ok(()), |TextMistake { line, problem }| {
                        Err(self.error(path, Some(line), &problem))
                    });
                }
                Ok(Some(Entry::Record(record))) => self.record(path, &record)?,
                Ok(Some(Entry::Include { path: included, origin })) => {
                    let origin = origin.or_else(|| zonefile.origin().ok());
                    let origin = origin
                        .map_or_else(|| start.origin.clone(), |name| name.as_slice().to_vec());
                    let ttl = include_ttls.next().flatten();
                    let inner = FileStart { origin, ttl, depth: start.depth + 1 };
                    self.include(path, &included, &inner, read_file)?;
                }
                Err(error) => {
                    let (line, problem) = line_of(&error.to_string());
                    return Err(self.error(path, line, &problem));
                }
            }
        }
    }

    /// Reads an included file. A relative path starts at the folder of the file that names it.
    fn include(
        &mut self,
        from: &Path,
        included: &str,
        start: &FileStart,
        read_file: ReadFile<'_>,
    ) -> Result<(), ZoneFileError> {
        let path: PathBuf = from.parent().unwrap_or_else(|| Path::new("")).join(included);
        if start.depth > ZONE_INCLUDE_DEPTH_MAX {
            let problem = format!("too deeply nested $INCLUDE of {}", path.display());
            return Err(self.error(from, None, &problem));
        }
        match read_file(&path) {
            Ok(bytes) => self.file(&path, &bytes, start, read_file),
            Err(error) => {
                let problem =
                    format!("failed to open `{included}' as `{}': {error}", path.display());
                Err(self.error(from, None, &problem))
            }
        }
    }

    fn record(&mut self, path: &Path, record: &ScannedRecord) -> Result<(), ZoneFileError> {
        let owner = record.owner().to_vec().as_slice().to_ascii_lowercase();
        let shown = record.owner();
        let rtype = record.rtype();
        if owner.split_last().is_some_and(|(_, labels)| has_zero_in_label(labels)) {
            return Err(self.error(path, None, &format!("{shown} has a zero byte in a label")));
        }
        match rtype {
            Rtype::SOA if owner != self.zone.wire => {
                let (file, zone) = (self.path.display(), &self.zone.text);
                return Err(ZoneFileError(format!(
                    "file \"{file}\" has SOA owner {shown}. that does not match origin {zone}"
                )));
            }
            Rtype::NSEC3 | Rtype::NSEC3PARAM => {
                let zone = &self.zone.text;
                return Err(ZoneFileError(format!(
                    "NSEC3 zone is not supported, dropping RR: {shown}. for zone: {zone}"
                )));
            }
            _ if matches!(rtype.to_int(), 0 | 0xFFFF) => {
                return Err(self.error(
                    path,
                    None,
                    &format!("{shown} has a record of type {rtype}"),
                ));
            }
            _ => {}
        }
        if self.records.len() == ZONE_RECORDS_MAX {
            let problem = format!("the zone has more than {ZONE_RECORDS_MAX} records");
            return Err(self.error(path, None, &problem));
        }
        if !is_valid(record.data()) {
            return Err(self.error(path, None, &format!("{shown} {rtype} has malformed data")));
        }
        let mut rdata = Vec::new();
        record.data().compose_rdata(&mut rdata).expect("a Vec takes all");
        if rdata.len() > usize::from(u16::MAX) {
            return Err(self.error(path, None, &format!("{shown} {rtype} has too much data")));
        }
        if !is_in(&owner, &self.zone.wire) {
            self.outside_count += 1;
            return Ok(());
        }
        self.records.push(ZoneRecord {
            owner: owner.into(),
            rtype: rtype.to_int(),
            ttl_secs: record.ttl().as_secs(),
            rdata: rdata.into(),
        });
        Ok(())
    }

    /// In CoreDNS's words, and with the place.
    fn error(&self, path: &Path, line: Option<usize>, problem: &str) -> ZoneFileError {
        let (file, zone) = (self.path.display(), &self.zone.text);
        let place = match line {
            Some(line) => format!("{}:{line}", path.display()),
            None => path.display().to_string(),
        };
        ZoneFileError(format!(
            "failed to parse file \"{file}\" for origin {zone} with error {place}: {problem}"
        ))
    }
}

/// Whether data is as its type has it. `domain` makes valid data, but takes hexadecimal digits (RFC
/// 3597, section 5) as they are.
pub(in crate::plugin) fn is_valid(data: &ScannedRecordData) -> bool {
    let ZoneRecordData::Unknown(unknown) = data else { return true };
    let bytes: &[u8] = unknown.data();
    let mut again = Vec::with_capacity(bytes.len());
    type Parsed<'b> = ZoneRecordData<&'b [u8], ParsedName<&'b [u8]>>;
    match Parsed::parse_rdata(unknown.rtype(), &mut Parser::from_ref(bytes)) {
        // Not a byte more, and no pointer in a name.
        Ok(Some(parsed)) => parsed.compose_rdata(&mut again).is_ok() && again == bytes,
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The line and the problem of `LINE:COLUMN: PROBLEM`, as `domain` shows a mistake. It has read the
/// line feed when it finds one in the last word of a line. Rewriting has moved columns.
fn line_of(shown: &str) -> (Option<usize>, String) {
    let Some((place, problem)) = shown.split_once(": ") else { return (None, shown.to_owned()) };
    let place = place.split_once(':').and_then(|(line, column)| {
        let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
        Some(if column <= 1 && line > 1 { line - 1 } else { line })
    });
    (place, problem.to_owned())
}

/// Whether labels in wire format have a zero byte. `labels`: without the root label.
fn has_zero_in_label(labels: &[u8]) -> bool {
    // A length byte is not zero, since the root label comes last.
    labels.contains(&0)
}

/// Whether a name is at or below a zone, both in wire format and lower case.
fn is_in(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        rest = &rest[1 + usize::from(rest[0])..];
    }
    rest == zone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Files that may be included.
    const FILES: [(&str, &str); 6] = [
        ("a/sub", "www A 192.0.2.1\n$ORIGIN x.test.\nwww A 192.0.2.1\n$INCLUDE deeper\n"),
        ("a/deeper", "deep A 192.0.2.1\n"),
        ("a/loop", "$INCLUDE loop\n"),
        ("a/broken", "\n\nwww A x\n"),
        ("a/empty", "\nx PTR a..b\n"),
        ("a/quoted", "inner TXT \"x \""),
    ];

    const SOA: &str = "@ 60 SOA ns hostmaster 7 1h 1h 1h 1h\n";

    fn read_text(text: &[u8]) -> Result<ReadZone, ZoneFileError> {
        let zone = Zone::from_name("test").unwrap();
        let mut read_file = |path: &Path| {
            let file = FILES.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| text.as_bytes().to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        read(&zone, Path::new("a/db"), text, &mut read_file)
    }

    #[test]
    fn zones() {
        for (lines, outside_count) in [
            ("", 0),
            ("www.other. A 192.0.2.1\nwww A 192.0.2.1\nxtest. A 192.0.2.1\n", 2),
            ("$INCLUDE sub\n", 0),
            // Without a line feed.
            ("@ TXT \"x \"", 0),
            ("$INCLUDE quoted", 0),
            ("$INCLUDE sub part\n$INCLUDE sub other.\n", 1),
            ("a CNAME \\# 3 016100\nb A \\# 4 01020304\n", 0),
            ("a RRSIG \\# 20 00010801000000010000000100000001000700ff\n", 0),
            ("a TYPE65280 \\# 1 00\n\\000 NS x\n", usize::MAX),
        ] {
            let read = read_text(format!("{SOA}{lines}").as_bytes());
            match read {
                Ok(read) => {
                    assert_eq!((read.outside_count, read.records.serial()), (outside_count, 7))
                }
                Err(error) => assert_eq!(outside_count, usize::MAX, "{lines}: {error}"),
            }
        }
    }

    #[test]
    fn mistakes_have_their_place() {
        const PARSE: &str = "failed to parse file \"a/db\" for origin test. with error ";
        for (text, expected) in [
            ("www A 192.0.2.1\n", "file \"a/db\" has no SOA record for origin test.".to_owned()),
            (
                "x 60 SOA ns hostmaster 7 1h 1h 1h 1h\n",
                "file \"a/db\" has SOA owner x.test. that does not match origin test.".to_owned(),
            ),
            (
                &format!("{SOA}@ NSEC3PARAM 1 0 1 AA\n"),
                "NSEC3 zone is not supported, dropping RR: test. for zone: test.".to_owned(),
            ),
            (&format!("{SOA}\nwww A 192.0.2\n"), format!("{PARSE}a/db:3: ")),
            (&format!("{SOA}$TTL 1h\n\n$GENERATE 1-9 a A 192.0.2.$\n"), format!("{PARSE}a/db:4: ")),
            (&format!("{SOA}$TTL 1h\n$INCLUDE broken\n"), format!("{PARSE}a/broken:3: ")),
            (
                &format!("{SOA}$ORIGIN x\n\na HIP 2 00 AQ\n"),
                format!("{PARSE}a/db:4: data of the type HIP cannot be written as text; write "),
            ),
            (
                &format!("{SOA}a AFSDB x b\nc A x\n"),
                format!(
                    "{PARSE}a/db:2: bad AFSDB data: a number up to 65535 expected, and not `x`"
                ),
            ),
            (&format!("{SOA}c A x\na AFSDB x b\n"), format!("{PARSE}a/db:2: ")),
            (&format!("{SOA}\nx TXT ( \"a\"\n\n"), format!("{PARSE}a/db:3: a parenthesis is not")),
            (&format!("{SOA}x LOC ( 1\n"), format!("{PARSE}a/db:2: a parenthesis is not closed")),
            (&format!("{SOA}$INCLUDE none\n"), format!("{PARSE}a/db: failed to open `none' as ")),
            (
                &format!("{SOA}$INCLUDE loop\n"),
                format!("{PARSE}a/loop: too deeply nested $INCLUDE"),
            ),
            (&format!("{SOA}\\000.a A 192.0.2.1\n"), format!("{PARSE}a/db: ")),
            (&format!("{SOA}x TXT \"\n\n\" \"\n\"\n\nx A x\n"), format!("{PARSE}a/db:7: ")),
            (&format!("{SOA}\nx CNAME a..b\n"), format!("{PARSE}a/db:3: bad name")),
            (&format!("{SOA}m MX 10 a..b.\n\n"), format!("{PARSE}a/db:2: bad name")),
            (&format!("{SOA}s (SRV 1\n2 3\na..)\n"), format!("{PARSE}a/db:4: bad name")),
            (&format!("{SOA}a..b A 192.0.2.1\n"), format!("{PARSE}a/db:2: bad name")),
            (&format!("{SOA}$ORIGIN a..b\n"), format!("{PARSE}a/db:2: bad name")),
            (&format!("{SOA}$TTL 1\n$INCLUDE empty\n"), format!("{PARSE}a/empty:2: bad name")),
            (
                &format!("{SOA}a CNAME \\# 2 0161\n"),
                format!("{PARSE}a/db: a.test CNAME has malformed data"),
            ),
            (&format!("{SOA}a CNAME \\# 4 01610000\n"), format!("{PARSE}a/db: ")),
            (&format!("{SOA}a CNAME \\# 2 C000\n"), format!("{PARSE}a/db: ")),
            (&format!("{SOA}a A \\# 3 010203\n"), format!("{PARSE}a/db: ")),
            (&format!("{SOA}a TYPE65535 \\# 1 00\n"), format!("{PARSE}a/db: ")),
        ] {
            let error = read_text(text.as_bytes()).err().expect("a mistake").to_string();
            assert!(error.starts_with(&expected), "{text}\n{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_text(&bytes);
            let _ = read_text(&[SOA.as_bytes(), &bytes].concat());
        }

        #[test]
        fn any_words_have_an_outcome(words in prop::collection::vec(prop::sample::select(&[
            "@", "a", "1h", "IN", "A", "192.0.2.1", "TXT", "\"x", "\"", "(", ")", "\n", ";", "SOA",
            "$TTL", "$ORIGIN", "$INCLUDE", "sub", "RRSIG", "NSEC", "DNAME", "\\", "\\0", "*", ".",
            "AFSDB", "APL", "SPF", "1",
        ][..]), 0..40)) {
            let _ = read_text(format!("{SOA}{}", words.join(" ")).as_bytes());
        }
    }
}
