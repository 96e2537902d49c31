//! Malformed and unusual packets, each with the required response. It is the same over UDP and TCP
//! and with both ways of moving datagrams.
//!
//! The rows come from a comparison of four servers; where they differ, the one that follows the RFC
//! is right.

mod rig;

use rig::query::{query, wire_name};
use rig::{BACKENDS, PATIENCE, Rig, SILENCE};

const WEB: &str = "web.default.svc.cluster.local";
const BIG: &str = "big.default.svc.cluster.local";
const BIG2: &str = "big2.default.svc.cluster.local";

/// The required response.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    Silence,
    /// 12 bytes and this rcode.
    Header(u8),
    /// The question and this rcode; no records except an OPT if the query had a valid one.
    Question(u8),
    /// The number of answers, and whether TC is set (over UDP).
    Answers(u16, bool),
    /// NOERROR with an SOA.
    NoData,
    /// The extended rcode 16, an OPT of version 0 and size 1232.
    BadVers,
}
use Expect::*;

const FORMERR: u8 = 1;
const SERVFAIL: u8 = 2;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34];
    packet.extend(flags.to_be_bytes());
    packet.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    packet
}

/// A header with these flags and counts, before the question web A IN.
fn with_header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut packet = header(flags, counts);
    packet.extend(&query(WEB, 1)[12..]);
    packet
}

/// One question with this name in wire format.
fn with_name(name: &[u8]) -> Vec<u8> {
    let mut packet = header(0x0100, [1, 0, 0, 0]);
    packet.extend(name);
    packet.extend([0, 1, 0, 1]);
    packet
}

fn with_class(name: &str, qtype: u16, class: u16) -> Vec<u8> {
    let mut packet = query(name, qtype);
    let at = packet.len() - 2;
    packet[at..].copy_from_slice(&class.to_be_bytes());
    packet
}

/// The question, then records as bytes, with the counts that they claim.
fn with_records(name: &str, counts: [u16; 3], records: &[u8]) -> Vec<u8> {
    let mut packet = query(name, 1);
    for (at, count) in [6, 8, 10].into_iter().zip(counts) {
        packet[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
    packet.extend(records);
    packet
}

fn opt(size: u16, version: u8, flags: u16, options: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 41];
    record.extend(size.to_be_bytes());
    record.extend([0, version]);
    record.extend(flags.to_be_bytes());
    record.extend((options.len() as u16).to_be_bytes());
    record.extend(options);
    record
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let mut option = code.to_be_bytes().to_vec();
    option.extend((data.len() as u16).to_be_bytes());
    option.extend(data);
    option
}

fn edns(options: &[u8]) -> Vec<u8> {
    with_records(WEB, [0, 0, 1], &opt(1232, 0, 0, options))
}

const RECORD: &[u8] = b"\x01x\0\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04";

fn questions() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let two = {
        let mut packet = with_header(0x0100, [2, 0, 0, 0]);
        packet.extend(&query(WEB, 1)[12..]);
        packet
    };
    let labels_of = |count: usize| {
        let mut name: Vec<u8> = (0..count).flat_map(|_| [1, b'a']).collect();
        name.push(0);
        name
    };
    let long_name = |last: usize| {
        let mut name = vec![];
        for len in [63, 63, 63, last] {
            name.push(len as u8);
            name.extend(vec![b'a'; len]);
        }
        name.push(0);
        name
    };
    let longest_in_zone = {
        let zone = wire_name("cluster.local");
        let mut name = vec![];
        for len in [63, 63, 63, 47] {
            name.push(len as u8);
            name.extend(vec![b'a'; len]);
        }
        name.extend(&zone);
        assert_eq!(name.len(), 255);
        name
    };
    vec![
        ("baseline A", query(WEB, 1), Answers(1, false)),
        ("0 bytes", vec![], Silence),
        ("1 byte", vec![0x12], Silence),
        ("11 bytes", header(0x0100, [1, 0, 0, 0])[..11].to_vec(), Silence),
        ("header only QD=0", header(0x0100, [0; 4]), Header(FORMERR)),
        ("header only QD=1", header(0x0100, [1, 0, 0, 0]), Header(FORMERR)),
        ("QD=0 + question bytes", with_header(0x0100, [0; 4]), Header(FORMERR)),
        ("QD=2 (2 questions)", two, Header(FORMERR)),
        ("QD=65535", with_header(0x0100, [65535, 0, 0, 0]), Header(FORMERR)),
        ("name cut mid-label", query(WEB, 1)[..16].to_vec(), Header(FORMERR)),
        ("qtype missing", query(WEB, 1)[..query(WEB, 1).len() - 4].to_vec(), Header(FORMERR)),
        ("qclass missing", query(WEB, 1)[..query(WEB, 1).len() - 2].to_vec(), Header(FORMERR)),
        ("self pointer", with_name(&[0xC0, 12]), Header(FORMERR)),
        ("forward pointer", with_name(&[0xC0, 20]), Header(FORMERR)),
        ("pointer loop 2", with_name(&[0xC0, 14, 0xC0, 12]), Header(FORMERR)),
        ("pointer into header", with_name(&[0xC0, 0]), Header(FORMERR)),
        ("label type 0x40", with_name(&[0x41, b'a', 0]), Header(FORMERR)),
        ("label type 0x80", with_name(&[0x81, b'a', 0]), Header(FORMERR)),
        ("name 255 ok, out of zone", with_name(&long_name(61)), Question(REFUSED)),
        ("name 256+", with_name(&long_name(62)), Header(FORMERR)),
        ("name 255 in zone", with_name(&longest_in_zone), Question(3)),
        ("128 labels", with_name(&labels_of(128)), Header(FORMERR)),
    ]
}

