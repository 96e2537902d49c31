//! How upstreams' responses are sent on: flags, TTLs, rotation, aliases in front, truncation.

mod upstream;

use upstream::{WWW, message, query, read, shown, stamped};
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::name::Name;
use wire::pod::PodMode;
use wire::reply::{Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, Alias, TtlRule};
use wire::table::{EVERY_TYPE, Found};

/// The response to `query` (see `upstream::query`) from WWW with these flags.
fn check_flags(query: &str, flags: &str, expected: &str) {
    let response = read(&message(&WWW.replace("rd ra", flags)));
    let answer = shown(&stamped(query, &response, MESSAGE_LEN_MAX));
    assert_eq!(answer.split(" | ").nth(1), Some(expected), "{query}, {flags}");
}

#[test]
fn flags_are_sent_on() {
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
    assert_eq!(answer[12..33], packet[12..33], "the question, as the client spelled it");
    assert_eq!(answer[answer.len() - 11..], *b"\0\0\x29\x04\xd0\0\0\x80\0\0\0", "DO comes back");
    assert!(shown(&answer).contains("| wWw.example.org 60 CNAME web.example.org;"));
}

/// The response to `query` from WWW.
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
fn ttls_are_clamped_and_age() {
    let aged = |age_secs, secs_min, secs_max| TtlRule::Aged { age_secs, secs_min, secs_max };
    // The TTLs of the CNAME, the addresses, the name server and its addresses.
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
fn only_addresses_rotate() {
    for (rotation, is_turned) in [(0, false), (1, true), (2, false), (3, true)] {
        let envelope = Envelope { rotation, ..WIDE };
        let answer = shown(&stamped_by("www.example.org A", TtlRule::AS_SENT, None, envelope));
        let turned = WWW.replace("192.0.2.1", "X").replace("192.0.2.2", "192.0.2.1");
        let expected = if is_turned { turned.replace('X', "192.0.2.2") } else { WWW.to_owned() };
        assert_eq!(answer, expected, "rotated by {rotation}");
    }
}

/// An ExternalName Service whose target is another one, whose target is `www.example.org`.
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
    use_alias(Alias { answer, is_authority: true })
}

#[test]
fn an_alias_comes_first() {
    let (_, records) = WWW.split_once("ra | ").unwrap();
    let expected = format!(
        "ext.default.SVC.cluster.local A | NOERROR aa rd ra | ext.default.SVC.cluster.local 5 \
            CNAME web.svc.cluster.local; \
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
fn responses_are_truncated_between_records() {
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
                let answers = |shown: &str| shown.split(" | ").nth(2).map(str::to_owned);
                let is_whole = answers(&cut) == answers(&whole);
                assert_eq!(cut.contains(" tc "), !is_whole, "{len_max}: {cut}");
                // The whole response begins with the records that are left.
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

/// Compares the response within `len_max` bytes to `TC | ANSWERS | AUTHORITIES | ADDITIONALS`: TC
/// or nothing, and of each section nothing, its records, or `=` for all that the response has.
fn check_cut(query: &str, response: &str, len_max: usize, expected: &str) {
    let sections = |len_max| {
        let shown = shown(&stamped(query, &read(&message(response)), len_max));
        let tc = if shown.contains(" tc ") { "tc" } else { "" };
        let mut parts: Vec<String> = shown.split('|').map(|part| part.trim().to_owned()).collect();
        parts.splice(..2, [tc.to_owned()]);
        parts
    };
    let whole = sections(MESSAGE_LEN_MAX);
    let expected = expected.split('|').map(str::trim).zip(&whole);
    let expected: Vec<&str> =
        expected.map(|(part, whole)| if part == "=" { whole } else { part }).collect();
    assert_eq!(sections(len_max), expected, "{query} in {len_max}");
}

/// RFC 2181, section 9: TC is set if a record is missing that the client needs, and not for extra
/// information, which is left out by whole RRsets.
#[test]
fn extra_records_are_left_out_without_tc() {
    const EXTRA: &str = "www.example.org A | NOERROR | www.example.org 9 A 192.0.2.1 \
        | example.org 9 NS ns1.example.org; example.org 9 NS ns2.example.org \
        | ns1.example.org 9 A 192.0.2.2; ns1.example.org 9 A 192.0.2.3; \
          ns2.example.org 9 A 192.0.2.4";
    const NS1: &str = "ns1.example.org 9 A 192.0.2.2; ns1.example.org 9 A 192.0.2.3";
    let len = stamped("www.example.org A", &read(&message(EXTRA)), MESSAGE_LEN_MAX).len();
    check_cut("www.example.org A", EXTRA, len, " | = | = | =");
    check_cut("www.example.org A", EXTRA, len - 1, &format!(" | = | = | {NS1}"));
    check_cut("www.example.org A", EXTRA, len - 17, " | = | = | ");
    check_cut("www.example.org A", EXTRA, len - 49, " | = |  | ");
    check_cut("www.example.org A", EXTRA, 49, " | = |  | ");
    check_cut("www.example.org A", EXTRA, 48, "tc |  |  | ");
    // An RRset and its signatures stay together, and a proof is needed.
    const PROVEN: &str = "www.example.org A | NOERROR | www.example.org 9 A 192.0.2.1 \
        | example.org 9 NS ns1.example.org; example.org 9 RRSIG NS 5000 | ";
    let len = stamped("www.example.org A do", &read(&message(PROVEN)), MESSAGE_LEN_MAX).len();
    check_cut("www.example.org A do", PROVEN, len - 1, " | = |  | ");
    let proven = PROVEN.replace("5000", "5000; w.example.org 9 NSEC x.example.org");
    check_cut(
        "www.example.org A do",
        &proven,
        len,
        "tc | = | example.org 9 NS \
        ns1.example.org; example.org 9 RRSIG NS 5000 | ",
    );
    check_cut("www.example.org A do", &proven, len - 1, "tc | = |  | ");
    // Without an answer, the client needs the SOA.
    const DENIED: &str = "www.example.org A | NXDOMAIN | | example.org 9 SOA a b 1 2 3 4 5 | ";
    check_cut("www.example.org A", DENIED, 60, "tc |  |  | ");
    // The addresses of an authoritative answer about a service, as in CoreDNS.
    const SERVICE: &str = "www.example.org SRV | NOERROR \
        | www.example.org 9 SRV 0 0 80 a.example.org | | a.example.org 9 A 192.0.2.1";
    let len = stamped("www.example.org SRV", &read(&message(SERVICE)), MESSAGE_LEN_MAX).len();
    check_cut("www.example.org SRV", SERVICE, len - 1, " | = |  | ");
    let service = SERVICE.replace("NOERROR", "NOERROR aa");
    check_cut("www.example.org SRV", &service, len - 1, "tc | = |  | ");
}

/// A referral without its name servers, or without glue, leads nowhere (RFC 9471, section 3).
#[test]
fn referrals_are_truncated() {
    const REFERRAL: &str = "www.example.org A | NOERROR | | example.org 9 NS ns1.example.org \
        | ns1.example.org 9 A 192.0.2.2";
    let len = stamped("www.example.org A", &read(&message(REFERRAL)), MESSAGE_LEN_MAX).len();
    check_cut("www.example.org A", REFERRAL, len - 1, "tc |  | = | ");
    check_cut("www.example.org A", REFERRAL, len - 17, "tc |  |  | ");
}
