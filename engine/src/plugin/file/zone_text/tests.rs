//! Lines of zone files beside what `domain` gets to read.

use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: &str) {
    let found = rewrite(text.as_bytes(), None, b"\x04test\0");
    assert_eq!(String::from_utf8(found.text).unwrap(), expected, "{text}");
}

#[test]
fn only_times_change() {
    check("$TTL 1h ; 1h\n$ttl 90\n", "$TTL 3600 ; 1h\n$ttl 90\n");
    check("1h 1h IN A 1h\n", "1h 3600 IN A 1h\n");
    check("a IN 1w2d3h4m5s TXT 1h \"1h\"\n", "a IN 788645 TXT 1h \"1h\"\n");
    check("\t1D A x\n 2d3 MX 1h x\n", "\t86400 A x\n 172803 MX 1h x\n");
    check(
        "@ SOA 1h 1h (1h ; 1h \"\n 1h 1h\n\n1H 1m) \n1h A x\n",
        "@ SOA 1h 1h (1h ; 1h \"\n 3600 3600\n\n3600 60) \n1h A x\n",
    );
    check("a TXT (\"1h\n 1h\" \n1h )\nb 1h A x", "a TXT (\"1h\\010 1h\" \n\n1h )\nb 3600 A x");
    check("\"1h\" 1h A 1h\n( 1h A 1h )\n", "\"1h\" 3600 A 1h\n( 3600 A 1h )\n");
    check("a\\ 1h 1h A x\\;1h 1h\n", "a\\ 1h 3600 A x\\;1h 1h\n");
    // No times.
    check("a 1x A x\na h A x\na 99999999999w A x\n", "a 1x A x\na h A x\na 99999999999w A x\n");
    check(
        "$INCLUDE 1h 1h\n$TTL 2m\n$INCLUDE x\n$ORIGIN 1h\n$INCLUDE 1h",
        "$INCLUDE 1h 1h\n$TTL 120\n$INCLUDE x\n$ORIGIN 1h\n$INCLUDE 1h",
    );
    check("a SOA \\# 4 1d 2d (3d 4d)\n", "a SOA \\# 4 1d 2d (3d 4d)\n");
}

#[test]
fn records_without_a_ttl_get_the_one_in_force() {
    let [directive, record] = [TtlInForce::Directive(7), TtlInForce::Record(7)];
    for (ttl, text, expected, at_include) in [
        (None, "a A x\nb IN 5 A x\nc A x", "a A x\nb IN 5 A x\nc 5 A x", 5),
        (None, "$TTL 9\na IN A x\nb 5 A x\nc A x", "$TTL 9\na IN 9 A x\nb 5 A x\nc 9 A x", 9),
        (Some(directive), "a A x\nb 5 A x\n A x", "a 7 A x\nb 5 A x\n 7 A x", 7),
        (Some(directive), "$TTL 9\na A x", "$TTL 9\na 9 A x", 9),
        (Some(record), "a (IN A x)\nb 5 A x\n A x", "a (IN 7 A x)\nb 5 A x\n 5 A x", 5),
        (Some(record), "$TTL 9\na A x\nb 5 A x\nc A x", "$TTL 9\na 9 A x\nb 5 A x\nc 9 A x", 9),
        (Some(record), "a CLASS1 5 A x", "a CLASS1 5 A x", 5),
        (Some(record), "\n;\n", "\n;\n", 7),
        (Some(record), "\"a\" A x\n( A x)", "\"a\" 7 A x\n( 7 A x)", 7),
        (Some(record), "\"$ORIGIN\" a\n$ORIGIN b", "\"$ORIGIN\" a\n$ORIGIN b", 7),
    ] {
        let found = rewrite(format!("{text}\n$INCLUDE x").as_bytes(), ttl, &[0]);
        assert_eq!(String::from_utf8(found.text).unwrap(), format!("{expected}\n$INCLUDE x"));
        let [Some(TtlInForce::Directive(secs) | TtlInForce::Record(secs))] =
            found.include_ttls.as_slice()
        else {
            panic!("{text}: {:?}", found.include_ttls)
        };
        assert_eq!(*secs, at_include, "{text}");
    }
}

#[test]
fn the_origin_stands_in_names() {
    check("$ORIGIN @ ; @\n$INCLUDE @ @\n", "$ORIGIN \"\" ; @\n$INCLUDE @ \"\"\n");
    for (data, expected) in [
        ("CNAME @", "CNAME \"\""),
        ("1h IN MX 10 @", "3600 IN MX 10 \"\""),
        ("IN 5 SOA @ @ (1 1h @ 1m\n1s )", "IN 5 SOA \"\" \"\" (1 3600 @ 60\n1 )"),
        ("SRV @ @ @(@)@", "SRV @ @ @(\"\")@"),
        ("NAPTR 1 2 \"u\" \"@\" @ @", "NAPTR 1 2 \"u\" \"@\" @ \"\""),
        ("https 1 @ alpn=@ @", "https 1 \"\" alpn=@ @"),
        ("RRSIG A 8 1 60 1 1 7 @ @", "RRSIG A 8 1 60 1 1 7 \"\" @"),
        ("TYPE5 @", "TYPE5 \"\""),
        // Not alone.
        ("CNAME @.", "CNAME @."),
        ("CNAME \\@", "CNAME \\@"),
        ("CNAME \"@\" @", "CNAME \"@\" @"),
        // No names.
        ("TXT @ @", "TXT @ @"),
        ("HINFO @ @", "HINFO @ @"),
        ("CAA 0 issue @", "CAA 0 issue @"),
        ("@ @ @", "@ @ @"),
    ] {
        check(&format!("@ {data}\n"), &format!("@ {expected}\n"));
    }
}

