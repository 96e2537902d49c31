//! The `cache` plugin of one shard: upstream responses, kept for a time. No socket and no clock;
//! the time is an argument.
//!
//! A shard calls `look_up`. If it must query upstreams, it then calls `fill` with the response, or
//! `failed` if there is none. A key has one entry, so an old denial cannot hide a newer answer
//! (CoreDNS keeps two). `limits` bounds the memory.
//! Invariant: `look_up` neither allocates nor frees, and follows one probe chain.

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
use crate::question::OwnedQuestion;
use entry::{Age, Entry, Term};
use store::Store;

/// Two questions with equal keys share one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheKey<'q> {
    /// Wire format, lower case.
    pub name: &'q [u8],
    pub qtype: u16,
    pub qclass: u16,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
}

impl OwnedQuestion {
    /// The key of its cache entry.
    pub(crate) fn key(&self) -> CacheKey<'_> {
        CacheKey {
            name: &self.name,
            qtype: self.qtype,
            qclass: self.qclass,
            dnssec_ok: self.dnssec_ok,
            checking_disabled: self.checking_disabled,
        }
    }
}

impl CacheKey<'_> {
    /// Everything but the name.
    fn facts(&self) -> u64 {
        let flags = u64::from(self.dnssec_ok) << 1 | u64::from(self.checking_disabled);
        flags << 32 | u64::from(self.qclass) << 16 | u64::from(self.qtype)
    }
}

/// The result of a look-up.
#[derive(Debug)]
pub enum LookUp<'c> {
    /// Nothing that may be served: query the upstreams.
    Miss,
    /// Serve this. If `refresh`, query the upstreams as well, with no client waiting.
    Hit { answer: CachedResponse<'c>, refresh: bool },
    /// There is an expired response. Query the upstreams; if that fails or takes longer than
    /// `timeout`, serve what `Cache::fallback` returns.
    Verify { timeout: Option<Duration> },
}

/// A cached response, and the rule for its TTLs at this moment.
#[derive(Clone, Copy, Debug)]
pub struct CachedResponse<'c> {
    pub response: &'c Response,
    pub ttl: TtlRule,
}

/// When a response was received, and the current time. The two differ where another shard passed
/// the response on.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub received: Instant,
    pub now: Instant,
    /// `now` as Unix time, to compare with the expiry of signatures.
    pub unix_secs: u32,
}

impl Times {
    /// For a response that has just arrived.
    #[must_use]
    pub fn at_once(now: Instant, unix_secs: u32) -> Self {
        Self { received: now, now, unix_secs }
    }
}

/// What the cache did with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Cached. Waiting clients get it with TTLs by this rule.
    Kept(TtlRule),
    /// Not cached. Waiting clients get it with TTLs by this rule.
    Passed(TtlRule),
    /// Not cached, because the existing entry is better: serve what `Cache::fallback` returns.
    Inferior,
}

/// The `type` label of the cache's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// Responses with data.
    Success = 0,
    /// Denials of existence, and failures.
    Denial = 1,
}

/// Totals since the cache was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub requests: u64,
    /// By `EntryType`.
    pub hits: [u64; 2],
    pub misses: u64,
    /// Hits that started a refresh, of a fresh or a stale entry.
    pub prefetches: u64,
    /// Clients that got an expired answer.
    pub served_stale: u64,
}

/// The cache of one `cache` directive in one shard.
pub struct Cache {
    settings: CacheSettings,
    zones: ZoneSet,
    /// By `EntryType`: zones whose responses are not cached.
    disabled: [ZoneSet; 2],
    store: Store,
    counters: Counters,
    /// The entry for a question that no upstream answered.
    failure: Arc<Response>,
}

impl Cache {
    /// `hash_seed` must be random, so that nobody can choose names that share a probe chain.
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

    /// Whether the cache serves this name. The caller looks up no other name.
    #[must_use]
    pub fn covers(&self, name: &Name) -> bool {
        self.zones.find(name).is_some()
    }

    /// Looks a question up, and counts the result.
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

    /// The entry to serve, fresh or stale, after upstreams gave nothing better. `client_count`: the
    /// clients that wait for it.
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

    /// Caches an upstream's response, if it may be cached.
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
            // A denial that loses to the entry is not asked for again within its own lifetime.
            let pause = match (response.kind, term) {
                (Kind::NoData | Kind::NxDomain | Kind::Delegation, Some(term)) => term.lifetime,
                (Kind::NoData | Kind::NxDomain | Kind::Delegation, None)
                | (Kind::Success | Kind::OwnTarget | Kind::Failure, _) => {
                    pause_after_failure(settings)
                }
            };
            entry.pause_refreshing(received, pause);
            return Filled::Inferior;
        }
        // A response must not outlive its signatures (RFC 4035, section 5.3.3). That matters only
        // to clients that validate, which set DO.
        let end = response.signatures_end_unix_secs.filter(|_| key.dnssec_ok);
        let left_secs = end.map(|end| end.wrapping_sub(unix_secs) as i32);
        let is_sound = left_secs.is_none_or(|secs| secs >= 0);
        let term = match left_secs.map(u64::try_from) {
            None => term,
            Some(Ok(secs)) => {
                // Signatures are valid through their last second.
                let rest = now.saturating_duration_since(received) + Duration::from_secs(secs + 1);
                term.map(|term| term.at_most(rest))
            }
            Some(Err(_)) => None,
        };
        // A response without an OPT answers a query without DO: signatures were not asked for,
        // though the upstream may have them (see `forward::edns`).
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
        // The new response is not cached, but it is newer than the stale entry.
        if last_age == Age::Stale {
            self.store.remove(key);
        }
        Filled::Passed(entry::ttl_unkept(response, &self.settings, is_sound))
    }

    /// Caches a response that another shard received, unless the entry here is newer.
    pub fn learn(&mut self, key: &CacheKey<'_>, response: &Arc<Response>, times: Times) {
        let is_outdated =
            self.store.peek(key).is_some_and(|entry| entry.is_newer_than(times.received));
        if !is_outdated {
            self.fill(key, response, times);
        }
    }

    /// Records that no upstream answered the question. That is cached too (RFC 9520, section 3.2),
    /// but never replaces a response. Not for a question that was never sent.
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

    /// Current entries, expired ones included.
    #[must_use]
    pub fn entry_count(&self, entry_type: EntryType) -> usize {
        self.store.count(entry_type)
    }

    /// Bytes of the current entries. Each response counts in full, though shards share it.
    #[must_use]
    pub fn entries_len(&self, entry_type: EntryType) -> usize {
        self.store.len(entry_type)
    }

    /// Entries evicted so far.
    #[must_use]
    pub fn evictions(&self, entry_type: EntryType) -> u64 {
        self.store.evictions(entry_type)
    }

    /// Stores a response and returns the TTL rule for waiting clients. `None` if it has expired
    /// already, is too large, or its zone is disabled.
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

/// The TTL rule for clients that wait for a response which a cache with these settings does not
/// keep.
#[must_use]
pub fn ttl_unkept(response: &Response, settings: &CacheSettings) -> TtlRule {
    entry::ttl_unkept(response, settings, true)
}

/// How long a stale entry is not refreshed after a failure: `serve_stale`'s RECHECK, else the
/// lifetime of a failure.
fn pause_after_failure(settings: &CacheSettings) -> Duration {
    let recheck = match settings.serve_stale.map(|stale| stale.mode) {
        Some(Stale::Immediate { recheck, .. } | Stale::Verify { recheck, .. }) => recheck,
        None => None,
    };
    recheck.unwrap_or(settings.servfail)
}
