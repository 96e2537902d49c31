//! The cache as a script: queries and upstream responses, second by second.
//!
//! A script has one step per line, `SECOND VERB…: OUTCOME`. `ask` shows the client's answer: the
//! code and the TTL of the first record, with `refresh` if the upstream is to be asked again. The
//! other verbs are an upstream's response, or `failed`. After `learn SECOND` comes the response
//! that another shard got in that second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{MessageBuilder, Name as DomainName, Record, Ttl, rdata::UnknownRecordData};
use engine::cache::settings::CacheSettings;
use engine::cache::{Cache, CacheKey, CachedResponse, EntryType, Filled, LookUp, Times};
use engine::config;
use engine::corefile::Surroundings;
use engine::limits::CACHE_ENTRY_LEN;
use proptest::prelude::*;
use wire::name::Name;
use wire::query::{self, ClientPacket};
use wire::reply::{Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, Asked, Response};

const A: u16 = 1;
const NAME: &str = "www.example.org";
/// When the signatures of the answers are validated.
const UNIX_SECS: u32 = 1_000_000;

/// The settings of a `cache` line in a block for `.`.
fn settings(cache: &str) -> CacheSettings {
    let surroundings = Surroundings::empty();
    let text = format!(". {{\n{cache}\n}}");
    let config = config::parse("Corefile", &text, &surroundings);
    let config = config.unwrap_or_else(|report| panic!("{cache}: {report:?}"));
    config.blocks[0].line::<CacheSettings>().cloned().expect("a cache")
}

fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName<Vec<u8>>>().expect("a name").as_slice().to_ascii_lowercase()
}

fn key(name: &[u8]) -> CacheKey<'_> {
    CacheKey { name, qtype: A, qclass: 1, dnssec_ok: false, checking_disabled: false }
}

