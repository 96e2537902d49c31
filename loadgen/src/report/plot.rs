//! The picture that DNS people publish: latency over the percentile, both on logarithmic scales, as inline SVG.
//!
//! Text and axes take the page's own colour, so the picture is readable on light and dark pages.

use hdrhistogram::Histogram;
use plotters::prelude::*;

use super::human_time;

const SIZE: (u32, u32) = (960, 480);
/// Stands for the page's text colour until the SVG is written; no series has it.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_IN_SVG: &str = "#010203";
/// Of middling lightness, and told apart by people with the common kinds of colour blindness (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 145, 210),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(175, 140, 0),
    RGBColor(130, 130, 130),
];

/// A line of a plot.
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Latencies by percentile: x is the number of nines, y the latency's power of ten in nanoseconds.
pub fn percentile_series(name: &str, latency: &Histogram<u64>) -> Series {
    let mut points = Vec::new();
    if !latency.is_empty() {
        // As many nines as there are answers to tell them.
        let nines_max = (latency.len() as f64).log10().min(6.0);
        let steps = 400;
        for step in 0..=steps {
            let nines = nines_max * f64::from(step) / f64::from(steps);
            let ns = latency.value_at_quantile(1.0 - 10f64.powf(-nines)).max(1);
            points.push((nines, (ns as f64).log10()));
        }
    }
    Series { name: name.to_owned(), points }
}

/// The percentile plot as an `<svg>` element.
pub fn percentiles(series: &[Series]) -> String {
    let nines = |x: &f64| match x.round() as i32 {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        count => format!("99.{} %", "9".repeat((count - 2) as usize)),
    };
    let nines_max =
        series.iter().flat_map(|one| &one.points).fold(0.0, |max: f64, point| max.max(point.0));
    draw(series, nines_max.ceil() as usize + 1, "percentile (nines)", &nines)
}

/// Times over a rate, a time and the like; y is the time's power of ten in nanoseconds.
pub fn times(series: &[Series], x: &str, x_label: &dyn Fn(&f64) -> String) -> String {
    draw(series, 10, x, x_label)
}

fn draw(series: &[Series], x_labels: usize, x: &str, x_label: &dyn Fn(&f64) -> String) -> String {
    let points = || series.iter().flat_map(|one| &one.points);
    if points().next().is_none() {
        return "<p>No answers, so nothing to plot.</p>".to_owned();
    }
    let span = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x_low, x_high) = span(&mut points().map(|point| point.0));
    let (y_low, y_high) = span(&mut points().map(|point| point.1));
    // Whole powers of ten, so that the lines of the grid have round names.
    let (y_low, y_high) = (y_low.floor(), y_high.ceil().max(y_low.floor() + 1.0));
    let x_range = x_low..if x_high > x_low { x_high } else { x_low + 1.0 };
    let y_labels = (y_high - y_low) as usize + 1;

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let text = ("sans-serif", 15).into_font().color(&INK);
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(84)
            .build_cartesian_2d(x_range, y_low..y_high)
            .expect("writing to a string cannot fail");
        chart
            .configure_mesh()
            .axis_style(INK.mix(0.7))
            .bold_line_style(INK.mix(0.2))
            .light_line_style(TRANSPARENT)
            .label_style(text.clone())
            .x_labels(x_labels)
            .y_labels(y_labels)
            .x_label_formatter(x_label)
            .y_label_formatter(&|y| human_time(10f64.powf(*y).round()))
            .x_desc(x)
            .y_desc("latency")
            .draw()
            .expect("writing to a string cannot fail");
        for (one, colour) in series.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(one.points.iter().copied(), colour.stroke_width(2)))
                .expect("writing to a string cannot fail")
                .label(&one.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .legend_area_size(30)
            .label_font(text)
            .draw()
            .expect("writing to a string cannot fail");
        root.present().expect("writing to a string cannot fail");
    }
    svg.replace(INK_IN_SVG, "currentColor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::histogram;

    #[test]
    fn the_picture_takes_the_pages_colour_and_is_the_same_each_time() {
        let mut latency = histogram::<u64>();
        for i in 1..=10_000u64 {
            latency.saturating_record(i * 100);
        }
        let plot = || {
            percentiles(&[percentile_series("one", &latency), percentile_series("two", &latency)])
        };
        let svg = plot();
        assert_eq!(svg, plot());
        assert!(
            svg.starts_with("<svg") && svg.contains("currentColor") && !svg.contains(INK_IN_SVG)
        );
        for text in ["90 %", "99.9 %", "one", "two", "1.00 ms"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(!svg.contains("http://") || svg.contains("http://www.w3.org/2000/svg"));
    }

    #[test]
    fn no_answers_are_no_picture() {
        assert!(
            percentiles(&[percentile_series("none", &histogram())]).contains("nothing to plot")
        );
    }
}
