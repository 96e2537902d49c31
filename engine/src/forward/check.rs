//! Our own queries to an upstream: health checks, and probes for EDNS and TCP that seemed missing.
//!
//! Out of band: no client waits for them. Invariant: at most one health check of an upstream runs
//! at a time, and a healthy upstream that responds in time, with EDNS and TCP, gets neither checks
//! nor probes.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};
use wire::header::TYPE_NS;
use wire::response::Response;

use super::UpstreamQuestion;
use super::edns::EdnsVerdict;
use super::health::NextStep;
use super::link::Link;
use super::query::{Query, QueryForm};
use super::settings::Way;
use super::stream::Reuse;
use crate::client::Transport;
use crate::forward::options::UpstreamTransport;
use crate::limits::{FORWARD_TIMEOUT, HEALTH_CHECK_TIMEOUT};
use crate::metrics::UpstreamEvent;
use crate::question::OwnedQuestion;

/// Checks an upstream until it is healthy or dropped.
pub(super) async fn until_healthy(link: Weak<Link>) {
    loop {
        let Some(held) = link.upgrade() else { return };
        let has_passed = passes(&held).await;
        if !has_passed {
            held.counters().count(UpstreamEvent::CheckFailed);
        }
        match held.change_health(|health| health.checked(has_passed)) {
            NextStep::Nothing => return,
            NextStep::Check => held.check_failed.notify_waiters(),
        }
        let every = held.settings.options.health_check.every;
        drop(held);
        sleep(every).await;
    }
}

/// Starts the probes for missing EDNS and TCP that are due.
pub(super) fn probe_what_is_missing(link: &Rc<Link>) {
    let now = Instant::now();
    if link.edns.borrow_mut().ability.take_probe(now) {
        tokio::task::spawn_local(probe_edns(Rc::downgrade(link)));
    }
    if link.tcp.borrow_mut().take_probe(now) {
        tokio::task::spawn_local(probe_tcp(Rc::downgrade(link)));
    }
}

async fn probe_edns(link: Weak<Link>) {
    let Some(link) = link.upgrade() else { return };
    if let Some(response) = ask(&link, over_stream(&link), true).await {
        link.edns.borrow_mut().answered(response.rcode, response.has_opt, Instant::now());
    }
}

async fn probe_tcp(link: Weak<Link>) {
    let Some(link) = link.upgrade() else { return };
    let has_edns = link.edns.borrow().ability.is_used();
    if ask(&link, true, has_edns).await.is_some() {
        link.tcp.borrow_mut().worked(Instant::now());
    }
}

/// Whether the upstream responds at all: any response that can be parsed will do.
async fn passes(link: &Link) -> bool {
    let over_stream = over_stream(link);
    let now = Instant::now();
    let (is_proven, is_missing) = {
        let edns = link.edns.borrow();
        (edns.ability.is_proven(now), edns.ability.is_missing())
    };
    if is_proven || is_missing {
        return ask(link, over_stream, is_proven).await.is_some();
    }
    // It is not known yet whether it ignores queries with an OPT: send one of each.
    let (with, without) = tokio::join!(ask(link, over_stream, true), ask(link, over_stream, false));
    let mut edns = link.edns.borrow_mut();
    let now = Instant::now();
    let verdict = with.as_ref().map(|with| edns.answered(with.rcode, with.has_opt, now));
    match (verdict, &without) {
        (Some(EdnsVerdict::AskWithout), Some(without)) => edns.answered_without(without.rcode, now),
        (None, Some(_)) => edns.ability.was_missed(now),
        (Some(EdnsVerdict::Believed | EdnsVerdict::AskWithout) | None, _) => {}
    }
    with.is_some() || without.is_some()
}

fn over_stream(link: &Link) -> bool {
    match (&link.upstream().way, link.settings.options.transport) {
        (Way::Tls { .. }, _) | (Way::Dns, UpstreamTransport::Tcp) => true,
        (Way::Dns, UpstreamTransport::Udp | UpstreamTransport::AsAsked) => false,
    }
}

async fn ask(link: &Link, over_stream: bool, has_edns: bool) -> Option<Response> {
    let options = &link.settings.options;
    let question = UpstreamQuestion {
        question: Arc::new(OwnedQuestion::new(&options.health_check.domain.wire, TYPE_NS)),
        recursion_desired: options.health_check.recursion_desired,
        transport: Transport::Udp,
        options: None,
    };
    let form = QueryForm { randomize_case: options.randomize_case, has_edns };
    let mut query = Query::new(&question, form);
    let deadline = Instant::now() + FORWARD_TIMEOUT;
    let outcome = timeout(HEALTH_CHECK_TIMEOUT, async {
        if over_stream {
            // A kept connection may be dead though the upstream is not.
            link.ask_over_stream(&mut query, deadline, Reuse::OpenedSince(Instant::now())).await
        } else {
            link.ask_over_udp(&query, deadline).await
        }
    });
    outcome.await.ok()?.ok()
}
