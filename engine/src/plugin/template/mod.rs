//! `template`: answers made from patterns, in the syntax of Go's text/template.
//!
//! The options are read here. `rule` decides about queries, `record` turns text into records, and
//! `program` runs the templates. Invariant: every template has been parsed and every constant
//! record is in wire format before the block is in force.

mod counters;
mod program;
mod record;
pub mod rule;

use std::future::ready;
use std::sync::Arc;

use domain::base::iana::Rtype;
use wire::header::Rcode;

use super::draft::{BlockDraft, LoadContext, Loading, OwnDraft};
use super::gate::Gate;
use super::go_regex::{GoRegex, RegexFault};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::statement::{Setting, Statement, adds, not_built, sets};
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;
use crate::corefile::word::{nearest, quoted};
use record::RecordTemplate;
use rule::TemplateRule;

/// One `template` block.
#[derive(Debug)]
pub struct TemplateLine(pub Arc<Template>);

/// Its settings.
#[derive(Debug)]
pub struct Template {
    /// CLASS; `CLASS_ANY` for every class.
    pub qclass: u16,
    /// TYPE; `Rtype::ANY` for every type.
    pub qtype: Rtype,
    /// Each once, CIDRs expanded [the block's keys].
    pub zones: Vec<Zone>,
    /// The first that matches counts. Empty: every name matches.
    pub patterns: Vec<GoRegex>,
    /// By section: answer, authority, additional.
    pub records: [Vec<RecordTemplate>; 3],
    pub rcode: Rcode,
    pub extended_error: Option<ExtendedError>,
    /// The zones whose names go on if no pattern matches. Empty without `fallthrough`.
    pub fallthrough: Vec<Zone>,
}

/// An extended DNS error (RFC 8914).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    pub code: u16,
    /// Empty for none.
    pub text: String,
}

impl Plugin for TemplateLine {
    fn name(&self) -> &'static str {
        "template"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let rule = TemplateRule::new(&self.0, context.block, block);
        block.own.push(OwnDraft::Gate(Gate::Template(Arc::new(rule))));
        Box::pin(ready(Ok(())))
    }
}

/// CoreDNS's classes by mnemonic.
const CLASSES: [(u16, &str); 6] =
    [(1, "IN"), (2, "CS"), (3, "CH"), (4, "HS"), (254, "NONE"), (CLASS_ANY, "ANY")];
const CLASS_ANY: u16 = 255;

/// Empty if the class has no mnemonic.
fn class_name(class: u16) -> &'static str {
    CLASSES.iter().find(|row| row.0 == class).map_or("", |row| row.1)
}

pub(crate) const USAGE: &str = "template CLASS TYPE [ZONE…] { … }";

/// The settings while they are read.
pub(crate) struct TemplateReading {
    template: Template,
}

pub(crate) const SETTINGS: &[Setting<TemplateReading>] = &[
    adds("match", MATCH, read_match),
    not_built("var", "var NAME EXPRESSION", NO_EXPRESSIONS),
    not_built("expr", "expr EXPRESSION", NO_EXPRESSIONS),
    adds("answer", ANSWER, |line, draft, context| read_records(0, ANSWER, line, draft, context)),
    adds("authority", AUTHORITY, |line, draft, context| {
        read_records(1, AUTHORITY, line, draft, context);
    }),
    adds("additional", ADDITIONAL, |line, draft, context| {
        read_records(2, ADDITIONAL, line, draft, context);
    }),
    sets("rcode", RCODE, read_rcode),
    sets("ederror", EDERROR, read_extended_error),
    sets("fallthrough", "fallthrough [ZONE…]", read_fallthrough),
    // Without effect since CoreDNS 1.7, but still accepted.
    adds("upstream", "upstream", |_, _, _| {}),
];

const MATCH: &str = "match REGEX…";
const ANSWER: &str = "answer RECORD…";
const AUTHORITY: &str = "authority RECORD…";
const ADDITIONAL: &str = "additional RECORD…";
const RCODE: &str = "rcode CODE";
const EDERROR: &str = "ederror CODE [TEXT]";
const NO_EXPRESSIONS: &str = "a `match` with groups selects names, and `.Group` has their parts";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let [class, rtype, zones @ ..] = statement.args.as_slice() else {
        return statement.wrong_count(2, USAGE, context);
    };
    let Some(qclass) = read_class(class, context) else { return };
    let Some(qtype) = read_type(rtype, context) else { return };
    let template = Template {
        qclass,
        qtype,
        zones: key::zones_or_keys(zones, &block.keys, context),
        patterns: Vec::new(),
        records: [const { Vec::new() }; 3],
        rcode: Rcode::NoError,
        extended_error: None,
        fallthrough: Vec::new(),
    };
    let mut draft = TemplateReading { template };
    statement.read_settings(SETTINGS, &mut draft, context);
    block.push(TemplateLine(Arc::new(draft.template)));
}

