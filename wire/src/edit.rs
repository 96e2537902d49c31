//! Changes to a finished response, in place: a shorter limit, fewer sections, other flags, another
//! UDP payload size, one more EDNS option.
//!
//! The caller has the bytes of the message and nothing else. Invariant: whatever the bytes,
//! nothing here allocates or panics, and what is left is a prefix of the message's records and its
//! OPT.

use crate::cut::Cut;
use crate::header::{AA, HEADER_LEN, Rcode, TC, TYPE_CNAME, TYPE_NS, TYPE_OPT, TYPE_SOA, u16_at};
use crate::record::{Counts, MessageSection, RecordHead, Records, owner_len};

/// Drops whole records from the end of `message` until it fits `len_max` bytes; returns its new
/// length.
///
/// The result is what stamping with that limit gives: the OPT stays, after the last record that is
/// left, and TC is set if a record was dropped that the client needs (`cut`). The header, the
/// question and the OPT stay even where they are longer than `len_max`. Of a message without a
/// whole question only the header stays.
#[must_use]
pub fn cut_to(message: &mut [u8], len_max: usize) -> usize {
    if message.len() <= len_max {
        return message.len();
    }
    let Some(records) = records(message) else { return keep_header(message) };
    let opt = opt_in(records.clone());
    let is_authority = u16_at(message, 2) & AA != 0;
    let cut = cut(message, records, is_authority, opt.as_ref(), len_max);
    let (counts, end, is_truncated) = (cut.counts, cut.end, cut.is_truncated);
    let len = keep(counts, end, opt, message);
    if is_truncated {
        set_truncated(message);
    }
    len
}

/// Drops all records of a successful response but those of its answer section and its OPT; returns
/// its new length. A response whose authority section says that there is no answer, or where it is,
/// stays as it is: one with an SOA or an NS and without an answer.
#[must_use]
pub fn keep_answers(message: &mut [u8]) -> usize {
    let is_success = u16_at(message, 2) & 0xF == Rcode::NoError as u16;
    let Some(records) = records(message).filter(|_| is_success) else { return message.len() };
    let opt = opt_in(records.clone());
    let answer_count = u16_at(message, 6);
    let (mut counts, mut end) = (Counts::default(), records.at());
    for (section, head) in records {
        match section {
            MessageSection::Answer => {
                counts += Counts::one(section);
                end = head.end();
            }
            MessageSection::Authority
                if answer_count == 0 && matches!(head.rtype, TYPE_SOA | TYPE_NS) =>
            {
                return message.len();
            }
            MessageSection::Authority | MessageSection::Additional => {}
        }
    }
    keep(counts, end, opt, message)
}

/// Drops everything after the kept records, except the OPT; returns the new length. `counts`:
/// without the OPT.
fn keep(mut counts: Counts, end: usize, opt: Option<RecordHead>, message: &mut [u8]) -> usize {
    let mut len = end;
    if let Some(RecordHead { owner_at, rdata, .. }) = opt {
        counts += Counts::one(MessageSection::Additional);
        if owner_at >= end {
            let opt_len = rdata.end - owner_at;
            message.copy_within(owner_at..rdata.end, end);
            len += opt_len;
        }
    }
    set_counts(message, counts.by_section());
    len
}

/// Sets and clears bits of the header's second word.
pub fn change_flags(message: &mut [u8], set: u16, clear: u16) {
    let flags = u16_at(message, 2) & !clear | set;
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&flags.to_be_bytes());
    }
}

/// Sets the UDP payload size that the OPT of `message` announces (RFC 6891, section 6.2.3). A
/// message without an OPT stays as it is.
pub fn set_udp_len(message: &mut [u8], udp_len: u16) {
    let Some(opt) = records(message).and_then(opt_in) else { return };
    // Behind the owner, which is one byte, and the type.
    let class = opt.owner_at + 3..opt.owner_at + 5;
    if let Some(field) = message.get_mut(class) {
        field.copy_from_slice(&udp_len.to_be_bytes());
    }
}

