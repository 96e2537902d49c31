//! The report for programs: every field of the `Summary`, and how it was measured.

use serde::Serialize;

use super::Summary;
use super::about::About;

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    about: &'a About,
}

pub fn render(summary: &Summary, about: &About) -> String {
    pretty(&Report { summary, about })
}

/// Serializes any report as indented JSON.
pub fn pretty(report: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("plain data can be written");
    text.push('\n');
    text
}
