//! Label selectors in the syntax of `kubectl -l`: `app=web,tier in (a, b),!old`. They are parsed
//! here, so that a mistake is reported at start-up and not by the API server. `k8s-sync` evaluates
//! them.

use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;

/// A selector that the API server will accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// As written.
    pub text: String,
    /// All of them must hold; an empty list selects everything.
    pub requirements: Vec<Requirement>,
}

/// The condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
}

/// Kubernetes's operators with their values: at least one value, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `KEY`
    Exists,
    /// `!KEY`
    DoesNotExist,
    /// `KEY in (VALUE, …)` and `KEY=VALUE`
    In(Vec<String>),
    /// `KEY notin (VALUE, …)` and `KEY!=VALUE`
    NotIn(Vec<String>),
}

pub(crate) fn read(text: &str) -> Result<Selector, Refusal> {
    let mut reader = SelectorReader { rest: text };
    let mut requirements = Vec::new();
    let mut is_ended = reader.peek() == Piece::End;
    while !is_ended {
        requirements.push(reader.requirement()?);
        is_ended = match reader.next() {
            Piece::End => true,
            Piece::Mark(",") => false,
            other => return Err(found(other, "',' or the end")),
        };
    }
    Ok(Selector { text: text.to_owned(), requirements })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    /// `(`, `)`, `,`, `!`, `=`, `==`, `!=`, `<` or `>`.
    Mark(&'t str),
    Word(&'t str),
    End,
}

struct SelectorReader<'t> {
    rest: &'t str,
}

/// Longest first.
const MARKS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", "<", ">"];

impl<'t> SelectorReader<'t> {
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
        SelectorReader { rest: self.rest }.next()
    }

    /// `KEY`, `!KEY`, `KEY=VALUE`, `KEY in (VALUE, …)` and the like.
    fn requirement(&mut self) -> Result<Requirement, Refusal> {
        let (negated, key) = match self.next() {
            Piece::Mark("!") => (true, self.next()),
            other => (false, other),
        };
        let Piece::Word(key) = key else { return Err(found(key, "a label's name")) };
        check_key(key)?;
        let operator = if negated { Operator::DoesNotExist } else { self.operator()? };
        Ok(Requirement { key: key.to_owned(), operator })
    }

    /// The rest of a requirement, after its key.
    fn operator(&mut self) -> Result<Operator, Refusal> {
        let operator = self.peek();
        if let Piece::End | Piece::Mark(",") = operator {
            return Ok(Operator::Exists);
        }
        self.next();
        match operator {
            Piece::Mark("=" | "==") => Ok(Operator::In(vec![self.value()?])),
            Piece::Mark("!=") => Ok(Operator::NotIn(vec![self.value()?])),
            Piece::Word("in") => Ok(Operator::In(self.values()?)),
            Piece::Word("notin") => Ok(Operator::NotIn(self.values()?)),
            other => Err(found(other, "one of: =, ==, !=, in, notin")),
        }
    }

    /// One value; may be empty.
    fn value(&mut self) -> Result<String, Refusal> {
        let Piece::Word(value) = self.peek() else { return Ok(String::new()) };
        self.next();
        check_value(value)?;
        Ok(value.to_owned())
    }

    /// `(a, b)`
    fn values(&mut self) -> Result<Vec<String>, Refusal> {
        let open = self.next();
        if open != Piece::Mark("(") {
            return Err(found(open, "'('"));
        }
        let mut values = vec![self.value()?];
        loop {
            match self.next() {
                Piece::Mark(",") => values.push(self.value()?),
                Piece::Mark(")") => return Ok(values),
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

    /// `expected`: each requirement as `KEY OPERATOR`, the values in brackets.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let selector = read(text).map_err(|refusal| refusal.message).expect(text);
        let shown = |Requirement { key, operator }: &Requirement| match operator {
            Operator::Exists => format!("{key} exists"),
            Operator::DoesNotExist => format!("{key} does not exist"),
            Operator::In(values) => format!("{key} in [{}]", values.join("|")),
            Operator::NotIn(values) => format!("{key} notin [{}]", values.join("|")),
        };
        let requirements: Vec<String> = selector.requirements.iter().map(shown).collect();
        assert_eq!(requirements, expected, "{text:?}");
        assert_eq!(selector.text, text);
    }

    #[test]
    fn selectors() {
        check("", &[]);
        check("  ", &[]);
        check("app", &["app exists"]);
        check("!app", &["app does not exist"]);
        check("! app", &["app does not exist"]);
        check("app=web", &["app in [web]"]);
        check("app=", &["app in []"]);
        check("app == web, tier!=x", &["app in [web]", "tier notin [x]"]);
        check("app != web , tier", &["app notin [web]", "tier exists"]);
        check("environment in (production, qa)", &["environment in [production|qa]"]);
        check("app in(web , api)", &["app in [web|api]"]);
        check("app in ()", &["app in []"]);
        check("a notin (b),!c,d", &["a notin [b]", "c does not exist", "d exists"]);
        check("k8s.io/app=,in in (in,)", &["k8s.io/app in []", "in in [in|]"]);
        check("in=notin", &["in in [notin]"]);
        check("kubernetes.io/service-name=a_b.C-1", &["kubernetes.io/service-name in [a_b.C-1]"]);
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let message = read(text).map(|_| ()).map_err(|refusal| refusal.message);
        assert_eq!(message, Err(expected.to_owned()), "{text:?}");
    }

    #[test]
    fn refused() {
        check_refused("=", "found '=', expected a label's name");
        check_refused(",", "found ',', expected a label's name");
        check_refused(",a", "found ',', expected a label's name");
        check_refused("!", "found the end, expected a label's name");
        check_refused("a,", "found the end, expected a label's name");
        check_refused("a=b c", "found 'c', expected ',' or the end");
        check_refused("a=b=c", "found '=', expected ',' or the end");
        check_refused("!a=b", "found '=', expected ',' or the end");
        check_refused("a b", "found 'b', expected one of: =, ==, !=, in, notin");
        check_refused("a!b", "found '!', expected one of: =, ==, !=, in, notin");
        check_refused("a > 1", "found '>', expected one of: =, ==, !=, in, notin");
        check_refused("a in b", "found 'b', expected '('");
        check_refused("a in (b", "found the end, expected ',' or ')'");
        check_refused("-a=b", "'-a' is not a label's name");
        check_refused("a/b/c=d", "'a/b/c' is not a label's name");
        check_refused("A.b/c", "'A.b/c' is not a label's name");
        check_refused("é", "'é' is not a label's name");
        check_refused("a=b/c", "'b/c' is not a label's value");
        let long = "a".repeat(64);
        check_refused(&format!("{long}=b"), &format!("'{long}' is not a label's name"));
        check_refused(&format!("a={long}"), &format!("'{long}' is not a label's value"));
    }
}
