//! Names of a message, compressed or not, and the copy of the message that they are written into.
//!
//! Invariant: names are compressed as they were in the source. If the source points at a label and
//! the copy has that label, the copy points at it. Besides, an owner that ends like the question's
//! name points there.

use alloc::vec;
use alloc::vec::Vec;

use crate::header::HEADER_LEN;
use crate::name::NAME_LEN_MAX;

/// Most labels of a name, without the root label: each takes at least two bytes.
const LABEL_COUNT_MAX: usize = NAME_LEN_MAX / 2;

/// The last offset that is pointed at. A pointer has 14 bits (RFC 1035, section 4.1.4); some
/// offsets are left for CNAMEs that a client's response may have in front.
const POINTER_MAX: usize = 0x3FFF - super::ALIAS_LEN_MAX;

/// A name, decompressed.
#[derive(Clone)]
pub(crate) struct MessageName {
    bytes: [u8; NAME_LEN_MAX],
    /// Valid: 1..=255.
    len: usize,
    labels: [Label; LABEL_COUNT_MAX],
    label_count: usize,
}

/// The offsets of a label's length byte.
#[derive(Clone, Copy, Default)]
struct Label {
    in_name: u8,
    in_message: u16,
}

impl MessageName {
    /// Reads the name at `at`; also returns the offset after it. `None` for a name that is
    /// incomplete, is longer than 255 bytes, has a label of an unknown type, or has a pointer that
    /// does not point back (RFC 1035, section 4.1.4: to a prior occurrence).
    pub(crate) fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let labels = [Label::default(); LABEL_COUNT_MAX];
        let mut name = Self { bytes: [0; NAME_LEN_MAX], len: 0, labels, label_count: 0 };
        let (mut at, mut segment_at, mut end) = (at, at, None);
        // Each pass takes a label or follows a pointer. No name needs more pointers than labels.
        for _ in 0..2 * LABEL_COUNT_MAX {
            match *message.get(at)? {
                0 => {
                    // The byte of the root label is zero already.
                    name.len += 1;
                    return Some((name, end.unwrap_or(at + 1)));
                }
                label_len @ 1..=63 => {
                    let label = message.get(at..=at + usize::from(label_len))?;
                    let len = name.len + label.len();
                    if len >= NAME_LEN_MAX {
                        return None;
                    }
                    name.bytes.get_mut(name.len..len)?.copy_from_slice(label);
                    let place = Label { in_name: name.len as u8, in_message: at as u16 };
                    *name.labels.get_mut(name.label_count)? = place;
                    name.label_count += 1;
                    name.len = len;
                    at += label.len();
                }
                high @ 0xC0.. => {
                    let low = *message.get(at + 1)?;
                    end = end.or(Some(at + 2));
                    at = usize::from(u16::from_be_bytes([high & 0x3F, low]));
                    if at < HEADER_LEN || at >= segment_at {
                        return None;
                    }
                    segment_at = at;
                }
                64..=0xBF => return None,
            }
        }
        None
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(super) fn is_root(&self) -> bool {
        self.label_count == 0
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.bytes().eq_ignore_ascii_case(other.bytes())
    }

    /// Whether it is `zone` or below it.
    pub(super) fn is_in(&self, zone: &Self) -> bool {
        self.labels_shared_with(zone) == zone.label_count
    }

    /// The number of labels at the end that are equal.
    fn labels_shared_with(&self, other: &Self) -> usize {
        let pairs = self.labels().rev().zip(other.labels().rev());
        pairs.take_while(|((_, one), (_, other))| one.eq_ignore_ascii_case(other)).count()
    }

    fn labels(&self) -> impl DoubleEndedIterator<Item = (Label, &[u8])> {
        self.labels.iter().take(self.label_count).map(|label| {
            let at = usize::from(label.in_name);
            let len = self.bytes.get(at).map_or(0, |len| usize::from(*len));
            (*label, self.bytes.get(at..=at + len).unwrap_or_default())
        })
    }
}

/// Which ends of a name become pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Those that are pointers in the source, and those that the name shares with the question's.
    WithQuestion,
    /// Those that are pointers in the source. Some clients do not follow pointers in record data,
    /// and work with upstreams that send none.
    AsSource,
    /// None.
    Off,
}

/// The copy's body: what follows the question.
pub(super) struct Writer {
    question: MessageName,
    /// Offset of the body in the message.
    body_at: usize,
    pub(super) body: Vec<u8>,
    pub(super) pointer_offsets: Vec<u16>,
    /// By a label's offset in the source: its offset in the copy, or 0 if the copy does not have
    /// it.
    places: Vec<u16>,
}

impl Writer {
    /// `question`: at offset 12 of the source and of the copy.
    pub(super) fn new(question: MessageName, source_len: usize) -> Self {
        let mut places = vec![0; source_len.min(POINTER_MAX + 1)];
        for (label, _) in question.labels() {
            if let Some(place) = places.get_mut(usize::from(label.in_message)) {
                *place = label.in_message;
            }
        }
        Self {
            body_at: HEADER_LEN + question.len + 4,
            question,
            body: Vec::with_capacity(source_len),
            pointer_offsets: Vec::new(),
            places,
        }
    }

    pub(super) fn question_name_len(&self) -> usize {
        self.question.len
    }

    /// Length of the message so far.
    pub(super) fn message_len(&self) -> usize {
        self.body_at + self.body.len()
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    pub(super) fn put_pointer(&mut self, place: u16) {
        self.pointer_offsets.push(self.body.len() as u16);
        self.put(&(0xC000 | place).to_be_bytes());
    }

    /// Writes a name. Returns an offset at which the copy has the whole name, if a pointer reaches
    /// it.
    pub(super) fn put_name(&mut self, name: &MessageName, compression: Compression) -> Option<u16> {
        let shared_count = match compression {
            Compression::WithQuestion => name.labels_shared_with(&self.question),
            Compression::AsSource | Compression::Off => 0,
        };
        let mut whole = None;
        for (index, (label, bytes)) in name.labels().enumerate() {
            let labels_left = name.label_count - index;
            let at = self.message_len();
            let place = if labels_left <= shared_count {
                let counterpart = self.question.label_count - labels_left;
                self.question.labels.get(counterpart).map(|label| label.in_message)
            } else {
                self.place(label, at)
            };
            if index == 0 {
                whole = place;
            }
            match place {
                Some(place) if compression != Compression::Off && usize::from(place) != at => {
                    self.put_pointer(place);
                    return whole;
                }
                Some(_) | None => self.put(bytes),
            }
        }
        self.put(&[0]);
        whole
    }

    /// The offset of a label in the copy: the first one, which is `at` if the copy does not have
    /// the label yet.
    fn place(&mut self, label: Label, at: usize) -> Option<u16> {
        let place = self.places.get_mut(usize::from(label.in_message))?;
        if *place == 0 && at <= POINTER_MAX {
            *place = at as u16;
        }
        (*place != 0).then_some(*place)
    }
}
