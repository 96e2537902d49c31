//! Changes to a text, collected first and applied together, so that the rest of the text stays as
//! it is.
//!
//! Invariant: no two changes overlap.

use std::ops::Range;

use crate::corefile::outline::OutlineStatement;

/// Byte ranges and their replacements.
#[derive(Debug, Default)]
pub(super) struct Edits {
    edits: Vec<(Range<usize>, String)>,
}

impl Edits {
    pub(super) fn replace(&mut self, range: Range<usize>, by: impl Into<String>) {
        self.edits.push((range, by.into()));
    }

    /// Deletes a statement, with its lines and a comment on them.
    pub(super) fn delete(&mut self, text: &str, statement: &OutlineStatement) {
        self.replace(lines_of(text, statement.range()), "");
    }

    /// The text of a range, with its changes applied.
    pub(super) fn applied(&self, text: &str, within: Range<usize>) -> String {
        let mut applied = String::new();
        let mut at = within.start;
        for (range, by) in self.within(&within) {
            debug_assert!(range.start >= at, "edits overlap");
            applied.push_str(text.get(at..range.start).unwrap_or_default());
            applied.push_str(by);
            at = range.end;
        }
        applied.push_str(text.get(at..within.end).unwrap_or_default());
        applied
    }

    /// Drops the changes within a range.
    pub(super) fn forget(&mut self, within: &Range<usize>) {
        self.edits.retain(|(range, _)| !is_within(range, within));
    }

    fn within(&self, within: &Range<usize>) -> Vec<&(Range<usize>, String)> {
        let mut edits: Vec<_> =
            self.edits.iter().filter(|(range, _)| is_within(range, within)).collect();
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        edits
    }
}

fn is_within(range: &Range<usize>, within: &Range<usize>) -> bool {
    within.start <= range.start && range.end <= within.end
}

/// The whole lines of a range, with a comment at the end and the last line break. If anything else
/// is on these lines, only the range.
pub(super) fn lines_of(text: &str, range: Range<usize>) -> Range<usize> {
    let (before, after) = (text.get(..range.start), text.get(range.end..));
    let (Some(before), Some(after)) = (before, after) else { return range };
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line_end = after.find('\n').map_or(text.len(), |at| range.end + at + 1);
    let is_blank = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
    let rest = text.get(range.end..line_end).map(|rest| rest.split('#').next().unwrap_or_default());
    match is_blank(text.get(line_start..range.start)) && is_blank(rest) {
        true => line_start..line_end,
        false => range,
    }
}
