//! One cached response: how long it is served, with which TTLs, and when it is refreshed.
//!
//! Where entries are stored and which are evicted is in `store`. Invariant: an entry that is served
//! as fresh has at least one second left on every record, unless its TTL may be 0.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::header::Rcode;
use wire::response::{Kind, Response, TTL_SECS_MAX, TtlRule};

use super::{CachedResponse, EntryType};
use crate::cache::settings::{CacheSettings, Stale};
use crate::limits::CACHE_REFRESH_PAUSE;

/// The lifetime of a response that states none: one without records, or a delegation.
const FAIL_SAFE_SECS: u32 = 5;

/// Caps every lifetime, whatever the settings.
const LIFETIME_MAX: Duration = Duration::from_secs(TTL_SECS_MAX as u64);

pub(super) struct Entry {
    pub(super) response: Arc<Response>,
    term: Term,
    /// When it arrived from the upstream, at this shard or another.
    received: Instant,
    /// No refresh before this time.
    refresh_from: Instant,
    /// Hits since the last gap that was too long for `prefetch`.
    hits: u32,
    last_hit: Instant,
}

/// How long a response is cached, and the bounds of its TTLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) entry_type: EntryType,
    pub(super) lifetime: Duration,
    ttl_secs_min: u32,
    ttl_secs_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// Expired, but `serve_stale` still allows it.
    Stale,
    /// Expired, and not to be served any more.
    Over,
}

impl Term {
    /// `None` if the response is not cached: denials without an SOA, CNAME chains that lead
    /// nowhere, failures other than the upstream's own, and responses with a lifetime of 0.
    pub(super) fn of(response: &Response, settings: &CacheSettings) -> Option<Self> {
        let (entry_type, ttl_secs) = match (response.kind, response.soa_minimum_secs) {
            (Kind::Success | Kind::OwnTarget, _) => (EntryType::Success, response.ttl_secs_min),
            (Kind::Delegation, _) => (EntryType::Success, None),
            // CoreDNS treats an empty response as a success.
            (Kind::NoData, None) if response.answer_count() == 0 => (EntryType::Success, None),
            (Kind::NoData | Kind::NxDomain, None) => return None,
            (Kind::NoData | Kind::NxDomain, Some(minimum)) => {
                (EntryType::Denial, response.ttl_secs_min.map(|ttl_secs| ttl_secs.min(minimum)))
            }
            (Kind::Failure, _) => return Self::of_failure(response, settings),
        };
        let share = match entry_type {
            EntryType::Success => &settings.success,
            EntryType::Denial => &settings.denial,
        };
        let ttl = Duration::from_secs(ttl_secs.unwrap_or(FAIL_SAFE_SECS).into());
        let lifetime = ttl.max(share.ttl_min).min(share.ttl_max).min(LIFETIME_MAX);
        // The SOA of a denial must not outlive it (RFC 2308, section 3).
        let is_data = matches!(response.kind, Kind::Success | Kind::OwnTarget);
        let ttl_max = if is_data { share.ttl_max } else { lifetime };
        (!lifetime.is_zero()).then_some(Self {
            entry_type,
            lifetime,
            ttl_secs_min: secs(share.ttl_min),
            ttl_secs_max: secs(ttl_max),
        })
    }

    /// The same term, cut to this lifetime.
    pub(super) fn at_most(self, lifetime_max: Duration) -> Self {
        let lifetime = self.lifetime.min(lifetime_max);
        Self { lifetime, ttl_secs_max: self.ttl_secs_max.min(secs(lifetime)), ..self }
    }

    fn of_failure(response: &Response, settings: &CacheSettings) -> Option<Self> {
        let is_upstreams_own =
            [Rcode::ServFail, Rcode::NotImp].iter().any(|rcode| *rcode as u16 == response.rcode);
        let lifetime = settings.servfail;
        (is_upstreams_own && !lifetime.is_zero()).then_some(Self {
            entry_type: EntryType::Denial,
            lifetime,
            ttl_secs_min: 0,
            ttl_secs_max: secs(lifetime),
        })
    }
}

/// The TTLs of a response that is not cached, for the clients that wait: those it arrived with, but
/// none longer than the longest in this cache. `is_sound`: its signatures have not expired.
pub(super) fn ttl_unkept(response: &Response, settings: &CacheSettings, is_sound: bool) -> TtlRule {
    let of_denial = settings.denial.ttl_max;
    // Denials without a lifetime and chains without an end get the lifetime of a failure.
    let briefly = settings.servfail.min(of_denial);
    let ttl_max = match (response.kind, response.soa_minimum_secs) {
        (Kind::Success | Kind::OwnTarget, _) if is_sound => settings.success.ttl_max,
        (Kind::NoData | Kind::NxDomain, Some(_)) if is_sound => of_denial,
        (
            Kind::Success
            | Kind::OwnTarget
            | Kind::NoData
            | Kind::NxDomain
            | Kind::Delegation
            | Kind::Failure,
            _,
        ) => briefly,
    };
    TtlRule::Aged { age_secs: 0, secs_min: 0, secs_max: secs(ttl_max) }
}

