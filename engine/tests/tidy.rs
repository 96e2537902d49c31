//! What a machine can check of STYLE.md, over all crates: line lengths, heads, imports, references
//! to files, wildcard arms, type names. clippy counts the lines of functions (`clippy.toml`: 70).
//!
//! Invariant: a rule has no exceptions but those that it lists, each with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates' source folders.
const CRATES: [&str; 6] =
    ["wire/src", "k8s-sync/src", "engine/src", "loadgen/src", "benches/src", "deploy/e2e/src"];

const COLUMNS_MAX: usize = 100;
const HEAD_LINES_MAX: usize = 10;

/// The engine's folders and files, lowest first. Each may import those before it, and no other.
const ENGINE_LAYERS: [&[&str]; 20] = [
    &["limits", "client", "heart", "pem", "ports", "trust", "question"],
    &["corefile"],
    &["convert", "cli"],
    &["cache"],
    &["metrics"],
    &["io"],
    &["forward", "admin", "steering"],
    &["plugin"],
    &["lint"],
    &["config", "base_corefile"],
    &["check"],
    &["plan"],
    &["answer"],
    &["resolve"],
    &["responder"],
    &["tcp"],
    &["shard"],
    &["fleet"],
    &["control"],
    &["main", "lib"],
];

/// A source file of the repository.
struct SourceFile {
    /// Below the root, with slashes.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate lies in the repository").into()
}

/// The repository's files with one of these endings, in order.
fn files(endings: &[&str]) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let path_text = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                files.push(SourceFile { path: path_text, text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!files.is_empty(), "{endings:?}");
    files
}

/// Fails with all findings, one per line.
fn check(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

/// A file without its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
}

#[test]
fn no_line_is_longer_than_100_columns() {
    let mut findings = Vec::new();
    for file in files(&[".rs"]) {
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                findings.push(format!("{}:{}: {columns} columns", file.path, index + 1));
            }
        }
    }
    check("lines over 100 columns", &findings);
}

#[test]
fn every_file_says_what_lives_in_it() {
    let mut findings = Vec::new();
    for file in files(&[".rs"]) {
        let head = file.text.lines().take_while(|line| line.starts_with("//!")).count();
        if head == 0 {
            findings.push(format!("{}: no `//!` head", file.path));
        }
        if head > HEAD_LINES_MAX && !DRAWINGS.contains(&file.path.as_str()) {
            findings.push(format!("{}: a head of {head} lines", file.path));
        }
    }
    check("heads of 1 to 10 lines", &findings);
}

/// Their heads hold a drawing.
const DRAWINGS: [&str; 1] = ["engine/src/shard.rs"];

/// The top-level modules of a crate that each of them imports, unit tests left out.
fn imports(source: &str) -> BTreeMap<String, BTreeSet<String>> {
    let module_of = |path: &str| {
        let below = path.strip_prefix(source).unwrap().trim_start_matches('/');
        below.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
    };
    let in_crate: Vec<_> =
        files(&[".rs"]).into_iter().filter(|file| file.path.starts_with(source)).collect();
    let modules: BTreeSet<String> = in_crate.iter().map(|file| module_of(&file.path)).collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in &in_crate {
        let module = module_of(&file.path);
        let is_top_level = file.path.matches('/').count() == source.matches('/').count() + 1;
        let prefixes: &[&str] = if is_top_level { &["crate::", "super::"] } else { &["crate::"] };
        let code = without_tests(&file.text).lines().filter(|line| !is_comment(line));
        let code = code.collect::<Vec<_>>().join("\n");
        for prefix in prefixes {
            for rest in code.split(prefix).skip(1) {
                let list = rest.strip_prefix('{').and_then(|list| list.split('}').next());
                let paths: Vec<&str> =
                    list.map_or_else(|| vec![rest], |list| list.split(',').collect());
                for path in paths {
                    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let name: String = path.trim().chars().take_while(|c| is_of_name(*c)).collect();
                    if modules.contains(&name) && name != module {
                        imports.entry(module.clone()).or_default().insert(name);
                    }
                }
            }
        }
        imports.entry(module).or_default();
    }
    imports
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The modules that import themselves, however many others lie between.
fn in_cycles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reaches_itself = |module: &&String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = imports[*module].iter().collect();
        while let Some(imported) = next.pop() {
            if imported == *module {
                return true;
            }
            if seen.insert(imported) {
                next.extend(&imports[imported]);
            }
        }
        false
    };
    imports.keys().filter(reaches_itself).cloned().collect()
}

