//! What all manifests together describe. They are read, selected and converted as one, so that they
//! are used as a whole or not at all.
//!
//! Objects that a cluster would have and the files lack are added where possible (Namespaces,
//! slices of Endpoints), and reported.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ManifestError;
use super::documents::{self, Contents, Document, ManifestObject, Position};
use super::files::{self, Fingerprint, Format};
use super::missing::{self, Missing, Notes};
use super::text;
use crate::convert::raw_object::RawObject;
use crate::convert::{self, is_label};
use crate::fault::{Fault, Faults, Problem};
use crate::object::{Change, EndpointSlice, Event, Namespace, ObjectKey, Pod, Service};
use crate::options::Options;
use crate::origin::ClusterObjects;
use crate::raw::field::Field;
use crate::raw::{
    Kind, RawConditions, RawEndpoint, RawEndpointAddress, RawEndpointSlice, RawEndpoints,
    RawMetadata,
};
use crate::selector::Selector;
use crate::status::is_wanted;

/// What to read and what to select from it.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) paths: Vec<PathBuf>,
    pub(super) options: Options,
}

/// The cluster that the manifests describe.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) namespaces: Vec<Namespace>,
    pub(super) services: Vec<Service>,
    pub(super) slices: Vec<EndpointSlice>,
    pub(super) pods: Vec<Pod>,
    pub(super) objects: Vec<ObjectFaults>,
    /// What the files as a whole lack, one log line each.
    pub(super) notes: Notes,
}

/// The faults of one object.
#[derive(Debug)]
pub(super) struct ObjectFaults {
    /// The kind it is counted under.
    pub(super) counted_as: Kind,
    /// The kind the object itself gives.
    pub(super) kind: &'static str,
    pub(super) key: ObjectKey,
    /// Why the object is not served, if it is not.
    pub(super) refusal: Option<Fault>,
    pub(super) faults: Faults,
    /// `file:line:column`, or the file alone.
    pub(super) from: String,
}

/// State that is kept until the last file has been read.
#[derive(Default)]
struct Gathered {
    missing: Missing,
    /// Objects so far, by kind and name.
    seen: HashSet<(&'static str, ObjectKey)>,
    /// Services that some slice names.
    sliced: HashSet<ObjectKey>,
    /// The last definition of each name.
    endpoints: BTreeMap<ObjectKey, (RawEndpoints, Faults, String)>,
}

impl Reader {
    /// Reads the files that `fingerprint` lists.
    pub(super) fn read(&self, fingerprint: &Fingerprint) -> Result<Snapshot, ManifestError> {
        let mut snapshot = Snapshot::default();
        let mut gathered = Gathered::default();
        for file in fingerprint.files() {
            let contents = contents(file)?;
            for document in contents.documents {
                self.take(document, file, &mut snapshot, &mut gathered);
            }
            for (what, count) in contents.unsupported {
                *gathered.missing.unsupported.entry(what).or_default() += count;
            }
            let non_objects = contents.non_objects.into_iter();
            gathered
                .missing
                .non_objects
                .extend(non_objects.map(|(position, what)| (from(file, position), what)));
        }
        gathered.missing.skipped = fingerprint.skipped().to_vec();
        self.convert_endpoints(gathered.endpoints, &gathered.sliced, &mut snapshot);
        missing::fill_in(gathered.missing, &self.options, &mut snapshot);
        Ok(snapshot)
    }

    /// The objects themselves, for `explain`.
    pub(super) fn objects(fingerprint: &Fingerprint) -> Result<ClusterObjects, ManifestError> {
        let mut objects = ClusterObjects::default();
        // As in `read`: the last definition of each name, unless the Service has a slice.
        let (mut sliced, mut endpoints) = (HashSet::new(), BTreeMap::new());
        for file in fingerprint.files() {
            for document in contents(file)?.documents {
                match document.object {
                    ManifestObject::Namespace(raw) => objects.namespaces.push(raw),
                    ManifestObject::Service(raw) => objects.services.push(raw),
                    ManifestObject::EndpointSlice(raw) => {
                        let namespace = document.key.namespace;
                        let service = raw.metadata.label(convert::SERVICE_NAME_LABEL);
                        sliced
                            .extend(service.map(|name| ObjectKey { namespace, name: name.into() }));
                        objects.slices.push(raw);
                    }
                    ManifestObject::Pod(raw) => objects.pods.push(raw),
                    ManifestObject::Endpoints(raw) => drop(endpoints.insert(document.key, raw)),
                }
            }
        }
        endpoints.retain(|key, _| !sliced.contains(key));
        objects.mirrored = endpoints.into_values().flat_map(mirrored).collect();
        Ok(objects)
    }

