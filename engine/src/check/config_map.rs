//! The Corefiles in ConfigMaps, and the parts that `coredns-custom` adds to them.
//!
//! Where a text stands in the YAML as it is, line by line, its findings have the lines and columns
//! of the YAML. Elsewhere (JSON, quoted texts) they count from the text's first line.
//!
//! Invariant: an import finds a key of the other ConfigMaps of the file by its name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Checked, CheckedText};
use crate::config;
use crate::convert::custom::TextPart;
use crate::corefile::Surroundings;
use crate::corefile::stream::MountedFile;

/// An object of the API, or a List of them.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ManifestName,
    /// `None` for other kinds too.
    #[serde(default)]
    data: Option<BTreeMap<String, Spanned<String>>>,
    #[serde(default)]
    items: Vec<Self>,
}

#[derive(Debug, Default, Deserialize)]
struct ManifestName {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

/// The texts of a file's ConfigMaps.
#[derive(Default)]
struct Texts {
    corefiles: Vec<MountedFile>,
    parts: Vec<MountedFile>,
}

pub(super) fn check(name: &str, text: &str, surroundings: &Surroundings<'_>) -> Checked {
    let mut checked = Checked::default();
    let mut texts = Texts::default();
    for document in documents(text) {
        match read(&document) {
            Ok(Some(manifest)) => texts.collect(&manifest, name, text),
            Ok(None) => {}
            Err((line, message)) => {
                let place = line.map_or_else(String::new, |line| format!(":{line}"));
                checked.push_broken(
                    format!("{name}{place}: {message}"),
                    "this is neither valid YAML nor JSON: `kubectl get configmap coredns -n \
                     kube-system -o yaml` writes a ConfigMap",
                );
            }
        }
    }
    let mut imported = Vec::new();
    for corefile in &texts.corefiles {
        let (read, files) =
            config::read_mounted(&corefile.name, &corefile.text, &texts.parts, surroundings);
        imported.extend(files);
        checked.push(read);
    }
    for part in &texts.parts {
        if imported.iter().any(|file| file.as_os_str() == part.key.as_str()) {
            continue;
        }
        let is_part = TextPart::of(&part.key) == Some(TextPart::Block);
        let read = match is_part {
            true => config::read_part(&part.name, None, &part.text, surroundings),
            false => config::read(&part.name, None, &part.text, surroundings),
        };
        checked.texts.push(CheckedText { read, is_part });
    }
    if checked.texts.is_empty() {
        checked.push_broken(
            format!("{name}: no ConfigMap in this file has a Corefile or a part of one"),
            "the key is `Corefile`, or ends with `.server`, `.override` or `.include`",
        );
    }
    checked
}

/// The documents of a file, each behind as many empty lines as stand before it in the file.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (index, line) in text.lines().enumerate() {
        let is_separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(' '));
        match documents.last_mut() {
            Some(last) if !is_separator => {
                last.push_str(line);
                last.push('\n');
            }
            Some(_) | None => documents.push("\n".repeat(index + 1)),
        }
    }
    documents.retain(|document| {
        document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

/// `None` for an object of another kind. An error is a line and a message.
fn read(document: &str) -> Result<Option<Manifest>, (Option<u64>, String)> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        kind: String,
    }
    fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, (Option<u64>, String)> {
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            (error.location().map(|at| at.line()), crate::convert::without_place(error.to_string()))
        })
    }
    let Kind { kind } = parse(document)?;
    if kind != "ConfigMap" && !kind.ends_with("List") {
        return Ok(None);
    }
    parse(document).map(Some)
}

impl Texts {
    /// `text` is the whole file, `file` its name.
    fn collect(&mut self, manifest: &Manifest, file: &str, text: &str) {
        for item in &manifest.items {
            self.collect(item, file, text);
        }
        if !manifest.kind.is_empty() && manifest.kind != "ConfigMap" {
            return;
        }
        for (key, value) in manifest.data.iter().flatten() {
            let line = usize::try_from(value.referenced.line()).unwrap_or(0);
            let mounted = match in_place(text, line, &value.value) {
                Some(in_place) => {
                    MountedFile { key: key.clone(), name: file.to_owned(), text: in_place }
                }
                None => MountedFile {
                    key: key.clone(),
                    name: manifest.metadata.of_key(key),
                    text: value.value.clone(),
                },
            };
            match (key.as_str(), TextPart::of(key)) {
                ("Corefile", _) => self.corefiles.push(mounted),
                (_, Some(_)) => self.parts.push(mounted),
                (_, None) => {}
            }
        }
    }
}

impl ManifestName {
    /// How messages name the text of a key.
    fn of_key(&self, key: &str) -> String {
        let Self { name, namespace } = self;
        match namespace.is_empty() {
            true => format!("ConfigMap {name}, {key}"),
            false => format!("ConfigMap {namespace}/{name}, {key}"),
        }
    }
}

/// The lines of the file that hold `value`, behind as many empty lines as stand before them in the
/// file; `None` if its lines are not there as they are. `near` is the line, from 1, that the YAML
/// parser names: that of the text's first word, or the one before.
fn in_place(file: &str, near: usize, value: &str) -> Option<String> {
    let lines: Vec<&str> = file.lines().collect();
    let wanted: Vec<&str> = value.lines().collect();
    let has_long_quote = value.lines().any(|line| line.matches('"').count() % 2 == 1);
    let first_words = wanted.iter().position(|line| !line.trim().is_empty())?;
    let start = (near.saturating_sub(2 + first_words)..=near + 1).find(|start| {
        let Some(found) = lines.get(*start..*start + wanted.len()) else { return false };
        let Some(indent) = found[first_words].strip_suffix(wanted[first_words]) else {
            return false;
        };
        indent.chars().all(|c| c == ' ')
            && found.iter().zip(&wanted).all(|(found, wanted)| {
                found.strip_prefix(indent) == Some(wanted)
                    || found.trim().is_empty() && wanted.trim().is_empty()
            })
    })?;
    // The indentation would become a part of a quoted text of several lines.
    if has_long_quote {
        return None;
    }
    let found = &lines[start..start + wanted.len()];
    Some("\n".repeat(start) + &found.join("\n") + "\n")
}
