//! Upstreams' packets: which are responses to the query, and which of their records are kept.

mod upstream;

use domain::base::MessageBuilder;
use domain::base::iana::Rcode;
use upstream::{WWW, asked, message, read, shown, stamped, uncompressed};
use wire::reply::MESSAGE_LEN_MAX;
use wire::response::{self, Asked, Kind, UpstreamPacket};

#[test]
fn a_response_matches_the_query() {
    let packet = message(WWW);
    let asked = asked(&packet);
    let any_case = Asked { name: b"\x03wWw\x07example\x03org\0", case_must_match: false, ..asked };
    for asked in [asked, any_case] {
        let reading = response::read(&packet, &asked);
        assert!(matches!(reading, UpstreamPacket::Answer(_)), "{asked:?}: {reading:?}");
    }
    let other_questions = [
        Asked { id: 8, ..asked },
        Asked { name: b"\x03www\x07example\x03com\0", ..asked },
        Asked { case_must_match: true, ..any_case },
        Asked { name: b"\0", ..asked },
        Asked { qtype: 28, ..asked },
        Asked { qclass: 3, ..asked },
    ];
    for other in other_questions {
        assert_eq!(response::read(&packet, &other), UpstreamPacket::Foreign, "{other:?}");
    }
    // QR, the opcode, the number of questions.
    for (byte, bits) in [(2, 0x80), (2, 0x08), (5, 1), (5, 3)] {
        let mut packet = packet.clone();
        packet[byte] ^= bits;
        assert_eq!(response::read(&packet, &asked), UpstreamPacket::Foreign, "byte {byte}");
    }
    // TC; a record too many.
    let mut cut = packet.clone();
    cut[2] |= 0x02;
    assert!(matches!(response::read(&cut, &asked), UpstreamPacket::Truncated(_)));
    let mut lying = packet.clone();
    lying[11] += 1;
    assert_eq!(response::read(&lying, &asked), UpstreamPacket::Malformed);
    lying[2] |= 0x02;
    assert!(matches!(response::read(&lying, &asked), UpstreamPacket::Truncated(_)));
}

#[test]
fn an_error_may_lack_the_question() {
    let packet = message(WWW);
    let drawn = asked(&packet);
    let asked = Asked { case_must_match: false, ..drawn };
    let bare = |rcode: Rcode| {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(drawn.id);
        builder.header_mut().set_qr(true);
        builder.header_mut().set_rcode(rcode);
        builder.finish()
    };
    for rcode in [Rcode::FORMERR, Rcode::SERVFAIL, Rcode::NOTIMP, Rcode::REFUSED] {
        let reading = response::read(&bare(rcode), &asked);
        let UpstreamPacket::Answer(response) = reading else { panic!("{rcode}: {reading:?}") };
        assert_eq!((response.kind, response.rcode), (Kind::Failure, rcode.to_int().into()));
        assert_eq!(
            shown(&stamped("www.example.org A", &response, 512)),
            format!("www.example.org A | {rcode} rd |  |  |")
        );
        assert_eq!(response::read(&bare(rcode), &drawn), UpstreamPacket::Foreign);
    }
    for rcode in [Rcode::NOERROR, Rcode::NXDOMAIN] {
        assert_eq!(response::read(&bare(rcode), &asked), UpstreamPacket::Foreign, "{rcode}");
    }
}

/// `text` is the upstream's response, `expected` the client's. Checked with and without
/// compression.
fn check(text: &str, expected: &str) {
    let question = text.split_once('|').unwrap().0;
    for packet in [message(text), uncompressed(text)] {
        let response = read(&packet);
        assert_eq!(shown(&stamped(question, &response, MESSAGE_LEN_MAX)), expected, "{text}");
    }
}

