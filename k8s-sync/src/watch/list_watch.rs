//! The list of one kind and the watch that keeps it up to date: the requests, and the resource
//! version between them.
//!
//! kube's own watcher hides the version, resumes on its own, and never checks that the server is
//! still at that version; `recovery` has to know or decide all of this. Nothing is decided here:
//! the caller gets every error and every end and says how to go on. By default, a list starts over
//! and a watch resumes from its version.

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Api;
use kube::api::{ListParams, WatchEvent};
use kube::runtime::watcher;

use super::recovery::{ProbeResult, Strategy};
use super::resource::{Queries, Watched};
use crate::convert::raw_object::RawObject;

/// The steps of a list and its watch, in order.
#[derive(Debug)]
pub(super) enum Step<T> {
    ListBegins,
    Listed(Watched<T>),
    ListComplete {
        /// The list has a version to watch from.
        is_resumable: bool,
    },
    /// A streaming list has ended before it was complete.
    ListCut,
    WatchBegins,
    Applied(Watched<T>),
    Deleted(Watched<T>),
    /// The server reports its version; compared with ours.
    Bookmark(VersionComparison),
    /// An event of unknown type or with an unknown object.
    Unreadable,
    WatchEnds,
}

/// The server's resource version and ours.
#[derive(Debug)]
pub(super) struct VersionComparison {
    pub(super) probe: ProbeResult,
    pub(super) server: String,
    pub(super) ours: String,
}

type Events<T> = BoxStream<'static, kube::Result<WatchEvent<Watched<T>>>>;

enum State<T> {
    /// No request has been made.
    Start,
    /// A list: the rest of the page, and the token of the next one.
    Page {
        objects: std::vec::IntoIter<Watched<T>>,
        next: Option<String>,
        version: String,
    },
    Streaming(Events<T>),
    Listed,
    Watching(Events<T>),
}

pub(super) struct ListWatch<T> {
    api: Api<Watched<T>>,
    queries: Queries,
    strategy: Strategy,
    state: State<T>,
    /// The version to watch from. Empty if the server's lists have none.
    version: String,
}

impl<T: RawObject> ListWatch<T> {
    pub(super) fn new(api: Api<Watched<T>>, queries: Queries, strategy: Strategy) -> Self {
        Self { api, queries, strategy, state: State::Start, version: String::new() }
    }

    /// Uses this client for further requests.
    pub(super) fn use_api(&mut self, api: Api<Watched<T>>) {
        self.api = api;
    }

    /// Drops everything; a list comes next.
    pub(super) fn list(&mut self, strategy: Strategy) {
        (self.strategy, self.state) = (strategy, State::Start);
    }

    /// Drops the watch; a watch from the same version comes next.
    pub(super) fn resume(&mut self) {
        self.state = State::Listed;
    }

    /// Asks the server for its current version. `None` if the version cannot be compared.
    pub(super) fn probe(
        &self,
    ) -> impl Future<Output = watcher::Result<Option<VersionComparison>>> + Send + use<T> {
        let (api, ours) = (self.api.clone(), self.version.clone());
        async move {
            // No selectors: a list by labels would read all objects until one matches.
            let list = api.list(&ListParams::default().limit(1)).await;
            let list = list.map_err(watcher::Error::InitialListFailed)?;
            let server = list.metadata.resource_version.unwrap_or_default();
            Ok(number(&server).map(|_| compare(server, ours)))
        }
    }

