//! The types of an expression: a tree of syntax becomes a program, or a fault in CoreDNS's words.
//!
//! Invariant: every part of a program gets operands of the types that it takes.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::bytes::Regex;

use super::program::{Comparison, Fact, IntOperator, Part, TextOperator, TextTest};
use super::syntax::{ChainLink, Expr, ExprForm};
use super::token::ExprFault;
use crate::corefile::word::quoted;
use crate::plugin::metadata;

/// The type of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExprType {
    Bool,
    Int,
    Text,
}

impl ExprType {
    /// Go's name.
    const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Text => "string",
        }
    }
}

/// A part and its type.
type Typed = (Part, ExprType);

/// The functions of a query, without arguments.
const FACTS: [(&str, Fact, ExprType); 13] = [
    ("type", Fact::Type, ExprType::Text),
    ("name", Fact::Name, ExprType::Text),
    ("class", Fact::Class, ExprType::Text),
    ("proto", Fact::Proto, ExprType::Text),
    ("size", Fact::Size, ExprType::Int),
    ("client_ip", Fact::ClientIp, ExprType::Text),
    ("port", Fact::Port, ExprType::Text),
    ("id", Fact::Id, ExprType::Int),
    ("opcode", Fact::Opcode, ExprType::Int),
    ("do", Fact::DnssecOk, ExprType::Bool),
    ("bufsize", Fact::Bufsize, ExprType::Int),
    ("server_ip", Fact::ServerIp, ExprType::Text),
    ("server_port", Fact::ServerPort, ExprType::Text),
];

/// Functions of texts: their number of texts, and the type of their result.
const TEXT_FUNCTIONS: [(&str, usize, ExprType); 9] = [
    ("incidr", 2, ExprType::Bool),
    ("metadata", 1, ExprType::Text),
    ("len", 1, ExprType::Int),
    ("lower", 1, ExprType::Text),
    ("upper", 1, ExprType::Text),
    ("trim", 1, ExprType::Text),
    ("hasPrefix", 2, ExprType::Bool),
    ("hasSuffix", 2, ExprType::Bool),
    ("int", 1, ExprType::Int),
];

/// Functions of `expr` that ringdns lacks.
const OTHER_FUNCTIONS: [&str; 62] = [
    "all",
    "none",
    "any",
    "one",
    "filter",
    "map",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "count",
    "sum",
    "groupBy",
    "sortBy",
    "reduce",
    "abs",
    "ceil",
    "floor",
    "round",
    "float",
    "string",
    "trimPrefix",
    "trimSuffix",
    "split",
    "splitAfter",
    "replace",
    "repeat",
    "join",
    "indexOf",
    "lastIndexOf",
    "max",
    "min",
    "mean",
    "median",
    "toJSON",
    "fromJSON",
    "toBase64",
    "fromBase64",
    "now",
    "duration",
    "date",
    "timezone",
    "first",
    "last",
    "get",
    "take",
    "keys",
    "values",
    "toPairs",
    "fromPairs",
    "reverse",
    "uniq",
    "concat",
    "flatten",
    "sort",
    "bitand",
    "bitor",
    "bitxor",
    "bitnand",
    "bitnot",
    "bitshl",
    "bitshr",
];

/// The program of an expression.
pub(super) struct CheckedExpr {
    pub(super) whole: Part,
    pub(super) whole_type: ExprType,
    pub(super) patterns: Vec<Regex>,
}

/// Checks a whole expression.
///
/// # Errors
/// The first part with a wrong type, or that ringdns lacks.
pub(super) fn check(expr: &Expr) -> Result<CheckedExpr, ExprFault> {
    let mut checker = Checker { patterns: Vec::new() };
    let (whole, whole_type) = checker.part(expr)?;
    Ok(CheckedExpr { whole, whole_type, patterns: checker.patterns })
}

struct Checker {
    patterns: Vec<Regex>,
}

impl Checker {
    fn part(&mut self, expr: &Expr) -> Result<Typed, ExprFault> {
        let at = expr.at;
        match &expr.form {
            ExprForm::Number(number) => Ok((Part::Int(*number), ExprType::Int)),
            ExprForm::Text(text) => Ok((Part::Text(text.as_str().into()), ExprType::Text)),
            ExprForm::Bool(bool) => Ok((Part::Bool(*bool), ExprType::Bool)),
            ExprForm::Nil => Err(ExprFault::not_built("nil", at)),
            ExprForm::List(_) => Err(ExprFault::not_built("[", at)),
            ExprForm::Name(name) if is_known(name) => {
                let message = format!("'{name}' is a function: write `{name}()`");
                Err(ExprFault::new(message, at))
            }
            ExprForm::Name(name) => Err(ExprFault::new(format!("unknown name {name}"), at)),
            ExprForm::Call(name, args) => self.call(name, args, at),
            ExprForm::Unary(operator, inner) => self.unary(operator, inner, at),
            ExprForm::Binary(operator, left, right) => self.binary(operator, left, right, at),
            ExprForm::Or(first, links) => Ok((Part::Or(self.chain(first, links)?), ExprType::Bool)),
            ExprForm::And(first, links) => {
                Ok((Part::And(self.chain(first, links)?), ExprType::Bool))
            }
            ExprForm::Choice(condition, then, or_else) => {
                let (condition, condition_type) = self.part(condition)?;
                if condition_type != ExprType::Bool {
                    let message = format!(
                        "non-bool expression (type {}) used as condition",
                        condition_type.name()
                    );
                    return Err(ExprFault::new(message, at));
                }
                let ((then, then_type), (or_else, else_type)) =
                    (self.part(then)?, self.part(or_else)?);
                if then_type != else_type {
                    return Err(ExprFault::not_built("? with values of two types", at));
                }
                let parts = Box::new([condition, then, or_else]);
                Ok((Part::Choice(parts), then_type))
            }
        }
    }

