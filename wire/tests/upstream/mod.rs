//! Messages as text: `QUESTION | RCODE FLAGS | ANSWERS | AUTHORITIES | ADDITIONALS`, with `; `
//! between records, and names without their last dot. `domain` writes and reads them. Invariant:
//! `shown` is the inverse of `message`.
#![allow(dead_code, reason = "no test file uses everything")]

use std::fmt::Display;
use std::str::FromStr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message_builder::{HashCompressor, PushError};
use domain::base::rdata::UnknownRecordData;
use domain::base::wire::Composer;
use domain::base::{Message, MessageBuilder, Name, ParsedName, Record, Ttl};
use domain::rdata::{A, Aaaa, AllRecordData, Cname, Mx, Ns, Ptr, Soa};
use wire::name::Name as ReadName;
use wire::query::{self, ClientPacket, Query};
use wire::reply::{Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, Asked, Response, TtlRule};

type Data = AllRecordData<Vec<u8>, Name<Vec<u8>>>;

type ReceivedName<'m> = ParsedName<&'m [u8]>;

/// A response with records in every section.
pub(crate) const WWW: &str = "www.example.org A | NOERROR rd ra \
    | www.example.org 60 CNAME web.example.org; web.example.org 20 A 192.0.2.1; web.example.org 20 \
    A 192.0.2.2 \
    | example.org 600 NS ns1.example.org \
    | ns1.example.org 900 A 192.0.2.53; ns1.example.org 900 AAAA 2001:db8::53";

/// The id of every message.
pub(crate) const ID: u16 = 7;

pub(crate) fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().unwrap()
}

fn number<T: FromStr>(text: &str) -> T {
    text.parse().ok().unwrap_or_else(|| panic!("{text}: no number"))
}

/// A record's data. Types that RFC 1035 does not define are never compressed.
fn data(rtype: Rtype, words: &[&str]) -> Data {
    let wire_name = |text: &str| name(text).as_slice().to_vec();
    let mut raw = vec![];
    match (rtype, words) {
        (Rtype::A, [address]) => return A::from_str(address).unwrap().into(),
        (Rtype::AAAA, [address]) => return Aaaa::from_str(address).unwrap().into(),
        (Rtype::CNAME, [target]) => return Cname::new(name(target)).into(),
        (Rtype::NS, [target]) => return Ns::new(name(target)).into(),
        (Rtype::PTR, [target]) => return Ptr::new(name(target)).into(),
        (Rtype::MX, [preference, target]) => {
            return Mx::new(number(preference), name(target)).into();
        }
        (Rtype::SOA, [primary, mailbox, serial, refresh, retry, expire, minimum]) => {
            let [refresh, retry, expire, minimum] =
                [refresh, retry, expire, minimum].map(|text| Ttl::from_secs(number(text)));
            let serial = number::<u32>(serial).into();
            let names = (name(primary), name(mailbox));
            return Soa::new(names.0, names.1, serial, refresh, retry, expire, minimum).into();
        }
        (Rtype::DNAME, [target]) => raw.extend(wire_name(target)),
        (Rtype::SRV, [priority, weight, port, target]) => {
            for field in [priority, weight, port] {
                raw.extend(number::<u16>(field).to_be_bytes());
            }
            raw.extend(wire_name(target));
        }
        (Rtype::HTTPS, [priority, target]) => {
            raw.extend(number::<u16>(priority).to_be_bytes());
            raw.extend(wire_name(target));
        }
        (Rtype::RRSIG, [covered, end]) => {
            raw.extend(covered.parse::<Rtype>().unwrap().to_int().to_be_bytes());
            raw.extend([8, 2, 0, 0, 0, 60]);
            raw.extend(number::<u32>(end).to_be_bytes());
            raw.extend([0, 0, 0, 1, 0, 1, 0, 1, 2, 3]);
        }
        (Rtype::NSEC, [next]) => {
            raw.extend(wire_name(next));
            raw.extend([0, 1, 0x40]);
        }
        (_, [text]) => {
            raw.push(text.len() as u8);
            raw.extend(text.as_bytes());
        }
        _ => panic!("{rtype} {words:?}"),
    }
    UnknownRecordData::from_octets(rtype, raw).unwrap().into()
}

pub(crate) fn record(text: &str) -> Record<Name<Vec<u8>>, Data> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [owner, ttl_secs, rtype, rest @ ..] = words.as_slice() else { panic!("{text}") };
    let ttl = Ttl::from_secs(number(ttl_secs));
    Record::new(name(owner), Class::IN, ttl, data(rtype.parse().unwrap(), rest))
}

/// The response that `text` describes, compressed as far as possible.
pub(crate) fn message(text: &str) -> Vec<u8> {
    write(text, HashCompressor::new(vec![])).into_target()
}

/// The same, without compression pointers.
pub(crate) fn uncompressed(text: &str) -> Vec<u8> {
    write(text, vec![])
}

