//! The text of a template, split into plain text and the words of its actions.
//!
//! Invariant: plain text is already trimmed as `{{-` and `-}}` ask, and comments are gone.

use super::SyntaxError;
use super::value::Value;

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fragment {
    Text(String),
    Action(Vec<Lexeme>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexeme {
    pub(super) sort: LexemeSort,
    /// Where it begins in the template, in bytes.
    pub(super) at: usize,
    /// A space stands before it.
    pub(super) is_spaced: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum LexemeSort {
    /// A keyword, a constant or a function.
    Word(String),
    /// `.Name`, without the dot.
    Field(String),
    /// `.` alone.
    Dot,
    /// `$name`, or `$` with an empty name.
    Variable(String),
    /// A quoted text or a number.
    Constant(Value),
    Open,
    Close,
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// The fragments of a template, in their order.
pub(super) fn fragments(text: &str) -> Result<Vec<Fragment>, SyntaxError> {
    let mut fragments = Vec::new();
    let mut at = 0;
    let mut trims = false;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(plain_len) = rest.find("{{") else {
            push_text(rest, trims, false, &mut fragments);
            break;
        };
        let (plain, action) = rest.split_at(plain_len);
        let action_at = at + plain_len + 2;
        let inside = &action[2..];
        let is_trimmed = inside.starts_with('-') && inside[1..].starts_with(is_space);
        push_text(plain, trims, is_trimmed, &mut fragments);
        let mut lexer = TemplateLexer { text, at: action_at + usize::from(is_trimmed) };
        lexer.skip_spaces();
        if lexer.rest().starts_with("/*") {
            let close = lexer.rest().find("*/");
            let close = close.ok_or_else(|| SyntaxError::new(lexer.at, "unclosed comment"))?;
            lexer.at += close + 2;
            let is_end = |lexer: &TemplateLexer<'_>| lexer.rest().starts_with("}}");
            trims = lexer.take_trimmed_end();
            if !trims && !is_end(&lexer) {
                return Err(SyntaxError::new(lexer.at, "comment ends before closing delimiter"));
            }
            at = lexer.at + 2;
            continue;
        }
        let (lexemes, is_end_trimmed) = lexer.action()?;
        fragments.push(Fragment::Action(lexemes));
        trims = is_end_trimmed;
        at = lexer.at;
    }
    Ok(fragments)
}

/// Go trims these alone.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn push_text(plain: &str, trims_start: bool, trims_end: bool, fragments: &mut Vec<Fragment>) {
    let plain = if trims_start { plain.trim_start_matches(is_space) } else { plain };
    let plain = if trims_end { plain.trim_end_matches(is_space) } else { plain };
    if !plain.is_empty() {
        fragments.push(Fragment::Text(plain.to_owned()));
    }
}

struct TemplateLexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> TemplateLexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_spaces(&mut self) -> bool {
        let rest = self.rest();
        let len = rest.len() - rest.trim_start_matches(is_space).len();
        self.at += len;
        len > 0
    }

    /// Takes the space and the dash of ` -}}`, if they are next.
    fn take_trimmed_end(&mut self) -> bool {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches(is_space);
        let is_end = trimmed.len() < rest.len() && trimmed.starts_with("-}}");
        if is_end {
            self.at += rest.len() - trimmed.len() + 1;
        }
        is_end
    }

    /// The words up to the closing braces, and whether these trim the text after them.
    fn action(&mut self) -> Result<(Vec<Lexeme>, bool), SyntaxError> {
        let start = self.at;
        let mut lexemes = Vec::new();
        loop {
            let trims = self.take_trimmed_end();
            let is_spaced = self.skip_spaces();
            let (at, rest) = (self.at, self.rest());
            if rest.starts_with("}}") {
                self.at += 2;
                return Ok((lexemes, trims));
            }
            let Some(first) = rest.chars().next() else {
                return Err(SyntaxError::new(start, "unclosed action"));
            };
            let sort = self.lexeme(first)?;
            lexemes.push(Lexeme { sort, at, is_spaced });
        }
    }

    fn lexeme(&mut self, first: char) -> Result<LexemeSort, SyntaxError> {
        let symbols = [
            (":=", LexemeSort::Declare),
            ("=", LexemeSort::Assign),
            ("(", LexemeSort::Open),
            (")", LexemeSort::Close),
            ("|", LexemeSort::Pipe),
            (",", LexemeSort::Comma),
        ];
        let symbol = symbols.into_iter().find(|(symbol, _)| self.rest().starts_with(symbol));
        if let Some((symbol, sort)) = symbol {
            self.at += symbol.len();
            return Ok(sort);
        }
        let at = self.at;
        match first {
            '"' => self.quoted(at).map(|text| LexemeSort::Constant(Value::Text(text))),
            '\'' => {
                let text = self.quoted(at)?;
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(only), None) => {
                        Ok(LexemeSort::Constant(Value::Integer(i128::from(u32::from(only)))))
                    }
                    _ => Err(SyntaxError::new(at, "malformed character constant")),
                }
            }
            '`' => {
                let end = self.rest()[1..].find('`');
                let end =
                    end.ok_or_else(|| SyntaxError::new(at, "unterminated raw quoted string"))?;
                let text = self.rest()[1..=end].to_owned();
                self.at += end + 2;
                Ok(LexemeSort::Constant(Value::Text(text)))
            }
            '.' => {
                self.at += 1;
                let name = self.name();
                if name.is_empty() && self.rest().starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(SyntaxError::new(at, NO_FRACTIONS));
                }
                Ok(if name.is_empty() { LexemeSort::Dot } else { LexemeSort::Field(name) })
            }
            '$' => {
                self.at += 1;
                Ok(LexemeSort::Variable(self.name()))
            }
            '0'..='9' | '+' | '-' => self.number(),
            c if is_name_start(c) => Ok(LexemeSort::Word(self.name())),
            c => Err(SyntaxError::new(at, format!("unexpected {c:?} in action"))),
        }
    }

    /// Letters, digits and underscores; empty if the next character is none.
    fn name(&mut self) -> String {
        let rest = self.rest();
        if !rest.starts_with(is_name_start) {
            return String::new();
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn number(&mut self) -> Result<LexemeSort, SyntaxError> {
        let (at, rest) = (self.at, self.rest());
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        let (sign, digits) = match word.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, word.strip_prefix('+').unwrap_or(word)),
        };
        let clean = digits.replace('_', "").to_ascii_lowercase();
        let parsed = match clean.get(..2) {
            // The parsers below would take another sign.
            _ if clean.contains(['+', '-']) => None,
            Some("0x") => i128::from_str_radix(&clean[2..], 16).ok(),
            Some("0b") => i128::from_str_radix(&clean[2..], 2).ok(),
            Some("0o") => i128::from_str_radix(&clean[2..], 8).ok(),
            Some(_) if clean.starts_with('0') => i128::from_str_radix(&clean, 8).ok(),
            Some(_) | None => clean.parse().ok(),
        };
        // Without a sign it is positive, so that a negation cannot overflow.
        match parsed.map(|number: i128| sign * number) {
            Some(number) if i64::try_from(number).is_ok() => {
                Ok(LexemeSort::Constant(Value::Integer(number)))
            }
            Some(_) | None if clean.contains(['.', 'e']) => Err(SyntaxError::new(at, NO_FRACTIONS)),
            Some(_) | None => Err(SyntaxError::new(at, format!("bad number syntax: {word:?}"))),
        }
    }

    /// A text between quotes, with Go's escapes.
    fn quoted(&mut self, at: usize) -> Result<String, SyntaxError> {
        let unclosed = || SyntaxError::new(at, "unterminated quoted string");
        let mut chars = self.rest().char_indices();
        let quote = chars.next().ok_or_else(unclosed)?.1;
        let mut text = String::new();
        while let Some((index, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += index + 1;
                    return Ok(text);
                }
                '\n' => return Err(unclosed()),
                '\\' => {
                    let escaped = chars.next().ok_or_else(unclosed)?.1;
                    let digits = match escaped {
                        'n' => Err('\n'),
                        't' => Err('\t'),
                        'r' => Err('\r'),
                        'x' => Ok(2),
                        'u' => Ok(4),
                        'U' => Ok(8),
                        '\\' | '"' | '\'' => Err(escaped),
                        _ => return Err(SyntaxError::new(at, "unknown escape in quoted string")),
                    };
                    text.push(match digits {
                        Err(c) => c,
                        Ok(count) => {
                            let digits: String = chars.by_ref().take(count).map(|c| c.1).collect();
                            let code = u32::from_str_radix(&digits, 16).ok();
                            let code = code.filter(|code| count > 2 || *code < 0x80);
                            code.and_then(char::from_u32).ok_or_else(|| {
                                SyntaxError::new(at, "unknown escape in quoted string")
                            })?
                        }
                    });
                }
                c => text.push(c),
            }
        }
        Err(unclosed())
    }
}

