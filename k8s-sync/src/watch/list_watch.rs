//! The list of one kind and the watch that keeps it up to date: the requests, and the resource
//! version between them.
//!
//! Nothing is decided here: the caller gets every error and every end and says how to go on. By
//! default, a list starts over and a watch resumes from its version. Invariant: a list is complete
//! only if the server says so.

use hyper::body::Bytes;
use kube::Client;

use super::comparison::Comparison;
use super::events::{EventReader, WatchEvent};
use super::inventory::Inventory;
use super::list::{ListReader, read_all};
use super::protobuf::{ProtoObject, Wanted};
use super::queries::Queries;
use super::recovery::{ComparisonResult, ProbeResult, Strategy};
use super::request::{ApiBody, ApiError, Exchange, send};
use crate::options::Options;
use crate::raw::RawNamespace;
use crate::status::KindStatus;

/// The steps of a list and its watch, in order. Objects are large: boxed, a step is cheap to move.
#[derive(Debug)]
pub(super) enum Step<T> {
    ListBegins,
    Listed(Box<T>),
    ListComplete {
        /// The list has a version to watch from.
        is_resumable: bool,
    },
    WatchBegins,
    Applied(Box<T>),
    Deleted(Box<T>),
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

enum State<'s, T> {
    /// No request has been made.
    Start,
    /// A list, or one page of it.
    Page {
        body: ApiBody<'s>,
        list: ListReader<T>,
        has_ended: bool,
    },
    /// The next page begins at this token.
    NextPage(String),
    Listed,
    Watching(Events<'s>),
}

/// The body of a watch.
struct Events<'s> {
    body: ApiBody<'s>,
    reader: EventReader,
    has_ended: bool,
}

pub(super) struct ListWatch<'s, T> {
    client: Client,
    status: &'s KindStatus,
    queries: Queries,
    wanted: Wanted,
    strategy: Strategy,
    state: State<'s, T>,
    /// The beginning of the list or watch has been reported.
    has_begun: bool,
    /// The beginning of a list has been reported, and neither its end nor that of a later one.
    is_list_open: bool,
    /// The version to watch from. Empty if the server's lists have none.
    version: String,
    inventory: Inventory,
}

impl<'s, T: ProtoObject> ListWatch<'s, T> {
    pub(super) fn new(
        client: Client,
        status: &'s KindStatus,
        options: &Options,
        strategy: Strategy,
    ) -> Self {
        Self {
            client,
            status,
            queries: Queries::new(T::KIND, options),
            wanted: Wanted { endpoint_pod_names: options.endpoint_pod_names },
            strategy,
            state: State::Start,
            has_begun: false,
            is_list_open: false,
            version: String::new(),
            inventory: Inventory::default(),
        }
    }

    /// Uses this client for further requests.
    pub(super) fn use_client(&mut self, client: Client) {
        self.client = client;
    }

    /// Drops the list or watch that is being received; a list comes next. The version and the
    /// inventory stay until it is complete.
    pub(super) fn list(&mut self, strategy: Strategy) {
        self.strategy = strategy;
        self.start_list();
    }

    fn start_list(&mut self) {
        (self.state, self.has_begun) = (State::Start, false);
    }

    /// Drops the list or watch that is being received; a watch from the same version comes next.
    /// Returns whether a list has begun that is now dropped.
    pub(super) fn resume(&mut self) -> bool {
        self.state = State::Listed;
        std::mem::take(&mut self.is_list_open)
    }

