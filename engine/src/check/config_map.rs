//! The Corefiles in ConfigMaps, and the parts that `coredns-custom` adds to them.
//!
//! Where a text stands in the YAML as it is, line by line, its findings have the lines and columns
//! of the YAML. Elsewhere (JSON, quoted texts) they count from the text's first line.
//!
//! Invariant: an import finds a key of the other ConfigMaps of the file by its name.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;

use super::{CheckedText, CheckedTexts};
use crate::config;
use crate::convert::custom::TextPart;
use crate::convert::{node_cache, without_place};
use crate::corefile::Surroundings;
use crate::corefile::stream::MountedFile;
use crate::limits::CHECKED_TEXTS_MAX;

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

/// Empty lines at the beginning of a text that is looked for in its file.
const BLANK_LINES_MAX: usize = 64;

/// One document of a YAML file, and the lines before it.
struct YamlDocument<'t> {
    text: &'t str,
    lines_before: usize,
}

/// The texts of a file's ConfigMaps.
struct MapTexts<'t> {
    /// The file's name, and its lines.
    file: &'t str,
    lines: Vec<&'t str>,
    corefiles: Vec<MountedFile>,
    others: Vec<MountedFile>,
}

pub(super) fn check(name: &str, text: &str, surroundings: &Surroundings<'_>) -> CheckedTexts {
    let mut checked = CheckedTexts::default();
    let mut texts = MapTexts {
        file: name,
        lines: text.lines().collect(),
        corefiles: Vec::new(),
        others: Vec::new(),
    };
    for document in documents(text) {
        match read(&document) {
            Ok(Some(manifest)) => texts.collect(&manifest, &document),
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
    let MapTexts { corefiles, others, .. } = texts;
    let text_count = corefiles.len().max(others.len());
    let mut imported = HashSet::new();
    for mut corefile in corefiles.into_iter().take(CHECKED_TEXTS_MAX) {
        let (text, known) = node_cache::sampled(&corefile.text);
        corefile.text = text.into_owned();
        let (read, files) = config::read_mounted(&corefile, &others, known, surroundings);
        imported.extend(files);
        checked.push(read);
    }
    for part in others.iter().take(CHECKED_TEXTS_MAX) {
        let Some(kind) = TextPart::of(&part.key) else { continue };
        if !imported.contains(Path::new(&part.key)) {
            let (read, _) = config::read_mounted(part, &others, Vec::new(), surroundings);
            checked.texts.push(CheckedText { read, is_part: kind == TextPart::Block });
        }
    }
    if text_count > CHECKED_TEXTS_MAX {
        let message = format!("{name}: it has more than {CHECKED_TEXTS_MAX} texts to check");
        checked.push_broken(message, "the others were not checked: split the file");
    }
    if checked.texts.is_empty() {
        checked.push_broken(
            format!("{name}: no ConfigMap in this file has a Corefile or a part of one"),
            "the key is `Corefile`, or ends with `.server`, `.override` or `.include`",
        );
    }
    let keys = others.into_iter().map(|file| file.key).collect();
    checked.forget_files(&keys);
    checked
}

/// The documents of a file that are not empty.
fn documents(text: &str) -> Vec<YamlDocument<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_separator(line) {
            documents.push(YamlDocument { text: &text[start..at], lines_before });
            (start, lines_before) = (at + line.len(), index + 1);
        }
        at += line.len();
    }
    documents.push(YamlDocument { text: &text[start..], lines_before });
    let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    documents.retain(|document| !document.text.lines().all(is_empty));
    documents
}

fn is_separator(line: &str) -> bool {
    let rest = line.trim_end().strip_prefix("---");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// `None` for an object of another kind. An error is a line and a message.
fn read(document: &YamlDocument<'_>) -> Result<Option<Manifest>, (Option<usize>, String)> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        kind: String,
    }
    let Kind { kind } = parse(document)?;
    if kind != "ConfigMap" && !kind.ends_with("List") {
        return Ok(None);
    }
    parse(document).map(Some)
}

fn parse<T: DeserializeOwned>(document: &YamlDocument<'_>) -> Result<T, (Option<usize>, String)> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(document.text, options).map_err(|error| {
        let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
        let line = line.map(|line| document.lines_before + line);
        (line, without_place(error.to_string()))
    })
}

impl MapTexts<'_> {
    fn collect(&mut self, manifest: &Manifest, document: &YamlDocument<'_>) {
        for item in &manifest.items {
            self.collect(item, document);
        }
        if !manifest.kind.is_empty() && manifest.kind != "ConfigMap" {
            return;
        }
        for (key, value) in manifest.data.iter().flatten() {
            let line = usize::try_from(value.referenced.line()).unwrap_or(0);
            let mounted = match self.in_place(document.lines_before + line, &value.value) {
                Some((text, lines_before)) => {
                    MountedFile { key: key.clone(), name: self.file.to_owned(), text, lines_before }
                }
                None => MountedFile {
                    key: key.clone(),
                    name: manifest.metadata.of_key(key),
                    text: value.value.clone(),
                    lines_before: 0,
                },
            };
            match key.as_str() {
                "Corefile" => self.corefiles.push(mounted),
                _ => self.others.push(mounted),
            }
        }
    }

    /// The lines of the file that are `value`, and how many are before them; `None` if its lines
    /// are not there as they are. `near` is the line, from 1, that the YAML parser names: that of
    /// the text's first word, or the one before.
    fn in_place(&self, near: usize, value: &str) -> Option<(String, usize)> {
        // The indentation would become a part of a quoted text of several lines.
        if value.lines().any(|line| line.matches('"').count() % 2 == 1) {
            return None;
        }
        let wanted: Vec<&str> = value.lines().collect();
        let blank_count = wanted.iter().position(|line| !line.trim().is_empty())?;
        if blank_count > BLANK_LINES_MAX {
            return None;
        }
        (near.saturating_sub(2 + blank_count)..=near + 1).find_map(|start| {
            let found = self.lines.get(start..start + wanted.len())?;
            let indent = found[blank_count].strip_suffix(wanted[blank_count])?;
            let is_same = |(found, wanted): (&&str, &&str)| {
                found.strip_prefix(indent) == Some(wanted)
                    || found.trim().is_empty() && wanted.trim().is_empty()
            };
            let is_indent = indent.chars().all(|c| c == ' ');
            let is_found = is_indent && found.iter().zip(&wanted).all(is_same);
            is_found.then(|| (found.join("\n") + "\n", start))
        })
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
