//! What came back: is it an answer at all, and to the question that was asked? Pure, bytes in and a verdict out.
//!
//! This is the one place where bytes from the server are doubted. Only the header and the question are read here; the
//! records are read by `verify`, and only when expectations were given.

/// A DNS header's length.
pub const HEADER_LEN: usize = 12;

/// What the first twelve bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    /// Valid: 0..=15.
    pub rcode: u8,
    /// TC: the answer was cut to fit.
    pub truncated: bool,
}

/// `None`: shorter than a header, or not a response.
pub fn header(packet: &[u8]) -> Option<Header> {
    let head = packet.first_chunk::<HEADER_LEN>()?;
    let is_response = head[2] & 0x80 != 0;
    is_response.then_some(Header {
        id: u16::from_be_bytes([head[0], head[1]]),
        rcode: head[3] & 0x0f,
        truncated: head[2] & 0x02 != 0,
    })
}

/// How the question of an answer compares with the one that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Byte for byte.
    Same,
    /// But for upper and lower case, which draft-vixie-dnsext-dns0x20 relies on.
    OtherCase,
    /// No question and an error code: how servers answer what they could not read (RFC 1035, section 4.1.1).
    LeftOut,
    Wrong,
}

/// Compares with the question section of `query`, `question_len` bytes after the header.
pub fn question(packet: &[u8], query: &[u8], question_len: usize) -> Question {
    let asked = &query[HEADER_LEN..HEADER_LEN + question_len];
    let (Some(head), Some(got)) =
        (packet.first_chunk::<HEADER_LEN>(), packet.get(HEADER_LEN..HEADER_LEN + question_len))
    else {
        return missing(packet);
    };
    if u16::from_be_bytes([head[4], head[5]]) != 1 {
        return missing(packet);
    }
    if got == asked {
        Question::Same
    } else if got.eq_ignore_ascii_case(asked) {
        // Label lengths are below 64 and so never letters; type and class are compared as they are by their first byte 0
        // only: 0x41 and 0x61 as types (NXNAME-range 65 and 97) would compare equal, so they are looked at once more.
        let tail = question_len.saturating_sub(4);
        if got[tail..] == asked[tail..] { Question::OtherCase } else { Question::Wrong }
    } else {
        Question::Wrong
    }
}

fn missing(packet: &[u8]) -> Question {
    match packet.first_chunk::<HEADER_LEN>() {
        Some(head) if head[4] == 0 && head[5] == 0 && head[3] & 0x0f != 0 => Question::LeftOut,
        _ => Question::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x01a\x00\x00\x01\x00\x01";
    const QUESTION_LEN: usize = QUERY.len() - HEADER_LEN;

    fn answer(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut packet = QUERY.to_vec();
        packet[2] |= 0x80;
        change(&mut packet);
        packet
    }

    #[test]
    fn headers() {
        type Row = (&'static str, Vec<u8>, Option<(u16, u8, bool)>);
        let rows: &[Row] = &[
            ("plain", answer(|_| {}), Some((0x1234, 0, false))),
            ("NXDOMAIN", answer(|p| p[3] = 0x83), Some((0x1234, 3, false))),
            ("TC", answer(|p| p[2] |= 2), Some((0x1234, 0, true))),
            ("a query", QUERY.to_vec(), None),
            ("cut", answer(|p| p.truncate(11)), None),
            ("empty", Vec::new(), None),
        ];
        for (name, packet, expected) in rows {
            let got = header(packet).map(|h| (h.id, h.rcode, h.truncated));
            assert_eq!(got, *expected, "{name}");
        }
    }

    #[test]
    fn questions() {
        let rows: &[(&str, Vec<u8>, Question)] = &[
            ("same", answer(|_| {}), Question::Same),
            ("records after it", answer(|p| p.extend([0xc0; 16])), Question::Same),
            ("other case", answer(|p| p[13] = b'W'), Question::OtherCase),
            ("other name", answer(|p| p[13] = b'x'), Question::Wrong),
            ("other type", answer(|p| p[20] = 28), Question::Wrong),
            ("cut", answer(|p| p.truncate(20)), Question::Wrong),
            (
                "header only, no error",
                answer(|p| {
                    p.truncate(12);
                    p[5] = 0
                }),
                Question::Wrong,
            ),
            (
                "header only, FORMERR",
                answer(|p| {
                    p.truncate(12);
                    p[5] = 0;
                    p[3] = 1
                }),
                Question::LeftOut,
            ),
            ("two questions", answer(|p| p[5] = 2), Question::Wrong),
        ];
        for (name, packet, expected) in rows {
            assert_eq!(question(packet, QUERY, QUESTION_LEN), *expected, "{name}");
        }
    }

    #[test]
    fn types_are_not_letters() {
        let mut query = QUERY.to_vec();
        query[20] = 0x41; // HTTPS
        let mut packet = query.clone();
        packet[2] |= 0x80;
        packet[20] = 0x61;
        assert_eq!(question(&packet, &query, QUESTION_LEN), Question::Wrong);
    }
}
