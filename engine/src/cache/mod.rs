//! Answers of upstreams, kept for a time: the `cache` plugin of one shard. No socket and no clock: the time is an argument.
//!
//! A shard asks `look_up`; what it must then ask upstream comes back by `fill`, or by `failed` if nothing came. A key has one
//! entry, so no old denial can hide a newer answer (CoreDNS keeps two). The memory is bounded: see `limits`.
//! Invariant: `look_up` neither allocates nor frees, and takes one probe chain.

mod entry;
pub mod settings;
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::name::Name;
use wire::response::{Kind, Response, TtlRule};
use wire::zone::ZoneSet;

use crate::cache::settings::{CacheSettings, Stale};
use crate::corefile::value::zone::Zone;
use crate::limits::UNSIGNED_KEPT_FOR;
use entry::{Age, Entry, Term};
use store::Store;

/// What makes two questions the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheKey<'q> {
    /// Wire format, lower case.
    pub name: &'q [u8],
    pub qtype: u16,
    pub qclass: u16,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
}

impl CacheKey<'_> {
    /// All but the name.
    fn facts(&self) -> u64 {
        let flags = u64::from(self.dnssec_ok) << 1 | u64::from(self.checking_disabled);
        flags << 32 | u64::from(self.qclass) << 16 | u64::from(self.qtype)
    }
}

/// What the cache has on a question.
#[derive(Debug)]
pub enum LookUp<'c> {
    /// Nothing that may be answered: ask.
    Miss,
    /// The answer. If `refresh`, ask all the same, with no client waiting.
    Hit { answer: CachedResponse<'c>, refresh: bool },
    /// An answer that has expired. Ask; if that fails, or takes longer than this, `Cache::fallback` has what to answer.
    Verify { timeout: Option<Duration> },
}

/// A kept response, and what becomes of its TTLs now.
#[derive(Clone, Copy, Debug)]
pub struct CachedResponse<'c> {
    pub response: &'c Response,
    pub ttl: TtlRule,
}

/// When a response was received, and when it is looked at: later where it came by way of another shard.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub received: Instant,
    pub now: Instant,
    /// `now`, as signatures are held against it.
    pub unix_secs: u32,
}

impl Times {
    /// Of a response that has just come.
    #[must_use]
    pub fn at_once(now: Instant, unix_secs: u32) -> Self {
        Self { received: now, now, unix_secs }
    }
}

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Kept. Those who wait for it are given it by this rule.
    Kept(TtlRule),
    /// Not kept; it is the answer for those who wait, by this rule.
    Passed(TtlRule),
    /// Not kept, and what was there before is the better answer: `Cache::fallback` has it.
    Inferior,
}

/// The `type` label of the cache's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// Answers with data.
    Success = 0,
    /// Denials of existence, and failures.
    Denial = 1,
}

/// What has happened since the cache was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub requests: u64,
    /// By `EntryType`.
    pub hits: [u64; 2],
    pub misses: u64,
    /// Answers that were to be asked for again before they expired, or when they had.
    pub prefetches: u64,
    /// Clients that were given an expired answer.
    pub served_stale: u64,
}

/// The cache of one shard and `cache` directive.
pub struct Cache {
    settings: CacheSettings,
    zones: ZoneSet,
    /// By `EntryType`: zones where none are kept.
    disabled: [ZoneSet; 2],
    store: Store,
    counters: Counters,
    /// What is kept of a question that no upstream answered.
    failure: Arc<Response>,
}

impl Cache {
    /// `hash_seed`: random, so that nobody can choose names that share a probe chain.
    #[must_use]
    pub fn new(settings: &CacheSettings, hash_seed: u64) -> Self {
        let capacities = [settings.success.capacity, settings.denial.capacity];
        Self {
            zones: Zone::set(&settings.zones),
            disabled: [Zone::set(&settings.disable_success), Zone::set(&settings.disable_denial)],
            settings: settings.clone(),
            store: Store::new(capacities, hash_seed),
            counters: Counters::default(),
            failure: Arc::new(Response::server_failure()),
        }
    }

