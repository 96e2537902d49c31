//! The queries to send: complete messages, built before the clock starts and sent in a loop.
//!
//! All random choices (name, case, EDNS) are made while the workload is built, so the same seed
//! sends the same bytes. Only the id is written when a message is sent.

pub mod cluster;
pub mod expect;
pub mod message;
pub mod mix;
pub mod profile;
pub mod query_file;

use std::fmt;

use domain::base::{Message as ParsedMessage, Rtype};

use expect::{Expectation, Expectations};
pub use message::{Options, Question};

/// Most messages of a workload: with 60 bytes each, 600 MB.
pub const ENTRY_COUNT_MAX: usize = 10_000_000;
/// Longest message: a name of 255 bytes, its type and class, an OPT record without options.
pub const MESSAGE_LEN_MAX: usize = 12 + 255 + 4 + 11;

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u32,
    len: u16,
    /// Bytes after the header, which a response repeats.
    question_len: u16,
    /// Index into `expectations`; `NONE` if nothing is expected.
    expectation: u32,
}

const NONE: u32 = u32::MAX;

/// The workload. Valid once built: never empty.
#[derive(Debug, Default)]
pub struct Workload {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    expectations: Vec<Expectation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadTooLarge;

impl fmt::Display for WorkloadTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {ENTRY_COUNT_MAX} queries; split the file")
    }
}

impl std::error::Error for WorkloadTooLarge {}

/// One message of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'w> {
    /// With id 0. At most `MESSAGE_LEN_MAX` long.
    pub bytes: &'w [u8],
    pub question_len: usize,
}

impl Workload {
    pub fn push(&mut self, question: &Question, options: Options) -> Result<(), WorkloadTooLarge> {
        let offset = self.bytes.len();
        if self.entries.len() >= ENTRY_COUNT_MAX {
            return Err(WorkloadTooLarge);
        }
        let question_len = message::write(question, options, &mut self.bytes);
        let len = self.bytes.len() - offset;
        assert!(
            len <= MESSAGE_LEN_MAX && question_len < len,
            "{len} bytes, {question_len} of them the question"
        );
        self.entries.push(Entry {
            offset: offset as u32,
            len: len as u16,
            question_len: question_len as u16,
            expectation: NONE,
        });
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    pub fn message(&self, index: u32) -> Message<'_> {
        let Entry { offset, len, question_len, .. } = self.entries[index as usize];
        let offset = offset as usize;
        Message {
            bytes: &self.bytes[offset..offset + usize::from(len)],
            question_len: question_len.into(),
        }
    }

    /// Assigns each message its expectation; returns how many messages have one.
    pub fn expect(&mut self, all: Expectations) -> usize {
        let mut count = 0;
        for index in 0..self.len() as u32 {
            let (name, rtype) = self.question(index);
            let expectation = all.index(&name, rtype);
            self.entries[index as usize].expectation = expectation.unwrap_or(NONE);
            count += usize::from(expectation.is_some());
        }
        self.expectations = all.list;
        count
    }

    pub fn expectation(&self, index: u32) -> Option<&Expectation> {
        self.expectations.get(self.entries[index as usize].expectation as usize)
    }

    /// The name as it is sent, without the final dot, and the type.
    pub fn question(&self, index: u32) -> (String, Rtype) {
        let message = ParsedMessage::from_slice(self.message(index).bytes).expect("built by us");
        let question = message.sole_question().expect("built by us");
        (question.qname().to_string(), question.qtype())
    }
}
