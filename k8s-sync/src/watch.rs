//! Events from the API server: one watch for each kind, kept alive whatever happens to it. The only place that names kube.
//!
//! ```text
//! kube's watcher ── client ── layer (protobuf to JSON: translate) ── API server
//!    └→ resource (slim objects) ─→ convert ─→ Event          recovery: what to do when a watch fails (pure)
//! ```
//! Invariant: a list that breaks off is never completed. The next one begins with `Init`, and until its `InitDone` the
//! consumer keeps what it had. The kinds are independent: one that is forbidden does not hold up the others.

mod client;
mod failure;
mod layer;
mod protobuf;
mod recovery;
mod resource;
mod translate;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::mpsc::Sender;

pub use client::Verifier;

use crate::fault::{Faults, Whose};
use crate::object::{Change, Event};
use crate::options::{ApiServer, Options};
use crate::raw::{self, Kind, RawObject};
use crate::status::{KindStatus, SourceStatus, is_wanted};
use client::{Connector, Numbered};
use failure::Trouble;
use recovery::{Failure, Next, Observation, Recovery, Restart, Strategy};
use resource::Watched;

/// A cluster's API server, ready to be watched.
pub struct Watch {
    connector: Connector,
    options: Options,
    status: Arc<SourceStatus>,
    /// One kind has found that this server takes no streaming lists.
    is_paged_only: AtomicBool,
}

/// The consumer of the events is gone.
struct Closed;