#[test]
fn records_that_belong_to_the_question_are_kept() {
    const SOA: &str = "example.org 300 SOA ns.example.org hostmaster.example.org 1 2 3 4 60";
    for (text, kind) in [
        (WWW.to_owned(), Kind::Success),
        // No data: for the name, for a CNAME's target, without an SOA, without any record.
        (format!("a.example.org A | NOERROR rd |  | {SOA} |"), Kind::NoData),
        (format!("a.example.org A | NOERROR rd | a.example.org 1 CNAME b.example.org | {SOA} \
            |"), Kind::NoData),
        ("a.example.org A | NOERROR rd | a.example.org 1 CNAME b.example.org |  \
            |".to_owned(), Kind::NoData),
        ("a.example.org A | NOERROR rd |  |  |".to_owned(), Kind::NoData),
        (format!("a.example.org A | NXDOMAIN aa rd ra |  | {SOA} |"), Kind::NxDomain),
        (format!("a.example.org A | NXDOMAIN rd | a.example.org 1 CNAME b.example.org | {SOA} \
            |"), Kind::NxDomain),
        ("a.example.org A | NXDOMAIN rd |  |  |".to_owned(), Kind::NxDomain),
        ("a.example.org A | NOERROR rd |  | example.org 9 NS ns.example.net | ns.example.net 9 A \
            192.0.2.1".to_owned(), Kind::Delegation),
        ("a.example.org A | SERVFAIL rd |  |  |".to_owned(), Kind::Failure),
        ("a.example.org A | NOTAUTH rd |  |  |".to_owned(), Kind::Failure),
        // A CNAME that the question is for is data, and is not followed.
        ("a.example.org CNAME | NOERROR rd | a.example.org 1 CNAME b.example.org |  \
            |".to_owned(), Kind::Success),
        // A DNAME with the CNAME that is synthesized from it (RFC 6672).
        ("a.b.example.org A | NOERROR rd | b.example.org 9 DNAME c.example.net; a.b.example.org 9 \
            CNAME a.c.example.net; a.c.example.net 9 A 192.0.2.1 |  |".to_owned(), Kind::Success),
        // Signatures.
        ("example.org A | NOERROR rd | example.org 9 A 192.0.2.1; example.org 9 RRSIG A 1000 | \
            example.org 9 NS ns.example.net; example.org 9 RRSIG NS 900 | ns.example.net 9 A \
            192.0.2.1; ns.example.net 9 RRSIG A 1100".to_owned(), Kind::Success),
        // Proofs of absence belong to other names.
        (format!("b.example.org A | NXDOMAIN rd |  | {SOA}; a.example.org 9 NSEC z.example.org; \
            a.example.org 9 RRSIG NSEC 900 |"), Kind::NxDomain),
        // Types whose data has names, and the addresses of those names.
        ("example.org MX | NOERROR rd | example.org 9 MX 10 mail.example.org |  | mail.example.org \
            9 A 192.0.2.1".to_owned(), Kind::Success),
        ("_a._tcp.example.org SRV | NOERROR rd | _a._tcp.example.org 9 SRV 1 2 3 a.example.org; \
            _a._tcp.example.org 9 SRV 1 2 3 b.example.org |  | b.example.org 9 A 192.0.2.1; \
            a.example.org 9 AAAA 2001:db8::1".to_owned(), Kind::Success),
        ("example.org HTTPS | NOERROR rd | example.org 9 HTTPS 1 a.example.org |  | a.example.org \
            9 A 192.0.2.1".to_owned(), Kind::Success),
        ("1.2.0.192.in-addr.arpa PTR | NOERROR rd | 1.2.0.192.in-addr.arpa 9 PTR A.Example.org |  \
            |".to_owned(), Kind::Success),
        ("example.org TXT | NOERROR rd | example.org 9 TXT abc |  |".to_owned(), Kind::Success),
        (". NS | NOERROR rd | . 9 NS a.root-servers.net |  | a.root-servers.net 9 A \
            192.0.2.1".to_owned(), Kind::Success),
    ] {
        check(&text, &text);
        assert_eq!(read(&message(&text)).kind, kind, "{text}");
    }
}

#[test]
fn records_that_do_not_belong_to_the_question_are_dropped() {
    let rows = [
        // Answers of other names; a chain that is not connected; the target's data if CNAMEs are
        // not followed.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1; www.bank.example 9 A \
                192.0.2.66; example.org 9 A 192.0.2.66 |  |",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 |  |",
        ),
        (
            "a.example.org A | NOERROR rd | b.example.org 9 CNAME c.example.org; c.example.org 9 A \
                192.0.2.66 |  |",
            "a.example.org A | NOERROR rd |  |  |",
        ),
        (
            "a.example.org CNAME | NOERROR rd | a.example.org 9 CNAME b.example.org; b.example.org \
                9 A 192.0.2.66 |  |",
            "a.example.org CNAME | NOERROR rd | a.example.org 9 CNAME b.example.org |  |",
        ),
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1; example.net 9 DNAME \
                example.com; a.example.net 9 RRSIG A 5 |  |",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 |  |",
        ),
        // CNAMEs that form a loop.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 CNAME b.example.org; b.example.org 9 \
                CNAME a.example.org; c.example.org 9 A 192.0.2.66 |  |",
            "a.example.org A | NOERROR rd | a.example.org 9 CNAME b.example.org; b.example.org 9 \
                CNAME a.example.org |  |",
        ),
        // Name servers of zones that do not enclose the name, and of names below it.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | org 9 NS ns.example.net; \
                bank.example 9 NS ns.example.net; x.a.example.org 9 NS ns.example.net; ample.org 9 \
                NS ns.example.net |",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | org 9 NS ns.example.net \
                |",
        ),
        // Additional records that no record names, or only one that is dropped.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | bank.example 9 NS \
                ns.bank.example; org 9 NS ns.example.net | ns.bank.example 9 A 192.0.2.66; \
                www.bank.example 9 A 192.0.2.66; ns.example.net 9 A 192.0.2.2",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | org 9 NS ns.example.net \
                | ns.example.net 9 A 192.0.2.2",
        ),
    ];
    for (text, expected) in rows {
        check(text, expected);
    }
}