fn headers_and_types() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let opcode = |opcode: u16| with_header(0x0100 | opcode << 11, [1, 0, 0, 0]);
    let behind = |len: usize| [query(WEB, 1), vec![0xAB; len]].concat();
    vec![
        ("trailing garbage 1B", behind(1), Answers(1, false)),
        ("trailing garbage 100B", behind(100), Answers(1, false)),
        ("AN=1 RR in query", with_records(WEB, [1, 0, 0], RECORD), Answers(1, false)),
        ("NS=1 RR in query", with_records(WEB, [0, 1, 0], RECORD), Answers(1, false)),
        ("AR=1 non-OPT RR", with_records(WEB, [0, 0, 1], RECORD), Answers(1, false)),
        ("AN=2", with_records(WEB, [2, 0, 0], &[RECORD, RECORD].concat()), Header(FORMERR)),
        ("NS=2", with_records(WEB, [0, 2, 0], &[RECORD, RECORD].concat()), Header(FORMERR)),
        ("AR=3", with_records(WEB, [0, 0, 3], &RECORD.repeat(3)), Header(FORMERR)),
        ("AR=1 but absent", with_records(WEB, [0, 0, 1], b""), Question(FORMERR)),
        ("QR=1", with_header(0x8100, [1, 0, 0, 0]), Silence),
        ("QR=1 malformed", header(0x8100, [7, 0, 0, 0]), Silence),
        ("opcode 1 IQUERY", opcode(1), Header(NOTIMP)),
        ("opcode 2 STATUS", opcode(2), Header(NOTIMP)),
        ("opcode 4 NOTIFY", opcode(4), Header(NOTIMP)),
        ("opcode 5 UPDATE", opcode(5), Header(NOTIMP)),
        ("opcode 6 DSO", opcode(6), Header(NOTIMP)),
        ("opcode 15", opcode(15), Header(NOTIMP)),
        ("TC=1 in query", with_header(0x0300, [1, 0, 0, 0]), Answers(1, false)),
        ("AA=1 Z=1", with_header(0x0540, [1, 0, 0, 0]), Answers(1, false)),
        ("RCODE=5 in query", with_header(0x0105, [1, 0, 0, 0]), Answers(1, false)),
        ("CD+AD", with_header(0x0130, [1, 0, 0, 0]), Answers(1, false)),
        ("class CH version.bind TXT", with_class("version.bind", 16, 3), Question(REFUSED)),
        ("class CH in-zone", with_class(WEB, 1, 3), Question(REFUSED)),
        ("class ANY", with_class(WEB, 1, 255), Question(REFUSED)),
        ("class NONE", with_class(WEB, 1, 254), Question(REFUSED)),
        ("class 0", with_class(WEB, 1, 0), Question(REFUSED)),
        ("qtype 0", query(WEB, 0), NoData),
        ("qtype OPT(41)", query(WEB, 41), NoData),
        ("qtype ANY", query(WEB, 255), NoData),
        ("qtype MAILA(254)", query(WEB, 254), NoData),
        ("qtype TSIG(250)", query(WEB, 250), NoData),
        ("qtype 65280", query(WEB, 65280), NoData),
        ("AXFR", query("cluster.local", 252), Question(REFUSED)),
        ("IXFR no SOA", query("cluster.local", 251), Question(REFUSED)),
        ("out of zone", query("www.example.org", 1), Question(REFUSED)),
        ("end of the chain", query("9.9.9.9.in-addr.arpa", 12), Question(SERVFAIL)),
        ("0x20 mixed", query("WeB.dEfAuLt.SvC.cLuStEr.LoCaL", 1), Answers(1, false)),
        ("no EDNS big", query(BIG, 1), Answers(29, true)),
    ]
}