/// The server's identifier (RFC 5001).
pub const OPTION_NSID: u16 = 3;
/// Why a response is as it is (RFC 8914): an info code of 16 bits, then text in UTF-8.
pub const OPTION_EDE: u16 = 15;

/// An option of an OPT (RFC 6891, section 6.1.2).
#[derive(Clone, Copy, Debug)]
pub struct EdnsOption<'o> {
    pub code: u16,
    pub data: &'o [u8],
}

/// The options of a message's OPT. Ends before the first that is not whole.
pub fn options(message: &[u8]) -> impl Iterator<Item = EdnsOption<'_>> {
    options_in(option_data(message))
}

/// The data of a message's OPT; empty if there is none.
#[must_use]
pub fn option_data(message: &[u8]) -> &[u8] {
    let opt = records(message).and_then(opt_in);
    opt.and_then(|opt| message.get(opt.rdata)).unwrap_or_default()
}

/// The options in the data of an OPT. Ends before the first that is not whole.
pub fn options_in(mut data: &[u8]) -> impl Iterator<Item = EdnsOption<'_>> {
    core::iter::from_fn(move || {
        let (head, behind) = data.split_first_chunk::<4>()?;
        let (option, behind) = behind.split_at_checked(usize::from(u16_at(head, 2)))?;
        data = behind;
        Some(EdnsOption { code: u16_at(head, 0), data: option })
    })
}

/// Appends an option to the OPT of the response in the first `len` bytes of `message`, and returns
/// the new length, which is at most `len_max`.
///
/// Whole records are dropped to make room, as `cut_to` drops them. The response stays as it is if
/// it has no OPT, if its OPT is not its last record, or if the option does not fit beside the
/// question. `message` has room after the response.
#[must_use]
pub fn add_option(message: &mut [u8], len: usize, option: EdnsOption<'_>, len_max: usize) -> usize {
    let len_max = len_max.min(message.len());
    let Some(response) = message.get_mut(..len) else { return len };
    let Some(records) = records(response) else { return len };
    let fixed_len = records.at();
    let Some(opt) = opt_in(records).filter(|opt| opt.end() == len) else { return len };
    let option_len = 4 + option.data.len();
    let opt_len = opt.end() - opt.owner_at;
    if fixed_len + opt_len + option_len > len_max {
        return len;
    }
    let Ok(rdata_len) = u16::try_from(opt.rdata.len() + option_len) else { return len };
    let end = cut_to(response, len_max - option_len);
    let rdata_at = end - opt.rdata.len();
    let Some(room) = message.get_mut(rdata_at - 2..end + option_len) else { return len };
    let (opt_tail, written) = room.split_at_mut(end + 2 - rdata_at);
    opt_tail[..2].copy_from_slice(&rdata_len.to_be_bytes());
    written[..2].copy_from_slice(&option.code.to_be_bytes());
    written[2..4].copy_from_slice(&((option_len - 4) as u16).to_be_bytes());
    written[4..].copy_from_slice(option.data);
    end + option_len
}

/// Whether the message has a CNAME in any section.
#[must_use]
pub fn has_cname(message: &[u8]) -> bool {
    records(message).is_some_and(|mut records| records.any(|(_, head)| head.rtype == TYPE_CNAME))
}

/// Seconds for which a response may be kept (RFC 8484, section 5.1): its smallest TTL, and for an
/// SOA the MINIMUM, too (RFC 2308, section 5). 0 without records.
#[must_use]
pub fn freshness_secs(message: &[u8]) -> u32 {
    let of_record = |(section, head): (MessageSection, RecordHead)| {
        let is_denial = section == MessageSection::Authority && head.rtype == TYPE_SOA;
        let minimum = message.get(head.rdata).and_then(|rdata| rdata.last_chunk::<4>());
        match minimum {
            Some(minimum) if is_denial => head.ttl_secs.min(u32::from_be_bytes(*minimum)),
            Some(_) | None => head.ttl_secs,
        }
    };
    let records = records(message).into_iter().flatten();
    records.filter(|(_, head)| head.rtype != TYPE_OPT).map(of_record).min().unwrap_or(0)
}

