//! A shard's caches, its upstreams, and the questions in flight to them.
//!
//! ```text
//!   begin ─→ same question in flight? ─yes─→ wait for that flight
//!             └─no─→ new flight: query each `forward` in turn ─→ land: cache ─→ answer all waiters
//! ```
//! Invariants: a question is in flight at most once, however many clients wait; every waiter gets
//! one response, because `forward` has a deadline and so every flight ends. A query that a table
//! answers never gets here.

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
use wire::response::{Kind, Response, TtlRule};
use wire::table::Wanted;

use crate::answer::chase::View;
use crate::answer::{Ask, Sources};
use crate::cache::{self, Cache, Filled, Times};
use crate::client::Transport;
use crate::forward::{ForwardFailure, ForwardSettings, UpstreamQuestion, Upstreams};
use crate::limits::{FILLS_PER_BATCH_MAX, FORWARD_TIMEOUT, PURSUITS_MAX, WAITERS_MAX};
use crate::metrics::{ShardEvent, ShardMetrics};
use crate::plan::{CachePlan, Plan, Vantage};
use crate::question::OwnedQuestion;
use fills::{Fill, Fills};
use waiter::{FlightResult, LateAnswers, ReturnTo, Waiter};

/// One shard's caches, upstreams and flights.
pub struct Resolver {
    shard: usize,
    metrics: Arc<ShardMetrics>,
    /// By `CacheSlot`, as `cache_plans`.
    caches: Vec<Cache>,
    cache_plans: Vec<Arc<CachePlan>>,
    /// By `ForwardSlot`, as `forward_plans`.
    upstreams: Vec<Rc<Upstreams>>,
    forward_plans: Vec<Arc<ForwardSettings>>,
    /// Look-ups in all caches, as last published to the metrics.
    look_ups_published: u64,
    /// Plans so far. A question under a new plan does not share a flight with one under the old.
    plan_count: u64,
    flights: HashMap<FlightKey, FlightClients>,
    waiter_count: usize,
    /// Pursuits in flight.
    pursuit_count: usize,
    late_answers: LateAnswers,
    fills: Fills,
}

/// Queries with equal keys share a flight: same question to the same upstreams, and same view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    upstream_question: UpstreamQuestion,
    /// Elsewhere the targets of CNAMEs may have other records.
    vantage: Vantage,
    /// By `ForwardSlot`, in the order in which they are queried.
    forwards: Box<[usize]>,
    plan: u64,
}

/// The clients that wait for a flight.
#[derive(Default)]
struct FlightClients {
    waiters: Vec<(Waiter, ReturnTo)>,
    /// Clients of this flight were sent an expired response. A client that joins gets it at once.
    is_served_stale: bool,
}

/// A question for upstreams that starts a flight or joins one.
pub struct UpstreamRequest {
    key: FlightKey,
    /// By `CacheSlot`.
    cache: Option<usize>,
    stale_after: Option<Duration>,
    /// The client; none if the cache only refreshes an entry.
    waiter: Option<Waiter>,
}

