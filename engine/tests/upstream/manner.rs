//! The behaviours of the tests' upstreams, and the packets that they send. The sockets are in
//! `mod.rs`.

use std::net::Ipv4Addr;
use std::time::Duration;

use domain::base::iana::{Class, OptRcode, Rcode};
use domain::base::message_builder::OptBuilder;
use domain::base::{Message, MessageBuilder, Name, ToName as _, Ttl};
use domain::rdata::{A, Cname};

/// What an upstream does with a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    Answers,
    Silent,
    Slow(Duration),
    /// Answers with this response code and no records.
    Says(Rcode),
    /// Over UDP, sends this many packets with wrong ids, wrong questions and wrong opcodes, then
    /// the answer.
    ForgeriesFirst(usize),
    /// Over UDP, sends the answer from another port and then from its own.
    OtherPortFirst,
    /// Sends the header and the question, then something that is not a record.
    Malformed,
    /// Sends TC over UDP; answers over TCP.
    Cuts,
    /// Sends TC over UDP; over TCP it closes the connection without a response.
    CutsAndCloses,
    /// Over TCP, answers one query and closes the connection.
    ClosesAfterAnswer,
    /// Does this with a query that has an OPT, and answers queries without one.
    ToOpt(ToOpt),
    /// Like `Says`, with an OPT of its own.
    SaysWithOpt(Rcode),
    /// Loses this many of the first packets over UDP, and answers all others.
    Loses(usize),
    /// Answers over UDP; over TCP it accepts the connection and closes it.
    ClosesTcp,
    /// Returns the name in lower case.
    Lowers,
    /// Answers with a CNAME to this name, and this response code.
    Leads(&'static str, Rcode),
    /// Answers with such a CNAME and an address of its target.
    LeadsOn(&'static str),
}

/// What firewalls, and servers older than EDNS, do with an OPT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ToOpt {
    Says(Rcode),
    /// BADVERS, whatever the query's version.
    SaysBadVersion,
    /// Returns the query with FORMERR and its OPT.
    Echoes,
    /// Sends a message that cannot be parsed.
    Garbles,
    Drops,
    /// Answers late; a query without an OPT that arrives meanwhile is answered first.
    Late(Duration),
}

/// The answer to a query.
pub fn answer(query: &[u8], manner: Manner, ttl_secs: u32) -> Vec<u8> {
    let message = Message::from_octets(query).expect("a query");
    let question = message.sole_question().expect("one question");
    let name: Name<Vec<u8>> = question.qname().to_name();
    let name = if manner == Manner::Lowers {
        name.to_string().to_lowercase().parse().unwrap()
    } else {
        name
    };
    let to_opt = if let Manner::ToOpt(to_opt) = manner { Some(to_opt) } else { None };
    let to_opt = to_opt.filter(|_| message.opt().is_some());
    let rcode = match (manner, to_opt) {
        (Manner::Says(rcode) | Manner::SaysWithOpt(rcode) | Manner::Leads(_, rcode), _) => rcode,
        (_, Some(ToOpt::Says(rcode))) => rcode,
        (_, Some(ToOpt::Echoes)) => {
            let mut echo = query.to_vec();
            echo[2] |= 0x80;
            echo[3] |= Rcode::FORMERR.to_int();
            return echo;
        }
        _ => Rcode::NOERROR,
    };
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_id(message.header().id());
    header.set_qr(true);
    header.set_ra(true);
    header.set_rcode(rcode);
    let has_record = rcode == Rcode::NOERROR
        && !matches!(manner, Manner::Says(_) | Manner::SaysWithOpt(_) | Manner::Leads(..))
        && to_opt != Some(ToOpt::SaysBadVersion);
    let mut builder = builder.question();
    builder.push((&name, question.qtype(), question.qclass())).unwrap();
    let mut builder = builder.answer();
    let mut owner = name;
    if let Manner::Leads(target, _) | Manner::LeadsOn(target) = manner {
        let target: Name<Vec<u8>> = target.parse().unwrap();
        let record = Cname::new(&target);
        builder.push((&owner, Class::IN, Ttl::from_secs(ttl_secs), record)).unwrap();
        owner = target;
    }
    if has_record {
        let record = A::new(Ipv4Addr::new(192, 0, 2, 1));
        builder.push((&owner, Class::IN, Ttl::from_secs(ttl_secs), record)).unwrap();
    }
    let mut builder = builder.additional();
    if matches!(manner, Manner::SaysWithOpt(_)) {
        builder.opt(|_| Ok(())).unwrap();
    }
    if to_opt == Some(ToOpt::SaysBadVersion) {
        let set_rcode = |opt: &mut OptBuilder<'_, _>| {
            opt.set_rcode(OptRcode::BADVERS);
            Ok(())
        };
        builder.opt(set_rcode).unwrap();
    }
    let mut packet = builder.finish();
    if manner == Manner::Malformed || to_opt == Some(ToOpt::Garbles) {
        packet.truncate(packet.len() - 1);
    }
    packet
}

/// What an off-path attacker sends, and messages that are not a response at all.
pub fn forgeries(answer: &[u8]) -> Vec<Vec<u8>> {
    let with = |at: usize, bits: u8| {
        let mut forgery = answer.to_vec();
        forgery[at] ^= bits;
        forgery
    };
    let name_len = answer[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let (id, flags, name, qtype) = (1, 2, 13, 12 + name_len + 1);
    vec![
        with(id, 1),
        with(id - 1, 0x80),
        with(flags, 0x80),
        with(flags, 0x78),
        with(name, 1),
        with(qtype, 1),
        answer[..11].to_vec(),
        Vec::new(),
    ]
}
