//! The body of a scrape, in the format that the client accepts.
//!
//! `prometheus-client` writes protobuf and OpenMetrics. CoreDNS writes the older Prometheus text
//! format. It differs from OpenMetrics in four places, which are rewritten here line by line.
//! Invariant: all formats hold the same series with the same values.

use std::fmt::Write;

use prometheus_client::encoding::{prometheus_protobuf, text};
use prometheus_client::registry::Registry;

/// A format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily` messages, each after its length. Has native histograms.
    Protobuf,
}

impl Format {
    /// The format for a request's `Accept`. Protobuf for clients that name it: Prometheus does so
    /// if it is configured to scrape native histograms. Otherwise Prometheus text for clients that
    /// accept it, even if they prefer OpenMetrics. CoreDNS sends that text, and the two spell the
    /// label `le` differently ("1" and "1.0"): to a Prometheus 2, CoreDNS's buckets and ours would
    /// be different series.
    #[must_use]
    pub fn for_accept(accept: &str) -> Self {
        let (mut takes_text, mut takes_open_metrics) = (false, false);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let says = |name, value| parameters.contains(&(name, value));
            if parameters.iter().any(|(name, value)| *name == "q" && value.parse() == Ok(0.0_f32)) {
                continue;
            }
            match media_type.to_ascii_lowercase().as_str() {
                "application/vnd.google.protobuf"
                    if says("proto", "io.prometheus.client.MetricFamily")
                        && says("encoding", "delimited") =>
                {
                    return Self::Protobuf;
                }
                "text/plain" | "text/*" | "*/*" => takes_text = true,
                "application/openmetrics-text" | "application/*" => takes_open_metrics = true,
                _ => {}
            }
        }
        if takes_open_metrics && !takes_text { Self::OpenMetrics } else { Self::Prometheus }
    }

    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }
}

pub(super) fn write(registry: &Registry, format: Format) -> Vec<u8> {
    // Writing to memory cannot fail, and no collector here fails.
    if format == Format::Protobuf {
        let written = prometheus_protobuf::encode_to_vec(registry);
        debug_assert!(written.is_ok());
        return written.unwrap_or_default();
    }
    let mut open_metrics = String::new();
    let written = text::encode(&mut open_metrics, registry);
    debug_assert!(written.is_ok());
    match format {
        Format::Prometheus => prometheus(&open_metrics).into_bytes(),
        Format::OpenMetrics | Format::Protobuf => open_metrics.into_bytes(),
    }
}

/// Converts OpenMetrics to the Prometheus text format: a counter's family is named like its series,
/// with `_total`; whole bucket bounds have no decimals; there are no units and no end mark.
fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The type follows in the line after the help.
        let type_line = if line.starts_with("# HELP ") { lines.peek() } else { Some(&line) };
        let is_counter =
            type_line.is_some_and(|line| line.starts_with("# TYPE ") && line.ends_with(" counter"));
        let written = match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
            Some((keyword, rest)) if is_counter => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                writeln!(text, "# {keyword} {name}_total {rest}")
            }
            Some(_) => writeln!(text, "{line}"),
            None => match line.split_once("_bucket{le=\"").and_then(|(name, rest)| {
                let (bound, rest) = rest.split_once('"')?;
                Some((name, bound.strip_suffix(".0")?, rest))
            }) {
                Some((name, bound, rest)) => writeln!(text, "{name}_bucket{{le=\"{bound}\"{rest}"),
                None => writeln!(text, "{line}"),
            },
        };
        debug_assert!(written.is_ok());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_accept_prometheus_text_get_it() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
            encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            (prometheus_3, Format::Prometheus),
            ("text/html, text/*;q=0.1", Format::Prometheus),
            ("application/vnd.google.protobuf", Format::Prometheus),
            (native, Format::Protobuf),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                 encoding=delimited;q=0,*/*;q=0.1",
                Format::Prometheus,
            ),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0 ; q=0.5", Format::OpenMetrics),
            ("text/plain;q=0, application/openmetrics-text", Format::OpenMetrics),
            ("text/plain; q=0.0, application/openmetrics-text;q=0", Format::Prometheus),
            (";;,,=", Format::Prometheus),
        ] {
            assert_eq!(Format::for_accept(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn only_the_differences_between_the_formats_are_rewritten() {
        let open_metrics = concat!(
            "# HELP a Counts a counter.\n# TYPE a counter\na_total{le=\"1.0\"} 5\n",
            "# HELP b_seconds Says # TYPE a counter\n# TYPE b_seconds histogram\n",
            "# UNIT b_seconds seconds\n",
            "b_seconds_sum 1.0\nb_seconds_bucket{le=\"0.5\",x=\"1.0\"} 1\n",
            "b_seconds_bucket{le=\"16000.0\"} 2\nb_seconds_bucket{le=\"+Inf\"} 2\n",
            "# HELP c counter\n# TYPE c gauge\nc{x=\"_bucket{le=\\\"1.0\\\"\"} 1.0\n# EOF\n",
        );
        let expected = concat!(
            "# HELP a_total Counts a counter.\n# TYPE a_total counter\na_total{le=\"1.0\"} 5\n",
            "# HELP b_seconds Says # TYPE a counter\n# TYPE b_seconds histogram\n",
            "b_seconds_sum 1.0\nb_seconds_bucket{le=\"0.5\",x=\"1.0\"} 1\n",
            "b_seconds_bucket{le=\"16000\"} 2\nb_seconds_bucket{le=\"+Inf\"} 2\n",
            "# HELP c counter\n# TYPE c gauge\nc{x=\"_bucket{le=\\\"1.0\\\"\"} 1.0\n",
        );
        assert_eq!(prometheus(open_metrics), expected);
    }
}
