//! `forward` in one shard: sends a question to the upstreams of one line until one answers.
//!
//! ```text
//! admit ─→ order by policy and health ─→ query one ─(late)─→ hedge or repeat ─→ first response
//!                                          └─(failed, or a code of `failover`)─→ query the next
//! ```
//! The control plane builds `settings`, which all shards share, and which has their counts of
//! questions in flight. Everything else belongs to one shard.
//! Invariant: every question ends by its deadline and always leaves the in-flight count.

mod ability;
mod check;
mod edns;
mod failure;
mod health;
mod hedge;
mod host;
mod in_flight;
mod link;
mod looping;
pub mod options;
mod policy;
mod query;
mod resolv_conf;
mod settings;
mod stream;
mod tls;
mod udp;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::{Instant, sleep};
use wire::response::{Kind, Response};

pub use failure::{ExchangeFailure, FailureCause, ForwardFailure, UpstreamProtocol};
pub use looping::TYPE_HINFO;
pub use settings::{AddressOrigin, ForwardSettings, SettingsError, Upstream, Way};

use crate::client::Transport;
use crate::metrics::{ShardEvent, ShardMetrics};
use crate::question::OwnedQuestion;
use edns::{NOERROR, NXDOMAIN};
use health::UpstreamState;
use hedge::HedgeBudget;
use in_flight::{Counted, InFlightGuard};
use link::Link;
use options::Policy;
use policy::Order;

/// A question for upstreams, and how it reaches them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamQuestion {
    pub question: Arc<OwnedQuestion>,
    /// RD
    pub recursion_desired: bool,
    /// The client's.
    pub transport: Transport,
    /// For the OPT of the query, in wire format: those that `rewrite` sets.
    pub options: Option<Arc<[u8]>>,
}

/// The upstreams of one `forward` line in one shard.
pub struct Upstreams {
    settings: Arc<ForwardSettings>,
    /// By upstream.
    links: Vec<Rc<Link>>,
    metrics: Arc<ShardMetrics>,
    in_flight: Counted,
    /// Questions so far, for `policy round_robin`.
    turn: Cell<usize>,
    hedges: RefCell<HedgeBudget>,
}

impl Upstreams {
    /// Must be called in the shard's runtime. The first shard probes each upstream for loops, if
    /// the block has `loop`.
    #[must_use]
    pub fn new(
        settings: &Arc<ForwardSettings>,
        shard: usize,
        metrics: &Arc<ShardMetrics>,
    ) -> Rc<Self> {
        let buffer = Rc::default();
        let links: Vec<_> = (0..settings.upstreams.len())
            .map(|index| Rc::new(Link::new(settings, index, shard, &buffer)))
            .collect();
        if shard == 0 {
            looping::probe(&links);
        }
        Rc::new(Self {
            settings: Arc::clone(settings),
            links,
            metrics: Arc::clone(metrics),
            in_flight: settings.in_flight.begin(shard),
            turn: Cell::new(shard),
            hedges: RefCell::default(),
        })
    }

    /// Queries upstreams one after another, sometimes two at once, until one answers. A `truncated`
    /// response is for the client only, which may retry over TCP.
    ///
    /// May be dropped at any time; exchanges in flight end then.
    ///
    /// # Errors
    /// Why there is no response, with the response code for the client.
    pub async fn ask(
        &self,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ForwardFailure> {
        let _guard = self.admit()?;
        let mut order = self.order()?;
        let mut outcome = Err(ForwardFailure::NoneHealthy);
        while Instant::now() < deadline
            && let Some(index) = order.next()
        {
            let next = self.ask_hedged(index, &mut order, question, deadline).await;
            if next.is_ok() {
                order.responded();
            }
            match next {
                // If no upstream does better, the client gets this response.
                Ok(response) if self.fails_over(&response) && order.has_untried() => {
                    outcome = Ok(response);
                }
                Ok(response) => return Ok(response),
                Err(failure) if outcome.is_err() => outcome = Err(failure),
                Err(_) => {}
            }
        }
        outcome
    }

    /// Whether the block's next `forward` line should be tried (`next`, `next_on_nodata`).
    #[must_use]
    pub fn passes_on(&self, response: &Response) -> bool {
        let options = &self.settings.options;
        options.next.contains(&response.rcode)
            || (options.next_on_nodata && response.kind == Kind::NoData)
    }

    /// `cancel`: time for a question, if that is less than ours.
    #[must_use]
    pub fn cancel_after(&self) -> Option<Duration> {
        self.settings.options.cancel_after
    }

    /// This shard's questions in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.settings.in_flight.of_thread(self.in_flight)
    }

