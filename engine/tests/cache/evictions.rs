//! What is evicted: popular names survive floods, and what is there is never wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::cache::{Cache, EntryType, LookUp, Times};
use engine::limits::CACHE_ENTRY_LEN;
use proptest::prelude::*;

use crate::script::{NAME, UNIX_SECS, key, response, settings, shown, wire_name};

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
