//! Label selectors as `kubectl -l` takes them, `app=web,tier in (a, b),!old`: checked here, so that
//! a mistake is found at start and not by the API server. What they select is k8s-sync's.

use super::report::Refusal;
use super::word::quoted;

/// A selector that the API server will accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// As written.
    pub text: String,
}

pub(super) fn read(text: &str) -> Result<Selector, Refusal> {
    let mut reader = Reader { rest: text };
    while reader.peek() != Piece::End {
        reader.requirement()?;
        match reader.next() {
            Piece::End => break,
            Piece::Mark(",") if reader.peek() != Piece::End => {}
            other => return Err(found(other, "',' or the end")),
        }
    }
    Ok(Selector { text: text.to_owned() })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    /// `(`, `)`, `,`, `!`, `=`, `==`, `!=`, `<` or `>`.
    Mark(&'t str),
    Word(&'t str),
    End,
}

struct Reader<'t> {
    rest: &'t str,
}

/// Longest first.
const MARKS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", "<", ">"];

impl<'t> Reader<'t> {
    fn next(&mut self) -> Piece<'t> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return Piece::End;
        }
        let mark_len =
            MARKS.iter().find(|mark| self.rest.starts_with(**mark)).map(|mark| mark.len());
        let ends_word = |c: char| c.is_whitespace() || "=!(),<>".contains(c);
        let word_len = || self.rest.find(ends_word).unwrap_or(self.rest.len());
        let (piece, rest) = self.rest.split_at(mark_len.unwrap_or_else(word_len));
        self.rest = rest;
        if mark_len.is_some() { Piece::Mark(piece) } else { Piece::Word(piece) }
    }

    fn peek(&self) -> Piece<'t> {
        Reader { rest: self.rest }.next()
    }

    /// `KEY`, `!KEY`, `KEY=VALUE`, `KEY in (VALUE, …)` and the like.
    fn requirement(&mut self) -> Result<(), Refusal> {
        let (negated, key) = match self.next() {
            Piece::Mark("!") => (true, self.next()),
            other => (false, other),
        };
        let Piece::Word(key) = key else { return Err(found(key, "a label's name")) };
        check_key(key)?;
        let operator = self.peek();
        if let Piece::End | Piece::Mark(",") = operator {
            return Ok(());
        }
        self.next();
        match operator {
            _ if negated => Err(found(operator, "',' or the end")),
            Piece::Mark("=" | "==" | "!=") => self.value(),
            Piece::Word("in" | "notin") => self.values(),
            other => Err(found(other, "one of: =, ==, !=, in, notin")),
        }
    }

    /// One value; may be empty.
    fn value(&mut self) -> Result<(), Refusal> {
        let Piece::Word(value) = self.peek() else { return Ok(()) };
        self.next();
        check_value(value)
    }

    /// `(a, b)`
    fn values(&mut self) -> Result<(), Refusal> {
        let open = self.next();
        if open != Piece::Mark("(") {
            return Err(found(open, "'('"));
        }
        self.value()?;
        loop {
            match self.next() {
                Piece::Mark(",") => self.value()?,
                Piece::Mark(")") => return Ok(()),
                other => return Err(found(other, "',' or ')'")),
            }
        }
    }
}

fn found(piece: Piece<'_>, expected: &str) -> Refusal {
    let found = match piece {
        Piece::Mark(text) | Piece::Word(text) => format!("'{}'", quoted(text)),
        Piece::End => "the end".to_owned(),
    };
    Refusal::new(format!("found {found}, expected {expected}"), LABEL).help(
        "a selector is like `app=web`, `tier in (a, b)` or `!old`, with commas between several",
    )
}

/// `[PREFIX/]NAME`
fn check_key(key: &str) -> Result<(), Refusal> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_is_good = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(is_word)
            && !prefix.contains(|c: char| c == '_' || c.is_ascii_uppercase())
    });
    if prefix_is_good && is_word(name) {
        return Ok(());
    }
    Err(Refusal::new(format!("'{}' is not a label's name", quoted(key)), LABEL).help(CHARACTERS))
}

fn check_value(value: &str) -> Result<(), Refusal> {
    if is_word(value) {
        return Ok(());
    }
    Err(Refusal::new(format!("'{}' is not a label's value", quoted(value)), LABEL).help(CHARACTERS))
}

const LABEL: &str = "not a label selector";
const CHARACTERS: &str =
    "at most 63 letters, digits, `-`, `_` and `.`, a letter or digit first and last";

fn is_word(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= 63
        && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let good = [
            "",
            "app=web",
            "app == web, tier!=x",
            "environment in (production, qa)",
            "a notin (b),!c,d",
            "k8s.io/app=,in in (in,)",
        ];
        for text in good {
            assert_eq!(read(text).map(|selector| selector.text).as_deref(), Ok(text));
        }
        let refused = [
            "=", "a b", "a in b", "a in (b", "a,", ",a", "!a=b", "a>1", "-a=b", "a/b/c", "a=b=c",
            "A.b/c", "a=b c", "!",
        ];
        for text in refused {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&format!("{}=b", "a".repeat(64))).is_err());
    }
}
