//! The options of `auto`: every one that works, mistakes in them, and which file has which zone.

#[path = "corefile/rows.rs"]
mod rows;

use engine::plugin::auto::{Auto, ZoneOfFile};

use rows::{check_mistakes, check_warnings, texts};

/// The `auto` of a block.
fn read(text: &str, warnings: &[(usize, usize, &str)]) -> Auto {
    let config = check_warnings(text, warnings);
    let lines: Vec<&Auto> = config.blocks[0].lines().collect();
    let [auto] = lines.as_slice() else { panic!("{} `auto`s", lines.len()) };
    (*auto).clone()
}

fn shown(text: &str, warnings: &[(usize, usize, &str)]) -> String {
    let Auto { folder, place } = read(text, warnings);
    let (path, reload) = (folder.path.display(), folder.reload);
    format!("{path} {reload:?} | {} | {place}", texts(&folder.zones))
}

#[test]
fn options() {
    for (text, expected) in [
        ("lan {\n auto {\n directory zones\n }\n}", "zones 60s | lan. | Corefile:2"),
        (
            ". {\n auto Lan 10.0.0.0/8 {\n directory /a/b\n reload 1m30s\n }\n}",
            "/a/b 90s | lan.,10.in-addr.arpa. | Corefile:2",
        ),
        (". {\n auto {\n directory a db\\.(.*) {1}\n reload 0\n }\n}", "a 0ns | . | Corefile:2"),
    ] {
        assert_eq!(shown(text, &[]), expected, "{text}");
    }
}

#[test]
fn odd_options_get_a_warning() {
    for (text, warnings, expected) in [
        (". {\n auto\n}", vec![(2, 2, "'auto' has no 'directory'")], ". 60s | . | Corefile:2"),
        // As in CoreDNS, the second line keeps what it does not say itself.
        (
            ". {\n auto a {\n directory x\n reload 5s\n }\n auto b {\n directory y\n }\n}",
            vec![(6, 2, "a server block has one 'auto'")],
            "y 5s | b. | Corefile:2",
        ),
        (
            ". {\n auto {\n directory x\n directory y\n reload 5s 6s\n upstream 8.8.8.8\n }\n}",
            vec![
                (4, 2, "'directory' is set twice"),
                (5, 12, "'6s' is one word too many"),
                (6, 2, "'upstream' has no effect"),
            ],
            "y 5s | . | Corefile:2",
        ),
    ] {
        assert_eq!(shown(text, &warnings), expected, "{text}");
    }
}

#[test]
fn mistakes() {
    check_mistakes(
        ". {\n auto {\n directory a\n directory a b\n directory a (b) {1} 45\n directory a b {1}\n \
         directory a ( {1}\n reload\n reload 5\n reload -5s\n fallthrough\n transfer to *\n }\n}",
        &[
            (4, 14, "Wrong argument count or unexpected line ending after 'b'"),
            (5, 22, "Wrong argument count or unexpected line ending after '45'"),
            (6, 14, "Need at least one sub expression"),
            (7, 14, "error parsing regexp: missing closing ): `(`"),
            (8, 2, "reload duration value is expected"),
            (9, 9, "time: missing unit in duration \"5\""),
            (10, 9, "negative duration \"-5s\""),
            (11, 2, "unknown property 'fallthrough'"),
            (12, 2, "unknown property 'transfer'"),
        ],
    );
}

#[test]
fn the_name_of_a_file_says_its_zone() {
    let zone = |line: &str, file_name: &str| {
        let text = format!("example.org {{\n auto {line}\n}}");
        match read(&text, &[]).folder.zone_of(file_name.as_bytes()) {
            ZoneOfFile::Zone(zone) => zone.text,
            ZoneOfFile::NotAZoneFile => "other".to_owned(),
            ZoneOfFile::NotServed => "elsewhere".to_owned(),
            ZoneOfFile::Refused(reason) => reason,
        }
    };
    let default = "{\n directory x\n }";
    let narrow = "a.example.org {\n directory x\n }";
    let turned = "{\n directory x ^(\\w+)@(.*)\\.zone$ {2}.$1{3}\n }";
    for (line, file_name, expected) in [
        (default, "db.example.org", "example.org."),
        // The pattern is not anchored, as in CoreDNS.
        (default, "old-db.Sub.Example.ORG.", "sub.example.org."),
        (default, "db.", "other"),
        (default, "dbxexample.org", "other"),
        // A zone around those of the block has their names.
        (default, "db.org", "org."),
        (default, "db.example.com", "elsewhere"),
        (default, "db.a..org", "zone is not a valid domain name: a..org"),
        (narrow, "db.b.a.example.org", "b.a.example.org."),
        (narrow, "db.b.example.org", "elsewhere"),
        (narrow, "db.example.org", "zone example.org. is wider than those of `auto`"),
        (turned, "org@sub.example.zone", "sub.example.org."),
        (turned, "com@sub.example.zone", "elsewhere"),
        (turned, "org@sub.example.zone~", "other"),
    ] {
        assert_eq!(zone(line, file_name), expected, "{line} {file_name}");
    }
}
