//! Every packet of an upstream has an outcome, and a valid response is sent as it was received.

mod upstream;

use std::collections::BTreeSet;

use domain::base::iana::Rtype;
use domain::base::{Message, ParsedName, Record};
use domain::rdata::AllRecordData;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use upstream::{asked, message, query, read, shown, stamped, uncompressed};
use wire::reply::{Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, TtlRule, UpstreamPacket};

/// The response to `a A` with one record in the answer section, which has exactly these bytes. The
/// question takes bytes 12 to 18; the owner begins at 19.
fn with_record(owner: &[u8], rtype: u16, rdata: &[u8]) -> Vec<u8> {
    let mut packet = message("a A | NOERROR |  |  |");
    packet[7] = 1;
    packet.extend(owner);
    packet.extend(rtype.to_be_bytes());
    packet.extend([0, 1, 0, 0, 0, 9]);
    packet.extend((rdata.len() as u16).to_be_bytes());
    packet.extend(rdata);
    packet
}

#[test]
fn invalid_names_and_data_are_malformed() {
    const A: u16 = 1;
    const CNAME: u16 = 5;
    const SOA: u16 = 6;
    const SRV: u16 = 33;
    const NAPTR: u16 = 35;
    let address = [192, 0, 2, 1];
    let long = [b"\x3f".as_slice(), &[b'x'; 63]].concat();
    let longest = [long.repeat(3), long[1..62].to_vec(), vec![0]].concat();
    let rows: [(&str, Vec<u8>); 17] = [
        ("pointer to itself", with_record(b"\xc0\x13", A, &address)),
        ("pointer ahead", with_record(b"\xc0\x1f", A, &address)),
        ("pointer past the end", with_record(b"\xff\xff", A, &address)),
        ("pointer to the header", with_record(b"\xc0\x02", A, &address)),
        ("two that point at each other", with_record(b"\xc0\x0c", CNAME, b"\x01b\xc0\x1f")),
        ("half a pointer", with_record(b"\xc0\x0c", CNAME, b"\xc0")),
        ("label of 64 bytes", with_record(b"\x40a\0", A, &address)),
        ("label of an unknown type", with_record(b"\x80a\0", A, &address)),
        ("name past the data", with_record(b"\xc0\x0c", CNAME, b"\x05b")),
        ("name without an end", with_record(b"\xc0\x0c", CNAME, b"\x01b")),
        ("name of 256 bytes", with_record(b"\xc0\x0c", CNAME, &[b"\x3e", &longest[..]].concat())),
        ("bytes after the name", with_record(b"\xc0\x0c", CNAME, b"\x01b\0\0")),
        ("address of 5 bytes", with_record(b"\xc0\x0c", A, &[192, 0, 2, 1, 0])),
        ("address of 3 bytes", with_record(b"\xc0\x0c", A, &[192, 0, 2])),
        ("SOA without its last field", with_record(b"\xc0\x0c", SOA, &[0; 18])),
        ("SRV that ends in its port", with_record(b"\xc0\x0c", SRV, &[0; 5])),
        (
            "NAPTR whose strings run on",
            with_record(b"\xc0\x0c", NAPTR, &[0, 0, 0, 0, 1, b'x', 200]),
        ),
    ];
    for (what, packet) in rows {
        assert_eq!(response::read(&packet, &asked(&packet)), UpstreamPacket::Malformed, "{what}");
    }
    // Data that ends past the end of the message, and a missing record.
    let mut packet = with_record(b"\xc0\x0c", A, &address);
    packet.pop();
    assert_eq!(response::read(&packet, &asked(&packet)), UpstreamPacket::Malformed);
    // An OPT that the root does not own, alone and as the second one; one in the answer section.
    let opt = |owner: &[u8]| [owner, b"\0\x29\x04\xd0\0\0\0\0\0\0"].concat();
    for (counts, records) in [
        ([0, 1], opt(b"\xc0\x0c")),
        ([0, 2], [opt(b"\0"), opt(b"\xc0\x0c")].concat()),
        ([1, 0], opt(b"\0")),
    ] {
        let mut packet = message("a A | NOERROR |  |  |");
        (packet[7], packet[11]) = (counts[0], counts[1]);
        packet.extend(records);
        assert_eq!(
            response::read(&packet, &asked(&packet)),
            UpstreamPacket::Malformed,
            "{packet:x?}"
        );
    }
}

