//! The periodic comparison with the server: a list of the metadata of all objects of one kind, from
//! the server's watch cache, against what was received.
//!
//! It finds changes that a watch has silently lost. It costs the server as much as a list from its
//! cache, with fewer bytes, and the watch goes on meanwhile. Invariant: a result is drawn only once
//! the watch has reached the version of the list, and only if the list is not older than the
//! beginning.

use futures::future::BoxFuture;
use http::Request;
use kube::Client;
use rapidhash::quality::RandomState;

use super::inventory::{Inventory, ObjectVersion};
use super::list::read_all;
use super::recovery::ComparisonResult;
use super::request::{ApiError, Exchange, send};
use crate::raw::RawNamespace;
use crate::status::KindStatus;

/// The server's list.
struct ServerList {
    version: u64,
    objects: Vec<ObjectVersion>,
}

enum ComparisonState<'s> {
    None,
    Receiving(BoxFuture<'s, Result<ServerList, ApiError>>),
    /// The watch has not reached its version yet.
    Received(ServerList),
}

/// At most one comparison at a time.
pub(super) struct Comparison<'s> {
    state: ComparisonState<'s>,
    /// The version that the watch had reached at the beginning.
    began_at: u64,
}

impl<'s> Comparison<'s> {
    /// No comparison.
    pub(super) fn none() -> Self {
        Self { state: ComparisonState::None, began_at: 0 }
    }

    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.state, ComparisonState::Receiving(_))
    }

    /// `version`: the one that the watch has reached.
    pub(super) fn begin(
        client: Client,
        request: Result<Request<Vec<u8>>, ApiError>,
        inventory: &mut Inventory,
        version: u64,
        status: &'s KindStatus,
    ) -> Self {
        inventory.comparison_begins();
        let hasher = *inventory.hasher();
        let receiving = async move { receive(&client, request?, &hasher, status).await };
        Self { state: ComparisonState::Receiving(Box::pin(receiving)), began_at: version }
    }

    /// Waits for the server's list, if one is being received. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> Result<(), ApiError> {
        if let ComparisonState::Receiving(receiving) = &mut self.state {
            let received = receiving.await;
            self.state = ComparisonState::None;
            self.state = ComparisonState::Received(received?);
        }
        Ok(())
    }

    /// The result, once the watch has reached the version of the server's list.
    pub(super) fn result(
        &mut self,
        inventory: &mut Inventory,
        version: u64,
    ) -> Option<ComparisonResult> {
        let ComparisonState::Received(list) = &self.state else { return None };
        if list.version > version {
            return None;
        }
        let ComparisonState::Received(list) =
            std::mem::replace(&mut self.state, ComparisonState::None)
        else {
            return None;
        };
        let is_old = list.version < self.began_at;
        Some(match inventory.lost_count(list.objects).filter(|_| !is_old) {
            Some(0) => ComparisonResult::Same,
            Some(count) => ComparisonResult::Lost(count),
            None => ComparisonResult::Unclear,
        })
    }
}

async fn receive(
    client: &Client,
    request: Request<Vec<u8>>,
    hasher: &RandomState,
    status: &KindStatus,
) -> Result<ServerList, ApiError> {
    let body = send(client, request, Exchange::List, status).await?;
    let mut objects = Vec::new();
    // Objects of any kind have metadata, and nothing else is read.
    let note = |object: RawNamespace| objects.push(ObjectVersion::of(&object.metadata, hasher));
    let metadata = read_all(body, note).await?;
    if !metadata.continue_token.is_empty() {
        return Err(ApiError::Unreadable("a page of a list that was wanted as a whole".into()));
    }
    let version = metadata.resource_version.parse();
    let version = version.map_err(|_| ApiError::Unreadable("a list without a version".into()))?;
    Ok(ServerList { version, objects })
}
