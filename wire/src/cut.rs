//! Where a response that is too long ends, and whether that sets TC.
//!
//! TC says that a record is missing that the client needs. Extra information is left out, by whole
//! RRsets, and TC stays clear (RFC 2181, section 9). `reply`, `response` and `edit` all cut by this
//! rule. Invariant: what is left is a prefix of the records, so no compression pointer breaks.

use crate::header::{TYPE_CNAME, TYPE_NS, TYPE_RRSIG, TYPE_SRV};
use crate::record::{Counts, MessageSection};

/// The records that are left, while they are read in their order.
pub(crate) struct Cut<'m> {
    pub(crate) counts: Counts,
    /// Where the last of them ends.
    pub(crate) end: usize,
    /// A record is missing that the client needs: TC.
    pub(crate) is_truncated: bool,
    /// A record did not fit, so that no other is kept.
    is_over: bool,
    set: Option<Rrset<'m>>,
    /// `counts` and `end` without the RRset that is being read.
    before_set: (Counts, usize),
    /// The type of the answer section's last RRset; `None` without an answer.
    answer_type: Option<u16>,
    is_referral: bool,
    is_authority: bool,
}

/// The section, owner and type of an RRset.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rrset<'m> {
    section: MessageSection,
    owner: &'m [u8],
    rtype: u16,
}

impl<'m> Cut<'m> {
    /// `at`: where the first record begins. `is_authority`: AA. `has_cnames`: CNAMEs come before
    /// these records, in the answer section.
    pub(crate) fn new(at: usize, is_authority: bool, has_cnames: bool) -> Self {
        let counts = Counts::default();
        Self {
            counts,
            end: at,
            is_truncated: false,
            is_over: false,
            set: None,
            before_set: (counts, at),
            answer_type: has_cnames.then_some(TYPE_CNAME),
            is_referral: false,
            is_authority,
        }
    }

    /// Whether the next record is kept. `end`: where it ends; `None` if it does not fit. `owner`:
    /// as it is spelled.
    pub(crate) fn keeps(
        &mut self,
        section: MessageSection,
        owner: &'m [u8],
        rtype: u16,
        end: Option<usize>,
    ) -> bool {
        self.note_set(Rrset { section, owner, rtype });
        if let Some(end) = end.filter(|_| !self.is_over) {
            self.counts += Counts::one(section);
            self.end = end;
            return true;
        }
        if self.is_needed() {
            self.is_truncated = true;
        } else if !self.is_over {
            (self.counts, self.end) = self.before_set;
        }
        self.is_over = true;
        false
    }

    /// Keeps what fits of a proof, which the client needs.
    pub(crate) fn keep_proof(&mut self, counts: Counts, end: usize, is_truncated: bool) {
        self.counts += counts;
        self.end = end;
        self.is_over |= is_truncated;
        self.is_truncated |= is_truncated;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Notes the RRset of the next record. Signatures belong to the RRset before them, which must
    /// not come without (RFC 4035, section 3.1.1).
    fn note_set(&mut self, next: Rrset<'m>) {
        if let Some(set) = self.set
            && set.section == next.section
            && (next.rtype == TYPE_RRSIG || next == set)
        {
            return;
        }
        match next.section {
            MessageSection::Answer => self.answer_type = Some(next.rtype),
            MessageSection::Authority => {
                self.is_referral |= self.answer_type.is_none() && next.rtype == TYPE_NS;
            }
            MessageSection::Additional => {}
        }
        self.set = Some(next);
        self.before_set = (self.counts, self.end);
    }

    /// Whether the client needs the RRset that is being read.
    fn is_needed(&self) -> bool {
        let Some(set) = self.set else { return true };
        match set.section {
            MessageSection::Answer => true,
            // Beside an answer, the zone's name servers are extra. Proofs are not (RFC 4035,
            // section 3.1.3), nor is what says that there is no answer (RFC 2308, section 2).
            MessageSection::Authority => self.answer_type.is_none() || set.rtype != TYPE_NS,
            // Glue (RFC 9471, section 3); and as in CoreDNS, the addresses of a service that this
            // server is the authority for, so that its clients need no second query.
            MessageSection::Additional => {
                self.is_referral || self.is_authority && self.answer_type == Some(TYPE_SRV)
            }
        }
    }
}
