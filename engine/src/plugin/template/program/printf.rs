//! `printf` and the other ways in which templates write values, as Go's fmt does.
//!
//! Invariant: nothing here writes more than the caller's bound, whatever a width asks for.

use std::fmt::Write as _;

use super::EvalError;
use super::value::Value;

/// The verbs of `printf` here. Go has others for fractions and pointers.
pub(super) const VERBS: &str = "vsdboOxXcqtU%";

/// The value as `{{ … }}` writes it.
pub(super) fn write_value(value: &Value, text: &mut String) -> Result<(), EvalError> {
    match value {
        Value::Missing => text.push_str("<no value>"),
        value => push_plain(value, text)?,
    }
    Ok(())
}

/// The arguments as `print` joins them: with a space where neither neighbour is a text. `println`
/// always has one, and a line end.
pub(super) fn print(args: &[Value], is_line: bool) -> Result<String, EvalError> {
    let mut text = String::new();
    let mut was_text = true;
    for (index, arg) in args.iter().enumerate() {
        let is_text = matches!(arg, Value::Text(_));
        if index > 0 && (is_line || !is_text && !was_text) {
            text.push(' ');
        }
        push_plain(arg, &mut text)?;
        was_text = is_text;
    }
    if is_line {
        text.push('\n');
    }
    Ok(text)
}

/// The value as `%v`.
fn push_plain(value: &Value, text: &mut String) -> Result<(), EvalError> {
    match value {
        Value::Missing => text.push_str("<nil>"),
        Value::Flag(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Integer(number) => {
            let _ = write!(text, "{number}");
        }
        Value::Text(own) => text.push_str(own),
        Value::List(list) => {
            text.push('[');
            for (index, element) in list.iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                push_plain(element, text)?;
            }
            text.push(']');
        }
        Value::Map(map) => {
            text.push_str("map[");
            for (index, (key, element)) in map.iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                text.push_str(key);
                text.push(':');
                push_plain(element, text)?;
            }
            text.push(']');
        }
        Value::Struct(_) => return Err(EvalError("only the fields of a struct can be written")),
    }
    Ok(())
}

/// One `%…` of a format.
#[derive(Clone, Copy, Debug, Default)]
struct FormatDirective {
    is_left: bool,
    has_sign: bool,
    is_alternate: bool,
    has_space: bool,
    has_zeros: bool,
    width: usize,
    precision: Option<usize>,
    verb: char,
}

/// The format with its arguments. `len_max`: of a padded value.
pub(super) fn printf(args: &[Value], len_max: usize) -> Result<String, EvalError> {
    let [Value::Text(format), args @ ..] = args else {
        return Err(EvalError("printf needs a format"));
    };
    let mut text = String::new();
    let mut args = args.iter();
    let mut rest = format.as_str();
    while let Some((plain, behind)) = rest.split_once('%') {
        text.push_str(plain);
        let Some((directive, next)) = directive(behind) else {
            text.push_str("%!(NOVERB)");
            return Ok(text);
        };
        rest = next;
        if directive.verb == '%' {
            text.push('%');
            continue;
        }
        if directive.width.max(directive.precision.unwrap_or(0)) > len_max {
            return Err(super::run::TOO_LONG);
        }
        match args.next() {
            Some(arg) => push_formatted(arg, directive, &mut text)?,
            None => {
                let _ = write!(text, "%!{}(MISSING)", directive.verb);
            }
        }
        if text.len() > len_max {
            return Err(super::run::TOO_LONG);
        }
    }
    text.push_str(rest);
    let extra: Vec<&Value> = args.collect();
    if !extra.is_empty() {
        text.push_str("%!(EXTRA ");
        for (index, arg) in extra.into_iter().enumerate() {
            text.push_str(if index > 0 { ", " } else { "" });
            text.push_str(arg.type_name());
            if *arg != Value::Missing {
                text.push('=');
                push_plain(arg, &mut text)?;
            }
        }
        text.push(')');
    }
    Ok(text)
}

/// Reads what follows a `%`; `None` if that is not a verb.
fn directive(text: &str) -> Option<(FormatDirective, &str)> {
    let mut directive = FormatDirective::default();
    let mut rest = text;
    loop {
        let flag = rest.chars().next()?;
        match flag {
            '-' => directive.is_left = true,
            '+' => directive.has_sign = true,
            '#' => directive.is_alternate = true,
            ' ' => directive.has_space = true,
            '0' => directive.has_zeros = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    let (width, behind) = number(rest);
    directive.width = width;
    rest = behind;
    if let Some(behind) = rest.strip_prefix('.') {
        let (precision, behind) = number(behind);
        directive.precision = Some(precision);
        rest = behind;
    }
    let verb = rest.chars().next()?;
    directive.verb = verb;
    Some((directive, &rest[verb.len_utf8()..]))
}

/// The digits at the beginning; a number that is too large is the largest.
fn number(text: &str) -> (usize, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) };
    (number, rest)
}