#[test]
fn ttls_with_the_top_bit_set_become_the_longest() {
    for (sent, expected) in [
        (0u32, 0u32),
        (2_147_483_647, 2_147_483_647),
        (2_147_483_648, 2_147_483_647),
        (4_294_967_295, 2_147_483_647),
    ] {
        let answer = |ttl| format!("a.org A | NOERROR rd | a.org {ttl} A 192.0.2.1 |  |");
        check(&answer(sent), &answer(expected));
        assert_eq!(read(&message(&answer(sent))).ttl_secs_min, Some(expected));
    }
}

#[test]
fn a_chain_comes_before_its_end() {
    // The records of an answer section, as received and as sent.
    let rows = [
        (
            "b.net 9 A 192.0.2.1; a.org 9 CNAME b.net; b.net 9 A 192.0.2.2",
            "a.org 9 CNAME b.net; b.net 9 A 192.0.2.1; b.net 9 A 192.0.2.2",
        ),
        (
            "c.net 9 A 192.0.2.1; b.net 9 CNAME c.net; a.org 9 CNAME b.net",
            "a.org 9 CNAME b.net; b.net 9 CNAME c.net; c.net 9 A 192.0.2.1",
        ),
        // The chain ends without data.
        (
            "c.net 9 CNAME d.net; b.net 9 CNAME c.net; a.org 9 CNAME b.net",
            "a.org 9 CNAME b.net; b.net 9 CNAME c.net; c.net 9 CNAME d.net",
        ),
        // Signatures follow what they sign.
        (
            "b.net 9 A 192.0.2.1; b.net 9 RRSIG A 7; a.org 9 RRSIG CNAME 8; a.org 9 CNAME b.net",
            "a.org 9 CNAME b.net; a.org 9 RRSIG CNAME 8; b.net 9 A 192.0.2.1; b.net 9 RRSIG A 7",
        ),
        // A DNAME comes before the CNAME that is synthesized from it, later in the chain too.
        (
            "a.c.net 9 A 192.0.2.1; a.org 9 CNAME a.c.net; org 9 RRSIG DNAME 7; org 9 DNAME c.net",
            "org 9 DNAME c.net; org 9 RRSIG DNAME 7; a.org 9 CNAME a.c.net; a.c.net 9 A 192.0.2.1",
        ),
        (
            "x.d.net 9 A 192.0.2.1; b.net 9 DNAME d.net; x.b.net 9 CNAME x.d.net; a.org 9 CNAME \
                x.b.net",
            "a.org 9 CNAME x.b.net; b.net 9 DNAME d.net; x.b.net 9 CNAME x.d.net; x.d.net 9 A \
                192.0.2.1",
        ),
        // The first of two CNAMEs of one name counts (RFC 2181, section 10.1, allows one), and the
        // first round of a loop.
        (
            "c.net 9 A 192.0.2.1; a.org 9 CNAME c.net; a.org 9 CNAME b.net; b.net 9 A 192.0.2.2",
            "a.org 9 CNAME c.net; c.net 9 A 192.0.2.1; a.org 9 CNAME b.net",
        ),
        ("b.net 9 CNAME a.org; a.org 9 CNAME b.net", "a.org 9 CNAME b.net; b.net 9 CNAME a.org"),
        // Without a chain, the order stays.
        (
            "a.org 9 A 192.0.2.2; a.org 9 RRSIG A 7; a.org 9 A 192.0.2.1",
            "a.org 9 A 192.0.2.2; a.org 9 RRSIG A 7; a.org 9 A 192.0.2.1",
        ),
    ];
    for (come, sent) in rows {
        let [come, sent] = [come, sent].map(|text| format!("a.org A | NOERROR rd | {text} |  |"));
        check(&come, &sent);
    }
    // The other sections have no chain.
    let text = "a.org A | NOERROR rd | a.org 9 CNAME b.net | b.net 9 NS c.net; a.org 9 NS d.net | \
        d.net 9 A 192.0.2.1; c.net 9 A 192.0.2.2";
    check(text, text);
    // A CNAME that the question is for is data.
    for qtype in ["CNAME", "ANY"] {
        let text = format!("a.org {qtype} | NOERROR rd | a.org 9 TXT x; a.org 9 CNAME b.net |  |");
        let text = if qtype == "ANY" { text } else { text.replace("a.org 9 TXT x; ", "") };
        check(&text, &text);
    }
}

