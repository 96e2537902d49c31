//! What the README says must be so.

use engine::corefile::DIRECTIVES;

const README: &str = include_str!("../../README.md");

/// The first cell of each row of the table of plugins.
fn listed() -> Vec<&'static str> {
    let table =
        README.split("| plugin | what it does here |\n|---|---|\n").nth(1).expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.split('`').nth(1)).collect()
}

#[test]
fn the_table_of_plugins_is_what_is_built() {
    let mut built: Vec<&str> = DIRECTIVES
        .iter()
        .filter(|directive| directive.is_built())
        .map(|directive| directive.name)
        .collect();
    built.sort_unstable();
    assert_eq!(listed(), built);
}

#[test]
fn each_plugin_is_described_in_its_own_words() {
    for directive in DIRECTIVES.iter().filter(|directive| directive.is_built()) {
        assert!(README.contains(directive.doc), "{}: {}", directive.name, directive.doc);
    }
}
