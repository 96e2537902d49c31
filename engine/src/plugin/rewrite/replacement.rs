//! TO of a rule with a regular expression: text, groups of the match, and metadata.
//!
//! Invariant: every group that is named here exists in the rule's pattern.

use std::fmt;

use regex::bytes::Captures;
use wire::name::Name;
use wire::text::NameText;

use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;
use crate::plugin::metadata::QueryLabels;
use crate::plugin::pattern::Groups;

/// What a name becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacement {
    pub parts: Vec<ReplacementPart>,
}

/// A part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplacementPart {
    Text(String),
    /// `{1}`; 0 is the whole match. A group without a match is empty.
    Group(usize),
    /// `{plugin/label}`, a label of `metadata`.
    Label(String),
}

impl Replacement {
    /// Without groups.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { parts: vec![ReplacementPart::Text(text.to_owned())] }
    }

    /// The text, if it is nothing else.
    #[must_use]
    pub(super) fn as_text(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [ReplacementPart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Text in which `{1}` stands for a group. Braces around anything else, also around the number
    /// of a group that the pattern lacks, stand for themselves.
    pub(super) fn with_groups(text: &str, group_count: usize) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, braced) = rest.split_at(at);
            literal.push_str(before);
            match group_in(braced).filter(|(group, _)| *group <= group_count) {
                Some((group, after)) => {
                    push_text(&mut parts, &mut literal);
                    parts.push(ReplacementPart::Group(group));
                    rest = after;
                }
                None => {
                    literal.push('{');
                    rest = &braced[1..];
                }
            }
        }
        literal.push_str(rest);
        push_text(&mut parts, &mut literal);
        Self { parts }
    }

    /// The same with metadata: here all braces must stand for something.
    pub(super) fn with_labels(text: &str, group_count: usize) -> Result<Self, Refusal> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (before, braced) = match rest.split_once('{') {
                Some((before, braced)) => (before, Some(braced)),
                None => (rest, None),
            };
            if before.contains('}') {
                let message = "unmatched closing brace in metadata name replacement";
                return Err(Refusal::new(message, "has a `}` without a `{`"));
            }
            push_text(&mut parts, &mut before.to_lowercase());
            let Some(braced) = braced else { return Ok(Self { parts }) };
            let Some((label, after)) = braced.split_once('}') else {
                let message = "unclosed placeholder in metadata name replacement";
                return Err(Refusal::new(message, "has a `{` without a `}`"));
            };
            parts.push(placeholder(label, group_count)?);
            rest = after;
        }
    }

    /// The text for a match. Labels have no value.
    pub(super) fn expanded(&self, captures: &Captures<'_>) -> String {
        let part = |part: &ReplacementPart| match part {
            ReplacementPart::Text(text) => text.clone(),
            ReplacementPart::Group(group) => {
                let group = captures.get(*group).map_or(&[][..], |group| group.as_bytes());
                String::from_utf8_lossy(group).into_owned()
            }
            ReplacementPart::Label(_) => String::new(),
        };
        self.parts.iter().map(part).collect()
    }

    /// How many different groups it has, as CoreDNS counts them.
    pub(super) fn group_count_in(text: &str) -> usize {
        (0..=100).filter(|group| text.contains(&format!("{{{group}}}"))).count()
    }

    /// Whether it has labels of `metadata`.
    #[must_use]
    pub(super) fn has_labels(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, ReplacementPart::Label(_)))
    }

    /// Writes the name for a match in `text`. False if a label has no value.
    #[must_use]
    pub(super) fn write(
        &self,
        groups: Groups<'_>,
        labels: LabelSource<'_>,
        to: &mut NameText,
    ) -> bool {
        to.clear();
        for part in &self.parts {
            match part {
                ReplacementPart::Text(text) => to.push(text.as_bytes()),
                ReplacementPart::Group(group) => to.push(groups.get(*group)),
                ReplacementPart::Label(label) if labels.write(label, to) => {}
                ReplacementPart::Label(_) => return false,
            }
        }
        true
    }
}

/// Where the values of labels come from: the block's `metadata`, if it has one, and the client's
/// name.
#[derive(Clone, Copy, Default)]
pub(super) struct LabelSource<'l> {
    pub(super) labels: Option<&'l QueryLabels>,
    pub(super) name: Option<&'l Name>,
}

