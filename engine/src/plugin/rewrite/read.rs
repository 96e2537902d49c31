//! Reads `rewrite` lines, with CoreDNS's messages.
//!
//! Invariant: a rule is read whole or reported.

use domain::base::iana::Rtype;

use super::cname::CnameRule;
use super::replacement::Replacement;
use super::{AnswerPart, AnswerRule, Field, Mode, NameMatch, NameRule, Rewrite, Rule};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::Statement;
use crate::corefile::word::{nearest, quoted};
use crate::limits::{COREFILE_REGEX_LEN_MAX, COREFILE_REWRITES_MAX};
use crate::plugin::ServerBlock;
use crate::plugin::go_regex::{GoRegex, RegexFault};

pub(crate) const USAGE: &str = "rewrite [continue|stop] FIELD [TYPE] FROM TO [OPTIONS]";

const NAME_USAGE: &str = "name [exact|prefix|suffix|substring|regex] FROM TO [answer …]";
const TTL_USAGE: &str = "ttl [exact|prefix|suffix|substring|regex] FROM SECONDS";
const CNAME_USAGE: &str = "cname [exact|prefix|suffix|substring|regex] FROM TO";
const RCODE_USAGE: &str = "rcode [exact|prefix|suffix|substring|regex] FROM CODE TO";

/// What is wrong with a rule, and the word that is to blame.
pub(super) struct Fault<'t> {
    pub(super) word: Option<&'t Token>,
    pub(super) refusal: Refusal,
}

pub(super) type Reading<'t, T> = Result<T, Fault<'t>>;

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
pub(super) fn fault<'t>(
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

fn name_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, NameRule> {
    let (kind, from, to, options) = match args {
        [] | [_] => {
            let last = args.last().unwrap_or(&field);
            let message = "too few arguments for a name rule";
            return Err(fault(
                Some(last),
                message,
                "an argument is missing after this",
                NAME_USAGE,
            ));
        }
        [from, to] => (None, *from, *to, &args[2..]),
        [kind, from, to, ..] => (Some(*kind), *from, *to, &args[3..]),
    };
    let kind_name = kind.map_or_else(|| "exact".to_owned(), |kind| kind.text.to_lowercase());
    let has_metadata = options.first().is_some_and(|word| word.text == "metadata");
    if has_metadata && kind_name != "regex" {
        let message = "metadata is only supported for regex name rules";
        return Err(fault(options.first().copied(), message, "not with this type", NAME_USAGE));
    }
    let options = if has_metadata { &options[1..] } else { options };
    let (mut is_auto, answers) = match options {
        [] => (false, Vec::new()),
        [last, ..] => answer_rules(&kind_name, last, options)?,
    };
    let plain = |text: &Token| Replacement::text(&normal(&text.text));
    let (from, to) = match kind_name.as_str() {
        "exact" => {
            pattern(to, &normal(&to.text), Some(&normal(&from.text)))?;
            is_auto = true;
            (NameMatch::Exact(normal(&from.text)), plain(to))
        }
        "prefix" => (NameMatch::Prefix(normal(&from.text)), plain(to)),
        "suffix" => (NameMatch::Suffix(normal(&from.text)), plain(to)),
        "substring" => (NameMatch::Substring(normal(&from.text)), plain(to)),
        "regex" if has_metadata => {
            let regex = pattern(from, &from.text, None)?;
            let to_name =
                if to.text.ends_with('.') { to.text.clone() } else { format!("{}.", to.text) };
            let replacement = Replacement::with_labels(&to_name, group_count(&regex));
            let replacement = replacement.map_err(|refusal| Fault { word: Some(to), refusal })?;
            (NameMatch::Regex(regex), replacement)
        }
        "regex" => {
            let regex = pattern(from, &from.text, Some(&to.text))?;
            let to = Replacement::with_groups(&normal(&to.text), group_count(&regex));
            (NameMatch::Regex(regex), to)
        }
        _ => {
            let message = format!(
                "name rule supports only exact, prefix, suffix, substring, and regex name \
                 matching, received: {}",
                quoted(&kind_name)
            );
            return Err(fault(kind, message, "not a type", NAME_USAGE));
        }
    };
    Ok(NameRule { from, to, is_auto, answers })
}