/// `--nocapture` prints the count of each crate.
#[test]
fn no_folder_imports_itself_through_others() {
    let mut findings = Vec::new();
    for source in CRATES.into_iter().chain(["engine/src/control"]) {
        let cycles = in_cycles(&imports(source));
        println!("tidy: {source}: {} modules in import cycles", cycles.len());
        if !cycles.is_empty() {
            findings.push(format!("{source}: {}", cycles.join(" ")));
        }
    }
    check("import cycles", &findings);
}

#[test]
fn the_engine_imports_downwards() {
    let layer_of = |module: &str| ENGINE_LAYERS.iter().position(|layer| layer.contains(&module));
    let mut findings = Vec::new();
    for (module, imported) in imports("engine/src") {
        let Some(layer) = layer_of(&module) else {
            findings.push(format!("{module} has no layer"));
            continue;
        };
        for other in imported {
            if layer_of(&other).is_none_or(|below| below > layer) {
                findings.push(format!("{module} imports {other}"));
            }
        }
    }
    check("who may import whom", &findings);
}

/// wire ← k8s-sync ← the engine's binary only; loadgen stands alone.
#[test]
fn crates_import_downwards() {
    let mut findings = Vec::new();
    for file in files(&[".rs"]) {
        let text = without_tests(&file.text);
        let forbidden: &[&str] = match file.path.split_once("/src/") {
            Some(("wire", _)) => &["k8s_sync::", "engine::", "std::net::UdpSocket", "std::time"],
            Some(("k8s-sync", _)) => &["engine::"],
            Some(("engine", below)) if !below.starts_with("control/") => &["k8s_sync::"],
            Some(("loadgen", _)) => &["engine::", "wire::", "k8s_sync::"],
            Some(_) | None => &[],
        };
        for name in forbidden {
            if text.lines().any(|line| !is_comment(line) && line.contains(name)) {
                findings.push(format!("{} names {name}", file.path));
            }
        }
    }
    check("who may import whom", &findings);
}

/// `unsafe` is allowed under engine/src/io alone.
#[test]
fn unsafe_code_has_one_place() {
    let is_unsafe = |line: &str| {
        !is_comment(line)
            && ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|u| line.contains(u))
    };
    let mut findings = Vec::new();
    for file in files(&[".rs"]) {
        let is_allowed = file.path.starts_with("engine/src/io/") || file.path.contains("/tests/");
        if !is_allowed
            && file.text.lines().any(is_unsafe)
            && !UNSAFE_ELSEWHERE.contains(&&*file.path)
        {
            findings.push(file.path);
        }
    }
    check("unsafe code outside engine/src/io", &findings);
}

/// This file names the words that it looks for.
const UNSAFE_ELSEWHERE: [&str; 1] = ["engine/tests/tidy.rs"];

/// A re-export is one of a folder's own files, so that a type has one path.
#[test]
fn nothing_is_re_exported_for_convenience() {
    let mut findings = Vec::new();
    for file in files(&[".rs"]).into_iter().filter(|file| file.path.contains("/src/")) {
        for line in file.text.lines().filter(|line| line.trim_start().starts_with("pub use ")) {
            let path = line.trim_start().trim_start_matches("pub use ");
            let first = path.split("::").next().unwrap_or_default();
            let declares = |word: &str| file.text.contains(&format!("mod {word};"));
            if !declares(first) {
                findings.push(format!("{}: {line}", file.path));
            }
        }
    }
    check("re-exports from elsewhere", &findings);
}