    fn chain(&mut self, first: &Expr, links: &[ChainLink]) -> Result<Box<[Part]>, ExprFault> {
        let (first, mut left_type) = self.part(first)?;
        let mut parts = vec![first];
        for ChainLink { operator, at, operand } in links {
            let (part, right_type) = self.part(operand)?;
            if (left_type, right_type) != (ExprType::Bool, ExprType::Bool) {
                return Err(mismatch(operator, left_type.name(), right_type.name(), *at));
            }
            left_type = right_type;
            parts.push(part);
        }
        Ok(parts.into())
    }

    fn unary(&mut self, operator: &str, inner: &Expr, at: usize) -> Result<Typed, ExprFault> {
        let (part, part_type) = self.part(inner)?;
        match (operator, part_type) {
            ("not" | "!", ExprType::Bool) => Ok((Part::Not(Box::new(part)), part_type)),
            ("+", ExprType::Int) => Ok((part, part_type)),
            ("-", ExprType::Int) => {
                let parts = Box::new([Part::Int(0), part]);
                Ok((Part::Compute(IntOperator::Minus, parts), part_type))
            }
            _ => {
                let message =
                    format!("invalid operation: {operator} (mismatched type {})", part_type.name());
                Err(ExprFault::new(message, at))
            }
        }
    }

