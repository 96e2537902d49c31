//! Reads `name` rules and their answer rules.

use super::{Fault, Reading, explained, fault, group_count, normal};
use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;
use crate::plugin::go_regex::{GoRegex, RegexFault};
use crate::plugin::rewrite::replacement::Replacement;
use crate::plugin::rewrite::{AnswerPart, AnswerRule, NameMatch, NameRule};

pub(super) const NAME_USAGE: &str = "name [exact|prefix|suffix|substring|regex] FROM TO [answer …]";
const ANSWER_USAGE: &str = "answer auto|name FROM TO|value FROM TO";

pub(super) fn name_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, NameRule> {
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
