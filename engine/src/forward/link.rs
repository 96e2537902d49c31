//! One upstream as one shard knows it: how it is asked, how it fares, how long it takes.
//!
//! What every exchange comes to is told to `health`, `hedge` and the counters here, and nowhere else. Invariant: at most one
//! health check of an upstream runs at a time, and none of one that is well.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use wire::header::{Rcode, TYPE_NS};
use wire::response::{Reading, Response, read};

use super::Question;
use super::failure::{Cause, ExchangeFailure, Failure, Protocol};
use super::health::{Follows, Health, State};
use super::hedge::AnswerTimes;
use super::query::{Form, Query};
use super::settings::{Settings, Upstream, Way};
use super::stream::{Destination, Found, Pool, Reuse};
use super::udp::{self, Buffer, Route};
use crate::answer::Transport;
use crate::corefile::UpstreamTransport;
use crate::limits::{FORWARD_TIMEOUT, HEALTH_CHECK_TIMEOUT};
use crate::metrics::{UpstreamCounters, UpstreamEvent};

pub(super) struct Link {
    settings: Arc<Settings>,
    /// Which of the settings' upstreams.
    index: usize,
    shard_index: usize,
    health: RefCell<Health>,
    /// Tells those who wait here that a check has failed.
    check_failed: Notify,
    times: RefCell<AnswerTimes>,
    pool: Pool,
    buffer: Rc<Buffer>,
}

impl Link {
    pub(super) fn new(
        settings: &Arc<Settings>,
        index: usize,
        shard_index: usize,
        buffer: &Rc<Buffer>,
    ) -> Self {
        let (options, upstream) = (&settings.options, &settings.upstreams[index]);
        let to = Destination {
            route: Route { to: upstream.address, from: options.source_address },
            way: upstream.way.clone(),
            read_timeout: options.read_timeout,
            idle_max: options.expire,
        };
        Self {
            settings: Arc::clone(settings),
            index,
            shard_index,
            health: RefCell::new(Health::new(options.max_fails)),
            check_failed: Notify::new(),
            times: RefCell::default(),
            pool: Pool::new(to, options.max_age, options.max_idle_conns),
            buffer: Rc::clone(buffer),
        }
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.settings.upstreams[self.index]
    }

    fn counters(&self) -> &UpstreamCounters {
        self.upstream().metrics.shard(self.shard_index)
    }

    pub(super) fn state(&self) -> State {
        if self.upstream().is_looping() { State::Loops } else { self.health.borrow().state() }
    }

    /// How long to wait before another upstream is asked as well.
    pub(super) fn hedge_after(&self) -> Option<Duration> {
        self.times.borrow().hedge_after(self.settings.options.read_timeout)
    }

    /// Asks this upstream, and remembers how it fared.
    pub(super) async fn ask(
        self: &Rc<Self>,
        question: &Question,
        deadline: Instant,
    ) -> Result<Response, Failure> {
        let began = Instant::now();
        match self.exchange(question, deadline).await {
            Ok(response) => {
                let time = began.elapsed();
                self.counters().answered(response.rcode, time);
                self.times.borrow_mut().record(time);
                self.change_health(Health::answered);
                Ok(response)
            }
            Err(failure) => {
                self.failed(&failure);
                Err(Failure::Exchange(failure))
            }
        }
    }

    /// Asks this upstream beside another that is late.
    pub(super) async fn ask_as_hedge(
        self: &Rc<Self>,
        question: &Question,
        deadline: Instant,
    ) -> Result<Response, Failure> {
        self.counters().count(UpstreamEvent::Hedge);
        self.ask(question, deadline).await
    }

    /// It has not answered in the time that it mostly takes.
    pub(super) fn was_late(&self) {
        self.counters().count(UpstreamEvent::Late);
    }

    /// Another, asked later, has answered first.
    pub(super) fn was_outrun(self: &Rc<Self>) {
        let follows = self.change_health(Health::outrun);
        self.check_if(follows);
    }

    /// Waits until a check has found that it does not answer.
    pub(super) async fn fails_check(&self) {
        if !self.health.borrow().is_failing() {
            self.check_failed.notified().await;
        }
    }

    fn failed(self: &Rc<Self>, failure: &ExchangeFailure) {
        self.counters().count(UpstreamEvent::Failed);
        if failure.cause == Cause::Malformed {
            self.counters().count(UpstreamEvent::Malformed);
        }
        let follows = self.change_health(Health::failed);
        self.check_if(follows);
    }

