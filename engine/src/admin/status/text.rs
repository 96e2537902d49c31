//! Numbers, times and sizes as a person reads them.
//!
//! Invariant: pure; `now` is an argument.

use std::time::{Duration, SystemTime};

/// With a comma every three digits: `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Per second. A slow rate keeps one decimal place.
pub(super) fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 9.95 {
        format!("{per_second:.1}")
    } else {
        count(per_second.round() as u64)
    }
}

/// A part of a whole in per cent.
pub(super) fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ if part == whole => "100 %".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

/// In two digits: `16 µs`, `4.1 ms`, `1.5 s`.
pub(super) fn bound(time: Duration) -> String {
    let (number, unit) = match time.as_secs_f64() {
        secs if secs >= 1.0 => (secs, "s"),
        secs if secs >= 1e-3 => (secs * 1e3, "ms"),
        secs => (secs * 1e6, "µs"),
    };
    let text = if number < 9.95 { format!("{number:.1}") } else { format!("{number:.0}") };
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

pub(super) fn bytes(len: usize) -> String {
    match len as f64 / 1024.0 {
        kib if kib < 1024.0 => format!("{kib:.0} KiB"),
        kib => format!("{:.1} MiB", kib / 1024.0),
    }
}

/// How long ago something was.
pub(super) fn ago(now: SystemTime, at: SystemTime) -> String {
    let secs = now.duration_since(at).unwrap_or_default().as_secs();
    match secs {
        0 => "now".to_owned(),
        1..=119 => format!("{secs} s ago"),
        120..=7199 => format!("{} min ago", secs / 60),
        7200..=172_799 => format!("{} h ago", secs / 3600),
        _ => format!("{} days ago", secs / 86_400),
    }
}

/// The time of day, and the day.
pub(super) fn utc(at: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The beginning of a digest.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_reading() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), expected);
        }
        for (per_second, expected) in [(0.0, "0"), (0.25, "0.2"), (9.96, "10"), (1e5, "100,000")] {
            assert_eq!(rate(per_second), expected);
        }
        assert_eq!(
            [share(0, 0), share(1, 3), share(3, 3)],
            ["–".to_owned(), "33.3 %".to_owned(), "100 %".to_owned()]
        );
        for (micros, expected) in [
            (1, "1 µs"),
            (512, "512 µs"),
            (4096, "4.1 ms"),
            (32_768, "33 ms"),
            (8_192_000, "8.2 s"),
        ] {
            assert_eq!(bound(Duration::from_micros(micros)), expected);
        }
        assert_eq!([bytes(500), bytes(3 << 20)], ["0 KiB".to_owned(), "3.0 MiB".to_owned()]);
    }

    #[test]
    fn times_are_relative() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (secs, expected) in [
            (0, "now"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7200, "2 h ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(now, now - Duration::from_secs(secs)), expected);
        }
        assert_eq!(ago(now, now + Duration::from_secs(5)), "now", "the clock was set back");
        assert_eq!(utc(now), "1970-01-12 13:46:40 UTC");
        assert_eq!([short("0123456789abcdef"), short("ab")], ["0123456789ab", "ab"]);
    }
}
