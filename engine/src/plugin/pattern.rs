//! Regular expressions of gates, as a shard has them.
//!
//! Go's syntax and its linear time. Invariant: after its first search, a pattern allocates nothing
//! and takes no lock, because each shard has its own.

use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

use regex::bytes::{CaptureLocations, Regex};

/// A pattern of a block, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternSlot(pub usize);

/// The patterns of one block, by `PatternSlot`: a shard's copies, which gates and finishes share.
#[derive(Clone, Debug)]
pub struct BlockPatterns(Rc<RefCell<Box<[Pattern]>>>);

impl BlockPatterns {
    #[must_use]
    pub fn new(patterns: &[Regex]) -> Self {
        Self(Rc::new(RefCell::new(patterns.iter().map(Pattern::new).collect())))
    }

    /// The patterns, unless a gate or a finish has them.
    #[must_use]
    pub fn try_read(&self) -> Option<Ref<'_, Box<[Pattern]>>> {
        self.0.try_borrow().ok()
    }

    /// No borrow lasts longer than a gate or a finish runs.
    #[must_use]
    pub fn borrow(&self) -> RefMut<'_, Box<[Pattern]>> {
        self.0.borrow_mut()
    }
}

/// A regular expression, and where its groups matched last.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    groups: CaptureLocations,
}

impl Pattern {
    /// A shard's own copy: a clone shares the program, but has its own memory to search with.
    #[must_use]
    pub fn new(regex: &Regex) -> Self {
        let regex = regex.clone();
        let groups = regex.capture_locations();
        Self { regex, groups }
    }

    /// The groups of the first match, if there is one. Group 0 is the whole match.
    pub fn search(&mut self, text: &[u8]) -> Option<&CaptureLocations> {
        self.regex.captures_read(&mut self.groups, text)?;
        Some(&self.groups)
    }

    /// Whether it matches somewhere.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

/// The groups of a match.
#[derive(Clone, Copy)]
pub struct Groups<'g> {
    /// The text that was searched.
    pub text: &'g [u8],
    pub locations: &'g CaptureLocations,
}

impl<'g> Groups<'g> {
    /// Empty if the group has no match.
    #[must_use]
    pub fn get(&self, group: usize) -> &'g [u8] {
        let range = self.locations.get(group).map(|(start, end)| start..end);
        range.and_then(|range| self.text.get(range)).unwrap_or_default()
    }
}
