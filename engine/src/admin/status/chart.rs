//! Small drawings: a line of rates, and bars of durations. Pure SVG.
//!
//! Invariant: as many elements as there are samples or buckets.

use std::fmt::Write as _;
use std::time::Duration;

use maud::{Markup, html};

use super::text::{bound, count, rate};
use crate::metrics::overview::shard_bounds;

/// The size of a drawing's coordinates; CSS stretches it.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

/// A ring, the mark of the page.
pub(super) fn ring() -> Markup {
    html! {
        svg.mark viewBox="0 0 32 32" aria-hidden="true" {
            circle cx="16" cy="16" r="11" {}
            circle.dot cx="25" cy="9.7" r="4.5" {}
        }
    }
}

/// Rates over time, oldest first; `highest` is the top of the drawing.
pub(super) fn line(rates: &[f64], highest: f64) -> Markup {
    let steps = rates.len().saturating_sub(1).max(1) as f64;
    let mut points = String::new();
    for (index, rate) in rates.iter().enumerate() {
        let x = WIDTH * index as f64 / steps;
        let y = HEIGHT - 1.0 - (HEIGHT - 3.0) * rate / highest.max(1.0);
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    let area = format!("0,{HEIGHT} {points}{WIDTH},{HEIGHT}");
    let label = format!("responses per second over the last minute, at most {}", rate(highest));
    html! {
        svg.line viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-label=(label) {
            @if rates.len() > 1 {
                polygon points=(area) {}
                polyline points=(points.trim_end()) {}
            }
        }
    }
}

/// Responses by duration: one bar per bucket.
pub(super) fn bars(counts: &[u64]) -> Markup {
    let highest = counts.iter().copied().max().unwrap_or_default().max(1);
    let step = WIDTH / counts.len().max(1) as f64;
    html! {
        svg.bars viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-label="responses by response time over the last minute" {
            @for (bucket, responses) in counts.iter().enumerate() {
                // A bucket with few responses is still seen.
                @let height = match responses {
                    0 => 0.0,
                    _ => (HEIGHT * *responses as f64 / highest as f64).max(1.5),
                };
                @let x = format!("{:.2}", step * bucket as f64 + 1.0);
                @let y = format!("{:.2}", HEIGHT - height);
                rect.floor x=(x) y=(HEIGHT - 0.75) width=(format!("{:.2}", step - 2.0))
                    height="0.75" {}
                @if *responses > 0 {
                    rect x=(x) y=(y) width=(format!("{:.2}", step - 2.0))
                        height=(format!("{height:.2}")) {
                        title { (count(*responses)) " in " (bucket_text(bucket)) }
                    }
                }
            }
        }
    }
}

/// A part of a whole as a bar.
pub(super) fn part(part: u64, whole: u64) -> Markup {
    let width = format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64);
    html! {
        svg.part aria-hidden="true" {
            rect.floor width="100%" height="8" rx="4" {}
            rect width=(width) height="8" rx="4" {}
        }
    }
}

/// The range of a bucket.
fn bucket_text(bucket: usize) -> String {
    let bounds = shard_bounds();
    let text = |index: usize| bounds.get(index).map(|secs| bound(Duration::from_secs_f64(*secs)));
    match (bucket.checked_sub(1).and_then(text), text(bucket)) {
        (None, Some(to)) => format!("at most {to}"),
        (Some(from), Some(to)) => format!("{from} to {to}"),
        (Some(from), None) => format!("more than {from}"),
        (None, None) => "any time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_names_its_bucket() {
        for (bucket, expected) in
            [(0, "at most 1 µs"), (1, "1 µs to 2 µs"), (16, "more than 33 ms")]
        {
            assert_eq!(bucket_text(bucket), expected);
        }
        let mut counts = [0; 17];
        counts[1] = 1000;
        assert!(bars(&counts).into_string().contains("<title>1,000 in 1 µs to 2 µs</title>"));
    }

    #[test]
    fn a_line_stays_inside_its_drawing() {
        let drawn = line(&[0.0, 50.0, 100.0], 100.0).into_string();
        assert!(drawn.contains(r#"polyline points="0.0,47.0 120.0,24.5 240.0,2.0""#), "{drawn}");
        assert!(!line(&[], 0.0).into_string().contains("polyline"));
    }
}
