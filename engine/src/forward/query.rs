//! The query to an upstream, built anew for each try.
//!
//! Invariant: id and letter case come from an unpredictable generator (RFC 5452, section 9.2), and
//! only the question, its flags and the options that `rewrite` sets are not ours.

use rand::{Rng as _, RngExt as _};
use wire::header::{AD, CD, HEADER_LEN, RD, TYPE_OPT};
use wire::response::Asked;

use super::UpstreamQuestion;
use crate::client::LENGTH_LEN;
use crate::limits::UPSTREAM_UDP_LEN;

/// DO, in the lower half of OPT's TTL (RFC 6891, section 6.1.4).
const DNSSEC_OK: u16 = 0x8000;

/// A query ready to send.
#[derive(Debug)]
pub(super) struct Query {
    /// The message, after its two-byte length.
    stream: Vec<u8>,
    name_len: usize,
    qtype: u16,
    qclass: u16,
    case_must_match: bool,
}

/// The choices of a query that differ from try to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueryForm {
    /// Draw the case of each letter (0x20).
    pub(super) randomize_case: bool,
    /// Add an OPT (RFC 6891).
    pub(super) has_edns: bool,
}

impl Query {
    pub(super) fn new(upstream_question: &UpstreamQuestion, form: QueryForm) -> Self {
        let UpstreamQuestion { question, recursion_desired, options, .. } = upstream_question;
        // AD asks for a meaningful AD in the response (RFC 6840, section 5.7): a cache needs it,
        // and clears it for clients that did not ask. To servers older than EDNS the bit must be 0
        // (RFC 1035, section 4.1.1).
        let mut flags = if form.has_edns { AD } else { 0 };
        if *recursion_desired {
            flags |= RD;
        }
        if question.checking_disabled {
            flags |= CD;
        }
        let mut stream = Vec::with_capacity(LENGTH_LEN + HEADER_LEN + question.name.len() + 4 + 11);
        put(&mut stream, &[0, 0, flags, 1, 0, 0, u16::from(form.has_edns)]);
        stream.extend_from_slice(&question.name);
        put(&mut stream, &[question.qtype, question.qclass]);
        if form.has_edns {
            let dnssec_ok = if question.dnssec_ok { DNSSEC_OK } else { 0 };
            stream.push(0);
            let options = options.as_deref().unwrap_or_default();
            let options_len = options.len() as u16;
            put(&mut stream, &[TYPE_OPT, UPSTREAM_UDP_LEN, 0, dnssec_ok, options_len]);
            stream.extend_from_slice(options);
        }
        let message_len = (stream.len() - LENGTH_LEN) as u16;
        stream[..LENGTH_LEN].copy_from_slice(&message_len.to_be_bytes());
        let mut query = Self {
            stream,
            name_len: question.name.len(),
            qtype: question.qtype,
            qclass: question.qclass,
            case_must_match: form.randomize_case,
        };
        query.draw_id();
        if form.randomize_case {
            query.draw_case();
        }
        query
    }

    /// Replaces the id by a new random one.
    pub(super) fn draw_id(&mut self) {
        let id: u16 = rand::rng().random();
        self.stream[LENGTH_LEN..][..2].copy_from_slice(&id.to_be_bytes());
    }

    fn draw_case(&mut self) {
        let mut coins = [0_u8; wire::name::NAME_LEN_MAX];
        rand::rng().fill_bytes(&mut coins);
        let name = &mut self.stream[LENGTH_LEN + HEADER_LEN..][..self.name_len];
        // Length bytes are below 64: no letters.
        for (byte, coin) in name.iter_mut().zip(coins) {
            if byte.is_ascii_alphabetic() && coin & 1 == 1 {
                *byte ^= 0x20;
            }
        }
    }

    pub(super) fn id(&self) -> u16 {
        u16::from_be_bytes([self.stream[LENGTH_LEN], self.stream[LENGTH_LEN + 1]])
    }

    /// The message for UDP.
    pub(super) fn message(&self) -> &[u8] {
        &self.stream[LENGTH_LEN..]
    }

