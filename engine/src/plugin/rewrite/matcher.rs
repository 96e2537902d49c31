//! Whether a rule matches a name, and the text that it makes of the name.
//!
//! Invariant: nothing here allocates. A regular expression is tried only if the text is long enough
//! for it and has the longest literal that every match has.

use memchr::memmem::Finder;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind};
use wire::text::NameText;

use super::NameMatch;
use super::replacement::{LabelSource, Replacement};
use crate::plugin::draft::BlockDraft;
use crate::plugin::go_regex::GoRegex;
use crate::plugin::pattern::{Groups, Pattern, PatternSlot};

/// A `NameMatch`, made ready.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Substring(Finder<'static>),
    Regex(Search),
}

/// A regular expression of the block, and what every match needs.
#[derive(Clone, Debug)]
pub(super) struct Search {
    slot: PatternSlot,
    len_min: usize,
    /// Text that every match has; `None` if there is none.
    literal: Option<Finder<'static>>,
}

impl Matcher {
    pub(super) fn new(names: &NameMatch, block: &mut BlockDraft) -> Self {
        match names {
            NameMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            NameMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            NameMatch::Suffix(text) => Self::Suffix(text.as_bytes().into()),
            NameMatch::Substring(text) => Self::Substring(Finder::new(text).into_owned()),
            NameMatch::Regex(regex) => Self::Regex(Search::new(regex, block)),
        }
    }

    #[must_use]
    pub(super) fn matches(&self, text: &[u8], patterns: &[Pattern]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::Substring(substring) => substring.find(text).is_some(),
            Self::Regex(search) => search.matches(text, patterns),
        }
    }

    /// The same without the block's patterns: a regular expression may match then.
    #[must_use]
    pub(super) fn may_match(&self, text: &[u8], patterns: Option<&[Pattern]>) -> bool {
        match (self, patterns) {
            (Self::Regex(_), None) => true,
            (_, patterns) => self.matches(text, patterns.unwrap_or_default()),
        }
    }

    /// Writes what a rule with this replacement makes of the text. False if it is not about it.
    #[must_use]
    pub(super) fn replace(
        &self,
        replacement: &Replacement,
        labels: LabelSource<'_>,
        text: &[u8],
        patterns: &mut [Pattern],
        to: &mut NameText,
    ) -> bool {
        let replaced = replacement.as_text().unwrap_or_default().as_bytes();
        match self {
            Self::Exact(exact) => {
                if **exact != *text {
                    return false;
                }
                write(&[replaced], to);
            }
            Self::Prefix(prefix) => {
                let Some(rest) = text.strip_prefix(&**prefix) else { return false };
                write(&[replaced, rest], to);
            }
            Self::Suffix(suffix) => {
                let Some(rest) = text.strip_suffix(&**suffix) else { return false };
                write(&[rest, replaced], to);
            }
            Self::Substring(substring) => return replace_all(substring, replaced, text, to),
            Self::Regex(search) => return search.replace(replacement, labels, text, patterns, to),
        }
        true
    }
}

fn write(parts: &[&[u8]], to: &mut NameText) {
    to.clear();
    parts.iter().for_each(|part| to.push(part));
}

/// Every occurrence, from the left. Whether there is one.
fn replace_all(
    substring: &Finder<'static>,
    replaced: &[u8],
    text: &[u8],
    to: &mut NameText,
) -> bool {
    to.clear();
    let mut done = 0;
    for at in substring.find_iter(text) {
        to.push(text.get(done..at).unwrap_or_default());
        to.push(replaced);
        done = at + substring.needle().len();
    }
    to.push(text.get(done..).unwrap_or_default());
    done > 0
}

impl Search {
    pub(super) fn new(regex: &GoRegex, block: &mut BlockDraft) -> Self {
        let slot = block.pattern(regex.regex().clone());
        let hir = ParserBuilder::new().utf8(false).build().parse(regex.regex().as_str());
        let Ok(hir) = hir else { return Self { slot, len_min: 0, literal: None } };
        Self {
            slot,
            len_min: hir.properties().minimum_len().unwrap_or(0),
            literal: literal(&hir).map(|literal| Finder::new(literal).into_owned()),
        }
    }

    fn may_match(&self, text: &[u8]) -> bool {
        text.len() >= self.len_min
            && self.literal.as_ref().is_none_or(|literal| literal.find(text).is_some())
    }

    fn matches(&self, text: &[u8], patterns: &[Pattern]) -> bool {
        let pattern = patterns.get(self.slot.0);
        self.may_match(text) && pattern.is_some_and(|pattern| pattern.matches(text))
    }

    /// Writes the replacement. False if there is no match, or if a label has no value.
    #[must_use]
    pub(super) fn replace(
        &self,
        replacement: &Replacement,
        labels: LabelSource<'_>,
        text: &[u8],
        patterns: &mut [Pattern],
        to: &mut NameText,
    ) -> bool {
        if !self.may_match(text) {
            return false;
        }
        let Some(pattern) = patterns.get_mut(self.slot.0) else { return false };
        let Some(locations) = pattern.search(text) else { return false };
        replacement.write(Groups { text, locations }, labels, to)
    }
}

/// The longest text that every match has.
fn literal(hir: &Hir) -> Option<&[u8]> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(&literal.0),
        HirKind::Capture(capture) => literal(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => literal(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(literal).max_by_key(|text| text.len()),
        HirKind::Empty
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Alternation(_) => None,
    }
}