    /// Asks the server for its current version. `None` if the version cannot be compared.
    pub(super) fn probe(
        &self,
    ) -> impl Future<Output = Result<Option<VersionComparison>, ApiError>> + Send + use<'s, T> {
        let (client, status, ours) = (self.client.clone(), self.status, self.version.clone());
        let request = self.queries.probe();
        async move {
            let body = send(&client, request?, Exchange::Probe, status).await?;
            // Objects of any kind have metadata, and nothing else is needed.
            let server = read_all(body, |_: RawNamespace| {}).await?.resource_version;
            Ok(number(&server).map(|_| compare(server, ours)))
        }
    }

    /// Begins to compare what was received with what the server has.
    pub(super) fn compare(&mut self) -> Comparison<'s> {
        let version = number(&self.version).unwrap_or_default();
        let (client, inventory) = (self.client.clone(), &mut self.inventory);
        Comparison::begin(client, self.queries.metadata(), inventory, version, self.status)
    }

    /// The result of the comparison, if it is known now.
    pub(super) fn compared(&mut self, comparison: &mut Comparison<'s>) -> Option<ComparisonResult> {
        let version = number(&self.version).unwrap_or_default();
        comparison.result(&mut self.inventory, version)
    }

    /// The next step that needs no waiting. `None`: `wait` comes next.
    pub(super) fn ready(&mut self) -> Result<Option<Step<T>>, ApiError> {
        let step = self.step();
        step.inspect_err(|_| self.start_over())
    }

    fn step(&mut self) -> Result<Option<Step<T>>, ApiError> {
        let step = match &mut self.state {
            State::Start | State::NextPage(_) | State::Listed => None,
            State::Page { list, .. } if !self.has_begun => {
                if list.has_begun()? {
                    (self.has_begun, self.is_list_open) = (true, true);
                    self.inventory.list_begins();
                    Some(Step::ListBegins)
                } else {
                    None
                }
            }
            State::Page { list, has_ended, .. } => match list.next()? {
                Some(object) => {
                    self.inventory.listed(object.metadata());
                    Some(Step::Listed(Box::new(object)))
                }
                None if *has_ended => self.page_complete(),
                None => None,
            },
            State::Watching(_) if !self.has_begun => {
                self.has_begun = true;
                Some(Step::WatchBegins)
            }
            State::Watching(events) => match events.next()? {
                Some(event) => Some(self.of_watch(event)),
                None if events.has_ended => {
                    self.state = State::Listed;
                    Some(Step::WatchEnds)
                }
                None => None,
            },
        };
        Ok(step)
    }

    /// Waits until `ready` may have a step. Dropping the future loses no event.
    pub(super) async fn wait(&mut self) -> Result<(), ApiError> {
        let waited = self.advance().await;
        waited.inspect_err(|_| self.start_over())
    }

    /// After an error, a list starts over, and a watch resumes.
    fn start_over(&mut self) {
        match self.state {
            State::Start | State::Page { .. } | State::NextPage(_) => self.start_list(),
            State::Listed | State::Watching(_) => self.state = State::Listed,
        }
    }

    /// Sends the next request, or receives the next piece.
    async fn advance(&mut self) -> Result<(), ApiError> {
        match &mut self.state {
            State::Start => self.begin().await,
            State::NextPage(token) => {
                let request = self.queries.page(Some(token));
                self.page(request?).await
            }
            State::Page { body, list, has_ended } => {
                match body.piece().await? {
                    Some(piece) => list.push(piece)?,
                    None => {
                        list.end()?;
                        *has_ended = true;
                    }
                }
                Ok(())
            }
            State::Watching(events) => events.receive().await,
            State::Listed => {
                let request = self.queries.watch(&self.version)?;
                let body = send(&self.client, request, Exchange::Watch, self.status).await?;
                (self.state, self.has_begun) =
                    (State::Watching(Events::new(body, self.wanted)), false);
                Ok(())
            }
        }
    }

    async fn begin(&mut self) -> Result<(), ApiError> {
        let request = match self.strategy {
            Strategy::Cached => self.queries.cached(self.oldest_version())?,
            Strategy::Paged => self.queries.page(None)?,
            Strategy::Whole => self.queries.whole()?,
        };
        self.page(request).await
    }

    /// The oldest version that a list may have: the one that was received before, as in client-go.
    /// One that is no number cannot be compared.
    fn oldest_version(&self) -> &str {
        number(&self.version).map_or("0", |_| &self.version)
    }

    async fn page(&mut self, request: http::Request<Vec<u8>>) -> Result<(), ApiError> {
        let body = send(&self.client, request, Exchange::List, self.status).await?;
        let list = ListReader::new(body.encoding, self.wanted);
        self.state = State::Page { body, list, has_ended: false };
        Ok(())
    }

    /// The end of a page. `None` if another one follows.
    fn page_complete(&mut self) -> Option<Step<T>> {
        let State::Page { list, .. } = std::mem::replace(&mut self.state, State::Listed) else {
            unreachable!("the end of a page");
        };
        let metadata = list.into_metadata();
        if !metadata.continue_token.is_empty() {
            self.state = State::NextPage(metadata.continue_token);
            return None;
        }
        self.version = metadata.resource_version;
        self.is_list_open = false;
        self.inventory.list_complete();
        Some(Step::ListComplete { is_resumable: !self.version.is_empty() })
    }

    fn of_watch(&mut self, event: WatchEvent<T>) -> Step<T> {
        match event {
            WatchEvent::Applied(object) => {
                self.inventory.applied(object.metadata());
                self.advance_to(object.metadata().resource_version.as_deref().unwrap_or_default());
                Step::Applied(object)
            }
            WatchEvent::Deleted(object) => {
                self.inventory.deleted(object.metadata());
                self.advance_to(object.metadata().resource_version.as_deref().unwrap_or_default());
                Step::Deleted(object)
            }
            WatchEvent::Bookmark { resource_version } => {
                let compared = compare(resource_version, self.version.clone());
                self.advance_to(&compared.server);
                Step::Bookmark(compared)
            }
            WatchEvent::Unknown => Step::Unreadable,
        }
    }

    /// Versions of objects increase, except in a watch without a version, which begins with all
    /// objects sorted by name.
    fn advance_to(&mut self, version: &str) {
        let is_newer = match (number(version), number(&self.version)) {
            (Some(newer), Some(ours)) => newer > ours,
            (_, _) => !version.is_empty(),
        };
        if is_newer && !self.version.is_empty() {
            self.version.replace_range(.., version);
        }
    }
}

impl<'s> Events<'s> {
    fn new(body: ApiBody<'s>, wanted: Wanted) -> Self {
        let reader = EventReader::new(body.encoding, wanted);
        Self { body, reader, has_ended: false }
    }

    fn next<T: ProtoObject>(&mut self) -> Result<Option<WatchEvent<T>>, ApiError> {
        match self.reader.next()? {
            None if self.has_ended => self.reader.last(),
            event => Ok(event),
        }
    }

    /// A server that ends a watch need not end its body properly.
    async fn receive(&mut self) -> Result<(), ApiError> {
        let piece = match self.body.piece().await {
            Err(ApiError::Transport(error)) if is_end(&*error) => None,
            piece => piece?,
        };
        self.has_ended = piece.is_none();
        self.reader.push(piece.unwrap_or_else(Bytes::new));
        Ok(())
    }
}

/// Whether a body that broke off just ended: the connection was closed, at a place that neither
/// TLS nor HTTP calls an end.
fn is_end(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.take(CAUSES_MAX).any(|error| {
        let io = error.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
            || error.to_string().contains("unexpected EOF during chunk")
    })
}

/// More causes than any stack of layers has.
const CAUSES_MAX: usize = 16;

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
