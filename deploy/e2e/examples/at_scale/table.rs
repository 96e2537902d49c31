//! The table of results: one row per figure, ringdns beside CoreDNS.

use std::time::Duration;

use e2e::delays::Delays;

/// One figure of both servers, as text.
pub(crate) struct Row {
    what: String,
    /// ringdns, then CoreDNS.
    cells: [String; 2],
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, cells: [String; 2]) -> Self {
        Self { what: what.into(), cells }
    }

    /// Medians of durations, per server.
    pub(crate) fn millis(what: impl Into<String>, values: [Vec<Duration>; 2]) -> Self {
        let millis = |values: Vec<Duration>| {
            let millis = values.iter().map(|value| value.as_secs_f64() * 1_000.0);
            spread(millis.collect(), "ms")
        };
        Self::new(what, values.map(millis))
    }

    /// Medians of memory, per server.
    pub(crate) fn mebibytes(what: impl Into<String>, kib: [Vec<u64>; 2]) -> Self {
        let mebibytes = |values: Vec<u64>| {
            spread(values.iter().map(|value| *value as f64 / 1_024.0).collect(), "MiB")
        };
        Self::new(what, kib.map(mebibytes))
    }

    pub(crate) fn delays(what: impl Into<String>, delays: [&Delays; 2]) -> Self {
        Self::new(what, delays.map(Delays::to_string))
    }
}

/// `median UNIT (min–max)`.
pub(crate) fn spread(values: Vec<f64>, unit: &str) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let [median, min, max] = median_and_ends(values);
    format!("{median:.0} {unit} ({min:.0}–{max:.0})")
}

/// Of at least one value: the median, the lowest and the highest.
pub(crate) fn median_and_ends(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

pub(crate) fn print(rows: &[Row]) {
    let width = |texts: &mut dyn Iterator<Item = &String>| {
        texts.map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let first = width(&mut rows.iter().map(|row| &row.what));
    let second = width(&mut rows.iter().map(|row| &row.cells[0]));
    println!("\n{:first$} | {:second$} | CoreDNS", "", "ringdns");
    for Row { what, cells: [ringdns, coredns] } in rows {
        println!("{what:first$} | {ringdns:second$} | {coredns}");
    }
}
