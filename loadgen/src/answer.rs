//! Checks a packet from the server: is it a response, and does it echo the question that was sent?
//!
//! Pure: bytes in, verdict out. This is the only place that validates bytes from the server. It
//! reads the header and the question; `verify` reads the records, and only if expectations were
//! given.

/// Length of a DNS header.
pub const HEADER_LEN: usize = 12;

/// The fields of the header that the report needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    /// Valid: 0..=15.
    pub rcode: u8,
    /// TC: the response was truncated.
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

/// How the question section of a response compares with the one that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionMatch {
    /// Identical, byte for byte.
    Same,
    /// Identical except for upper and lower case, which draft-vixie-dnsext-dns0x20 relies on.
    OtherCase,
    /// No question and an error code: the usual response to an unreadable query (RFC 1035, section
    /// 4.1.1).
    LeftOut,
    Wrong,
}

/// Compares with the question section of `query`: the `question_len` bytes after the header.
pub fn match_question(packet: &[u8], query: &[u8], question_len: usize) -> QuestionMatch {
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
        QuestionMatch::Same
    } else if got.eq_ignore_ascii_case(asked) {
        // Label lengths are below 64, so they are never letters. Types can be: 0x41 and 0x61 (65
        // and 97) would compare equal, so type and class are compared again exactly.
        let tail = question_len.saturating_sub(4);
        if got[tail..] == asked[tail..] { QuestionMatch::OtherCase } else { QuestionMatch::Wrong }
    } else {
        QuestionMatch::Wrong
    }
}

fn missing(packet: &[u8]) -> QuestionMatch {
    match packet.first_chunk::<HEADER_LEN>() {
        Some(head) if head[4] == 0 && head[5] == 0 && head[3] & 0x0f != 0 => QuestionMatch::LeftOut,
        _ => QuestionMatch::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x01a\x00\x00\x01\x00\x01";
    const QUESTION_LEN: usize = QUERY.len() - HEADER_LEN;

    fn response(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut packet = QUERY.to_vec();
        packet[2] |= 0x80;
        change(&mut packet);
        packet
    }

    #[test]
    fn headers_are_parsed() {
        type HeaderRow = (&'static str, Vec<u8>, Option<(u16, u8, bool)>);
        let rows: &[HeaderRow] = &[
            ("plain", response(|_| {}), Some((0x1234, 0, false))),
            ("NXDOMAIN", response(|p| p[3] = 0x83), Some((0x1234, 3, false))),
            ("TC", response(|p| p[2] |= 2), Some((0x1234, 0, true))),
            ("a query", QUERY.to_vec(), None),
            ("cut", response(|p| p.truncate(11)), None),
            ("empty", Vec::new(), None),
        ];
        for (name, packet, expected) in rows {
            let got = header(packet).map(|h| (h.id, h.rcode, h.truncated));
            assert_eq!(got, *expected, "{name}");
        }
    }

    #[test]
    fn questions_are_compared() {
        let rows: &[(&str, Vec<u8>, QuestionMatch)] = &[
            ("same", response(|_| {}), QuestionMatch::Same),
            ("records after it", response(|p| p.extend([0xc0; 16])), QuestionMatch::Same),
            ("other case", response(|p| p[13] = b'W'), QuestionMatch::OtherCase),
            ("other name", response(|p| p[13] = b'x'), QuestionMatch::Wrong),
            ("other type", response(|p| p[20] = 28), QuestionMatch::Wrong),
            ("cut", response(|p| p.truncate(20)), QuestionMatch::Wrong),
            (
                "header only, no error",
                response(|p| {
                    p.truncate(12);
                    p[5] = 0
                }),
                QuestionMatch::Wrong,
            ),
            (
                "header only, FORMERR",
                response(|p| {
                    p.truncate(12);
                    p[5] = 0;
                    p[3] = 1
                }),
                QuestionMatch::LeftOut,
            ),
            ("two questions", response(|p| p[5] = 2), QuestionMatch::Wrong),
        ];
        for (name, packet, expected) in rows {
            assert_eq!(match_question(packet, QUERY, QUESTION_LEN), *expected, "{name}");
        }
    }

    #[test]
    fn types_are_compared_exactly() {
        let mut query = QUERY.to_vec();
        query[20] = 0x41; // HTTPS
        let mut packet = query.clone();
        packet[2] |= 0x80;
        packet[20] = 0x61;
        assert_eq!(match_question(&packet, &query, QUESTION_LEN), QuestionMatch::Wrong);
    }
}
