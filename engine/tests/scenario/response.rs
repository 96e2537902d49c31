//! A response as text, in the format of the scenarios, and whether it is the expected one.
//!
//! `domain` reads and writes records. Invariant: both sides of a comparison have been read from
//! text, so that names in data and unknown types are written the same way.

use std::fmt;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::name::{FlattenInto as _, Name, ParsedName};
use domain::base::opt::{OptRecord, UnknownOptData};
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt as _};
use domain::base::{Message, Record, Serial, Ttl};
use domain::rdata::{Soa, Srv, ZoneRecordData};
use domain::zonefile::inplace::{Entry, Zonefile};

/// The bits of a header's second 16 bits, in their order (RFC 1035, section 4.1.1; RFC 4035).
const FLAGS: [(&str, u16); 7] = [
    ("qr", 0x8000),
    ("aa", 0x0400),
    ("tc", 0x0200),
    ("rd", 0x0100),
    ("ra", 0x0080),
    ("ad", 0x0020),
    ("cd", 0x0010),
];

/// For how many seconds an `aged` record may have been in a cache.
const AGE_SECS_MAX: u32 = 3;

/// The prefixes of records that are not in the answer section.
const PREFIXES: [&str; 3] = ["", "authority: ", "additional: "];

pub type ZoneRecord = Record<Name<Vec<u8>>, ZoneRecordData<Vec<u8>, Name<Vec<u8>>>>;

/// What the scenarios compare of a message.
#[derive(Clone, Debug)]
pub struct Response {
    pub rcode: Rcode,
    /// The bits of `FLAGS`.
    pub flags: u16,
    pub opt: Option<Opt>,
    /// Of the OPT record: code and data.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Answer, authority, additional; without OPT.
    pub sections: [Vec<ZoneRecord>; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    /// The largest datagram that the sender accepts, as it says.
    pub udp_len: u16,
    pub dnssec_ok: bool,
}

/// A response as a scenario expects it.
pub struct Expected {
    pub response: Response,
    /// There is no response.
    pub is_nothing: bool,
    /// How many records the answer section has, instead of the records.
    answer_count: Option<usize>,
    /// The longest that the message may be, in bytes.
    len_max: usize,
    /// Whether the order inside an RRset matters.
    is_ordered: bool,
    /// Whether TTLs may be up to `AGE_SECS_MAX` lower.
    is_aged: bool,
    /// As it is in the file.
    text: String,
}

impl Expected {
    /// Parses what follows the arrow, and the lines of records.
    pub fn parse(head: &str, records: &[&str]) -> Result<Self, String> {
        let mut words = head.split_whitespace();
        let rcode = words.next().ok_or("the response code is missing")?;
        let is_nothing = rcode == "nothing";
        let rcode = match is_nothing {
            true => Rcode::NOERROR,
            false => rcode.parse().map_err(|_| format!("not a response code: {rcode}"))?,
        };
        let sections = Default::default();
        let response = Response { rcode, flags: 0, opt: None, options: Vec::new(), sections };
        let mut expected = Self {
            response,
            is_nothing,
            answer_count: None,
            len_max: usize::MAX,
            is_ordered: false,
            is_aged: false,
            text: head.trim().to_owned(),
        };
        for word in words {
            expected.add_word(word)?;
        }
        for line in records {
            expected.text += &format!("\n    {line}");
            let is_prefix = |prefix: &&str| line.starts_with(*prefix);
            let section = PREFIXES.iter().rposition(is_prefix).expect("'' is one of them");
            let record = read_record(&line[PREFIXES[section].len()..])?;
            expected.response.sections[section].push(record);
        }
        Ok(expected)
    }

