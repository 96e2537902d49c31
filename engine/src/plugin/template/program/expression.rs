//! Pipelines, calls and operands of a template.
//!
//! Invariant: a call has as many arguments as its function takes, and a field exists where its
//! struct is known.

use super::compiler::{Compiler, ROOT};
use super::functions::{FUNCTIONS, Function, FunctionRow, LACKING};
use super::lexer::{Lexeme, LexemeSort};
use super::printf;
use super::value::{DataStruct, FIELDS, Value, ValueKind, field_kind};
use super::words::Words;
use super::{Base, Call, Head, Operand, Pipeline, SyntaxError};
use crate::corefile::word::nearest;

impl Compiler {
    /// Reads a pipeline and the variables that get its result.
    pub(super) fn pipeline(
        &mut self,
        words: &mut Words,
        targets_max: usize,
    ) -> Result<(Pipeline, ValueKind), SyntaxError> {
        let (names, declares) = targets(words, targets_max)?;
        let (pipeline, kind) = self.calls(words)?;
        let mut targets = Vec::with_capacity(names.len());
        for (name, at) in names {
            if declares {
                targets.push(self.variable_count);
                self.scope.push((name, self.variable_count, kind));
                self.variable_count += 1;
            } else {
                let known = self.scope.iter_mut().rev().find(|known| known.0 == name);
                let known = known.filter(|_| !name.is_empty());
                let known = known.ok_or_else(|| undefined(&name, at))?;
                known.2 = ValueKind::Unknown;
                targets.push(known.1);
            }
        }
        Ok((Pipeline { targets, calls: pipeline.calls }, kind))
    }

    /// Reads calls that are separated by `|`.
    fn calls(&mut self, words: &mut Words) -> Result<(Pipeline, ValueKind), SyntaxError> {
        let mut calls = Vec::new();
        loop {
            let (call, kind) = self.call(words, !calls.is_empty())?;
            calls.push(call);
            if !words.take(&LexemeSort::Pipe) {
                return Ok((Pipeline { targets: Vec::new(), calls }, kind));
            }
        }
    }

    fn call(
        &mut self,
        words: &mut Words,
        is_piped: bool,
    ) -> Result<(Call, ValueKind), SyntaxError> {
        let (head, kind, at) = match words.peek() {
            Some(LexemeSort::Word(word)) if !is_constant(word) => {
                let word = word.clone();
                words.next_sort();
                (Head::Function(function(&word, words.at)?), ValueKind::Unknown, words.at)
            }
            Some(_) => {
                let (operand, kind) = self.operand(words)?;
                match operand {
                    Operand { base: Base::Function(function), .. } => {
                        (Head::Function(function), ValueKind::Text, words.at)
                    }
                    operand => (Head::Operand(operand), kind, words.at),
                }
            }
            None => return words.error("missing value for command"),
        };
        let mut args = Vec::new();
        while !matches!(
            words.peek(),
            None | Some(LexemeSort::Pipe | LexemeSort::Close | LexemeSort::Comma)
        ) {
            if !words.lexemes.peek().is_some_and(|next| next.is_spaced) {
                let at = words.lexemes.peek().map_or(words.at, |next| next.at);
                return Err(SyntaxError::new(at, "a space is missing before this argument"));
            }
            args.push(self.operand(words)?.0);
        }
        match &head {
            Head::Function(function) => check_call(*function, &args, is_piped, at)?,
            Head::Operand(_) if is_piped => {
                return Err(SyntaxError::new(at, "only a function can follow `|`"));
            }
            Head::Operand(_) if !args.is_empty() => {
                return Err(SyntaxError::new(at, "only a function takes arguments"));
            }
            Head::Operand(Operand { base: Base::Constant(Value::Missing), .. }) => {
                return Err(SyntaxError::new(at, "nil is not a command"));
            }
            Head::Operand(_) => {}
        }
        Ok((Call { head, args }, kind))
    }