#[test]
fn unusual_names_are_accepted() {
    // Compressed where that is not allowed; in another case; by a pointer to a pointer.
    let srv = with_record(b"\xc0\x0c", 33, b"\0\x01\0\x02\0\x03\x01B\xc0\x0c");
    let srv = [&srv[..14], &[0, 0, 33, 0, 1], &srv[19..]].concat();
    for (packet, expected) in [
        (srv, "a SRV | NOERROR rd | a 9 SRV 1 2 3 B.a |  |"),
        (with_record(b"\x01A\0", 5, b"\x01b\xc0\x0c"), "a A | NOERROR rd | a 9 CNAME b.a |  |"),
        (with_record(b"\xc0\x0c", 5, b"\xc0\x13"), "a A | NOERROR rd | a 9 CNAME a |  |"),
    ] {
        let question = expected.split_once(" | ").unwrap().0;
        let copy = stamped(question, &read(&packet), MESSAGE_LEN_MAX);
        assert_eq!(shown(&copy), expected);
    }
    // Extended codes are about the exchange with the upstream.
    let mut badvers = message("a A | NOERROR |  |  |");
    badvers[11] = 1;
    badvers.extend(b"\0\0\x29\x04\xd0\x01\0\0\0\0\0");
    let response = read(&badvers);
    assert_eq!(response.rcode, 16);
    assert_eq!(shown(&stamped("a A", &response, 512)), "a A | SERVFAIL rd |  |  |");
}

#[test]
fn the_longest_messages_are_read() {
    let addresses = |count: usize| {
        let records: Vec<_> =
            (0..count).map(|host| format!("a 9 A 10.0.{}.{}", host / 256, host % 256)).collect();
        format!("a A | NOERROR | {} |  |", records.join("; "))
    };
    // 16 bytes per record, 19 before them.
    let packet = message(&addresses(4094));
    assert!(packet.len() > 65_500);
    let copy = stamped("a A", &read(&packet), MESSAGE_LEN_MAX);
    assert_eq!(copy[4..], packet[4..]);
    // It fits with an OPT too, but not with one byte more.
    let cut = stamped("a A do", &read(&packet), MESSAGE_LEN_MAX);
    assert_eq!(cut[2] & 0x02, 0, "{} bytes", cut.len());
    // Decompressed, it would be longer than the longest message.
    let long = [b"\x3f".as_slice(), &[b'x'; 63]].concat().repeat(3);
    let mut packet = with_record(b"\xc0\x0c", 33, &[&[0; 6], &long[..], b"\0"].concat());
    packet[15..17].copy_from_slice(&[0, 33]);
    for _ in 0..1000 {
        packet.extend(b"\xc0\x0c\0\x21\0\x01\0\0\0\x09\0\x08\0\0\0\0\0\0\xc0\x25");
    }
    packet[6..8].copy_from_slice(&1001u16.to_be_bytes());
    assert_eq!(response::read(&packet, &asked(&packet)), UpstreamPacket::Malformed);
}

/// A record of `owner`, of any type.
fn record_of(owner: String) -> impl Strategy<Value = String> {
    (names(), names(), 0..9u16).prop_flat_map(move |(one, two, number)| {
        let data = [
            format!("A 192.0.2.{number}"),
            format!("AAAA 2001:db8::1:{number}"),
            format!("NS {one}"),
            format!("PTR {one}"),
            format!("MX {number} {one}"),
            format!("SRV {number} 1 2 {one}"),
            format!("SOA {one} {two} 1 2 3 4 {number}"),
            format!("TXT text-{number}"),
            format!("HTTPS {number} {one}"),
            format!("RRSIG A {number}"),
        ];
        let ttl_secs = u32::from(number) * 1000;
        select(data.map(|data| format!("{owner} {ttl_secs} {data}")).to_vec())
    })
}

