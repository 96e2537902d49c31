//! The options of `file`: every one that works, and mistakes in them.

#[path = "corefile/rows.rs"]
mod rows;

use engine::plugin::file::{File, ZoneChange};

use rows::{check_mistakes, check_warnings, texts};

/// The zones of a block's `file` lines with their files and options, and where names fall through.
fn shown(text: &str, warnings: &[(usize, usize, &str)]) -> String {
    let config = check_warnings(text, warnings);
    let files: Vec<&File> = config.blocks[0].lines().collect();
    let [file] = files.as_slice() else { panic!("{} `file`s", files.len()) };
    let zones = file.zones.iter().map(|zone| {
        let change = match zone.reload.change {
            ZoneChange::Serial => "",
            ZoneChange::ModificationTime => " mtime",
        };
        let every = zone.reload.every;
        format!("{} {} {every:?}{change}", zone.zone.text, zone.path.display())
    });
    let zones = zones.collect::<Vec<_>>().join(", ");
    format!("{zones} | {} | {}", texts(&file.fallthrough), file.place)
}

#[test]
fn options() {
    for (text, expected) in [
        ("lan 10.0.0.0/8 {\n file db\n}", "lan. db 60s, 10.in-addr.arpa. db 60s |  | Corefile:2"),
        (". {\n file /a/b Lan test. lan\n}", "lan. /a/b 60s, test. /a/b 60s |  | Corefile:2"),
        (
            ". {\n file db lan {\n reload 0\n reload_by_mtime\n fallthrough\n }\n}",
            "lan. db 0ns mtime | . | Corefile:2",
        ),
        // A line starts from the `reload` of the one before; the last `fallthrough` is for all.
        (
            ". {\n file a a\n file b b {\n reload 1m30s\n fallthrough a b\n }\n file c c {\n \
             fallthrough c\n }\n file d d\n}",
            "a. a 60s, b. b 90s, c. c 90s, d. d 90s | c. | Corefile:2",
        ),
    ] {
        assert_eq!(shown(text, &[]), expected, "{text}");
    }
}

#[test]
fn odd_options_get_a_warning() {
    for (text, warnings, expected) in [
        (
            ". {\n file a lan test\n file b lan\n}",
            vec![(3, 7, "zone lan. has two files")],
            "test. a 60s, lan. b 60s |  | Corefile:2",
        ),
        (
            ". {\n file db lan {\n reload 5s x\n upstream 8.8.8.8\n fallthrough b..c\n }\n}",
            vec![
                (3, 12, "'x' is one word too many"),
                (4, 2, "'upstream' has no effect"),
                (5, 14, "zone is not a valid domain name: b..c"),
            ],
            "lan. db 5s |  | Corefile:2",
        ),
    ] {
        assert_eq!(shown(text, &warnings), expected, "{text}");
    }
}

#[test]
fn mistakes() {
    check_mistakes(
        ". {\n file\n file db {\n reload\n reload 5\n reload -5s\n reload_by_mtime x\n relaod 5s\n \
         transfer to *\n no_reload\n }\n}",
        &[
            (2, 2, "Wrong argument count or unexpected line ending after 'file'"),
            (4, 2, "reload duration value is expected"),
            (5, 9, "time: missing unit in duration \"5\""),
            (6, 9, "negative duration \"-5s\""),
            (7, 18, "unknown property 'x'"),
            (8, 2, "unknown property 'relaod'"),
            (9, 2, "unknown property 'transfer'"),
            (10, 2, "unknown property 'no_reload'"),
        ],
    );
}
