//! Words of a Corefile as messages show them, and suggestions for misspelt words.

use crate::limits::COREFILE_QUOTED_LEN_MAX;

/// A word of the Corefile for a message: shortened if it is long, on one line, without characters
/// that a terminal would interpret.
pub(crate) fn quoted(word: &str) -> String {
    let mut text: String = word
        .chars()
        .take(COREFILE_QUOTED_LEN_MAX)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if word.chars().nth(COREFILE_QUOTED_LEN_MAX).is_some() {
        text.push('…');
    }
    text
}

/// The candidate that `word` most likely means, if one is similar enough.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    if word.len() > COREFILE_QUOTED_LEN_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let distance = |candidate: &str| {
        if word.len() >= 3 && candidate.starts_with(&word) {
            return 1; // an abbreviation
        }
        strsim::damerau_levenshtein(&word, candidate)
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.len() / 4 && *distance < word.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_words() {
        let check = |word: &str, expected: Option<&str>| {
            let candidates = ["cache", "kubernetes", "log", "prometheus", "on", "loop", "ready"];
            assert_eq!(nearest(word, candidates), expected, "{word}");
        };
        check("cahce", Some("cache"));
        check("Kuberntes", Some("kubernetes"));
        check("prom", Some("prometheus"));
        check("n", None);
        check("example.org", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }

    #[test]
    fn long_and_hostile_words() {
        assert_eq!(quoted("a\u{1b}[31mb"), "a\u{fffd}[31mb");
        assert_eq!(quoted(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
