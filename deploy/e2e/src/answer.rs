//! A server's response in a form that can be compared.
//!
//! The form is that of `conformance/expected.*.jsonl`: records as text, sorted, owner names and
//! data in lower case (TXT data unchanged).

use domain::base::iana::Rtype;
use domain::base::message::RecordSection;
use domain::base::name::{ParsedName, ToName};
use domain::base::wire::ParseError;
use domain::base::{Message, ParsedRecord};
use domain::rdata::AllRecordData;
use serde::Deserialize;

use crate::question::Question;

/// One response; if it was truncated over UDP, the sections are those received over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Answer {
    pub rcode: String,
    pub aa: bool,
    pub tc: bool,
    pub ra: bool,
    /// Whether the UDP response was truncated; false if UDP was not used.
    pub udp_tc: bool,
    /// Whether the question came back in the same letter case; `None` if no question came back.
    pub qname_kept: Option<bool>,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

/// Owner, type, TTL in seconds, data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Record(pub String, pub String, pub u32, pub String);

impl Record {
    pub fn owner(&self) -> &str {
        &self.0
    }

    pub fn rtype(&self) -> &str {
        &self.1
    }

    pub fn data(&self) -> &str {
        &self.3
    }
}

impl Answer {
    /// Parses a whole message; leaves `udp_tc` false.
    pub fn parse(bytes: &[u8], asked: &Question) -> Result<Self, ParseError> {
        let message = Message::from_slice(bytes).map_err(|_| ParseError::ShortInput)?;
        let header = message.header();
        let question = message.question().next().transpose()?;
        Ok(Self {
            rcode: header.rcode().to_string(),
            aa: header.aa(),
            tc: header.tc(),
            ra: header.ra(),
            udp_tc: false,
            qname_kept: question.map(|q| with_dot(q.qname()) == asked.name),
            answer: section(message.answer()?)?,
            authority: section(message.authority()?)?,
            additional: section(message.additional()?)?,
        })
    }

    /// The records of all three sections.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.answer.iter().chain(&self.authority).chain(&self.additional)
    }

    /// The data of the answer section's records of one type.
    pub fn data_of(&self, rtype: Rtype) -> Vec<&str> {
        let name = rtype.to_string();
        let records = self.answer.iter().filter(|record| record.rtype() == name);
        records.map(Record::data).collect()
    }

    pub fn is_nodata(&self) -> bool {
        self.rcode == "NOERROR" && self.answer.is_empty()
    }

    pub fn is_nxdomain(&self) -> bool {
        self.rcode == "NXDOMAIN"
    }
}

fn section(section: RecordSection<'_, [u8]>) -> Result<Vec<Record>, ParseError> {
    let mut records = Vec::new();
    for parsed in section {
        let parsed: ParsedRecord<'_, [u8]> = parsed?;
        // An OPT record describes the message; no query built here carries one by default.
        if parsed.rtype() != Rtype::OPT {
            records.push(record(&parsed)?);
        }
    }
    records.sort();
    Ok(records)
}

fn record(parsed: &ParsedRecord<'_, [u8]>) -> Result<Record, ParseError> {
    type Data<'a> = AllRecordData<&'a [u8], ParsedName<&'a [u8]>>;
    let typed = parsed.to_any_record::<Data<'_>>()?;
    let data = match typed.data() {
        Data::Cname(cname) => with_dot(cname.cname()),
        Data::Ns(ns) => with_dot(ns.nsdname()),
        Data::Ptr(ptr) => with_dot(ptr.ptrdname()),
        Data::Mx(mx) => format!("{} {}", mx.preference(), with_dot(mx.exchange())),
        Data::Srv(srv) => {
            format!("{} {} {} {}", srv.priority(), srv.weight(), srv.port(), with_dot(srv.target()))
        }
        Data::Soa(soa) => format!(
            "{} {} {} {} {} {} {}",
            with_dot(soa.mname()),
            with_dot(soa.rname()),
            soa.serial(),
            soa.refresh().as_secs(),
            soa.retry().as_secs(),
            soa.expire().as_secs(),
            soa.minimum().as_secs()
        ),
        other => other.to_string(),
    };
    let rtype = parsed.rtype();
    let data = if rtype == Rtype::TXT { data } else { data.to_ascii_lowercase() };
    let owner = with_dot(&typed.owner()).to_ascii_lowercase();
    Ok(Record(owner, rtype.to_string(), typed.ttl().as_secs(), data))
}

/// A name with its final dot; the root is `.`.
fn with_dot(name: &impl ToName) -> String {
    name.fmt_with_dot().to_string()
}
