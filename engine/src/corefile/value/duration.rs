//! Durations as Go reads and writes them: `30s`, `1h30m`, `1.5s`, `300ms`, `0`.
//!
//! Invariant: a duration is below 2^63 ns, as in Go.

use std::time::Duration;

use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;

/// Units by their names, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, the micro sign
    ("μs", 1_000), // U+03BC, the Greek letter
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration that is not negative and below 2^63 ns, as Go's is.
pub(crate) fn read(text: &str) -> Result<Duration, Refusal> {
    let word = quoted(text);
    let invalid =
        || Refusal::new(format!("time: invalid duration \"{word}\""), LABEL).help(EXAMPLES);
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned.starts_with('-') {
        return Err(Refusal::new(format!("negative duration \"{word}\""), LABEL).help(EXAMPLES));
    }
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = unsigned;
    let mut total_ns = 0u128;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(Refusal::new(format!("time: missing unit in duration \"{word}\""), LABEL)
                .help(EXAMPLES));
        }
        let Some((_, unit_ns)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let message = format!("time: unknown unit \"{}\" in duration \"{word}\"", quoted(unit));
            return Err(Refusal::new(message, LABEL).help(EXAMPLES));
        };
        total_ns += nanoseconds(whole, fraction, *unit_ns).ok_or_else(invalid)?;
        rest = after;
    }
    match u64::try_from(total_ns) {
        Ok(ns) if !unsigned.is_empty() && ns <= i64::MAX as u64 => Ok(Duration::from_nanos(ns)),
        Ok(_) | Err(_) => Err(invalid()),
    }
}

/// A duration as Go writes it: `1h0m0s`, `1.5s`, `300ms`.
pub(crate) fn shown(duration: Duration) -> String {
    let total_ns = duration.as_nanos();
    let (unit, unit_ns) = match total_ns {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        1_000_000_000.. => ("s", 1_000_000_000),
    };
    let (hours, minutes) = (total_ns / HOUR_NS, total_ns / MINUTE_NS % 60);
    let mut text = match (hours, minutes) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    let rest_ns = total_ns % MINUTE_NS;
    text += &(rest_ns / unit_ns).to_string();
    if !rest_ns.is_multiple_of(unit_ns) {
        let digits = unit_ns.ilog10() as usize;
        let fraction = format!("{:0digits$}", rest_ns % unit_ns);
        text = format!("{text}.{}", fraction.trim_end_matches('0'));
    }
    text + unit
}

const MINUTE_NS: u128 = 60_000_000_000;
const HOUR_NS: u128 = 60 * MINUTE_NS;

const LABEL: &str = "not a duration";
const EXAMPLES: &str = "a duration is a number with its unit: 5s, 1m30s, 500ms";

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `None` if it exceeds Go's range. Digits after the ninth of a fraction are ignored.
fn nanoseconds(whole: &str, fraction: &str, unit_ns: u64) -> Option<u128> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = fraction.get(..fraction.len().min(9))?;
    let fraction: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let scale = 10u128.pow(digits.len() as u32);
    let ns = u128::from(whole) * u128::from(unit_ns)
        + u128::from(fraction) * u128::from(unit_ns) / scale;
    (ns <= i64::MAX as u128).then_some(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected_ms: Option<u64>| {
            assert_eq!(read(text).ok(), expected_ms.map(Duration::from_millis), "{text}");
        };
        check("30s", Some(30_000));
        check("1h30m", Some(5_400_000));
        check("1.5s", Some(1_500));
        check(".5s", Some(500));
        check("1.s", Some(1_000));
        check("+300ms", Some(300));
        check("2000µs", Some(2));
        check("2000μs", Some(2));
        check("0", Some(0));
        check("0s", Some(0));
        check("1.0000000000000000000001s", Some(1_000));
        for refused in [
            "",
            "+",
            "5",
            "s",
            ".s",
            "-5s",
            "5 s",
            "5y",
            "1e3s",
            "9999999999h",
            "99999999999999999999s",
        ] {
            check(refused, None);
        }
        assert_eq!(
            read("5").map_err(|refusal| refusal.message),
            Err("time: missing unit in duration \"5\"".into())
        );
        assert_eq!(
            read("5y").map_err(|refusal| refusal.message),
            Err("time: unknown unit \"y\" in duration \"5y\"".into())
        );
    }

    #[test]
    fn shown_as_go_does() {
        for text in [
            "0s",
            "1ns",
            "1.5µs",
            "300ms",
            "1s",
            "1.5s",
            "59.000000001s",
            "1m0s",
            "5m0s",
            "1m30s",
            "1h0m0s",
            "24h0m0.25s",
        ] {
            assert_eq!(read(text).map(shown).as_deref(), Ok(text));
        }
    }
}
