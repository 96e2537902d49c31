//! HdrHistogram's percentile table (`.hgrm`), as Java's `outputPercentileDistribution` prints it;
//! hdr-plot and the plotting web pages read it. Values are in milliseconds.

use std::fmt::Write;

use hdrhistogram::Histogram;

const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NANOS_PER_MILLI: f64 = 1e6;

pub fn render(latency: &Histogram<u64>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, latency);
    text
}

fn write(out: &mut String, latency: &Histogram<u64>) -> std::fmt::Result {
    writeln!(out, "       Value     Percentile TotalCount 1/(1-Percentile)\n")?;
    let mut total = 0;
    for value in latency.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += value.count_since_last_iteration();
        let ms = value.value_iterated_to() as f64 / NANOS_PER_MILLI;
        let quantile = value.quantile_iterated_to();
        if quantile < 1.0 {
            writeln!(out, "{ms:12.3} {quantile:2.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{ms:12.3} {quantile:2.12} {total:10}")?;
        }
    }
    let sub_buckets =
        2u64 << (f64::from(latency.sigfig()) * std::f64::consts::LOG2_10).ceil() as u32;
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        latency.mean() / NANOS_PER_MILLI,
        latency.stdev() / NANOS_PER_MILLI
    )?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        latency.max() as f64 / NANOS_PER_MILLI,
        latency.len()
    )?;
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]", latency.buckets())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::histogram;

    #[test]
    fn the_table_matches_javas() {
        let mut latency = histogram::<u64>();
        for ms in 1..=4u64 {
            latency.saturating_record(ms * 1_000_000);
        }
        let text = render(&latency);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        assert!(
            text.contains("\n       4.002 1.000000000000          4\n#[Mean    =        2.500"),
            "{text}"
        );
        let end = "\
#[Max     =        4.002, Total count    =            4]
#[Buckets =           26, SubBuckets     =         2048]
";
        assert!(text.ends_with(end), "{text}");
    }
}
