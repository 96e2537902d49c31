//! The four kinds as kube's watcher wants them: deserialized whole, with the metadata that kube itself reads.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;
use serde::{Deserialize, Deserializer};

use super::recovery::Strategy;
use crate::options::Options;
use crate::raw::{Kind, RawObject};

/// A raw object and the resource version that kube resumes a watch from; `meta` holds nothing else.
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

impl<T: RawObject> kube::Resource for Watched<T> {
    type DynamicType = ();
    /// Lists and watches are across all namespaces, whatever the kind.
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

/// Pods that have ended are not even sent.
const POD_FIELDS: &str = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";
/// Objects a page of a paged list, which is held in memory at once: about 2 MB.
const PAGE_OBJECTS: u32 = 1000;

/// What is asked of the server for one kind.
pub(super) fn config(kind: Kind, options: &Options, strategy: Strategy) -> watcher::Config {
    let mut config = watcher::Config::default().page_size(PAGE_OBJECTS);
    let selector = match kind {
        Kind::Namespace => &options.namespace_labels,
        Kind::Service | Kind::EndpointSlice | Kind::Pod => &options.labels,
    };
    config.label_selector = selector.as_ref().map(|selector| selector.text.clone());
    if kind == Kind::Pod {
        config = config.fields(POD_FIELDS);
    }
    match strategy {
        Strategy::Streaming => config.streaming_lists(),
        Strategy::Paged => config,
    }
}