const ANSWER_USAGE: &str = "answer auto|name FROM TO|value FROM TO";

/// The options that begin with `answer`. `kind`: of the rule.
fn answer_rules<'t>(
    kind: &str,
    last: &'t Token,
    options: &[&'t Token],
) -> Reading<'t, (bool, Vec<AnswerRule>)> {
    let kind = quoted(kind);
    let fault =
        |word: &'t Token, message: String, label| fault(Some(word), message, label, ANSWER_USAGE);
    let missing = "an argument is missing after this";
    if options.len() < 2 {
        let message = format!("invalid arguments for {kind} rule");
        return Err(fault(last, message, missing));
    }
    let (mut is_auto, mut answers) = (false, Vec::new());
    let mut rest = options;
    let mut is_first = true;
    while let [word, behind @ ..] = rest {
        let mut word = *word;
        rest = behind;
        if word.text == "answer" {
            let [what, behind @ ..] = rest else {
                let message = format!("type missing for answer rule for {kind} rule");
                return Err(fault(word, message, missing));
            };
            (word, rest) = (*what, behind);
        } else if is_first {
            let message = format!(
                "exceeded the number of arguments for a non-answer rule argument for {kind} rule"
            );
            return Err(fault(word, message, "not `answer`"));
        }
        is_first = false;
        let part = match word.text.as_str() {
            "auto" => {
                is_auto = true;
                continue;
            }
            "name" => AnswerPart::Owner,
            "value" => AnswerPart::Value,
            other => {
                let other = quoted(other);
                let message = format!("invalid type \"{other}\" for answer rule for {kind} rule");
                return Err(fault(word, message, "not `auto`, `name` or `value`"));
            }
        };
        let [from, to, behind @ ..] = rest else {
            let what = &word.text;
            let message = format!("{what} answer rule for {kind} rule: 2 arguments required");
            return Err(fault(rest.last().unwrap_or(&word), message, missing));
        };
        rest = behind;
        let regex = pattern(from, &from.text, Some(&to.text)).map_err(|fault| {
            let message =
                format!("{} answer rule for {kind} rule: {}", word.text, fault.refusal.message);
            Fault { refusal: Refusal { message, ..fault.refusal }, ..fault }
        })?;
        let to = Replacement::with_groups(&normal(&to.text), group_count(&regex));
        answers.push(AnswerRule { part, from: regex, to });
    }
    if is_auto && answers.iter().any(|answer| answer.part == AnswerPart::Owner) {
        // The third word is misspelled in CoreDNS too.
        let message =
            "auto name answer rule cannot be combined with explicit name anwer rules".to_owned();
        return Err(fault(last, message, "`auto` or `name`, not both"));
    }
    Ok((is_auto, answers))
}

fn group_count(regex: &GoRegex) -> usize {
    regex.regex().captures_len() - 1
}

/// The regular expression of a name rule, checked against what it is replaced by.
fn pattern<'t>(word: &'t Token, text: &str, to: Option<&str>) -> Reading<'t, GoRegex> {
    let regex = GoRegex::new(text).map_err(|fault| Fault {
        word: Some(word),
        refusal: match fault {
            RegexFault::TooLong(_) => fault.refusal(),
            RegexFault::Syntax(_) => {
                let message = format!("invalid regex matching pattern: {}", quoted(text));
                explained(Refusal::new(message, "not a regular expression"), &fault)
            }
        },
    })?;
    if let Some(to) = to
        && Replacement::group_count_in(to) > group_count(&regex)
    {
        let message = format!(
            "the rewrite regex pattern ({}) uses more subexpressions than its corresponding \
             matching regex pattern ({})",
            quoted(to),
            quoted(text)
        );
        return Err(Fault {
            word: Some(word),
            refusal: Refusal::new(message, "has fewer groups")
                .help("`{1}` is the first group in parentheses"),
        });
    }
    Ok(regex)
}

/// CoreDNS's message does not say what is wrong with the pattern.
fn explained(refusal: Refusal, fault: &RegexFault) -> Refusal {
    refusal.help(fault.refusal().message)
}

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

fn ttl_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, Field> {
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

/// Go's numbers have no sign.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

fn rcode_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, Field> {
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

fn cname_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, CnameRule> {
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
