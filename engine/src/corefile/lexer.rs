//! Splits a file's text into words. Quotes are removed and `{$VARIABLES}` replaced here; the
//! meaning of braces and lines is the parser's.
//!
//! Invariant: a `Token`'s span never leaves the line that the token starts on.

use super::source::Span;

/// A word, or a brace that stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Without its quotes, variables replaced. May be empty (`""`), may contain any character.
    pub(crate) text: String,
    pub(crate) kind: Kind,
    pub(crate) is_quoted: bool,
    /// The first word of its line.
    pub(crate) starts_line: bool,
    pub(crate) span: Span,
}

/// What a token means to the grammar. A quoted brace is a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Open,
    Close,
}

/// The tokens of one text.
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Token>,
    /// The opening quote that the text never closes.
    pub(crate) unclosed_quote: Option<Span>,
    /// The words with a variable that is unset or empty, and its name. In the order of the text.
    pub(crate) unset: Vec<(Span, String)>,
}

/// `variable` returns an environment variable's value.
pub(crate) fn lex(text: &str, source: usize, variable: &dyn Fn(&str) -> Option<String>) -> Lexed {
    let mut lexer = Lexer { rest: text.chars().peekable(), at: 0, starts_line: true, variable };
    let mut lexed = Lexed { tokens: Vec::new(), unclosed_quote: None, unset: Vec::new() };
    if lexer.rest.peek() == Some(&'\u{feff}') {
        lexer.bump(); // a byte order mark
    }
    while let Some(first) = lexer.skip_blanks() {
        let starts_line = std::mem::replace(&mut lexer.starts_line, false);
        let start = lexer.at;
        let (text, end, closed) = match first {
            '"' => lexer.quoted(),
            _ => lexer.bare(),
        };
        let span = Span { source, start, end };
        let kind = match (first, text.as_str()) {
            ('{', "{") => Kind::Open,
            ('}', "}") => Kind::Close,
            _ => Kind::Word,
        };
        if !closed {
            lexed.unclosed_quote = Some(span);
        }
        let (text, unset) = fill_in(&text, lexer.variable);
        lexed.unset.extend(unset.map(|name| (span, name)));
        lexed.tokens.push(Token { text, kind, is_quoted: first == '"', starts_line, span });
    }
    lexed
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    /// Characters read.
    at: usize,
    /// Only blanks since the last line break.
    starts_line: bool,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Lexer<'_> {
    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.at += 1;
        Some(c)
    }

    /// Skips blanks and comments; returns the first character of the next token without reading it.
    fn skip_blanks(&mut self) -> Option<char> {
        let mut in_comment = false;
        loop {
            match *self.rest.peek()? {
                '\n' => {
                    in_comment = false;
                    self.starts_line = true;
                }
                '#' => in_comment = true,
                c if in_comment || c.is_whitespace() => {}
                c => return Some(c),
            }
            self.bump();
        }
    }

    /// A word up to a blank or a comment: its text, its end, and true.
    fn bare(&mut self) -> (String, usize, bool) {
        let mut text = String::new();
        while let Some(&c) = self.rest.peek()
            && !c.is_whitespace()
            && c != '#'
        {
            text.push(c);
            self.bump();
        }
        (text, self.at, true)
    }

    /// From one quote to the next: its text, the end of it or of its first line, and whether the
    /// quote was closed. `\"` is a quote. Before any other character a backslash is a backslash, as
    /// regular expressions need it.
    fn quoted(&mut self) -> (String, usize, bool) {
        self.bump();
        let mut text = String::new();
        let mut line_end = None;
        while let Some(c) = self.bump() {
            match c {
                '"' => return (text, line_end.unwrap_or(self.at), true),
                '\\' => match self.bump() {
                    Some('"') => text.push('"'),
                    Some(other) => text.extend(['\\', other]),
                    None => text.push('\\'),
                },
                c => text.push(c),
            }
            if line_end.is_none() && text.ends_with('\n') {
                line_end = Some(self.at - 1);
            }
        }
        (text, line_end.unwrap_or(self.at), false)
    }
}

