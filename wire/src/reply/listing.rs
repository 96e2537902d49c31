//! A response that a plugin lists record by record, in the order of the sections.
//!
//! For a few records that no table stores. Invariant: the records that were listed are whole and
//! within the limit; the first that does not fit ends the list.

use super::{Reply, Stamped, Subject, Written};
use crate::header::{HEADER_LEN, Rcode};
use crate::name::NAME_LEN_MAX;
use crate::query::Query;
use crate::record::MessageSection;

/// The name that owns a listed record.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'o> {
    /// The question's name from this offset on, which is where a label begins.
    Question { from: usize },
    /// These labels, in wire format, before the question's name.
    Below(&'o [u8]),
}

/// Its owner comes apart from it. The class is the question's.
#[derive(Clone, Copy, Debug)]
pub struct ListedRecord<'r> {
    pub rtype: u16,
    pub ttl_secs: u32,
    /// Without compressed names.
    pub rdata: &'r [u8],
}

/// A response being listed over its query.
pub struct Listing<'m> {
    reply: Reply<'m>,
    query: Query,
    written: Written,
    /// Bytes left for records.
    room: usize,
}

impl<'m> Listing<'m> {
    /// `len_max`: most bytes of the message.
    #[must_use]
    pub fn begin(query: &Query, len_max: usize, message: &'m mut [u8]) -> Self {
        let len_max = len_max.min(message.len());
        let reply = Reply::begin(message, query.question_len(), query.edns);
        let room = reply.room(len_max);
        Self { reply, query: *query, written: Written::default(), room }
    }

    pub fn answer(&mut self, owner: Owner<'_>, record: ListedRecord<'_>) {
        self.put(MessageSection::Answer, owner, record);
    }

    pub fn authority(&mut self, owner: Owner<'_>, record: ListedRecord<'_>) {
        self.put(MessageSection::Authority, owner, record);
    }

    pub fn additional(&mut self, owner: Owner<'_>, record: ListedRecord<'_>) {
        self.put(MessageSection::Additional, owner, record);
    }

    /// `flags`: of AA and TC. TC is set as well if a record did not fit.
    #[must_use]
    pub fn finish(self, flags: u16, rcode: Rcode) -> Stamped {
        let Self { reply, query, written, .. } = self;
        reply.finish(query.kept_flags | flags, rcode, written, query.edns)
    }

    /// A record whose owner would be too long to be a name is left out.
    fn put(&mut self, section: MessageSection, owner: Owner<'_>, record: ListedRecord<'_>) {
        let (labels, from) = match owner {
            Owner::Question { from } => (&[][..], from),
            Owner::Below(labels) => (labels, 0),
        };
        if labels.len() + self.query.name_len > NAME_LEN_MAX || self.written.truncated {
            return;
        }
        let ListedRecord { rtype, ttl_secs, rdata } = record;
        let len = labels.len() + 12 + rdata.len();
        if len > self.room || rdata.len() > usize::from(u16::MAX) {
            self.written.truncated = true;
            return;
        }
        self.room -= len;
        self.reply.put(labels);
        let pointer = Subject { at: HEADER_LEN, len: self.query.name_len }.pointer(from);
        self.reply.fixed_in(self.query.qclass, pointer, rtype, ttl_secs, rdata.len());
        self.reply.put(rdata);
        self.written.join(Written::one(section));
    }
}
