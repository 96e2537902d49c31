//! The requests for the objects of one kind, as URLs.

use http::Request;
use http::header::{ACCEPT, HeaderValue};
use kube::api::{ListParams, WatchParams};

use super::recovery::WATCH_MAX;
use super::request::ApiError;
use crate::options::Options;
use crate::raw::Kind;

/// Lets the server leave out Pods that have ended.
const POD_FIELDS: &str = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";
/// Objects per page of a paged list.
const PAGE_OBJECTS: u32 = 1000;

/// The format of a list of metadata. A server that does not know it sends whole objects.
const METADATA_LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;\
    g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
    application/json";

/// The path of the objects of one kind, in all namespaces or in one.
pub(super) fn path(kind: Kind, namespace: Option<&str>) -> String {
    let prefix = match kind {
        Kind::Namespace | Kind::Service | Kind::Pod => "/api/v1",
        Kind::EndpointSlice => "/apis/discovery.k8s.io/v1",
    };
    let plural = kind.plural();
    match namespace {
        Some(namespace) => format!("{prefix}/namespaces/{namespace}/{plural}"),
        None => format!("{prefix}/{plural}"),
    }
}

/// The requests for one kind, in all namespaces.
#[derive(Clone, Debug)]
pub(super) struct Queries {
    path: kube::core::Request,
    /// A list without a limit.
    list: ListParams,
    watch: WatchParams,
}

impl Queries {
    pub(super) fn new(kind: Kind, options: &Options) -> Self {
        let selector = match kind {
            Kind::Namespace => &options.namespace_labels,
            Kind::Service | Kind::EndpointSlice | Kind::Pod => &options.labels,
        };
        let label_selector = selector.as_ref().map(|selector| selector.text.clone());
        let field_selector = (kind == Kind::Pod).then(|| POD_FIELDS.to_owned());
        let list = ListParams {
            label_selector: label_selector.clone(),
            field_selector: field_selector.clone(),
            ..ListParams::default()
        };
        // Bookmarks are kube's default.
        let watch = WatchParams {
            label_selector,
            field_selector,
            timeout: Some(WATCH_MAX.as_secs() as u32),
            ..WatchParams::default()
        };
        Self { path: kube::core::Request::new(path(kind, None)), list, watch }
    }

    /// A list without a limit, as of now.
    pub(super) fn whole(&self) -> Result<Request<Vec<u8>>, ApiError> {
        built(self.path.list(&self.list))
    }

    /// A list from the server's watch cache that is not older than `version`. `0` is any.
    pub(super) fn cached(&self, version: &str) -> Result<Request<Vec<u8>>, ApiError> {
        built(self.path.list(&self.list.clone().at(version)))
    }

    /// A page of a list as of now, or the one that begins at `from`.
    pub(super) fn page(&self, from: Option<&str>) -> Result<Request<Vec<u8>>, ApiError> {
        let page = ListParams {
            limit: Some(PAGE_OBJECTS),
            continue_token: from.map(str::to_owned),
            ..self.list.clone()
        };
        built(self.path.list(&page))
    }

    /// The metadata of all objects, from the server's watch cache.
    pub(super) fn metadata(&self) -> Result<Request<Vec<u8>>, ApiError> {
        let mut request = self.cached("0")?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA_LIST));
        Ok(request)
    }

    /// A list of one object, for the version of the server. No selectors: a list by labels would
    /// read all objects until one matches.
    pub(super) fn probe(&self) -> Result<Request<Vec<u8>>, ApiError> {
        built(self.path.list(&ListParams::default().limit(1)))
    }

    pub(super) fn watch(&self, version: &str) -> Result<Request<Vec<u8>>, ApiError> {
        built(self.path.watch(&self.watch, version))
    }
}

/// kube refuses parameters that contradict each other, which these never do.
fn built(
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Request<Vec<u8>>, ApiError> {
    request.map_err(|error| ApiError::Transport(error.into()))
}
