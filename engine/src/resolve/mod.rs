//! What a shard knows and asks beyond its tables: caches, upstreams, and questions on their way.
//!
//! ```text
//!   begin ─→ the same question on its way? ─yes─→ wait with the others
//!             └─no─→ a flight: upstreams asked, one `forward` after the other ─→ land: cache ─→ every waiter answered
//! ```
//! Invariants: a question is on its way once, however many wait; every waiter is answered once, for a flight ends whatever
//! becomes of it (`forward` has its deadline); nothing here is touched by a question that a table answers.

pub mod fills;
pub mod outbox;
pub mod waiter;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wire::header::{CLASS_IN, RD};
use wire::name::Name;
use wire::response::{Response, TtlRule};

use crate::answer::chase::View;
use crate::answer::{Ask, Sources};
use crate::cache::{self, Cache, CacheKey, Filled, Times};
use crate::client::{ListenerId, Transport};
use crate::forward::{self, ForwardFailure, ShardNumber, Upstreams};
use crate::limits::{FILLS_PER_BATCH_MAX, FORWARD_TIMEOUT, WAITERS_MAX};
use crate::metrics::{ShardEvent, ShardMetrics};
use crate::plan::{CachePlan, Plan};
use fills::{Fill, Fills};
use waiter::{Landing, LateAnswers, ReturnTo, Waiter};

/// One shard's caches, upstreams and flights.
pub struct Resolver {
    shard: ShardNumber,
    metrics: Arc<ShardMetrics>,
    /// By `CacheSlot`, as `cache_plans`.
    caches: Vec<Cache>,
    cache_plans: Vec<Arc<CachePlan>>,
    /// By `ForwardSlot`, as `forward_plans`.
    upstreams: Vec<Rc<Upstreams>>,
    forward_plans: Vec<Arc<forward::ForwardSettings>>,
    /// Look-ups in all caches that scrapes have been shown.
    look_ups_shown: u64,
    /// Plans so far: a question under a new plan does not wait for one under the old.
    plan_count: u64,
    flights: HashMap<FlightKey, Aboard>,
    waiter_count: usize,
    late_answers: LateAnswers,
    fills: Fills,
}

/// The question that upstreams are asked, class IN. The name is in wire format and lower case.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    name: Box<[u8]>,
    qtype: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
}

/// What makes two questions one flight: all that upstreams are told, and which upstreams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    asked: Arc<Asked>,
    recursion_desired: bool,
    transport: Transport,
    /// Clients of another one may be told something else of where CNAMEs lead.
    listener: ListenerId,
    /// By `ForwardSlot`, in the order in which they are asked.
    forwards: Box<[usize]>,
    plan: u64,
}

/// Who waits for a flight.
#[derive(Default)]
struct Aboard {
    waiters: Vec<(Waiter, ReturnTo)>,
    /// Those who waited have been given an expired answer: so is at once whoever asks now.
    is_late: bool,
}

/// A flight that may begin.
pub struct Departure {
    key: FlightKey,
    /// By `CacheSlot`.
    cache: Option<usize>,
    stale_after: Option<Duration>,
    /// Who waits; nobody where the cache refreshes itself.
    waiter: Option<Waiter>,
}

impl Resolver {
    #[must_use]
    pub fn new(
        shard: ShardNumber,
        metrics: Arc<ShardMetrics>,
        late_answers: LateAnswers,
        fills: Fills,
    ) -> Self {
        Self {
            shard,
            metrics,
            caches: Vec::new(),
            cache_plans: Vec::new(),
            upstreams: Vec::new(),
            forward_plans: Vec::new(),
            look_ups_shown: 0,
            plan_count: 0,
            flights: HashMap::new(),
            waiter_count: 0,
            late_answers,
            fills,
        }
    }

    /// Makes the caches and upstreams of a plan; what it has in common with the one before stays as it is. Must be called in
    /// the shard's runtime.
    pub fn take_plan(&mut self, plan: &Plan) {
        self.plan_count += 1;
        carry_over(&mut self.cache_plans, &mut self.caches, &plan.caches, |plan| {
            Cache::new(&plan.settings, rand::random())
        });
        carry_over(&mut self.forward_plans, &mut self.upstreams, &plan.forwards, |settings| {
            Upstreams::new(settings, self.shard, &self.metrics)
        });
    }

