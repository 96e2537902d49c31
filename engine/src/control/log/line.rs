//! Log lines in CoreDNS's formats: `[INFO] plugin/reload: …`, or a JSON object with `-log-format
//! json`.
//!
//! Invariant: a line ends with a newline, and a JSON line has no other.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use domain::base::iana::Class;
use engine::cli::LogFormat;
use engine::plugin::log::format;
use engine::plugin::log::query::LoggedQuery;
use serde::Serialize;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The severity of a line: `tracing`'s levels, and one for the error that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

impl Weight {
    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            Level::DEBUG | Level::TRACE => Self::Debug,
        }
    }

    const fn in_text(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// The names in Go's slog.
    const fn in_json(self) -> &'static str {
        match self {
            Self::Warning => "WARN",
            Self::Debug | Self::Info | Self::Error | Self::Fatal => self.in_text(),
        }
    }
}

/// A line that is not an event of `tracing`, with its newline.
pub(crate) fn line(format: LogFormat, weight: Weight, message: &str) -> String {
    match format {
        LogFormat::Text => format!("[{}] {message}\n", weight.in_text()),
        LogFormat::Json => {
            let (plugin, message) = plugin_and_message(message);
            json(weight, plugin, message, BTreeMap::<&str, Value>::new())
        }
    }
}

/// A line of the query log.
pub(crate) struct QueryLine<'q> {
    /// In the format of its `log` line.
    pub(crate) message: &'q str,
    pub(crate) query: &'q LoggedQuery,
}

impl QueryLine<'_> {
    /// Appends the line, with its newline.
    pub(crate) fn write(&self, format: LogFormat, text: &mut String) {
        match format {
            LogFormat::Text => {
                text.push_str("[INFO] ");
                text.push_str(self.message);
                text.push('\n');
            }
            LogFormat::Json => {
                let fields = QueryFields::of(self.query);
                text.push_str(&json(Weight::Info, Some("log"), self.message, fields));
            }
        }
    }
}

/// What a JSON line says of a query: CoreDNS's keys in its order.
#[derive(Serialize)]
struct QueryFields {
    client_ip: String,
    client_port: u16,
    qname: String,
    qtype: String,
    qclass: String,
    protocol: &'static str,
    id: u16,
    opcode: u16,
    request_size: usize,
    dnssec_ok: bool,
    bufsize: u16,
    /// `None` without a response.
    rcode: Option<&'static str>,
    response_size: usize,
    duration_seconds: f64,
}

impl QueryFields {
    fn of(query: &LoggedQuery) -> Self {
        let (mut qname, mut qtype) = (String::new(), String::new());
        // Writing to memory cannot fail.
        let _ = format::write_name(&query.name, &mut qname);
        let _ = format::write_type(query.response.qtype, &mut qtype);
        Self {
            client_ip: query.peer.map_or_else(String::new, |peer| peer.ip().to_string()),
            client_port: query.peer.map_or(0, |peer| peer.port()),
            qname,
            qtype,
            qclass: Class::from_int(query.response.qclass).to_string(),
            protocol: format::proto(query.transport),
            id: query.response.id,
            opcode: query.opcode(),
            request_size: query.query_len,
            dnssec_ok: query.dnssec_ok(),
            bufsize: query.udp_len(),
            rcode: format::rcode(query),
            response_size: query.response.uncompressed_len,
            duration_seconds: query.duration().as_secs_f64(),
        }
    }
}

/// The line that reports missing lines.
pub(super) fn losses(format: LogFormat, line_count: u64, failure: Option<&io::Error>) -> String {
    let cause = match failure {
        Some(error) => format!("writing to standard output failed: {error}"),
        None => "standard output is read too slowly or not at all".to_owned(),
    };
    let lines = if line_count == 1 { "line is" } else { "lines are" };
    let message = format!(
        "log: {line_count} {lines} missing here: {cause}; see ringdns_log_lines_lost_total in \
         /metrics"
    );
    line(format, Weight::Warning, &message)
}

/// Formats the events of `tracing`.
pub(super) struct Lines(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let weight = Weight::of(*event.metadata().level());
        match self.0 {
            LogFormat::Text => {
                write!(writer, "[{}] ", weight.in_text())?;
                context.field_format().format_fields(writer.by_ref(), event)?;
                writeln!(writer)
            }
            LogFormat::Json => {
                let mut fields = Fields::default();
                event.record(&mut fields);
                let (plugin, message) = plugin_and_message(&fields.message);
                writer.write_str(&json(weight, plugin, message, fields.others))
            }
        }
    }
}

/// CoreDNS's keys in its order, then our fields.
#[derive(Serialize)]
struct Record<'a, F: Serialize> {
    time: &'a str,
    level: &'a str,
    msg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a str>,
    #[serde(flatten)]
    fields: F,
}

/// A line that names a plugin begins with it.
fn plugin_and_message(message: &str) -> (Option<&str>, &str) {
    match message.strip_prefix("plugin/").and_then(|rest| rest.split_once(": ")) {
        Some((plugin, message)) => (Some(plugin), message),
        None => (None, message),
    }
}

fn json(weight: Weight, plugin: Option<&str>, msg: &str, fields: impl Serialize) -> String {
    let mut time = String::new();
    // Writing to memory cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let record = Record { time: &time, level: weight.in_json(), msg, plugin, fields };
    let mut line = serde_json::to_string(&record).unwrap_or_default();
    line.push('\n');
    line
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<&'static str, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => drop(self.others.insert(name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weight: Weight, message: &str, text: &str, json: &str) {
        assert_eq!(line(LogFormat::Text, weight, message), text);
        let line = line(LogFormat::Json, weight, message);
        let (time, rest) = line.split_once(',').unwrap();
        assert!(time.starts_with("{\"time\":\"20") && time.ends_with("Z\""), "{line}");
        assert_eq!(rest, json);
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn lines() {
        check(
            Weight::Info,
            "SIGTERM: Shutting down",
            "[INFO] SIGTERM: Shutting down\n",
            "\"level\":\"INFO\",\"msg\":\"SIGTERM: Shutting down\"}\n",
        );
        check(
            Weight::Warning,
            "plugin/health: it \"fails\"\nwholly",
            "[WARNING] plugin/health: it \"fails\"\nwholly\n",
            "\"level\":\"WARN\",\"msg\":\"it \\\"fails\\\"\\nwholly\",\"plugin\":\"health\"}\n",
        );
        check(
            Weight::Fatal,
            "plugin/nothing",
            "[FATAL] plugin/nothing\n",
            "\"level\":\"FATAL\",\"msg\":\"plugin/nothing\"}\n",
        );
    }
}
