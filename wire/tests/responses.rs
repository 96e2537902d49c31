//! Upstreams' packets: which are answers, what of them is kept, and how it is sent on.

mod upstream;

use domain::base::MessageBuilder;
use domain::base::iana::Rcode;
use upstream::{asked, message, query, read, shown, stamped, uncompressed};
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::kubernetes::PodMode;
use wire::name::Name;
use wire::reply::{Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, Alias, Asked, Kind, TtlRule, UpstreamPacket};
use wire::table::{EVERY_TYPE, Found};

const WWW: &str = "www.example.org A | NOERROR rd ra \
    | www.example.org 60 CNAME web.example.org; web.example.org 20 A 192.0.2.1; web.example.org 20 A 192.0.2.2 \
    | example.org 600 NS ns1.example.org \
    | ns1.example.org 900 A 192.0.2.53; ns1.example.org 900 AAAA 2001:db8::53";

#[test]
fn an_answer_is_to_the_question() {
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
fn an_error_may_come_without_the_question() {
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

/// `text` as an upstream sends it, compressed and not, comes to `expected` for the client.
fn check(text: &str, expected: &str) {
    let question = text.split_once('|').unwrap().0;
    for packet in [message(text), uncompressed(text)] {
        let response = read(&packet);
        assert_eq!(shown(&stamped(question, &response, MESSAGE_LEN_MAX)), expected, "{text}");
    }
}

#[test]
fn whole_answers_pass() {
    const SOA: &str = "example.org 300 SOA ns.example.org hostmaster.example.org 1 2 3 4 60";
    for (text, kind) in [
        (WWW.to_owned(), Kind::Success),
        // No data: of the name, of a CNAME's target, without an SOA, with nothing at all.
        (format!("a.example.org A | NOERROR rd |  | {SOA} |"), Kind::NoData),
        (format!("a.example.org A | NOERROR rd | a.example.org 1 CNAME b.example.org | {SOA} |"), Kind::NoData),
        ("a.example.org A | NOERROR rd | a.example.org 1 CNAME b.example.org |  |".to_owned(), Kind::NoData),
        ("a.example.org A | NOERROR rd |  |  |".to_owned(), Kind::NoData),
        (format!("a.example.org A | NXDOMAIN aa rd ra |  | {SOA} |"), Kind::NxDomain),
        (format!("a.example.org A | NXDOMAIN rd | a.example.org 1 CNAME b.example.org | {SOA} |"), Kind::NxDomain),
        ("a.example.org A | NXDOMAIN rd |  |  |".to_owned(), Kind::NxDomain),
        ("a.example.org A | NOERROR rd |  | example.org 9 NS ns.example.net | ns.example.net 9 A 192.0.2.1".to_owned(), Kind::Delegation),
        ("a.example.org A | SERVFAIL rd |  |  |".to_owned(), Kind::Failure),
        ("a.example.org A | NOTAUTH rd |  |  |".to_owned(), Kind::Failure),
        // A CNAME that was asked for is data, and is not followed.
        ("a.example.org CNAME | NOERROR rd | a.example.org 1 CNAME b.example.org |  |".to_owned(), Kind::Success),
        // A DNAME with the CNAME made from it (RFC 6672).
        ("a.b.example.org A | NOERROR rd | b.example.org 9 DNAME c.example.net; a.b.example.org 9 CNAME a.c.example.net; a.c.example.net 9 A 192.0.2.1 |  |".to_owned(), Kind::Success),
        // Signatures go with what they sign.
        ("example.org A | NOERROR rd | example.org 9 A 192.0.2.1; example.org 9 RRSIG A 1000 | example.org 9 NS ns.example.net; example.org 9 RRSIG NS 900 | ns.example.net 9 A 192.0.2.1; ns.example.net 9 RRSIG A 1100".to_owned(), Kind::Success),
        // Proofs of absence belong to other names.
        (format!("b.example.org A | NXDOMAIN rd |  | {SOA}; a.example.org 9 NSEC z.example.org; a.example.org 9 RRSIG NSEC 900 |"), Kind::NxDomain),
        // Every type that names something, and what it names.
        ("example.org MX | NOERROR rd | example.org 9 MX 10 mail.example.org |  | mail.example.org 9 A 192.0.2.1".to_owned(), Kind::Success),
        ("_a._tcp.example.org SRV | NOERROR rd | _a._tcp.example.org 9 SRV 1 2 3 a.example.org; _a._tcp.example.org 9 SRV 1 2 3 b.example.org |  | b.example.org 9 A 192.0.2.1; a.example.org 9 AAAA 2001:db8::1".to_owned(), Kind::Success),
        ("example.org HTTPS | NOERROR rd | example.org 9 HTTPS 1 a.example.org |  | a.example.org 9 A 192.0.2.1".to_owned(), Kind::Success),
        ("1.2.0.192.in-addr.arpa PTR | NOERROR rd | 1.2.0.192.in-addr.arpa 9 PTR A.Example.org |  |".to_owned(), Kind::Success),
        ("example.org TXT | NOERROR rd | example.org 9 TXT abc |  |".to_owned(), Kind::Success),
        (". NS | NOERROR rd | . 9 NS a.root-servers.net |  | a.root-servers.net 9 A 192.0.2.1".to_owned(), Kind::Success),
    ] {
        check(&text, &text);
        assert_eq!(read(&message(&text)).kind, kind, "{text}");
    }
}

#[test]
fn what_was_not_asked_for_is_dropped() {
    let rows = [
        // Answers of other names; a chain that is not connected; the target's data where CNAMEs are not followed.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1; www.bank.example 9 A 192.0.2.66; example.org 9 A 192.0.2.66 |  |",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 |  |",
        ),
        (
            "a.example.org A | NOERROR rd | b.example.org 9 CNAME c.example.org; c.example.org 9 A 192.0.2.66 |  |",
            "a.example.org A | NOERROR rd |  |  |",
        ),
        (
            "a.example.org CNAME | NOERROR rd | a.example.org 9 CNAME b.example.org; b.example.org 9 A 192.0.2.66 |  |",
            "a.example.org CNAME | NOERROR rd | a.example.org 9 CNAME b.example.org |  |",
        ),
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1; example.net 9 DNAME example.com; a.example.net 9 RRSIG A 5 |  |",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 |  |",
        ),
        // CNAMEs in a circle lead nowhere.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 CNAME b.example.org; b.example.org 9 CNAME a.example.org; c.example.org 9 A 192.0.2.66 |  |",
            "a.example.org A | NOERROR rd | a.example.org 9 CNAME b.example.org; b.example.org 9 CNAME a.example.org |  |",
        ),
        // Name servers of zones that the name is not in, and of names below it.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | org 9 NS ns.example.net; bank.example 9 NS ns.example.net; x.a.example.org 9 NS ns.example.net; ample.org 9 NS ns.example.net |",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | org 9 NS ns.example.net |",
        ),
        // Additional records that nothing named, or that only a dropped record named.
        (
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | bank.example 9 NS ns.bank.example; org 9 NS ns.example.net | ns.bank.example 9 A 192.0.2.66; www.bank.example 9 A 192.0.2.66; ns.example.net 9 A 192.0.2.2",
            "a.example.org A | NOERROR rd | a.example.org 9 A 192.0.2.1 | org 9 NS ns.example.net | ns.example.net 9 A 192.0.2.2",
        ),
    ];
    for (text, expected) in rows {
        check(text, expected);
    }
}

