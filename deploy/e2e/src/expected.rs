//! `conformance/expected.*.jsonl`: the responses of CoreDNS 1.15.0, one question per line.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::answer::Answer;
use crate::question::Question;

/// One line: a question and its response.
#[derive(Clone, Debug, Deserialize)]
pub struct Expected {
    #[serde(flatten)]
    pub question: Question,
    #[serde(flatten)]
    pub answer: Answer,
}

/// The folder with the recorded cluster and responses.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// All lines of one file of [`folder`].
pub fn read(file: &str) -> Vec<Expected> {
    let path = folder().join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), index + 1))
        })
        .collect()
}