    fn admit(&self) -> Result<InFlightGuard<'_>, ForwardFailure> {
        let admitted = self.settings.in_flight.admit(self.in_flight);
        admitted.inspect_err(|_| self.metrics.count(ShardEvent::ForwardRejected, 1))
    }

    /// The upstreams to try. If all are down, one at random, since the health checks may be at
    /// fault.
    fn order(&self) -> Result<Order, ForwardFailure> {
        let options = &self.settings.options;
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let states: Vec<UpstreamState> = self.links.iter().map(|link| link.state()).collect();
        let mut random = rand::rng();
        let dice = |count| random.random_range(0..count);
        let failures_max = options.max_connect_attempts as usize;
        let order = Order::new(options.policy, &states, turn, dice, failures_max);
        if !order.is_empty() {
            return Ok(order);
        }
        self.metrics.count(ShardEvent::UpstreamsDown, 1);
        let is_down = |index: &usize| states[*index] == UpstreamState::Down;
        let down: Vec<usize> = (0..states.len()).filter(is_down).collect();
        if options.failfast_all_unhealthy_upstreams || down.is_empty() {
            return Err(ForwardFailure::NoneHealthy);
        }
        Ok(Order::only(down[random.random_range(0..down.len())]))
    }

    /// One try. If the upstream is late, another is queried as well, or the same again if it is the
    /// only one; the first response counts.
    async fn ask_hedged(
        &self,
        index: usize,
        order: &mut Order,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ForwardFailure> {
        self.hedges.borrow_mut().asked();
        let link = &self.links[index];
        if self.settings.options.hedge == Some(false) {
            return link.ask(question, deadline).await;
        }
        let has_other = order.has_healthy_untried();
        if has_other && let Some(late_after) = link.hedge_after() {
            return self.ask_with_hedge(link, late_after, order, question, deadline).await;
        }
        let may_repeat = !has_other && link.is_asked_over_udp(question) && order.repeat();
        if may_repeat && let Some(late_after) = link.repeat_after() {
            return self.ask_with_repeat(link, late_after, question, deadline).await;
        }
        link.ask(question, deadline).await
    }

    async fn ask_with_hedge(
        &self,
        link: &Rc<Link>,
        late_after: Duration,
        order: &mut Order,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ForwardFailure> {
        let mut first = pin!(link.ask(question, deadline));
        tokio::select! {
            outcome = &mut first => return outcome,
            () = sleep(late_after) => {}
        }
        link.was_late();
        let keeps_order = self.keeps_order();
        if keeps_order {
            link.check_health();
        }
        if keeps_order || !self.hedges.borrow_mut().spend() {
            // No hedge for an upstream that may just be slow; but do not wait for one whose health
            // check fails.
            tokio::select! {
                outcome = &mut first => return outcome,
                () = link.fails_check() => {}
            }
        }
        let Some(other) = order.next() else { return first.await };
        let mut second = pin!(self.links[other].ask_as_hedge(question, deadline));
        tokio::select! {
            outcome = &mut first => {
                if self.settles(&outcome) {
                    return outcome;
                }
                either(second.await, outcome, order)
            }
            hedged = &mut second => {
                let is_answer = |one: &Response| matches!(one.rcode, NOERROR | NXDOMAIN);
                if self.settles(&hedged) && hedged.as_ref().is_ok_and(is_answer) {
                    link.was_outrun();
                    return hedged;
                }
                // An upstream that refuses is no faster than one that is about to answer, if that
                // one lives.
                link.check_health();
                tokio::select! {
                    outcome = &mut first => either(outcome, hedged, order),
                    () = link.fails_check() => {
                        link.given_up();
                        hedged
                    }
                }
            }
        }
    }

    /// Whether an upstream is asked only after those before it have failed: they may know different
    /// names.
    fn keeps_order(&self) -> bool {
        let options = &self.settings.options;
        options.hedge.is_none() && options.policy == Policy::Sequential
    }

    /// For a single upstream: a query that may be lost is sent once more.
    async fn ask_with_repeat(
        &self,
        link: &Rc<Link>,
        late_after: Duration,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ForwardFailure> {
        let mut first = pin!(link.ask(question, deadline));
        tokio::select! {
            outcome = &mut first => return outcome,
            () = sleep(late_after) => {}
        }
        link.was_late();
        if !self.hedges.borrow_mut().spend() {
            return first.await;
        }
        let mut second = pin!(link.ask_as_hedge(question, deadline));
        tokio::select! {
            outcome = &mut first => if outcome.is_ok() { outcome } else { second.await },
            outcome = &mut second => if outcome.is_ok() { outcome } else { first.await },
        }
    }

    /// Whether this result ends the try, though another query is in flight.
    fn settles(&self, outcome: &Result<Response, ForwardFailure>) -> bool {
        outcome.as_ref().is_ok_and(|response| !self.fails_over(response))
    }

    fn fails_over(&self, response: &Response) -> bool {
        self.settings.options.failover.contains(&response.rcode)
    }
}

/// The first result if it is a response, else the other. The caller counts one response; if both
/// are, this counts the other.
fn either(
    first: Result<Response, ForwardFailure>,
    other: Result<Response, ForwardFailure>,
    order: &mut Order,
) -> Result<Response, ForwardFailure> {
    if first.is_ok() && other.is_ok() {
        order.responded();
    }
    first.or(other)
}
