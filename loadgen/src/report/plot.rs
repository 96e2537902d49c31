//! Latency by percentile, both on logarithmic scales, as inline SVG: the plot usual in DNS
//! benchmarks.
//!
//! The drawing sets no colours or text sizes: `STYLE` does, depending on the page's width and its
//! light or dark scheme. Lines differ in colour and dashes, so that colour alone never matters.

use std::fmt::Write;
use std::ops::Range;

use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::html::escape;

/// In units that the page scales: fine enough that steps in a line are invisible.
const SIZE: (u32, u32) = (1600, 800);
/// Number of distinct line styles; further lines start over.
const LINE_COUNT: usize = 6;
/// Stand-in for a colour of `STYLE` until the SVG is written.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_IN_SVG: &str = "#010203";

/// Okabe and Ito's colours, darker on white and lighter on black, with a contrast of at least 3.
pub const STYLE: &str = "\
figure{margin:0}\
figure>svg{width:100%;height:auto;overflow:visible}\
figure>svg text{font-size:23px}\
@media(max-width:44rem){figure>svg text{font-size:36px}}\
@media(max-width:30rem){figure>svg text{font-size:50px}}\
figcaption{display:flex;flex-wrap:wrap;gap:0 1.5rem;font-size:.9rem}\
figcaption span{white-space:nowrap}\
figcaption span:last-child{margin-left:auto}\
figcaption svg{width:3rem;height:.6rem;margin:0 .4rem 0 0;vertical-align:middle}\
.line{stroke:var(--c);stroke-width:2px;vector-effect:non-scaling-stroke}\
.dot{fill:var(--c)}\
.s0{--c:#0072b2}.s1{--c:#c85200;stroke-dasharray:9 4}.s2{--c:#00805c;stroke-dasharray:2 3}\
.s3{--c:#a8447a;stroke-dasharray:9 3 2 3}.s4{--c:#7a6200;stroke-dasharray:16 4}\
.s5{--c:#5f5f5f;stroke-dasharray:5 2}\
@media(prefers-color-scheme:dark){\
.s0{--c:#56b4e9}.s1{--c:#ff8c42}.s2{--c:#2fc8a0}\
.s3{--c:#e9a3c9}.s4{--c:#d9c24a}.s5{--c:#b0b0b0}}";

/// A line of a plot.
pub struct Series {
    pub name: String,
    /// x in the axis's unit, and a time in nanoseconds; `None` if all was lost, which breaks the
    /// line.
    pub points: Vec<(f64, Option<f64>)>,
}

impl Series {
    fn has_times(&self) -> bool {
        self.points.iter().any(|(_, ns)| ns.is_some())
    }
}

/// What the x axis shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Number of nines: 2 is 99 %.
    Percentile,
    /// Queries per second, on a logarithmic scale.
    Rate,
    Seconds,
}

/// Latencies by percentile: x is the number of nines.
pub fn percentile_series(name: &str, latency: &Histogram<u64>) -> Series {
    let mut points = Vec::new();
    if !latency.is_empty() {
        // As many nines as the number of responses can resolve.
        let nines_max = (latency.len() as f64).log10().min(6.0);
        let steps = 400;
        for step in 0..=steps {
            let nines = nines_max * f64::from(step) / f64::from(steps);
            let ns = latency.value_at_quantile(1.0 - 10f64.powf(-nines));
            points.push((nines, Some(ns as f64)));
        }
    }
    Series { name: name.to_owned(), points }
}

/// A `<figure>`: the plot and its legend.
pub fn figure(series: &[Series], axis: Axis) -> String {
    if !series.iter().any(Series::has_times) {
        return "<p>No responses, so nothing to plot.</p>".to_owned();
    }
    let mut svg = draw(series, axis).replace(INK_IN_SVG, "currentColor");
    let mut legend = String::new();
    for (index, one) in series.iter().enumerate() {
        let (line, name) = (index % LINE_COUNT, escape(&one.name));
        let lost = if one.has_times() { "" } else { ": all lost" };
        let colour = placeholder(line);
        let hex = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
        svg = svg
            .replace(&format!("stroke=\"{hex}\""), &format!("class=\"line s{line}\""))
            .replace(&format!("fill=\"{hex}\""), &format!("class=\"dot s{line}\""));
        // Writing to a string cannot fail.
        let _ = write!(
            legend,
            "<span><svg viewBox=\"0 0 48 10\"><path class=\"line s{line}\" d=\"M0 5H48\"/></svg>\
             {name}{lost}</span>"
        );
    }
    let x = axis.name();
    let svg =
        svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"latency over {x}\" "), 1);
    format!("<figure>{svg}<figcaption>{legend}<span>{x} →</span></figcaption></figure>")
}

/// A colour that no page uses.
fn placeholder(line: usize) -> RGBColor {
    RGBColor(1, 2, 10 + line as u8)
}

