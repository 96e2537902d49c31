//! Reads objects from the API server: one watch per kind, kept alive whatever happens to it. Only
//! this module uses kube, and of it the client: configuration, limits, connections.
//!
//! ```text
//! list_watch (queries) ── request ── kube's client (client) ── API server
//!    └→ list, events (protobuf) ─→ convert ─→ Event     recovery: what to do about failures (pure)
//! ```
//! Invariant: a list that breaks off is never completed. The next one begins with `Init`, or the
//! watch goes on after `InitDropped`; the consumer keeps its state until `InitDone`. The kinds are
//! independent: one that is forbidden does not hold up the others.

mod client;
mod comparison;
mod events;
mod failure;
mod finding;
mod forward;
mod inventory;
mod list;
mod list_watch;
pub mod objects;
mod pieces;
mod protobuf;
mod queries;
mod recovery;
mod request;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{Fuse, FusedFuture};
use tokio::sync::mpsc::Sender;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Sleep, sleep, sleep_until};

pub use client::Verifier;

use crate::object::Event;
use crate::options::{ApiServer, Options};
use crate::raw::{Kind, RawEndpointSlice, RawNamespace, RawPod, RawService};
use crate::status::{KindStatus, SourceStatus, is_wanted};
use client::{ConnectError, Connector, NumberedClient};
use comparison::Comparison;
use failure::Diagnosis;
use finding::{compared, failed, not_compared, probed};
use forward::{Closed, ListProgress, forward_ready, resume};
use list_watch::ListWatch;
use protobuf::ProtoObject;
use recovery::backoff::RENEWAL_WAIT_MAX;
use recovery::{Failure, Next, Observation, ProbeResult, Recovery, Retry, Strategy};

/// A cluster's API server, ready to be watched.
pub struct Watch {
    connector: Arc<Connector>,
    options: Options,
    status: Arc<SourceStatus>,
}

impl Watch {
    /// Sends nothing yet. `status` shows later whether the server can be reached. `verifier` checks
    /// the server's certificate.
    #[must_use]
    pub fn new(
        server: &ApiServer,
        options: &Options,
        status: Arc<SourceStatus>,
        verifier: Verifier,
    ) -> Self {
        let connector = Connector::new(server.clone(), verifier, Arc::clone(&status));
        Self::with_connector(connector, options, status)
    }

    fn with_connector(connector: Connector, options: &Options, status: Arc<SourceStatus>) -> Self {
        let options = options.clone();
        let connector = Arc::new(connector);
        Self { connector, options, status }
    }

    /// Sends events until the receiver is dropped. Waits while the channel is full. Outages and
    /// refusals do not end it.
    ///
    /// Each kind has a task of its own, so that what arrives for one does not wake the others.
    pub async fn run(self, events: Sender<Event>) {
        let client = tokio::select! {
            client = self.connector.first() => client,
            () = events.closed() => return,
        };
        let watch = Arc::new(self);
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL.into_iter().filter(|kind| is_wanted(&watch.options, *kind)) {
            let (watch, client, events) = (Arc::clone(&watch), client.clone(), events.clone());
            match kind {
                Kind::Namespace => tasks.spawn(watch.watch::<RawNamespace>(client, events)),
                Kind::Service => tasks.spawn(watch.watch::<RawService>(client, events)),
                Kind::EndpointSlice => tasks.spawn(watch.watch::<RawEndpointSlice>(client, events)),
                Kind::Pod => tasks.spawn(watch.watch::<RawPod>(client, events)),
            };
        }
        drop(events);
        while let Some(ended) = tasks.join_next().await {
            // A panic ends the thread, which is reported.
            if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                resume_unwind(panic);
            }
        }
    }

    /// Watches one kind. Each turn of the loop lasts until a new request is needed.
    async fn watch<T: ProtoObject>(
        self: Arc<Self>,
        mut client: NumberedClient,
        events: Sender<Event>,
    ) {
        let mut recovery = Recovery::new(now());
        let (first, status) = (client.client.clone(), self.status.kind(T::KIND));
        let mut list_watch = ListWatch::<T>::new(first, status, &self.options, recovery.strategy());
        let (mut comparison, mut renewal) = (Comparison::none(), Renewal::new());
        loop {
            let followed = self.follow(&mut list_watch, &mut recovery, &mut comparison, &events);
            let Ok(retry) = followed.await else { return };
            if retry.is_client_renewed && renewal.is_empty() {
                let (connector, used) = (Arc::clone(&self.connector), client.clone());
                renewal.spawn(async move {
                    sleep(retry.pause).await;
                    connector.client(Some(&used)).await
                });
            }
            match pause(retry, &mut renewal, &events).await {
                Ok(None) => {}
                Ok(Some(Ok(renewed))) => {
                    client = renewed;
                    list_watch.use_client(client.client.clone());
                }
                Ok(Some(Err(error))) => {
                    self.status.kind(T::KIND).failed(error.to_string(), &error.next_step);
                }
                Err(Closed) => return,
            }
        }
    }

    /// Processes the list and the watch until a new request is needed.
    async fn follow<'s, T: ProtoObject>(
        &'s self,
        list_watch: &mut ListWatch<'s, T>,
        recovery: &mut Recovery,
        comparison: &mut Comparison<'s>,
        events: &Sender<Event>,
    ) -> Result<Retry, Closed> {
        let status = self.status.kind(T::KIND);
        let mut list = ListProgress { began: now(), objects: 0 };
        let mut probe = pin!(Fuse::terminated());
        let mut closed = pin!(events.closed());
        let mut timer = DeadlineTimer::new(recovery.deadline());
        loop {
            let forwarded = forward_ready(list_watch, &mut list, status, events).await?;
            if forwarded.is_any {
                recovery.received(now());
            }
            let compared = || Some(compared(list_watch.compared(comparison)?, status));
            let finding = forwarded.finding.or_else(compared);
            let waited = async {
                match finding {
                    Some(finding) => Err(finding),
                    None => list_watch.wait().await.map_err(|error| failed(&error)),
                }
            };
            let (observation, diagnosis) = tokio::select! {
                biased;
                waited = waited => match waited {
                    Ok(()) => continue,
                    Err(finding) => finding,
                },
                probe = &mut probe, if !probe.is_terminated() => probed(probe),
                received = comparison.receive(), if comparison.is_receiving() => match received {
                    Ok(()) => continue,
                    Err(error) => not_compared(&error),
                },
                () = timer.wait_until(recovery.deadline()) => {
                    let is_list_late = recovery.is_listing();
                    (Observation::DeadlinePassed, is_list_late.then(Diagnosis::endless_list))
                }
                () = &mut closed => return Err(Closed),
            };
            let (strategy, was_held_back) = (recovery.strategy(), recovery.is_held_back());
            let next = recovery.observe(observation, now(), random());
            tracing::debug!(kind = T::KIND.plural(), ?observation, ?next);
            if matches!(observation, Observation::ListComplete { .. }) {
                status.listed(list.objects, now() - list.began, strategy.name());
            }
            let lists = (strategy, recovery.strategy());
            // The watch is trusted although the probe failed.
            let is_needless =
                matches!(observation, Observation::Probed(_)) && recovery.is_current();
            match diagnosis.filter(|_| !is_needless) {
                Some(diagnosis) => report(diagnosis, observation, next, lists, status),
                None if recovery.is_held_back() && !was_held_back => {
                    status.outdated(SILENT.to_owned());
                }
                None if recovery.is_current() => status.recovered(),
                None => {}
            }
            match next {
                Next::Continue => {}
                Next::Probe => probe.set(list_watch.probe().fuse()),
                Next::Compare => *comparison = list_watch.compare(),
                Next::Resume(retry) => {
                    resume(list_watch, events).await?;
                    return Ok(retry);
                }
                Next::List(retry) => {
                    *comparison = Comparison::none();
                    list_watch.list(recovery.strategy());
                    return Ok(retry);
                }
            }
        }
    }
}