    fn take(
        &self,
        document: Document,
        file: &Path,
        snapshot: &mut Snapshot,
        gathered: &mut Gathered,
    ) {
        let Document { position, key, object, duplicates } = document;
        let mut faults = Faults::default();
        duplicates.into_iter().for_each(|path| faults.note(path, Problem::KeyTwice));
        let is_in_namespace =
            !matches!(object, ManifestObject::Namespace(_)) && is_label(&key.namespace);
        if is_in_namespace {
            *gathered.missing.inhabited.entry(key.namespace.clone()).or_default() += 1;
        }
        let kind = object.kind();
        // An object without a name is refused. Two definitions of a Namespace cannot contradict
        // each other.
        let may_contradict =
            !matches!(object, ManifestObject::Namespace(_)) && !key.name.is_empty();
        if may_contradict && !gathered.seen.insert((kind, key.clone())) {
            let position = from(file, position);
            let what = format!("{kind} {}/{} at {position}", key.namespace, key.name);
            gathered.missing.twice.push(what);
        }
        let labels = self.options.labels.as_ref();
        let namespace_labels = self.options.namespace_labels.as_ref();
        let wants = |kind| is_wanted(&self.options, kind);
        let (counted_as, taken) = match object {
            ManifestObject::Namespace(raw) => {
                gathered.missing.named.insert(key.name.clone());
                let into = &mut snapshot.namespaces;
                (Kind::Namespace, take(raw, namespace_labels, &mut faults, into))
            }
            ManifestObject::Service(raw) => {
                (Kind::Service, take(raw, labels, &mut faults, &mut snapshot.services))
            }
            ManifestObject::EndpointSlice(raw) if wants(Kind::EndpointSlice) => {
                if let Some(name) = raw.metadata.label(convert::SERVICE_NAME_LABEL) {
                    let namespace = key.namespace.clone();
                    gathered.sliced.insert(ObjectKey { namespace, name: name.into() });
                } else {
                    let what =
                        format!("{}/{} at {}", key.namespace, key.name, from(file, position));
                    gathered.missing.unowned.push(what);
                }
                (Kind::EndpointSlice, take(raw, labels, &mut faults, &mut snapshot.slices))
            }
            ManifestObject::Endpoints(raw) if wants(Kind::EndpointSlice) => {
                if is_selected(&raw.metadata, labels) {
                    gathered.endpoints.insert(key, (raw, faults, from(file, position)));
                }
                return;
            }
            ManifestObject::Pod(raw) if wants(Kind::Pod) => {
                (Kind::Pod, take(raw, labels, &mut faults, &mut snapshot.pods))
            }
            ManifestObject::EndpointSlice(_)
            | ManifestObject::Endpoints(_)
            | ManifestObject::Pod(_) => return,
        };
        let found = ObjectFaults {
            counted_as,
            kind,
            key,
            refusal: taken.err(),
            faults,
            from: from(file, position),
        };
        snapshot.objects.push(found);
    }

    /// Converts the Endpoints of Services that have no slice: a cluster mirrors Endpoints to
    /// slices, and a dump may contain both.
    fn convert_endpoints(
        &self,
        endpoints: BTreeMap<ObjectKey, (RawEndpoints, Faults, String)>,
        sliced: &HashSet<ObjectKey>,
        snapshot: &mut Snapshot,
    ) {
        for (key, (raw, mut faults, from)) in endpoints {
            if sliced.contains(&key) {
                continue;
            }
            let slices = convert::endpoints(raw, &mut faults);
            let refusal = slices.map(|slices| snapshot.slices.extend(slices)).err();
            let (counted_as, kind) = (Kind::EndpointSlice, "Endpoints");
            snapshot.objects.push(ObjectFaults { counted_as, kind, key, refusal, faults, from });
        }
    }
}

/// Slices as a cluster would have made them, but with the metadata of the Endpoints.
fn mirrored(raw: RawEndpoints) -> impl Iterator<Item = RawEndpointSlice> {
    let RawEndpoints { mut metadata, subsets } = raw;
    let name = metadata.name.clone();
    let label = (Cow::Borrowed(convert::SERVICE_NAME_LABEL), name);
    metadata.labels = Field::Is(vec![label]);
    let endpoint = |address: RawEndpointAddress, is_ready| {
        let ready = RawConditions { ready: Field::Is(is_ready) };
        Field::Is(RawEndpoint {
            addresses: Field::Is(vec![address.ip]),
            conditions: Field::Is(ready),
            hostname: address.hostname,
            target_ref: address.target_ref,
        })
    };
    let good = |list: Field<Vec<Field<RawEndpointAddress>>>| {
        list.good().into_iter().flatten().filter_map(Field::good)
    };
    let subsets = subsets.good().into_iter().flatten().filter_map(Field::good);
    subsets.map(move |subset| {
        let ready = good(subset.addresses).map(|address| endpoint(address, true));
        let unready = good(subset.not_ready_addresses).map(|address| endpoint(address, false));
        RawEndpointSlice {
            metadata: metadata.clone(),
            address_type: Field::Absent,
            endpoints: Field::Is(ready.chain(unready).collect()),
            ports: subset.ports,
        }
    })
}

fn contents(file: &Path) -> Result<Contents, ManifestError> {
    let bytes = fs::read(file).map_err(|error| ManifestError::io(file, &error))?;
    let text = text::decode(bytes).map_err(|cause| ManifestError::new(file, None, &cause))?;
    let is_json = files::format(file) == Some(Format::Json);
    documents::read(&text, is_json)
        .map_err(|error| ManifestError::new(file, error.position, &error.cause))
}

fn from(file: &Path, position: Position) -> String {
    match position {
        Some((line, column)) => format!("{}:{line}:{column}", file.display()),
        None => file.display().to_string(),
    }
}

fn take<T: RawObject>(
    raw: T,
    selector: Option<&Selector>,
    faults: &mut Faults,
    into: &mut Vec<T::Object>,
) -> Result<(), Fault> {
    if is_selected(raw.metadata(), selector) {
        into.extend(raw.convert(faults)?);
    }
    Ok(())
}

fn is_selected(metadata: &RawMetadata, selector: Option<&Selector>) -> bool {
    let Some(selector) = selector else { return true };
    let labels = metadata.labels.as_ref().into_iter().flatten();
    // Kubernetes reads null as an empty string.
    let labels: BTreeMap<String, String> = labels
        .filter_map(|(key, value)| match value {
            Field::Is(value) => Some((key.to_string(), value.clone())),
            Field::Absent => Some((key.to_string(), String::new())),
            Field::WrongType(_) => None,
        })
        .collect();
    selector.matches(&labels)
}

impl Snapshot {
    /// The number of objects of one kind.
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
        let Self { namespaces, services, slices, pods, objects: _, notes: _ } = self;
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
