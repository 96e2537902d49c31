//! The texts that were read, and places in them.

use std::path::PathBuf;

/// Where a word stands. Offsets are in characters; `start <= end`, both within one line of the
/// source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// From the start of this one to the end of `last`, if that is on the same line.
    pub(crate) fn to(self, last: Self, sources: &[Source]) -> Self {
        let line = |span: Self| sources.get(span.source).map(|source| source.place(span.start).0);
        if self.source == last.source && self.start <= last.end && line(self) == line(last) {
            Self { end: last.end, ..self }
        } else {
            self
        }
    }
}

/// A file that was read, or the text that was given.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    /// What relative paths in it are relative to.
    pub(crate) folder: PathBuf,
    /// The text with every control character but `\n` and `\t` blanked: a terminal shows it as it
    /// stands, and `\n` alone ends a line.
    pub(crate) shown: String,
    /// Offsets of the lines' first characters.
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(name: String, folder: PathBuf, text: &str) -> Self {
        let blank = |c: char| match c {
            '\n' | '\t' => c,
            '\u{feff}' | '\u{2028}' | '\u{2029}' => ' ',
            c if c.is_control() => ' ',
            c => c,
        };
        let shown: String = text.chars().map(blank).collect();
        let newlines = shown.chars().enumerate().filter(|(_, c)| *c == '\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Self { name, folder, shown, line_starts }
    }

    /// Line and column of the character at `offset`, both from 1.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, offset.saturating_sub(start) + 1)
    }

    /// Characters of the line that `offset` stands in.
    pub(crate) fn line_len(&self, offset: usize) -> usize {
        let (line, _) = self.place(offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
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
        let source = Source::new("x".into(), PathBuf::new(), "ab\nä\r\n\u{2028}z");
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(2), (1, 3));
        assert_eq!(source.place(3), (2, 1));
        assert_eq!(source.place(7), (3, 2));
        assert_eq!(source.line_len(0), 3);
        assert_eq!(source.line_len(7), 2);
    }
}
