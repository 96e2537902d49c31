//! What the manifests as a whole lack or leave out, made up for where that is possible, and told in any case.
//!
//! Each note is a line for the log: what is not there, what follows from it, and the command that gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use super::snapshot::Snapshot;
use crate::convert::SERVICE_NAME_LABEL;
use crate::object::{Namespace, ServiceKind};
use crate::options::Options;
use crate::raw::Kind;
use crate::status::is_wanted;

/// Notes by what they are about: which lack it is, and of what. How many objects it concerns may change without being news.
pub(super) type Notes = BTreeMap<(&'static str, String), String>;

/// Names that a note gives; the others are counted.
const NAMED_MAX: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Namespaces of which there is an object, whether it is selected or not.
    pub(super) named: BTreeSet<Box<str>>,
    /// Namespaces that objects are in, and how many are.
    pub(super) inhabited: BTreeMap<Box<str>, u64>,
    /// Objects of our kinds whose version is not read, by kind and version.
    pub(super) unread: BTreeMap<String, u64>,
    /// What stands where an object should, by its place.
    pub(super) odd: Vec<(String, String)>,
    /// Objects that stand in the files a second time.
    pub(super) twice: Vec<String>,
    /// Slices that name no Service.
    pub(super) unowned: Vec<String>,
    /// Files and folders that are not read.
    pub(super) skipped: Vec<PathBuf>,
}

pub(super) fn make_up(missing: Missing, options: &Options, snapshot: &mut Snapshot) {
    let Missing { named, inhabited, unread, odd, twice, unowned, skipped } = missing;
    make_up_namespaces(&named, &inhabited, options, snapshot);
    let notes = &mut snapshot.notes;
    if !unread.is_empty() {
        let count: u64 = unread.values().sum();
        let kinds = few(unread.iter().map(|(what, count)| format!("{what} ({count})")));
        let text = format!(
            "objects that DNS would need are of a version that is not read; they are left out: {count} ({kinds}). `kubectl get ns,svc,endpointslices,pods -A -o yaml` prints versions that are"
        );
        notes.insert(("unread", few(unread.keys())), text);
    }
    if !odd.is_empty() {
        let places = few(odd.iter().map(|(from, what)| format!("{from}: {what}")));
        let text = format!("left out what is no object ({}): {places}", odd.len());
        notes.insert(("odd", places), text);
    }
    if !twice.is_empty() {
        let objects = few(twice.iter());
        let text = format!(
            "objects that the files hold more than once; the last one that can be served counts ({}): {objects}",
            twice.len()
        );
        notes.insert(("twice", objects), text);
    }
    if !unowned.is_empty() {
        let slices = few(unowned.iter());
        let text = format!(
            "EndpointSlices that belong to no Service, for they have no label {SERVICE_NAME_LABEL} ({}): {slices}",
            unowned.len()
        );
        notes.insert(("unowned", slices), text);
    }
    if !skipped.is_empty() {
        let paths = few(skipped.iter().map(|path| path.display().to_string()));
        let text = format!(
            "not read, for their names do not end in .yaml, .yml, .json, .jsonl or .ndjson (with .gz or without), or cannot be opened ({}): {paths}",
            skipped.len()
        );
        notes.insert(("skipped", paths), text);
    }
    note_endpoints(options, snapshot);
}

/// A Namespace that has objects exists. Which labels it has is not known.
fn make_up_namespaces(
    named: &BTreeSet<Box<str>>,
    inhabited: &BTreeMap<Box<str>, u64>,
    options: &Options,
    snapshot: &mut Snapshot,
) {
    let is_asked_for = |name: &str| {
        options.namespaces.is_empty() || options.namespaces.iter().any(|one| **one == *name)
    };
    let nameless =
        inhabited.iter().filter(|(name, _)| !named.contains(*name) && is_asked_for(name));
    let nameless: Vec<_> = nameless.collect();
    if nameless.is_empty() {
        return;
    }
    let names = few(nameless.iter().map(|(name, count)| format!("{name} ({count})")));
    let follows = if options.namespace_labels.is_some() {
        "they are not served, for namespace_labels asks for the labels of their Namespaces"
    } else {
        "they are served as if their Namespaces were there too"
    };
    let text = format!(
        "objects lie in namespaces that no manifest has: {names}; {follows}. `kubectl get namespaces -o yaml` prints them"
    );
    let about = few(nameless.iter().map(|(name, _)| name));
    snapshot.notes.insert(("namespaces", about), text);
    if options.namespace_labels.is_none() {
        let made_up = nameless.iter().map(|(name, _)| Namespace { name: (*name).clone() });
        snapshot.namespaces.extend(made_up);
    }
}

/// Kinds of which there is not one object although answers are made of them.
fn note_endpoints(options: &Options, snapshot: &mut Snapshot) {
    let is_headless = |kind: &ServiceKind| matches!(kind, ServiceKind::Headless);
    let headless = snapshot.services.iter().filter(|one| is_headless(&one.kind)).count();
    if is_wanted(options, Kind::EndpointSlice) && headless > 0 && snapshot.slices.is_empty() {
        let text = format!(
            "no manifest has EndpointSlices (or Endpoints), so headless Services have no addresses ({headless}). `kubectl get endpointslices -A -o yaml` prints them"
        );
        snapshot.notes.insert(("slices", String::new()), text);
    }
    if is_wanted(options, Kind::Pod) && snapshot.pods.is_empty() && !snapshot.services.is_empty() {
        let text = "no manifest has Pods with addresses, so `pods verified` finds none. `kubectl get pods -A -o yaml` prints them";
        snapshot.notes.insert(("pods", String::new()), text.to_owned());
    }
}

/// The first few, separated by commas.
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
