//! The functions of templates: Go's, and CoreDNS's `parseInt`.
//!
//! `and` and `or` are in `run`, because they do not need all of their arguments, and `printf` has a
//! file of its own. Invariant: a call has as many arguments as the function's row allows.

use std::cmp::Ordering;

use super::EvalError;
use super::value::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Len,
    Index,
    Slice,
    Print,
    Println,
    Printf,
    ParseInt,
    /// The method `.Meta`.
    Meta,
}

/// A function by name, with the fewest and the most arguments that it takes.
pub(super) struct FunctionRow {
    pub(super) name: &'static str,
    pub(super) function: Function,
    pub(super) arg_counts: (usize, usize),
}

const ANY_COUNT: usize = usize::MAX;

pub(super) const FUNCTIONS: [FunctionRow; 16] = [
    row("and", Function::And, (1, ANY_COUNT)),
    row("or", Function::Or, (1, ANY_COUNT)),
    row("not", Function::Not, (1, 1)),
    row("eq", Function::Eq, (2, ANY_COUNT)),
    row("ne", Function::Ne, (2, 2)),
    row("lt", Function::Lt, (2, 2)),
    row("le", Function::Le, (2, 2)),
    row("gt", Function::Gt, (2, 2)),
    row("ge", Function::Ge, (2, 2)),
    row("len", Function::Len, (1, 1)),
    row("index", Function::Index, (1, ANY_COUNT)),
    row("slice", Function::Slice, (1, 4)),
    row("print", Function::Print, (0, ANY_COUNT)),
    row("println", Function::Println, (0, ANY_COUNT)),
    row("printf", Function::Printf, (1, ANY_COUNT)),
    row("parseInt", Function::ParseInt, (3, 3)),
];

const fn row(name: &'static str, function: Function, arg_counts: (usize, usize)) -> FunctionRow {
    FunctionRow { name, function, arg_counts }
}

/// Functions and actions of Go's that this language lacks.
pub(super) const LACKING: [&str; 7] =
    ["html", "js", "urlquery", "call", "define", "template", "block"];

/// Whether one of the others equals the first.
pub(super) fn equals_any(args: &[Value]) -> Result<bool, EvalError> {
    let [first, others @ ..] = args else { return Err(TOO_FEW) };
    let mut is_equal = false;
    for other in others {
        is_equal |= first.equals(other)?;
    }
    Ok(is_equal)
}

/// Whether the order of two arguments is one of these.
pub(super) fn is_ordered(args: &[Value], orders: &[Ordering]) -> Result<bool, EvalError> {
    let [one, other] = args else { return Err(TOO_FEW) };
    Ok(orders.contains(&one.order(other)?))
}

pub(super) fn len(args: &[Value]) -> Result<Value, EvalError> {
    let len = match args.first().ok_or(TOO_FEW)? {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Missing | Value::Flag(_) | Value::Integer(_) | Value::Struct(_) => {
            return Err(EvalError("len of something without a length"));
        }
    };
    Ok(Value::Integer(len as i128))
}

/// The element that the other arguments lead to, one after the other.
pub(super) fn index(args: &[Value]) -> Result<Value, EvalError> {
    let [first, keys @ ..] = args else { return Err(TOO_FEW) };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::List(list), Value::Integer(at)) => {
                let element = usize::try_from(*at).ok().and_then(|at| list.get(at));
                element.cloned().ok_or(OUT_OF_RANGE)?
            }
            (Value::Text(text), Value::Integer(at)) => {
                let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
                Value::Integer(i128::from(*byte.ok_or(OUT_OF_RANGE)?))
            }
            // As Go, the empty text for a key that the map lacks.
            (Value::Map(map), Value::Text(key)) => {
                Value::get(map, key).unwrap_or_else(|| Value::Text(String::new()))
            }
            (
                Value::Missing
                | Value::Flag(_)
                | Value::Integer(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Map(_)
                | Value::Struct(_),
                _,
            ) => return Err(EvalError("index of another type than it has")),
        };
    }
    Ok(value)
}

/// A part of a text or a list.
pub(super) fn slice(args: &[Value]) -> Result<Value, EvalError> {
    let [first, bounds @ ..] = args else { return Err(TOO_FEW) };
    let mut places = Vec::with_capacity(bounds.len());
    for bound in bounds {
        let Value::Integer(at) = bound else { return Err(EvalError("slice index is no number")) };
        places.push(usize::try_from(*at).map_err(|_| OUT_OF_RANGE)?);
    }
    let range = |len: usize| match *places.as_slice() {
        [] => 0..len,
        [start] => start..len,
        [start, end, ..] => start..end,
    };
    match first {
        Value::Text(_) if places.len() > 2 => Err(EvalError("cannot 3-index slice a string")),
        Value::Text(text) => {
            let part = text.get(range(text.len())).ok_or(OUT_OF_RANGE)?;
            Ok(Value::Text(part.to_owned()))
        }
        Value::List(list) => {
            let part = list.get(range(list.len())).ok_or(OUT_OF_RANGE)?;
            Ok(Value::List(part.to_vec()))
        }
        Value::Missing | Value::Flag(_) | Value::Integer(_) | Value::Map(_) | Value::Struct(_) => {
            Err(EvalError("slice of something without a length"))
        }
    }
}

/// Go's `strconv.ParseUint`: a text, its base and how many bits the number may have.
pub(super) fn parse_int(args: &[Value]) -> Result<Value, EvalError> {
    let [Value::Text(text), Value::Integer(base), Value::Integer(bits)] = args else {
        return Err(EvalError("parseInt takes a text, a base and a number of bits"));
    };
    let invalid = EvalError("parseInt: invalid syntax");
    let (digits, base) = match (base, text.get(..2)) {
        (0, Some("0x" | "0X")) => (text[2..].to_owned(), 16),
        (0, Some("0b" | "0B")) => (text[2..].to_owned(), 2),
        (0, Some("0o" | "0O")) => (text[2..].to_owned(), 8),
        (0, Some(_)) if text.starts_with('0') => (text[1..].to_owned(), 8),
        (0, _) => (text.clone(), 10),
        (2..=36, _) => (text.clone(), *base as u32),
        _ => return Err(EvalError("parseInt: invalid base")),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return Err(invalid);
    }
    let number = u128::from_str_radix(&digits, base).map_err(|_| invalid)?;
    let bits = match bits {
        0 => 64,
        1..=64 => *bits as u32,
        _ => return Err(EvalError("parseInt: invalid bit size")),
    };
    if number >> bits != 0 {
        return Err(EvalError("parseInt: value out of range"));
    }
    Ok(Value::Integer(number as i128))
}

const TOO_FEW: EvalError = EvalError("too few arguments");
const OUT_OF_RANGE: EvalError = EvalError("index out of range");