impl Entry {
    /// `last`: the entry it replaces. An entry that is refreshed before it expires keeps its hits.
    pub(super) fn new(
        response: Arc<Response>,
        term: Term,
        last: Option<&Self>,
        received: Instant,
    ) -> Self {
        let last = last.filter(|last| received < last.expiry());
        let (hits, last_hit) = last.map_or((0, received), |last| (last.hits, last.last_hit));
        Self { response, term, received, refresh_from: received, hits, last_hit }
    }

    pub(super) fn is_newer_than(&self, received: Instant) -> bool {
        self.received > received
    }

    pub(super) fn age(&self, settings: &CacheSettings, now: Instant) -> Age {
        if now < self.expiry() {
            return Age::Fresh;
        }
        match &settings.serve_stale {
            // An expired failure is never served: the upstream must be asked again.
            Some(stale) if self.response.kind != Kind::Failure => {
                if now < self.expiry() + stale.keep { Age::Stale } else { Age::Over }
            }
            Some(_) | None => Age::Over,
        }
    }

    fn expiry(&self) -> Instant {
        self.received + self.term.lifetime
    }

    /// What a client gets from an entry of this age.
    pub(super) fn answer(
        &self,
        age: Age,
        settings: &CacheSettings,
        now: Instant,
    ) -> CachedResponse<'_> {
        let aged = |age_secs| TtlRule::Aged {
            age_secs,
            secs_min: self.term.ttl_secs_min,
            secs_max: self.term.ttl_secs_max,
        };
        let stale_ttl = match settings.serve_stale.map(|stale| stale.mode) {
            Some(Stale::Immediate { ttl, .. } | Stale::Verify { ttl, .. }) => ttl,
            None => Duration::ZERO,
        };
        let ttl = match age {
            Age::Stale | Age::Over if !stale_ttl.is_zero() => {
                TtlRule::Fixed { secs: secs(stale_ttl) }
            }
            Age::Fresh | Age::Stale | Age::Over if settings.keepttl => aged(0),
            Age::Fresh => aged(self.age_secs(now)),
            Age::Stale | Age::Over => TtlRule::Fixed { secs: 0 },
        };
        CachedResponse { response: &self.response, ttl }
    }

    /// Counts a hit. True once there were enough hits and little enough of the TTL is left.
    pub(super) fn is_worth_prefetching(&mut self, settings: &CacheSettings, now: Instant) -> bool {
        let Some(prefetch) = settings.prefetch else { return false };
        let gap = now.saturating_duration_since(self.last_hit);
        self.hits = if gap > prefetch.within { 1 } else { self.hits.saturating_add(1) };
        self.last_hit = now;
        let lifetime_secs = secs(self.term.lifetime);
        let due_secs = (u64::from(lifetime_secs) * u64::from(prefetch.percentage)).div_ceil(100);
        let left_secs = lifetime_secs.saturating_sub(self.age_secs(now));
        // A failure is not refreshed before it expires (RFC 9520, section 3.2).
        self.response.kind != Kind::Failure
            && self.hits >= prefetch.amount
            && u64::from(left_secs) <= due_secs
    }

    /// True if a refresh is allowed now; the next one is then delayed.
    pub(super) fn take_refresh(&mut self, now: Instant) -> bool {
        let is_due = self.may_refresh(now);
        if is_due {
            self.pause_refreshing(now, CACHE_REFRESH_PAUSE);
        }
        is_due
    }

    pub(super) fn may_refresh(&self, now: Instant) -> bool {
        now >= self.refresh_from
    }

    /// Never shortens a pause that lasts longer.
    pub(super) fn pause_refreshing(&mut self, from: Instant, pause: Duration) {
        self.refresh_from = self.refresh_from.max(from + pause);
    }

    /// Whether this entry is better than the newer `response`: failures pass, and
    /// `prefer_positive` treats denials as failures.
    pub(super) fn outranks(&self, response: &Response, settings: &CacheSettings) -> bool {
        let prefers_positive = settings.serve_stale.is_some_and(|stale| stale.prefers_positive);
        match response.kind {
            Kind::Success | Kind::OwnTarget => false,
            Kind::Failure => self.response.kind != Kind::Failure,
            Kind::NoData | Kind::NxDomain | Kind::Delegation => {
                prefers_positive && matches!(self.response.kind, Kind::Success | Kind::OwnTarget)
            }
        }
    }

    fn age_secs(&self, now: Instant) -> u32 {
        secs(now.saturating_duration_since(self.received))
    }
}

/// Whole seconds.
fn secs(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
