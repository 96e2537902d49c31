//! The report for programs: the `Summary`, field for field.

use super::Summary;

pub fn render(summary: &Summary) -> String {
    let mut text = serde_json::to_string_pretty(summary).expect("plain data can be written");
    text.push('\n');
    text
}