    fn operand(&mut self, words: &mut Words) -> Result<(Operand, ValueKind), SyntaxError> {
        let sort = words.next_sort();
        let at = words.at;
        let (base, mut kind, first_field) = match sort {
            Some(LexemeSort::Dot) => (Base::Dot, self.dot, None),
            Some(LexemeSort::Field(name)) => (Base::Dot, self.dot, Some(name)),
            Some(LexemeSort::Variable(name)) => {
                let known = self.scope.iter().rev().find(|known| known.0 == name);
                let (_, number, kind) = known.ok_or_else(|| undefined(&name, at))?;
                (Base::Variable(*number), *kind, None)
            }
            Some(LexemeSort::Constant(value)) => (Base::Constant(value), ValueKind::Unknown, None),
            Some(LexemeSort::Word(word)) => match word.as_str() {
                "true" | "false" => {
                    (Base::Constant(Value::Flag(word == "true")), ValueKind::Flag, None)
                }
                "nil" => (Base::Constant(Value::Missing), ValueKind::Unknown, None),
                _ => {
                    let function = function(&word, at)?;
                    check_call(function, &[], false, at)?;
                    (Base::Function(function), ValueKind::Unknown, None)
                }
            },
            Some(LexemeSort::Open) => {
                self.go_deeper(at)?;
                let (pipeline, kind) = self.calls(words)?;
                self.depth -= 1;
                if !words.take(&LexemeSort::Close) {
                    return Err(SyntaxError::new(at, "unclosed left paren"));
                }
                (Base::Pipeline(Box::new(pipeline)), kind, None)
            }
            Some(
                LexemeSort::Close
                | LexemeSort::Pipe
                | LexemeSort::Comma
                | LexemeSort::Declare
                | LexemeSort::Assign,
            ) => return Err(SyntaxError::new(at, "unexpected word in operand")),
            None => return Err(SyntaxError::new(at, "missing value for command")),
        };
        let mut fields = Vec::new();
        let mut next = first_field;
        while let Some(name) = next.take().or_else(|| chained_field(words)) {
            if kind == ROOT && name == "Meta" && fields.is_empty() {
                self.fields.push("Meta");
                return Ok((
                    Operand { base: Base::Function(Function::Meta), fields },
                    ValueKind::Text,
                ));
            }
            kind = self.field(kind, &name, words.at)?;
            fields.push(name);
        }
        if !fields.is_empty() && matches!(base, Base::Constant(_) | Base::Function(_)) {
            return Err(SyntaxError::new(at, "a constant has no fields"));
        }
        Ok((Operand { base, fields }, kind))
    }

    /// The kind of a field; an error if it certainly does not exist.
    fn field(&mut self, of: ValueKind, name: &str, at: usize) -> Result<ValueKind, SyntaxError> {
        match of {
            ValueKind::Unknown => {
                // It may be the query.
                self.note_field(name);
                Ok(ValueKind::Unknown)
            }
            ValueKind::Groups => Ok(ValueKind::Text),
            ValueKind::Struct(of) => {
                if of == DataStruct::Query {
                    self.note_field(name);
                }
                field_kind(of, name).ok_or_else(|| unknown_field(of, name, at))
            }
            ValueKind::Text
            | ValueKind::Number
            | ValueKind::Flag
            | ValueKind::Texts
            | ValueKind::Questions => {
                Err(SyntaxError::new(at, format!("there is no field .{name} here")))
            }
        }
    }

    /// Notes that the template names this field of the query, if there is such a field.
    fn note_field(&mut self, name: &str) {
        let row = FIELDS.iter().find(|row| row.0 == DataStruct::Query && row.1 == name);
        self.fields.extend(row.map(|row| row.1));
    }
}