    /// By `CacheSlot`.
    pub fn caches(&mut self) -> &mut [Cache] {
        &mut self.caches
    }

    /// How late answers leave.
    pub fn late_answers(&mut self) -> &mut LateAnswers {
        &mut self.late_answers
    }

    /// What `ask` means for upstreams. `name`: the question's; `waiter`: who asks.
    #[must_use]
    pub fn departure(
        &self,
        plan: &Plan,
        ask: &Ask<'_>,
        name: &Name,
        waiter: Option<Waiter>,
    ) -> Departure {
        let asks = &plan.blocks[ask.asks];
        let target = ask.target();
        let name = target.as_ref().unwrap_or(name);
        let asked = Asked {
            name: name.bytes().into(),
            qtype: ask.query.qtype,
            dnssec_ok: ask.query.dnssec_ok(),
            checking_disabled: ask.query.checking_disabled(),
        };
        let transport = waiter.as_ref().map_or(Transport::Udp, Waiter::transport);
        let key = FlightKey {
            asked: Arc::new(asked),
            recursion_desired: ask.query.kept_flags & RD != 0,
            transport,
            listener: ask.listener,
            forwards: asks.forwards_for(name).map(|slot| slot.0).collect(),
            plan: self.plan_count,
        };
        let cache = asks.cache.map(|slot| slot.0);
        let covers = |slot: &usize| self.caches.get(*slot).is_some_and(|cache| cache.covers(name));
        Departure { key, cache: cache.filter(covers), stale_after: ask.stale_after, waiter }
    }

    /// Has upstreams asked, or the waiter wait with those who asked the same before. Where there is no room for another
    /// waiter it is refused. `now` and `sources` are those of the departure.
    pub fn begin(
        &mut self,
        departure: Departure,
        return_to: Option<ReturnTo>,
        now: Instant,
        sources: Sources<'_>,
    ) -> Option<Flight> {
        let Departure { key, cache, stale_after, waiter } = departure;
        let mut waiters: Vec<_> = waiter.zip(return_to).into_iter().collect();
        if self.waiter_count + waiters.len() > WAITERS_MAX {
            self.metrics.count(ShardEvent::ForwardRejected, 1);
            let failure = ForwardFailure::TooMany { max: WAITERS_MAX };
            for (waiter, return_to) in waiters {
                self.late_answers.give(waiter, return_to, &Landing::Failure(&failure));
            }
            return None;
        }
        self.waiter_count += waiters.len();
        match self.flights.entry(key.clone()) {
            Entry::Occupied(mut flight) => {
                flight.get_mut().waiters.append(&mut waiters);
                if flight.get().is_late && stale_after.is_some() {
                    let cache = cache.and_then(|slot| self.cache_plans.get(slot)).cloned();
                    self.give_stale(&key, cache.as_ref(), sources, now);
                }
                None
            }
            Entry::Vacant(place) => {
                place.insert(Aboard { waiters, is_late: false });
                let upstreams = key.forwards.iter().filter_map(|at| self.upstreams.get(*at));
                let upstreams = upstreams.cloned().collect();
                let cache = cache.and_then(|slot| self.cache_plans.get(slot)).cloned();
                Some(Flight { key, upstreams, cache, stale_after })
            }
        }
    }

    /// Answers those who wait with what has expired; the flight goes on.
    pub fn give_stale_of(&mut self, flight: &Flight, sources: Sources<'_>, now: Instant) {
        self.give_stale(&flight.key, flight.cache.as_ref(), sources, now);
    }

    fn give_stale(
        &mut self,
        key: &FlightKey,
        cache: Option<&Arc<CachePlan>>,
        sources: Sources<'_>,
        now: Instant,
    ) {
        let cache = cache_of(&mut self.caches, &self.cache_plans, cache);
        let (Some(cache), Some(aboard)) = (cache, self.flights.get_mut(key)) else { return };
        let stale = cache.fallback(&key.asked.key(), now, aboard.waiters.len());
        if let Some(outcome) = stale.and_then(|stale| key.kept(stale, sources)) {
            aboard.is_late = true;
            self.waiter_count -= aboard.waiters.len();
            for (waiter, return_to) in aboard.waiters.drain(..) {
                self.late_answers.give(waiter, return_to, &outcome);
            }
        }
    }

