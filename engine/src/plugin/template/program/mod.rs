//! The language of `template`: what people use of Go's text/template.
//!
//! `lexer` splits the text, `compiler` checks it, `run` executes it. What is outside of the
//! language is a mistake in the Corefile; it never waits for a query. Invariant: a run ends, and
//! writes no more than its bound, whatever the template.

mod compiler;
mod expression;
mod functions;
mod lexer;
mod printf;
mod run;
mod value;
mod words;

use std::borrow::Cow;

use functions::Function;
pub(crate) use value::TemplateFacts;
use value::Value;

/// A template that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    instructions: Vec<Instruction>,
    /// Variables of the whole template. The first is `$`.
    variable_count: usize,
    /// The query's fields that it names, the method `.Meta` among them.
    fields: Vec<&'static str>,
}

/// Why a text is not a template of this language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Where, in bytes of the template.
    pub(crate) at: usize,
    pub(crate) message: Cow<'static, str>,
}

/// Why a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EvalError(pub(crate) &'static str);

impl SyntaxError {
    fn new(at: usize, message: impl Into<Cow<'static, str>>) -> Self {
        Self { at, message: message.into() }
    }
}

impl Program {
    /// Whether the query's fields that it names are all among these.
    pub(crate) fn names_only(&self, fields: &[&str]) -> bool {
        self.fields.iter().all(|field| fields.contains(field))
    }

    /// Whether it names this field of the query.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.fields.contains(&field)
    }

    /// The same program without its beginning, if it begins with the query's name alone and a
    /// space: the owner of a record.
    pub(crate) fn behind_name(&self) -> Option<Self> {
        let [Instruction::Action(pipeline), rest @ ..] = self.instructions.as_slice() else {
            return None;
        };
        let [Call { head: Head::Operand(Operand { base: Base::Dot, fields }), .. }] =
            pipeline.calls.as_slice()
        else {
            return None;
        };
        let Some(Instruction::Text(behind)) = rest.first() else { return None };
        let is_owner = pipeline.targets.is_empty() && *fields == ["Name"];
        let mut named = self.fields.clone();
        named.remove(named.iter().position(|field| *field == "Name")?);
        (is_owner && behind.starts_with([' ', '\t'])).then(|| Self {
            instructions: rest.to_vec(),
            variable_count: self.variable_count,
            fields: named,
        })
    }
}

/// A step of a template.
#[derive(Clone, Debug, PartialEq)]
enum Instruction {
    Text(String),
    /// Writes the value, unless it goes to a variable.
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// What happens by a condition, or for each element.
#[derive(Clone, Debug, PartialEq)]
struct Branch {
    pipeline: Pipeline,
    body: Vec<Instruction>,
    otherwise: Vec<Instruction>,
}

/// Calls, each of which gets the result of the one before as its last argument.
#[derive(Clone, Debug, PartialEq)]
struct Pipeline {
    /// The variables that get the result; `range` may have two.
    targets: Vec<usize>,
    calls: Vec<Call>,
}

#[derive(Clone, Debug, PartialEq)]
struct Call {
    head: Head,
    args: Vec<Operand>,
}

#[derive(Clone, Debug, PartialEq)]
enum Head {
    Function(Function),
    Operand(Operand),
}

/// A value and the fields that follow it.
#[derive(Clone, Debug, PartialEq)]
struct Operand {
    base: Base,
    fields: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Base {
    Dot,
    Variable(usize),
    Constant(Value),
    /// A function without arguments, as an argument.
    Function(Function),
    Pipeline(Box<Pipeline>),
}
#[cfg(test)]
mod tests;