impl Resolver {
    #[must_use]
    pub fn new(
        shard: usize,
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
            look_ups_published: 0,
            plan_count: 0,
            flights: HashMap::new(),
            waiter_count: 0,
            pursuit_count: 0,
            late_answers,
            fills,
        }
    }

    /// Creates the caches and upstreams of a plan. Those that the last plan has too are kept. Must
    /// be called in the shard's runtime.
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

    /// Sends the responses that clients wait for.
    pub fn late_answers(&mut self) -> &mut LateAnswers {
        &mut self.late_answers
    }

    /// The request to upstreams for `ask`. `name`: the question's; `options`: for the OPT of the
    /// queries; `waiter`: the client, if one waits.
    #[must_use]
    pub fn request(
        &self,
        plan: &Plan,
        ask: &Ask<'_>,
        name: &Name,
        options: Option<Arc<[u8]>>,
        waiter: Option<Waiter>,
    ) -> UpstreamRequest {
        let asks = &plan.blocks[ask.asks];
        let target = ask.target(name);
        let name = target.as_ref().unwrap_or(name);
        let question = OwnedQuestion {
            name: name.bytes().into(),
            qtype: ask.query.qtype,
            qclass: CLASS_IN,
            dnssec_ok: ask.query.dnssec_ok(),
            checking_disabled: ask.query.checking_disabled(),
        };
        let transport = waiter.as_ref().map_or(Transport::Udp, Waiter::transport);
        let key = FlightKey {
            upstream_question: UpstreamQuestion {
                question: Arc::new(question),
                // A refresh is for all later clients.
                recursion_desired: waiter.is_none() || ask.query.kept_flags & RD != 0,
                transport,
                options,
            },
            vantage: plan.vantage(ask.listener, ask.block),
            forwards: asks.forwards_for(name).map(|slot| slot.0).collect(),
            plan: self.plan_count,
        };
        let cache = asks.cache.map(|slot| slot.0);
        let covers = |slot: &usize| self.caches.get(*slot).is_some_and(|cache| cache.covers(name));
        let stale_after = ask.stale_after;
        UpstreamRequest { key, cache: cache.filter(covers), stale_after, waiter }
    }

    /// Returns a new flight, or adds the waiter to the flight with the same question. A waiter
    /// beyond `WAITERS_MAX` is refused. `now` and `sources` are those of the request.
    pub fn begin(
        &mut self,
        request: UpstreamRequest,
        return_to: Option<ReturnTo>,
        now: Instant,
        sources: &Sources,
    ) -> Option<Flight> {
        self.assert_counted();
        let UpstreamRequest { key, cache, stale_after, waiter } = request;
        let mut waiters: Vec<_> = waiter.zip(return_to).into_iter().collect();
        if self.waiter_count + waiters.len() > WAITERS_MAX {
            self.metrics.count(ShardEvent::ForwardRejected, 1);
            let failure = ForwardFailure::TooMany { max: WAITERS_MAX };
            for (waiter, return_to) in waiters {
                self.late_answers.send_to(waiter, return_to, &FlightResult::Failure(&failure));
            }
            return None;
        }
        self.waiter_count += waiters.len();
        match self.flights.entry(key.clone()) {
            Entry::Occupied(mut flight) => {
                flight.get_mut().waiters.append(&mut waiters);
                if flight.get().is_served_stale && stale_after.is_some() {
                    let cache = cache.and_then(|slot| self.cache_plans.get(slot)).cloned();
                    self.send_expired(&key, cache.as_ref(), sources, now);
                }
                None
            }
            Entry::Vacant(place) => {
                place.insert(FlightClients { waiters, is_served_stale: false });
                let upstreams = key.forwards.iter().filter_map(|at| self.upstreams.get(*at));
                let upstreams = upstreams.cloned().collect();
                let cache = cache.and_then(|slot| self.cache_plans.get(slot)).cloned();
                self.assert_counted();
                Some(Flight { key, upstreams, cache, stale_after })
            }
        }
    }

    /// Every waiting client belongs to a flight. The sum is checked while it is short.
    fn assert_counted(&self) {
        debug_assert!(self.waiter_count <= WAITERS_MAX, "more clients wait than may");
        debug_assert!(
            self.waiter_count == 0 || !self.flights.is_empty(),
            "a client waits without a flight"
        );
        debug_assert!(
            self.flights.len() > 16
                || self.waiter_count
                    == self.flights.values().map(|clients| clients.waiters.len()).sum::<usize>(),
            "the count is the sum over all flights"
        );
    }

    /// Sends the expired response to all waiters of a flight, which continues.
    pub fn send_stale(&mut self, flight: &Flight, sources: &Sources, now: Instant) {
        self.send_expired(&flight.key, flight.cache.as_ref(), sources, now);
    }

    fn send_expired(
        &mut self,
        key: &FlightKey,
        cache: Option<&Arc<CachePlan>>,
        sources: &Sources,
        now: Instant,
    ) {
        let cache = cache_of(&mut self.caches, &self.cache_plans, cache);
        let (Some(cache), Some(clients)) = (cache, self.flights.get_mut(key)) else { return };
        let stale = cache.fallback(&key.question().key(), now, clients.waiters.len());
        if let Some(result) = stale.and_then(|stale| key.cached(stale, sources)) {
            clients.is_served_stale = true;
            self.waiter_count -= clients.waiters.len();
            for (waiter, return_to) in clients.waiters.drain(..) {
                self.late_answers.send_to(waiter, return_to, &result);
            }
        }
    }

    /// Ends a flight: caches the response, sends it to all waiters and to the other shards' caches.
    pub fn land(
        &mut self,
        flight: &Flight,
        outcome: Result<Response, ForwardFailure>,
        sources: &Sources,
        now: Instant,
    ) {
        debug_assert!(self.flights.contains_key(&flight.key), "a flight lands once");
        let FlightClients { waiters, .. } = self.flights.remove(&flight.key).unwrap_or_default();
        let client_count = waiters.len();
        self.waiter_count -= client_count;
        self.assert_counted();
        let key = flight.key.question().key();
        let mut cache = cache_of(&mut self.caches, &self.cache_plans, flight.cache.as_ref());
        // Without recursion an upstream says only what it happens to know.
        let is_kept = flight.key.upstream_question.recursion_desired;
        let late_answers = &mut self.late_answers;
        let send_to_all = |result: FlightResult<'_>| {
            for (waiter, return_to) in waiters {
                late_answers.send_to(waiter, return_to, &result);
            }
        };
        match outcome {
            Ok(response) => {
                let response = Arc::new(flight.without_own_records(response, sources));
                let unkept = flight
                    .cache
                    .as_ref()
                    .map_or(TtlRule::AS_SENT, |plan| cache::ttl_unkept(&response, &plan.settings));
                let filled = match &mut cache {
                    Some(cache) if is_kept => {
                        cache.fill(&key, &response, Times::at_once(now, unix_secs()))
                    }
                    Some(_) if response.kind == Kind::Failure => Filled::Inferior,
                    Some(_) | None => Filled::Passed(unkept),
                };
                match filled {
                    Filled::Kept(ttl) => {
                        send_to_all(FlightResult::Response { response: &response, ttl, sources });
                        if let Some(cache) = &flight.cache {
                            self.fills.publish(&Fill {
                                cache: Arc::clone(cache),
                                question: Arc::clone(flight.key.question()),
                                response,
                                received: now,
                            });
                        }
                    }
                    Filled::Passed(ttl) => {
                        send_to_all(FlightResult::Response { response: &response, ttl, sources });
                    }
                    Filled::Inferior => {
                        let better =
                            cache.and_then(|cache| cache.fallback(&key, now, client_count));
                        let better = better.and_then(|better| flight.key.cached(better, sources));
                        send_to_all(better.unwrap_or(FlightResult::Response {
                            response: &response,
                            ttl: unkept,
                            sources,
                        }));
                    }
                }
            }
            Err(failure) => {
                let stale =
                    cache.as_mut().and_then(|cache| cache.fallback(&key, now, client_count));
                let stale = stale.and_then(|stale| flight.key.cached(stale, sources));
                send_to_all(stale.unwrap_or(FlightResult::Failure(&failure)));
                // A busy shard says nothing about the name, so this failure is not cached.
                if is_kept
                    && !matches!(failure, ForwardFailure::TooMany { .. })
                    && let Some(cache) = cache
                {
                    cache.failed(&key, now);
                }
            }
        }
    }

    /// Whether no client waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiter_count == 0 && self.pursuit_count == 0
    }

    /// Whether a response is awaited, by a client or for the cache.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        !self.flights.is_empty() || self.pursuit_count > 0
    }

    /// Counts a pursuit that begins. False if there are too many.
    #[must_use]
    pub fn begin_pursuit(&mut self) -> bool {
        let may_begin = self.pursuit_count < PURSUITS_MAX;
        self.pursuit_count += usize::from(may_begin);
        may_begin
    }

    /// A pursuit that was counted has ended.
    pub fn end_pursuit(&mut self) {
        debug_assert!(self.pursuit_count > 0, "a pursuit ends once");
        self.pursuit_count -= 1;
    }

    /// Takes responses that other shards received into the caches, as many as a batch has time for.
    /// They may be old: they waited while this shard was idle.
    pub fn take_fills(&mut self, now: Instant) {
        if self.fills.is_empty() {
            return;
        }
        let unix_secs = unix_secs();
        for fill in self.fills.received().take(FILLS_PER_BATCH_MAX) {
            let cache = cache_of(&mut self.caches, &self.cache_plans, Some(&fill.cache));
            if let Some(cache) = cache {
                let times = Times { received: fill.received, now, unix_secs };
                cache.learn(&fill.question.key(), &fill.response, times);
            }
        }
        self.publish_counts();
    }

    /// Publishes the caches' counters to the metrics, if there were look-ups since the last time.
    pub fn publish_look_ups(&mut self) {
        let look_ups = self.caches.iter().map(|cache| cache.counters().requests).sum();
        if self.look_ups_published != look_ups {
            self.look_ups_published = look_ups;
            self.publish_counts();
        }
    }

    pub(crate) fn publish_counts(&self) {
        for (cache, plan) in self.caches.iter().zip(&self.cache_plans) {
            plan.metrics.publish(self.shard, cache);
        }
    }
}