    /// Whether answers for this name are kept at all: others are not looked up.
    #[must_use]
    pub fn covers(&self, name: &Name) -> bool {
        self.zones.find(name).is_some()
    }

    /// What there is to answer.
    pub fn look_up(&mut self, key: &CacheKey<'_>, now: Instant) -> LookUp<'_> {
        let Self { settings, store, counters, .. } = self;
        counters.requests += 1;
        let Some((entry_type, entry)) = store.find(key) else {
            counters.misses += 1;
            return LookUp::Miss;
        };
        let age = entry.age(settings, now);
        let is_due = match (age, settings.serve_stale.map(|stale| stale.mode)) {
            (Age::Over, _) => {
                counters.misses += 1;
                return LookUp::Miss;
            }
            (Age::Fresh, _) => entry.is_worth_prefetching(settings, now),
            (Age::Stale, Some(Stale::Verify { timeout, .. })) if entry.may_refresh(now) => {
                counters.hits[entry_type as usize] += 1;
                return LookUp::Verify { timeout };
            }
            (Age::Stale, Some(Stale::Verify { .. })) => false,
            (Age::Stale, Some(Stale::Immediate { .. }) | None) => true,
        };
        let refresh = is_due && entry.take_refresh(now);
        counters.hits[entry_type as usize] += 1;
        counters.prefetches += u64::from(refresh);
        counters.served_stale += u64::from(age == Age::Stale);
        LookUp::Hit { answer: entry.answer(age, settings, now), refresh }
    }

    /// What to answer although asking has brought nothing better: the entry as long as it may be served, expired or not.
    /// `client_count`: how many wait for it.
    pub fn fallback(
        &mut self,
        key: &CacheKey<'_>,
        now: Instant,
        client_count: usize,
    ) -> Option<CachedResponse<'_>> {
        let Self { settings, store, counters, .. } = self;
        let entry = store.peek(key)?;
        let age = entry.age(settings, now);
        if age == Age::Stale {
            counters.served_stale += client_count as u64;
        }
        (age != Age::Over).then(|| entry.answer(age, settings, now))
    }

    /// Takes an upstream's answer to the question, and keeps it if it may be kept.
    pub fn fill(&mut self, key: &CacheKey<'_>, response: &Arc<Response>, times: Times) -> Filled {
        if response.truncated {
            return Filled::Passed(ttl_unkept(response, &self.settings));
        }
        let Times { received, now, unix_secs } = times;
        let Self { settings, store, .. } = self;
        let term = Term::of(response, settings);
        let last_age = store.peek(key).map_or(Age::Over, |entry| entry.age(settings, now));
        if last_age != Age::Over
            && let Some(entry) = store.peek(key)
            && entry.outranks(response, settings)
        {
            // A denial that is not believed is not asked about again while it would have been kept.
            let pause = match (response.kind, term) {
                (Kind::NoData | Kind::NxDomain | Kind::Delegation, Some(term)) => term.lifetime,
                (Kind::NoData | Kind::NxDomain | Kind::Delegation, None)
                | (Kind::Success | Kind::Led | Kind::Failure, _) => pause_after_failure(settings),
            };
            entry.pause_refreshing(received, pause);
            return Filled::Inferior;
        }
        // It lasts no longer than its signatures (RFC 4035, section 5.3.3), of which only those speak who check them.
        let end = response.signatures_end_unix_secs.filter(|_| key.dnssec_ok);
        let left_secs = end.map(|end| end.wrapping_sub(unix_secs) as i32);
        let is_sound = left_secs.is_none_or(|secs| secs >= 0);
        let term = match left_secs.map(u64::try_from) {
            None => term,
            Some(Ok(secs)) => {
                // Its last second is a whole one.
                let rest = now.saturating_duration_since(received) + Duration::from_secs(secs + 1);
                term.map(|term| term.at_most(rest))
            }
            Some(Err(_)) => None,
        };
        // Without an OPT nobody can have been asked for signatures, though they may have some: see `forward::edns`.
        let term = if key.dnssec_ok && !response.has_opt {
            term.map(|term| term.at_most(UNSIGNED_KEPT_FOR))
        } else {
            term
        };
        if let Some(term) = term
            && let Some(ttl) = self.keep(key, term, response, times)
        {
            return Filled::Kept(ttl);
        }
        // What has expired has been answered anew, if with nothing to keep.
        if last_age == Age::Stale {
            self.store.remove(key);
        }
        Filled::Passed(entry::ttl_unkept(response, &self.settings, is_sound))
    }

