//! One upstream, as one shard sees it: how to query it, its health, its response times.
//!
//! The result of each exchange reaches `health`, `hedge`, `edns` and the counters here and nowhere
//! else. Invariant: every query uses only what the upstream is known to support of EDNS and TCP.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use wire::response::{Response, UpstreamPacket, read};

use super::UpstreamQuestion;
use super::ability::Ability;
use super::check;
use super::edns::{Edns, EdnsVerdict};
use super::failure::{ExchangeFailure, FailureCause, ForwardFailure, UpstreamProtocol};
use super::health::{NextStep, UpstreamHealth, UpstreamState};
use super::hedge::AnswerTimes;
use super::query::{Query, QueryForm};
use super::settings::{ForwardSettings, Upstream, Way};
use super::stream::{ConnectionOrigin, Destination, Pool, Reuse};
use super::udp::{self, Buffer, Route};
use crate::client::Transport;
use crate::forward::options::UpstreamTransport;
use crate::limits::UPSTREAM_CONNECT_TIMEOUT;
use crate::metrics::{UpstreamCounters, UpstreamEvent};

pub(super) struct Link {
    pub(super) settings: Arc<ForwardSettings>,
    /// Into `settings.upstreams`.
    index: usize,
    shard_index: usize,
    health: RefCell<UpstreamHealth>,
    /// Notified when a health check fails.
    pub(super) check_failed: Notify,
    pub(super) edns: RefCell<Edns>,
    pub(super) tcp: RefCell<Ability>,
    times: RefCell<AnswerTimes>,
    pool: Pool,
    buffer: Rc<Buffer>,
}