    fn add_word(&mut self, word: &str) -> Result<(), String> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| format!("not a number: {word}"));
        match word.split_once('=') {
            None if word == "ordered" => self.is_ordered = true,
            None if word == "aged" => self.is_aged = true,
            Some(("flags", names)) => {
                for name in names.split(',') {
                    let flag = FLAGS.iter().find(|(known, _)| *known == name);
                    self.response.flags |= flag.ok_or_else(|| format!("unknown flag: {name}"))?.1;
                }
            }
            Some(("opt", opt)) => {
                let (len, dnssec_ok) = opt.strip_suffix(",do").map_or((opt, false), |o| (o, true));
                self.response.opt = Some(Opt { udp_len: number(len)?, dnssec_ok });
            }
            Some(("option", option)) => {
                let (code, hex) = option.split_once(':').unwrap_or((option, ""));
                let octets = hex.as_bytes().chunks(2).map(|octet| {
                    let octet = std::str::from_utf8(octet).unwrap_or_default();
                    u8::from_str_radix(octet, 16).map_err(|_| format!("not hexadecimal: {word}"))
                });
                let data = octets.collect::<Result<Vec<u8>, String>>()?;
                self.response.options.push((number(code)?, data));
            }
            Some(("answer", count)) => self.answer_count = Some(number(count)?.into()),
            Some(("len_max", len)) => self.len_max = number(len)?.into(),
            _ => return Err(format!("unknown word '{word}'")),
        }
        Ok(())
    }

    /// Whether the response, `len` bytes long, is the expected one.
    pub fn is(&self, response: &Response, len: usize) -> bool {
        let Response { rcode, flags, opt, options, sections } = response;
        let ours = &self.response;
        let are_same = |index: usize| self.are_same(&ours.sections[index], &sections[index]);
        let answer_is = match self.answer_count {
            Some(count) => sections[0].len() == count,
            None => are_same(0),
        };
        (*rcode, *flags, *opt) == (ours.rcode, ours.flags, ours.opt)
            && *options == ours.options
            && !self.is_nothing
            && len <= self.len_max
            && answer_is
            && are_same(1)
            && are_same(2)
    }

    fn are_same(&self, expected: &[ZoneRecord], got: &[ZoneRecord]) -> bool {
        let (expected, got) = (self.in_order(expected), self.in_order(got));
        let pair_is_same = |(expected, got): (&ZoneRecord, &ZoneRecord)| {
            // The equality of `domain` ignores the case of names and TTLs.
            let ages = 0..=if self.is_aged { AGE_SECS_MAX } else { 0 };
            let age = expected.ttl().as_secs().checked_sub(got.ttl().as_secs());
            expected == got && age.is_some_and(|age| ages.contains(&age))
        };
        expected.len() == got.len() && expected.iter().zip(&got).all(pair_is_same)
    }

    /// The records with each RRset sorted, unless its order matters.
    fn in_order(&self, records: &[ZoneRecord]) -> Vec<ZoneRecord> {
        let mut records: Vec<ZoneRecord> = records.iter().map(without_serial).collect();
        if !self.is_ordered {
            let are_one_set =
                |a: &ZoneRecord, b: &ZoneRecord| a.owner() == b.owner() && a.rtype() == b.rtype();
            for set in records.chunk_by_mut(are_one_set) {
                set.sort_by_key(|record| record.data().display_zonefile(KIND).to_string());
            }
        }
        records
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Response {
    /// Parses a whole message. `client_port`: SRV records with it are read with port 1.
    pub fn parse(bytes: &[u8], client_port: u16) -> Result<Self, String> {
        let message = Message::from_slice(bytes).map_err(|_| "no header".to_owned())?;
        let malformed = |error| format!("malformed message: {error}");
        let all = FLAGS.iter().fold(0, |all, (_, bit)| all | bit);
        let opt = message.opt();
        Ok(Self {
            rcode: message.header().rcode(),
            flags: u16::from_be_bytes([bytes[2], bytes[3]]) & all,
            opt: opt
                .as_ref()
                .map(|opt| Opt { udp_len: opt.udp_payload_size(), dnssec_ok: opt.dnssec_ok() }),
            options: opt.as_ref().map(options).unwrap_or_default(),
            sections: [
                records(message.answer().map_err(malformed)?, client_port)?,
                records(message.authority().map_err(malformed)?, client_port)?,
                records(message.additional().map_err(malformed)?, client_port)?,
            ],
        })
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = FLAGS.iter().filter(|(_, bit)| self.flags & bit != 0);
        let flags: Vec<&str> = flags.map(|(name, _)| *name).collect();
        write!(f, "{} flags={}", self.rcode, flags.join(","))?;
        if let Some(Opt { udp_len, dnssec_ok }) = self.opt {
            write!(f, " opt={udp_len}{}", if dnssec_ok { ",do" } else { "" })?;
        }
        for (code, data) in &self.options {
            let hex: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
            write!(f, " option={code}:{hex}")?;
        }
        for (prefix, records) in PREFIXES.iter().zip(&self.sections) {
            for record in records {
                write!(f, "\n    {prefix}{}", record.display_zonefile(KIND))?;
            }
        }
        Ok(())
    }
}

const KIND: DisplayKind = DisplayKind::Simple;

fn options(opt: &OptRecord<&[u8]>) -> Vec<(u16, Vec<u8>)> {
    let options = opt.opt().iter::<UnknownOptData<_>>().flatten();
    options.map(|option| (option.code().to_int(), option.data().to_vec())).collect()
}

fn records(section: RecordSection<'_, [u8]>, client_port: u16) -> Result<Vec<ZoneRecord>, String> {
    let mut records = Vec::new();
    for record in section {
        let record = record.map_err(|error| format!("malformed record: {error}"))?;
        if record.rtype() == Rtype::OPT {
            continue;
        }
        let record = record.to_record::<ZoneRecordData<&[u8], ParsedName<&[u8]>>>();
        let record = record.map_err(|error| format!("malformed record: {error}"))?;
        let record = record.expect("the type contains every type");
        let mut record = read_record(&record.display_zonefile(KIND).to_string())?;
        if let ZoneRecordData::Srv(srv) = record.data()
            && srv.port() == client_port
        {
            let target = srv.target().clone();
            *record.data_mut() = Srv::new(srv.priority(), srv.weight(), 1, target).into();
        }
        records.push(record);
    }
    Ok(records)
}

/// Reads a line of a zone file; the class is IN if it is not given. `domain` accepts the default
/// class alone.
fn read_record(line: &str) -> Result<ZoneRecord, String> {
    let mut zone = Zonefile::new();
    let is_ch = line.split_whitespace().nth(2) == Some("CH");
    zone.set_default_class(if is_ch { Class::CH } else { Class::IN });
    zone.extend_from_slice(line.as_bytes());
    zone.extend_from_slice(b"\n");
    match zone.next_entry() {
        Ok(Some(Entry::Record(record))) => Ok(record.flatten_into()),
        Ok(_) => Err(format!("not a record: {line}")),
        Err(error) => Err(format!("not a record: {line}: {error}")),
    }
}

/// The record; an SOA without its serial number, which says when a server started.
fn without_serial(record: &ZoneRecord) -> ZoneRecord {
    let mut record = record.clone();
    if let ZoneRecordData::Soa(soa) = record.data() {
        let [refresh, retry, expire, minimum]: [Ttl; 4] =
            [soa.refresh(), soa.retry(), soa.expire(), soa.minimum()];
        let (mname, rname) = (soa.mname().clone(), soa.rname().clone());
        let soa = Soa::new(mname, rname, Serial(0), refresh, retry, expire, minimum);
        *record.data_mut() = soa.into();
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Expected {
        let (head, records) = text.split_once('\n').unwrap_or((text, ""));
        Expected::parse(head, &records.lines().collect::<Vec<_>>()).expect("a response")
    }

    #[test]
    fn what_makes_two_responses_different() {
        const TWO: &str = "a.test. 60 A 192.0.2.1\na.test. 60 A 192.0.2.2";
        const SWAPPED: &str = "A.test. 60 IN A 192.0.2.2\na.test. 60 A 192.0.2.1";
        const OLDER: &str = "a.test. 58 A 192.0.2.1\na.test. 60 A 192.0.2.2";
        const SOA: &str = "authority: test. 5 SOA ns.test. admin.test. 0 1 2 3 4";
        const ODD: &str = "a.test. 60 TYPE65280 \\# 2 0102";
        let text = |head: &str, records: &str| format!("NOERROR flags={head}\n{records}");
        for (expected, got, are_same) in [
            (text("qr,aa", TWO), text("aa,qr", SWAPPED), true),
            (text("qr,aa ordered", TWO), text("qr,aa", TWO), true),
            (text("qr,aa ordered", TWO), text("qr,aa", SWAPPED), false),
            (text("qr,aa", TWO), text("qr", TWO), false),
            (text("qr opt=512", TWO), text("qr", TWO), false),
            (text("qr opt=512,do", TWO), text("qr opt=512", TWO), false),
            (text("qr", TWO), text("qr", OLDER), false),
            (text("qr aged", TWO), text("qr", OLDER), true),
            (text("qr aged", OLDER), text("qr", TWO), false),
            (text("qr", TWO), text("qr", ""), false),
            (text("qr answer=2", ""), text("qr", TWO), true),
            (text("qr answer=3", ""), text("qr", TWO), false),
            (text("qr len_max=99", TWO), text("qr", TWO), false),
            (text("qr", SOA), text("qr", &SOA.replace(" 0 ", " 7 ")), true),
            (text("qr", SOA), text("qr", &SOA.replace(" 1 ", " 7 ")), false),
            (text("qr", SOA), text("qr", &SOA.replace("authority: ", "")), false),
            (text("qr", ODD), text("qr", ODD), true),
            ("NXDOMAIN flags=qr".to_owned(), text("qr", ""), false),
        ] {
            let response = parse(&got).response;
            assert_eq!(parse(&expected).is(&response, 100), are_same, "{expected}\n{got}");
            // What a failure prints can be read again.
            assert!(parse(&response.to_string().replace("\n    ", "\n")).is(&response, 100));
        }
    }

    #[test]
    fn mistakes_are_reported() {
        for (head, record, expected) in [
            ("NOERR", "", "not a response code"),
            ("NOERROR flags=qr,xx", "", "unknown flag"),
            ("NOERROR order", "", "unknown word"),
            ("NOERROR opt=x", "", "not a number"),
            ("NOERROR", "a.test. 60 A 1.2.3", "not a record"),
            ("NOERROR", "a.test. 60 A 1.2.3.4 5", "not a record"),
            ("NOERROR", "Authority: a.test. 60 A 1.2.3.4", "not a record"),
        ] {
            let records = if record.is_empty() { vec![] } else { vec![record] };
            let mistake = Expected::parse(head, &records).map(|_| ()).expect_err("a mistake");
            assert!(mistake.contains(expected), "{head} {record}: {mistake}");
        }
    }
}