    fn binary(
        &mut self,
        operator: &str,
        left: &Expr,
        right: &Expr,
        at: usize,
    ) -> Result<Typed, ExprFault> {
        match operator {
            "in" => return self.is_in(left, right, at),
            ".." | "/" | "**" | "^" | "??" => return Err(ExprFault::not_built(operator, at)),
            _ => {}
        }
        let ((left, left_type), (right, right_type)) = (self.part(left)?, self.part(right)?);
        let types = (left_type, right_type);
        let order = match operator {
            "==" => Some(Comparison::Equal),
            "!=" => Some(Comparison::Unequal),
            "<" => Some(Comparison::Less),
            "<=" => Some(Comparison::LessOrEqual),
            ">" => Some(Comparison::Greater),
            ">=" => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        let texts = (ExprType::Text, ExprType::Text);
        let text_test = match operator {
            "contains" => Some(TextTest::Contains),
            "startsWith" => Some(TextTest::StartsWith),
            "endsWith" => Some(TextTest::EndsWith),
            _ => None,
        };
        let computed = match operator {
            "+" => Some(IntOperator::Plus),
            "-" => Some(IntOperator::Minus),
            "*" => Some(IntOperator::Times),
            "%" => Some(IntOperator::Modulo),
            _ => None,
        };
        let parts = Box::new([left, right]);
        match (operator, types) {
            ("matches", types) if types == texts => self.matches(*parts, at),
            ("+", types) if types == texts => {
                Ok((Part::Change(TextOperator::Join, parts), ExprType::Text))
            }
            _ => match (order, text_test, computed) {
                (Some(order), _, _) if is_ordered(order, types) => {
                    Ok((Part::Compare(order, parts), ExprType::Bool))
                }
                (_, Some(test), _) if types == texts => {
                    Ok((Part::Test(test, parts), ExprType::Bool))
                }
                (_, _, Some(computed)) if types == (ExprType::Int, ExprType::Int) => {
                    Ok((Part::Compute(computed, parts), ExprType::Int))
                }
                _ => Err(mismatch(operator, left_type.name(), right_type.name(), at)),
            },
        }
    }

    /// The pattern must be known when the Corefile is read.
    fn matches(&mut self, [text, pattern]: [Part; 2], at: usize) -> Result<Typed, ExprFault> {
        let Part::Text(pattern) = pattern else {
            return Err(ExprFault::not_built("matches with a computed pattern", at));
        };
        let pattern = Regex::new(&pattern).map_err(|error| {
            // The last line has the reason; those before it draw the pattern.
            let drawn = error.to_string();
            let why = drawn.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            ExprFault::new(format!("error parsing regexp: {why}: `{pattern}`"), at)
        })?;
        self.patterns.push(pattern);
        Ok((Part::Matches(Box::new(text), self.patterns.len() - 1), ExprType::Bool))
    }

    /// `in`: a list, or a range of numbers.
    fn is_in(&mut self, left: &Expr, right: &Expr, at: usize) -> Result<Typed, ExprFault> {
        let (left, left_type) = self.part(left)?;
        if let ExprForm::Binary(operator, low, high) = &right.form
            && operator == ".."
        {
            let ((low, low_type), (high, high_type)) = (self.part(low)?, self.part(high)?);
            if (low_type, high_type) != (ExprType::Int, ExprType::Int) {
                return Err(mismatch("..", low_type.name(), high_type.name(), right.at));
            }
            if left_type != ExprType::Int {
                return Err(not_an_item(left_type, ExprType::Int, at));
            }
            return Ok((Part::InRange(Box::new([left, low, high])), ExprType::Bool));
        }
        let ExprForm::List(list) = &right.form else {
            let (_, right_type) = self.part(right)?;
            return Err(mismatch("in", left_type.name(), right_type.name(), at));
        };
        let mut items = list.iter().map(|item| self.part(item)).collect::<Result<Vec<_>, _>>()?;
        // A list of one type takes that type only; items of other types are never equal.
        if let Some((_, first)) = items.first()
            && items.iter().all(|(_, item)| item == first)
            && *first != left_type
        {
            return Err(not_an_item(left_type, *first, at));
        }
        items.retain(|(_, item)| *item == left_type);
        let items = items.into_iter().map(|(part, _)| part).collect();
        Ok((Part::In(Box::new(left), items), ExprType::Bool))
    }

    fn call(&mut self, name: &str, args: &[Expr], at: usize) -> Result<Typed, ExprFault> {
        let fact = FACTS.iter().find(|(known, _, _)| *known == name);
        let function = TEXT_FUNCTIONS.iter().find(|(known, _, _)| *known == name);
        let (arg_count, result) = match (fact, function) {
            (Some((_, _, result)), _) => (0, *result),
            (None, Some((_, arg_count, result))) => (*arg_count, *result),
            (None, None) if OTHER_FUNCTIONS.contains(&name) => {
                return Err(ExprFault::not_built(name, at));
            }
            (None, None) => return Err(ExprFault::new(format!("unknown name {name}"), at)),
        };
        if args.len() != arg_count {
            let many = if args.len() < arg_count { "not enough" } else { "too many" };
            return Err(ExprFault::new(format!("{many} arguments to call {name}"), at));
        }
        if let Some((_, fact, _)) = fact {
            return Ok((Part::Fact(*fact), result));
        }
        let mut texts = Vec::with_capacity(arg_count);
        for arg in args {
            let (part, part_type) = self.part(arg)?;
            if part_type != ExprType::Text {
                let type_name = part_type.name();
                let message =
                    format!("cannot use {type_name} as argument (type string) to call {name}");
                return Err(ExprFault::new(message, arg.at));
            }
            texts.push(part);
        }
        if let ("metadata", Some(Part::Text(label))) = (name, texts.first())
            && metadata::is_lacking(label)
        {
            return Err(ExprFault::not_built(&quoted(label), args[0].at));
        }
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap_or_else(|| Part::Text("".into()));
        let first = text();
        Ok((text_function(name, first, text()), result))
    }
}

fn text_function(name: &str, first: Part, second: Part) -> Part {
    match name {
        "incidr" => {
            let Part::Text(network) = &second else {
                return Part::InComputedNetwork(Box::new([first, second]));
            };
            let network = network.parse::<IpNet>().ok().map(|network| network.trunc());
            Part::InNetwork(Box::new(first), network)
        }
        "metadata" => Part::Label(Box::new(first)),
        "len" => Part::Len(Box::new(first)),
        "int" => Part::ToInt(Box::new(first)),
        "hasPrefix" => Part::Test(TextTest::StartsWith, Box::new([first, second])),
        "hasSuffix" => Part::Test(TextTest::EndsWith, Box::new([first, second])),
        "lower" => Part::Change(TextOperator::Lower, Box::new([first, second])),
        "upper" => Part::Change(TextOperator::Upper, Box::new([first, second])),
        _ => Part::Change(TextOperator::Trim, Box::new([first, second])),
    }
}

fn is_known(name: &str) -> bool {
    FACTS.iter().any(|(known, _, _)| *known == name)
        || TEXT_FUNCTIONS.iter().any(|(known, _, _)| *known == name)
        || OTHER_FUNCTIONS.contains(&name)
}

fn is_ordered(order: Comparison, types: (ExprType, ExprType)) -> bool {
    let is_equality = matches!(order, Comparison::Equal | Comparison::Unequal);
    types.0 == types.1 && (is_equality || types.0 != ExprType::Bool)
}

fn mismatch(operator: &str, left: &str, right: &str, at: usize) -> ExprFault {
    ExprFault::new(
        format!("invalid operation: {operator} (mismatched types {left} and {right})"),
        at,
    )
}

fn not_an_item(item: ExprType, of: ExprType, at: usize) -> ExprFault {
    let message = format!("cannot use {} as type {} in array", item.name(), of.name());
    ExprFault::new(message, at)
}

/// Whether a network has an address, as Go decides it.
pub(super) fn contains(network: &IpNet, address: &str) -> Option<bool> {
    let address: IpAddr = address.parse().ok()?;
    Some(network.contains(&address.to_canonical()))
}
