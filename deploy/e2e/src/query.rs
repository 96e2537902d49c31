//! A query and its reply, with the flags and the EDNS that [`Answer`] leaves out. This is the only
//! place that builds queries.

use domain::base::iana::Class;
use domain::base::message_builder::AdditionalBuilder;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name};

use crate::answer::Answer;
use crate::question::Question;

/// A client's query: one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub question: Question,
    pub class: Class,
    /// RD, CD and AD.
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    pub authentic_data: bool,
    pub edns: Option<Edns>,
}

/// The fields of an OPT record (RFC 6891) that these tests check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram that the sender accepts.
    pub udp_len: u16,
    /// The DO bit.
    pub dnssec_ok: bool,
}

/// What a client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub answer: Answer,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    pub authentic_data: bool,
    pub edns: Option<Edns>,
    /// Length of the message in bytes.
    pub len: usize,
}

impl Query {
    /// Recursion desired, no EDNS: a stub resolver's query.
    pub fn plain(question: Question) -> Self {
        Self {
            question,
            class: Class::IN,
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            edns: None,
        }
    }

    /// The message, with a random id, which is returned first.
    pub fn message(&self) -> (u16, Vec<u8>) {
        let name: Name<Vec<u8>> = self.question.name.parse().expect("a valid name");
        let mut builder = MessageBuilder::new_vec().question();
        let header = builder.header_mut();
        header.set_random_id();
        header.set_rd(self.recursion_desired);
        header.set_cd(self.checking_disabled);
        header.set_ad(self.authentic_data);
        builder.push((name, self.question.rtype, self.class)).expect("room for one question");
        let mut builder: AdditionalBuilder<Vec<u8>> = builder.additional();
        if let Some(Edns { udp_len, dnssec_ok }) = self.edns {
            let set = builder.opt(|opt| {
                opt.set_udp_payload_size(udp_len);
                opt.set_dnssec_ok(dnssec_ok);
                Ok(())
            });
            set.expect("room for OPT");
        }
        (builder.header().id(), builder.finish())
    }
}

impl Reply {
    /// Parses a whole message.
    pub fn parse(bytes: &[u8], asked: &Question) -> Result<Self, ParseError> {
        let answer = Answer::parse(bytes, asked)?;
        let message = Message::from_slice(bytes).map_err(|_| ParseError::ShortInput)?;
        let header = message.header();
        let edns = message
            .opt()
            .map(|opt| Edns { udp_len: opt.udp_payload_size(), dnssec_ok: opt.dnssec_ok() });
        Ok(Self {
            answer: Answer { udp_tc: answer.tc, ..answer },
            recursion_desired: header.rd(),
            checking_disabled: header.cd(),
            authentic_data: header.ad(),
            edns,
            len: bytes.len(),
        })
    }
}
