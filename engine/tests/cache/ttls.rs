//! How long which responses are cached, and for which questions.

use std::time::{Duration, Instant};

use engine::cache::{Cache, CacheKey, CachedResponse, Filled, Times};
use proptest::prelude::*;
use wire::name::Name;

use crate::script::{NAME, UNIX_SECS, given, key, play, response, settings, shown, wire_name};

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

/// The cap of the cache bounds an uncached response, too, and nothing else of the cache does.
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
        ("cache {\n disable denial\n }", "nxdomain 300 60", "NXDOMAIN 300"),
        ("cache {\n disable denial\n }", "nodata 300 60", "NOERROR 300"),
        ("cache {\n disable denial\n }", "nodata 0 60", "NOERROR 0"),
        ("cache 30 {\n disable denial\n }", "nodata 7 20", "NOERROR 7"),
        ("cache 30 {\n disable success\n }", "delegation 3600", "NOERROR 5"),
    ] {
        play(cache, &format!("0 {said}: passed {given}\n 0 ask: miss"));
    }
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
}
