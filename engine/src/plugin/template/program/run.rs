//! Runs a program for one query.
//!
//! Invariant: `budget` falls with each step and with each byte that a step makes, and a run without
//! budget ends.

use std::cmp::Ordering;

use super::functions::{self, Function};
use super::value::{DataStruct, TemplateFacts, Value};
use super::{Base, Branch, Call, EvalError, Head, Instruction, Operand, Pipeline, Program, printf};
use crate::limits::{TEMPLATE_BUDGET, TEMPLATE_TEXT_LEN_MAX};

pub(super) const TOO_LONG: EvalError = EvalError("the text is too long");
const TOO_MUCH: EvalError = EvalError("the template runs too long");

impl Program {
    /// The text for a query.
    pub(crate) fn run(&self, facts: &TemplateFacts<'_>) -> Result<String, EvalError> {
        let root = Value::Struct(DataStruct::Query);
        let mut variables = vec![Value::Missing; self.variable_count];
        variables[0] = root.clone();
        let mut run = Run { facts, variables, text: String::new(), budget: TEMPLATE_BUDGET };
        run.instructions(&self.instructions, &root)?;
        Ok(run.text)
    }
}

struct Run<'r> {
    facts: &'r TemplateFacts<'r>,
    variables: Vec<Value>,
    text: String,
    /// Steps and bytes that are left.
    budget: usize,
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyExit {
    Done,
    Break,
    Continue,
}

