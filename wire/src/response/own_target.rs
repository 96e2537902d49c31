//! Upstreams' CNAMEs that lead to one of this server's own names: they are kept, and what the
//! upstream says about that name is dropped.
//!
//! Invariant: the target of the last CNAME that is kept is spelled out, so that records after it
//! can point into it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::reader::TYPE_RRSIG;
use super::{Kind, Response, Run};
use crate::header::{AA, HEADER_LEN, RA, Rcode, TYPE_CNAME, u16_at};
use crate::name::{LABEL_COUNT_MAX, NAME_LEN_MAX, Name};
use crate::reply::{MESSAGE_LEN_MAX, Subject};

/// Where a body has a name spelled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpelledName {
    at: usize,
    len: usize,
}

impl SpelledName {
    /// The name in a message that has the body at `body_at`.
    pub(super) fn in_message(self, body_at: usize) -> Subject {
        Subject { at: body_at + self.at, len: self.len }
    }
}

impl Response {
    /// The CNAMEs of this response up to the first whose target `is_own`; `None` if there is none.
    /// The upstream's response code is dropped, because it is about that target. `question`: the
    /// name that was asked for, in wire format.
    #[must_use]
    pub fn cut_at_own_target(
        &self,
        question: &[u8],
        is_own: impl Fn(&Name) -> bool,
    ) -> Option<Self> {
        let index = self.first_to_own(question, is_own)?;
        // A CNAME's signatures follow it.
        let chain_len = usize::from(self.chain_record_count);
        let signatures = (index + 1..chain_len).take_while(|at| self.rtype(*at) == TYPE_RRSIG);
        let mut bytes = [0; NAME_LEN_MAX];
        let target = self.read_name(self.rdata_at(index), question, &mut bytes)?;
        self.cut_behind(index, index + 1 + signatures.count(), target)
    }

    /// Whether this response is still cut at the right place: the target of its last CNAME `is_own`
    /// if it is a `Kind::OwnTarget`, and no other target is. Check it for cached responses, because
    /// which names are this server's own depends on the client and changes over time.
    #[must_use]
    pub fn ends_at_own_target(&self, question: &[u8], is_own: impl Fn(&Name) -> bool) -> bool {
        let last = self.own_target.and_then(|_| self.cnames().next_back());
        self.first_to_own(question, is_own) == last
    }

    /// The index of the first CNAME whose target `is_own`.
    fn first_to_own(&self, question: &[u8], is_own: impl Fn(&Name) -> bool) -> Option<usize> {
        self.cnames().find(|index| {
            let mut bytes = [0; NAME_LEN_MAX];
            let target = self.read_name(self.rdata_at(*index), question, &mut bytes);
            target.and_then(Name::from_wire).is_some_and(|target| is_own(&target))
        })
    }

    /// The indices of the CNAMEs in the chain.
    fn cnames(&self) -> impl DoubleEndedIterator<Item = usize> {
        let chain = 0..usize::from(self.chain_record_count);
        chain.filter(|index| self.rtype(*index) == TYPE_CNAME)
    }

    /// Reads the name at this offset of the body, compressed or not, into `bytes`.
    fn read_name<'b>(
        &self,
        at: usize,
        question: &[u8],
        bytes: &'b mut [u8; NAME_LEN_MAX],
    ) -> Option<&'b [u8]> {
        let body_at = HEADER_LEN + question.len() + 4;
        let mut len = 0;
        let mut rest = self.body.get(at..)?;
        // Each pass takes a label or follows a pointer, as in `MessageName::read`.
        for _ in 0..2 * LABEL_COUNT_MAX {
            match *rest {
                [high, low, ..] if high >= 0xC0 => {
                    let place = usize::from(u16::from_be_bytes([high & 0x3F, low]));
                    rest = match place.checked_sub(body_at) {
                        Some(at) => self.body.get(at..)?,
                        None => question.get(place.checked_sub(HEADER_LEN)?..)?,
                    };
                }
                [label_len, ..] => {
                    let label = rest.split_off(..=usize::from(label_len))?;
                    bytes.get_mut(len..len + label.len())?.copy_from_slice(label);
                    len += label.len();
                    if label_len == 0 {
                        return bytes.get(..len);
                    }
                }
                [] => return None,
            }
        }
        None
    }

    /// The own name that the CNAMEs of a `Kind::OwnTarget` lead to; `None` for other kinds.
    #[must_use]
    pub fn own_target(&self) -> Option<Name> {
        let SpelledName { at, len } = self.own_target?;
        let mut name = Name::default();
        name.read(self.body.get(at..at + len)?)?;
        Some(name)
    }

    /// The first `count` records. The one at `index` is the last CNAME, and `target` is its target.
    fn cut_behind(&self, index: usize, count: usize, target: &[u8]) -> Option<Self> {
        let rdata_at = self.rdata_at(index);
        let rdata_end = self.record_end(index);
        let end = self.record_end(count - 1);
        let mut body = Vec::with_capacity(end + target.len());
        body.extend_from_slice(self.body.get(..rdata_at - 2)?);
        body.extend_from_slice(&(target.len() as u16).to_be_bytes());
        body.extend_from_slice(target);
        body.extend_from_slice(self.body.get(rdata_end..end)?);
        if HEADER_LEN + self.name_len + 4 + body.len() > MESSAGE_LEN_MAX {
            return None;
        }
        // Fields after the target move by the difference.
        let moved = |offset: u16| {
            let offset = usize::from(offset);
            let is_behind = offset >= rdata_end;
            (if is_behind { offset - rdata_end + rdata_at + target.len() } else { offset }) as u16
        };
        let is_left = |offset: &u16| {
            let offset = usize::from(*offset);
            offset < rdata_at || (rdata_end..end).contains(&offset)
        };
        let kept = |offsets: &[u16]| -> Box<[u16]> {
            offsets.iter().copied().filter(is_left).map(moved).collect()
        };
        let ttls = self.ttl_offsets.iter().take(count).filter_map(|offset| {
            let field = self.body.get(usize::from(*offset)..)?.first_chunk()?;
            Some(u32::from_be_bytes(*field))
        });
        let flags =
            if self.authoritative { AA } else { 0 } | if self.recursion_available { RA } else { 0 };
        Some(Self {
            kind: Kind::OwnTarget,
            ttl_secs_min: ttls.min(),
            signatures_end_unix_secs: self.signatures_end_unix_secs,
            name_len: self.name_len,
            counts: [count as u16, 0, 0],
            chain_record_count: count as u16,
            own_target: Some(SpelledName { at: rdata_at, len: target.len() }),
            body: body.into_boxed_slice(),
            ttl_offsets: kept(&self.ttl_offsets),
            pointer_offsets: kept(&self.pointer_offsets),
            addresses: Run::default(),
            has_opt: self.has_opt,
            ..Self::without_records(flags, Rcode::NoError as u16)
        })
    }

    fn ttl_at(&self, index: usize) -> usize {
        self.ttl_offsets.get(index).map_or(0, |offset| usize::from(*offset))
    }

    fn rtype(&self, index: usize) -> u16 {
        u16_at(&self.body, self.ttl_at(index).saturating_sub(4))
    }

    fn rdata_at(&self, index: usize) -> usize {
        self.ttl_at(index) + 6
    }

    fn record_end(&self, index: usize) -> usize {
        self.rdata_at(index) + usize::from(u16_at(&self.body, self.ttl_at(index) + 4))
    }
}
