//! Lists the files that an `import` pattern matches: `*` is any run of characters and `?` any one
//! character, but never a `/`. As in CoreDNS, a pattern has at most one of each.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Whether `import` reads this as a pattern rather than as one file.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', ']'])
}

/// Whether the pattern has no more wildcards than CoreDNS allows. Lists of characters, closed or
/// not, are refused too.
pub(crate) fn is_allowed(path: &str) -> bool {
    let count = |wildcard| path.matches(wildcard).count();
    count('*') <= 1 && count('?') <= 1 && !path.contains('[')
}

/// The files that match, sorted by name. A folder that cannot be read has none.
pub(crate) fn files(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        found = match component {
            Component::Normal(name) if is_pattern(&name.to_string_lossy()) => {
                found.iter().flat_map(|folder| entries(folder, name)).collect()
            }
            other => found.iter().map(|folder| folder.join(other)).collect(),
        };
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found
}

/// Whether a file of this name matches the last component of a pattern.
pub(crate) fn is_match(pattern: &str, name: &str) -> bool {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    matches(&chars(pattern), &chars(name))
}

/// The folder that the first wildcard of a pattern looks into.
pub(crate) fn folder(pattern: &Path) -> PathBuf {
    let is_plain = |c: &Component<'_>| !is_pattern(&c.as_os_str().to_string_lossy());
    pattern.components().take_while(is_plain).collect()
}

fn entries(folder: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let pattern: Vec<char> = pattern.to_string_lossy().chars().collect();
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(listed) else { return Vec::new() };
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.retain(|name| {
        let name: Vec<char> = name.to_string_lossy().chars().collect();
        matches(&pattern, &name)
    });
    names.sort();
    names.iter().map(|name| folder.join(name)).collect()
}

/// The recursion is as deep as the pattern is long, and branches only at its one `*`.
fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        (Some(('?', rest)), Some((_, name))) => matches(rest, name),
        (Some((p, rest)), Some((n, name))) => p == n && matches(rest, name),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(matches(&chars(pattern), &chars(name)), expected, "{pattern} {name}");
        };
        check("*.server", "corp.server", true);
        check("*.server", ".server", true);
        check("*.server", "corp.server.bak", false);
        check("a?c*", "abc", true);
        check("a?c*", "ac", false);
        check("*", "", true);
        check("", "x", false);
        assert!(is_allowed("/etc/coredns/custom/*.over?ide"));
        assert!(!is_allowed("*/*.override"));
        assert!(!is_allowed("[ab].override"));
    }

    #[test]
    fn found_files() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["b.server", "a.server", "c.override"] {
            fs::write(dir.path().join(name), "").expect("a file");
        }
        let check = |pattern: &str, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(|name| dir.path().join(name)).collect();
            assert_eq!(files(&dir.path().join(pattern)), expected, "{pattern}");
        };
        check("*.server", &["a.server", "b.server"]);
        check("c.override", &["c.override"]);
        check("d.override", &[]);
        check("none/*.server", &[]);
        assert_eq!(folder(&dir.path().join("*.server")), dir.path());
    }
}