fn draw(series: &[Series], axis: Axis) -> String {
    let places: Vec<Vec<Vec<(f64, f64)>>> =
        series.iter().map(|one| stretches(&one.points, axis)).collect();
    let points = || places.iter().flatten().flatten();
    let x = span(points().map(|point| point.0));
    let y = rounded(span(points().map(|point| point.1)));
    let x = Scale { ticks: axis.ticks(&x), between: Vec::new(), range: x };
    let y = Scale { ticks: log_ticks(&y, &time_label), between: between(&y), range: y };

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(20)
            .margin_right(100)
            .x_label_area_size(60)
            .y_label_area_size(170)
            .build_cartesian_2d(x, y)
            .expect("writing to a string cannot fail");
        chart
            .configure_mesh()
            .axis_style(INK.mix(0.7))
            .bold_line_style(INK.mix(0.25))
            .light_line_style(INK.mix(0.08))
            .label_style(("sans-serif", 28).into_font().color(&INK))
            .draw()
            .expect("writing to a string cannot fail");
        for (index, stretches) in places.iter().enumerate() {
            let colour = placeholder(index % LINE_COUNT);
            for line in stretches {
                chart
                    .draw_series(LineSeries::new(line.iter().copied(), colour))
                    .expect("writing to a string cannot fail");
                // Only these rates were measured; and a line of one point would be invisible.
                if axis == Axis::Rate || line.len() == 1 {
                    chart
                        .draw_series(line.iter().map(|&at| Circle::new(at, 8, colour.filled())))
                        .expect("writing to a string cannot fail");
                }
            }
        }
        root.present().expect("writing to a string cannot fail");
    }
    svg
}

/// The coordinates of a line's points, split where there is no time.
fn stretches(points: &[(f64, Option<f64>)], axis: Axis) -> Vec<Vec<(f64, f64)>> {
    let place = |&(x, ns): &(f64, Option<f64>)| Some((axis.place(x), ns?.max(1.0).log10()));
    points
        .split(|(_, ns)| ns.is_none())
        .filter(|stretch| !stretch.is_empty())
        .map(|stretch| stretch.iter().filter_map(place).collect())
        .collect()
}

/// A labelled grid line.
struct Tick {
    at: f64,
    label: String,
}

/// One direction of the drawing: its range and the grid lines across it.
struct Scale {
    /// Valid: not empty.
    range: Range<f64>,
    ticks: Vec<Tick>,
    /// Grid lines without a label.
    between: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => self.between.clone(),
            false => self.ticks.iter().map(|tick| tick.at).collect(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.at == *value);
        tick.map_or_else(String::new, |tick| tick.label.clone())
    }
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Percentile => "percent of the responses",
            Self::Rate => "queries per second",
            Self::Seconds => "seconds",
        }
    }

    fn place(self, x: f64) -> f64 {
        match self {
            Self::Percentile => x,
            // A second ends some microseconds early or late.
            Self::Seconds => x.round(),
            Self::Rate => x.max(1.0).log10(),
        }
    }

    fn ticks(self, range: &Range<f64>) -> Vec<Tick> {
        match self {
            Self::Percentile => {
                let named =
                    [(0.0, "0"), (2f64.log10(), "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9")];
                let more = [(4.0, "99.99"), (5.0, "99.999"), (6.0, "99.9999")];
                let all = named.into_iter().chain(more);
                all.filter(|(at, _)| range.end >= *at)
                    .map(|(at, label)| Tick { at, label: label.to_owned() })
                    .collect()
            }
            Self::Rate => log_ticks(range, &rate_label),
            Self::Seconds => {
                let by = step((range.end - range.start) / 8.0).max(1.0);
                let (first, last) = ((range.start / by).ceil() as u64, (range.end / by) as u64);
                let tick = |count| Tick {
                    at: count as f64 * by,
                    label: format!("{:.0}", count as f64 * by),
                };
                (first..=last).map(tick).collect()
            }
        }
    }
}

/// From the least to the greatest value, and never nothing.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    low..high.max(low + 0.1)
}

/// The least 1, 2 or 5 times a power of ten that is not below `value`.
fn step(value: f64) -> f64 {
    let unit = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|times| times * unit)
        .into_iter()
        .find(|step| *step >= value * 0.999_999)
        .unwrap_or(unit)
}

/// Exponents of ten, out to the next 1, 2 or 5 times a power of ten.
fn rounded(range: Range<f64>) -> Range<f64> {
    let above = |exponent: f64| step(10f64.powf(exponent)).log10();
    // Below is above, upside down: 1/1, 1/2 and 1/5 are 10, 5 and 2 of the next power.
    -above(-range.start)..above(range.end)
}

/// Powers of ten in a range of their exponents, with 2 and 5 times them where there is room.
fn log_ticks(range: &Range<f64>, label: &dyn Fn(f64) -> String) -> Vec<Tick> {
    let digits: &[f64] = if range.end - range.start > 3.4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    multiples(range, digits)
        .into_iter()
        .map(|(at, value)| Tick { at, label: label(value) })
        .collect()
}

/// Where 1, 2, … 9 times each power of ten are.
fn between(range: &Range<f64>) -> Vec<f64> {
    let digits: [f64; 9] = std::array::from_fn(|index| (index + 1) as f64);
    multiples(range, &digits).into_iter().map(|(at, _)| at).collect()
}

