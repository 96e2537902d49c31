//! Reads rules about responses: `ttl`, `rcode` and `cname`.

use super::{Fault, Reading, digits, explained, fault, group_count, normal};
use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;
use crate::limits::COREFILE_REGEX_LEN_MAX;
use crate::plugin::go_regex::{GoRegex, RegexFault};
use crate::plugin::rewrite::cname::CnameRule;
use crate::plugin::rewrite::replacement::Replacement;
use crate::plugin::rewrite::{Field, NameMatch};

const TTL_USAGE: &str = "ttl [exact|prefix|suffix|substring|regex] FROM SECONDS";
const RCODE_USAGE: &str = "rcode [exact|prefix|suffix|substring|regex] FROM CODE TO";
const CNAME_USAGE: &str = "cname [exact|prefix|suffix|substring|regex] FROM TO";

/// `[TYPE] FROM` of `ttl` and `rcode`. `kind`: its first word, if there are two.
fn names<'t>(
    rule: &str,
    usage: &str,
    kind: Option<&'t Token>,
    from: &'t Token,
) -> Reading<'t, NameMatch> {
    let name = normal(&from.text);
    let Some(kind) = kind else { return Ok(NameMatch::Exact(name)) };
    Ok(match kind.text.to_lowercase().as_str() {
        "exact" => NameMatch::Exact(name),
        "prefix" => NameMatch::Prefix(name),
        "suffix" => NameMatch::Suffix(name),
        "substring" => NameMatch::Substring(name),
        "regex" => NameMatch::Regex(GoRegex::new(&from.text).map_err(|fault| Fault {
            word: Some(from),
            refusal: match fault {
                RegexFault::TooLong(len) => too_long(rule, len),
                RegexFault::Syntax(_) => {
                    let text = quoted(&from.text);
                    let message = format!("invalid regex pattern in a {rule} rule: {text}");
                    explained(Refusal::new(message, "not a regular expression"), &fault)
                }
            },
        })?),
        _ => {
            let message = format!(
                "{rule} rule supports only exact, prefix, suffix, substring, and regex name \
                 matching"
            );
            return Err(fault(Some(kind), message, "not a type", usage));
        }
    })
}

pub(super) fn ttl_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, Field> {
    let (kind, from, range) = match args {
        [] | [_] => {
            let message = format!("too few ({}) arguments for a ttl rule", args.len());
            let last = args.last().unwrap_or(&field);
            return Err(fault(Some(last), message, "an argument is missing after this", TTL_USAGE));
        }
        [from, range] => (None, *from, *range),
        [kind, from, range] => (Some(*kind), *from, *range),
        [_, _, _, surplus, ..] => {
            let message = "invalid TTL '' for a ttl rule";
            return Err(fault(Some(surplus), message, "one too many", TTL_USAGE));
        }
    };
    let Some((min_secs, max_secs)) = ttl_range(&range.text) else {
        let message = format!("invalid TTL '{}' for a ttl rule", quoted(&range.text));
        let refusal = Refusal::new(message, "not a TTL");
        let refusal = refusal.help("seconds without a unit, or a range: `30`, `30-300`, `30-`");
        return Err(Fault { word: Some(range), refusal });
    };
    let names = names("ttl", TTL_USAGE, kind, from)?;
    Ok(Field::Ttl { names, min_secs, max_secs })
}

/// `SECONDS`, `MIN-MAX`, `MIN-` or `-MAX`.
fn ttl_range(text: &str) -> Option<(u32, u32)> {
    let secs = |text: &str| digits(text)?.parse().ok();
    let (min, max) = match text.split_once('-') {
        None => return secs(text).map(|secs| (secs, secs)),
        Some(("", "")) => return None,
        Some(("", max)) => (0, secs(max)?),
        Some((min, "")) => (secs(min)?, i32::MAX as u32),
        Some((min, max)) => (secs(min)?, secs(max)?),
    };
    (min <= max).then_some((min, max))
}

