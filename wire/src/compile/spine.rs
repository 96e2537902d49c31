//! The segments of the next generation, and the copy of them that each generation has.
//!
//! A copy of sixteen thousand segments counts as many references up, and freeing it counts them
//! down: milliseconds, for a change to one segment. So a generation that nothing holds any more
//! becomes the next one, which costs only what has changed since. Invariant: a published copy never
//! changes.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem::take;

use super::write_segment;
use crate::segment::Segment;

/// A generation that is older than this many is not used again.
const AGE_MAX: usize = 64;
/// The share of the segments by which it may differ from the newest: its own ones are kept as long
/// as it waits.
const REPLACED_SHARE_MAX: usize = 16;

pub(super) struct Spine {
    segments: Vec<Segment>,
    /// The number of the newest generation; `None` before the first.
    generation: Option<u64>,
    /// Indexes of the segments that were replaced since that one.
    replaced: Vec<u32>,
    /// What the newest generations replaced, each of the one before it.
    history: VecDeque<Vec<u32>>,
    /// The number of a generation that nothing holds any more, and its copy.
    spare: Option<(u64, Box<[Segment]>)>,
}

impl Spine {
    /// `segment_count`: a power of two.
    pub(super) fn new(segment_count: usize) -> Self {
        Self {
            segments: alloc::vec![write_segment(&[]); segment_count],
            generation: None,
            replaced: Vec::new(),
            history: VecDeque::new(),
            spare: None,
        }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn replace(&mut self, index: usize, segment: Segment) {
        self.segments[index] = segment;
        self.replaced.push(index as u32);
    }

    /// A copy of all segments, for the generation with this number.
    pub(super) fn publish(&mut self, generation: u64) -> Box<[Segment]> {
        let replaced = take(&mut self.replaced);
        if self.generation.replace(generation).is_some() {
            self.history.push_back(replaced);
        }
        let count_max = self.segments.len() / REPLACED_SHARE_MAX;
        let mut count = self.history.iter().map(Vec::len).sum::<usize>();
        while count > count_max || self.history.len() > AGE_MAX {
            count -= self.history.pop_front().map_or(0, |oldest| oldest.len());
        }
        self.renewed_spare().unwrap_or_else(|| self.segments.clone().into_boxed_slice())
    }

    /// Takes the copy of a generation that nothing holds any more.
    pub(super) fn recycle(&mut self, generation: u64, copy: Box<[Segment]>) {
        let is_newer = self.spare.as_ref().is_none_or(|(spare, _)| *spare < generation);
        if is_newer && self.replaced_since(generation).is_some() {
            self.spare = Some((generation, copy));
        }
    }

    fn renewed_spare(&mut self) -> Option<Box<[Segment]>> {
        let (generation, mut copy) = self.spare.take()?;
        for index in self.replaced_since(generation)? {
            copy[index].clone_from(&self.segments[index]);
        }
        Some(copy)
    }

    /// Indexes of the segments by which the newest generation differs from this one, unless that is
    /// forgotten.
    fn replaced_since(&self, generation: u64) -> Option<impl Iterator<Item = usize>> {
        let age = usize::try_from(self.generation?.checked_sub(generation)?).ok()?;
        let from = self.history.len().checked_sub(age)?;
        Some(self.history.range(from..).flatten().map(|index| *index as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment that differs from all others.
    fn segment(number: usize) -> Segment {
        Segment { bytes: [number as u8; 8].into(), slot_mask: number }
    }

    fn masks(copy: &[Segment]) -> Vec<usize> {
        copy.iter().map(|segment| segment.slot_mask).collect()
    }

    /// Publishes generations that replace a few segments each, and recycles some of them, late.
    #[test]
    fn a_renewed_copy_equals_a_new_one() {
        let mut spine = Spine::new(64);
        let mut kept = VecDeque::new();
        for generation in 1..400_u64 {
            let number = generation as usize;
            for index in 0..number % 7 {
                spine.replace((number * 5 + index * 11) % 64, segment(number * 8 + index));
            }
            let copy = spine.publish(generation);
            assert_eq!(masks(&copy), masks(spine.segments()), "generation {generation}");
            kept.push_back((generation, copy));
            while kept.len() > number % 5 {
                let (old, copy) = kept.pop_front().unwrap();
                spine.recycle(old, copy);
            }
        }
    }

    #[test]
    fn only_what_differs_in_little_is_used_again() {
        let check = |replaced: usize, expected: bool| {
            let mut spine = Spine::new(64);
            let first = spine.publish(1);
            let memory = first.as_ptr();
            (0..replaced).for_each(|index| spine.replace(index, segment(index)));
            let second = spine.publish(2);
            spine.recycle(1, first);
            let spare = spine.spare.as_ref().map(|(_, copy)| copy.as_ptr());
            assert_eq!(spare, expected.then_some(memory), "{replaced}");
            let third = spine.publish(3);
            assert!(!expected || third.as_ptr() == memory, "{replaced}");
            assert_eq!(masks(&third), masks(&second), "{replaced}");
        };
        check(0, true);
        check(4, true);
        check(5, false);
    }

    /// Its segments are those of another spine.
    #[test]
    fn a_generation_before_the_first_is_freed() {
        let copy = Spine::new(64).publish(5);
        let mut spine = Spine::new(64);
        spine.recycle(5, copy.clone());
        assert!(spine.spare.is_none());
        spine.publish(6);
        spine.recycle(5, copy);
        assert!(spine.spare.is_none());
    }
}
