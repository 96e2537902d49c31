//! Records of templates: from text in the format of zone files to wire format.
//!
//! Invariant: the bytes of a record are whole, and have no compressed name but an owner that is the
//! question's.

use std::panic::catch_unwind;

use domain::base::Name;
use domain::base::iana::{Class, Rtype};
use domain::zonefile::inplace::{Entry, Zonefile};

use super::program::{Program, SyntaxError, TemplateFacts};
use super::{CLASS_ANY, Template, class_name};
use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;
use crate::plugin::file::zone_file::is_valid;
use crate::plugin::file::zone_text;

/// One record of a template.
#[derive(Debug)]
pub struct RecordTemplate {
    /// As in the Corefile.
    pub text: String,
    pub(super) outcome: RecordOutcome,
}

#[derive(Debug)]
pub(super) enum RecordOutcome {
    /// The same for every query. The owner may be a pointer to the question.
    Constant(WireRecord),
    /// Its text is made for each query.
    Made(Program),
}

/// A record in wire format.
#[derive(Debug)]
pub(super) struct WireRecord {
    pub(super) rtype: Rtype,
    pub(super) bytes: Vec<u8>,
}

impl RecordTemplate {
    /// Checks a template, and makes the record itself if the query adds nothing to it but its name
    /// as the owner. `owner`: has the zones, the class and the type.
    pub(super) fn parse(text: &str, owner: &Template) -> Result<Self, Refusal> {
        let program = Program::parse(text).map_err(|error| syntax_refusal(text, &error))?;
        let constants = Constants::of(owner);
        let begins_with_name = program.behind_name();
        let outcome = match (&begins_with_name, constants.text(&program)) {
            (_, Some(made)) => RecordOutcome::Constant(checked(&made?)?),
            (Some(rest), None) => match constants.text(rest) {
                Some(made) => {
                    let record = checked(&format!(".{}", made?))?;
                    // The root is the owner; the question's name takes its place.
                    let behind_owner = record.bytes.get(1..).unwrap_or_default();
                    let bytes = [&QUESTION_POINTER, behind_owner].concat();
                    RecordOutcome::Constant(WireRecord { bytes, ..record })
                }
                None => RecordOutcome::Made(program),
            },
            (None, None) => RecordOutcome::Made(program),
        };
        Ok(Self { text: text.to_owned(), outcome })
    }
}

/// A pointer to the question's name (RFC 1035, section 4.1.4).
const QUESTION_POINTER: [u8; 2] = [0xC0, 12];

/// The fields that have one value for all queries.
struct Constants<'t> {
    fields: Vec<&'static str>,
    zone: &'t str,
    class: &'static str,
    rtype: &'static str,
}

impl<'t> Constants<'t> {
    fn of(template: &'t Template) -> Self {
        let mut fields = Vec::new();
        let mut zone = "";
        if let [only] = template.zones.as_slice() {
            fields.push("Zone");
            zone = &only.text;
        }
        if template.qclass != CLASS_ANY {
            fields.push("Class");
        }
        if template.qtype != Rtype::ANY {
            fields.push("Type");
        }
        let rtype = template.qtype.to_mnemonic_str().unwrap_or_default();
        Self { fields, zone, class: class_name(template.qclass), rtype }
    }

    /// The text of a program that names no other field.
    fn text(&self, program: &Program) -> Option<Result<String, Refusal>> {
        if !program.names_only(&self.fields) {
            return None;
        }
        let facts = TemplateFacts {
            zone: self.zone,
            class: self.class,
            rtype: self.rtype,
            ..TemplateFacts::NONE
        };
        Some(program.run(&facts).map_err(|error| {
            let message = format!("could not run template: {}", error.0);
            Refusal::new(message, "fails for every query")
                .help("it uses nothing that differs between queries: correct it")
        }))
    }
}

fn syntax_refusal(text: &str, error: &SyntaxError) -> Refusal {
    let near: String = text.get(error.at..).unwrap_or_default().chars().take(20).collect();
    let message = format!("could not compile template: {}, {}", quoted(text), error.message);
    let refusal = Refusal::new(message, "not a template");
    match near.as_str() {
        "" => refusal,
        near => refusal.help(format!("the mistake is at `{}`", quoted(near))),
    }
}

/// The record of a text that every query gets.
fn checked(text: &str) -> Result<WireRecord, Refusal> {
    compile(text).map_err(|why| {
        let message = format!("invalid record: {}: {why}", quoted(text));
        Refusal::new(message, "not a record in the format of zone files")
            .help("owner, TTL, class, type, data: `a.test. 60 IN A 192.0.2.1`")
    })
}

/// The first record of a text, in wire format. As in CoreDNS, names without a final dot are whole
/// too, the class is IN and the TTL is 3600 seconds if the text names none.
pub(super) fn compile(text: &str) -> Result<WireRecord, String> {
    // A query may have made the text, and no query may end its shard, not even by a text that the
    // parser was not made for.
    let parsed = catch_unwind(|| parse(text));
    parsed.unwrap_or_else(|_| Err("the parser has failed; please report it".to_owned()))
}

fn parse(text: &str) -> Result<WireRecord, String> {
    let rewritten = zone_text::rewrite(text.as_bytes(), None, &[0]);
    let mut zone = Zonefile::from(rewritten.text.as_slice()).allow_invalid();
    zone.extend_from_slice(b"\n");
    zone.set_origin(Name::root_bytes());
    zone.set_default_class(Class::IN);
    let record = match zone.next_entry() {
        Ok(Some(Entry::Record(record))) => record,
        Ok(Some(Entry::Include { .. })) => return Err("$INCLUDE is not a record".to_owned()),
        Ok(None) => {
            return Err(rewritten
                .mistake
                .map_or_else(|| "it is empty".to_owned(), |found| found.problem));
        }
        Err(error) => {
            // A place in the text comes first, as if it were a file.
            let text = error.to_string();
            return Err(text.split_once(": ").map_or(text.as_str(), |(_, why)| why).to_owned());
        }
    };
    if !is_valid(record.data()) {
        return Err("malformed data".to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    record.compose(&mut bytes).map_err(|_| "too long".to_owned())?;
    Ok(WireRecord { rtype: record.rtype(), bytes })
}
