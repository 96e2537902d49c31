//! A folder as a ConfigMap is mounted: a Corefile, and the files beside it.
//!
//! Invariant: each file is checked once: as a part of the Corefile if that imports it, otherwise by
//! itself.

use std::fs;
use std::path::{Path, PathBuf};

use super::CheckedTexts;
use crate::convert::custom::TextPart;
use crate::corefile::Surroundings;

pub(super) fn check(folder: &Path, surroundings: &Surroundings<'_>) -> CheckedTexts {
    let corefile = folder.join("Corefile");
    let mut checked = if corefile.exists() {
        super::path(&corefile, surroundings)
    } else {
        CheckedTexts::default()
    };
    for path in parts(folder) {
        let is_read = |files: &[PathBuf]| files.contains(&path);
        if !checked.texts.iter().any(|text| is_read(text.report().files())) {
            checked.texts.extend(super::path(&path, surroundings).texts);
        }
    }
    if checked.texts.is_empty() {
        let message = format!("open {}: this folder has no Corefile", folder.display());
        let help = "name a Corefile, or the folder that its ConfigMap is mounted at";
        checked.push_broken(message, help);
    }
    checked
}

/// The files in the folder that are parts of a Corefile, sorted.
fn parts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| TextPart::of(&entry.file_name().to_string_lossy()).is_some())
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths
}
