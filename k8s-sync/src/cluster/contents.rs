//! The objects of the model, for the snapshot: in the order of their numbers, and by key.

use super::store::Numbered;
use super::{Cluster, KeyParts, ModelPod, ModelService, ModelSlice, ObjectId};
use crate::object::ObjectKey;
use crate::raw::Kind;

impl Cluster {
    pub(crate) fn namespaces_from(
        &self,
        first: ObjectId,
    ) -> impl Iterator<Item = Numbered<'_, ()>> {
        self.namespaces.iter_from(first)
    }

    pub(crate) fn services_from(
        &self,
        first: ObjectId,
    ) -> impl Iterator<Item = Numbered<'_, ModelService>> {
        self.services.iter_from(first)
    }

    pub(crate) fn slices_from(
        &self,
        first: ObjectId,
    ) -> impl Iterator<Item = Numbered<'_, ModelSlice>> {
        self.slices.iter_from(first)
    }

    pub(crate) fn pods_from(
        &self,
        first: ObjectId,
    ) -> impl Iterator<Item = Numbered<'_, ModelPod>> {
        self.pods.iter_from(first)
    }

    /// The number of an object among those of its kind. `None` if there is no such object.
    pub(crate) fn object_id(&self, kind: Kind, key: &ObjectKey) -> Option<ObjectId> {
        let key = KeyParts::from(key);
        match kind {
            Kind::Namespace => self.namespaces.object_id(key),
            Kind::Service => self.services.object_id(key),
            Kind::EndpointSlice => self.slices.object_id(key),
            Kind::Pod => self.pods.object_id(key),
        }
    }

    /// The name of the Service that a slice is of.
    pub(crate) fn service_name(&self, slice: &ModelSlice) -> &str {
        self.services.key(slice.service).map_or("", |key| key.name)
    }
}
