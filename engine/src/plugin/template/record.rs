//! Records of templates: from text in the format of zone files to wire format.
//!
//! Invariant: the bytes of a record are whole and have no compressed name.

use domain::base::iana::Class;
use domain::base::name::Name;
use domain::zonefile::inplace::{Entry, Zonefile};

use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;

/// One record of a template.
#[derive(Clone, Debug)]
pub enum RecordTemplate {
    /// In wire format.
    Constant(Box<[u8]>),
}

impl RecordTemplate {
    /// Parses a template, and the record itself if it is the same for every query.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match compile(text) {
            Ok(record) => Ok(Self::Constant(record.into())),
            Err(why) => {
                let message = format!("invalid record: {}: {why}", quoted(text));
                Err(Refusal::new(message, "not a record in the format of zone files")
                    .help("owner, TTL in seconds, class, type, data: `a.test. 60 IN A 192.0.2.1`"))
            }
        }
    }
}

/// The first record of a text, in wire format. Names without a final dot are whole, too.
pub(super) fn compile(text: &str) -> Result<Vec<u8>, String> {
    let mut zone = Zonefile::from(text).allow_invalid();
    zone.extend_from_slice(b"\n");
    zone.set_origin(Name::root_bytes());
    zone.set_default_class(Class::IN);
    let record = match zone.next_entry() {
        Ok(Some(Entry::Record(record))) => record,
        Ok(Some(Entry::Include { .. })) => return Err("$INCLUDE is not a record".to_owned()),
        Ok(None) => return Err("there is none".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let mut wire = Vec::with_capacity(text.len());
    record.compose(&mut wire).map_err(|_| "too long".to_owned())?;
    Ok(wire)
}
