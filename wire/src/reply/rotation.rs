//! The order in which the records of a stored answer are sent.
//!
//! Rotation comes before truncation, so that every endpoint has the same chance to be among the
//! records that fit. Invariant: every record of the body comes once.

use crate::answer::Answer;
use crate::record::RecordHead;

/// The records of a body in the order in which they are sent. The run of addresses begins with the
/// one at `rotation`.
pub(super) struct RotatedRecords<'t> {
    body: &'t [u8],
    run_at: usize,
    count: usize,
    stride: usize,
    /// Offset in the body of the next record outside the run.
    at: usize,
    run_index: usize,
    rotation: usize,
}

impl<'t> RotatedRecords<'t> {
    pub(super) fn new(answer: &Answer<'t>, rotation: usize) -> Self {
        let count = answer.rotate_count();
        Self {
            body: answer.body,
            run_at: answer.rotate_at(),
            count,
            stride: answer.rotate_stride(),
            at: 0,
            run_index: 0,
            // Each part has its turn before the rotation moves on.
            rotation: rotation / answer.part_count().max(1) % count.max(1),
        }
    }
}

impl<'t> Iterator for RotatedRecords<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        if self.at == self.run_at && self.run_index < self.count {
            let index = (self.run_index + self.rotation) % self.count;
            let start = self.run_at + index * self.stride;
            self.run_index += 1;
            if self.run_index == self.count {
                self.at += self.count * self.stride;
            }
            return self.body.get(start..start + self.stride);
        }
        let start = self.at;
        self.at = RecordHead::read(self.body, start)?.end();
        self.body.get(start..self.at)
    }
}