fn options() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let sized = |name: &str, size: u16| with_records(name, [0, 0, 1], &opt(size, 0, 0, b""));
    let raw_opt = |record: &[u8]| with_records(WEB, [0, 0, 1], record);
    let sound = opt(1232, 0, 0, b"");
    let named = [b"\x01x".to_vec(), sound.clone()].concat();
    let overlong = {
        let mut record = opt(1232, 0, 0, &option(10, &[0; 8]));
        record[10] += 9;
        record
    };
    vec![
        ("EDNS0", edns(b""), Answers(1, false)),
        ("EDNS size 0 big", sized(BIG, 0), Answers(28, true)),
        ("EDNS size 511 big", sized(BIG, 511), Answers(28, true)),
        ("EDNS size 1232 big(1k)", sized(BIG, 1232), Answers(60, false)),
        ("EDNS size 4096 big2(1.5k)", sized(BIG2, 4096), Answers(73, true)),
        ("EDNS size 65535 big2", sized(BIG2, 65535), Answers(73, true)),
        ("EDNS ver 1", raw_opt(&opt(1232, 1, 0, b"")), BadVers),
        ("EDNS ver 255", raw_opt(&opt(1232, 255, 0, b"")), BadVers),
        ("EDNS DO", raw_opt(&opt(1232, 0, 0x8000, b"")), Answers(1, false)),
        ("EDNS Z flags 0x7fff", raw_opt(&opt(1232, 0, 0x7FFF, b"")), Answers(1, false)),
        ("2 OPT", with_records(WEB, [0, 0, 2], &sound.repeat(2)), Question(FORMERR)),
        ("OPT name != root", raw_opt(&named), Question(FORMERR)),
        ("OPT rdlen > data", raw_opt(&overlong), Question(FORMERR)),
        ("OPT option len > rdlen", edns(&[0, 10, 0, 9, 1, 2]), Question(FORMERR)),
        ("OPT 3-byte option hdr", edns(&[0, 10, 0]), Question(FORMERR)),
        ("OPT in answer sect", with_records(WEB, [1, 0, 0], &sound), Question(FORMERR)),
        ("OPT in authority sect", with_records(WEB, [0, 1, 0], &sound), Question(FORMERR)),
        ("unknown option 65001", edns(&option(65001, &[1, 2, 3])), Answers(1, false)),
        ("NSID", edns(&option(3, b"")), Answers(1, false)),
        ("cookie client 8B", edns(&option(10, &[7; 8])), Answers(1, false)),
        ("cookie 7B (bad)", edns(&option(10, &[7; 7])), Answers(1, false)),
        ("cookie 41B (bad)", edns(&option(10, &[7; 41])), Answers(1, false)),
        ("cookie 24B wrong srv", edns(&option(10, &[7; 24])), Answers(1, false)),
        (
            "cookie QD=0",
            [header(0x0100, [0, 0, 0, 1]), opt(1232, 0, 0, &option(10, &[7; 8]))].concat(),
            Header(FORMERR),
        ),
        ("padding 100", edns(&option(12, &[0; 100])), Answers(1, false)),
        ("ECS v4/24", edns(&option(8, &[0, 1, 24, 0, 10, 1, 2])), Answers(1, false)),
        ("ECS bad family", edns(&option(8, &[0, 9, 24, 0, 10, 1, 2])), Question(FORMERR)),
        ("ECS short", edns(&option(8, &[0, 1])), Question(FORMERR)),
        ("keepalive", edns(&option(11, b"")), Answers(1, false)),
        ("500 options", edns(&option(65001, b"").repeat(250)), Answers(1, false)),
    ]
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn check(row: &str, packet: &[u8], expected: Expect, answer: Option<Vec<u8>>, is_tcp: bool) {
    let Some(answer) = answer else {
        assert_eq!(expected, Silence, "{row}: nothing came back");
        return;
    };
    assert_ne!(expected, Silence, "{row}: {answer:x?}");
    let flags = word(&answer, 2);
    let [questions, answers, authorities, additionals] = [4, 6, 8, 10].map(|at| word(&answer, at));
    let rcode = (flags & 0xF) as u8;
    assert_eq!(answer[..2], packet[..2], "{row}: id");
    assert_eq!(flags & 0x8000, 0x8000, "{row}: QR");
    // RD and CD are returned; AD, Z and RA never are.
    let kept = word(packet, 2) & 0x0110;
    assert_eq!(flags & 0x01F0, kept, "{row}: flags {flags:x}");
    let opt_at = answer.windows(3).rposition(|bytes| bytes == [0, 0, 41]);
    if let Some(at) = opt_at.filter(|_| additionals > 0) {
        assert_eq!(word(&answer, at + 3), 1232, "{row}: the size we announce");
        assert_eq!(word(&answer, at + 7) & 0x7FFF, 0, "{row}: Z bits stay clear");
        assert_eq!(word(&answer, at + 9), 0, "{row}: no option is echoed");
    }
    match expected {
        Silence => unreachable!("handled above"),
        Header(code) => assert_eq!((rcode, answer.len()), (code, 12), "{row}"),
        Question(code) => {
            assert_eq!((rcode, questions, answers), (code, 1, 0), "{row}");
            let question_len = answer.len().min(packet.len());
            if code != 3 {
                assert!(answer.len() <= packet.len(), "{row}: an error is no amplifier");
                assert_eq!(answer[12..question_len], packet[12..question_len], "{row}: question");
            }
        }
        Answers(count, cut) => {
            let (count, cut) = match (is_tcp, cut) {
                (true, true) if count == 73 => (95, false),
                (true, true) => (60, false),
                _ => (count, cut),
            };
            assert_eq!((rcode, answers), (0, count), "{row}");
            assert_eq!(flags & 0x0200 != 0, cut, "{row}: TC");
            assert_eq!(flags & 0x0400, 0x0400, "{row}: AA");
        }
        NoData => assert_eq!((rcode, answers, authorities), (0, 0, 1), "{row}"),
        BadVers => {
            let at = opt_at.unwrap_or_else(|| panic!("{row}: no OPT"));
            let extended = u16::from(answer[at + 5]) << 4 | u16::from(rcode);
            assert_eq!((extended, answer[at + 6]), (16, 0), "{row}");
        }
    }
}

#[test]
fn every_row_over_udp_and_tcp() {
    let rows = [questions(), headers_and_types(), options()].concat();
    for backend in BACKENDS {
        let rig = Rig::start(backend);
        for (row, packet, expected) in &rows {
            let patience = if *expected == Silence { SILENCE } else { PATIENCE };
            check(row, packet, *expected, rig.ask_udp(packet, patience), false);
            check(row, packet, *expected, rig.ask_tcp(packet, patience), true);
        }
        // A datagram longer than a receive buffer is not processed as if it were complete; over TCP
        // it is complete.
        let long = [query(WEB, 1), vec![0xAB; 60_000]].concat();
        check("60 kB query", &long, Header(FORMERR), rig.ask_udp(&long, PATIENCE), false);
        check("60 kB query", &long, Answers(1, false), rig.ask_tcp(&long, PATIENCE), true);
        let after = rig.ask_udp(&query(WEB, 1), PATIENCE);
        check("alive", &query(WEB, 1), Answers(1, false), after, false);
        rig.fleet.stop(PATIENCE);
    }
}
