//! The layout of one text: its blocks, their statements, and the position of every word. For
//! editing a Corefile that may not be valid yet, so nothing is imported, replaced or checked.
//!
//! Invariant: the ranges are bytes of the text, on character boundaries, and each lies within the
//! range of what contains it.

use std::ops::Range;

use super::lexer::{self, Kind, Token};
use crate::limits::COREFILE_NESTING_MAX;

/// A server block or a snippet.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) statements: Vec<OutlineStatement>,
}

/// A directive or an option: its line, and the contents of its braces.
#[derive(Debug)]
pub(crate) struct OutlineStatement {
    pub(crate) name: Word,
    pub(crate) args: Vec<Word>,
    pub(crate) body: Option<OutlineBody>,
}

#[derive(Debug)]
pub(crate) struct OutlineBody {
    pub(crate) statements: Vec<OutlineStatement>,
    /// Both braces included.
    pub(crate) range: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Word {
    /// Without quotes.
    pub(crate) text: String,
    /// With its quotes; of a quoted text of several lines, the first line.
    pub(crate) range: Range<usize>,
}

/// The line, from 1, of a brace without its counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unbalanced {
    pub(crate) line: usize,
}

impl OutlineStatement {
    /// From the first word to the last, or to the closing brace.
    pub(crate) fn range(&self) -> Range<usize> {
        let end = self.body.as_ref().map_or_else(|| self.line_range().end, |body| body.range.end);
        self.name.range.start..end
    }

    /// From the first word to the last before the brace.
    pub(crate) fn line_range(&self) -> Range<usize> {
        self.name.range.start..self.args.last().unwrap_or(&self.name).range.end
    }

    /// Whether a quoted text spans several lines, so that its end is not known.
    pub(crate) fn has_long_quote(&self) -> bool {
        let mut words = std::iter::once(&self.name).chain(&self.args);
        let inner = self.body.iter().flat_map(|body| &body.statements);
        words.any(|word| word.text.contains('\n')) || inner.into_iter().any(Self::has_long_quote)
    }
}

/// Reads a whole text.
pub(crate) fn read(text: &str) -> Result<Vec<Section>, Unbalanced> {
    // Variables stay as they are: this may not run where they have their values.
    let lexed = lexer::lex(text, 0, &|name| Some(format!("{{${name}}}")));
    let mut outliner = Outliner {
        offsets: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        text,
        tokens: lexed.tokens.into_iter().peekable(),
    };
    let mut sections = Vec::new();
    while let Some(token) = outliner.tokens.peek() {
        match token.text == "import" {
            true => outliner.skip_line(),
            false => sections.push(outliner.section()?),
        }
    }
    Ok(sections)
}

