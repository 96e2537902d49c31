//! The conversion of each kind of raw object into events, the same for every source.

use serde::de::DeserializeOwned;

use crate::fault::{Fault, Faults};
use crate::object::{self, Change, Event, ObjectKey};
use crate::raw::{Kind, RawEndpointSlice, RawMetadata, RawNamespace, RawPod, RawService};

/// A raw object of one of the four kinds.
pub trait RawObject: DeserializeOwned + Clone + std::fmt::Debug + Send + 'static {
    const KIND: Kind;
    /// The validated object that answers are made from.
    type Object;
    /// What a deletion carries.
    type Key;

    fn metadata(&self) -> &RawMetadata;
    fn metadata_mut(&mut self) -> &mut RawMetadata;
    /// Namespaces are cluster-wide, so their name alone is the key.
    fn key(key: ObjectKey) -> Self::Key;

    /// `None`: a valid object that does not affect any answer. Adds to `faults` what is dropped or
    /// reinterpreted.
    ///
    /// # Errors
    /// Why the object is not served at all.
    fn convert(self, faults: &mut Faults) -> Result<Option<Self::Object>, Fault>;

    fn event(change: Change<Self::Object, Self::Key>) -> Event;
}

impl RawObject for RawNamespace {
    const KIND: Kind = Kind::Namespace;
    type Object = object::Namespace;
    type Key = Box<str>;

    fn metadata(&self) -> &RawMetadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut RawMetadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> Box<str> {
        key.name
    }
    fn convert(self, faults: &mut Faults) -> Result<Option<object::Namespace>, Fault> {
        super::namespace(self, faults).map(Some)
    }
    fn event(change: Change<object::Namespace, Box<str>>) -> Event {
        Event::Namespace(change)
    }
}

impl RawObject for RawService {
    const KIND: Kind = Kind::Service;
    type Object = object::Service;
    type Key = ObjectKey;

    fn metadata(&self) -> &RawMetadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut RawMetadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> ObjectKey {
        key
    }
    fn convert(self, faults: &mut Faults) -> Result<Option<object::Service>, Fault> {
        super::service(self, faults).map(Some)
    }
    fn event(change: Change<object::Service, ObjectKey>) -> Event {
        Event::Service(change)
    }
}

impl RawObject for RawEndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    type Object = object::EndpointSlice;
    type Key = ObjectKey;

    fn metadata(&self) -> &RawMetadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut RawMetadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> ObjectKey {
        key
    }
    fn convert(self, faults: &mut Faults) -> Result<Option<object::EndpointSlice>, Fault> {
        super::endpoint_slice(self, faults)
    }
    fn event(change: Change<object::EndpointSlice, ObjectKey>) -> Event {
        Event::EndpointSlice(change)
    }
}

impl RawObject for RawPod {
    const KIND: Kind = Kind::Pod;
    type Object = object::Pod;
    type Key = ObjectKey;

    fn metadata(&self) -> &RawMetadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut RawMetadata {
        &mut self.metadata
    }
    fn key(key: ObjectKey) -> ObjectKey {
        key
    }
    fn convert(self, faults: &mut Faults) -> Result<Option<object::Pod>, Fault> {
        super::pod(self, faults)
    }
    fn event(change: Change<object::Pod, ObjectKey>) -> Event {
        Event::Pod(change)
    }
}