/// The response code of a message: the header's four bits, and above them the eight bits of the OPT
/// (RFC 6891, section 6.1.3).
#[must_use]
pub fn rcode(message: &[u8]) -> u16 {
    let lower = u16_at(message, 2) & 0xF;
    let upper = records(message).and_then(opt_in).map_or(0, |opt| opt.ttl_secs >> 24);
    (upper as u16) << 4 | lower
}

/// Sets the response code. False, and nothing changed, for a code of more than four bits in a
/// message without an OPT, which has the upper ones.
pub fn set_rcode(message: &mut [u8], rcode: u16) -> bool {
    let opt = records(message).and_then(opt_in);
    // Behind the owner, which is one byte, the type and the class.
    let upper = opt.and_then(|opt| message.get_mut(opt.owner_at + 5));
    match upper {
        Some(upper) => *upper = (rcode >> 4) as u8,
        None if rcode > 0xF => return false,
        None => {}
    }
    if let Some(lower) = message.get_mut(3) {
        *lower = *lower & 0xF0 | (rcode & 0xF) as u8;
    }
    true
}

/// The records of a message; `None` if its questions are not whole.
pub(crate) fn records(message: &[u8]) -> Option<Records<'_>> {
    let header = message.first_chunk::<HEADER_LEN>()?;
    let mut at = HEADER_LEN;
    for _ in 0..u16_at(header, 4) {
        at += owner_len(message.get(at..)?)? + 4;
    }
    message.get(..at)?;
    Some(Records::new(message, at, [6, 8, 10].map(|at| u16_at(header, at))))
}

/// The OPT: the additional section's first one that the root owns.
pub(crate) fn opt_in(mut records: Records<'_>) -> Option<RecordHead> {
    let is_opt = |(section, head): &(MessageSection, RecordHead)| {
        *section == MessageSection::Additional && head.rtype == TYPE_OPT && head.is_of_root()
    };
    records.find(is_opt).map(|(_, opt)| opt)
}

/// The records that fit, the OPT left out.
fn cut<'m>(
    message: &'m [u8],
    mut records: Records<'m>,
    is_authority: bool,
    opt: Option<&RecordHead>,
    len_max: usize,
) -> Cut<'m> {
    let opt = opt.map_or(0..0, |opt| opt.owner_at..opt.end());
    let mut cut = Cut::new(records.at(), is_authority, false);
    for (section, head) in records.by_ref() {
        if head.owner_at == opt.start {
            continue;
        }
        let opt_len_behind = if head.owner_at < opt.start { opt.len() } else { 0 };
        let end = Some(head.end()).filter(|end| end + opt_len_behind <= len_max);
        let owner = message.get(head.owner_at..).unwrap_or_default();
        let owner = owner.get(..head.owner_len()).unwrap_or_default();
        cut.keeps(section, owner, head.rtype, end);
    }
    // What is not whole is missing.
    cut.is_truncated |= records.count_left() > 0;
    cut
}

/// Keeps the header alone, with TC set.
fn keep_header(message: &mut [u8]) -> usize {
    if let Some(counts) = message.get_mut(4..HEADER_LEN) {
        counts.fill(0);
        set_truncated(message);
    }
    message.len().min(HEADER_LEN)
}

/// Sets the counts of records.
pub(crate) fn set_counts(message: &mut [u8], counts: [u16; 3]) {
    for (index, count) in counts.into_iter().enumerate() {
        let at = 6 + 2 * index;
        if let Some(field) = message.get_mut(at..at + 2) {
            field.copy_from_slice(&count.to_be_bytes());
        }
    }
}

pub(crate) fn set_truncated(message: &mut [u8]) {
    change_flags(message, TC, 0);
}
