//! The words of an action that have not been read.

use std::borrow::Cow;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::SyntaxError;
use super::lexer::{Lexeme, LexemeSort};

pub(super) struct Words {
    pub(super) lexemes: Peekable<IntoIter<Lexeme>>,
    /// Of the word that was read last.
    pub(super) at: usize,
}

impl Words {
    pub(super) fn next_sort(&mut self) -> Option<LexemeSort> {
        let lexeme = self.lexemes.next()?;
        self.at = lexeme.at;
        Some(lexeme.sort)
    }

    pub(super) fn peek(&mut self) -> Option<&LexemeSort> {
        self.lexemes.peek().map(|lexeme| &lexeme.sort)
    }

    pub(super) fn take(&mut self, sort: &LexemeSort) -> bool {
        let is_next = self.peek() == Some(sort);
        if is_next {
            self.next_sort();
        }
        is_next
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let is_next = matches!(self.peek(), Some(LexemeSort::Word(next)) if next == word);
        if is_next {
            self.next_sort();
        }
        is_next
    }

    pub(super) fn ends(&mut self) -> Result<(), SyntaxError> {
        match self.lexemes.next() {
            None => Ok(()),
            Some(lexeme) => Err(SyntaxError::new(lexeme.at, "unexpected word after the action")),
        }
    }

    pub(super) fn error<T>(&self, message: impl Into<Cow<'static, str>>) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(self.at, message))
    }
}
