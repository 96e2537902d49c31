//! What all manifests together say: read, selected and converted at once, so that it is used as a whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::ManifestError;
use super::documents::{self, Document, Object};
use super::files::Fingerprint;
use crate::convert::Refusal;
use crate::object::{Change, EndpointSlice, Event, Namespace, ObjectKey, Pod, Service};
use crate::options::Options;
use crate::raw::{Kind, RawObject};
use crate::selector::Selector;
use crate::status::is_wanted;

/// What to read and what to take of it.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) paths: Vec<PathBuf>,
    pub(super) options: Options,
}

/// The cluster as the manifests describe it.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    namespaces: Vec<Namespace>,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    pods: Vec<Pod>,
    pub(super) refused: Vec<Refused>,
}

/// An object that is not served.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
    pub(super) refusal: Refusal,
    /// `file:line:column`, or the file alone.
    pub(super) from: String,
}

impl Reader {
    /// Reads the files that `fingerprint` names.
    pub(super) fn read(&self, fingerprint: &Fingerprint) -> Result<Snapshot, ManifestError> {
        let mut snapshot = Snapshot::default();
        for file in fingerprint.files() {
            let text = fs::read(file).map_err(|error| ManifestError::io(file, &error))?;
            let text = String::from_utf8(text)
                .map_err(|error| ManifestError::new(file, None, &error.utf8_error().to_string()))?;
            let is_json = file.extension().is_some_and(|extension| extension == "json");
            let documents = documents::read(&text, is_json)
                .map_err(|error| ManifestError::new(file, error.place, &error.cause))?;
            for document in documents {
                self.take(document, file, &mut snapshot);
            }
        }
        Ok(snapshot)
    }

    fn take(&self, document: Document, file: &Path, snapshot: &mut Snapshot) {
        let Document { place, key, kind, object } = document;
        if !is_wanted(&self.options, kind) {
            return;
        }
        let labels = self.options.labels.as_ref();
        let namespace_labels = self.options.namespace_labels.as_ref();
        let taken = object.and_then(|object| match object {
            Object::Namespace(raw) => convert(raw, namespace_labels, &mut snapshot.namespaces),
            Object::Service(raw) => convert(raw, labels, &mut snapshot.services),
            Object::EndpointSlice(raw) => convert(raw, labels, &mut snapshot.slices),
            Object::Pod(raw) => convert(raw, labels, &mut snapshot.pods),
        });
        if let Err(refusal) = taken {
            let from = match place {
                Some((line, column)) => format!("{}:{line}:{column}", file.display()),
                None => file.display().to_string(),
            };
            snapshot.refused.push(Refused { kind, key, refusal, from });
        }
    }
}

fn convert<T: RawObject>(
    raw: T,
    selector: Option<&Selector>,
    into: &mut Vec<T::Object>,
) -> Result<(), Refusal> {
    let unlabelled = BTreeMap::new();
    let labels = raw.metadata().labels.as_ref().unwrap_or(&unlabelled);
    if selector.is_none_or(|selector| selector.matches(labels)) {
        into.extend(raw.convert()?);
    }
    Ok(())
}

impl Snapshot {
    /// Objects of one kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Namespace => self.namespaces.len(),
            Kind::Service => self.services.len(),
            Kind::EndpointSlice => self.slices.len(),
            Kind::Pod => self.pods.len(),
        }
    }

    /// The complete lists of the wanted kinds, one after the other.
    pub(super) fn into_events(self, options: &Options) -> impl Iterator<Item = Event> {
        let Self { namespaces, services, slices, pods, refused: _ } = self;
        let wants_slices = is_wanted(options, Kind::EndpointSlice);
        let wants_pods = is_wanted(options, Kind::Pod);
        list(namespaces)
            .map(Event::Namespace)
            .chain(list(services).map(Event::Service))
            .chain(list(slices).map(Event::EndpointSlice).filter(move |_| wants_slices))
            .chain(list(pods).map(Event::Pod).filter(move |_| wants_pods))
    }
}

fn list<T, K>(objects: Vec<T>) -> impl Iterator<Item = Change<T, K>> {
    let objects = objects.into_iter().map(Change::InitApply);
    std::iter::once(Change::Init).chain(objects).chain(std::iter::once(Change::InitDone))
}
