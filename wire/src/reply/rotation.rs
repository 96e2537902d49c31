//! The order in which the records of a stored answer are sent.
//!
//! Rotation comes before truncation, so that every endpoint has the same chance to be among the
//! records that fit. Invariant: every record of the body comes once.

use crate::answer::Answer;
use crate::record::RecordHead;
use crate::turn::{turn, turn_in_part};

/// The records of a body in the order in which they are sent. The run of addresses begins with
/// the one at `first`.
pub(super) struct RotatedRecords<'t> {
    body: &'t [u8],
    run_at: usize,
    count: usize,
    stride: usize,
    /// Offset in the body of the next record outside the run.
    at: usize,
    run_index: usize,
    first: usize,
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
            first: if answer.is_cut() {
                turn_in_part(rotation, count)
            } else {
                turn(rotation, count)
            },
        }
    }
}

impl<'t> Iterator for RotatedRecords<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        if self.at == self.run_at && self.run_index < self.count {
            let index = (self.run_index + self.first) % self.count;
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
