//! What rules do to the response of a query that they matched.
//!
//! Rules apply in the reverse of their order. Invariant: the response has the client's question,
//! whatever the rules and the bytes.

use std::mem;

use wire::header::Rcode;
use wire::text::{NameText, PlainName};
use wire::{edit, rename};

use super::AnswerPart;
use super::replacement::LabelSource;
use super::rules::{Back, BackHow, ReadyName, RuleAction, Rules};
use crate::plugin::exchange::{AskedQuestion, NameTexts, Trail};
use crate::plugin::finish::{Leaving, Workbench};
use crate::plugin::pattern::Pattern;

impl Rules {
    /// Changes the response, which is the first `len` bytes of `message`. Returns its new length.
    pub(in crate::plugin) fn finish(
        &self,
        leaving: Leaving<'_>,
        message: &mut [u8],
        len: usize,
    ) -> usize {
        let Trail { asked, rewrites, patterns, .. } = leaving.trail;
        if rewrites.is_empty() && asked.is_none() {
            return len;
        }
        let Some(response) = message.get_mut(..len) else { return len };
        self.change_rcode(rewrites.indices(), response);
        let Some(asked) = asked else {
            rename::set_ttls(response, |ttl_secs| self.change_ttl(rewrites.indices(), ttl_secs));
            return len;
        };
        let bench = &mut *leaving.bench.borrow_mut();
        let mut patterns = patterns.as_ref().map(|patterns| patterns.borrow());
        let patterns = patterns.as_deref_mut().map_or(&mut [][..], |patterns| &mut patterns[..]);
        self.rewrite(rewrites.indices(), asked, bench, patterns, message, len)
    }

    fn change_rcode(&self, indices: &[u16], response: &mut [u8]) {
        for action in self.backwards(indices) {
            if let RuleAction::Rcode { from, to, .. } = action
                && edit::rcode(response) == *from
                && !edit::set_rcode(response, *to)
            {
                // A client without EDNS cannot receive this code.
                edit::set_rcode(response, Rcode::ServFail as u16);
            }
        }
    }

    fn change_ttl(&self, indices: &[u16], ttl_secs: &mut u32) {
        for action in self.backwards(indices) {
            if let RuleAction::Ttl { min_secs, max_secs, .. } = action {
                // Not `clamp`, which panics where no number fits.
                *ttl_secs = (*ttl_secs).min(*max_secs).max(*min_secs);
            }
        }
    }

    /// Writes the response with the client's question and names.
    fn rewrite(
        &self,
        indices: &[u16],
        asked: &AskedQuestion,
        bench: &mut Workbench,
        patterns: &mut [Pattern],
        message: &mut [u8],
        len: usize,
    ) -> usize {
        let Workbench { copy, texts, chain } = bench;
        let (Some(copy), Some(response)) = (copy.get_mut(..len), message.get(..len)) else {
            return len;
        };
        copy.copy_from_slice(response);
        self.follow(indices, asked, chain, patterns);
        let written = rename::write(copy, asked.bytes(), message, |part| match part {
            rename::Part::Owner(name) => {
                self.change_name(indices, AnswerPart::Owner, name, chain, patterns, texts);
            }
            rename::Part::Value(name) => {
                self.change_name(indices, AnswerPart::Value, name, chain, patterns, texts);
            }
            rename::Part::TtlSecs(ttl_secs) => self.change_ttl(indices, ttl_secs),
        });
        written.unwrap_or(len)
    }

    fn names(&self, indices: &[u16]) -> impl DoubleEndedIterator<Item = &ReadyName> {
        indices.iter().filter_map(|index| match &self.rules.get(usize::from(*index))?.action {
            RuleAction::Name(rule) => Some(rule),
            RuleAction::Type { .. }
            | RuleAction::Class { .. }
            | RuleAction::Ttl { .. }
            | RuleAction::Rcode { .. }
            | RuleAction::Cname(_)
            | RuleAction::Edns(_) => None,
        })
    }

    /// Writes the question's names, from the client's to the one that was asked: names change back
    /// from one to the one before.
    fn follow(
        &self,
        indices: &[u16],
        asked: &AskedQuestion,
        chain: &mut [NameText],
        patterns: &mut [Pattern],
    ) {
        let is_remap = |back: &Back| matches!(back.how, BackHow::Remap);
        if !self.names(indices).any(|rule| rule.back.iter().any(is_remap)) {
            return;
        }
        let (Some(name), Some(first)) = (asked.name(), chain.first_mut()) else { return };
        first.set_name(name.bytes());
        for (index, rule) in self.names(indices).enumerate() {
            let Some([before, after]) = chain.get_mut(index..index + 2) else { return };
            let labels = LabelSource { labels: self.labels.as_ref(), name: Some(&name) };
            let is_same = rule.from.replace(&rule.to, labels, before.bytes(), patterns, after);
            debug_assert!(is_same, "a rule that matched a name matches it again");
        }
    }

    /// Changes a name of a record back.
    fn change_name(
        &self,
        indices: &[u16],
        part: AnswerPart,
        name: &mut PlainName,
        chain: &[NameText],
        patterns: &mut [Pattern],
        texts: &mut NameTexts,
    ) {
        let NameTexts { name: text, other, plain } = texts;
        let (mut text, mut other) = (text, other);
        let mut is_changed = false;
        let name_count = self.names(indices).count();
        for (index, rule) in (0..name_count).rev().zip(self.names(indices).rev()) {
            for back in rule.back.iter().rev().filter(|back| back.part == part) {
                if !is_changed {
                    text.set_name(name.bytes());
                }
                let before = chain.get(index).map_or(&[][..], NameText::bytes);
                let after = chain.get(index + 1).map_or(&[][..], NameText::bytes);
                let found = match &back.how {
                    BackHow::Remap => remap(text.bytes(), after, before, other),
                    BackHow::Suffix { from, to } => replace_end(text.bytes(), from, to, other),
                    BackHow::Search(search, to) => {
                        let labels = LabelSource::default();
                        search.replace(to, labels, text.bytes(), patterns, other)
                    }
                };
                if found {
                    mem::swap(&mut text, &mut other);
                    is_changed = true;
                }
            }
        }
        // A name that cannot be sent stays as it is.
        if is_changed && text.read_into(plain) {
            name.clone_from(plain);
        }
    }
}

/// `from`, or a name below it.
fn remap(text: &[u8], from: &[u8], to: &[u8], changed: &mut NameText) -> bool {
    let is_whole_name =
        text.strip_suffix(from).is_some_and(|below| below.is_empty() || below.ends_with(b"."));
    is_whole_name && replace_end(text, from, to, changed)
}

fn replace_end(text: &[u8], from: &[u8], to: &[u8], changed: &mut NameText) -> bool {
    let Some(rest) = text.strip_suffix(from) else { return false };
    changed.clear();
    changed.push(rest);
    changed.push(to);
    true
}