impl Watch {
    /// Nothing is read or sent yet: whether the server can be asked shows in `status`. `verifier` says which certificates it
    /// may show.
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
        Self { connector, options, status, is_paged_only: AtomicBool::new(false) }
    }

    /// Sends events until the receiver is dropped; awaits where the channel is full. Outages and refusals do not end it.
    pub async fn run(self, events: Sender<Event>) {
        let client = tokio::select! {
            client = self.connector.first() => client,
            () = events.closed() => return,
        };
        let kinds = Kind::ALL.into_iter().filter(|kind| is_wanted(&self.options, *kind));
        let watches = kinds.map(|kind| match kind {
            Kind::Namespace => self.watch::<raw::Namespace>(client.clone(), &events).boxed(),
            Kind::Service => self.watch::<raw::Service>(client.clone(), &events).boxed(),
            Kind::EndpointSlice => {
                self.watch::<raw::EndpointSlice>(client.clone(), &events).boxed()
            }
            Kind::Pod => self.watch::<raw::Pod>(client.clone(), &events).boxed(),
        });
        futures::future::join_all(watches).await;
    }

    /// One kind: a turn of the loop is a stream, which begins with a list.
    async fn watch<T: RawObject>(&self, mut client: Numbered, events: &Sender<Event>) -> Closed {
        let mut recovery = Recovery::new(self.is_paged_only.load(Relaxed), now());
        loop {
            let api = Api::<Watched<T>>::all(client.client.clone());
            let config = resource::config(T::KIND, &self.options, recovery.strategy());
            let restart = match self.follow(pin!(watcher(api, config)), &mut recovery, events).await
            {
                Ok(restart) => restart,
                Err(closed) => return closed,
            };
            if let Err(closed) = pause(restart.pause, events).await {
                return closed;
            }
            if restart.is_client_renewed {
                match self.connector.client(Some(&client)).await {
                    Ok(renewed) => client = renewed,
                    Err(error) => {
                        self.status.kind(T::KIND).failed(error.to_string(), &error.next_step);
                    }
                }
            }
        }
    }

    /// Takes what one stream gives until it has to be given up.
    async fn follow<T: RawObject>(
        &self,
        mut stream: Pin<&mut impl Stream<Item = watcher::Result<watcher::Event<Watched<T>>>>>,
        recovery: &mut Recovery,
        events: &Sender<Event>,
    ) -> Result<Restart, Closed> {
        let status = self.status.kind(T::KIND);
        let mut list = List { began: now(), objects: 0 };
        loop {
            let deadline = tokio::time::Instant::from_std(recovery.deadline());
            let item = tokio::select! {
                biased;
                item = tokio::time::timeout_at(deadline, stream.next()) => item,
                () = events.closed() => return Err(Closed),
            };
            let (observation, trouble) = match item {
                Err(_) if recovery.is_live() => (Observation::DeadlinePassed, None),
                Err(_) => (Observation::DeadlinePassed, Some(Trouble::endless_list())),
                // kube's watcher does not end; if it ever did, a new one has to begin.
                Ok(None) => (Observation::Failed(Failure::Expired), None),
                Ok(Some(Err(error))) => {
                    let trouble = Trouble::of(&error);
                    (Observation::Failed(trouble.failure), Some(trouble))
                }
                Ok(Some(Ok(event))) => {
                    match self.forward(event, &mut list, status, events).await? {
                        Some(observation) => (observation, None),
                        None => continue,
                    }
                }
            };
            let strategy = recovery.strategy();
            let next = recovery.observe(observation, now(), random());
            if observation == Observation::ListComplete {
                status.listed(list.objects, now() - list.began, strategy.name());
                self.is_paged_only.fetch_or(recovery.is_paged_only(), Relaxed);
            }
            match (trouble, strategy, recovery.strategy()) {
                (trouble, Strategy::Streaming, Strategy::Paged) => {
                    let cut = || "the list was cut short".to_owned();
                    status.fell_back(&trouble.map_or_else(cut, |trouble| trouble.error));
                }
                (Some(trouble), _, _) => {
                    let next_step = trouble.next_step(T::KIND);
                    status.failed(trouble.error, &next_step);
                }
                (None, _, _) => {}
            }
            match next {
                Next::Continue(Duration::ZERO) => {}
                Next::Continue(length) => pause(length, events).await?,
                Next::Restart(restart) => return Ok(restart),
            }
        }
    }

    /// Sends what kube's event means. `None` where the event is of no importance to the recovery.
    async fn forward<T: RawObject>(
        &self,
        event: watcher::Event<Watched<T>>,
        list: &mut List,
        status: &KindStatus,
        events: &Sender<Event>,
    ) -> Result<Option<Observation>, Closed> {
        let (change, observation) = match event {
            watcher::Event::InitApply(object) => {
                list.objects += 1;
                let converted = convert(object.raw, status).ok();
                (converted.map(Change::InitApply), None)
            }
            watcher::Event::Apply(object) => {
                let converted = convert(object.raw, status);
                // What can no longer be served must not stay either.
                (Some(converted.map_or_else(Change::Delete, Change::Apply)), None)
            }
            watcher::Event::Delete(object) => {
                (Some(Change::Delete(T::key(object.raw.metadata().key()))), None)
            }
            watcher::Event::Init => {
                *list = List { began: now(), objects: 0 };
                (Some(Change::Init), Some(Observation::ListBegins))
            }
            watcher::Event::InitDone => (Some(Change::InitDone), Some(Observation::ListComplete)),
        };
        if let Some(change) = change {
            events.send(T::event(change)).await.map_err(|_| Closed)?;
        }
        Ok(observation)
    }
}

/// The list being received.
struct List {
    began: Instant,
    /// Refused ones included.
    objects: u64,
}

async fn pause(length: Duration, events: &Sender<Event>) -> Result<(), Closed> {
    tokio::select! {
        () = tokio::time::sleep(length) => Ok(()),
        () = events.closed() => Err(Closed),
    }
}

/// The key alone where the object has no part in answers or is refused; what is odd in it is noted.
fn convert<T: RawObject>(raw: T, status: &KindStatus) -> Result<T::Object, T::Key> {
    let key = raw.metadata().key();
    let mut faults = Faults::default();
    let (object, refusal) = match raw.convert(&mut faults) {
        Ok(object) => (object, None),
        Err(refusal) => (None, Some(refusal)),
    };
    let whose = Whose { kind: T::KIND.name(), key: &key, from: None };
    status.faults.note(whose, refusal.as_ref(), &faults);
    object.ok_or_else(|| T::key(key))
}

/// The runtime's clock, which tests can move.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// 0 up to 1. Jitter needs no better source than the one that seeds std's hash maps.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod cost;
#[cfg(test)]
mod tests;
