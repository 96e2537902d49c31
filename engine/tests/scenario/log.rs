//! The lines of a server's log, as a scenario expects them.

/// Lines that stand next to one another, in any order.
pub struct LogLines(Vec<String>);

/// Placeholders of a line, and the characters that each stands for.
const PLACEHOLDERS: [(&str, &str); 2] =
    [("{number}", "0123456789"), ("{duration}", "0123456789.s")];

impl LogLines {
    pub fn parse(body: &[&str]) -> Result<Self, String> {
        if body.is_empty() {
            return Err("'log' has no lines".to_owned());
        }
        Ok(Self(body.iter().map(|line| (*line).to_owned()).collect()))
    }

    /// The position in this log after the lines; the error shows what the log has instead.
    pub fn find(&self, log: &str) -> Result<usize, String> {
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        match lines.windows(self.0.len()).position(|window| self.are(window)) {
            Some(at) => Ok(lines[..at + self.0.len()].iter().map(|line| line.len()).sum()),
            None => Err(format!("expected in the log:\n{}\ngot:\n{log}", self.0.join("\n"))),
        }
    }
}

impl LogLines {
    /// In any order: CoreDNS writes a line after its response, so a later query may overtake it.
    fn are(&self, window: &[&str]) -> bool {
        let mut left: Vec<&String> = self.0.iter().collect();
        window.iter().all(|line| {
            let at = left.iter().position(|expected| matches(expected, line.trim_end()));
            at.map(|at| left.remove(at)).is_some()
        })
    }
}

/// Whether the line is the expected one, each placeholder replaced by at least one of its
/// characters.
fn matches(expected: &str, line: &str) -> bool {
    let next = PLACEHOLDERS.iter().filter_map(|(placeholder, characters)| {
        expected.find(placeholder).map(|at| (at, placeholder.len(), characters))
    });
    let Some((at, len, characters)) = next.min() else { return expected == line };
    let Some(rest) = line.strip_prefix(&expected[..at]) else { return false };
    let behind = rest.trim_start_matches(|c| characters.contains(c));
    behind.len() < rest.len() && matches(&expected[at + len..], behind)
}
