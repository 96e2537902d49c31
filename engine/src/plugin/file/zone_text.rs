//! The text of a zone file, rewritten so that `domain` reads all that CoreDNS reads.
//!
//! Times with units, like `1h30m`, become seconds: BIND's extension, in `$TTL`, in the TTL of a
//! record, and in the timers of an SOA. `@` in directives and in data becomes `""`, which `domain`
//! takes for the origin. A name with an empty label, which `domain` would end there, becomes `..`,
//! which it refuses. A string of TXT may have any length, and strings any bytes. A record without a
//! TTL gets the one in force, because `domain` knows none at the start of an included file.
//! Invariant: everything else stays as it is, and no entry moves to another line.

use super::zone_word::{Meaning, Next, has_empty_label, is_class, seconds};

/// A text for `domain`, and what its `$INCLUDE`s start from.
pub(in crate::plugin) struct ZoneText {
    pub(in crate::plugin) text: Vec<u8>,
    /// By `$INCLUDE`.
    pub(in crate::plugin) include_ttls: Vec<Option<TtlInForce>>,
}

/// The TTL of records that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) enum TtlInForce {
    /// Of `$TTL`, until the next one.
    Directive(u32),
    /// Of the record before.
    Record(u32),
}

/// Rewrites a file. `ttl`: the one in force at the start.
pub(in crate::plugin) fn rewrite(bytes: &[u8], ttl: Option<TtlInForce>) -> ZoneText {
    let text = Vec::with_capacity(bytes.len() + 16);
    let mut scan = Scan { text, ttl, ttls: vec![], escaped_lines: 0 };
    let mut rest = bytes;
    let mut next = Next::Owner;
    let mut depth = 0usize;
    while let [first, behind @ ..] = rest {
        let len = match first {
            b'\n' => {
                if depth == 0 {
                    next = Next::Owner;
                }
                1
            }
            b' ' | b'\t' | b'\r' => {
                if next == Next::Owner {
                    next = Next::TtlClassOrType { has_ttl: false };
                }
                1
            }
            b'(' => {
                depth += 1;
                1
            }
            b')' => {
                depth = depth.saturating_sub(1);
                1
            }
            b';' => 1 + behind.iter().position(|byte| *byte == b'\n').unwrap_or(behind.len()),
            b'"' => {
                let len = quoted_len(rest);
                next = scan.quoted(&rest[..len], next);
                rest = &rest[len..];
                continue;
            }
            _ => {
                let len = word_len(rest);
                next = scan.word(&rest[..len], next);
                rest = &rest[len..];
                continue;
            }
        };
        scan.text.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        if *first == b'\n' {
            scan.end_escaped_lines();
        }
    }
    scan.end_escaped_lines();
    ZoneText { text: scan.text, include_ttls: scan.ttls }
}

struct Scan {
    text: Vec<u8>,
    ttl: Option<TtlInForce>,
    ttls: Vec<Option<TtlInForce>>,
    /// Line feeds that have been escaped since the last one that ends a line.
    escaped_lines: usize,
}

impl Scan {
    /// Writes a word without quotes, and returns what may come next.
    fn word(&mut self, word: &[u8], next: Next) -> Next {
        let meaning = next.meaning();
        if let Meaning::String { len_max } = meaning {
            self.string(word, b" ", len_max);
            return next.after(word);
        }
        self.missing_ttl(word, next);
        let secs = if meaning == Meaning::Time { seconds(word) } else { None };
        let written = match (meaning, secs) {
            (Meaning::Time, Some(secs)) => &secs.to_string().into_bytes(),
            (Meaning::Name, _) if word == b"@" => b"\"\"".as_slice(),
            (Meaning::Owner | Meaning::Name, _) if has_empty_label(word) => REFUSED_NAME,
            (
                Meaning::Owner
                | Meaning::Name
                | Meaning::Time
                | Meaning::String { .. }
                | Meaning::Other,
                _,
            ) => word,
        };
        self.text.extend_from_slice(written);
        match next {
            Next::Owner if word.eq_ignore_ascii_case(b"$TTL") => Next::DefaultTtl,
            Next::Owner if word.eq_ignore_ascii_case(b"$ORIGIN") => Next::Origin,
            Next::Owner if word.eq_ignore_ascii_case(b"$INCLUDE") => {
                self.ttls.push(self.ttl);
                Next::IncludedPath
            }
            Next::Owner if word.starts_with(b"$") => Next::Other,
            Next::DefaultTtl => {
                self.ttl = secs.map(TtlInForce::Directive).or(self.ttl);
                Next::Other
            }
            Next::TtlClassOrType { .. } if secs.is_some() => {
                if !matches!(self.ttl, Some(TtlInForce::Directive(_))) {
                    self.ttl = secs.map(TtlInForce::Record);
                }
                Next::TtlClassOrType { has_ttl: true }
            }
            Next::Owner
            | Next::TtlClassOrType { .. }
            | Next::IncludedPath
            | Next::Origin
            | Next::Data { .. }
            | Next::Other => next.after(word),
        }
    }

