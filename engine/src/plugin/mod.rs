//! Plugins: each file or folder here holds everything about one directive: its options, its settings
//! and how they are read, what it adds to a server block, its page of the manual (`NAME.md`).
//!
//! To add one: write its file, name it here, turn its row of `directives::DIRECTIVES` into a built one,
//! and give it an arm where it acts on packets (`gate`, `finish`).

pub mod bind;
pub mod cache;
pub mod directives;
pub mod errors;
pub mod forward;
pub mod health;
pub mod kubernetes;
pub mod loadbalance;
pub mod looping;
pub(crate) mod overlap;
pub mod prometheus;
pub mod ready;
pub mod reload;
pub mod timeouts;

use std::any::Any;
use std::fmt::Debug;

pub use directives::{DIRECTIVES, Directive};

use crate::corefile::Place;
use crate::corefile::value::key::Key;
use bind::{Bind, BindAddress};

/// What one line of a server block asks for; lines of one directive that add up are one.
pub trait Plugin: Any + Debug + Send + Sync {
    /// Its row of `DIRECTIVES`.
    fn name(&self) -> &'static str;

    /// Whether queries pass through it, as CoreDNS has it: a block without such a plugin refuses them.
    fn sees_queries(&self) -> bool;
}

/// One server block of the Corefile.
#[derive(Debug)]
pub struct ServerBlock {
    /// The line of its first key.
    pub place: Place,
    /// At least one; CIDRs are expanded.
    pub keys: Vec<Key>,
    /// In the order of `DIRECTIVES`, and within one directive in that of the Corefile.
    lines: Vec<Box<dyn Plugin>>,
}

impl ServerBlock {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, keys: Vec::new(), lines: Vec::new() }
    }

    /// The plugins, in the order in which CoreDNS asks them.
    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.lines.iter().map(AsRef::as_ref)
    }

    /// The settings of every line of this type, in the order of the Corefile.
    pub fn lines<T: Plugin>(&self) -> impl Iterator<Item = &T> {
        self.plugins().filter_map(|line| (line as &dyn Any).downcast_ref())
    }

    /// The settings of the first line of this type.
    #[must_use]
    pub fn line<T: Plugin>(&self) -> Option<&T> {
        self.lines().next()
    }

    /// The addresses of `bind`; none without it, which means every address of the machine.
    #[must_use]
    pub fn bound(&self) -> &[BindAddress] {
        self.line::<Bind>().map_or(&[], |bind| &bind.addresses)
    }

    pub(crate) fn push(&mut self, line: impl Plugin) {
        self.lines.push(Box::new(line));
    }

    /// The settings of the block's line of this type, `default` if it has none yet: for directives whose
    /// lines add up.
    pub(crate) fn line_or<T: Plugin>(&mut self, default: T) -> &mut T {
        let is_of_type = |line: &Box<dyn Plugin>| (line.as_ref() as &dyn Any).is::<T>();
        let at = self.lines.iter().position(is_of_type).unwrap_or_else(|| {
            self.push(default);
            self.lines.len() - 1
        });
        let line = self.lines[at].as_mut() as &mut dyn Any;
        line.downcast_mut().expect("it was looked for by its type")
    }

    /// Puts the lines in the order of `DIRECTIVES`.
    pub(crate) fn sort(&mut self) {
        self.lines.sort_by_key(|line| DIRECTIVES.iter().position(|row| row.name == line.name()));
    }
}