/// Replaces `{$NAME}` and `{%NAME%}` by the variable's value, or by nothing if it is unset. Values
/// are not searched again. Also returns the first variable without a value.
fn fill_in(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> (String, Option<String>) {
    let mut filled = String::new();
    let mut unset = None;
    let mut rest = text;
    // By form of reference. Without one end there is none later either, and searching again and
    // again would take quadratic time.
    let mut may_end = [true; 2];
    while let Some((before, from)) = rest.find('{').map(|at| rest.split_at(at)) {
        let forms = [("{$", "}"), ("{%", "%}")].iter().zip(&mut may_end);
        let reference =
            forms.filter(|(_, may_end)| **may_end).find_map(|((open, close), may_end)| {
                let inside = from.strip_prefix(open)?;
                let end = inside.split_once(close);
                *may_end = end.is_some();
                end.filter(|(name, _)| !name.is_empty())
            });
        filled.push_str(before);
        match reference {
            Some((name, after)) => {
                let value = variable(name).unwrap_or_default();
                if value.is_empty() {
                    unset.get_or_insert_with(|| name.to_owned());
                }
                filled.push_str(&value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = from.strip_prefix('{').unwrap_or_default();
            }
        }
    }
    filled.push_str(rest);
    (filled, unset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "ZONE" => Some("cluster.local".to_owned()),
            "LOOP" => Some("{$LOOP}".to_owned()),
            _ => None,
        }
    }

    /// `expected`: the words, with a `
    /// ` before each that starts a line.
    fn check(text: &str, expected: &str) {
        let lexed = lex(text, 0, &variable);
        let words: Vec<_> = lexed
            .tokens
            .iter()
            .map(|t| format!("{}{}", if t.starts_line { "\n" } else { "" }, t.text))
            .collect();
        assert_eq!(words.join("|"), expected, "{text:?}");
        let chars = text.chars().count();
        assert!(lexed.tokens.iter().all(|t| t.span.start < t.span.end && t.span.end <= chars));
    }

    #[test]
    fn variables_without_a_value() {
        let lexed = lex("{$ZONE} {$A}:{$B}\n \"{%C%}\" {$}", 0, &variable);
        let unset: Vec<_> =
            lexed.unset.iter().map(|(span, name)| (span.start, span.end, name.as_str())).collect();
        assert_eq!(unset, [(8, 17, "A"), (19, 26, "C")]);
    }

    #[test]
    fn words() {
        check("", "");
        check(" \t\r\n # only a comment", "");
        check("a b\nc", "\na|b|\nc");
        check("\u{feff}a\r\nb\r\n", "\na|\nb");
        check("a#b c\nd", "\na|\nd");
        check("a # b\n#c\n  d", "\na|\nd");
        check(r#""a b" c"d "e"f"#, "\na b|c\"d|e|f");
        check(r#""a \"b\" \. \\" c"#, "\na \"b\" \\. \\\\|c");
        check("\"a\nb\" c\nd", "\na\nb|c|\nd");
        check("\"\" x", "\n|x");
        check("a\u{a0}b\u{2003}c", "\na|b|c");
    }

    #[test]
    fn variables() {
        check("{$ZONE}:53 {%ZONE%}", "\ncluster.local:53|cluster.local");
        check("x{$UNSET}y {$} {%%} {$ZONE {%ZONE}", "\nxy|{$}|{%%}|{$ZONE|{%ZONE}");
        check("{{$ZONE}} {$LOOP}", "\n{cluster.local}|{$LOOP}");
        check("{$a{%b{$ZONE}c{%ZONE%}d{$e", "\nccluster.locald{$e");
        // Takes hours if each is searched for its end.
        let unclosed = "{${%".repeat(1 << 20);
        assert_eq!(fill_in(&unclosed, &variable), (unclosed.clone(), None));
    }

    #[test]
    fn braces() {
        let kinds =
            |text| lex(text, 0, &variable).tokens.iter().map(|t| t.kind).collect::<Vec<_>>();
        assert_eq!(
            kinds("{ } \"{\" {} a{"),
            [Kind::Open, Kind::Close, Kind::Word, Kind::Word, Kind::Word]
        );
    }

    #[test]
    fn unclosed_quotes() {
        let lexed = lex("a \"b c\nd", 0, &variable);
        assert_eq!(lexed.unclosed_quote, Some(Span { source: 0, start: 2, end: 6 }));
        assert!(lex("\"a\"", 0, &variable).unclosed_quote.is_none());
        assert!(lex("\"a\\", 0, &variable).unclosed_quote.is_some());
    }
}
