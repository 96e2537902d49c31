//! From the words of a template to a program; mistakes are found here and in `expression`.
//!
//! Invariant: a variable's number is below the program's `variable_count`.

use super::lexer::{Fragment, LexemeSort, fragments};
use super::value::{DataStruct, ValueKind};
use super::words::Words;
use super::{Branch, Instruction, Program, SyntaxError};
use crate::limits::TEMPLATE_NESTING_MAX;

impl Program {
    /// Checks a template.
    pub(crate) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let fragments = fragments(text)?;
        let mut compiler = Compiler {
            fragments: fragments.into_iter(),
            end: text.len(),
            scope: vec![(String::new(), 0, ROOT)],
            variable_count: 1,
            dot: ROOT,
            range_depth: 0,
            depth: 0,
            fields: Vec::new(),
        };
        let (instructions, end) = compiler.instructions()?;
        match end {
            BodyEnd::Text => Ok(Self {
                instructions,
                variable_count: compiler.variable_count,
                fields: compiler.fields,
            }),
            BodyEnd::End(at) => Err(SyntaxError::new(at, "unexpected {{end}}")),
            BodyEnd::Else(rest) => Err(SyntaxError::new(rest.at, "unexpected {{else}}")),
        }
    }
}

pub(super) const ROOT: ValueKind = ValueKind::Struct(DataStruct::Query);

pub(super) struct Compiler {
    fragments: std::vec::IntoIter<Fragment>,
    /// Bytes of the template.
    end: usize,
    /// The variables that can be named: name, number, kind.
    pub(super) scope: Vec<(String, usize, ValueKind)>,
    pub(super) variable_count: usize,
    /// Of the dot.
    pub(super) dot: ValueKind,
    range_depth: usize,
    pub(super) depth: usize,
    pub(super) fields: Vec<&'static str>,
}

/// How a list of instructions ends.
enum BodyEnd {
    /// The template ends.
    Text,
    End(usize),
    /// The words after `else`.
    Else(Words),
}

/// The three actions with a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BranchSort {
    If,
    With,
    Range,
}

impl BranchSort {
    fn of(word: &str) -> Option<Self> {
        match word {
            "if" => Some(Self::If),
            "with" => Some(Self::With),
            "range" => Some(Self::Range),
            _ => None,
        }
    }
}

impl Compiler {
    /// Reads up to the `else` or `end` of the body, or to the end of the template.
    fn instructions(&mut self) -> Result<(Vec<Instruction>, BodyEnd), SyntaxError> {
        let mut instructions = Vec::new();
        while let Some(fragment) = self.fragments.next() {
            let lexemes = match fragment {
                Fragment::Text(text) => {
                    instructions.push(Instruction::Text(text));
                    continue;
                }
                Fragment::Action(lexemes) => lexemes,
            };
            let at = lexemes.first().map_or(0, |first| first.at);
            let mut words = Words { lexemes: lexemes.into_iter().peekable(), at };
            let keyword = match words.peek() {
                Some(LexemeSort::Word(word)) => word.clone(),
                Some(_) => String::new(),
                None => return words.error("missing value for command"),
            };
            if let Some(sort) = BranchSort::of(&keyword) {
                words.next_sort();
                instructions.push(self.branch(sort, words)?);
                continue;
            }
            match keyword.as_str() {
                "end" => {
                    words.next_sort();
                    words.ends()?;
                    return Ok((instructions, BodyEnd::End(at)));
                }
                "else" => {
                    words.next_sort();
                    return Ok((instructions, BodyEnd::Else(words)));
                }
                "break" | "continue" => {
                    words.next_sort();
                    words.ends()?;
                    if self.range_depth == 0 {
                        return Err(SyntaxError::new(
                            at,
                            format!("{{{{{keyword}}}}} outside {{{{range}}}}"),
                        ));
                    }
                    let is_break = keyword == "break";
                    instructions.push(if is_break {
                        Instruction::Break
                    } else {
                        Instruction::Continue
                    });
                }
                _ => {
                    let (pipeline, _) = self.pipeline(&mut words, 1)?;
                    words.ends()?;
                    instructions.push(Instruction::Action(pipeline));
                }
            }
        }
        Ok((instructions, BodyEnd::Text))
    }

    /// Reads what follows `if`, `with` or `range`, up to its `end`.
    fn branch(&mut self, sort: BranchSort, mut words: Words) -> Result<Instruction, SyntaxError> {
        self.go_deeper(words.at)?;
        let scope_len = self.scope.len();
        let targets_max = if sort == BranchSort::Range { 2 } else { 1 };
        let (pipeline, kind) = self.pipeline(&mut words, targets_max)?;
        words.ends()?;
        let dot = self.dot;
        match sort {
            BranchSort::If => {}
            BranchSort::With => self.dot = kind,
            BranchSort::Range => {
                self.dot = element_of(kind);
                let element = self.dot;
                // The last variable is the element; the first of two is its index.
                if let (true, Some(last)) = (self.scope.len() > scope_len, self.scope.last_mut()) {
                    last.2 = element;
                }
                self.range_depth += 1;
            }
        }
        let body = self.instructions();
        self.dot = dot;
        self.range_depth -= usize::from(sort == BranchSort::Range);
        let (body, end) = body?;
        let otherwise = self.otherwise(sort, end)?;
        self.scope.truncate(scope_len);
        self.depth -= 1;
        let branch = Branch { pipeline, body, otherwise };
        Ok(match sort {
            BranchSort::If => Instruction::If(branch),
            BranchSort::With => Instruction::With(branch),
            BranchSort::Range => Instruction::Range(branch),
        })
    }

    /// Reads the `else` of a body, if it has one.
    fn otherwise(
        &mut self,
        sort: BranchSort,
        end: BodyEnd,
    ) -> Result<Vec<Instruction>, SyntaxError> {
        let mut words = match end {
            BodyEnd::Text => return Err(SyntaxError::new(self.end, "missing {{end}}")),
            BodyEnd::End(_) => return Ok(Vec::new()),
            BodyEnd::Else(words) => words,
        };
        let keyword = match sort {
            BranchSort::If => "if",
            BranchSort::With => "with",
            BranchSort::Range => "",
        };
        if words.take_word(keyword) {
            // It ends with the `end` of the whole.
            return Ok(vec![self.branch(sort, words)?]);
        }
        words.ends()?;
        match self.instructions()? {
            (body, BodyEnd::End(_)) => Ok(body),
            (_, BodyEnd::Text) => Err(SyntaxError::new(self.end, "missing {{end}}")),
            (_, BodyEnd::Else(rest)) => Err(SyntaxError::new(rest.at, "unexpected {{else}}")),
        }
    }

    pub(super) fn go_deeper(&mut self, at: usize) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > TEMPLATE_NESTING_MAX {
            let message = format!("nested more than {TEMPLATE_NESTING_MAX} deep");
            return Err(SyntaxError::new(at, message));
        }
        Ok(())
    }
}

/// The kind of what `range` goes through.
fn element_of(kind: ValueKind) -> ValueKind {
    match kind {
        ValueKind::Texts | ValueKind::Groups => ValueKind::Text,
        ValueKind::Questions => ValueKind::Struct(DataStruct::Question),
        ValueKind::Number => ValueKind::Number,
        ValueKind::Text | ValueKind::Flag | ValueKind::Struct(_) | ValueKind::Unknown => {
            ValueKind::Unknown
        }
    }
}