const NO_FRACTIONS: &str = "numbers with a fraction are not built";

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain text as it is, each action as the number of its words.
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = match fragments(text) {
            Ok(fragments) => fragments
                .into_iter()
                .map(|fragment| match fragment {
                    Fragment::Text(text) => text,
                    Fragment::Action(lexemes) => format!("<{}>", lexemes.len()),
                })
                .collect(),
            Err(error) => vec![format!("{}: {}", error.at, error.message)],
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn text_and_actions() {
        check("", &[]);
        check("plain }} text", &["plain }} text"]);
        check("a {{ .Name }} b", &["a ", "<1>", " b"]);
        check("a {{- .Name -}} b", &["a", "<1>", "b"]);
        check("a {{-1}} b", &["a ", "<1>", " b"]);
        check("a {{/* no */}} b{{- /* no */ -}} c", &["a ", " b", "c"]);
        check("{{ index .Match 1 | printf \"%s }}\" }}", &["<6>"]);
        check("{{ $x := `}}` }}{{ (len .Match) }}", &["<3>", "<4>"]);
        check("{{ '\\n' 'a' 0x1F -3 }}", &["<4>"]);
        check("a {{ .Name", &["5: unclosed action"]);
        check("{{ \"a }}", &["3: unterminated quoted string"]);
        check("{{ 1.5 }}", &["3: numbers with a fraction are not built"]);
        check("{{ 9z }}", &["3: bad number syntax: \"9z\""]);
        check("{{ --5 }}", &["3: bad number syntax: \"--5\""]);
        check("{{ 0x-5 }}", &["3: bad number syntax: \"0x-5\""]);
        let lowest = i128::MIN.to_string();
        check(&format!("{{{{ -{lowest} }}}}"), &[&format!("3: bad number syntax: \"-{lowest}\"")]);
        check("{{ a ? b }}", &["5: unexpected '?' in action"]);
        check("{{/* a }}", &["2: unclosed comment"]);
        check("{{ \"\\q\" }}", &["3: unknown escape in quoted string"]);
    }
}
