//! Reports what the manifests as a whole lack or leave out, and adds Namespaces that are missing.
//!
//! Each note is one line of the log: what is missing, the consequence, and the command that prints
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use super::snapshot::Snapshot;
use crate::convert::SERVICE_NAME_LABEL;
use crate::object::{Namespace, ServiceKind};
use crate::options::Options;
use crate::raw::Kind;
use crate::status::is_wanted;

/// Notes by topic: the kind of gap, and the names it concerns. A changed number of objects alone is
/// not a new note.
pub(super) type Notes = BTreeMap<(&'static str, String), String>;

/// Names to list in a note; further ones are counted only.
const NAMED_MAX: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Namespaces that a manifest defines, selected or not.
    pub(super) named: BTreeSet<Box<str>>,
    /// Namespaces that contain objects, with the number of objects.
    pub(super) inhabited: BTreeMap<Box<str>, u64>,
    /// Objects of the four kinds in an unsupported version, counted by kind and version.
    pub(super) unsupported: BTreeMap<String, u64>,
    /// Entries that are not objects, with their position and description.
    pub(super) non_objects: Vec<(String, String)>,
    /// Objects that are defined more than once.
    pub(super) twice: Vec<String>,
    /// Slices that name no Service.
    pub(super) unowned: Vec<String>,
    /// Files and folders that are not read.
    pub(super) skipped: Vec<PathBuf>,
}

pub(super) fn fill_in(missing: Missing, options: &Options, snapshot: &mut Snapshot) {
    let Missing { named, inhabited, unsupported, non_objects, twice, unowned, skipped } = missing;
    add_namespaces(&named, &inhabited, options, snapshot);
    let notes = &mut snapshot.notes;
    if !unsupported.is_empty() {
        let count: u64 = unsupported.values().sum();
        let kinds = few(unsupported.iter().map(|(what, count)| format!("{what} ({count})")));
        let text = format!(
            "objects of an unsupported version are left out: {count} ({kinds}); `kubectl get \
             ns,svc,endpointslices,pods -A -o yaml` prints supported versions"
        );
        notes.insert(("unsupported", few(unsupported.keys())), text);
    }
    if !non_objects.is_empty() {
        let places = few(non_objects.iter().map(|(from, what)| format!("{from}: {what}")));
        let text =
            format!("entries that are not objects are left out ({}): {places}", non_objects.len());
        notes.insert(("non_objects", places), text);
    }
    if !twice.is_empty() {
        let objects = few(twice.iter());
        let text = format!(
            "objects are defined more than once, and the last valid definition counts ({}): \
             {objects}",
            twice.len()
        );
        notes.insert(("twice", objects), text);
    }
    if !unowned.is_empty() {
        let slices = few(unowned.iter());
        let text = format!(
            "EndpointSlices are left out because they have no label {SERVICE_NAME_LABEL} ({}): \
             {slices}",
            unowned.len()
        );
        notes.insert(("unowned", slices), text);
    }
    if !skipped.is_empty() {
        let paths = few(skipped.iter().map(|path| path.display().to_string()));
        let text = format!(
            "files and folders are skipped because their names do not end in .yaml, .yml, .json, \
             .jsonl or .ndjson (with or without .gz), or because they cannot be opened ({}): \
             {paths}",
            skipped.len()
        );
        notes.insert(("skipped", paths), text);
    }
    note_endpoints(options, snapshot);
}

/// A namespace that contains objects must exist. Its labels are unknown.
fn add_namespaces(
    named: &BTreeSet<Box<str>>,
    inhabited: &BTreeMap<Box<str>, u64>,
    options: &Options,
    snapshot: &mut Snapshot,
) {
    let is_asked_for = |name: &str| {
        options.namespaces.is_empty() || options.namespaces.iter().any(|one| **one == *name)
    };
    let undefined =
        inhabited.iter().filter(|(name, _)| !named.contains(*name) && is_asked_for(name));
    let undefined: Vec<_> = undefined.collect();
    if undefined.is_empty() {
        return;
    }
    let names = few(undefined.iter().map(|(name, count)| format!("{name} ({count})")));
    let consequence = if options.namespace_labels.is_some() {
        "they are not served because namespace_labels needs the labels of the Namespaces"
    } else {
        "they are served as if the Namespaces existed"
    };
    let text = format!(
        "objects are in namespaces that no manifest defines: {names}; {consequence}; `kubectl get \
         namespaces -o yaml` prints them"
    );
    let about = few(undefined.iter().map(|(name, _)| name));
    snapshot.notes.insert(("namespaces", about), text);
    if options.namespace_labels.is_none() {
        let added = undefined.iter().map(|(name, _)| Namespace { name: (*name).clone() });
        snapshot.namespaces.extend(added);
    }
}

/// Notes kinds that answers need and of which there is no object.
fn note_endpoints(options: &Options, snapshot: &mut Snapshot) {
    let is_headless = |kind: &ServiceKind| matches!(kind, ServiceKind::Headless);
    let headless = snapshot.services.iter().filter(|one| is_headless(&one.kind)).count();
    if is_wanted(options, Kind::EndpointSlice) && headless > 0 && snapshot.slices.is_empty() {
        let text = format!(
            "no manifest contains EndpointSlices (or Endpoints), so headless Services have no \
             addresses ({headless}); `kubectl get endpointslices -A -o yaml` prints them"
        );
        snapshot.notes.insert(("slices", String::new()), text);
    }
    if is_wanted(options, Kind::Pod) && snapshot.pods.is_empty() && !snapshot.services.is_empty() {
        let text = "no manifest contains Pods with addresses, so `pods verified` finds none; \
                    `kubectl get pods -A -o yaml` prints them";
        snapshot.notes.insert(("pods", String::new()), text.to_owned());
    }
}

/// The first few names, separated by commas.
fn few(all: impl Iterator<Item = impl Display>) -> String {
    let mut text = String::new();
    for (index, one) in all.enumerate() {
        if index == NAMED_MAX {
            return text + ", …";
        }
        if index > 0 {
            text += ", ";
        }
        text += &one.to_string();
    }
    text
}
