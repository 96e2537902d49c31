//! A response that is cut later equals one stamped with the shorter limit; other bytes do no harm.

mod upstream;

use domain::base::Message;
use domain::base::iana::OptionCode;
use domain::base::opt::UnknownOptData;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use upstream::{message, name, query, read, shown};
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::edit::{self, EdnsOption, OPTION_EDE, OPTION_NSID};
use wire::hash::HashSeed;
use wire::header::{TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_SRV};
use wire::name::Name;
use wire::pod::PodMode;
use wire::query::Query;
use wire::reply::{self, End, Envelope, Stamped};
use wire::response::{self, Alias, TtlRule};
use wire::table::{EVERY_TYPE, Found, Table};

const LEN_MIN: usize = 512;
const LEN_MAX: usize = 1232;

/// Compares the response stamped with each limit to the longest one, cut to that limit.
fn check(asked: &str, stamp: impl Fn(&Query, Envelope, &mut [u8]) -> Stamped) {
    check_some(asked, LEN_MIN..=LEN_MAX, stamp);
}

fn check_some(
    asked: &str,
    lens: impl IntoIterator<Item = usize> + Clone,
    stamp: impl Fn(&Query, Envelope, &mut [u8]) -> Stamped,
) {
    let (packet, query) = query(asked);
    let stamped = |len_max: usize, rotation: usize| {
        let mut out = packet.clone();
        out.resize(2 * LEN_MAX, 0);
        let stamped = stamp(&query, Envelope { len_max, rotation }, &mut out);
        out.truncate(stamped.len);
        out
    };
    for rotation in [0, 3] {
        let whole = stamped(LEN_MAX, rotation);
        for len_max in lens.clone() {
            let mut cut = whole.clone();
            let len = edit::cut_to(&mut cut, len_max);
            cut.truncate(len);
            assert!(len <= len_max, "{asked}: {len} bytes in {len_max}");
            let expected = stamped(len_max, rotation);
            if cut != expected {
                assert_eq!(shown(&cut), shown(&expected), "{asked} in {len_max}");
            }
            assert_eq!(cut, expected, "{asked} in {len_max}");
        }
    }
}

fn wire_name(text: &str) -> Vec<u8> {
    name(text).as_slice().to_vec()
}

/// `LABEL.ns.svc.z`.
fn service(label: &str) -> Vec<u8> {
    wire_name(&format!("{label}.ns.svc.z"))
}

/// A name of 192 bytes.
fn long_label_name() -> String {
    ["x", "y", "z"].map(|label| label.repeat(63)).join(".")
}

/// Names whose answers do not fit 1232 bytes, and aliases of them and of names that are absent.
fn table() -> std::sync::Arc<Table> {
    let zones = vec![wire_name("z"), wire_name(&long_label_name())];
    let options = TableOptions::kubernetes(zones, PodMode::Insecure, 5);
    let mut builder = TableBuilder::new(options, HashSeed::new(1));
    let mut writer = EntryWriter::new();
    let many = service("many");
    writer.begin(&many);
    writer.answer(TYPE_A);
    for host in 0..90 {
        writer.record(Section::Answer, &many, TYPE_A, 5, &[10, 0, 0, host]);
    }
    writer.answer(TYPE_SRV);
    let target = |host: u8| service(&format!("host-{host}.many"));
    for host in 0..20 {
        let rdata = [&[0, 0, 0, 50, 0, 80], target(host).as_slice()].concat();
        writer.record(Section::Answer, &many, TYPE_SRV, 5, &rdata);
    }
    for host in 0..20 {
        writer.record(Section::Additional, &target(host), TYPE_A, 5, &[10, 0, 0, host]);
        writer.record(Section::Additional, &target(host), TYPE_AAAA, 5, &[host; 16]);
    }
    builder.insert(writer.finish());
    let long = long_label_name();
    for (alias, target) in [
        ("to-many", service("many")),
        ("to-nothing", service("nothing")),
        ("to-pod", wire_name("1-2-3-4.ns.pod.z")),
        ("to-long-nothing", service(&long)),
        (&long, service(&long.replace('x', "v"))),
    ] {
        let owner = service(alias);
        writer.begin(&owner);
        writer.answer(EVERY_TYPE);
        writer.record(Section::Answer, &owner, TYPE_CNAME, 5, &target);
        builder.insert(writer.finish());
    }
    for namespace in ["ns.svc.z", "ns.pod.z", &format!("ns.pod.{long}")] {
        writer.begin(&wire_name(namespace));
        builder.insert(writer.finish());
    }
    builder.set_synced();
    builder.publish(1)
}