    /// Takes what another shard was told, unless what is here came later.
    pub fn learn(&mut self, key: &CacheKey<'_>, response: &Arc<Response>, times: Times) {
        let is_outdated =
            self.store.peek(key).is_some_and(|entry| entry.is_newer_than(times.received));
        if !is_outdated {
            self.fill(key, response, times);
        }
    }

    /// No upstream has answered the question. That is kept, too (RFC 9520, section 3.2), but not in the place of an answer. Not for
    /// a question that was never sent.
    pub fn failed(&mut self, key: &CacheKey<'_>, now: Instant) {
        let Self { settings, store, .. } = self;
        if let Some(entry) = store.peek(key)
            && entry.age(settings, now) != Age::Over
        {
            return entry.pause_refreshing(now, pause_after_failure(settings));
        }
        let failure = Arc::clone(&self.failure);
        if let Some(term) = Term::of(&failure, settings) {
            self.keep(key, term, &failure, Times::at_once(now, 0));
        }
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Entries at the moment, expired ones included.
    #[must_use]
    pub fn entry_count(&self, entry_type: EntryType) -> usize {
        self.store.count(entry_type)
    }

    /// Bytes that the entries take at the moment, each response counted in full though shards share it.
    #[must_use]
    pub fn entries_len(&self, entry_type: EntryType) -> usize {
        self.store.len(entry_type)
    }

    /// Entries that had to make room.
    #[must_use]
    pub fn evictions(&self, entry_type: EntryType) -> u64 {
        self.store.evictions(entry_type)
    }

    /// The rule for those who wait, if something is left of the response's time, there is room for it and nothing is disabled.
    fn keep(
        &mut self,
        key: &CacheKey<'_>,
        term: Term,
        response: &Arc<Response>,
        Times { received, now, .. }: Times,
    ) -> Option<TtlRule> {
        let name = Name::from_wire(key.name)?;
        if self.disabled[term.entry_type as usize].find(&name).is_some() {
            return None;
        }
        let last = self.store.peek(key).map(|last| &*last);
        let entry = Entry::new(Arc::clone(response), term, last, received);
        let age = entry.age(&self.settings, now);
        if age == Age::Over {
            return None;
        }
        let ttl = entry.answer(age, &self.settings, now).ttl;
        self.store.put(key, term.entry_type, entry).then_some(ttl)
    }
}

/// What those who wait are given of a response that a cache with these settings does not keep.
#[must_use]
pub fn ttl_unkept(response: &Response, settings: &CacheSettings) -> TtlRule {
    entry::ttl_unkept(response, settings, true)
}

/// How long an answer that has expired is not asked for again after asking has failed: what `serve_stale` says, else as long as a
/// failure is kept.
fn pause_after_failure(settings: &CacheSettings) -> Duration {
    let recheck = match settings.serve_stale.map(|stale| stale.mode) {
        Some(Stale::Immediate { recheck, .. } | Stale::Verify { recheck, .. }) => recheck,
        None => None,
    };
    recheck.unwrap_or(settings.servfail)
}