struct Outliner<'t> {
    text: &'t str,
    /// The first byte of each character. The end of the text is the last entry.
    offsets: Vec<usize>,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Outliner<'_> {
    fn range(&self, token: &Token) -> Range<usize> {
        let byte = |character: usize| self.offsets.get(character).copied();
        let end = self.text.len();
        byte(token.span.start).unwrap_or(end)..byte(token.span.end).unwrap_or(end)
    }

    fn word(&self, token: Token) -> Word {
        Word { range: self.range(&token), text: token.text }
    }

    fn unbalanced(&self, brace: &Token) -> Unbalanced {
        let before = self.text.get(..self.range(brace).start).unwrap_or_default();
        Unbalanced { line: 1 + before.matches('\n').count() }
    }

    fn skip_line(&mut self) {
        self.tokens.next();
        while self.tokens.next_if(|token| !token.starts_line).is_some() {}
    }

    /// Keys up to the end of their line, which a comma moves to the next; then the contents of the
    /// braces, or the rest of the text.
    fn section(&mut self) -> Result<Section, Unbalanced> {
        let mut goes_on = true;
        while let Some(token) = self.tokens.next_if(|token| goes_on || !token.starts_line) {
            match token.kind {
                Kind::Open => return self.braced_section(&token),
                Kind::Close => return Err(self.unbalanced(&token)),
                Kind::Word => goes_on = token.text.ends_with(','),
            }
        }
        match self.tokens.next_if(|token| token.kind == Kind::Open) {
            Some(open) => self.braced_section(&open),
            None => {
                let (statements, close) = self.statements(0)?;
                match close {
                    Some(close) => Err(self.unbalanced(&close)),
                    None => Ok(Section { statements }),
                }
            }
        }
    }

    fn braced_section(&mut self, open: &Token) -> Result<Section, Unbalanced> {
        match self.statements(0)? {
            (statements, Some(_)) => Ok(Section { statements }),
            (_, None) => Err(self.unbalanced(open)),
        }
    }

    /// Statements, and the brace that closes them, if any.
    fn statements(
        &mut self,
        depth: usize,
    ) -> Result<(Vec<OutlineStatement>, Option<Token>), Unbalanced> {
        let mut statements = Vec::new();
        while let Some(token) = self.tokens.next() {
            match token.kind {
                Kind::Close => return Ok((statements, Some(token))),
                Kind::Open => return Err(self.unbalanced(&token)),
                Kind::Word => statements.push(self.statement(token, depth)?),
            }
        }
        Ok((statements, None))
    }

    fn statement(&mut self, name: Token, depth: usize) -> Result<OutlineStatement, Unbalanced> {
        let mut statement =
            OutlineStatement { name: self.word(name), args: Vec::new(), body: None };
        while let Some(token) =
            self.tokens.next_if(|token| !token.starts_line && token.kind == Kind::Word)
        {
            let word = self.word(token);
            statement.args.push(word);
        }
        if let Some(open) =
            self.tokens.next_if(|token| !token.starts_line && token.kind == Kind::Open)
        {
            if depth == COREFILE_NESTING_MAX {
                return Err(self.unbalanced(&open));
            }
            let (statements, close) = self.statements(depth + 1)?;
            let close = close.ok_or_else(|| self.unbalanced(&open))?;
            let range = self.range(&open).start..self.range(&close).end;
            statement.body = Some(OutlineBody { statements, range });
        }
        Ok(statement)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(statement: &OutlineStatement, text: &str) -> String {
        let words = std::iter::once(&statement.name).chain(&statement.args);
        let words: Vec<_> = words.map(|word| &text[word.range.clone()]).collect();
        let body = statement.body.iter().map(|body| {
            let inner: Vec<_> = body.statements.iter().map(|one| shown(one, text)).collect();
            format!(" {{{}}}", inner.join(";"))
        });
        words.join(" ") + &body.collect::<String>()
    }

    #[test]
    fn layouts() {
        let check = |text: &str, expected: &str| {
            let found = match read(text) {
                Ok(sections) => {
                    let sections = sections.iter().map(|section| {
                        let shown: Vec<_> =
                            section.statements.iter().map(|one| shown(one, text)).collect();
                        shown.join(";")
                    });
                    sections.collect::<Vec<_>>().join(" | ")
                }
                Err(Unbalanced { line }) => format!("line {line}"),
            };
            assert_eq!(found, expected, "{text}");
        };
        check("", "");
        check(".\nerrors # all\nproxy . {$UP}:53\n", "errors;proxy . {$UP}:53");
        check("\u{feff}. {\n häkchen \"a b\" {\n c d\n e\n }\n}", "häkchen \"a b\" {c d;e}");
        check("(s) {\n a\n}\nx, y,\nz\n{\n import s\n}", "a | import s");
        check("import x/*.y\n. {\n import z\n a {\n }\n}\nimport u", "import z;a {}");
        check(". {\n a\n", "line 1");
        check(". {\n a {\n }", "line 1");
        check(". {\n a\n}\n}", "line 4");
        check(". {\n {\n }\n}", "line 2");
        check(&format!(". {{\n{}", "a {\n".repeat(20)), "line 18");
    }

    proptest! {
        #[test]
        fn ranges_nest(text in "[a-z.{}#\", \nä]{0,60}") {
            fn check(statement: &OutlineStatement, text: &str, within: Range<usize>) {
                let range = statement.range();
                assert!(text.get(range.clone()).is_some());
                assert!(within.start <= range.start && range.end <= within.end);
                if let Some(body) = &statement.body {
                    for inner in &body.statements {
                        check(inner, text, body.range.clone());
                    }
                }
            }
            for section in read(&text).iter().flatten() {
                for statement in &section.statements {
                    check(statement, &text, 0..text.len());
                }
            }
        }
    }
}