impl LabelSource<'_> {
    /// Appends a value in lower case. False if there is none.
    fn write(self, label: &str, to: &mut NameText) -> bool {
        let mut written = LowerCase { to, len: 0 };
        self.read(label, &mut written) && written.len > 0
    }

    /// The value, if there is one.
    pub(super) fn value(self, label: &str) -> Option<String> {
        let mut value = String::new();
        (self.read(label, &mut value) && !value.is_empty()).then_some(value)
    }

    fn read(self, label: &str, to: &mut impl fmt::Write) -> bool {
        let (Some(labels), Some(name)) = (self.labels, self.name) else { return false };
        labels.write(label, name, to).unwrap_or(false)
    }
}

/// Text that is appended in lower case.
struct LowerCase<'t> {
    to: &'t mut NameText,
    len: usize,
}

impl fmt::Write for LowerCase<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.to.push(&[byte.to_ascii_lowercase()]);
        }
        self.len += text.len();
        Ok(())
    }
}

fn push_text(parts: &mut Vec<ReplacementPart>, text: &mut String) {
    if !text.is_empty() {
        parts.push(ReplacementPart::Text(std::mem::take(text)));
    }
}

/// The number in `{12}…`, spelled as Go spells it, and the text after it.
fn group_in(braced: &str) -> Option<(usize, &str)> {
    let (number, after) = braced.strip_prefix('{')?.split_once('}')?;
    let group: usize = number.parse().ok()?;
    (group.to_string() == number).then_some((group, after))
}

fn placeholder(label: &str, group_count: usize) -> Result<ReplacementPart, Refusal> {
    if let Ok(group) = label.parse::<i64>() {
        let known = usize::try_from(group).ok().filter(|group| *group <= group_count);
        return known.map(ReplacementPart::Group).ok_or_else(|| {
            let label = quoted(label);
            let message = format!("capture group {label} does not exist in name matching pattern");
            Refusal::new(message, "names a group that the pattern lacks")
        });
    }
    let is_label = label.split_once('/').is_some_and(|(plugin, name)| {
        !plugin.is_empty() && !name.is_empty() && !label.contains('{')
    });
    match is_label {
        true => Ok(ReplacementPart::Label(label.to_owned())),
        false => {
            let message =
                format!("invalid metadata label \"{}\" in name replacement", quoted(label));
            Err(Refusal::new(message, "not `{PLUGIN/LABEL}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use ReplacementPart::{Group, Label, Text};

    use super::*;

    fn parts(rows: Vec<ReplacementPart>) -> Replacement {
        Replacement { parts: rows }
    }

    fn text(text: &str) -> ReplacementPart {
        Text(text.to_owned())
    }

    #[test]
    fn groups() {
        let check = |to: &str, expected| {
            assert_eq!(Replacement::with_groups(to, 2), parts(expected), "{to}");
        };
        check("a.", vec![text("a.")]);
        check("{1}.b.{2}.{0}", vec![Group(1), text(".b."), Group(2), text("."), Group(0)]);
        check("{3}{01}{x}{{1}}{", vec![text("{3}{01}{x}{"), Group(1), text("}{")]);
        assert_eq!(Replacement::group_count_in("{1}{1}{0}{101}{7}"), 3);
    }

    #[test]
    fn labels() {
        let check = |to: &str, expected: Result<Vec<ReplacementPart>, &str>| {
            let read = Replacement::with_labels(to, 1).map_err(|refusal| refusal.message);
            assert_eq!(read, expected.map(parts).map_err(str::to_owned), "{to}");
        };
        check("{1}.{a/B}.X.", Ok(vec![Group(1), text("."), Label("a/B".to_owned()), text(".x.")]));
        check("a}", Err("unmatched closing brace in metadata name replacement"));
        check("a{1", Err("unclosed placeholder in metadata name replacement"));
        check("{2}", Err("capture group 2 does not exist in name matching pattern"));
        check("{-1}", Err("capture group -1 does not exist in name matching pattern"));
        check("{a}", Err("invalid metadata label \"a\" in name replacement"));
        check("{a/}", Err("invalid metadata label \"a/\" in name replacement"));
    }
}
