//! README.md, the pages in `docs/` and the page of each plugin are correct, and their links have
//! targets.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use engine::config;
use engine::corefile::{ListenIp, Surroundings};
use engine::plugin::{DIRECTIVES, Directive};

const README: &str = include_str!("../../README.md");
const METRICS: &str = include_str!("../../docs/metrics.md");

/// The files whose string literals name the families that a scrape returns, and the pages that
/// describe these families.
const METRICS_SOURCES: [(&str, &[&str]); 5] = [
    (include_str!("../src/metrics/cache.rs"), &[include_str!("../src/plugin/cache.md")]),
    (
        include_str!("../src/metrics/families.rs"),
        &[
            METRICS,
            include_str!("../src/plugin/errors.md"),
            include_str!("../src/plugin/forward.md"),
            include_str!("../src/plugin/log.md"),
            include_str!("../src/plugin/prometheus.md"),
            include_str!("../src/plugin/reload.md"),
        ],
    ),
    (include_str!("../src/metrics/table.rs"), &[include_str!("../src/plugin/kubernetes.md")]),
    (include_str!("../src/metrics/upstream.rs"), &[include_str!("../src/plugin/forward.md")]),
    (include_str!("../src/metrics/zones.rs"), &[include_str!("../src/plugin/file.md")]),
];

/// An operator has five minutes.
const README_LINES_MAX: usize = 200;

const COLUMNS_MAX: usize = 130;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn plugin_folder() -> PathBuf {
    root().join("engine/src/plugin")
}

/// The Markdown files of a folder.
fn pages_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder");
    let paths = entries.map(|entry| entry.expect("a page").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// All pages that this test checks, each with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = pages_in(&root().join("docs"));
    pages.extend(pages_in(&plugin_folder()));
    pages.extend(["README.md", "STYLE.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let text = |page: &PathBuf| fs::read_to_string(page).expect("its text");
    pages.into_iter().map(|page| (page.clone(), text(&page))).collect()
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

fn built() -> impl Iterator<Item = &'static Directive> {
    DIRECTIVES.iter().filter(|directive| directive.is_built())
}

#[test]
fn each_built_plugin_has_a_page_and_no_other_has() {
    let mut names: Vec<&str> = built().map(|directive| directive.name).collect();
    names.sort_unstable();
    let pages = pages_in(&plugin_folder());
    let stem = |page: &PathBuf| page.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut stems: Vec<String> = pages.iter().filter_map(stem).collect();
    stems.sort_unstable();
    assert_eq!(stems, names);
}

#[test]
fn the_page_of_a_plugin_has_its_purpose_its_usage_and_every_option() {
    for directive in built() {
        let Directive { name, doc, .. } = directive;
        let page = plugin_folder().join(format!("{name}.md"));
        let text = fs::read_to_string(&page).expect("the plugin's page");
        let head = format!("# `{name}`\n\n{doc}").to_lowercase();
        assert!(text.to_lowercase().starts_with(&head), "{name}.md does not begin with: {head}");

        // Its options follow, one per line.
        let usage = directive.usage().expect("it is built");
        let line = usage.split(" {").next().expect("the first part");
        let syntax = code_blocks(&text).next().expect("a block that shows its syntax");
        assert!(syntax.starts_with(line), "{name}.md does not show its usage: {line}");

        for option in directive.options() {
            let is_in = |text: &str, before: &str, ends: &[&str]| {
                ends.iter().any(|end| text.contains(&format!("\n{before}{option}{end}")))
            };
            let is_shown = is_in(syntax, "    ", &[" ", "\n"]);
            assert!(is_shown, "the syntax in {name}.md has no line for {option}");
            let is_explained = is_in(&text, "| `", &[" ", "`"]);
            assert!(is_explained, "{name}.md has no row for {option}");
        }
    }
}

/// A page's blocks of code.
fn code_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```\n").skip(1).step_by(2)
}

fn check_corefile(page: &Path, corefile: &str) {
    let loopback = ListenIp::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let interface = |name: &str| (name == "lo").then(|| vec![loopback]);
    let surroundings =
        Surroundings { default_port: 53, variable: &|_: &str| None, interface: &interface };
    match config::parse("Corefile", corefile, &surroundings) {
        Ok(config) => {
            assert!(config.warnings.is_empty(), "{}:\n{}", page.display(), config.warnings);
        }
        Err(report) => panic!("{}:\n{report}", page.display()),
    }
}

#[test]
fn each_plugin_has_an_example_and_examples_are_read_without_a_warning() {
    for page in pages_in(&plugin_folder()) {
        let text = fs::read_to_string(&page).expect("the plugin's page");
        let is_corefile = |block: &&str| block.lines().next().is_some_and(|it| it.ends_with(" {"));
        // The first block shows the syntax.
        let corefiles: Vec<&str> = code_blocks(&text).skip(1).filter(is_corefile).collect();
        assert!(!corefiles.is_empty(), "{} has no example", page.display());
        for corefile in corefiles {
            check_corefile(&page, corefile);
        }
    }
    let example = README.split("<<END\n").nth(1).and_then(|rest| rest.split("END\n").next());
    check_corefile(Path::new("README.md"), example.expect("the Corefile to try"));
}

#[test]
fn the_pages_name_every_family_of_ringdns() {
    for (source, pages) in METRICS_SOURCES {
        let literals = source.split("\"ringdns_").skip(1).filter_map(|rest| rest.split('"').next());
        for family in literals {
            let names = ["", "_total"].map(|suffix| format!("`ringdns_{family}{suffix}`"));
            let is_named = pages.iter().any(|page| names.iter().any(|name| page.contains(name)));
            assert!(is_named, "no page names ringdns_{family}");
        }
    }
}

#[test]
fn the_readme_lists_the_plugins() {
    let of = |is_built: bool| {
        let rows = DIRECTIVES.iter().filter(move |row| row.is_built() == is_built);
        rows.map(|row| row.name).collect::<BTreeSet<_>>()
    };
    let listed = |begin: &str, end: &str| {
        let text = README.split(begin).nth(1).and_then(|rest| rest.split(end).next());
        let words = text.expect("a list").split('`').skip(1).step_by(2);
        words.collect::<BTreeSet<_>>()
    };
    let count = of(true).len();
    assert_eq!(listed(&format!("- **{count} plugins:**"), "Each has"), of(true));
    assert_eq!(listed("- CoreDNS's other plugins:", "If a Corefile"), of(false));
}

#[test]
fn the_readme_is_short_and_links_to_every_page() {
    let count = README.lines().count();
    assert!(count <= README_LINES_MAX, "README.md has {count} lines, {README_LINES_MAX} at most");
    for page in pages_in(&root().join("docs")) {
        let name = page.file_name().expect("a file").to_string_lossy();
        let row = format!("| [docs/{name}](docs/{name}) | ");
        assert!(README.contains(&row), "README.md has no row for docs/{name}");
    }
    let row = "| [engine/src/plugin](engine/src/plugin) | ";
    assert!(README.contains(row), "README.md has no row for the pages of the plugins");
}

#[test]
fn links_have_existing_targets() {
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