/// The verbs of a format, in their order.
pub(super) fn verbs(format: &str) -> impl Iterator<Item = char> {
    format.split('%').skip(1).filter_map(|behind| directive(behind).map(|(found, _)| found.verb))
}

fn push_formatted(
    value: &Value,
    directive: FormatDirective,
    text: &mut String,
) -> Result<(), EvalError> {
    match (value, directive.verb) {
        (Value::List(list), _) => {
            text.push('[');
            for (index, element) in list.iter().enumerate() {
                text.push_str(if index > 0 { " " } else { "" });
                push_formatted(element, directive, text)?;
            }
            text.push(']');
        }
        (Value::Text(own), 's' | 'v') => {
            let shown = directive.precision.map_or(own.as_str(), |count| {
                own.char_indices().nth(count).map_or(own, |(end, _)| &own[..end])
            });
            match (directive.verb, directive.is_alternate) {
                ('v', true) => pad(&format!("{shown:?}"), directive, text),
                _ => pad(shown, directive, text),
            }
        }
        (Value::Text(own), 'q') => pad(&format!("{own:?}"), directive, text),
        (Value::Text(own), 'x' | 'X') => {
            let hex: String = own.bytes().map(|byte| format!("{byte:02x}")).collect();
            let hex = if directive.verb == 'X' { hex.to_uppercase() } else { hex };
            pad(&hex, directive, text);
        }
        (Value::Flag(flag), 't' | 'v') => {
            pad(if *flag { "true" } else { "false" }, directive, text)
        }
        (Value::Integer(number), 'c') => {
            let c = u32::try_from(*number).ok().and_then(char::from_u32);
            pad(c.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut [0; 4]), directive, text);
        }
        (Value::Integer(number), 'q') => {
            let c = u32::try_from(*number).ok().and_then(char::from_u32);
            pad(&format!("{:?}", c.unwrap_or(char::REPLACEMENT_CHARACTER)), directive, text);
        }
        (Value::Integer(number), 'U') => pad(&format!("U+{number:04X}"), directive, text),
        (Value::Integer(number), 'd' | 'v' | 'b' | 'o' | 'O' | 'x' | 'X') => {
            push_integer(*number, directive, text);
        }
        (Value::Map(_) | Value::Struct(_), 'v' | 's') => push_plain(value, text)?,
        (
            Value::Missing
            | Value::Flag(_)
            | Value::Integer(_)
            | Value::Text(_)
            | Value::Map(_)
            | Value::Struct(_),
            verb,
        ) => {
            if *value == Value::Missing && verb == 'v' {
                pad("<nil>", directive, text);
                return Ok(());
            }
            let _ = write!(text, "%!{verb}({}", value.type_name());
            if *value != Value::Missing {
                text.push('=');
                push_plain(value, text)?;
            }
            text.push(')');
        }
    }
    Ok(())
}

fn push_integer(number: i128, directive: FormatDirective, text: &mut String) {
    let size = number.unsigned_abs();
    let digits = match directive.verb {
        'b' => format!("{size:b}"),
        'o' | 'O' => format!("{size:o}"),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        _ => size.to_string(),
    };
    let prefix = match (directive.verb, directive.is_alternate) {
        ('x', true) => "0x",
        ('X', true) => "0X",
        ('b', true) => "0b",
        ('o', true) => "0",
        ('O', _) => "0o",
        _ => "",
    };
    let sign = match (number < 0, directive.has_sign, directive.has_space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    };
    let fills = directive.has_zeros && !directive.is_left && directive.precision.is_none();
    let digit_count = match directive.precision {
        Some(precision) => precision,
        None if fills => directive.width.saturating_sub(sign.len()),
        None => 0,
    };
    let spaced = FormatDirective { has_zeros: false, ..directive };
    pad(&format!("{sign}{prefix}{digits:0>digit_count$}"), spaced, text);
}

/// Fills the width with spaces.
fn pad(shown: &str, directive: FormatDirective, text: &mut String) {
    let width = directive.width;
    let _ = match (directive.is_left, directive.has_zeros) {
        (true, _) => write!(text, "{shown:<width$}"),
        (false, true) => write!(text, "{shown:0>width$}"),
        (false, false) => write!(text, "{shown:>width$}"),
    };
}