impl Link {
    pub(super) fn new(
        settings: &Arc<ForwardSettings>,
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
            health: RefCell::new(UpstreamHealth::new(options.max_fails)),
            check_failed: Notify::new(),
            edns: RefCell::default(),
            tcp: RefCell::default(),
            times: RefCell::default(),
            pool: Pool::new(to, options.max_age, options.max_idle_conns),
            buffer: Rc::clone(buffer),
        }
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.settings.upstreams[self.index]
    }

    pub(super) fn counters(&self) -> &UpstreamCounters {
        self.upstream().metrics.shard(self.shard_index)
    }

    pub(super) fn state(&self) -> UpstreamState {
        if self.upstream().is_looping() {
            UpstreamState::Loops
        } else {
            self.health.borrow().state()
        }
    }

    /// How long to wait before another upstream is queried as well.
    pub(super) fn hedge_after(&self) -> Option<Duration> {
        self.times.borrow().hedge_after(self.settings.options.read_timeout)
    }

    /// How long to wait before this upstream is queried again, where it is the only one.
    pub(super) fn repeat_after(&self) -> Option<Duration> {
        self.times.borrow().repeat_after(self.settings.options.read_timeout)
    }

    /// Queries this upstream, and records the result.
    pub(super) async fn ask(
        self: &Rc<Self>,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ForwardFailure> {
        let began = Instant::now();
        match self.exchange(question, deadline).await {
            Ok(response) => {
                let time = began.elapsed();
                self.counters().answered(response.rcode, time);
                self.times.borrow_mut().record(time);
                self.change_health(UpstreamHealth::answered);
                Ok(response)
            }
            Err(failure) => {
                self.failed(&failure);
                Err(ForwardFailure::Exchange(failure))
            }
        }
    }

    /// Queries this upstream because another is late, or once more because it is late itself: the
    /// query or its response may be lost. Being late says nothing about its EDNS.
    pub(super) async fn ask_as_hedge(
        self: &Rc<Self>,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ForwardFailure> {
        self.counters().count(UpstreamEvent::Hedge);
        self.ask(question, deadline).await
    }

    /// It has not responded within its usual time.
    pub(super) fn was_late(&self) {
        self.counters().count(UpstreamEvent::Late);
    }

    /// Its response is not waited for any longer. If its last check has failed, that is a failure.
    pub(super) fn given_up(&self) {
        if self.health.borrow().is_failing() {
            self.counters().count(UpstreamEvent::Failed);
        }
    }

    /// Another upstream, queried later, responded first.
    pub(super) fn was_outrun(self: &Rc<Self>) {
        self.given_up();
        let next_step = self.change_health(UpstreamHealth::outrun);
        self.run(next_step);
    }

    /// Has the upstream checked, though no query has failed.
    pub(super) fn check_health(self: &Rc<Self>) {
        let next_step = self.change_health(UpstreamHealth::doubted);
        self.run(next_step);
    }

    /// Waits until a health check has failed.
    pub(super) async fn fails_check(&self) {
        if !self.health.borrow().is_failing() {
            self.check_failed.notified().await;
        }
    }

    fn failed(self: &Rc<Self>, failure: &ExchangeFailure) {
        self.counters().count(UpstreamEvent::Failed);
        if failure.cause == FailureCause::Malformed {
            self.counters().count(UpstreamEvent::Malformed);
        }
        let next_step = self.change_health(UpstreamHealth::failed);
        self.run(next_step);
    }

    pub(super) fn change_health<T>(&self, change: impl FnOnce(&mut UpstreamHealth) -> T) -> T {
        let mut health = self.health.borrow_mut();
        let was_down = health.state() == UpstreamState::Down;
        let outcome = change(&mut health);
        match (was_down, health.state() == UpstreamState::Down) {
            (false, true) => self.counters().count(UpstreamEvent::WentDown),
            (true, false) => self.counters().count(UpstreamEvent::CameBack),
            (true, true) | (false, false) => {}
        }
        outcome
    }

    fn run(self: &Rc<Self>, next_step: NextStep) {
        match next_step {
            NextStep::Nothing => {}
            NextStep::Check => {
                tokio::task::spawn_local(check::until_healthy(Rc::downgrade(self)));
            }
        }
    }

    /// One exchange with this upstream, with an OPT if it supports EDNS. If the response may be due
    /// to the OPT, the query is sent again without one.
    pub(super) async fn exchange(
        self: &Rc<Self>,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ExchangeFailure> {
        check::probe_what_is_missing(self);
        let randomize_case = self.settings.options.randomize_case;
        let has_edns = self.edns.borrow().ability.is_used();
        let form = QueryForm { randomize_case, has_edns };
        let has_time = self.has_time(deadline);
        let outcome = self.exchange_in(form, question, deadline).await;
        match self.learn(form, has_time, &outcome) {
            EdnsVerdict::Believed => outcome,
            EdnsVerdict::AskWithout => {
                let form = QueryForm { has_edns: false, ..form };
                let without = self.exchange_in(form, question, deadline).await;
                let Ok(response) = without else { return outcome };
                self.edns.borrow_mut().answered_without(response.rcode, Instant::now());
                Ok(response)
            }
        }
    }

    /// Whether silence until the deadline counts against the upstream: it must last a full
    /// time-out.
    fn has_time(&self, deadline: Instant) -> bool {
        let enough = self.settings.options.read_timeout.min(UPSTREAM_CONNECT_TIMEOUT);
        Instant::now() + enough <= deadline
    }

    /// Records what an exchange in this form says about the upstream's EDNS, and whether its
    /// response is believed.
    fn learn(
        &self,
        form: QueryForm,
        had_time: bool,
        outcome: &Result<Response, ExchangeFailure>,
    ) -> EdnsVerdict {
        let mut edns = self.edns.borrow_mut();
        let now = Instant::now();
        match outcome {
            Ok(response) if form.has_edns => {
                return edns.answered(response.rcode, response.has_opt, now);
            }
            Ok(_) => edns.ability.answered_without(now),
            Err(failure) if form.has_edns => {
                if is_left_unanswered(&failure.cause, had_time) {
                    edns.ability.failed(now);
                }
            }
            Err(_) => edns.ability.failed_without(),
        }
        EdnsVerdict::Believed
    }

    /// Uses the protocol that the options and the client's transport call for. Where the upstream
    /// has no TCP, queries of TCP clients go over UDP.
    async fn exchange_in(
        self: &Rc<Self>,
        form: QueryForm,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ExchangeFailure> {
        let mut query = Query::new(question, form);
        if self.is_asked_over_udp(question) {
            return self.ask_over_udp_then_tcp(&mut query, question, deadline).await;
        }
        let may_go_without = match (&self.upstream().way, self.settings.options.transport) {
            (Way::Tls { .. }, _) | (Way::Dns, UpstreamTransport::Tcp) => false,
            (Way::Dns, UpstreamTransport::Udp | UpstreamTransport::AsAsked) => true,
        };
        if may_go_without && !self.tcp.borrow().is_used() {
            let outcome = self.ask_over_udp_then_tcp(&mut query, question, deadline).await;
            let mut tcp = self.tcp.borrow_mut();
            match &outcome {
                Ok(_) => tcp.answered_without(Instant::now()),
                Err(_) => tcp.failed_without(),
            }
            return outcome;
        }
        let outcome = self.ask_over_stream(&mut query, deadline, Reuse::Any).await;
        let mut tcp = self.tcp.borrow_mut();
        match &outcome {
            Ok(_) => tcp.worked(Instant::now()),
            Err(_) => tcp.failed(Instant::now()),
        }
        outcome
    }

    /// Whether this query goes over UDP, and over TCP only if the response is truncated.
    pub(super) fn is_asked_over_udp(&self, question: &UpstreamQuestion) -> bool {
        match (&self.upstream().way, self.settings.options.transport) {
            (Way::Tls { .. }, _) | (Way::Dns, UpstreamTransport::Tcp) => false,
            (Way::Dns, UpstreamTransport::Udp) => true,
            (Way::Dns, UpstreamTransport::AsAsked) => question.transport == Transport::Udp,
        }
    }

    async fn ask_over_udp_then_tcp(
        self: &Rc<Self>,
        query: &mut Query,
        question: &UpstreamQuestion,
        deadline: Instant,
    ) -> Result<Response, ExchangeFailure> {
        let response = self.ask_over_udp(query, deadline).await?;
        if !response.truncated {
            return Ok(response);
        }
        // A UDP client is better served by a truncated response than by none: it can retry over
        // TCP.
        let may_be_cut = match question.transport {
            Transport::Udp => true,
            Transport::Tcp => false,
        };
        let passes_truncated = self.settings.options.passes_truncated;
        if may_be_cut && (passes_truncated || self.tcp.borrow().is_missing()) {
            return Ok(response);
        }
        self.counters().count(UpstreamEvent::RetriedOverTcp);
        let had_time = self.has_time(deadline);
        match self.ask_over_stream(query, deadline, Reuse::Any).await {
            Ok(whole) => {
                self.tcp.borrow_mut().worked(Instant::now());
                Ok(whole)
            }
            Err(failure) if may_be_cut => {
                self.failed(&failure);
                if had_time {
                    let (mut tcp, now) = (self.tcp.borrow_mut(), Instant::now());
                    tcp.failed(now);
                    tcp.answered_without(now);
                }
                Ok(response)
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn ask_over_udp(
        &self,
        query: &Query,
        deadline: Instant,
    ) -> Result<Response, ExchangeFailure> {
        let options = &self.settings.options;
        let route = Route { to: self.upstream().address, from: options.source_address };
        let until = deadline.min(Instant::now() + options.read_timeout);
        self.counters().count(UpstreamEvent::UdpOpened);
        let reading = udp::exchange(query, route, until, &self.buffer, self.counters()).await?;
        let fail = |cause| ExchangeFailure {
            protocol: UpstreamProtocol::Udp,
            from: None,
            to: route.to,
            cause,
        };
        response_of(reading).map_err(fail)
    }

    pub(super) async fn ask_over_stream(
        &self,
        query: &mut Query,
        deadline: Instant,
        reuse: Reuse,
    ) -> Result<Response, ExchangeFailure> {
        let count = |found| {
            let event = match (&self.upstream().way, found) {
                (Way::Dns, ConnectionOrigin::Kept) => UpstreamEvent::TcpKept,
                (Way::Dns, ConnectionOrigin::Opened) => UpstreamEvent::TcpOpened,
                (Way::Tls { .. }, ConnectionOrigin::Kept) => UpstreamEvent::TlsKept,
                (Way::Tls { .. }, ConnectionOrigin::Opened) => UpstreamEvent::TlsOpened,
            };
            self.counters().count(event);
        };
        let message = self.pool.exchange(query, reuse, deadline, count).await?;
        let reading = read(&message, &query.asked());
        if reading == UpstreamPacket::Foreign {
            self.counters().count(UpstreamEvent::Foreign);
        }
        response_of(reading).map_err(|cause| self.pool.failure(cause))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A dropped upstream no longer counts as down.
        if self.health.borrow().state() == UpstreamState::Down {
            self.counters().count(UpstreamEvent::CameBack);
        }
    }
}

fn response_of(reading: UpstreamPacket) -> Result<Response, FailureCause> {
    match reading {
        UpstreamPacket::Answer(response) | UpstreamPacket::Truncated(response) => Ok(response),
        UpstreamPacket::Malformed => Err(FailureCause::Malformed),
        UpstreamPacket::Foreign => Err(FailureCause::Foreign),
    }
}

/// Whether the upstream may have ignored the query for its content. Not if it could not be reached,
/// or if the response was not waited for long enough.
fn is_left_unanswered(cause: &FailureCause, had_time: bool) -> bool {
    match cause {
        FailureCause::ReadTimeout => had_time,
        FailureCause::Closed | FailureCause::Malformed | FailureCause::Foreign => true,
        FailureCause::Connect(_) | FailureCause::ConnectTimeout | FailureCause::Handshake(_) => {
            false
        }
        FailureCause::Read(_) | FailureCause::Write(_) => false,
    }
}