fn names() -> impl Strategy<Value = &'static str> {
    select(vec!["www.example.org", "Example.org", "b.www.example.org", "cdn.example.net", "org"])
}

/// A response in which every record belongs to the question.
fn valid_responses() -> impl Strategy<Value = String> {
    const QUESTION: &str = "q.www.example.org";
    vec(names(), 0..4).prop_flat_map(|targets| {
        let mut chain = vec![QUESTION.to_owned()];
        for target in targets {
            if chain.iter().all(|known| !known.eq_ignore_ascii_case(target)) {
                chain.push(target.to_owned());
            }
        }
        let cnames: Vec<_> =
            chain.windows(2).map(|pair| format!("{} 60 CNAME {}", pair[0], pair[1])).collect();
        let end = chain.last().cloned().unwrap_or_default();
        let above = select(vec!["www.example.org", "example.org", "ORG", "."]);
        let authority = above.prop_flat_map(|owner| record_of(owner.to_owned()));
        let rest = [
            vec(record_of(end), 0..8).boxed(),
            vec(authority, 0..6).boxed(),
            vec(record_of(QUESTION.to_owned()), 0..3).boxed(),
        ];
        rest.prop_map(move |[answers, authorities, additionals]| {
            let sections = [[cnames.clone(), answers].concat(), authorities, additionals];
            let sections = sections.map(|records| records.join("; "));
            format!("{QUESTION} MX | NOERROR rd | {}", sections.join(" | ")).trim_end().to_owned()
        })
    })
}

/// A response in which few records belong to the question.
fn dubious_responses() -> impl Strategy<Value = String> {
    let name = || select(vec!["a", "b", "c", "b.a", "d"]);
    let record = move || {
        (name(), name(), 0..4).prop_map(|(owner, target, rtype)| match rtype {
            0 => format!("{owner} 9 CNAME {target}"),
            1 => format!("{owner} 9 NS {target}"),
            2 => format!("{owner} 9 MX 1 {target}"),
            _ => format!("{owner} 9 A 192.0.2.1"),
        })
    };
    let section = move || vec(record(), 0..8).prop_map(|records| records.join("; "));
    (section(), section(), section()).prop_map(|(answers, authorities, additionals)| {
        format!("b.a A | NOERROR rd | {answers} | {authorities} | {additionals}")
    })
}