    /// The next step. Dropping the future loses no event.
    pub(super) async fn next(&mut self) -> watcher::Result<Step<T>> {
        loop {
            let step = match (&mut self.state, self.strategy) {
                (State::Start, Strategy::Streaming) => Some(self.begin_stream().await?),
                (State::Start, Strategy::Paged | Strategy::Whole) => {
                    self.page(None).await?;
                    Some(Step::ListBegins)
                }
                (State::Page { objects, next, version }, _) => match (objects.next(), next) {
                    (Some(object), _) => Some(Step::Listed(object)),
                    (None, Some(next)) => {
                        let next = next.clone();
                        self.page(Some(next)).await?;
                        None
                    }
                    (None, None) => {
                        self.version = std::mem::take(version);
                        self.state = State::Listed;
                        Some(self.complete())
                    }
                },
                (State::Streaming(events), _) => {
                    let event = events.next().await;
                    self.of_list(event)?
                }
                (State::Listed, _) => {
                    let events = self.api.watch(&self.queries.watch, &self.version).await;
                    let events = events.map_err(watcher::Error::WatchStartFailed)?;
                    self.state = State::Watching(events.boxed());
                    Some(Step::WatchBegins)
                }
                (State::Watching(events), _) => {
                    let event = events.next().await;
                    Some(self.of_watch(event)?)
                }
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    async fn begin_stream(&mut self) -> watcher::Result<Step<T>> {
        let events = self.api.watch(&self.queries.stream, "0").await;
        self.state = State::Streaming(events.map_err(watcher::Error::WatchStartFailed)?.boxed());
        Ok(Step::ListBegins)
    }

    /// Requests the page that begins at `from`, or the whole list. After an error the list starts
    /// over.
    async fn page(&mut self, from: Option<String>) -> watcher::Result<()> {
        let mut query = match self.strategy {
            Strategy::Whole => self.queries.list.clone(),
            Strategy::Paged | Strategy::Streaming => self.queries.page.clone(),
        };
        query.continue_token = from;
        self.state = match self.api.list(&query).await {
            Ok(list) => State::Page {
                objects: list.items.into_iter(),
                next: list.metadata.continue_.filter(|token| !token.is_empty()),
                version: list.metadata.resource_version.unwrap_or_default(),
            },
            Err(error) => {
                self.state = State::Start;
                return Err(watcher::Error::InitialListFailed(error));
            }
        };
        Ok(())
    }

    fn complete(&self) -> Step<T> {
        Step::ListComplete { is_resumable: !self.version.is_empty() }
    }

    /// Interprets an event of a streaming list. `None` if it has no effect.
    fn of_list(
        &mut self,
        event: Option<kube::Result<WatchEvent<Watched<T>>>>,
    ) -> watcher::Result<Option<Step<T>>> {
        let error = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                return Ok(Some(Step::Listed(object)));
            }
            Some(Ok(WatchEvent::Deleted(object))) => return Ok(Some(Step::Deleted(object))),
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                if !bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end") {
                    return Ok(None);
                }
                self.version = bookmark.metadata.resource_version;
                let State::Streaming(events) = std::mem::replace(&mut self.state, State::Start)
                else {
                    unreachable!("an event of a streaming list");
                };
                self.state = State::Watching(events);
                return Ok(Some(self.complete()));
            }
            Some(Err(error)) if is_of_unknown_event(&error) => return Ok(Some(Step::Unreadable)),
            Some(Ok(WatchEvent::Error(status))) => Some(watcher::Error::WatchError(status)),
            Some(Err(error)) => Some(watcher::Error::WatchFailed(error)),
            None => None,
        };
        self.state = State::Start;
        error.map_or(Ok(Some(Step::ListCut)), Err)
    }

    fn of_watch(
        &mut self,
        event: Option<kube::Result<WatchEvent<Watched<T>>>>,
    ) -> watcher::Result<Step<T>> {
        let error = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.advance(object.resource_version());
                return Ok(Step::Applied(object));
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                self.advance(object.resource_version());
                return Ok(Step::Deleted(object));
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                let compared = compare(bookmark.metadata.resource_version, self.version.clone());
                self.advance(&compared.server);
                return Ok(Step::Bookmark(compared));
            }
            Some(Err(error)) if is_of_unknown_event(&error) => return Ok(Step::Unreadable),
            Some(Ok(WatchEvent::Error(status))) => Some(watcher::Error::WatchError(status)),
            Some(Err(error)) => Some(watcher::Error::WatchFailed(error)),
            None => None,
        };
        self.state = State::Listed;
        error.map_or(Ok(Step::WatchEnds), Err)
    }

    /// Versions of objects increase, except in a watch without a version, which begins with all
    /// objects sorted by name.
    fn advance(&mut self, version: &str) {
        let is_newer = match (number(version), number(&self.version)) {
            (Some(newer), Some(ours)) => newer > ours,
            (_, _) => !version.is_empty(),
        };
        if is_newer && !self.version.is_empty() {
            self.version.replace_range(.., version);
        }
    }
}

/// kube turns an event of unknown type into an empty status.
fn is_of_unknown_event(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 0 && status.message.is_empty())
}

/// Versions that are not numbers count as equal.
fn compare(server: String, ours: String) -> VersionComparison {
    let probe = match (number(&server), number(&ours)) {
        (Some(theirs), Some(known)) if theirs < known => ProbeResult::WentBack,
        (Some(theirs), Some(known)) if theirs > known => ProbeResult::Ahead,
        (_, _) => ProbeResult::Equal,
    };
    VersionComparison { probe, server, ours }
}

/// Kubernetes 1.35 guarantees that the versions of one kind are increasing decimal numbers. Those
/// of etcd always were.
fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}
