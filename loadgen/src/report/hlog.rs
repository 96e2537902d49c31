//! HdrHistogram's interval log, format 1.3: one histogram per second, readable by Java's
//! HistogramLogProcessor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::cli::VERSION;
use crate::collect::Second;

/// The log so far.
pub struct IntervalLog {
    text: String,
    serializer: V2DeflateSerializer,
}

impl Default for IntervalLog {
    fn default() -> Self {
        Self { text: String::new(), serializer: V2DeflateSerializer::new() }
    }
}

impl IntervalLog {
    /// `tag` names the server if a log holds several; valid: no commas, no blanks.
    pub fn add(&mut self, second: &Second, tag: Option<&str>) {
        let mut builder = IntervalLogWriterBuilder::new();
        // Values are nanoseconds; the maximum is shown in milliseconds, as Java's recorders do.
        builder.with_max_value_divisor(1e6);
        // The builder writes the file's head each time; those lines are filtered out below.
        let mut lines = Vec::new();
        let mut writer = builder
            .begin_log_with(&mut lines, &mut self.serializer)
            .expect("a vector can be written to");
        writer
            .write_histogram(
                &second.latency,
                Duration::from_nanos(second.start_ns),
                Duration::from_nanos(second.end_ns - second.start_ns),
                tag.and_then(Tag::new),
            )
            .expect("a histogram of the fixed range fits");
        let lines = String::from_utf8(lines).expect("numbers and base64");
        self.text.extend(lines.split_inclusive('\n').filter(|line| !line.starts_with('#')));
    }

    /// The whole file.
    pub fn render(&self, started: SystemTime) -> String {
        let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let head = format!(
            "#[Histogram log format version 1.3]\n\
             #[Logged with loadgen {}; latencies in nanoseconds, maxima in milliseconds]\n\
             #[StartTime: {:.3} (seconds since epoch)]\n\
             #[BaseTime: {:.3} (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
             \"Interval_Compressed_Histogram\"\n",
            VERSION,
            since.as_secs_f64(),
            since.as_secs_f64(),
        );
        head + &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::{Counts, histogram};
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_can_be_parsed() {
        let mut log = IntervalLog::default();
        for index in 0..2u64 {
            let mut latency = histogram::<u64>();
            latency.saturating_record(3_000_000 * (index + 1));
            let (start_ns, end_ns) = (index * 1_000_000_000, (index + 1) * 1_000_000_000);
            log.add(
                &Second { index, start_ns, end_ns, counts: Counts::default(), latency },
                Some("CoreDNS"),
            );
        }
        let text = log.render(UNIX_EPOCH + Duration::from_millis(1_500));
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text}");
        assert!(text.contains("#[StartTime: 1.500 (seconds since epoch)]\n"), "{text}");
        let mut intervals = Vec::new();
        for line in text.lines().filter(|line| line.starts_with("Tag=")) {
            let line = format!("{line}\n");
            for entry in IntervalLogIterator::new(line.as_bytes()) {
                if let Ok(LogEntry::Interval(one)) = entry {
                    intervals.push((
                        one.tag().unwrap().as_str().to_owned(),
                        one.start_timestamp().as_secs(),
                        one.max(),
                    ));
                }
            }
        }
        assert_eq!(intervals, [("CoreDNS".to_owned(), 0, 3.0), ("CoreDNS".to_owned(), 1, 6.001)]);
    }
}