#[test]
fn a_chain_has_at_most_eleven_cnames() {
    let chain = |len: usize| {
        let cnames: Vec<_> = (0..len).map(|at| format!("n{at} 9 CNAME n{}", at + 1)).collect();
        format!("n0 A | NOERROR rd | {}; n{len} 9 A 192.0.2.1 |  |", cnames.join("; "))
    };
    check(&chain(11), &chain(11));
    let packet = message(&chain(12));
    assert_eq!(response::read(&packet, &asked(&packet)), UpstreamPacket::Malformed);
}

#[test]
fn a_response_has_the_properties_of_its_records() {
    let rows = [
        (WWW, Some(20), None, None),
        ("a A | NOERROR |  |  |", None, None, None),
        (
            "a A | NXDOMAIN |  | . 300 SOA a b 1 2 3 4 60; . 200 RRSIG SOA 4294967290; b 900 NSEC \
                c; b 900 RRSIG NSEC 5 |",
            Some(200),
            Some(60),
            // The earlier one in serial number arithmetic.
            Some(4_294_967_290),
        ),
    ];
    for (text, ttl, minimum, end) in rows {
        let response = read(&message(text));
        let found =
            (response.ttl_secs_min, response.soa_minimum_secs, response.signatures_end_unix_secs);
        assert_eq!(found, (ttl, minimum, end), "{text}");
    }
}

#[test]
fn a_copy_is_not_longer_than_the_original() {
    for text in [
        WWW,
        "a.b.example.org A | NXDOMAIN |  | example.org 9 SOA ns.example.org \
            hostmaster.b.example.org 1 2 3 4 5 |",
        "1.2.0.192.in-addr.arpa PTR | NOERROR | 1.2.0.192.in-addr.arpa 9 PTR a.example.org; \
            1.2.0.192.in-addr.arpa 9 PTR b.example.org |  |",
    ] {
        let packet = message(text);
        let copy = stamped(text.split_once(" | ").unwrap().0, &read(&packet), MESSAGE_LEN_MAX);
        assert_eq!(copy.len(), packet.len(), "{text}");
        let copy =
            stamped(text.split_once(" | ").unwrap().0, &read(&uncompressed(text)), MESSAGE_LEN_MAX);
        assert!(copy.len() < uncompressed(text).len(), "{text}");
    }
}

/// Owners are pointers even then.
#[test]
fn record_data_is_not_compressed_if_the_upstream_does_not_compress_it() {
    let text = "www.example.org A | NOERROR | www.example.org 9 CNAME t.example.org; t.example.org \
        9 A 192.0.2.7 |  |";
    let spelled = b"\x01t\x07example\x03org\x00";
    for (packet, expected) in [(uncompressed(text), 1), (message(text), 0)] {
        let copy = stamped("www.example.org A", &read(&packet), MESSAGE_LEN_MAX);
        let count = copy.windows(spelled.len()).filter(|bytes| bytes == spelled).count();
        assert_eq!(count, expected);
    }
}

#[test]
fn an_opt_shows_that_the_upstream_supports_edns() {
    // 1232 bytes, version 0. Version 1 is an OPT too.
    for opt in [*b"\0\0\x29\x04\xd0\0\0\0\0\0\0", *b"\0\0\x29\x02\x00\0\x01\0\0\0\0"] {
        for text in [WWW, "www.example.org A | SERVFAIL rd ra |  |  | "] {
            let mut packet = message(text);
            assert!(!read(&packet).has_opt, "{text}");
            packet.extend(opt);
            packet[11] += 1;
            assert!(read(&packet).has_opt, "{text}");
        }
    }
    // Of two OPTs the first counts.
    let mut packet = message("www.example.org A | NOERROR rd ra |  |  | ");
    packet.extend(*b"\0\0\x29\x04\xd0\x01\0\0\0\0\0\0\0\x29\x04\xd0\0\0\0\0\0\0");
    packet[11] += 2;
    let response = read(&packet);
    assert!(response.has_opt);
    assert_eq!(response.rcode, 16);
    // Without the question: the only record that an error may have is an OPT.
    let packet = message(WWW);
    let asked = Asked { case_must_match: false, ..asked(&packet) };
    let [high, low] = asked.id.to_be_bytes();
    for additional_count in [0, 1] {
        let bare = [high, low, 0x80, 0x05, 0, 0, 0, 0, 0, 0, 0, additional_count];
        let UpstreamPacket::Answer(response) = response::read(&bare, &asked) else {
            panic!("{bare:?}")
        };
        assert_eq!(response.has_opt, additional_count == 1);
    }
}
