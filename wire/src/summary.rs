//! What the query log reports of a finished response: its question, the records of its sections,
//! and its length without compression.
//!
//! Invariant: whatever the bytes, nothing here allocates or panics, and the work per record is
//! bounded.

use crate::edit::{opt_in, records};
use crate::header::{HEADER_LEN, TYPE_NS, TYPE_SOA, u16_at};
use crate::name::{LABEL_COUNT_MAX, NAME_LEN_MAX};
use crate::record::{MessageSection, RecordHead, owner_len};
use crate::response::layout::Layout;

/// A response, as the log describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub id: u16,
    /// The header's second word: flags and response code.
    pub flags: u16,
    /// 0 without a question.
    pub qtype: u16,
    /// 0 without a question.
    pub qclass: u16,
    pub answer_count: u16,
    /// SOA records of the authority section.
    pub soa_count: u16,
    /// NS records of the authority section.
    pub ns_count: u16,
    /// Bytes of the message if no name were compressed, without the OPT.
    pub uncompressed_len: usize,
}

impl Summary {
    /// Reads a response. What follows a record that is not whole counts as it is.
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        let mut summary = Self {
            id: u16_at(message, 0),
            flags: u16_at(message, 2),
            answer_count: u16_at(message, 6),
            uncompressed_len: message.len(),
            ..Self::default()
        };
        let Some(records) = records(message) else { return summary };
        if records.at() > HEADER_LEN {
            summary.qtype = u16_at(message, records.at() - 4);
            summary.qclass = u16_at(message, records.at() - 2);
        }
        let opt_len = opt_in(records.clone()).map_or(0, |opt| opt.end() - opt.owner_at);
        let mut len = message.len() - opt_len.min(message.len());
        for (section, head) in records {
            if section == MessageSection::Authority {
                match head.rtype {
                    TYPE_SOA => summary.soa_count += 1,
                    TYPE_NS => summary.ns_count += 1,
                    _ => {}
                }
            }
            len += saved_len(message, &head);
        }
        summary.uncompressed_len = len;
        summary
    }
}

/// Bytes that compression saves in a record.
fn saved_len(message: &[u8], head: &RecordHead) -> usize {
    let layout = Layout::of(head.rtype, message.get(head.rdata.clone()).unwrap_or_default());
    let (head_len, name_count) = layout.map_or((0, 0), |one| (one.head_len, one.name_count));
    let mut saved = saved_by_name(message, head.owner_at).unwrap_or_default();
    let mut at = head.rdata.start + head_len;
    for _ in 0..name_count {
        let Some(name_len) = message.get(at..).and_then(owner_len) else { break };
        saved += saved_by_name(message, at).unwrap_or_default();
        at += name_len;
    }
    saved
}

/// Bytes that compression saves in the name at this offset; `None` if it is not a name.
fn saved_by_name(message: &[u8], at: usize) -> Option<usize> {
    expanded_len(message, at)?.checked_sub(owner_len(message.get(at..)?)?)
}

/// Bytes of the name at this offset if it were not compressed; `None` if it is not a name.
fn expanded_len(message: &[u8], mut at: usize) -> Option<usize> {
    let mut len = 0;
    // At most one pointer after each label.
    for _ in 0..=2 * LABEL_COUNT_MAX {
        match *message.get(at)? {
            0 => return Some(len + 1),
            label_len @ 1..=63 => {
                len += 1 + usize::from(label_len);
                at += 1 + usize::from(label_len);
            }
            high @ 0xC0.. => {
                let low = *message.get(at + 1)?;
                at = usize::from(u16::from_be_bytes([high & 0x3F, low]));
            }
            64..=0xBF => return None,
        }
        if len >= NAME_LEN_MAX {
            return None;
        }
    }
    None
}