    /// Ends a flight: the cache learns of it, those who wait are answered, other shards are told.
    pub fn land(
        &mut self,
        flight: &Flight,
        outcome: Result<Response, ForwardFailure>,
        sources: Sources<'_>,
        now: Instant,
    ) {
        let Aboard { waiters, .. } = self.flights.remove(&flight.key).unwrap_or_default();
        let client_count = waiters.len();
        self.waiter_count -= client_count;
        let key = flight.key.asked.key();
        let mut cache = cache_of(&mut self.caches, &self.cache_plans, flight.cache.as_ref());
        let late_answers = &mut self.late_answers;
        let give = |outcome: Landing<'_>| {
            for (waiter, return_to) in waiters {
                late_answers.give(waiter, return_to, &outcome);
            }
        };
        match outcome {
            Ok(response) => {
                let response = Arc::new(flight.without_ours(response, sources));
                let unkept = flight
                    .cache
                    .as_ref()
                    .map_or(TtlRule::AS_SENT, |plan| cache::ttl_unkept(&response, &plan.settings));
                let filled = cache.as_mut().map_or(Filled::Passed(unkept), |cache| {
                    cache.fill(&key, &response, Times::at_once(now, unix_secs()))
                });
                match filled {
                    Filled::Kept(ttl) => {
                        give(Landing::Response { response: &response, ttl, sources });
                        if let Some(cache) = &flight.cache {
                            let (cache, asked) = (Arc::clone(cache), Arc::clone(&flight.key.asked));
                            self.fills.publish(&Fill { cache, asked, response, received: now });
                        }
                    }
                    Filled::Passed(ttl) => {
                        give(Landing::Response { response: &response, ttl, sources });
                    }
                    Filled::Inferior => {
                        let kept = cache.and_then(|cache| cache.fallback(&key, now, client_count));
                        let unkept =
                            Landing::Response { response: &response, ttl: unkept, sources };
                        let kept = kept.and_then(|kept| flight.key.kept(kept, sources));
                        give(kept.unwrap_or(unkept));
                    }
                }
            }
            Err(failure) => {
                let kept = cache.as_mut().and_then(|cache| cache.fallback(&key, now, client_count));
                let failed = Landing::Failure(&failure);
                let kept = kept.and_then(|kept| flight.key.kept(kept, sources));
                give(kept.unwrap_or(failed));
                // That we are busy says nothing of the name.
                if !matches!(failure, ForwardFailure::TooMany { .. })
                    && let Some(cache) = cache
                {
                    cache.failed(&key, now);
                }
            }
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiter_count == 0
    }

    /// Takes what other shards were told, as much as a batch has time for. It may have waited as long as this shard was idle.
    pub fn take_fills(&mut self, now: Instant) {
        if self.fills.is_empty() {
            return;
        }
        let unix_secs = unix_secs();
        for fill in self.fills.received().take(FILLS_PER_BATCH_MAX) {
            let cache = cache_of(&mut self.caches, &self.cache_plans, Some(&fill.cache));
            if let Some(cache) = cache {
                let times = Times { received: fill.received, now, unix_secs };
                cache.learn(&fill.asked.key(), &fill.response, times);
            }
        }
        self.publish_counts();
    }

    /// Shows scrapes what the caches have counted, if a batch has asked them for anything.
    pub fn publish_look_ups(&mut self) {
        let look_ups = self.caches.iter().map(|cache| cache.counters().requests).sum();
        if self.look_ups_shown != look_ups {
            self.look_ups_shown = look_ups;
            self.publish_counts();
        }
    }

    pub(crate) fn publish_counts(&self) {
        for (cache, plan) in self.caches.iter().zip(&self.cache_plans) {
            plan.metrics.publish(self.shard.index, cache);
        }
    }
}