pub(super) fn rcode_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, Field> {
    let (kind, from, old, new) = match args {
        [] | [_] | [_, _] => {
            let message = format!("too few ({}) arguments for a rcode rule", args.len());
            let last = args.last().unwrap_or(&field);
            let label = "an argument is missing after this";
            return Err(fault(Some(last), message, label, RCODE_USAGE));
        }
        [from, old, new] => (None, *from, *old, *new),
        [kind, from, old, new] => (Some(*kind), *from, *old, *new),
        [_, _, _, _, surplus, ..] => {
            let message = "invalid matching RCODE '' for a rcode rule";
            return Err(fault(Some(surplus), message, "one too many", RCODE_USAGE));
        }
    };
    let code = |word: &'t Token, what: &str| {
        rcode(&word.text).ok_or_else(|| {
            let message = format!("invalid {what} RCODE '{}' for a rcode rule", quoted(&word.text));
            let refusal = Refusal::new(message, "not a response code");
            let refusal = refusal.help("a name or a number from 0 to 23: `SERVFAIL`, `2`");
            Fault { word: Some(word), refusal }
        })
    };
    let (from_code, to_code) = (code(old, "matching")?, code(new, "replacement")?);
    let names = names("rcode", RCODE_USAGE, kind, from)?;
    Ok(Field::Rcode { names, from: from_code, to: to_code })
}

pub(super) fn cname_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, CnameRule> {
    let (kind, from, to) = match args {
        [from, to] => (None, *from, *to),
        [kind, from, to] => (Some(*kind), *from, *to),
        _ => {
            let message = format!("too few ({}) arguments for a cname rule", args.len());
            let (word, label) = match args.get(3) {
                Some(surplus) => (surplus, "one too many"),
                None => (args.last().unwrap_or(&field), "an argument is missing after this"),
            };
            return Err(fault(Some(word), message, label, CNAME_USAGE));
        }
    };
    let (from_text, to_text) = (from.text.to_lowercase(), to.text.to_lowercase());
    let kind_name = kind.map_or_else(|| "exact".to_owned(), |kind| kind.text.to_lowercase());
    let names = match kind_name.as_str() {
        "exact" => {
            let to = Replacement::text(&normal(&to_text));
            return Ok(CnameRule { from: NameMatch::Exact(normal(&from_text)), to });
        }
        // Unlike in other rules, no dot is added.
        "prefix" => NameMatch::Prefix(from_text),
        "suffix" => NameMatch::Suffix(from_text),
        "substring" => NameMatch::Substring(from_text),
        "regex" => {
            let regex = GoRegex::new(&from_text).map_err(|fault| Fault {
                word: Some(from),
                refusal: match fault {
                    RegexFault::TooLong(len) => too_long("cname", len),
                    RegexFault::Syntax(_) => {
                        let refusal = fault.refusal();
                        let message =
                            format!("invalid cname rewrite regex pattern: {}", refusal.message);
                        Refusal { message, ..refusal }
                    }
                },
            })?;
            let to = Replacement::with_groups(&to_text, group_count(&regex));
            return Ok(CnameRule { from: NameMatch::Regex(regex), to });
        }
        _ => {
            let message = format!("unknown cname rewrite type: {}", quoted(&kind_name));
            return Err(fault(kind, message, "not a type", CNAME_USAGE));
        }
    };
    Ok(CnameRule { from: names, to: Replacement::text(&to_text) })
}

fn too_long(rule: &str, len: usize) -> Refusal {
    let message =
        format!("regex pattern too long in a {rule} rule: {len} > {COREFILE_REGEX_LEN_MAX}");
    Refusal::new(message, "too long")
}

/// By their numbers.
const RCODES: [&str; 24] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "",
    "",
    "",
    "",
    "BADSIG",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
];

fn rcode(text: &str) -> Option<u16> {
    let number = digits(text).and_then(|text| text.parse().ok());
    if let Some(number) = number.filter(|number| usize::from(*number) < RCODES.len()) {
        return Some(number);
    }
    let name = match text.to_uppercase().as_str() {
        "" => return None,
        "NOTIMPL" => "NOTIMP".to_owned(),
        name => name.to_owned(),
    };
    RCODES.iter().position(|code| **code == name).map(|code| code as u16)
}
