//! Label selectors, as `kubectl -l` and the Corefile's `labels` and `namespace_labels` write them.
//!
//! Requirements separated by commas, all of which must hold: `key`, `!key`, `key=value`, `key==value`, `key!=value`,
//! `key in (a, b)`, `key notin (a, b)`. The API server applies a selector itself; manifests are matched here.

use std::collections::BTreeMap;

/// Requirements that all hold for the labels it selects. Without any it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    /// `=` and `in`.
    OneOf(Vec<String>),
    /// `!=` and `notin`; holds where the key is absent too.
    NoneOf(Vec<String>),
}

/// Where a selector stops making sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// Bytes into the text.
    pub at: usize,
    pub expected: &'static str,
}

impl std::fmt::Display for SelectorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// Every selector that kubectl takes, but for `<` and `>`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut cursor = Cursor { text, at: 0 };
        let mut requirements = Vec::new();
        if cursor.peek().is_none() {
            return Ok(Self(requirements));
        }
        loop {
            requirements.push(cursor.requirement()?);
            if cursor.peek().is_none() {
                return Ok(Self(requirements));
            }
            cursor.expect(',', "a comma or the end")?;
        }
    }

    #[must_use]
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            match &requirement.operator {
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::OneOf(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NoneOf(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

/// Reads a selector from left to right, skipping blanks before each token.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.take('!') {
            return Ok(Requirement { key: self.key()?, operator: Operator::Absent });
        }
        let key = self.key()?;
        let operator = match self.peek() {
            None | Some(',') => Operator::Exists,
            Some('=') => {
                self.take('=');
                self.take('=');
                Operator::OneOf(vec![self.value()?])
            }
            Some('!') => {
                self.take('!');
                self.expect('=', "!=")?;
                Operator::NoneOf(vec![self.value()?])
            }
            Some(_) => self.set_operator()?,
        };
        Ok(Requirement { key, operator })
    }

    fn set_operator(&mut self) -> Result<Operator, SelectorError> {
        let began = self.at;
        match self.word() {
            "in" => Ok(Operator::OneOf(self.values()?)),
            "notin" => Ok(Operator::NoneOf(self.values()?)),
            _ => Err(SelectorError { at: began, expected: "one of = == != in notin" }),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        self.expect('(', "( before the values")?;
        let mut values = vec![self.value()?];
        while self.take(',') {
            values.push(self.value()?);
        }
        self.expect(')', ") after the values")?;
        Ok(values)
    }

    /// `[prefix/]name`: the name is a qualified name of 1 to 63 bytes.
    fn key(&mut self) -> Result<String, SelectorError> {
        self.peek();
        let began = self.at;
        let word = self.word();
        let (prefix, name) = word.rsplit_once('/').unwrap_or(("", word));
        if (1..=63).contains(&name.len()) && !prefix.contains('/') && prefix.len() <= 253 {
            Ok(word.to_owned())
        } else {
            Err(SelectorError { at: began, expected: "a label's key" })
        }
    }

    /// A label's value: at most 63 bytes, and may be empty.
    fn value(&mut self) -> Result<String, SelectorError> {
        self.peek();
        let began = self.at;
        let word = self.word();
        if word.len() <= 63 && !word.contains('/') {
            Ok(word.to_owned())
        } else {
            Err(SelectorError { at: began, expected: "a label's value of at most 63 bytes" })
        }
    }

    /// The longest run of bytes that keys and values are made of, maybe none.
    fn word(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// The next character that is no blank; the blanks are behind the cursor then.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.at += wanted.len_utf8();
        }
        is_next
    }

    fn expect(&mut self, wanted: char, expected: &'static str) -> Result<(), SelectorError> {
        if self.take(wanted) { Ok(()) } else { Err(SelectorError { at: self.at, expected }) }
    }
}