fn write<T: Composer>(text: &str, target: T) -> T
where
    T::AppendError: std::fmt::Debug,
{
    let sections: Vec<&str> = text.split('|').map(str::trim).collect();
    let [question, head, answers, authorities, additionals] = sections.as_slice() else {
        panic!("{text}")
    };
    let records =
        |section: &str| section.split("; ").filter(|text| !text.is_empty()).map(record).collect();
    let [answers, authorities, additionals]: [Vec<_>; 3] =
        [answers, authorities, additionals].map(|section| records(section));
    let Ok(mut builder) = MessageBuilder::from_target(target) else { panic!("no room") };
    let mut head = head.split_whitespace();
    let header = builder.header_mut();
    header.set_id(ID);
    header.set_qr(true);
    header.set_rcode(head.next().unwrap().parse::<Rcode>().unwrap());
    for flag in head {
        match flag {
            "aa" => header.set_aa(true),
            "tc" => header.set_tc(true),
            "rd" => header.set_rd(true),
            "ra" => header.set_ra(true),
            "ad" => header.set_ad(true),
            _ => panic!("{flag}"),
        }
    }
    let mut builder = builder.question();
    let (qname, qtype) = question.split_once(' ').unwrap();
    builder.push((name(qname), qtype.parse::<Rtype>().unwrap())).unwrap();
    let push = || -> Result<T, PushError> {
        let mut builder = builder.answer();
        answers.into_iter().try_for_each(|record| builder.push(record))?;
        let mut builder = builder.authority();
        authorities.into_iter().try_for_each(|record| builder.push(record))?;
        let mut builder = builder.additional();
        additionals.into_iter().try_for_each(|record| builder.push(record))?;
        Ok(builder.finish())
    };
    push().unwrap()
}

/// A message as text, without its OPT.
pub(crate) fn shown(message: &[u8]) -> String {
    let message = Message::from_octets(message).unwrap();
    let question = message.sole_question().unwrap();
    let header = message.header();
    let mut text =
        format!("{} {} | {}", dotted(question.qname()), question.qtype(), header.rcode());
    for (flag, is_set) in [
        ("aa", header.aa()),
        ("tc", header.tc()),
        ("rd", header.rd()),
        ("ra", header.ra()),
        ("ad", header.ad()),
    ] {
        if is_set {
            text.push(' ');
            text.push_str(flag);
        }
    }
    let (_, answers, authorities, additionals) = message.sections().unwrap();
    for section in [answers, authorities, additionals] {
        let records = section.map(|record| record.unwrap().into_any_record().unwrap());
        let lines: Vec<_> =
            records.filter(|record| record.rtype() != Rtype::OPT).map(line).collect();
        text.push_str(" | ");
        text.push_str(&lines.join("; "));
    }
    text.trim_end().to_owned()
}

fn dotted(name: impl Display) -> String {
    let text = name.to_string();
    if text.is_empty() { ".".to_owned() } else { text }
}

fn line<'m>(record: Record<ReceivedName<'m>, AllRecordData<&'m [u8], ReceivedName<'m>>>) -> String {
    let data = match record.data() {
        AllRecordData::Rrsig(signature) => {
            format!("{} {}", signature.type_covered(), signature.expiration().into_int())
        }
        AllRecordData::Nsec(nsec) => nsec.next_name().to_string(),
        data => data.to_string().replace('"', ""),
    };
    let mut line =
        format!("{} {} {}", dotted(record.owner()), record.ttl().as_secs(), record.rtype());
    for word in data.split_whitespace() {
        line.push(' ');
        line.push_str(word.strip_suffix('.').unwrap_or(word));
    }
    line
}

/// A client's query: `WWW.example.org A`, then any of `do`, `ad`, `cd` and the UDP size of an OPT.
pub(crate) fn query(text: &str) -> (Vec<u8>, Query) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [qname, qtype, rest @ ..] = words.as_slice() else { panic!("{text}") };
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    builder.header_mut().set_ad(rest.contains(&"ad"));
    builder.header_mut().set_cd(rest.contains(&"cd"));
    let mut builder = builder.question();
    builder.push((name(qname), qtype.parse::<Rtype>().unwrap())).unwrap();
    let mut builder = builder.additional();
    let len = rest.iter().find_map(|word| word.parse().ok());
    if len.is_some() || rest.contains(&"do") {
        let opt = builder.opt(|opt| {
            opt.set_udp_payload_size(len.unwrap_or(1232));
            opt.set_dnssec_ok(rest.contains(&"do"));
            Ok(())
        });
        opt.unwrap();
    }
    let packet = builder.finish();
    let ClientPacket::Query(query) = query::read(&packet, &mut ReadName::default()) else {
        panic!("{text}")
    };
    (packet, query)
}

/// The query that `response` answers.
pub(crate) fn asked(response: &[u8]) -> Asked<'_> {
    let name_len = response[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let (name, rest) = response[12..].split_at(name_len);
    let [type_high, type_low, class_high, class_low] = *rest.first_chunk().unwrap();
    Asked {
        id: ID,
        name,
        qtype: u16::from_be_bytes([type_high, type_low]),
        qclass: u16::from_be_bytes([class_high, class_low]),
        case_must_match: true,
    }
}

/// Reads the packet of an upstream that answers its query.
pub(crate) fn read(packet: &[u8]) -> Response {
    match response::read(packet, &asked(packet)) {
        response::UpstreamPacket::Answer(response)
        | response::UpstreamPacket::Truncated(response) => response,
        other => panic!("{other:?}: {packet:x?}"),
    }
}

/// The client's response to `query` from `response`, with the upstream's TTLs, in at most `len_max`
/// bytes.
pub(crate) fn stamped(query: &str, response: &Response, len_max: usize) -> Vec<u8> {
    let (mut out, query) = self::query(query);
    let envelope = Envelope { len_max, rotation: 0 };
    out.resize(MESSAGE_LEN_MAX, 0);
    let stamped =
        response::stamp(&query, response, TtlRule::AS_SENT, None, None, envelope, &mut out);
    out.truncate(stamped.len);
    out
}