#[test]
fn answers_of_a_table_are_cut_as_they_are_stamped() {
    let table = table();
    let long = long_label_name();
    // Its SRV record fits 512 bytes, and the address after it does not.
    let long_pod = format!("{}.fd00--1.ns.pod.{long}", "p".repeat(40));
    for text in [
        "many.ns.svc.z A",
        "many.ns.svc.z A 1232",
        "MANY.ns.svc.z A 1232",
        "many.ns.svc.z SRV",
        "many.ns.svc.z SRV 4096 do",
        "many.ns.svc.z AAAA 1232",
        "to-many.ns.svc.z A 1232",
        "to-many.ns.svc.z SRV 1232",
        "to-nothing.ns.svc.z A 1232",
        "to-pod.ns.svc.z SRV",
        &format!("{long_pod} SRV"),
        &format!("{long_pod} SRV 1232"),
        &format!("{long}.ns.svc.z A"),
        &format!("{long}.ns.svc.z A 1232"),
        "to-long-nothing.ns.svc.z A 1232",
        "other.example A 1232",
    ] {
        check(text, |query, envelope, out| {
            let name = Name::from_wire(&out[12..]).unwrap();
            match table.look_up(&name, query.qtype) {
                Found::Alias(cnames) => {
                    let target = Name::from_wire(cnames.target()).unwrap();
                    let found = table.look_up(&target, query.qtype);
                    let end =
                        End { cnames: Some(cnames), then: None, found: Some((&table, found)) };
                    reply::stamp_end(query, &end, envelope, out)
                }
                found => reply::stamp(query, &table, &found, envelope, out),
            }
        });
    }
}