/// The next word, if it is a field right after the last one.
fn chained_field(words: &mut Words) -> Option<String> {
    let next = words
        .lexemes
        .next_if(|next| !next.is_spaced && matches!(next.sort, LexemeSort::Field(_)))?;
    words.at = next.at;
    match next.sort {
        LexemeSort::Field(name) => Some(name),
        LexemeSort::Word(_)
        | LexemeSort::Dot
        | LexemeSort::Variable(_)
        | LexemeSort::Constant(_)
        | LexemeSort::Open
        | LexemeSort::Close
        | LexemeSort::Pipe
        | LexemeSort::Comma
        | LexemeSort::Declare
        | LexemeSort::Assign => None,
    }
}

/// The variables in front of `:=` or `=`, and whether they are declared there.
fn targets(
    words: &mut Words,
    targets_max: usize,
) -> Result<(Vec<(String, usize)>, bool), SyntaxError> {
    let mut ahead = words.lexemes.clone();
    let mut names = Vec::new();
    loop {
        let Some(Lexeme { sort: LexemeSort::Variable(name), at, .. }) = ahead.next() else {
            return Ok((Vec::new(), false));
        };
        names.push((name, at));
        let declares = match ahead.next().map(|lexeme| lexeme.sort) {
            Some(LexemeSort::Comma) => continue,
            Some(LexemeSort::Declare) => true,
            Some(LexemeSort::Assign) => false,
            Some(_) | None => return Ok((Vec::new(), false)),
        };
        words.lexemes = ahead;
        words.at = at;
        if names.len() > targets_max {
            return words.error("too many declarations");
        }
        return Ok((names, declares));
    }
}

fn is_constant(word: &str) -> bool {
    matches!(word, "true" | "false" | "nil")
}

fn function(word: &str, at: usize) -> Result<Function, SyntaxError> {
    if let Some(row) = FUNCTIONS.iter().find(|row| row.name == word) {
        return Ok(row.function);
    }
    if LACKING.contains(&word) {
        return Err(SyntaxError::new(at, format!("{word} is not built")));
    }
    let meant = nearest(word, FUNCTIONS.iter().map(|row| row.name));
    let hint = meant.map_or_else(String::new, |meant| format!(", did you mean {meant}?"));
    Err(SyntaxError::new(at, format!("function {word:?} not defined{hint}")))
}

/// Checks how many arguments a call has, and the format of a `printf`.
fn check_call(
    function: Function,
    args: &[Operand],
    is_piped: bool,
    at: usize,
) -> Result<(), SyntaxError> {
    let row = FUNCTIONS.iter().find(|row| row.function == function);
    let (name, (fewest, most)) = match row {
        Some(FunctionRow { name, arg_counts, .. }) => (*name, *arg_counts),
        None => (".Meta", (1, 1)),
    };
    let count = args.len() + usize::from(is_piped);
    if count < fewest || count > most {
        let message = format!("wrong number of args for {name}: want {fewest} got {count}");
        return Err(SyntaxError::new(at, message));
    }
    if let (Function::Printf, Some(Operand { base: Base::Constant(Value::Text(format)), .. })) =
        (function, args.first())
        && let Some(verb) = printf::verbs(format).find(|verb| !printf::VERBS.contains(*verb))
    {
        return Err(SyntaxError::new(at, format!("the verb %{verb} of printf is not built")));
    }
    Ok(())
}

fn undefined(name: &str, at: usize) -> SyntaxError {
    SyntaxError::new(at, format!("undefined variable \"${name}\""))
}

fn unknown_field(of: DataStruct, name: &str, at: usize) -> SyntaxError {
    if of == DataStruct::Query && name == "Var" {
        return SyntaxError::new(at, ".Var needs `var`, which is not built");
    }
    let names = FIELDS.iter().filter(|row| row.0 == of).map(|row| row.1);
    let hint = match nearest(name, names.clone()) {
        Some(meant) => format!("did you mean .{meant}?"),
        None => format!("the fields are .{}", names.collect::<Vec<_>>().join(", .")),
    };
    SyntaxError::new(at, format!("there is no field .{name} here; {hint}"))
}
