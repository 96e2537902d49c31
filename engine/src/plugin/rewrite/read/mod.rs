//! Reads `rewrite` lines, with CoreDNS's messages.
//!
//! Invariant: a rule is read whole or reported.

mod edns;
mod name;
mod response;

use domain::base::iana::Rtype;

use edns::edns_rule;
use name::{NAME_USAGE, name_rule};
use response::{cname_rule, rcode_rule, ttl_rule};

use super::{Field, Mode, Rewrite, Rule};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::Statement;
use crate::corefile::word::{nearest, quoted};
use crate::limits::COREFILE_REWRITES_MAX;
use crate::plugin::ServerBlock;
use crate::plugin::go_regex::{GoRegex, RegexFault};

pub(crate) const USAGE: &str = "rewrite [continue|stop] FIELD [TYPE] FROM TO [OPTIONS]";

/// What is wrong with a rule, and the word that is to blame.
struct Fault<'t> {
    word: Option<&'t Token>,
    refusal: Refusal,
}

type Reading<'t, T> = Result<T, Fault<'t>>;

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let words = match statement.args.len() {
        // As in CoreDNS, the lines of a block are one rule.
        0 | 1 => statement.args.iter().chain(words_of_block(statement, context)).collect(),
        2.. => {
            statement.takes_no_block(USAGE, context);
            statement.args.iter().collect::<Vec<&Token>>()
        }
    };
    match rule(&words) {
        Ok(rule) => {
            let rules = &mut block.line_or(Rewrite::default()).rules;
            if rules.len() >= COREFILE_REWRITES_MAX {
                let message = format!("more than {COREFILE_REWRITES_MAX} rewrite rules");
                let refusal = Refusal::new(message, "one too many");
                return context.refuse(statement.name.span, refusal);
            }
            rules.push(rule);
        }
        Err(Fault { word, refusal }) => {
            context.refuse(word.map_or(statement.name.span, |word| word.span), refusal);
        }
    }
}

fn words_of_block<'s>(statement: &'s Statement, context: &mut Context<'_>) -> Vec<&'s Token> {
    let lines = statement.body.as_ref().map_or(&[][..], |body| &body.lines);
    for nested in lines.iter().filter_map(|line| line.body.as_ref()) {
        let mistake = Mistake::error(nested.open, "a rule has no blocks").label("opened here");
        context.report(mistake.help(format!("usage: `{USAGE}`")));
    }
    lines.iter().flat_map(|line| [&line.name].into_iter().chain(&line.args)).collect()
}

/// A refusal with the rule's syntax as its help.
fn fault<'t>(
    word: Option<&'t Token>,
    message: impl Into<String>,
    label: &'static str,
    usage: &str,
) -> Fault<'t> {
    Fault { word, refusal: Refusal::new(message, label).help(format!("usage: `{usage}`")) }
}

fn rule<'t>(words: &[&'t Token]) -> Reading<'t, Rule> {
    let missing = "a word is missing after this";
    let Some(first) = words.first() else {
        return Err(fault(None, "no rule type specified for rewrite", missing, USAGE));
    };
    let lower = first.text.to_lowercase();
    let mode = match lower.as_str() {
        "continue" => Some(Mode::Continue),
        "stop" => Some(Mode::Stop),
        _ => None,
    };
    let (field, args) = match (mode, words) {
        (Some(_), [_, field, args @ ..]) => (*field, args),
        (Some(_), _) => {
            let message = format!("{lower} rule must begin with a rule type");
            return Err(fault(Some(first), message, missing, USAGE));
        }
        (None, _) => (*first, &words[1..]),
    };
    let mode = mode.unwrap_or(Mode::Stop);
    let name = field.text.to_lowercase();
    let field = match name.as_str() {
        "answer" => {
            let message = "response rewrites must begin with a name rule";
            return Err(fault(Some(field), message, "no rule is before this", NAME_USAGE));
        }
        "name" => Field::Name(name_rule(field, args)?),
        "type" => {
            let [from, to] = pair(field, args)?.map(|word| number(word, "type", rtype));
            Field::Type { from: from?, to: to? }
        }
        "class" => {
            let [from, to] = pair(field, args)?.map(|word| number(word, "class", class));
            Field::Class { from: from?, to: to? }
        }
        "ttl" => ttl_rule(field, args)?,
        "rcode" => rcode_rule(field, args)?,
        "cname" => Field::Cname(cname_rule(field, args)?),
        "edns0" => Field::Edns(edns_rule(field, args)?),
        _ => return Err(unknown_field(words, field)),
    };
    Ok(Rule { mode, field })
}

const FIELDS: [&str; 7] = ["name", "type", "class", "ttl", "rcode", "cname", "edns0"];

fn unknown_field<'t>(words: &[&'t Token], field: &'t Token) -> Fault<'t> {
    // CoreDNS shows the first word, even if that is `stop`.
    let first = words.first().map_or("", |word| &word.text);
    let refusal = Refusal::new(format!("invalid rule type \"{}\"", quoted(first)), "not a field");
    let help = match nearest(&field.text, FIELDS) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the fields are {}", FIELDS.join(", ")),
    };
    Fault { word: Some(field), refusal: refusal.help(help) }
}

/// FROM and TO of `type` and `class`.
fn pair<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, [&'t Token; 2]> {
    args.try_into().map_err(|_| {
        let name = field.text.to_lowercase();
        let message = format!("{name} rules must have exactly two arguments");
        fault(Some(args.last().unwrap_or(&field)), message, "not FROM and TO", USAGE)
    })
}

fn number<'t>(word: &'t Token, what: &str, find: fn(&str) -> Option<u16>) -> Reading<'t, u16> {
    let name = word.text.to_uppercase();
    find(&name).ok_or_else(|| {
        let refusal = Refusal::new(format!("invalid {what} \"{}\"", quoted(&name)), "unknown");
        Fault { word: Some(word), refusal }
    })
}

fn rtype(name: &str) -> Option<u16> {
    match name {
        "NSAP-PTR" => Some(23),
        _ => Rtype::from_mnemonic(name.as_bytes()).map(Rtype::to_int),
    }
}

fn class(name: &str) -> Option<u16> {
    let classes = [("IN", 1), ("CS", 2), ("CH", 3), ("HS", 4), ("NONE", 254), ("ANY", 255)];
    classes.iter().find(|(class, _)| *class == name).map(|(_, number)| *number)
}

/// A name in lower case, with a dot at its end.
fn normal(text: &str) -> String {
    let mut name = text.to_lowercase();
    let backslashes = |text: &str| text.bytes().rev().take_while(|byte| *byte == b'\\').count();
    let ends_with_dot = name.strip_suffix('.').is_some_and(|rest| backslashes(rest) % 2 == 0);
    if !ends_with_dot {
        name.push('.');
    }
    name
}

/// Groups, without the whole match.
fn group_count(regex: &GoRegex) -> usize {
    regex.regex().captures_len() - 1
}

/// CoreDNS's message does not say what is wrong with the pattern.
fn explained(refusal: Refusal, fault: &RegexFault) -> Refusal {
    refusal.help(fault.refusal().message)
}

/// Go's numbers have no sign.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}
