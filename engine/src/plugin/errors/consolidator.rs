//! `errors { consolidate }`: errors that are alike are counted, and the count is logged now and then. No clock and no log
//! here: the caller says what time it is and writes the lines.
//!
//! Invariant: whatever comes in, there is one counter for each `consolidate` of the Corefile and nothing else.

use std::time::Instant;

use super::{Consolidate, Level};
use crate::corefile::value::duration;

/// The `consolidate`s of one server block.
#[derive(Default)]
pub struct Consolidator {
    counters: Vec<RuleCounter>,
}

struct RuleCounter {
    rule: Consolidate,
    /// Errors since the first that has not been told of; 0 while none is waiting.
    count: u64,
    /// When they are told of. `None` also where that is after the end of time.
    due_at: Option<Instant>,
}

/// What becomes of an error's own line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFate {
    Logged(Level),
    /// Only its number will be told.
    Counted,
}

impl Consolidator {
    pub fn new(rules: &[Consolidate]) -> Self {
        let counter =
            |rule: &Consolidate| RuleCounter { rule: rule.clone(), count: 0, due_at: None };
        Self { counters: rules.iter().map(counter).collect() }
    }

    /// Takes in the message of an error.
    pub fn take(&mut self, message: &str, now: Instant) -> LineFate {
        let is_like = |counter: &&mut RuleCounter| counter.rule.pattern.is_match(message);
        let Some(counter) = self.counters.iter_mut().find(is_like) else {
            return LineFate::Logged(Level::Error);
        };
        let is_first = counter.count == 0;
        if is_first {
            counter.due_at = now.checked_add(counter.rule.every);
        }
        counter.count += 1;
        match is_first && counter.rule.show_first {
            true => LineFate::Logged(counter.rule.level),
            false => LineFate::Counted,
        }
    }

    /// The counts whose time has come, worded as CoreDNS does.
    pub fn due(&mut self, now: Instant) -> impl Iterator<Item = (Level, String)> {
        let is_due = move |counter: &&mut RuleCounter| counter.due_at.is_some_and(|at| at <= now);
        self.counters.iter_mut().filter(is_due).filter_map(RuleCounter::tell)
    }

    /// All counts, before the Corefile or the process ends.
    pub fn rest(&mut self) -> impl Iterator<Item = (Level, String)> {
        self.counters.iter_mut().filter_map(RuleCounter::tell)
    }
}

impl RuleCounter {
    /// `None` where nothing is left to tell: no error, or one that was shown.
    fn tell(&mut self) -> Option<(Level, String)> {
        self.due_at = None;
        let count = std::mem::take(&mut self.count);
        let told = u64::from(self.rule.show_first);
        (count > told).then(|| {
            let (pattern, every) = (&self.rule.pattern, duration::shown(self.rule.every));
            (self.rule.level, format!("{count} errors like '{pattern}' occurred in last {every}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rule(every_secs: u64, pattern: &str, level: Level, show_first: bool) -> Consolidate {
        let pattern = pattern.parse().expect("a pattern");
        Consolidate { every: Duration::from_secs(every_secs), pattern, level, show_first }
    }

    /// At the second, an error's message, or the wish to hear what is due.
    enum Event {
        Error(u64, &'static str, LineFate),
        Due(u64, &'static [&'static str]),
    }

    #[test]
    fn counting() {
        use Event::{Due, Error};
        use LineFate::{Counted, Logged};
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
            // The first pattern that fits takes it, and each counts from its own first error.
            Error(20, "dial timeout", Logged(Level::Info)),
            Error(20, "dial timeout", Counted),
            Due(29, &[]),
            Due(31, &["Warning 2 errors like '^read udp .* i/o timeout$' occurred in last 30s"]),
            Due(319, &[]),
            Due(320, &["Info 2 errors like 'timeout' occurred in last 5m0s"]),
            // One that was shown is not counted out.
            Error(320, "refused", Logged(Level::Error)),
            Due(322, &[]),
            Error(323, "refused", Logged(Level::Error)),
            Error(323, timeout, Counted),
        ] {
            let at = |secs| start + Duration::from_secs(secs);
            match event {
                Error(secs, message, fate) => {
                    assert_eq!(consolidator.take(message, at(secs)), fate, "{secs} s: {message}");
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
