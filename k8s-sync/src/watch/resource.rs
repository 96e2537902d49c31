//! The four kinds as resources for kube's client, with their resource versions, and the queries for
//! them.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, WatchParams};
use serde::{Deserialize, Deserializer};

use super::recovery::{STREAMING_LIST_MAX, WATCH_MAX};
use crate::convert::raw_object::RawObject;
use crate::options::Options;
use crate::raw::Kind;

/// A raw object with its resource version, which is the only content of `meta`.
#[derive(Clone, Debug)]
pub(super) struct Watched<T> {
    pub(super) raw: T,
    meta: ObjectMeta,
}

impl<'de, T: RawObject> Deserialize<'de> for Watched<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut raw = T::deserialize(deserializer)?;
        let resource_version = raw.metadata_mut().resource_version.take();
        Ok(Self { raw, meta: ObjectMeta { resource_version, ..ObjectMeta::default() } })
    }
}

impl<T> Watched<T> {
    /// Empty if the object has none.
    pub(super) fn resource_version(&self) -> &str {
        self.meta.resource_version.as_deref().unwrap_or_default()
    }
}

impl<T: RawObject> kube::Resource for Watched<T> {
    type DynamicType = ();
    /// Lists and watches span all namespaces, for every kind.
    type Scope = k8s_openapi::ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.name().into()
    }
    fn group((): &()) -> Cow<'_, str> {
        T::KIND.group().into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        T::KIND.plural().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// Lets the server leave out Pods that have ended.
const POD_FIELDS: &str = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";
/// Objects per page of a paged list. A page is held in memory: about 2 MB.
const PAGE_OBJECTS: u32 = 1000;

/// The requests for one kind.
#[derive(Clone, Debug)]
pub(super) struct Queries {
    /// A list without a limit.
    pub(super) list: ListParams,
    pub(super) page: ListParams,
    /// A list as the beginning of a watch.
    pub(super) stream: WatchParams,
    pub(super) watch: WatchParams,
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
        let stream = WatchParams {
            send_initial_events: true,
            timeout: Some(STREAMING_LIST_MAX.as_secs() as u32),
            ..watch.clone()
        };
        Self { page: list.clone().limit(PAGE_OBJECTS), list, stream, watch }
    }
}