/// Records as `upstream::message` reads them.
fn records(rows: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec((select(rows), 1..9_999u32), 0..30).prop_map(|rows| {
        let mut rows: Vec<String> =
            rows.into_iter().map(|(row, number)| row.replace('#', &number.to_string())).collect();
        rows.dedup();
        rows.join("; ")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn upstream_responses_are_cut_as_they_are_stamped(
        answers in records(&[
            "many.ns.svc.z 9 A 192.0.2.1",
            "many.ns.svc.z 9 A 192.0.2.2",
            "many.ns.svc.z 9 MX # mail.example.org",
            "many.ns.svc.z 9 TXT text-#",
            "many.ns.svc.z 9 SRV 0 0 # mail.example.org",
        ]),
        authorities in records(&[
            "z 9 NS n#.example.org",
            "svc.z 9 NS n#.svc.z",
            "z 9 RRSIG NS #",
            "ns.svc.z 9 NSEC o#.z",
        ]),
        additionals in records(&["mail.example.org 9 A 192.0.2.3", "mail.example.org 9 AAAA \
            2001:db8::#"]),
        flags in select(&["ra ad", "aa"][..]),
        rest in select(&["", " 1232", " 512 do", " 1232 ad"][..]),
        has_alias: bool,
        lens in vec(LEN_MIN..=LEN_MAX, 20),
    ) {
        let text = format!("many.ns.svc.z A | NOERROR {flags} | {answers} | {authorities} | \
            {additionals}");
        let response = read(&message(&text));
        let table = table();
        let to_many = Name::from_wire(&service("to-many")).unwrap();
        let Found::Alias(answer) = table.look_up(&to_many, 99) else { panic!("no alias") };
        let alias = has_alias.then_some(Alias { answer, is_authority: true });
        let asked = if has_alias { "to-many" } else { "many" };
        check_some(&format!("{asked}.ns.svc.z A{rest}"), lens, |query, envelope, out| {
            response::stamp(query, &response, TtlRule::AS_SENT, alias, None, envelope, out)
        });
    }

    /// Upstreams' CNAMEs that lead to a name of the table.
    #[test]
    fn responses_with_own_targets_are_cut_as_they_are_stamped(
        target in select(&["many", "nothing", "to-many"][..]),
        qtype in select(&["A", "SRV"][..]),
        links in 0..11usize,
        lens in vec(LEN_MIN..=LEN_MAX, 20),
    ) {
        let long = |link: usize| format!("{}.example.org", link.to_string().repeat(60));
        let names: Vec<String> = (0..links).map(long).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        let last = format!("{target}.ns.svc.z");
        names.insert(0, "www.example.org");
        names.push(&last);
        let cnames: Vec<String> =
            names.windows(2).map(|pair| format!("{} 9 CNAME {}", pair[0], pair[1])).collect();
        let text = format!("www.example.org {qtype} | NOERROR | {} |  |", cnames.join("; "));
        let table = table();
        let response = read(&message(&text));
        let is_own = |name: &Name| name.bytes().ends_with(b"\x01z\0");
        let cnames = response.cut_at_own_target(&wire_name("www.example.org"), is_own).unwrap();
        check_some(&format!("www.example.org {qtype} 1232"), lens, |query, envelope, out| {
            let found = table.look_up(&cnames.own_target().unwrap(), query.qtype);
            let end = match found {
                Found::Alias(alias) => {
                    let target = Name::from_wire(alias.target()).unwrap();
                    let found = table.look_up(&target, query.qtype);
                    End { cnames: Some(alias), then: None, found: Some((&table, found)) }
                }
                found => End { cnames: None, then: None, found: Some((&table, found)) },
            };
            response::stamp(query, &cnames, TtlRule::AS_SENT, None, Some(&end), envelope, out)
        });
    }

    #[test]
    fn any_bytes_are_cut(
        mut bytes in vec(prop_oneof![4 => 0..3u8, 1 => any::<u8>()], 0..200),
        len_max in 0..200usize,
    ) {
        let whole = bytes.clone();
        edit::set_udp_len(&mut bytes, 4096);
        let len = edit::cut_to(&mut bytes, len_max);
        prop_assert!(len <= whole.len());
        if whole.len() <= len_max {
            prop_assert_eq!(len, whole.len());
        }
        // Cutting again changes nothing.
        let mut again = bytes[..len].to_vec();
        prop_assert_eq!(edit::cut_to(&mut again, len_max), len);
        prop_assert_eq!(&again, &bytes[..len]);
    }

    #[test]
    fn answers_of_any_bytes_are_kept(
        mut bytes in vec(prop_oneof![4 => 0..3u8, 1 => any::<u8>()], 0..200),
    ) {
        edit::change_flags(&mut bytes, 0x80, 0);
        let len = edit::keep_answers(&mut bytes);
        prop_assert!(len <= bytes.len());
        let mut again = bytes[..len].to_vec();
        prop_assert_eq!(edit::keep_answers(&mut again), len);
    }

    #[test]
    fn an_option_is_appended_to_any_bytes(
        mut bytes in vec(prop_oneof![4 => 0..3u8, 1 => any::<u8>()], 0..200),
        len in 0..250usize,
        len_max in 0..200usize,
        data in vec(any::<u8>(), 0..50),
    ) {
        let option = EdnsOption { code: OPTION_EDE, data: &data };
        let longer = edit::add_option(&mut bytes, len, option, len_max);
        prop_assert!(longer == len || longer <= len_max);
    }
}

#[test]
fn the_opt_stays_and_announces_the_new_size() {
    let (packet, query) = query("many.ns.svc.z A 4096 do");
    let mut out = packet.clone();
    out.resize(2 * LEN_MAX, 0);
    let table = table();
    let found = table.look_up(&Name::from_wire(&packet[12..]).unwrap(), TYPE_A);
    let envelope = Envelope { len_max: LEN_MAX, rotation: 0 };
    let len = reply::stamp(&query, &table, &found, envelope, &mut out).len;
    for len_max in [LEN_MAX, 600, 100, 0] {
        let mut message = out[..len].to_vec();
        edit::set_udp_len(&mut message, 1400);
        let len = edit::cut_to(&mut message, len_max);
        message.truncate(len);
        let parsed = Message::from_octets(message.as_slice()).unwrap();
        let opt = parsed.opt().expect("an OPT");
        assert_eq!((opt.udp_payload_size(), opt.dnssec_ok()), (1400, true));
        let question = parsed.sole_question().unwrap();
        assert_eq!(*question.qname(), name("many.ns.svc.z"));
        assert!(len <= len_max.max(packet.len()));
        assert!(parsed.answer().unwrap().all(|record| record.is_ok()));
    }
    // Without an OPT nothing changes.
    let mut message = message("a A | NOERROR |  |  |");
    let before = message.clone();
    edit::set_udp_len(&mut message, 1400);
    assert_eq!(message, before);
}

#[test]
fn an_option_is_appended_within_the_limit() {
    let (packet, query) = query("many.ns.svc.z A 4096 do");
    let table = table();
    let found = table.look_up(&Name::from_wire(&packet[12..]).unwrap(), TYPE_A);
    let fixed_len = packet.len();
    for option_len in [0, 1, 6, 500, 1100, 1300] {
        let data = vec![7; option_len];
        let option = EdnsOption { code: OPTION_NSID, data: &data };
        for len_max in (fixed_len..LEN_MAX + 100).step_by(7) {
            let mut message = packet.clone();
            message.resize(LEN_MAX, 0);
            let envelope = Envelope { len_max: len_max.min(LEN_MAX), rotation: 0 };
            let before = reply::stamp(&query, &table, &found, envelope, &mut message).len;
            let fits = fixed_len + 4 + option_len <= envelope.len_max;
            let expected = if fits { envelope.len_max - 4 - option_len } else { before };
            let mut cut = message[..before].to_vec();
            let cut_len = edit::cut_to(&mut cut, expected);
            let len = edit::add_option(&mut message, before, option, len_max);
            assert!(len <= envelope.len_max);
            let parsed = Message::from_octets(&message[..len]).unwrap();
            let records = |message: &Message<&[u8]>| message.header_counts().ancount();
            let cut = Message::from_octets(&cut[..cut_len]).unwrap();
            assert_eq!(records(&parsed), records(&cut), "{option_len} in {len_max}");
            assert_eq!(parsed.header().tc(), cut.header().tc());
            let opt = parsed.opt().expect("an OPT");
            let options = opt.opt().iter::<UnknownOptData<_>>().map(Result::unwrap);
            let options: Vec<_> = options.map(|one| (one.code(), one.data().to_vec())).collect();
            let expected = [(OptionCode::NSID, data.clone())];
            assert_eq!(options, if fits { &expected[..] } else { &[] });
        }
    }
}

#[test]
fn a_second_option_follows_the_first() {
    const MESSAGE: &[u8] =
        b"\0\x07\x80\0\0\x01\0\0\0\0\0\x01\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let mut message = [0; 64];
    message[..MESSAGE.len()].copy_from_slice(MESSAGE);
    let first = EdnsOption { code: OPTION_NSID, data: b"one" };
    let len = edit::add_option(&mut message, MESSAGE.len(), first, 512);
    let second = EdnsOption { code: OPTION_EDE, data: &[0, 15] };
    let len = edit::add_option(&mut message, len, second, 512);
    let expected = [&MESSAGE[..26], b"\0\x0d\0\x03\0\x03one\0\x0f\0\x02\0\x0f"].concat();
    assert_eq!(message[..len], expected);
    // No OPT, no whole question, and an OPT that a record follows.
    let record: &[u8] = &[0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4];
    let mut followed = [MESSAGE, record].concat();
    followed[11] = 2;
    for message in [&MESSAGE[..17], &MESSAGE[..15], followed.as_slice()] {
        let mut room = message.to_vec();
        room.resize(200, 0);
        assert_eq!(edit::add_option(&mut room, message.len(), first, 512), message.len());
        assert_eq!(room[..message.len()], *message);
    }
}

/// Records after the OPT, an OPT that the root does not own, and counts of missing records.
#[test]
fn unusual_messages_are_cut() {
    const HEAD: &[u8] = &[0, 7, 0x80, 0, 0, 1, 0, 2, 0, 0, 0, 2, 0, 0, 1, 0, 1];
    const RECORD: &[u8] = &[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4];
    const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let check = |parts: &[&[u8]], len_max: usize, expected: &[&[u8]], counts: [u8; 3], tc: bool| {
        let mut message = [HEAD, &parts.concat()].concat();
        let len = edit::cut_to(&mut message, len_max);
        assert_eq!(message[HEAD.len()..len], expected.concat());
        assert_eq!([message[7], message[9], message[11]], counts);
        assert_eq!(message[2] & 2 != 0, tc);
    };
    let head = HEAD.len();
    // The OPT comes first in its section, then a record.
    let parts = [RECORD, RECORD, OPT, RECORD];
    check(&parts, head + 59, &parts, [2, 0, 2], false);
    check(&parts, head + 58, &[RECORD, RECORD, OPT], [2, 0, 1], false);
    check(&parts, head + 42, &[RECORD, OPT], [1, 0, 1], true);
    check(&parts, 0, &[OPT], [0, 0, 1], true);
    // An OPT of a name other than the root is a record like others.
    let named = [&[0xC0, 12], &OPT[1..]].concat();
    let parts = [RECORD, RECORD, &named, RECORD];
    check(&parts, head + 44, &[RECORD, RECORD, &named], [2, 0, 1], false);
    // A record is missing.
    check(&[RECORD, RECORD, OPT], head + 42, &[RECORD, OPT], [1, 0, 1], true);
    check(&[RECORD, RECORD, OPT, b"\0"], head + 43, &[RECORD, RECORD, OPT], [2, 0, 1], true);
    // No whole question.
    let mut message = HEAD[..15].to_vec();
    assert_eq!(edit::cut_to(&mut message, 14), 12);
    assert_eq!(message[..12], [0, 7, 0x82, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// RFC 8484, section 5.1.
#[test]
fn a_response_is_kept_as_long_as_its_shortest_record() {
    const HEAD: &[u8] = &[0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let record = |rtype: u8, ttl_secs: u8, rdata: &[u8]| {
        [&[0, 0, rtype, 0, 1, 0, 0, 0, ttl_secs, 0, rdata.len() as u8], rdata].concat()
    };
    let soa = |ttl_secs, minimum_secs| {
        record(6, ttl_secs, &[[0; 17].as_slice(), &[0, 0, 0, 0, minimum_secs]].concat())
    };
    let a = |ttl_secs| record(1, ttl_secs, &[192, 0, 2, 1]);
    let check = |counts: [u8; 3], records: &[&[u8]], expected: u32| {
        let mut message = [HEAD, &records.concat()].concat();
        [message[7], message[9], message[11]] = counts;
        assert_eq!(edit::freshness_secs(&message), expected, "{counts:?} {records:?}");
    };
    check([0, 0, 0], &[], 0);
    check([0, 0, 1], &[OPT], 0);
    check([2, 0, 1], &[&a(30), &a(20), OPT], 20);
    check([1, 1, 0], &[&a(30), &record(2, 9, &[0])], 9);
    check([0, 1, 1], &[&soa(30, 5), OPT], 5);
    check([0, 1, 0], &[&soa(5, 30)], 5);
    // As an answer it says nothing about a denial.
    check([1, 0, 0], &[&soa(30, 5)], 30);
    // A record is missing; no whole header.
    check([2, 0, 0], &[&a(30)], 30);
    assert_eq!(edit::freshness_secs(&HEAD[..5]), 0);
}