    fn change_health<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.health.borrow_mut();
        let was_down = health.state() == State::Down;
        let outcome = change(&mut health);
        match (was_down, health.state() == State::Down) {
            (false, true) => self.counters().count(UpstreamEvent::WentDown),
            (true, false) => self.counters().count(UpstreamEvent::CameBack),
            (true, true) | (false, false) => {}
        }
        outcome
    }

    fn check_if(self: &Rc<Self>, follows: Follows) {
        match follows {
            Follows::Nothing => {}
            Follows::Check => {
                tokio::task::spawn_local(check_until_well(Rc::downgrade(self)));
            }
        }
    }

    /// One question to this upstream, by the way that options and client ask for.
    pub(super) async fn exchange(
        self: &Rc<Self>,
        question: &Question,
        deadline: Instant,
    ) -> Result<Response, ExchangeFailure> {
        let randomize_case = self.settings.options.randomize_case;
        let form = Form { randomize_case, has_edns: true };
        let response = self.exchange_in(form, question, deadline).await?;
        if response.rcode != Rcode::FormErr as u16 {
            return Ok(response);
        }
        // A server older than EDNS says so (RFC 6891, section 7).
        let form = Form { has_edns: false, ..form };
        Ok(self.exchange_in(form, question, deadline).await.unwrap_or(response))
    }

    async fn exchange_in(
        self: &Rc<Self>,
        form: Form,
        question: &Question,
        deadline: Instant,
    ) -> Result<Response, ExchangeFailure> {
        let options = &self.settings.options;
        let is_over_udp = match (&self.upstream().way, options.transport) {
            (Way::Tls { .. }, _) | (Way::Dns, UpstreamTransport::Tcp) => false,
            (Way::Dns, UpstreamTransport::Udp) => true,
            (Way::Dns, UpstreamTransport::AsAsked) => question.transport == Transport::Udp,
        };
        let mut query = Query::new(question, form);
        if !is_over_udp {
            return self.ask_over_stream(&mut query, deadline, Reuse::Any).await;
        }
        let response = self.ask_over_udp(&query, deadline).await?;
        let may_be_cut = options.passes_truncated && question.transport == Transport::Udp;
        if !response.truncated || may_be_cut {
            return Ok(response);
        }
        self.counters().count(UpstreamEvent::RetriedOverTcp);
        match self.ask_over_stream(&mut query, deadline, Reuse::Any).await {
            Ok(whole) => Ok(whole),
            // Who came over UDP has more from a cut answer, and comes back over TCP if that is too little.
            Err(failure) if question.transport == Transport::Udp => {
                self.failed(&failure);
                Ok(response)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn ask_over_udp(
        &self,
        query: &Query,
        deadline: Instant,
    ) -> Result<Response, ExchangeFailure> {
        let options = &self.settings.options;
        let route = Route { to: self.upstream().address, from: options.source_address };
        let until = deadline.min(Instant::now() + options.read_timeout);
        self.counters().count(UpstreamEvent::UdpOpened);
        let reading = udp::exchange(query, route, until, &self.buffer, self.counters()).await?;
        let fail =
            |cause| ExchangeFailure { protocol: Protocol::Udp, from: None, to: route.to, cause };
        response_of(reading).map_err(fail)
    }

    async fn ask_over_stream(
        &self,
        query: &mut Query,
        deadline: Instant,
        reuse: Reuse,
    ) -> Result<Response, ExchangeFailure> {
        let count = |found| {
            let event = match (&self.upstream().way, found) {
                (Way::Dns, Found::Kept) => UpstreamEvent::TcpKept,
                (Way::Dns, Found::Opened) => UpstreamEvent::TcpOpened,
                (Way::Tls { .. }, Found::Kept) => UpstreamEvent::TlsKept,
                (Way::Tls { .. }, Found::Opened) => UpstreamEvent::TlsOpened,
            };
            self.counters().count(event);
        };
        let message = self.pool.exchange(query, reuse, deadline, count).await?;
        let reading = read(&message, &query.asked());
        if reading == Reading::Foreign {
            self.counters().count(UpstreamEvent::Foreign);
        }
        response_of(reading).map_err(|cause| self.pool.failure(cause))
    }

    /// Whether it answers at all: any answer that can be read will do, whatever it says.
    async fn passes_check(&self) -> bool {
        let options = &self.settings.options;
        let question = Question {
            name: options.health_check.domain.wire.as_slice().into(),
            qtype: TYPE_NS,
            qclass: 1,
            dnssec_ok: false,
            checking_disabled: false,
            recursion_desired: options.health_check.recursion_desired,
            transport: Transport::Udp,
        };
        let form = Form { randomize_case: options.randomize_case, has_edns: true };
        let mut query = Query::new(&question, form);
        let deadline = Instant::now() + FORWARD_TIMEOUT;
        let is_over_stream = match (&self.upstream().way, options.transport) {
            (Way::Tls { .. }, _) | (Way::Dns, UpstreamTransport::Tcp) => true,
            (Way::Dns, UpstreamTransport::Udp | UpstreamTransport::AsAsked) => false,
        };
        let outcome = timeout(HEALTH_CHECK_TIMEOUT, async {
            if is_over_stream {
                // A kept connection may be dead where the upstream is not.
                self.ask_over_stream(&mut query, deadline, Reuse::BegunSince(Instant::now())).await
            } else {
                self.ask_over_udp(&query, deadline).await
            }
        });
        matches!(outcome.await, Ok(Ok(_)))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Forgotten with its `forward` line.
        if self.health.borrow().state() == State::Down {
            self.counters().count(UpstreamEvent::CameBack);
        }
    }
}

fn response_of(reading: Reading) -> Result<Response, Cause> {
    match reading {
        Reading::Answer(response) | Reading::Truncated(response) => Ok(response),
        Reading::Malformed => Err(Cause::Malformed),
        Reading::Foreign => Err(Cause::Foreign),
    }
}

/// Checks an upstream, out of band, until it is well or forgotten.
async fn check_until_well(link: Weak<Link>) {
    loop {
        let Some(held) = link.upgrade() else { return };
        let has_passed = held.passes_check().await;
        if !has_passed {
            held.counters().count(UpstreamEvent::CheckFailed);
        }
        match held.change_health(|health| health.checked(has_passed)) {
            Follows::Nothing => return,
            Follows::Check => held.check_failed.notify_waiters(),
        }
        let every = held.settings.options.health_check.every;
        drop(held);
        sleep(every).await;
    }
}