/// (exponent, value) of these digits times each power of ten in a range of exponents.
fn multiples(range: &Range<f64>, digits: &[f64]) -> Vec<(f64, f64)> {
    let powers = range.start.floor() as i32..=range.end.ceil() as i32;
    let values = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
    let is_inside = |at: f64| at >= range.start - 1e-9 && at <= range.end + 1e-9;
    values.map(|value| (value.log10(), value)).filter(|(at, _)| is_inside(*at)).collect()
}

/// A round time: 20 µs.
fn time_label(ns: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| ns >= size * 0.999).unwrap_or((1.0, "ns"));
    format!("{:.0} {unit}", ns / size)
}

/// A round rate: 20k.
fn rate_label(qps: f64) -> String {
    let units = [(1e6, "M"), (1e3, "k")];
    let (size, unit) = units.into_iter().find(|(size, _)| qps >= size * 0.999).unwrap_or((1.0, ""));
    format!("{:.0}{unit}", qps / size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::histogram;

    #[test]
    fn a_figure_uses_the_pages_colours_and_is_reproducible() {
        let mut latency = histogram::<u64>();
        for i in 1..=10_000u64 {
            latency.saturating_record(i * 100);
        }
        let names = ["one", "<two>"];
        let plot =
            || figure(&names.map(|name| percentile_series(name, &latency)), Axis::Percentile);
        let html = plot();
        assert_eq!(html, plot());
        for text in [
            "<svg",
            "currentColor",
            "line s0",
            "line s1",
            ">one<",
            "&lt;two&gt;",
            "99.9\n",
            "1 ms\n",
        ] {
            assert!(html.contains(text), "{text} in {html}");
        }
        // All placeholders are gone, and nothing comes from elsewhere.
        assert!(!html.contains("=\"#0102"), "{html}");
        assert_eq!(
            html.matches("http").count(),
            html.matches("http://www.w3.org/2000/svg").count()
        );
    }

    #[test]
    fn without_responses_there_is_no_plot() {
        let none = percentile_series("none", &histogram());
        assert!(figure(&[none], Axis::Percentile).contains("nothing to plot"));
        let lost = Series { name: "lost".to_owned(), points: vec![(1.0, None), (2.0, None)] };
        assert!(figure(&[lost], Axis::Seconds).contains("nothing to plot"));
    }

    #[test]
    fn a_second_without_responses_breaks_the_line() {
        let rows: &[(&[Option<f64>], &[usize])] = &[
            (&[], &[]),
            (&[None], &[]),
            (&[Some(1e3), Some(1e3)], &[2]),
            (&[Some(1e3), None, Some(1e3), Some(1e3), None, None], &[1, 2]),
        ];
        for (times, lengths) in rows {
            let points: Vec<_> =
                times.iter().enumerate().map(|(at, ns)| (at as f64, *ns)).collect();
            let got: Vec<usize> = stretches(&points, Axis::Seconds).iter().map(Vec::len).collect();
            assert_eq!(got, *lengths, "{times:?}");
        }
        let line = |name: &str, points: &[(f64, Option<f64>)]| Series {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let html = figure(
            &[line("one", &[(1.0, Some(2e6)), (2.0, None)]), line("two", &[(1.0, None)])],
            Axis::Seconds,
        );
        assert!(html.contains(">one<") && html.contains(">two: all lost<"), "{html}");
        // Nothing is drawn at 1 ns, the end of the scale that a lost second would sink to.
        assert!(!html.contains("1 ns"), "{html}");
    }

    #[test]
    fn ticks_are_round_and_within_the_range() {
        let labels = |ticks: Vec<Tick>| {
            ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" ")
        };
        let times = |low: f64, high: f64| {
            labels(log_ticks(&rounded(span([low, high].map(f64::log10).into_iter())), &time_label))
        };
        assert_eq!(
            times(9_900.0, 7e6),
            "5 µs 10 µs 20 µs 50 µs 100 µs 200 µs 500 µs 1 ms 2 ms 5 ms 10 ms"
        );
        assert_eq!(times(10.0, 2e9), "10 ns 100 ns 1 µs 10 µs 100 µs 1 ms 10 ms 100 ms 1 s");
        assert_eq!(times(5e6, 5e6), "5 ms 10 ms");
        let on = |axis: Axis, low: f64, high: f64| {
            labels(axis.ticks(&(axis.place(low)..axis.place(high))))
        };
        assert_eq!(on(Axis::Rate, 10e3, 240e3), "10k 20k 50k 100k 200k");
        assert_eq!(on(Axis::Percentile, 0.0, 3.5), "0 50 90 99 99.9");
        assert_eq!(on(Axis::Seconds, 1.0, 10.0), "2 4 6 8 10");
        assert_eq!(on(Axis::Seconds, 1.0, 2.0), "1 2");
        assert_eq!(on(Axis::Seconds, 1.0, 86_400.0), "20000 40000 60000 80000");
    }
}