/// Paths in comments and pages, such as `engine/src/shard.rs` or docs/metrics.md.
#[test]
fn every_file_that_is_named_exists() {
    let mut findings = Vec::new();
    let folders = ["engine/", "wire/", "k8s-sync/", "loadgen/", "benches/", "deploy/", "docs/"];
    for file in files(&[".rs", ".md", ".sh", ".toml"]) {
        for (index, line) in file.text.lines().enumerate() {
            let is_code = file.path.ends_with(".rs") && !line.contains("//");
            if is_code || file.path == "CHANGELOG.md" {
                continue;
            }
            let is_of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            for word in line.split(|c: char| !is_of_path(c)) {
                let word = word.trim_end_matches(['.', '/']);
                let is_file = folders.iter().any(|folder| word.starts_with(folder))
                    && [".rs", ".md", ".sh", ".toml", ".scn"].iter().any(|end| word.ends_with(end));
                // `NAME` stands for any name.
                let is_pattern = word.contains("NAME");
                if is_file && !is_pattern && !root().join(word).exists() {
                    findings.push(format!("{}:{}: {word}", file.path, index + 1));
                }
            }
        }
    }
    check("files that are named and do not exist", &findings);
}

/// The names of structs, enums, traits and types that a file declares, indented ones left out:
/// associated types bear the name that their trait gives them.
fn declared(text: &str, keywords: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines() {
        let words = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub(super) "));
        let words = words.or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        for keyword in keywords {
            if let Some(rest) = words.strip_prefix(keyword).and_then(|rest| rest.strip_prefix(' '))
            {
                let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
                names.push(name);
            }
        }
    }
    names
}

#[test]
fn a_type_name_means_one_thing_in_a_crate() {
    let mut findings = Vec::new();
    for source in CRATES {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in files(&[".rs"]).into_iter().filter(|file| file.path.starts_with(source)) {
            let text = without_tests(&file.text);
            for name in declared(text, &["struct", "enum", "trait", "type", "union"]) {
                places.entry(name).or_default().push(file.path.clone());
            }
        }
        let twice = places.into_iter().filter(|(_, files)| files.len() > 1);
        findings.extend(twice.map(|(name, files)| format!("{name}: {}", files.join(", "))));
    }
    check("type names with two meanings", &findings);
}

/// A match whose arms name variants of an enum of ours has no `_` arm, so that a new variant is
/// noticed wherever it matters.
#[test]
fn matches_on_our_enums_name_every_variant() {
    let mut findings = Vec::new();
    for source in CRATES {
        let sources = || files(&[".rs"]).into_iter().filter(|file| file.path.starts_with(source));
        let ours: BTreeSet<String> =
            sources().flat_map(|file| declared(&file.text, &["enum"])).collect();
        for file in sources() {
            findings.extend(
                wildcard_arms(without_tests(&file.text), &ours)
                    .into_iter()
                    .map(|(line, name)| format!("{}:{line}: `_` beside arms of {name}", file.path)),
            );
        }
    }
    check("`_` arms on enums of ours", &findings);
}

/// The lines of `_` arms whose match has an arm that begins with a variant of one of these enums.
/// It goes by rustfmt's layout: the arms of a match have one indentation.
fn wildcard_arms(text: &str, enums: &BTreeSet<String>) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if !line.trim_start().starts_with("_ =>") && !line.trim_start().starts_with("_ if ") {
            continue;
        }
        let arms = lines[..index]
            .iter()
            .rev()
            .take_while(|arm| arm.trim().is_empty() || indentation(arm) >= indentation(line));
        let same_level = arms.filter(|arm| indentation(arm) == indentation(line));
        for arm in same_level {
            let pattern = arm.trim_start();
            let name = pattern.split("::").next().unwrap_or_default();
            if pattern.contains("::") && enums.contains(name) && pattern.contains("=>") {
                found.push((index + 1, name.to_owned()));
                break;
            }
        }
    }
    found
}

#[test]
fn wildcard_arms_are_found() {
    let enums = BTreeSet::from(["Ours".to_owned()]);
    let check = |text: &str, expected: &[usize]| {
        let lines: Vec<_> = wildcard_arms(text, &enums).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, expected, "{text}");
    };
    check("match it {\n    Ours::One => 1,\n    _ => 2,\n}\n", &[3]);
    check("match it {\n    Ours::One { .. } => {\n        1\n    }\n    _ => 2,\n}\n", &[5]);
    check("match it {\n    Theirs::One => 1,\n    _ => 2,\n}\n", &[]);
    check("match it {\n    1 => Ours::One,\n    _ => Ours::Two,\n}\n", &[]);
    check(
        "match it {\n    Ours::One => match x {\n        1 => 2,\n        _ => 3,\n    },\n}\n",
        &[],
    );
}