impl Run<'_> {
    fn spend(&mut self, amount: usize) -> Result<(), EvalError> {
        self.budget = self.budget.checked_sub(amount).ok_or(TOO_MUCH)?;
        Ok(())
    }

    fn instructions(
        &mut self,
        instructions: &[Instruction],
        dot: &Value,
    ) -> Result<BodyExit, EvalError> {
        for instruction in instructions {
            self.spend(1)?;
            let exit = match instruction {
                Instruction::Text(text) => {
                    self.text.push_str(text);
                    BodyExit::Done
                }
                Instruction::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.targets.is_empty() {
                        printf::write_value(&value, &mut self.text)?;
                    }
                    BodyExit::Done
                }
                Instruction::If(branch) => {
                    let value = self.pipeline(&branch.pipeline, dot)?;
                    let body = if value.is_true() { &branch.body } else { &branch.otherwise };
                    self.instructions(body, dot)?
                }
                Instruction::With(branch) => {
                    let value = self.pipeline(&branch.pipeline, dot)?;
                    if value.is_true() {
                        self.instructions(&branch.body, &value)?
                    } else {
                        self.instructions(&branch.otherwise, dot)?
                    }
                }
                Instruction::Range(branch) => self.range(branch, dot)?,
                Instruction::Break => BodyExit::Break,
                Instruction::Continue => BodyExit::Continue,
            };
            if self.text.len() > TEMPLATE_TEXT_LEN_MAX {
                return Err(TOO_LONG);
            }
            if exit != BodyExit::Done {
                return Ok(exit);
            }
        }
        Ok(BodyExit::Done)
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<BodyExit, EvalError> {
        let is_empty = match self.calls(&branch.pipeline.calls, dot)? {
            Value::Missing => true,
            Value::List(list) => self.each(branch, (0..).map(Value::Integer).zip(list))?,
            Value::Map(map) => {
                let key = |(key, value)| (Value::Text(key), value);
                self.each(branch, map.into_iter().map(key))?
            }
            Value::Integer(count) => {
                let number = |at| (Value::Integer(at), Value::Integer(at));
                self.each(branch, (0..count).map(number))?
            }
            Value::Flag(_) | Value::Text(_) | Value::Struct(_) => {
                return Err(EvalError("range cannot go through this"));
            }
        };
        if is_empty {
            return self.instructions(&branch.otherwise, dot);
        }
        Ok(BodyExit::Done)
    }

    /// Runs the body for each element, which comes with its index or key. Whether there was none.
    fn each(
        &mut self,
        branch: &Branch,
        elements: impl Iterator<Item = (Value, Value)>,
    ) -> Result<bool, EvalError> {
        let mut is_empty = true;
        for (index, element) in elements {
            is_empty = false;
            self.spend(1)?;
            match branch.pipeline.targets.as_slice() {
                [] => {}
                [target] => self.set(*target, element.clone()),
                [index_target, target, ..] => {
                    self.set(*index_target, index);
                    self.set(*target, element.clone());
                }
            }
            if self.instructions(&branch.body, &element)? == BodyExit::Break {
                break;
            }
        }
        Ok(is_empty)
    }

    fn set(&mut self, variable: usize, value: Value) {
        if let Some(place) = self.variables.get_mut(variable) {
            *place = value;
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, EvalError> {
        let value = self.calls(&pipeline.calls, dot)?;
        if let [target] = pipeline.targets.as_slice() {
            self.set(*target, value.clone());
        }
        Ok(value)
    }

    fn calls(&mut self, calls: &[Call], dot: &Value) -> Result<Value, EvalError> {
        let mut last = None;
        for call in calls {
            self.spend(1)?;
            last = Some(match &call.head {
                Head::Operand(operand) => self.operand(operand, dot)?,
                Head::Function(function) => self.call(*function, &call.args, last, dot)?,
            });
        }
        Ok(last.unwrap_or(Value::Missing))
    }

    /// Calls a function. `last`: what the pipeline passes to it.
    fn call(
        &mut self,
        function: Function,
        operands: &[Operand],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value, EvalError> {
        if let Function::And | Function::Or = function {
            return self.decide(function, operands, last, dot);
        }
        let mut args = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            args.push(self.operand(operand, dot)?);
        }
        args.extend(last);
        let value = match function {
            Function::And | Function::Or | Function::Not => {
                Value::Flag(!args.first().is_some_and(Value::is_true))
            }
            Function::Eq => Value::Flag(functions::equals_any(&args)?),
            Function::Ne => Value::Flag(!functions::equals_any(&args)?),
            Function::Lt => Value::Flag(functions::is_ordered(&args, &[Ordering::Less])?),
            Function::Le => {
                Value::Flag(functions::is_ordered(&args, &[Ordering::Less, Ordering::Equal])?)
            }
            Function::Gt => Value::Flag(functions::is_ordered(&args, &[Ordering::Greater])?),
            Function::Ge => {
                Value::Flag(functions::is_ordered(&args, &[Ordering::Greater, Ordering::Equal])?)
            }
            Function::Len => functions::len(&args)?,
            Function::Index => functions::index(&args)?,
            Function::Slice => functions::slice(&args)?,
            Function::Print => Value::Text(printf::print(&args, false)?),
            Function::Println => Value::Text(printf::print(&args, true)?),
            Function::Printf => Value::Text(printf::printf(&args, TEMPLATE_TEXT_LEN_MAX)?),
            Function::ParseInt => functions::parse_int(&args)?,
            Function::Meta => match args.first() {
                Some(Value::Text(label)) => Value::Text(self.facts.label(label)),
                Some(_) | None => return Err(EvalError(".Meta takes the name of a label")),
            },
        };
        if let Value::Text(text) = &value {
            self.spend(text.len())?;
            if text.len() > TEMPLATE_TEXT_LEN_MAX {
                return Err(TOO_LONG);
            }
        }
        Ok(value)
    }

    /// `and` and `or`: the first argument that decides, or the last.
    fn decide(
        &mut self,
        function: Function,
        operands: &[Operand],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value, EvalError> {
        let mut value = Value::Missing;
        for operand in operands {
            value = self.operand(operand, dot)?;
            if value.is_true() == (function == Function::Or) {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, EvalError> {
        self.spend(1)?;
        let mut value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(number) => {
                self.variables.get(*number).cloned().unwrap_or(Value::Missing)
            }
            Base::Constant(value) => value.clone(),
            Base::Function(function) => self.call(*function, &[], None, dot)?,
            Base::Pipeline(pipeline) => self.calls(&pipeline.calls, dot)?,
        };
        for name in &operand.fields {
            value = match &value {
                Value::Struct(of) => {
                    self.facts.field(*of, name).ok_or(EvalError("there is no such field"))?
                }
                Value::Map(map) => Value::get(map, name).unwrap_or(Value::Missing),
                Value::Missing => return Err(EvalError("nil has no fields")),
                Value::Flag(_) | Value::Integer(_) | Value::Text(_) | Value::List(_) => {
                    return Err(EvalError("there is no such field"));
                }
            };
        }
        self.spend(value.len_hint())?;
        Ok(value)
    }
}
