//! The messages in what a connection has sent, each behind its length (RFC 1035, section 4.2.2).
//! Several are inspected before the first is answered, as `shard` does with datagrams.
//!
//! Invariant: a message is whole and has a header.

use wire::header::HEADER_LEN;

use crate::answer::glance::Glance;
use crate::client::{LENGTH_LEN, ListenerId};
use crate::io::prefetch::prefetch;
use crate::limits::LOOK_AHEAD;
use crate::responder::{FirstLook, Responder};

/// Why there is no further message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputEnd {
    Empty,
    MessageCut,
    /// A message too short for a header: the bytes after it cannot be trusted.
    NotDns,
}

/// Messages and what was found out about them.
pub(super) type Places<'i> = [(&'i [u8], FirstLook); LOOK_AHEAD];

/// Of no message yet.
pub(super) const EMPTY_PLACES: Places<'static> = [(&[], Err(Glance::Unread)); LOOK_AHEAD];

/// The result of looking ahead.
pub(super) struct Ahead {
    /// The first places that hold a message; the others may hold an earlier one.
    pub(super) count: usize,
    /// Why there are no more, if there are not.
    pub(super) end: Option<InputEnd>,
}

/// Splits the first message off, behind which `input` then begins.
fn take_message<'i>(input: &mut &'i [u8]) -> Result<&'i [u8], InputEnd> {
    let Some((length, behind)) = input.split_first_chunk::<LENGTH_LEN>() else {
        return Err(if input.is_empty() { InputEnd::Empty } else { InputEnd::MessageCut });
    };
    let message_len = usize::from(u16::from_be_bytes(*length));
    if message_len < HEADER_LEN {
        return Err(InputEnd::NotDns);
    }
    let (message, behind) = behind.split_at_checked(message_len).ok_or(InputEnd::MessageCut)?;
    *input = behind;
    Ok(message)
}

/// Inspects the first messages of `input`, and prefetches the table memory that their answers need.
/// Each pass works on all of them, so that their fetches overlap.
#[inline(always)]
pub(super) fn look_ahead<'i>(
    responder: &mut Responder,
    listener: ListenerId,
    mut input: &'i [u8],
    places: &mut Places<'i>,
) -> Ahead {
    let mut ahead = Ahead { count: 0, end: None };
    for (place, taken) in places.iter_mut().enumerate() {
        match take_message(&mut input) {
            Ok(message) => *taken = (message, responder.look(place, listener, message)),
            Err(why) => {
                ahead.end = Some(why);
                break;
            }
        }
        ahead.count += 1;
    }
    // With a single message there is no other work to overlap the fetches with.
    if ahead.count > 1 {
        let looked = places[..ahead.count].iter().filter_map(|(_, looked)| looked.as_ref().ok());
        // Of its own: the processor reads the spine for many slots at once, but not beyond `look`.
        for looked in looked.clone() {
            prefetch::<1>(responder.slot_line(looked));
        }
        for looked in looked {
            // The name and the rows fill two lines; the records follow.
            prefetch::<3>(responder.entry_line(looked));
        }
    }
    ahead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole() {
        let message = |len: usize, fill: u8| [vec![0, len as u8], vec![fill; len]].concat();
        let (one, two) = (message(12, 1), message(40, 2));
        // The input; the lengths of its messages; why there are no more.
        let rows: [(&[u8], &[usize], InputEnd); 7] = [
            (&[], &[], InputEnd::Empty),
            (&[0], &[], InputEnd::MessageCut),
            (&one, &[12], InputEnd::Empty),
            (&[one.clone(), two.clone()].concat(), &[12, 40], InputEnd::Empty),
            (&[&one, &two[..41]].concat(), &[12], InputEnd::MessageCut),
            (&[&one, &[0, 11][..], &two].concat(), &[12], InputEnd::NotDns),
            (&[0, 0], &[], InputEnd::NotDns),
        ];
        for (input, expected, end) in rows {
            let (mut rest, mut len) = (input, Vec::new());
            let got = loop {
                match take_message(&mut rest) {
                    Ok(message) => len.push(message.len()),
                    Err(end) => break end,
                }
            };
            assert_eq!((len.as_slice(), got), (expected, end), "{input:?}");
        }
    }
}
