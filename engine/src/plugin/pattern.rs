//! Regular expressions of gates, as a shard has them.
//!
//! Go's syntax and its linear time. Invariant: after its first search, a pattern allocates nothing
//! and takes no lock, because each shard has its own.

use regex::bytes::{CaptureLocations, Regex};

/// A pattern of a block, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternSlot(pub usize);

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