/// Mnemonics in capitals, as in CoreDNS.
fn read_class(word: &Token, context: &mut Context<'_>) -> Option<u16> {
    let known = CLASSES.iter().find(|row| row.1 == word.text).map(|row| row.0);
    if known.is_none() {
        let message = format!("invalid query class {}", quoted(&word.text));
        let refusal = Refusal::new(message, "not a class");
        context.refuse(word.span, refusal.help("`IN`, or `ANY` for every class"));
    }
    known
}

fn read_type(word: &Token, context: &mut Context<'_>) -> Option<Rtype> {
    let rtype = Rtype::from_mnemonic(word.text.as_bytes());
    let known = rtype.filter(|rtype| rtype.to_mnemonic_str() == Some(&word.text));
    if known.is_none() {
        let message = format!("invalid RR class {}", quoted(&word.text));
        let refusal = Refusal::new(message, "not a type");
        let meant = rtype.and_then(Rtype::to_mnemonic_str);
        context.refuse(
            word.span,
            refusal.help(match meant {
                Some(meant) => format!("write `{meant}`"),
                None => "a type such as `A` or `PTR`, or `ANY` for every type".to_owned(),
            }),
        );
    }
    known
}

fn read_match(line: &Statement, draft: &mut TemplateReading, context: &mut Context<'_>) {
    let Some(words) = line.at_least_one(MATCH, context) else { return };
    for word in words {
        match GoRegex::new(&word.text) {
            Ok(pattern) => draft.template.patterns.push(pattern),
            Err(fault) => context.refuse(word.span, pattern_refusal(&word.text, &fault)),
        }
    }
}

fn pattern_refusal(text: &str, fault: &RegexFault) -> Refusal {
    let refusal = fault.refusal();
    match fault {
        RegexFault::TooLong(_) => refusal,
        RegexFault::Syntax(why) => {
            let message = format!("could not parse regex: {}, {}", quoted(text), quoted(why));
            Refusal { message, ..refusal }
        }
    }
}

fn read_records(
    section: usize,
    usage: &str,
    line: &Statement,
    draft: &mut TemplateReading,
    context: &mut Context<'_>,
) {
    let Some(words) = line.at_least_one(usage, context) else { return };
    for word in words {
        match RecordTemplate::parse(&word.text, &draft.template) {
            Ok(record) => draft.template.records[section].push(record),
            Err(refusal) => context.refuse(word.span, refusal),
        }
    }
}

fn read_rcode(line: &Statement, draft: &mut TemplateReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly::<1>(RCODE, context) else { return };
    let known = Rcode::ALL.into_iter().filter(|rcode| *rcode != Rcode::BadVers);
    let name = if word.text == "NOTIMPL" { "NOTIMP" } else { &word.text };
    match known.clone().find(|rcode| rcode.mnemonic() == name) {
        Some(rcode) => {
            draft.template.rcode = rcode;
        }
        None => {
            let message = format!("unknown rcode {}", quoted(&word.text));
            let meant = nearest(&word.text, known.map(Rcode::mnemonic));
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "a mnemonic such as NXDOMAIN, SERVFAIL or REFUSED".to_owned(),
            };
            context.refuse(word.span, Refusal::new(message, "not a response code").help(help));
        }
    }
}

fn read_extended_error(line: &Statement, draft: &mut TemplateReading, context: &mut Context<'_>) {
    let (code, text) = match line.args.as_slice() {
        [code] => (code, ""),
        [code, text] => (code, text.text.as_str()),
        [] => return line.wrong_count(1, EDERROR, context),
        [_, _, ..] => return line.wrong_count(2, EDERROR, context),
    };
    match code.text.parse() {
        Ok(number) if !code.text.starts_with('+') => {
            draft.template.extended_error =
                Some(ExtendedError { code: number, text: text.to_owned() });
        }
        Ok(_) | Err(_) => {
            let message = format!("error parsing extended DNS error code {}", quoted(&code.text));
            let refusal = Refusal::new(message, "not 0 to 65535");
            context.refuse(code.span, refusal.help("a number of RFC 8914, such as 15: blocked"));
        }
    }
}

fn read_fallthrough(line: &Statement, draft: &mut TemplateReading, context: &mut Context<'_>) {
    draft.template.fallthrough = match line.args.as_slice() {
        [] => vec![Zone::root()],
        args => args.iter().flat_map(|arg| key::zones(&arg.text, arg.span, context)).collect(),
    };
}
