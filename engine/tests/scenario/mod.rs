//! Reads the plugin scenarios of `engine/tests/plugins`; README.md there describes the format.
//!
//! `run` runs a scenario against a server. The tests of both `engine` and `deploy/e2e` include this
//! module by its path, so it uses no other crates than `domain`, `tempfile` and std, and every item
//! is used by both. Invariant: a file that was read has no unknown word.
#![allow(unreachable_pub)] // Test binaries export nothing; `pub(crate)` would say no more.

pub mod client;
pub mod log;
#[path = "../rig/port.rs"]
mod port;
pub mod response;
pub mod run;
pub mod upstream;

use std::fs;
use std::path::{Path, PathBuf};

use client::Query;
use log::LogLines;
use response::{Expected, Response};

/// Between a query and its response.
const ARROW: char = '→';

const NOTHING_FIRST: &str = "a server that is starting gives no response either: have another \
                             server block answer a query before this one";

/// One file.
pub struct Scenario {
    pub path: PathBuf,
    /// The manifests of the cluster, a YAML `List`.
    pub cluster: Option<String>,
    /// Whether CoreDNS has the plugin.
    pub is_for_coredns: bool,
    pub steps: Vec<Step>,
}

pub struct Step {
    /// Counts from 1.
    pub line: usize,
    pub action: Action,
}

pub enum Action {
    /// Starts the server with this Corefile, in place of the one before.
    Start(String),
    Write {
        file: String,
        text: String,
    },
    Remove(String),
    /// What the upstream responds to this question from now on.
    Script(Query, Response),
    /// Lines that the log must have next to one another.
    Log(LogLines),
    Ask(Box<Ask>),
}

pub struct Ask {
    pub query: Query,
    /// Whether to repeat the query until the response is the expected one.
    pub waits: bool,
    pub expected: Expected,
    /// What CoreDNS responds, if it differs.
    pub of_coredns: Option<Expected>,
}

/// What is wrong in a file, and in which line.
struct Mistake {
    line: usize,
    what: String,
}

impl Scenario {
    /// Panics at a mistake and says where it is.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(path, &text)
            .unwrap_or_else(|Mistake { line, what }| panic!("{}:{line}: {what}", path.display()))
    }

    /// The files to run: the one that the variable `SCENARIO` names, or all of this folder.
    pub fn all(folder: &Path) -> Vec<Self> {
        if let Some(path) = std::env::var_os("SCENARIO") {
            return vec![Self::read(Path::new(&path))];
        }
        let entries = fs::read_dir(folder).expect("the folder of scenarios");
        let paths = entries.map(|entry| entry.expect("a file").path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "scn")).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Mistake> {
        let (path, steps) = (path.to_owned(), Vec::new());
        let mut scenario = Self { path, cluster: None, is_for_coredns: true, steps };
        for section in sections(text)? {
            let line = section.line;
            scenario.add(section).map_err(|what| Mistake { line, what })?;
        }
        Ok(scenario)
    }

    fn add(&mut self, section: Section<'_>) -> Result<(), String> {
        let Section { line, head, body } = section;
        let (keyword, rest) = head.split_once(' ').unwrap_or((head, ""));
        let text = || body.iter().map(|line| format!("{line}\n")).collect::<String>();
        let action = match keyword {
            "cluster" => {
                self.cluster = Some(text());
                return Ok(());
            }
            "coredns:" if rest == "has no such plugin" && body.is_empty() => {
                self.is_for_coredns = false;
                return Ok(());
            }
            "coredns:" => return self.add_difference(rest, &body),
            "corefile" => Action::Start(text()),
            "write" => Action::Write { file: rest.to_owned(), text: text() },
            "log" => Action::Log(LogLines::parse(&body)?),
            "remove" => Action::Remove(rest.to_owned()),
            "upstream" => {
                let (query, expected) = query_and_response(rest, &body)?;
                Action::Script(query, expected.response)
            }
            "query" | "await" => {
                let (query, expected) = query_and_response(rest, &body)?;
                let waits = keyword == "await";
                if expected.is_nothing && self.is_starting() {
                    return Err(NOTHING_FIRST.to_owned());
                }
                Action::Ask(Box::new(Ask { query, waits, expected, of_coredns: None }))
            }
            other => return Err(format!("unknown word '{other}'")),
        };
        self.steps.push(Step { line, action });
        Ok(())
    }

    /// Whether no query has been sent since the last `corefile`.
    fn is_starting(&self) -> bool {
        let mut steps = self.steps.iter().rev();
        let last = steps.find(|step| matches!(step.action, Action::Start(_) | Action::Ask(_)));
        last.is_some_and(|step| matches!(step.action, Action::Start(_)))
    }

    /// `coredns: differs — REASON`, and in the next line its response.
    fn add_difference(&mut self, rest: &str, body: &[&str]) -> Result<(), String> {
        let reason = rest.strip_prefix("differs — ").unwrap_or_default();
        if reason.is_empty() {
            return Err("'coredns: differs — REASON' has no reason".to_owned());
        }
        let (head, records) = body.split_first().ok_or("the response of CoreDNS is missing")?;
        let head = head.strip_prefix(ARROW).ok_or("the response of CoreDNS must begin with →")?;
        let of_coredns = Expected::parse(head, records)?;
        match self.steps.last_mut().map(|step| &mut step.action) {
            Some(Action::Ask(ask)) if ask.of_coredns.is_none() => ask.of_coredns = Some(of_coredns),
            _ => return Err("'coredns:' must follow a query".to_owned()),
        }
        Ok(())
    }
}

/// `NAME TYPE [+…] → RESPONSE`, and the records.
fn query_and_response(line: &str, records: &[&str]) -> Result<(Query, Expected), String> {
    let (query, response) = line.split_once(ARROW).ok_or("there is no →")?;
    Ok((Query::parse(query)?, Expected::parse(response, records)?))
}

/// A line that starts at the margin, and the indented lines below it, without their indentation.
struct Section<'a> {
    line: usize,
    head: &'a str,
    body: Vec<&'a str>,
}

fn sections(text: &str) -> Result<Vec<Section<'_>>, Mistake> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.starts_with('#') {
            continue;
        }
        if !line.is_empty() && !line.starts_with(' ') {
            sections.push(Section { line: number, head: line.trim_end(), body: Vec::new() });
            continue;
        }
        let wrong = |what: &str| Mistake { line: number, what: what.to_owned() };
        let inner = if line.is_empty() { Some("") } else { line.strip_prefix("    ") };
        let inner = inner.ok_or_else(|| wrong("four spaces are one step of indentation"))?;
        match sections.last_mut() {
            Some(section) => section.body.push(inner),
            None if inner.is_empty() => {}
            None => return Err(wrong("an indented line belongs to no section")),
        }
    }
    for section in &mut sections {
        while section.body.last().is_some_and(|line| line.is_empty()) {
            section.body.pop();
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_query_after_a_corefile_gets_a_response() {
        let check = |text: &str, expected: Option<usize>| {
            let mistake = Scenario::parse(Path::new("x.scn"), text).err();
            assert_eq!(mistake.map(|mistake| mistake.line), expected, "{text}");
        };
        let (some, none) = ("query a.test A → REFUSED", "query a.test A → nothing");
        check(&format!("corefile\n{some}\n{none}\n"), None);
        check(&format!("corefile\nwrite x\n{none}\n"), Some(3));
        check(&format!("corefile\n{some}\ncorefile\n{none}\n"), Some(4));
    }
}