#[test]
fn strings_may_be_long_and_have_any_bytes() {
    let [x255, y45] = ["x".repeat(255), "\\200\\;y".repeat(15)];
    for (data, expected) in [
        (format!("TXT {x255}"), format!("TXT {x255}")),
        (format!("TXT {x255}{y45} z"), format!("TXT {x255} {y45} z")),
        (
            format!("TXT (\"{x255}{x255}{y45}\" z)"),
            format!("TXT (\"{x255}\" \"{x255}\" \"{y45}\" z)"),
        ),
        (format!("TXT \"\" \\\"{x255}"), format!("TXT \"\" \\\"{} x", &x255[1..])),
        (format!("CAA 0 issue \"{x255}x\""), format!("CAA 0 issue \"{x255}x\"")),
        (
            "TXT \"a\nb\" ü \"\\ü\\\n\" (x\n)\nb A x".to_owned(),
            "TXT \"a\\010b\" \\195\\188 \"\\195\\188\\010\" (x\n\n\n)\nb A x".to_owned(),
        ),
        ("HINFO \"a\nb\" ü".to_owned(), "HINFO \"a\\010b\" \\195\\188\n".to_owned()),
        // Not of strings.
        ("CNAME ü \"a\nb\"".to_owned(), "CNAME ü \"a\nb\"".to_owned()),
    ] {
        check(&format!("a {data}\n"), &format!("a {expected}\n"));
    }
}

#[test]
fn names_with_an_empty_label_are_refused() {
    for (data, expected) in [
        ("CNAME a..b", "CNAME .."),
        ("MX 10 a..", "MX 10 .."),
        ("SOA a (b..c. 1 1 1 1 1)", "SOA a (.. 1 1 1 1 1)"),
        ("CNAME \"a..b\"", "CNAME .."),
        ("RRSIG A 8 1 60 1 1 7 a..b. YWJj", "RRSIG A 8 1 60 1 1 7 .. YWJj"),
        ("CNAME a\\046..b", "CNAME .."),
        ("CNAME a\\...b", "CNAME .."),
        // None is empty, or it is no name.
        ("CNAME a\\..b", "CNAME a\\..b"),
        ("CNAME a\\046.b.", "CNAME a\\046.b."),
        ("CNAME .", "CNAME ."),
        ("TXT a..b \"a..b\"", "TXT a..b \"a..b\""),
    ] {
        check(&format!("a {data}\n"), &format!("a {expected}\n"));
    }
    check(
        "a..b 1h A x\n\"a..b\" 1h A x\n$ORIGIN a..b\n$INCLUDE a..b a..b\n",
        ".. 3600 A x\n.. 3600 A x\n$ORIGIN ..\n$INCLUDE a..b ..\n",
    );
}

proptest! {
    #[test]
    fn no_line_is_lost(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        let found = rewrite(&bytes, None, &[0]);
        match found.mistake {
            Some(mistake) => prop_assert!(lines(&found.text) < mistake.line),
            None => prop_assert_eq!(lines(&found.text), lines(&bytes)),
        }
        // Twice is the same as once.
        prop_assert_eq!(rewrite(&found.text, None, &[0]).text, found.text);
    }
}

#[test]
fn data_that_domain_does_not_read_becomes_digits() {
    for (text, expected) in [
        ("a AFSDB 1 b ; c\n", "a AFSDB \\# 10 00010162047465737400 ; c\n"),
        ("a 1h (AFSDB 1\n b.) ; c\nb A x", "a 3600 (AFSDB \\# 5 0001016200 \n ) ; c\nb 3600 A x"),
        ("a AFSDB \\# 5 0001016200\n", "a AFSDB \\# 5 0001016200\n"),
        ("a SPF \"b\nc\" \"\"\nb A x", "a SPF \\# 5 03620a6300 \n\nb A x"),
        ("a APL ; c\n", "a APL \\# 0 ; c\n"),
        ("$ORIGIN b\na LP 1 c\n", "$ORIGIN b\na LP \\# 12 000101630162047465737400 \n"),
        ("$INCLUDE x y\na LP 1 @\n", "$INCLUDE x y\na LP \\# 8 0001047465737400 \n"),
    ] {
        let found = rewrite(text.as_bytes(), None, b"\x04test\0");
        let mut found = String::from_utf8(found.text).unwrap();
        while found.contains("  ") {
            found = found.replace("  ", " ");
        }
        assert_eq!(found, expected, "{text}");
    }
    for (text, kept, line) in [
        ("a A x\nb AFSDB x\nc A x\n", "a A x\n", 2),
        ("a A x\n\n(b HIP\n1)\n", "a A x\n\n", 3),
        ("a A x\nb TXT (\"\n\" (\n) c A x\n", "a A x\n", 2),
    ] {
        let found = rewrite(text.as_bytes(), None, &[0]);
        assert_eq!(String::from_utf8(found.text).unwrap(), kept, "{text}");
        assert_eq!(found.mistake.map(|mistake| mistake.line), Some(line), "{text}");
    }
}

#[test]
fn what_is_no_directive_is_a_name() {
    check("$x A 1h\n$(\n) A x\n", "\\$x A 1h\n\\$(\n) A x\n");
    check("$generate 1 a\n", "$generate 1 a\n");
}
