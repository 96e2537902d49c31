//! `view`: a server block for queries that meet conditions only.
//!
//! The line is read here. `token`, `syntax` and `check` compile an expression, `program` evaluates
//! it; the plan asks the views of an address in the order of the Corefile. Invariant: an expression
//! is compiled when the Corefile is read, and an evaluation neither allocates nor panics.

mod check;
pub mod program;
mod syntax;
mod token;

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use regex::bytes::Regex;

use self::check::ExprType;
use self::program::{Evaluation, Part, QueryFacts, TextBuffer};
use self::token::ExprFault;
use super::draft::{BlockDraft, LoadContext, Loading};
use super::metadata::QueryLabels;
use super::pattern::Pattern;
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::{Setting, Statement, adds};
use crate::corefile::word::quoted;

/// `view NAME { expr EXPRESSION }`.
#[derive(Clone, Debug, Default)]
pub struct ViewSettings {
    pub name: String,
    /// All must be true.
    programs: Vec<ViewProgram>,
}

/// A compiled expression.
#[derive(Clone, Debug)]
struct ViewProgram {
    whole: Part,
    /// The patterns of `matches`, by their index in `whole`.
    patterns: Vec<Regex>,
}

impl Plugin for ViewSettings {
    fn name(&self) -> &'static str {
        "view"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let mut conditions = Vec::with_capacity(self.programs.len());
        for ViewProgram { whole, patterns } in &self.programs {
            let first_pattern = block.patterns.len();
            for pattern in patterns {
                let _ = block.pattern(pattern.clone());
            }
            conditions.push(Condition { whole: whole.clone(), first_pattern });
        }
        block.view = Some(Arc::new(ViewFilter {
            name: self.name.clone(),
            id: ViewId(VIEW_COUNT.fetch_add(1, Relaxed)),
            conditions,
            labels: QueryLabels::of(context.block),
        }));
        Box::pin(ready(Ok(())))
    }
}

/// Views made so far.
static VIEW_COUNT: AtomicU64 = AtomicU64::new(0);

/// The view of one server block of one plan; no other view has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewId(u64);

/// The conditions of a block.
#[derive(Debug)]
pub struct ViewFilter {
    pub name: String,
    pub id: ViewId,
    conditions: Vec<Condition>,
    labels: Option<QueryLabels>,
}

#[derive(Debug)]
struct Condition {
    whole: Part,
    /// The place of its patterns among the block's.
    first_pattern: usize,
}

impl ViewFilter {
    /// Whether the block takes this query. `patterns`: this shard's copies of the block's.
    pub fn takes(
        &self,
        facts: &QueryFacts<'_>,
        patterns: &[Pattern],
        buffer: &mut TextBuffer,
    ) -> bool {
        self.conditions.iter().all(|Condition { whole, first_pattern }| {
            let patterns = patterns.get(*first_pattern..).unwrap_or_default();
            Evaluation { facts, patterns, labels: self.labels.as_ref(), buffer }.is_true(whole)
        })
    }
}

pub(crate) const USAGE: &str = "view NAME { … }";

pub(crate) const SETTINGS: &[Setting<ViewSettings>] = &[adds("expr", EXPR, expr)];

const EXPR: &str = "expr EXPRESSION";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let Some([name]) = statement.exactly::<1>(USAGE, context) else { return };
    let mut view = ViewSettings { name: name.text.clone(), programs: Vec::new() };
    statement.read_settings(SETTINGS, &mut view, context);
    block.push(view);
}

fn expr(line: &Statement, view: &mut ViewSettings, context: &mut Context<'_>) {
    let words: Vec<&str> = line.args.iter().map(|word| word.text.as_str()).collect();
    let text = words.join(" ");
    let compiled = syntax::parse(&text).and_then(|expr| check::check(&expr));
    match compiled {
        Ok(checked) => {
            if checked.whole_type != ExprType::Bool {
                let mistake =
                    Mistake::warning(line.args_span(context), "the expression is never true")
                        .label("neither true nor false");
                context.report(mistake.help("compare it: `name() == 'www.example.org.'`"));
            }
            view.programs.push(ViewProgram { whole: checked.whole, patterns: checked.patterns });
        }
        Err(fault) => {
            let span = span_of(&fault, line);
            context.refuse(span, refusal(&fault, &text));
        }
    }
}

/// The word of the line that contains the fault.
fn span_of(fault: &ExprFault, line: &Statement) -> Span {
    let mut end = 0;
    let at = fault.at.unwrap_or_default();
    let word = line.args.iter().find(|word| {
        end += word.text.chars().count() + 1;
        at < end
    });
    word.or_else(|| line.args.last()).unwrap_or(&line.name).span
}

fn refusal(fault: &ExprFault, text: &str) -> Refusal {
    let place = fault.at.map_or_else(String::new, |at| format!(" (1:{})", at + 1));
    if fault.is_not_built {
        return Refusal::new(fault.message.clone(), "not in this version of ringdns")
            .help("view.md lists the operators and functions of expressions");
    }
    let message = format!("{}{place}", quoted(&fault.message));
    Refusal::new(message, "here").help(format!("the expression is `{}`", quoted(text)))
}