/// For a deadline that each object puts off: it is set again only once it has fired.
struct DeadlineTimer(Pin<Box<Sleep>>);

impl DeadlineTimer {
    fn new(deadline: Instant) -> Self {
        Self(Box::pin(sleep_until(deadline.into())))
    }

    async fn wait_until(&mut self, deadline: Instant) {
        let (timer, deadline) = (&mut self.0, deadline.into());
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        loop {
            timer.as_mut().await;
            if deadline <= tokio::time::Instant::now() {
                return;
            }
            timer.as_mut().reset(deadline);
        }
    }
}

/// Reported if the server makes progress and the watch does not.
const SILENT: &str = "the watch is silent while the API server's resource version advances: \
                      does a proxy or balancer buffer streams?";

/// Reports a failure to the log and /ready. `lists`: how the last list was requested, and how the
/// next one will be.
fn report(
    diagnosis: Diagnosis,
    observation: Observation,
    next: Next,
    lists: (Strategy, Strategy),
    status: &KindStatus,
) {
    // A missing rule is worth a warning even if the fallback works.
    let has_fallen_back = lists.0 != lists.1 && diagnosis.failure != Failure::Forbidden;
    if observation == Observation::Probed(ProbeResult::WentBack) {
        status.outdated(diagnosis.error);
    } else if has_fallen_back && next.is_at_once() {
        status.fell_back(&diagnosis.error, lists.0.name(), lists.1.name());
    } else {
        let next_step = diagnosis.next_step(status.kind());
        status.failed(diagnosis.error, &next_step);
    }
}

/// A client that is being made while the old one is in use; empty if there is none.
type Renewal = JoinSet<Result<NumberedClient, ConnectError>>;

/// Waits before the next request, and a little longer for a new client if the failure may need one.
/// Returns the new client or its error, if either has come by then.
async fn pause(
    retry: Retry,
    renewal: &mut Renewal,
    events: &Sender<Event>,
) -> Result<Option<Result<NumberedClient, ConnectError>>, Closed> {
    let due = tokio::time::Instant::now() + retry.pause;
    let patience = if renewal.is_empty() { Duration::ZERO } else { RENEWAL_WAIT_MAX };
    let renewed = async {
        tokio::select! {
            biased;
            Some(joined) = renewal.join_next() => {
                if !retry.is_client_renewed {
                    sleep_until(due).await;
                }
                // If the task panicked, the next failure makes another client.
                joined.ok()
            }
            () = sleep_until(due + patience) => None,
        }
    };
    tokio::select! {
        renewed = renewed => Ok(renewed),
        () = events.closed() => Err(Closed),
    }
}

/// The runtime's clock, which tests can control.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A random number in 0..1. Jitter needs no better source than the seed of std's hash maps.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod cost;
#[cfg(test)]
mod tests;
