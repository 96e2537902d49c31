//! A question, and the query that carries it. This is the only place that builds queries.

use domain::base::{MessageBuilder, Name, Rtype};

/// Largest response accepted with EDNS: the value of DNS flag day 2020, which resolvers use.
pub const UDP_PAYLOAD_SIZE: u16 = 1232;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name<Vec<u8>>,
    pub rtype: Rtype,
}

/// What a query carries besides its question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub edns: bool,
    /// The DNSSEC OK bit. It implies EDNS.
    pub dnssec_ok: bool,
}

/// Appends the query with id 0 and the RD bit; returns the length of its question section.
pub fn write(question: &Question, options: Options, bytes: &mut Vec<u8>) -> usize {
    let start = bytes.len();
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((&question.name, question.rtype)).expect("a vector grows");
    let question_len = builder.as_slice().len() - crate::answer::HEADER_LEN;
    let mut builder = builder.additional();
    if options.edns || options.dnssec_ok {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(UDP_PAYLOAD_SIZE);
                opt.set_dnssec_ok(options.dnssec_ok);
                Ok(())
            })
            .expect("a vector grows");
    }
    bytes.extend_from_slice(builder.as_slice());
    debug_assert!(bytes.len() > start);
    question_len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_follow_the_rfcs() {
        let question = Question { name: "a.bc".parse().unwrap(), rtype: Rtype::AAAA };
        let plain = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x1c\0\x01";
        let rows: &[(Options, Vec<u8>)] = &[
            (Options::default(), plain.to_vec()),
            (
                Options { edns: true, dnssec_ok: false },
                with_opt(plain, b"\0\0\x29\x04\xd0\0\0\0\0\0\0"),
            ),
            (
                Options { edns: true, dnssec_ok: true },
                with_opt(plain, b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"),
            ),
        ];
        for (options, expected) in rows {
            let mut bytes = Vec::new();
            assert_eq!(write(&question, *options, &mut bytes), plain.len() - 12);
            assert_eq!(bytes, *expected, "{options:?}");
        }
    }

    fn with_opt(plain: &[u8], opt: &[u8]) -> Vec<u8> {
        let mut bytes = [plain, opt].concat();
        bytes[11] = 1;
        bytes
    }
}
