//! What README.md and the pages under `docs/` say must be so, and their links must lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use engine::plugin::DIRECTIVES;

const README: &str = include_str!("../../README.md");
const METRICS: &str = include_str!("../../docs/metrics.md");

/// The files whose string literals name the families that a scrape returns.
const METRICS_SOURCES: [&str; 4] = [
    include_str!("../src/metrics/cache.rs"),
    include_str!("../src/metrics/families.rs"),
    include_str!("../src/metrics/table.rs"),
    include_str!("../src/metrics/upstream.rs"),
];

/// An operator has five minutes.
const README_LINES_MAX: usize = 200;

const COLUMNS_MAX: usize = 130;

/// The first cell of each row of the table of plugins.
fn listed() -> Vec<&'static str> {
    let table =
        README.split("| plugin | what it does here |\n|---|---|\n").nth(1).expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.split('`').nth(1)).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README.md and the pages under `docs/`, each with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let folder = fs::read_dir(root().join("docs")).expect("the folder docs");
    let pages = folder.map(|entry| entry.expect("a page").path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.chain([root().join("README.md")]);
    pages.map(|page| (page.clone(), fs::read_to_string(&page).expect("its text"))).collect()
}

/// The targets of a page's links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_table_of_plugins_is_what_is_built() {
    let mut built: Vec<&str> = DIRECTIVES
        .iter()
        .filter(|directive| directive.is_built())
        .map(|directive| directive.name)
        .collect();
    built.sort_unstable();
    assert_eq!(listed(), built);
}

#[test]
fn each_plugin_is_described_in_its_own_words() {
    for directive in DIRECTIVES.iter().filter(|directive| directive.is_built()) {
        assert!(README.contains(directive.doc), "{}: {}", directive.name, directive.doc);
    }
}

#[test]
fn the_page_of_metrics_names_every_family_of_ours() {
    for source in METRICS_SOURCES {
        let literals = source.split("\"ringdns_").skip(1).filter_map(|rest| rest.split('"').next());
        for family in literals {
            let is_named = ["", "_total"]
                .iter()
                .any(|suffix| METRICS.contains(&format!("`ringdns_{family}{suffix}`")));
            assert!(is_named, "docs/metrics.md does not name ringdns_{family}");
        }
    }
}

#[test]
fn the_readme_is_short_and_links_to_every_page() {
    let count = README.lines().count();
    assert!(count <= README_LINES_MAX, "README.md has {count} lines, {README_LINES_MAX} at most");
    for (page, _) in pages().iter().filter(|(page, _)| page.parent() == Some(&root().join("docs")))
    {
        let name = page.file_name().expect("a file").to_string_lossy();
        let row = format!("| [docs/{name}](docs/{name}) | ");
        assert!(README.contains(&row), "README.md has no row for docs/{name}");
    }
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    for (page, text) in pages() {
        for link in links(&text).filter(|link| !link.starts_with("https://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().expect("its folder").join(file)
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if heading.is_empty() {
                continue;
            }
            let target = fs::read_to_string(&target).expect("the page that is linked to");
            let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor);
            let is_there = headings.any(|anchor| anchor == heading);
            assert!(is_there, "{}: no heading has the anchor of {link}", page.display());
        }
    }
}

#[test]
fn lines_are_short() {
    for (page, text) in pages() {
        for (index, line) in text.lines().enumerate() {
            let count = line.chars().count();
            let place = format!("{}:{}", page.display(), index + 1);
            assert!(count <= COLUMNS_MAX, "{place} has {count} columns, {COLUMNS_MAX} at most");
        }
    }
}