#[test]
fn ttls_with_the_top_bit_set_are_the_longest() {
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
fn a_chain_comes_before_what_it_leads_to() {
    // The records of an answer section as they come, and as they are sent on.
    let rows = [
        (
            "b.net 9 A 192.0.2.1; a.org 9 CNAME b.net; b.net 9 A 192.0.2.2",
            "a.org 9 CNAME b.net; b.net 9 A 192.0.2.1; b.net 9 A 192.0.2.2",
        ),
        (
            "c.net 9 A 192.0.2.1; b.net 9 CNAME c.net; a.org 9 CNAME b.net",
            "a.org 9 CNAME b.net; b.net 9 CNAME c.net; c.net 9 A 192.0.2.1",
        ),
        // Nothing at the end.
        (
            "c.net 9 CNAME d.net; b.net 9 CNAME c.net; a.org 9 CNAME b.net",
            "a.org 9 CNAME b.net; b.net 9 CNAME c.net; c.net 9 CNAME d.net",
        ),
        // Signatures stay with what they sign.
        (
            "b.net 9 A 192.0.2.1; b.net 9 RRSIG A 7; a.org 9 RRSIG CNAME 8; a.org 9 CNAME b.net",
            "a.org 9 CNAME b.net; a.org 9 RRSIG CNAME 8; b.net 9 A 192.0.2.1; b.net 9 RRSIG A 7",
        ),
        // A DNAME comes before the CNAME that is made from it, further down the chain, too.
        (
            "a.c.net 9 A 192.0.2.1; a.org 9 CNAME a.c.net; org 9 RRSIG DNAME 7; org 9 DNAME c.net",
            "org 9 DNAME c.net; org 9 RRSIG DNAME 7; a.org 9 CNAME a.c.net; a.c.net 9 A 192.0.2.1",
        ),
        (
            "x.d.net 9 A 192.0.2.1; b.net 9 DNAME d.net; x.b.net 9 CNAME x.d.net; a.org 9 CNAME x.b.net",
            "a.org 9 CNAME x.b.net; b.net 9 DNAME d.net; x.b.net 9 CNAME x.d.net; x.d.net 9 A 192.0.2.1",
        ),
        // Of two CNAMEs of one name the first leads on (RFC 2181, section 10.1, allows one); in a circle, the first round counts.
        (
            "c.net 9 A 192.0.2.1; a.org 9 CNAME c.net; a.org 9 CNAME b.net; b.net 9 A 192.0.2.2",
            "a.org 9 CNAME c.net; c.net 9 A 192.0.2.1; a.org 9 CNAME b.net",
        ),
        ("b.net 9 CNAME a.org; a.org 9 CNAME b.net", "a.org 9 CNAME b.net; b.net 9 CNAME a.org"),
        // Without a chain nothing moves.
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
    let text = "a.org A | NOERROR rd | a.org 9 CNAME b.net | b.net 9 NS c.net; a.org 9 NS d.net | d.net 9 A 192.0.2.1; c.net 9 A 192.0.2.2";
    check(text, text);
    // A CNAME that is asked for is data.
    for qtype in ["CNAME", "ANY"] {
        let text = format!("a.org {qtype} | NOERROR rd | a.org 9 TXT x; a.org 9 CNAME b.net |  |");
        let text = if qtype == "ANY" { text } else { text.replace("a.org 9 TXT x; ", "") };
        check(&text, &text);
    }
}

#[test]
fn a_chain_has_eleven_cnames_at_most() {
    let chain = |len: usize| {
        let cnames: Vec<_> = (0..len).map(|at| format!("n{at} 9 CNAME n{}", at + 1)).collect();
        format!("n0 A | NOERROR rd | {}; n{len} 9 A 192.0.2.1 |  |", cnames.join("; "))
    };
    check(&chain(11), &chain(11));
    let packet = message(&chain(12));
    assert_eq!(response::read(&packet, &asked(&packet)), UpstreamPacket::Malformed);
}

#[test]
fn the_whole_speaks_for_its_records() {
    let rows = [
        (WWW, Some(20), None, None),
        ("a A | NOERROR |  |  |", None, None, None),
        (
            "a A | NXDOMAIN |  | . 300 SOA a b 1 2 3 4 60; . 200 RRSIG SOA 4294967290; b 900 NSEC c; b 900 RRSIG NSEC 5 |",
            Some(200),
            Some(60),
            // The end nearest in the circle of serial numbers.
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
fn a_copy_is_no_longer_than_the_original() {
    for text in [
        WWW,
        "a.b.example.org A | NXDOMAIN |  | example.org 9 SOA ns.example.org hostmaster.b.example.org 1 2 3 4 5 |",
        "1.2.0.192.in-addr.arpa PTR | NOERROR | 1.2.0.192.in-addr.arpa 9 PTR a.example.org; 1.2.0.192.in-addr.arpa 9 PTR b.example.org |  |",
    ] {
        let packet = message(text);
        let copy = stamped(text.split_once(" | ").unwrap().0, &read(&packet), MESSAGE_LEN_MAX);
        assert_eq!(copy.len(), packet.len(), "{text}");
        let copy =
            stamped(text.split_once(" | ").unwrap().0, &read(&uncompressed(text)), MESSAGE_LEN_MAX);
        assert!(copy.len() < uncompressed(text).len(), "{text}");
    }
}

/// Owners are pointers all the same.
#[test]
fn record_data_is_spelt_out_where_the_upstream_spells_it_out() {
    let text = "www.example.org A | NOERROR | www.example.org 9 CNAME t.example.org; t.example.org 9 A 192.0.2.7 |  |";
    let spelt = b"\x01t\x07example\x03org\x00";
    for (packet, expected) in [(uncompressed(text), 1), (message(text), 0)] {
        let copy = stamped("www.example.org A", &read(&packet), MESSAGE_LEN_MAX);
        let count = copy.windows(spelt.len()).filter(|bytes| bytes == spelt).count();
        assert_eq!(count, expected);
    }
}

/// The answer to `query` (see `upstream::query`) out of WWW with these flags.
fn check_flags(query: &str, flags: &str, expected: &str) {
    let response = read(&message(&WWW.replace("rd ra", flags)));
    let answer = shown(&stamped(query, &response, MESSAGE_LEN_MAX));
    assert_eq!(answer.split(" | ").nth(1), Some(expected), "{query}, {flags}");
}

#[test]
fn flags() {
    check_flags("www.example.org A", "", "NOERROR rd");
    check_flags("www.example.org A", "aa ra", "NOERROR aa rd ra");
    check_flags("www.example.org A", "tc", "NOERROR tc rd");
    check_flags("www.example.org A", "ad", "NOERROR rd");
    check_flags("www.example.org A ad", "ad", "NOERROR rd ad");
    check_flags("www.example.org A do", "ad", "NOERROR rd ad");
    check_flags("www.example.org A do ad", "", "NOERROR rd");
    check_flags("www.example.org A cd", "ra", "NOERROR rd ra");
    let (packet, _) = query("wWw.example.org A cd do");
    let answer = stamped("wWw.example.org A cd do", &read(&message(WWW)), MESSAGE_LEN_MAX);
    assert_eq!(answer[3] & 0x10, 0x10, "CD is repeated");
    assert_eq!(answer[..2], packet[..2], "so is the id");
    assert_eq!(answer[12..33], packet[12..33], "and the question as it was spelt");
    assert_eq!(answer[answer.len() - 11..], *b"\0\0\x29\x04\xd0\0\0\x80\0\0\0", "DO comes back");
    assert!(shown(&answer).contains("| wWw.example.org 60 CNAME web.example.org;"));
}

#[test]
fn an_opt_shows_that_the_upstream_knows_edns() {
    // 1232 bytes, version 0; of version 1 it is an OPT, too.
    for opt in [*b"\0\0\x29\x04\xd0\0\0\0\0\0\0", *b"\0\0\x29\x02\x00\0\x01\0\0\0\0"] {
        for text in [WWW, "www.example.org A | SERVFAIL rd ra |  |  | "] {
            let mut packet = message(text);
            assert!(!read(&packet).has_opt, "{text}");
            packet.extend(opt);
            packet[11] += 1;
            assert!(read(&packet).has_opt, "{text}");
        }
    }
    // Without the question: the one record of an error may be nothing else.
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

/// An answer to `query` out of WWW.
fn stamped_by(query: &str, ttl: TtlRule, alias: Option<Alias<'_>>, envelope: Envelope) -> Vec<u8> {
    let (mut packet, query) = self::query(query);
    packet.resize(envelope.len_max.max(packet.len()), 0);
    let response = read(&message(WWW));
    let stamped = response::stamp(&query, &response, ttl, alias, None, envelope, &mut packet);
    packet.truncate(stamped.len);
    packet
}

const WIDE: Envelope = Envelope { len_max: MESSAGE_LEN_MAX, rotation: 0 };

#[test]
fn ttls_age_within_bounds() {
    let aged = |age_secs, secs_min, secs_max| TtlRule::Aged { age_secs, secs_min, secs_max };
    // Of the CNAME, the addresses, the name server and its addresses.
    let rows = [
        (TtlRule::AS_SENT, [60, 20, 600, 900]),
        (aged(19, 0, u32::MAX), [41, 1, 581, 881]),
        (aged(30, 0, u32::MAX), [30, 0, 570, 870]),
        (aged(0, 30, 500), [60, 30, 500, 500]),
        (aged(25, 30, 500), [35, 5, 475, 475]),
        (TtlRule::Fixed { secs: 0 }, [0; 4]),
        (TtlRule::Fixed { secs: 30 }, [30; 4]),
    ];
    for (rule, [cname, address, ns, glue]) in rows {
        let expected = WWW
            .replace(" 600 ", &format!(" {ns} "))
            .replace(" 900 ", &format!(" {glue} "))
            .replace(" 60 ", &format!(" {cname} "))
            .replace(" 20 ", &format!(" {address} "));
        assert_eq!(shown(&stamped_by("www.example.org A", rule, None, WIDE)), expected, "{rule:?}");
    }
}

#[test]
fn addresses_rotate_and_nothing_else() {
    for (rotation, is_turned) in [(0, false), (1, true), (2, false), (7, true)] {
        let envelope = Envelope { rotation, ..WIDE };
        let answer = shown(&stamped_by("www.example.org A", TtlRule::AS_SENT, None, envelope));
        let turned = WWW.replace("192.0.2.1", "X").replace("192.0.2.2", "192.0.2.1");
        let expected = if is_turned { turned.replace('X', "192.0.2.2") } else { WWW.to_owned() };
        assert_eq!(answer, expected, "rotated by {rotation}");
    }
}

/// An ExternalName Service that leads to `www.example.org` by another one.
fn with_alias<T>(use_alias: impl FnOnce(Alias<'_>) -> T) -> T {
    let wire_name = |text: &str| upstream::name(text).as_slice().to_vec();
    let zones = vec![wire_name("cluster.local")];
    let options = TableOptions::kubernetes(zones, PodMode::Disabled, 5);
    let mut builder = TableBuilder::new(options, HashSeed::new(1));
    let mut writer = EntryWriter::new();
    let [first, second] = ["ext.default.svc.cluster.local", "web.svc.cluster.local"].map(wire_name);
    writer.begin(&first);
    writer.answer(EVERY_TYPE);
    writer.record(Section::Answer, &first, 5, 5, &second);
    writer.record(Section::Answer, &second, 5, 5, &wire_name("www.example.org"));
    builder.insert(writer.finish());
    let table = builder.publish(1);
    let mut name = Name::default();
    name.read(&first).unwrap();
    let Found::Alias(answer) = table.look_up(&name, 1) else { panic!("not in the table") };
    use_alias(Alias { answer })
}

#[test]
fn an_alias_comes_first() {
    let (_, records) = WWW.split_once("ra | ").unwrap();
    let expected = format!(
        "ext.default.SVC.cluster.local A | NOERROR aa rd ra | ext.default.SVC.cluster.local 5 CNAME web.svc.cluster.local; \
         web.svc.cluster.local 5 CNAME www.example.org; {records}"
    );
    with_alias(|alias| {
        let query = "ext.default.SVC.cluster.local A ad";
        let answer = stamped_by(query, TtlRule::AS_SENT, Some(alias), WIDE);
        assert_eq!(shown(&answer), expected);
        let rotated = Envelope { rotation: 1, ..WIDE };
        let answer = shown(&stamped_by(query, TtlRule::AS_SENT, Some(alias), rotated));
        let places = ["192.0.2.2", "192.0.2.1"].map(|address| answer.find(address));
        assert!(places[0] < places[1], "{answer}");
    });
}

#[test]
fn cut_between_records_at_any_length() {
    with_alias(|alias| {
        for (query, alias, rotation) in [
            ("www.example.org A", None, 0),
            ("www.example.org A do", None, 1),
            ("ext.default.svc.cluster.local A", Some(alias), 0),
        ] {
            let answer = |len_max| {
                let envelope = Envelope { len_max, rotation };
                stamped_by(query, TtlRule::AS_SENT, alias, envelope)
            };
            let whole_len = answer(MESSAGE_LEN_MAX).len();
            let whole = shown(&answer(whole_len));
            assert!(!whole.contains(" tc "));
            for len_max in 61..whole_len {
                let cut = answer(len_max);
                assert!(cut.len() <= len_max);
                let cut = shown(&cut);
                assert!(cut.contains(" tc "), "{len_max}: {cut}");
                // What is left is where the whole answer begins.
                let records = |text: &str| {
                    let sections = text.splitn(3, " | ").last().unwrap_or_default().to_owned();
                    sections.replace(" | ", "; ").replace(" |", "")
                };
                let (cut, whole) = (records(&cut), records(&whole));
                let cut = cut.trim_end_matches("; ").trim_end_matches(';').trim();
                assert!(whole.starts_with(cut), "{len_max}: {cut}, not a part of {whole}");
            }
        }
    });
}