    /// Writes the TTL in force if the next word is the type of a record without one.
    fn missing_ttl(&mut self, word: &[u8], next: Next) {
        let is_type = next == Next::TtlClassOrType { has_ttl: false }
            && !is_class(word)
            && seconds(word).is_none();
        if let Some(TtlInForce::Directive(secs) | TtlInForce::Record(secs)) = self.ttl
            && is_type
        {
            self.text.extend_from_slice(format!("{secs} ").as_bytes());
        }
    }

    /// Writes a word in quotes, and returns what may come next.
    fn quoted(&mut self, word: &[u8], next: Next) -> Next {
        let is_refused = match next.meaning() {
            Meaning::Owner | Meaning::Name => has_empty_label(word),
            Meaning::String { len_max } => {
                self.string(word, b"\" \"", len_max);
                return next.after(word);
            }
            Meaning::Time | Meaning::Other => false,
        };
        self.text.extend_from_slice(if is_refused { REFUSED_NAME } else { word });
        // A directive may be in quotes; none of those is rewritten.
        let is_directive = next == Next::Owner && word.starts_with(b"\"$");
        if is_directive { Next::Other } else { next.after(word) }
    }

    /// Writes a string with its quotes, and escapes what `domain` does not read. As in CoreDNS, it
    /// becomes several of `len_max` bytes each, with the separator in between.
    fn string(&mut self, word: &[u8], separator: &[u8], len_max: usize) {
        let mut len = 0;
        let mut rest = word;
        while let [first, behind @ ..] = rest {
            let (byte, symbol_len) = match behind {
                [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', ..] if *first == b'\\' => (b'0', 4),
                [escaped, ..] if *first == b'\\' => (*escaped, 2),
                _ => (*first, 1),
            };
            let (symbol, behind) = rest.split_at(symbol_len);
            rest = behind;
            if symbol != b"\"" {
                if len == len_max {
                    self.text.extend_from_slice(separator);
                    len = 0;
                }
                len += 1;
            }
            match byte {
                b' '..=b'~' => self.text.extend_from_slice(symbol),
                _ => self.text.extend_from_slice(format!("\\{byte:03}").as_bytes()),
            }
            self.escaped_lines += usize::from(byte == b'\n');
        }
    }

    /// Ends as many lines as line feeds have been escaped, so that the lines behind them have the
    /// numbers that they have in the file.
    fn end_escaped_lines(&mut self) {
        let len = self.text.len() + std::mem::take(&mut self.escaped_lines);
        self.text.resize(len, b'\n');
    }
}

/// No name: `domain` refuses it, and has the line.
const REFUSED_NAME: &[u8] = b"..";

/// Bytes of a word without quotes.
fn word_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' | b';' | b'"' => break,
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}

/// Bytes of a word in quotes, with the quotes.
fn quoted_len(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let found = rewrite(text.as_bytes(), None);
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
            let found = rewrite(format!("{text}\n$INCLUDE x").as_bytes(), ttl);
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
            let found = rewrite(&bytes, None);
            prop_assert_eq!(lines(&found.text), lines(&bytes));
            // Twice is the same as once.
            prop_assert_eq!(rewrite(&found.text, None).text, found.text);
        }
    }
}