/// The response for `b.a` with the records that belong to it, found by a slower algorithm; the
/// chain comes first.
fn belonging(text: &str) -> String {
    let sections: Vec<&str> = text.split('|').map(str::trim).collect();
    let words = |record: &str| -> Vec<String> { record.split(' ').map(str::to_owned).collect() };
    let records = |at: usize| -> Vec<&str> {
        sections[at].split("; ").filter(|record| !record.is_empty()).collect()
    };
    let mut chain = vec!["b.a".to_owned()];
    // Follow the first CNAME of the chain's last name that has a new target, until there is none.
    while let Some(next) = records(2).iter().map(|record| words(record)).find(|words| {
        words[2] == "CNAME" && chain.last() == Some(&words[0]) && !chain.contains(&words[3])
    }) {
        chain.push(next[3].clone());
    }
    let place = |record: &str| {
        let words = words(record);
        let links = chain.windows(2);
        let mut links = links.map(|link| [&link[0], "9", "CNAME", &link[1]]);
        links.position(|link| words == link).unwrap_or(usize::MAX)
    };
    let mut named: BTreeSet<String> = chain.iter().cloned().collect();
    let mut keep = |at: usize, is_kept: &dyn Fn(&str, &BTreeSet<String>) -> bool| {
        let mut kept = vec![];
        let mut records = records(at);
        if at == 2 {
            records.sort_by_key(|record| place(record));
        }
        for record in records {
            let words = words(record);
            if is_kept(&words[0], &named) {
                if words[2] != "A" {
                    named.extend(words.last().cloned());
                }
                kept.push(record);
            }
        }
        kept.join("; ")
    };
    let answers = keep(2, &|owner, _| chain.iter().any(|known| known == owner));
    let authorities = keep(3, &|owner, _| {
        chain.iter().any(|known| known == owner || known.ends_with(&format!(".{owner}")))
    });
    let additionals = keep(4, &|owner, named| named.contains(owner));
    let [question, head, ..] = sections.as_slice() else { panic!("{text}") };
    format!("{question} | {head} | {answers} | {authorities} | {additionals}").trim_end().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn valid_responses_are_sent_as_received(text in valid_responses()) {
        for packet in [message(&text), uncompressed(&text)] {
            let copy = stamped("q.www.example.org MX", &read(&packet), MESSAGE_LEN_MAX);
            // Names with a common end may get the case of the first one.
            prop_assert_eq!(shown(&copy).to_lowercase(), text.to_lowercase());
            prop_assert!(copy.len() <= packet.len());
        }
    }

    #[test]
    fn records_that_do_not_belong_are_dropped(text in dubious_responses()) {
        for packet in [message(&text), uncompressed(&text)] {
            let copy = stamped("b.a A", &read(&packet), MESSAGE_LEN_MAX);
            prop_assert_eq!(shown(&copy), belonging(&text));
        }
    }

    #[test]
    fn damaged_packets_have_an_outcome(
        text in valid_responses(),
        is_compressed: bool,
        len in any::<Index>(),
        flips in vec((any::<Index>(), any::<u8>()), 0..6),
        len_max in 512..2000usize,
    ) {
        let mut packet = if is_compressed { message(&text) } else { uncompressed(&text) };
        let question = packet.clone();
        for (at, bits) in flips {
            let at = at.index(packet.len());
            packet[at] ^= bits;
        }
        packet.truncate(len.index(packet.len() * 2));
        check_outcome(&packet, &question, len_max)?;
    }

    #[test]
    fn any_bytes_have_an_outcome(
        bytes in vec(any::<u8>(), 0..3000),
        counts in any::<[u8; 6]>(),
        len_max in 512..2000usize,
    ) {
        let question = message("a A | NOERROR |  |  |");
        let mut packet = question.clone();
        packet[6..12].copy_from_slice(&counts);
        packet[6] &= 1;
        packet.extend(bytes);
        check_outcome(&packet, &question, len_max)?;
    }
}

/// The response read from `packet`, for the question at the start of `question`, is stamped as a
/// valid message.
fn check_outcome(packet: &[u8], question: &[u8], len_max: usize) -> Result<(), TestCaseError> {
    let asked = asked(question);
    let (UpstreamPacket::Answer(response) | UpstreamPacket::Truncated(response)) =
        response::read(packet, &asked)
    else {
        return Ok(());
    };
    let qtype = Rtype::from_int(asked.qtype);
    let name = Message::from_octets(question).unwrap().first_question().unwrap().into_qname();
    let (mut out, query) = query(&format!("{name} {qtype} do"));
    let envelope = Envelope { len_max, rotation: 1 };
    out.resize(len_max, 0);
    let stamped =
        response::stamp(&query, &response, TtlRule::AS_SENT, None, None, envelope, &mut out);
    prop_assert!(stamped.len <= len_max);
    let copy = Message::from_octets(&out[..stamped.len]).unwrap();
    prop_assert_eq!(copy.opt().is_some(), true);
    for record in copy.iter() {
        let (record, _) = record.unwrap();
        // `domain` validates more of other types than `wire` does.
        if matches!(
            record.rtype(),
            Rtype::A
                | Rtype::AAAA
                | Rtype::CNAME
                | Rtype::NS
                | Rtype::PTR
                | Rtype::MX
                | Rtype::SRV
                | Rtype::SOA
                | Rtype::DNAME
        ) {
            let _: Record<ParsedName<_>, AllRecordData<_, _>> = record.into_any_record().unwrap();
        }
    }
    Ok(())
}