/// An upstream's response to `name A`, in the words of a script.
fn response(name: &str, words: &[&str]) -> Arc<Response> {
    let number = |at: usize| words.get(at).map_or(0, |word| word.parse::<u32>().expect("a number"));
    let address = Some((A, vec![192, 0, 2, 1]));
    let signature = |end: u32, len| {
        let data = [&[0; 8][..], &end.to_be_bytes(), &[0; 8], &vec![0; len]].concat();
        Some((46, data))
    };
    let (rcode, answer, authority) = match words[0] {
        // "bare": without an OPT, which all other responses have.
        "success" | "cut" | "bare" => (Rcode::NOERROR, address, None),
        "long" => (Rcode::NOERROR, address, signature(u32::MAX, 9000)),
        // Signed until this second.
        "signed" => (Rcode::NOERROR, address, signature(number(2), 1)),
        "cname" => (Rcode::NOERROR, Some((5, wire_name("example.net"))), None),
        "gone" => (Rcode::NXDOMAIN, Some((5, wire_name("example.net"))), None),
        "nothing" => (Rcode::NOERROR, None, None),
        "delegation" => (Rcode::NOERROR, None, Some((2, wire_name("ns.example.net")))),
        "nodata" | "nxdomain" => {
            let rcode = if words[0] == "nodata" { Rcode::NOERROR } else { Rcode::NXDOMAIN };
            let soa = [&[0; 18][..], &number(2).to_be_bytes()].concat();
            (rcode, None, (words.len() > 1).then_some((6, soa)))
        }
        "servfail" => (Rcode::SERVFAIL, None, None),
        "notimp" => (Rcode::NOTIMP, None, None),
        "refused" => (Rcode::REFUSED, None, None),
        other => panic!("{other}"),
    };
    let owner: DomainName<Vec<u8>> = name.parse().expect("a name");
    let record = |(rtype, data): (u16, Vec<u8>)| {
        let data =
            UnknownRecordData::from_octets(Rtype::from_int(rtype), data).expect("short data");
        Record::new(owner.clone(), Class::IN, Ttl::from_secs(number(1)), data)
    };
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_qr(true);
    builder.header_mut().set_rcode(rcode);
    builder.header_mut().set_tc(words[0] == "cut");
    let mut builder = builder.question();
    builder.push((&owner, Rtype::A)).expect("room");
    let mut builder = builder.answer();
    answer.into_iter().for_each(|data| builder.push(record(data)).expect("room"));
    let mut builder = builder.authority();
    authority.into_iter().for_each(|data| builder.push(record(data)).expect("room"));
    let mut builder = builder.additional();
    if words[0] != "bare" {
        builder.opt(|_| Ok(())).expect("room");
    }
    let packet = builder.finish();
    let name = wire_name(name);
    let asked = Asked { id: 0, name: &name, qtype: A, qclass: 1, case_must_match: false };
    match response::read(&packet, &asked) {
        response::UpstreamPacket::Answer(response)
        | response::UpstreamPacket::Truncated(response) => response.into(),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The client's answer: the code, and the TTL of the first record, if any.
fn given(answer: CachedResponse<'_>) -> String {
    let mut builder = MessageBuilder::new_vec().question();
    builder.push((DomainName::<Vec<u8>>::root(), Rtype::A)).expect("room");
    let mut message = builder.finish();
    let ClientPacket::Query(query) = query::read(&message, &mut Name::default()) else {
        panic!("a query")
    };
    let envelope = Envelope { len_max: MESSAGE_LEN_MAX, rotation: 0 };
    message.resize(MESSAGE_LEN_MAX, 0);
    response::stamp(&query, answer.response, answer.ttl, None, None, envelope, &mut message);
    // After the header and the root's question: owner (a pointer), type, class, TTL.
    let has_record = message[6..12] != [0; 6];
    let ttl = u32::from_be_bytes(*message[17 + 6..].first_chunk().expect("four bytes"));
    let rcode = Rcode::masked_from_int(message[3]);
    if has_record { format!("{rcode} {ttl}") } else { rcode.to_string() }
}

fn shown(found: LookUp<'_>) -> String {
    match found {
        LookUp::Miss => "miss".to_owned(),
        LookUp::Verify { timeout: None } => "verify".to_owned(),
        LookUp::Verify { timeout: Some(timeout) } => format!("verify {timeout:?}"),
        LookUp::Hit { answer, refresh: false } => given(answer),
        LookUp::Hit { answer, refresh: true } => given(answer) + " refresh",
    }
}

fn play(cache: &str, script: &str) -> Cache {
    let began = Instant::now();
    let mut played = Cache::new(&settings(cache), 42);
    let name = wire_name(NAME);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (step, expected) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let words: Vec<&str> = step.split_whitespace().collect();
        let now = began + Duration::from_secs_f64(words[0].parse().expect("seconds"));
        let outcome = match words[1] {
            "ask" => shown(played.look_up(&key(&name), now)),
            "fallback" => {
                played.fallback(&key(&name), now, 1).map_or_else(|| "none".to_owned(), given)
            }
            "failed" => {
                played.failed(&key(&name), now);
                "-".to_owned()
            }
            "learn" => {
                let received = began + Duration::from_secs_f64(words[2].parse().expect("seconds"));
                let times = Times { received, now, unix_secs: UNIX_SECS };
                played.learn(&key(&name), &response(NAME, &words[3..]), times);
                "-".to_owned()
            }
            _ => {
                let response = response(NAME, &words[1..]);
                match played.fill(&key(&name), &response, Times::at_once(now, UNIX_SECS)) {
                    Filled::Kept(ttl) => {
                        format!("kept {}", given(CachedResponse { response: &response, ttl }))
                    }
                    Filled::Passed(ttl) => {
                        format!("passed {}", given(CachedResponse { response: &response, ttl }))
                    }
                    Filled::Inferior => "inferior".to_owned(),
                }
            }
        };
        assert_eq!(outcome, expected, "{cache}: {line}");
    }
    played
}

#[test]
fn answers_age() {
    play(
        "cache",
        "0 ask: miss
        0 success 60: kept NOERROR 60
        0.9 ask: NOERROR 60
        1 ask: NOERROR 59
        59.9 ask: NOERROR 1
        60 ask: miss
        60 success 100000: kept NOERROR 3600
        3659 ask: NOERROR 1
        3660 ask: miss
        3660 success 0: kept NOERROR 5
        3664 ask: NOERROR 1
        3665 ask: miss",
    );
    let capped = "0 success 60: kept NOERROR 30\n 29 ask: NOERROR 1\n 30 ask: miss";
    play("cache 30", capped);
    play("cache {\n success 2000 30\n }", capped);
    play("cache {\n success 2000 30 0\n }", "0 success 0: passed NOERROR 0\n 0 ask: miss");
    play("cache {\n success 2000 300 60\n }", "0 success 10: kept NOERROR 60\n 59 ask: NOERROR 1");
    // A TTL with the top bit set is a long one.
    play("cache 30", "0 success 4294967295: kept NOERROR 30\n 29 ask: NOERROR 1\n 30 ask: miss");
    play("cache {\n keepttl\n }", "0 success 60: kept NOERROR 60\n 59 ask: NOERROR 60");
}

/// A shard that was idle reads the responses of other shards late.
#[test]
fn answers_of_other_shards_age_before_they_are_read() {
    // Its TTL is what remains of it, if anything does.
    play(
        "cache",
        "12 learn 2 success 60: -\n 12 ask: NOERROR 50\n 61 ask: NOERROR 1\n 62 ask: miss",
    );
    play("cache 30", "3600 learn 2 success 3600: -\n 3600 ask: miss");
    play("cache", "62 learn 2 success 60: -\n 62 ask: miss");
    play("cache", "21 learn 2 nxdomain 60 20: -\n 21 ask: NXDOMAIN 1\n 22 ask: miss");
    play("cache", "22 learn 2 nxdomain 60 20: -\n 22 ask: miss");
    play("cache", "6 learn 2 servfail: -\n 6.9 ask: SERVFAIL\n 7 ask: miss");
    play("cache", "7 learn 2 servfail: -\n 7 ask: miss");
    // It does not replace a newer entry, be that an answer, a denial or a failure.
    play(
        "cache",
        "10 success 60: kept NOERROR 60
        20 learn 9 nxdomain 60 60: -
        20 ask: NOERROR 50
        20 learn 11 nxdomain 60 60: -
        20 ask: NXDOMAIN 51
        20 learn 10 success 60: -
        20 ask: NXDOMAIN 51
        30 learn 29 servfail: -
        30 ask: NXDOMAIN 41
        90 failed: -
        90 learn 89 success 60: -
        90 ask: SERVFAIL",
    );
    // With `serve_stale` it is kept as long as an answer of this shard.
    play(
        "cache {\n serve_stale 1h\n }",
        "100 learn 2 success 60: -
        100 ask: NOERROR 0 refresh
        3662 learn 4 success 60: -
        3662 ask: NOERROR 0 refresh
        3664 ask: miss
        3664 learn 4 success 60: -
        3664 ask: miss",
    );
    // An old failure does not delay the next query.
    play(
        "cache {\n serve_stale 1h\n }",
        "0 success 60: kept NOERROR 60
        70 learn 61 servfail: -
        70 ask: NOERROR 0 refresh",
    );
}

#[test]
fn denials_last_as_long_as_their_soa_allows() {
    for denial in ["nxdomain", "nodata"] {
        let code = if denial == "nodata" { "NOERROR" } else { "NXDOMAIN" };
        play(
            "cache",
            &format!(
                "0 {denial} 60 20: kept {code} 20
                19 ask: {code} 1
                20 ask: miss
                20 {denial} 20 60: kept {code} 20
                40 ask: miss
                40 {denial} 9999 9999: kept {code} 1800
                1839 ask: {code} 1
                1840 {denial} 60 1: kept {code} 5
                1845 ask: miss"
            ),
        );
        play("cache 30", &format!("0 {denial} 60 60: kept {code} 30"));
        play("cache {\n denial 2000 7\n }", &format!("0 {denial} 60 60: kept {code} 7"));
    }
}

#[test]
fn responses_that_are_not_cached() {
    for (what, given) in [
        ("nxdomain", "NXDOMAIN"),
        ("cname 60", "NOERROR 5"),
        ("refused", "REFUSED"),
        ("cut 60", "NOERROR 60"),
    ] {
        play("cache", &format!("0 {what}: passed {given}\n 0 ask: miss"));
    }
    // Without a TTL to use: CoreDNS's five seconds.
    play("cache", "0 nothing: kept NOERROR\n 4 ask: NOERROR\n 5 ask: miss");
    play("cache", "0 delegation 60: kept NOERROR 5\n 4 ask: NOERROR 1\n 5 ask: miss");
}

/// Downstream caches keep an uncached response no longer than a cached one.
#[test]
fn uncached_responses_have_bounded_ttls() {
    for (cache, said, given) in [
        // CNAMEs without an end, and a denial without a TTL to use: they last as long as a failure.
        ("cache 30", "cname 3600", "NOERROR 5"),
        ("cache 30", "cname 3", "NOERROR 3"),
        ("cache 30", "gone 3600", "NXDOMAIN 5"),
        ("cache 4", "cname 3600", "NOERROR 4"),
        ("cache {\n servfail 20s\n }", "cname 3600", "NOERROR 20"),
        ("cache {\n servfail 0\n }", "cname 3600", "NOERROR 0"),
        // Truncated responses, and responses excluded from the cache by name.
        ("cache 30", "cut 3600", "NOERROR 30"),
        ("cache", "cut 100000", "NOERROR 3600"),
        ("cache 30 {\n disable success\n }", "success 3600", "NOERROR 30"),
        ("cache 30 {\n disable success\n }", "success 3", "NOERROR 3"),
        ("cache 30 {\n disable denial\n }", "nxdomain 3600 60", "NXDOMAIN 30"),
        ("cache 30 {\n disable denial\n }", "nxdomain 3600 20", "NXDOMAIN 20"),
        ("cache 30 {\n disable denial\n }", "nodata 7 20", "NOERROR 7"),
        ("cache 30 {\n disable success\n }", "delegation 3600", "NOERROR 5"),
    ] {
        play(cache, &format!("0 {said}: passed {given}\n 0 ask: miss"));
    }
}

#[test]
fn failures_are_remembered_briefly() {
    for failure in ["servfail", "notimp"] {
        let code = if failure == "notimp" { "NOTIMP" } else { "SERVFAIL" };
        let script = format!("0 {failure}: kept {code}\n 4.9 ask: {code}\n 5 ask: miss");
        play("cache", &script);
        play("cache {\n serve_stale\n }", &script);
        play("cache {\n servfail 0\n }", &format!("0 {failure}: passed {code}\n 0 ask: miss"));
        play("cache {\n servfail 1s\n }", &format!("0 {failure}: kept {code}\n 1 ask: miss"));
    }
    play("cache", "0 failed: -\n 0 fallback: SERVFAIL\n 4.9 ask: SERVFAIL\n 5 ask: miss");
    play("cache {\n servfail 0\n }", "0 failed: -\n 0 fallback: none\n 0 ask: miss");
    // A failure does not replace an answer, and is not kept longer than it lasts.
    play(
        "cache",
        "0 success 60: kept NOERROR 60
        9 servfail: inferior
        9 failed: -
        10 ask: NOERROR 50
        61 failed: -
        62 ask: SERVFAIL
        62 success 60: kept NOERROR 60
        63 ask: NOERROR 59",
    );
}

#[test]
fn popular_answers_are_fetched_before_they_expire() {
    let cache = "cache {\n prefetch 3 10s 20%\n }";
    let played = play(
        cache,
        "0 success 100: kept NOERROR 100
        1 ask: NOERROR 99
        2 ask: NOERROR 98
        3 ask: NOERROR 97
        80.0 ask: NOERROR 20
        80.1 ask: NOERROR 20
        80.2 ask: NOERROR 20 refresh
        80.3 ask: NOERROR 20
        81.3 ask: NOERROR 19 refresh
        82 success 100: kept NOERROR 100
        82 ask: NOERROR 100
        90 ask: NOERROR 92
        162.0 ask: NOERROR 20
        162.1 ask: NOERROR 20
        162.2 ask: NOERROR 20 refresh",
    );
    assert_eq!(played.counters().prefetches, 3);
    // As in CoreDNS, hits before the refresh count for the refreshed entry.
    play(
        "cache {\n prefetch 3 10s 90%\n }",
        "0 success 100: kept NOERROR 100
        8 ask: NOERROR 92
        9 ask: NOERROR 91
        10 ask: NOERROR 90 refresh
        10 success 100: kept NOERROR 100
        11 ask: NOERROR 99
        20 ask: NOERROR 90 refresh",
    );
    // A failure is not refreshed before it ends, nor is an entry that has just failed to refresh.
    play("cache {\n prefetch 1 1m 90%\n }", "0 servfail: kept SERVFAIL\n 4 ask: SERVFAIL");
    play(
        "cache {\n prefetch 1 1m 90%\n }",
        "0 success 100: kept NOERROR 100
        10 ask: NOERROR 90 refresh
        11 failed: -
        15 ask: NOERROR 85
        16 ask: NOERROR 84 refresh",
    );
}

#[test]
fn stale_answers_at_once() {
    let played = play(
        "cache {\n serve_stale 1h\n }",
        "0 success 60: kept NOERROR 60
        60 ask: NOERROR 0 refresh
        60.5 ask: NOERROR 0
        61 ask: NOERROR 0 refresh
        61.5 servfail: inferior
        62 ask: NOERROR 0
        66.5 ask: NOERROR 0 refresh
        67 failed: -
        71 ask: NOERROR 0
        3659 ask: NOERROR 0 refresh
        3660 ask: miss",
    );
    let counters = played.counters();
    assert_eq!((counters.requests, counters.hits, counters.misses), (8, [7, 0], 1));
    assert_eq!((counters.served_stale, counters.prefetches), (7, 4));
    play(
        "cache {\n serve_stale 1h immediate 30s 10s\n }",
        "0 success 60: kept NOERROR 60
        60 ask: NOERROR 30 refresh
        60 failed: -
        69 ask: NOERROR 30
        70 ask: NOERROR 30 refresh",
    );
}

#[test]
fn stale_answers_when_the_upstream_fails() {
    let played = play(
        "cache {\n serve_stale 1h verify\n }",
        "0 success 60: kept NOERROR 60
        60 ask: verify
        60.5 fallback: NOERROR 0
        61 failed: -
        61 fallback: NOERROR 0
        61 ask: NOERROR 0
        66 ask: verify
        66 refused: inferior
        66 fallback: NOERROR 0
        71 ask: verify
        71 success 60: kept NOERROR 60
        72 ask: NOERROR 59
        3731 fallback: none",
    );
    assert_eq!(played.counters().served_stale, 4);
    play(
        "cache {\n serve_stale 1h verify 100ms 30s 10s\n }",
        "0 nxdomain 60 60: kept NXDOMAIN 60
        60 ask: verify 100ms
        60.1 fallback: NXDOMAIN 30
        62 failed: -
        71 ask: NXDOMAIN 30
        72 ask: verify 100ms",
    );
}

/// CoreDNS once served a stale NXDOMAIN as long as clients asked, although the name existed by then
/// (coredns/coredns#3586).
#[test]
fn a_newer_answer_ends_a_stale_one() {
    for mode in ["", "1h immediate", "1h verify"] {
        let cache = format!("cache {{\n serve_stale {mode}\n }}");
        for (old, new) in [
            ("nxdomain 60 60: kept NXDOMAIN 60", "success 60: kept NOERROR 60"),
            ("success 60: kept NOERROR 60", "nxdomain 60 60: kept NXDOMAIN 60"),
            ("nodata 60 60: kept NOERROR 60", "nxdomain 60 60: kept NXDOMAIN 60"),
        ] {
            let (_, given) = new.split_once("kept ").expect("is kept");
            play(&cache, &format!("0 {old}\n 70 {new}\n 70 ask: {given}\n 70 fallback: {given}"));
        }
        // A denial that must not be cached ends it too.
        play(&cache, "0 success 60: kept NOERROR 60\n 70 nxdomain: passed NXDOMAIN\n 70 ask: miss");
        // But a truncated response says nothing new.
        play(
            &cache,
            "0 success 60: kept NOERROR 60\n 70 cut 60: passed NOERROR 60\n 70 fallback: NOERROR 0",
        );
    }
}

#[test]
fn prefer_positive_keeps_data() {
    let cache = "cache {\n serve_stale 1h verify\n serve_stale_policy prefer_positive\n }";
    play(
        cache,
        "0 success 60: kept NOERROR 60
        70 ask: verify
        70 nxdomain 60 20: inferior
        70 fallback: NOERROR 0
        89 ask: NOERROR 0
        90 ask: verify
        90 nodata 60 60: inferior
        3660 ask: miss
        3660 nxdomain 60 60: kept NXDOMAIN 60
        3661 success 60: kept NOERROR 60
        3662 ask: NOERROR 59",
    );
}

#[test]
fn zones_that_are_not_cached() {
    let cache = "cache {\n disable success example.org\n disable denial example.net\n }";
    play(
        cache,
        "0 success 60: passed NOERROR 60\n 0 ask: miss\n 0 nxdomain 60 60: kept NXDOMAIN 60",
    );
    let cache = "cache {\n disable denial\n }";
    play(
        cache,
        "0 nxdomain 60 60: passed NXDOMAIN 60
        0 servfail: passed SERVFAIL
        0 success 60: kept NOERROR 60",
    );
    let covering = Cache::new(&settings("cache example.org 2.0.192.in-addr.arpa"), 42);
    for (text, expected) in [
        ("example.org", true),
        ("a.b.Example.org", true),
        ("1.2.0.192.in-addr.arpa", true),
        ("xexample.org", false),
        ("org", false),
    ] {
        let mut name = Name::default();
        name.read(&wire_name(text)).expect("a name");
        assert_eq!(covering.covers(&name), expected, "{text}");
    }
}

#[test]
fn questions_differ_in_every_part_of_the_query() {
    let began = Instant::now();
    let mut cache = Cache::new(&settings("cache"), 42);
    let (name, other) = (wire_name(NAME), wire_name("www.example.net"));
    let kept = key(&name);
    cache.fill(&kept, &response(NAME, &["success", "60"]), Times::at_once(began, UNIX_SECS));
    assert_eq!(shown(cache.look_up(&kept, began)), "NOERROR 60");
    for different in [
        key(&other),
        CacheKey { qtype: 28, ..kept },
        CacheKey { qclass: 3, ..kept },
        CacheKey { dnssec_ok: true, ..kept },
        CacheKey { checking_disabled: true, ..kept },
    ] {
        assert_eq!(shown(cache.look_up(&different, began)), "miss", "{different:?}");
    }
}

#[test]
fn expired_signatures_are_not_cached_for_validating_clients() {
    let began = Instant::now();
    let name = wire_name(NAME);
    for (end, dnssec_ok, is_kept) in [
        (UNIX_SECS - 1, true, false),
        (UNIX_SECS - 1, false, true),
        (UNIX_SECS, true, true),
        // Half of the serial-number circle lies ahead.
        (UNIX_SECS + i32::MAX as u32, true, true),
        (UNIX_SECS.wrapping_add(1 << 31).wrapping_add(1), true, false),
    ] {
        let mut cache = Cache::new(&settings("cache"), 42);
        let key = CacheKey { dnssec_ok, ..key(&name) };
        let response = response(NAME, &["signed", "60", &end.to_string()]);
        let filled = cache.fill(&key, &response, Times::at_once(began, UNIX_SECS));
        assert_eq!(matches!(filled, Filled::Kept(_)), is_kept, "until {end}, DO {dnssec_ok}");
    }
}

/// An upstream that responds without an OPT did not see DO, and may have signatures.
#[test]
fn answers_without_an_opt_are_cached_briefly_for_validating_clients() {
    let began = Instant::now();
    let name = wire_name(NAME);
    for (word, ttl, dnssec_ok, kept_secs) in [
        ("bare", "3600", true, 10),
        ("bare", "5", true, 5),
        ("bare", "3600", false, 3600),
        ("success", "3600", true, 3600),
    ] {
        let key = CacheKey { dnssec_ok, ..key(&name) };
        let response = response(NAME, &[word, ttl]);
        // In this shard, and in another shard that reads it a second later.
        for age_secs in [0, 1] {
            let mut cache = Cache::new(&settings("cache"), 42);
            let now = began + Duration::from_secs(age_secs);
            cache.learn(&key, &response, Times { received: began, now, unix_secs: UNIX_SECS });
            let after = |secs| began + Duration::from_secs(secs);
            assert_eq!(shown(cache.look_up(&key, after(kept_secs - 1))), "NOERROR 1", "{word}");
            assert_eq!(shown(cache.look_up(&key, after(kept_secs))), "miss", "{word}");
        }
    }
}

/// Answers do not outlive their signatures. In a chain that cannot be validated, they do not
/// outlive a failure.
#[test]
fn answers_last_no_longer_than_their_signatures() {
    let began = Instant::now();
    let name = wire_name(NAME);
    let settings = settings("cache");
    for (left_secs, given_ttl) in [(0, 1), (9, 10), (59, 60), (60, 60), (3600, 60)] {
        let mut cache = Cache::new(&settings, 42);
        let key = CacheKey { dnssec_ok: true, ..key(&name) };
        let signed = response(NAME, &["signed", "60", &(UNIX_SECS + left_secs).to_string()]);
        // Another shard received it two seconds ago.
        let now = began + Duration::from_secs(2);
        let later = Times { received: began, now, unix_secs: UNIX_SECS + 2 };
        if left_secs >= 2 {
            cache.learn(&key, &signed, later);
            assert_eq!(shown(cache.look_up(&key, now)), format!("NOERROR {}", given_ttl - 2));
        }
        let filled = cache.fill(&key, &signed, Times::at_once(now, UNIX_SECS));
        let Filled::Kept(ttl) = filled else { panic!("{filled:?}") };
        let shown_ttl = given(CachedResponse { response: &signed, ttl });
        assert_eq!(shown_ttl, format!("NOERROR {given_ttl}"), "{left_secs}");
        let end = now + Duration::from_secs(given_ttl);
        assert_eq!(shown(cache.look_up(&key, end)), "miss", "{left_secs}");
    }
    let mut cache = Cache::new(&settings, 42);
    let key = CacheKey { dnssec_ok: true, ..key(&name) };
    let old = response(NAME, &["signed", "60", &(UNIX_SECS - 1).to_string()]);
    let Filled::Passed(ttl) = cache.fill(&key, &old, Times::at_once(began, UNIX_SECS)) else {
        panic!("kept")
    };
    assert_eq!(given(CachedResponse { response: &old, ttl }), "NOERROR 5");
}

/// Popular names survive a flood of names that are queried once, and the bounds hold.
fn check_flood(popular_words: &[&str], flood_words: &[&str], entry_type: EntryType) {
    const POPULAR: usize = 500;
    let now = Instant::now();
    let settings = settings("cache {\n success 1024\n denial 1024\n }");
    let mut cache = Cache::new(&settings, 42);
    let [kept, flood] = [popular_words, flood_words].map(|words| response(NAME, words));
    let popular: Vec<_> = (0..POPULAR).map(|at| wire_name(&format!("p{at}.example.org"))).collect();
    for name in &popular {
        cache.fill(&key(name), &kept, Times::at_once(now, UNIX_SECS));
        cache.look_up(&key(name), now);
    }
    for at in 0..100_000 {
        let name = wire_name(&format!("{at}.flood.example.org"));
        assert!(matches!(cache.look_up(&key(&name), now), LookUp::Miss));
        cache.fill(&key(&name), &flood, Times::at_once(now, UNIX_SECS));
        // None of the popular names is queried during a thousand of the others.
        if at % 1000 == 999 {
            let name = &popular[at / 1000 % POPULAR];
            assert!(matches!(cache.look_up(&key(name), now), LookUp::Hit { .. }), "after {at}");
        }
        assert!(cache.entry_count(entry_type) <= 1024);
        assert!(cache.entries_len(entry_type) <= 1024 * CACHE_ENTRY_LEN);
    }
    for name in &popular {
        assert!(matches!(cache.look_up(&key(name), now), LookUp::Hit { .. }), "{name:?}");
    }
    assert!(cache.evictions(entry_type) > 90_000);
}

#[test]
fn a_flood_evicts_no_popular_name() {
    let (success, denial) = (["success", "60"], ["nxdomain", "60", "60"]);
    check_flood(&success, &success, EntryType::Success);
    check_flood(&denial, &denial, EntryType::Denial);
    // Not even long answers evict the popular ones by their bytes.
    check_flood(&success, &["long", "60"], EntryType::Success);
}

/// Even though each is evicted from the small queue before its next query.
#[test]
fn names_become_popular_in_a_flood() {
    let now = Instant::now();
    let mut cache = Cache::new(&settings("cache {\n success 1024\n }"), 42);
    let response = response(NAME, &["success", "60"]);
    let mut ask = |text: String| {
        let name = wire_name(&text);
        let is_hit = matches!(cache.look_up(&key(&name), now), LookUp::Hit { .. });
        if !is_hit {
            cache.fill(&key(&name), &response, Times::at_once(now, UNIX_SECS));
        }
        is_hit
    };
    // The main queue is full at first, so the small queue has exactly its tenth.
    for at in 0..2000 {
        ask(format!("old{}.example.org", at % 1000));
    }
    for at in 0..20_000 {
        ask(format!("{at}.flood.example.org"));
        if at % 20 == 0 {
            ask(format!("p{}.example.org", at / 20 % 20));
        }
    }
    let hit_count = (0..20).filter(|at| ask(format!("p{at}.example.org"))).count();
    assert_eq!(hit_count, 20);
}

/// The name, the seconds until the step, and the upstream's next response; `None` is a client's
/// query.
fn steps(name_count: usize) -> impl Strategy<Value = Vec<(usize, u64, Option<&'static str>)>> {
    let said = prop::sample::select(vec![
        "success 60",
        "success 7",
        "nxdomain 60 20",
        "nodata 9 9",
        "servfail",
        "nxdomain",
        "failed",
    ]);
    let said = prop_oneof![2 => Just(None), 1 => said.prop_map(Some)];
    prop::collection::vec((0..name_count, prop_oneof![9 => Just(0), 1 => 0..9u64], said), 1..3000)
}

/// Runs the steps against a cache with this capacity per entry type and against an unbounded map.
/// What the cache has must equal what the map has. Returns how often only the map had an answer.
fn check_against_map(
    capacity: usize,
    steps: &[(usize, u64, Option<&str>)],
) -> Result<usize, TestCaseError> {
    let began = Instant::now();
    let mut settings = settings("cache 30");
    (settings.success.capacity, settings.denial.capacity) = (capacity, capacity);
    let mut cache = Cache::new(&settings, 42);
    // By name: the code and its expiry.
    let mut map: BTreeMap<usize, (&str, u64)> = BTreeMap::new();
    let (mut elapsed_secs, mut lost_count) = (0, 0);
    for (index, pause_secs, said) in steps {
        elapsed_secs += pause_secs;
        let now = began + Duration::from_secs(elapsed_secs);
        let name_text = format!("n{index}.example.org");
        let name = wire_name(&name_text);
        let key = key(&name);
        map.retain(|_, (_, end)| elapsed_secs < *end);
        if map.contains_key(index) && cache.fallback(&key, now, 1).is_none() {
            map.remove(index);
            lost_count += 1;
        }
        let (code, ttl_secs) = match *said {
            None => {
                let expected = map.get(index).map(|(code, end)| match *code {
                    "SERVFAIL" => "SERVFAIL".to_owned(),
                    code => format!("{code} {}", end - elapsed_secs),
                });
                let found = shown(cache.look_up(&key, now));
                prop_assert_eq!(found, expected.unwrap_or_else(|| "miss".to_owned()));
                continue;
            }
            Some("failed") => {
                cache.failed(&key, now);
                map.entry(*index).or_insert(("SERVFAIL", elapsed_secs + 5));
                continue;
            }
            Some(said) => {
                let words: Vec<&str> = said.split(' ').collect();
                cache.fill(&key, &response(&name_text, &words), Times::at_once(now, UNIX_SECS));
                match said {
                    "success 60" => ("NOERROR", 30),
                    "success 7" => ("NOERROR", 7),
                    "nodata 9 9" => ("NOERROR", 9),
                    "nxdomain 60 20" => ("NXDOMAIN", 20),
                    "servfail" => ("SERVFAIL", 5),
                    _ => continue,
                }
            }
        };
        if code != "SERVFAIL" || map.get(index).is_none_or(|(last, _)| *last == "SERVFAIL") {
            map.insert(*index, (code, elapsed_secs + ttl_secs));
        }
        for entry_type in [EntryType::Success, EntryType::Denial] {
            prop_assert!(cache.entry_count(entry_type) <= capacity);
        }
    }
    Ok(lost_count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// For any response, no TTL exceeds what remains of the upstream's TTL, or the maximum. A shard
    /// that learns it from another shard answers the same.
    #[test]
    fn ttls_are_bounded_and_shards_agree(
        what in prop::sample::select(vec![
            "success", "cname", "gone", "nodata", "nxdomain", "delegation", "cut", "servfail",
        ]),
        ttl_secs in prop_oneof![0..100u32, any::<u32>()],
        minimum_secs in prop_oneof![0..100u32, any::<u32>()],
        cap_secs in 1..100u64,
        floor_secs in 0..10u64,
        learned_after_ms in 0..200_000u64,
        asked_after_ms in 0..5_000u64,
    ) {
        let floor_secs = floor_secs.min(cap_secs);
        let cache = format!(
            "cache {{\n success 2000 {cap_secs} {floor_secs}\n \
             denial 2000 {cap_secs} {floor_secs}\n }}"
        );
        let settings = settings(&cache);
        let [mut one, mut other] = [42, 43].map(|seed| Cache::new(&settings, seed));
        let (began, name) = (Instant::now(), wire_name(NAME));
        let response = response(NAME, &[what, &ttl_secs.to_string(), &minimum_secs.to_string()]);
        let filled = one.fill(&key(&name), &response, Times::at_once(began, UNIX_SECS));
        let ttl_of = |text: &str| text.split(' ').nth(1).map(|ttl| ttl.parse::<u64>().unwrap());
        let (at_once, floor_secs) = match filled {
            Filled::Kept(ttl) => (given(CachedResponse { response: &response, ttl }), floor_secs),
            // Nothing raises the TTLs of uncached responses.
            Filled::Passed(ttl) => (given(CachedResponse { response: &response, ttl }), 0),
            Filled::Inferior => panic!("nothing was there"),
        };
        let longest = u64::from(ttl_secs).max(floor_secs).min(cap_secs);
        prop_assert!(ttl_of(&at_once).is_none_or(|ttl| ttl <= longest), "{at_once}");
        let learned = began + Duration::from_millis(learned_after_ms);
        if matches!(filled, Filled::Kept(_)) {
            let times = Times { received: began, now: learned, unix_secs: UNIX_SECS };
            other.learn(&key(&name), &response, times);
        }
        let asked = learned + Duration::from_millis(asked_after_ms);
        let found = shown(one.look_up(&key(&name), asked));
        prop_assert_eq!(&found, &shown(other.look_up(&key(&name), asked)));
        let age_secs = (learned_after_ms + asked_after_ms) / 1000;
        let left = longest.saturating_sub(age_secs);
        prop_assert!(ttl_of(&found).is_none_or(|ttl| ttl <= left), "{found} after {age_secs} s");
    }

    #[test]
    fn with_enough_capacity_the_cache_is_a_map(steps in steps(30)) {
        prop_assert_eq!(check_against_map(30, &steps)?, 0);
    }

    #[test]
    fn with_too_little_capacity_answers_are_lost_but_never_wrong(
        steps in steps(30),
        capacity in 0..20usize,
    ) {
        let lost_count = check_against_map(capacity, &steps)?;
        prop_assert!(lost_count > 0 || capacity > 2 || steps.len() < 200);
    }
}