impl FlightKey {
    fn question(&self) -> &Arc<OwnedQuestion> {
        &self.upstream_question.question
    }

    /// The view of the waiting clients.
    fn view<'s>(&self, sources: &'s Sources) -> View<'s> {
        let OwnedQuestion { qtype, dnssec_ok, .. } = **self.question();
        let wanted = Wanted { qtype, dnssec_ok, rotation: 0 };
        View { sources, vantage: self.vantage, wanted, peer: None }
    }

    /// A cached response as the result of this flight, if the waiting clients may have it.
    fn cached<'o>(
        &self,
        cached: cache::CachedResponse<'o>,
        sources: &'o Sources,
    ) -> Option<FlightResult<'o>> {
        FlightResult::cached(cached, self.view(sources), &self.question().name)
    }
}

/// A question in flight to upstreams.
pub struct Flight {
    key: FlightKey,
    upstreams: Vec<Rc<Upstreams>>,
    cache: Option<Arc<CachePlan>>,
    stale_after: Option<Duration>,
}

impl Flight {
    /// How long clients wait before they are sent an expired response (`serve_stale verify`).
    #[must_use]
    pub fn stale_after(&self) -> Option<Duration> {
        self.stale_after
    }

    /// Cuts a response whose CNAMEs lead to one of this server's own names: only the CNAMEs up to
    /// that name stay. The server does not trust an upstream's records for it; its own are looked
    /// up for each client and never cached.
    fn without_own_records(&self, response: Response, sources: &Sources) -> Response {
        let view = self.key.view(sources);
        let question = self.key.question();
        let cut = response.cut_at_own_target(&question.name, |name| view.is_ours(name));
        cut.unwrap_or(response)
    }

    /// Queries one `forward` after another, as long as the option `next` says so.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn ask(&self) -> Result<Response, ForwardFailure> {
        // All `forward` lines together have the time of one.
        let cancel_after = self.upstreams.iter().filter_map(|one| one.cancel_after()).min();
        let patience = cancel_after.unwrap_or(FORWARD_TIMEOUT).min(FORWARD_TIMEOUT);
        let deadline = tokio::time::Instant::now() + patience;
        let mut outcome = Err(ForwardFailure::NoneHealthy);
        for upstreams in &self.upstreams {
            // Past the deadline the response of an earlier line is good enough.
            if outcome.is_ok() && tokio::time::Instant::now() >= deadline {
                break;
            }
            outcome = upstreams.ask(&self.key.upstream_question, deadline).await;
            let passes_on = outcome.as_ref().is_ok_and(|response| upstreams.passes_on(response));
            if !passes_on {
                break;
            }
        }
        outcome
    }
}

/// Keeps what was made for a plan that is the same `Arc` in `next`, and makes the rest.
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

/// The cache of a plan, unless a reload has removed it.
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
