//! `errors { consolidate }`: counts similar errors and logs the counts at intervals.
//!
//! No clock and no log here: the caller passes the time and writes the lines.
//!
//! Invariant: the memory is one counter per `consolidate` of the Corefile, whatever the errors.

use std::time::Instant;

use super::{Consolidate, Level};
use crate::corefile::value::duration;

/// The `consolidate` options of one server block.
#[derive(Default)]
pub struct Consolidator {
    counters: Vec<RuleCounter>,
}

struct RuleCounter {
    rule: Consolidate,
    /// Errors that have not been reported yet.
    count: u64,
    /// When to report them. `None` if there are none, or if the time is out of range.
    due_at: Option<Instant>,
}

/// What happens to an error's own line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineAction {
    Logged(Level),
    /// Only counted.
    Counted,
}

impl Consolidator {
    pub fn new(rules: &[Consolidate]) -> Self {
        let counter =
            |rule: &Consolidate| RuleCounter { rule: rule.clone(), count: 0, due_at: None };
        Self { counters: rules.iter().map(counter).collect() }
    }

    /// Handles the message of an error.
    pub fn take(&mut self, message: &str, now: Instant) -> LineAction {
        let message = message.as_bytes();
        let is_like = |counter: &&mut RuleCounter| counter.rule.pattern.regex().is_match(message);
        let Some(counter) = self.counters.iter_mut().find(is_like) else {
            return LineAction::Logged(Level::Error);
        };
        let is_first = counter.count == 0;
        if is_first {
            counter.due_at = now.checked_add(counter.rule.every);
        }
        counter.count += 1;
        match is_first && counter.rule.show_first {
            true => LineAction::Logged(counter.rule.level),
            false => LineAction::Counted,
        }
    }

    /// The counts that are due, in CoreDNS's words.
    pub fn due(&mut self, now: Instant) -> impl Iterator<Item = (Level, String)> {
        let is_due = move |counter: &&mut RuleCounter| counter.due_at.is_some_and(|at| at <= now);
        self.counters.iter_mut().filter(is_due).filter_map(RuleCounter::report)
    }

    /// All counts, before a reload or the shutdown.
    pub fn rest(&mut self) -> impl Iterator<Item = (Level, String)> {
        self.counters.iter_mut().filter_map(RuleCounter::report)
    }
}

impl RuleCounter {
    /// `None` if there is nothing to report: no error, or a single one that was logged.
    fn report(&mut self) -> Option<(Level, String)> {
        self.due_at = None;
        let count = std::mem::take(&mut self.count);
        let logged = u64::from(self.rule.show_first);
        (count > logged).then(|| {
            let (pattern, every) = (&self.rule.pattern, duration::shown(self.rule.every));
            (self.rule.level, format!("{count} errors like '{pattern}' occurred in last {every}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plugin::go_regex::GoRegex;

    fn rule(every_secs: u64, pattern: &str, level: Level, show_first: bool) -> Consolidate {
        let pattern = GoRegex::new(pattern).expect("a pattern");
        Consolidate { every: Duration::from_secs(every_secs), pattern, level, show_first }
    }

    /// The second, with an error's message and what happens to it, or with the counts that are due.
    enum Event {
        Error(u64, &'static str, LineAction),
        Due(u64, &'static [&'static str]),
    }

    #[test]
    fn counting() {
        use Event::{Due, Error};
        use LineAction::{Counted, Logged};
        let rules = [
            rule(30, "^read udp .* i/o timeout$", Level::Warning, false),
            rule(300, "timeout", Level::Info, true),
            rule(1, "refused", Level::Error, true),
        ];
        let timeout = "read udp 10.0.0.1:53->8.8.8.8:53: i/o timeout";
        let mut consolidator = Consolidator::new(&rules);
        let start = Instant::now();
        for event in [
            Due(0, &[]),
            Error(0, "no next plugin found", Logged(Level::Error)),
            Error(0, timeout, Counted),
            Error(10, timeout, Counted),
            // The first pattern that matches counts the error. Each interval starts at its own
            // first error.
            Error(20, "dial timeout", Logged(Level::Info)),
            Error(20, "dial timeout", Counted),
            Due(29, &[]),
            Due(31, &["Warning 2 errors like '^read udp .* i/o timeout$' occurred in last 30s"]),
            Due(319, &[]),
            Due(320, &["Info 2 errors like 'timeout' occurred in last 5m0s"]),
            // A single error that was logged is not reported again.
            Error(320, "refused", Logged(Level::Error)),
            Due(322, &[]),
            Error(323, "refused", Logged(Level::Error)),
            Error(323, timeout, Counted),
        ] {
            let at = |secs| start + Duration::from_secs(secs);
            match event {
                Error(secs, message, action) => {
                    assert_eq!(consolidator.take(message, at(secs)), action, "{secs} s: {message}");
                }
                Due(secs, expected) => {
                    let due = consolidator.due(at(secs));
                    let due: Vec<_> =
                        due.map(|(level, line)| format!("{level:?} {line}")).collect();
                    assert_eq!(due, expected, "{secs} s");
                }
            }
        }
        let rest: Vec<_> = consolidator.rest().map(|(_, line)| line).collect();
        let expected = "1 errors like '^read udp .* i/o timeout$' occurred in last 30s";
        assert_eq!(rest, [expected]);
        assert_eq!(consolidator.rest().count(), 0);
    }
}