    /// The message with its length, for TCP and TLS.
    pub(super) fn stream(&self) -> &[u8] {
        &self.stream
    }

    /// What a response must match.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            id: self.id(),
            name: &self.message()[HEADER_LEN..][..self.name_len],
            qtype: self.qtype,
            qclass: self.qclass,
            case_must_match: self.case_must_match,
        }
    }
}

fn put(stream: &mut Vec<u8>, words: &[u16]) {
    words.iter().for_each(|word| stream.extend(word.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use domain::base::{Message, Name, ToName as _};

    use super::*;
    use crate::client::Transport;
    use crate::question::OwnedQuestion;

    const EDNS: QueryForm = QueryForm { randomize_case: false, has_edns: true };

    fn question(name: &str) -> UpstreamQuestion {
        UpstreamQuestion {
            question: Arc::new(owned(name)),
            recursion_desired: false,
            transport: Transport::Udp,
            options: None,
        }
    }

    fn owned(name: &str) -> OwnedQuestion {
        OwnedQuestion::new(name.parse::<Name<Vec<u8>>>().unwrap().as_slice(), 28)
    }

    fn check(upstream_question: &UpstreamQuestion, form: QueryForm) {
        let UpstreamQuestion { question, recursion_desired, .. } = upstream_question;
        let query = Query::new(upstream_question, form);
        let (length, message) = query.stream().split_at(2);
        assert_eq!((query.message(), length), (message, &(message.len() as u16).to_be_bytes()[..]));
        let message = Message::from_octets(message).unwrap();
        let header = message.header();
        assert_eq!(header.rd(), *recursion_desired);
        assert_eq!(header.cd(), question.checking_disabled);
        assert_eq!(header.ad(), form.has_edns);
        assert!(!header.qr() && !header.tc() && !header.aa());
        let asked = message.sole_question().unwrap();
        let name: Name<Vec<u8>> = asked.qname().to_name();
        assert!(name.as_slice().eq_ignore_ascii_case(&question.name));
        assert_eq!(asked.qtype().to_int(), question.qtype);
        assert_eq!(asked.qclass().to_int(), question.qclass);
        let opt = message.opt();
        assert_eq!(opt.is_some(), form.has_edns);
        if let Some(opt) = opt {
            assert_eq!((opt.udp_payload_size(), opt.dnssec_ok()), (1232, question.dnssec_ok));
            assert_eq!((opt.version(), opt.opt().len()), (0, 0));
        }
        assert_eq!(query.asked().id, header.id());
        assert_eq!(query.asked().name, name.as_slice());
        assert_eq!(query.asked().case_must_match, form.randomize_case);
    }

    #[test]
    fn flags_and_question_are_the_clients() {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        for name in ["www.example.org", ".", &longest] {
            check(&question(name), EDNS);
            check(&question(name), QueryForm { has_edns: false, ..EDNS });
            check(&question(name), QueryForm { randomize_case: true, ..EDNS });
        }
        check(&UpstreamQuestion { recursion_desired: true, ..question("a") }, EDNS);
        for flagged in [
            OwnedQuestion { dnssec_ok: true, ..owned("a") },
            OwnedQuestion { checking_disabled: true, qclass: 3, ..owned("a") },
        ] {
            check(&UpstreamQuestion { question: Arc::new(flagged), ..question("a") }, EDNS);
        }
    }

    #[test]
    fn only_letters_change_their_case() {
        let question = question("abc-[`{@-1.ExAmPlE");
        let form = QueryForm { randomize_case: true, ..EDNS };
        let spellings: BTreeSet<Vec<u8>> =
            (0..1000).map(|_| Query::new(&question, form).asked().name.to_vec()).collect();
        // 2^10 spellings: a thousand draws hit some 640 of them.
        assert!((500..800).contains(&spellings.len()), "{}", spellings.len());
        for name in &spellings {
            assert_eq!(name.to_ascii_lowercase(), question.question.name.to_ascii_lowercase());
        }
    }
}