impl Asked {
    #[cfg(test)]
    pub(crate) fn of(name: &[u8], qtype: u16) -> Self {
        Self { name: name.into(), qtype, dnssec_ok: false, checking_disabled: false }
    }

    pub(crate) fn key(&self) -> CacheKey<'_> {
        CacheKey {
            name: &self.name,
            qtype: self.qtype,
            qclass: CLASS_IN,
            dnssec_ok: self.dnssec_ok,
            checking_disabled: self.checking_disabled,
        }
    }
}

impl FlightKey {
    /// That of those who wait.
    fn view<'s>(&self, sources: Sources<'s>) -> View<'s> {
        View { sources, listener: self.listener, qtype: self.asked.qtype }
    }

    /// What those who wait may be given of what a cache has.
    fn kept<'o>(
        &self,
        kept: cache::CachedResponse<'o>,
        sources: Sources<'o>,
    ) -> Option<Landing<'o>> {
        Landing::kept(kept, self.view(sources), &self.asked.name)
    }
}

/// A question on its way.
pub struct Flight {
    key: FlightKey,
    upstreams: Vec<Rc<Upstreams>>,
    cache: Option<Arc<CachePlan>>,
    stale_after: Option<Duration>,
}

impl Flight {
    /// How long its clients wait before they are given an expired response (`serve_stale verify`).
    #[must_use]
    pub fn stale_after(&self) -> Option<Duration> {
        self.stale_after
    }

    /// Of CNAMEs that lead to a name of this server's own those up to it: what the upstream says of that name is of no account,
    /// and what the tables say is looked up for each client, and kept nowhere.
    fn without_ours(&self, response: Response, sources: Sources<'_>) -> Response {
        let view = self.key.view(sources);
        let led = response.cut_at_own_target(&self.key.asked.name, |name| view.is_ours(name));
        led.unwrap_or(response)
    }

    /// One `forward` after the other, as long as `next` says so.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn ask(&self) -> Result<Response, ForwardFailure> {
        let FlightKey { asked, recursion_desired, transport, .. } = &self.key;
        let question = forward::UpstreamQuestion {
            name: asked.name.clone(),
            qtype: asked.qtype,
            qclass: CLASS_IN,
            dnssec_ok: asked.dnssec_ok,
            checking_disabled: asked.checking_disabled,
            recursion_desired: *recursion_desired,
            transport: *transport,
        };
        // All lines together have the time that one has.
        let deadline = tokio::time::Instant::now() + FORWARD_TIMEOUT;
        let mut outcome = Err(ForwardFailure::NoneHealthy);
        for upstreams in &self.upstreams {
            // What a line before has said is an answer, too.
            if outcome.is_ok() && tokio::time::Instant::now() >= deadline {
                break;
            }
            outcome = upstreams.ask(&question, deadline).await;
            let passes_on = outcome.as_ref().is_ok_and(|response| upstreams.passes_on(response));
            if !passes_on {
                break;
            }
        }
        outcome
    }
}

/// What was made for plans that are the very same in `next` stays, the rest is made anew.
fn carry_over<P, T>(
    plans: &mut Vec<Arc<P>>,
    things: &mut Vec<T>,
    next: &[Arc<P>],
    make: impl Fn(&Arc<P>) -> T,
) {
    let mut old: Vec<_> = plans.drain(..).zip(things.drain(..)).collect();
    for plan in next {
        let same = old.iter().position(|(other, _)| Arc::ptr_eq(other, plan));
        things.push(same.map_or_else(|| make(plan), |at| old.swap_remove(at).1));
        plans.push(Arc::clone(plan));
    }
}

/// The cache of a plan, unless a reload has taken it away.
fn cache_of<'c>(
    caches: &'c mut [Cache],
    plans: &[Arc<CachePlan>],
    plan: Option<&Arc<CachePlan>>,
) -> Option<&'c mut Cache> {
    let at = plans.iter().position(|one| plan.is_some_and(|plan| Arc::ptr_eq(one, plan)))?;
    caches.get_mut(at)
}

/// Modulo 2^32, as signatures count (RFC 4034, section 3.1.5).
fn unix_secs() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() as u32
}
