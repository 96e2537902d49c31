//! The texts that were read, and positions in them. Nothing is read from disk here.
//!
//! Invariant: a `Span` lies within one line of one source.

use std::path::PathBuf;

/// The position of a word. Offsets are in characters; `start <= end`, both within one line of the
/// source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// From the start of this one to the end of `last` if both are on the same line.
    pub(crate) fn to(self, last: Self, sources: &[Source]) -> Self {
        let line = |span: Self| sources.get(span.source).map(|source| source.place(span.start).0);
        if self.source == last.source && self.start <= last.end && line(self) == line(last) {
            Self { end: last.end, ..self }
        } else {
            self
        }
    }
}

/// A file that was read, or a text that was passed in.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    /// The folder that relative paths in it start from.
    pub(crate) folder: PathBuf,
    /// The text with every control character except `
    /// ` and `\t` replaced by a blank: it is safe to print on a terminal, and only `
    /// ` ends a line.
    pub(crate) shown: String,
    /// Offsets of the lines' first characters.
    line_starts: Vec<usize>,
    /// Lines of the file before this text, which is a part of it.
    pub(crate) lines_before: usize,
    /// The words with a variable that is unset or empty, and its name. In the order of the text.
    pub(crate) unset: Vec<(Span, String)>,
}

impl Source {
    pub(crate) fn new(name: String, folder: PathBuf, text: &str, lines_before: usize) -> Self {
        let blank = |c: char| match c {
            '\n' | '\t' => c,
            '\u{feff}' | '\u{2028}' | '\u{2029}' => ' ',
            c if c.is_control() => ' ',
            c => c,
        };
        let shown: String = text.chars().map(blank).collect();
        let newlines = shown.chars().enumerate().filter(|(_, c)| *c == '\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Self { name, folder, shown, line_starts, lines_before, unset: Vec::new() }
    }

    /// Line and column of the character at `offset`, both from 1.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let (line, start) = self.line_at(offset);
        (self.lines_before + line, offset.saturating_sub(start) + 1)
    }

    /// The line of the text, from 1, and the offset of its first character.
    fn line_at(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        (line, self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0))
    }

    /// A variable without a value in the words of a span.
    pub(crate) fn unset_in(&self, span: Span) -> Option<&str> {
        let first = self.unset.partition_point(|(word, _)| word.end <= span.start);
        let (word, name) = self.unset.get(first)?;
        (word.start < span.end).then_some(name.as_str())
    }

    /// The offsets of the first word of a line, which counts from 1.
    pub(crate) fn first_word(&self, line: usize) -> Option<(usize, usize)> {
        let start = *self.line_starts.get(line.checked_sub(1 + self.lines_before)?)?;
        let rest = self.shown.chars().skip(start).take_while(|c| *c != '\n');
        let blanks = rest.clone().take_while(|c| c.is_whitespace()).count();
        let len = rest.skip(blanks).take_while(|c| !c.is_whitespace()).count();
        (len > 0).then_some((start + blanks, start + blanks + len))
    }

    /// The characters of the line that contains `offset`.
    pub(crate) fn line_len(&self, offset: usize) -> usize {
        let (line, start) = self.line_at(offset);
        match self.line_starts.get(line) {
            Some(next) => next - start,
            None => self.shown.chars().count().saturating_sub(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let source = Source::new("x".into(), PathBuf::new(), "ab\nä\r\n\u{2028}z", 0);
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(2), (1, 3));
        assert_eq!(source.place(3), (2, 1));
        assert_eq!(source.place(7), (3, 2));
        assert_eq!(source.line_len(0), 3);
        assert_eq!(source.line_len(7), 2);
        assert_eq!(source.first_word(1), Some((0, 2)));
        assert_eq!(source.first_word(3), Some((7, 8)));
        assert_eq!([0, 4].map(|line| source.first_word(line)), [None, None]);
        let source = Source::new("x".into(), PathBuf::new(), "ab\nc", 10);
        assert_eq!([source.place(0), source.place(3)], [(11, 1), (12, 1)]);
        assert_eq!((source.line_len(0), source.line_len(3)), (3, 1));
        assert_eq!([1, 12].map(|line| source.first_word(line)), [None, Some((3, 4))]);
    }
}
