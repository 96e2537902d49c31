//! The objects of the model, for the snapshot: in the order of their numbers, and by key.

use super::{Cluster, KeyParts, ModelPod, ModelService, ModelSlice};
use crate::object::ObjectKey;
use crate::raw::Kind;

/// An object with its key, and with the index of its number among those of its kind.
pub(crate) type Numbered<'c, V> = (usize, KeyParts<'c>, &'c V);

impl Cluster {
    pub(crate) fn namespaces_from(&self, first: usize) -> impl Iterator<Item = Numbered<'_, ()>> {
        self.namespaces.iter_from(first)
    }

    pub(crate) fn services_from(
        &self,
        first: usize,
    ) -> impl Iterator<Item = Numbered<'_, ModelService>> {
        self.services.iter_from(first)
    }

    pub(crate) fn slices_from(
        &self,
        first: usize,
    ) -> impl Iterator<Item = Numbered<'_, ModelSlice>> {
        self.slices.iter_from(first)
    }

    pub(crate) fn pods_from(&self, first: usize) -> impl Iterator<Item = Numbered<'_, ModelPod>> {
        self.pods.iter_from(first)
    }

    /// The index of an object. `None` if there is no such object.
    pub(crate) fn index_of(&self, kind: Kind, key: &ObjectKey) -> Option<usize> {
        let key = KeyParts::from(key);
        match kind {
            Kind::Namespace => self.namespaces.index_of(key),
            Kind::Service => self.services.index_of(key),
            Kind::EndpointSlice => self.slices.index_of(key),
            Kind::Pod => self.pods.index_of(key),
        }
    }

    /// The name of the Service that a slice is of.
    pub(crate) fn service_name(&self, slice: &ModelSlice) -> &str {
        self.services.key(slice.service).map_or("", |key| key.name)
    }
}
