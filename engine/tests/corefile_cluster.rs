//! The options of the plugins beside `kubernetes`: every one that works, and mistakes in them.

#[path = "corefile/rows.rs"]
mod rows;

use std::path::PathBuf;

use engine::plugin::autopath::{Autopath, SearchSource};
use engine::plugin::k8s_external::KubernetesExternal;

use rows::{check_mistakes, check_warnings, texts};

#[test]
fn k8s_external_options() {
    let check = |lines: &str, expected: &str| {
        let text = format!(". {{\n kubernetes cluster.local\n {lines}\n}}");
        let config = check_warnings(&text, &[]);
        let line = config.blocks[0].line::<KubernetesExternal>().expect("a line");
        let settings = &line.settings;
        let found = format!(
            "{} {} {} {} {}",
            texts(&settings.zones),
            settings.apex.text().escape_ascii(),
            settings.ttl_secs,
            settings.is_headless,
            texts(&line.fallthrough)
        );
        assert_eq!(found, expected, "{text}");
    };
    check("k8s_external", ". dns 5 false ");
    check("k8s_external A.example b.example a.example {\n}", "a.example.,b.example. dns 5 false ");
    check(
        "k8s_external {\n apex Ext more\n ttl 60 more\n headless\n fallthrough a b\n }",
        ". ext 60 true a.,b.",
    );
    check("k8s_external {\n ttl 0\n fallthrough\n }", ". dns 0 false .");
    // The last line's zones count, and the options of both.
    check("k8s_external a {\n headless\n }\n k8s_external b", "b. dns 5 true ");
}

#[test]
fn k8s_external_mistakes() {
    check_mistakes(
        ". {\n kubernetes cluster.local\n k8s_external a {\n ttl\n ttl x\n ttl 3601\n ttl -1\n \
         apex\n apex a.b\n headless x\n upstream\n transfer\n }\n}",
        &[
            (4, 2, "Wrong argument count or unexpected line ending after 'ttl'"),
            (5, 6, "strconv.Atoi: parsing \"x\": invalid syntax"),
            (6, 6, "ttl must be in range [0, 3600]: 3601"),
            (7, 6, "ttl must be in range [0, 3600]: -1"),
            (8, 2, "Wrong argument count or unexpected line ending after 'apex'"),
            (9, 7, "apex is not a DNS label: 'a.b'"),
            (10, 11, "Wrong argument count or unexpected line ending after 'x'"),
            (11, 2, "unknown property 'upstream'"),
            (12, 2, "unknown property 'transfer'"),
        ],
    );
    check_mistakes(
        ". {\n k8s_external a\n}\nb {\n kubernetes\n}",
        &[(2, 2, "kubernetes plugin not loaded")],
    );
}

#[test]
fn autopath_options() {
    let check = |lines: &str, zones: &str, source: &SearchSource| {
        let text = format!("a b cluster.local {{\n kubernetes cluster.local\n {lines}\n}}");
        let config = check_warnings(&text, &[]);
        let line = config.blocks[0].line::<Autopath>().expect("a line");
        assert_eq!((texts(&line.zones).as_str(), &line.source), (zones, source), "{text}");
    };
    check("autopath @kubernetes", "a.,b.,cluster.local.", &SearchSource::Kubernetes);
    let file = |name: &str| SearchSource::File(PathBuf::from(name));
    check("autopath a x.b resolv.conf", "a.,x.b.", &file("resolv.conf"));
    // The last of several lines counts.
    check("autopath a one\n autopath b two", "b.", &file("two"));
    check_warnings(
        ". {\n autopath @erratic\n forward . 192.0.2.1\n}",
        &[(2, 11, "this server block has no 'erratic'")],
    );
    check_mistakes(
        ". {\n autopath\n autopath @forward {\n x\n }\n forward . 192.0.2.1\n}",
        &[
            (2, 2, "no resolv-conf specified"),
            (3, 11, "forward does not implement the AutoPather interface"),
            (3, 20, "'autopath' takes no block"),
        ],
    );
}
