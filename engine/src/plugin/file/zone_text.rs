//! The text of a zone file, rewritten so that `domain` reads all that CoreDNS reads.
//!
//! Times with units, like `1h30m`, become seconds: BIND's extension, in `$TTL`, in the TTL of a
//! record, and in the timers of an SOA. `@` in directives and in data becomes `""`, which `domain`
//! takes for the origin. A name with an empty label, which `domain` would end there, becomes `..`,
//! which it refuses. A string of TXT may have any length, and strings any bytes. A record without a
//! TTL gets the one in force, because `domain` knows none at the start of an included file. Data of
//! types whose text `domain` does not read becomes hexadecimal digits.
//! Invariant: everything else stays as it is, and no entry moves to another line.

use std::fmt::Write as _;

use domain::base::iana::Rtype;

use super::zone_data;
use super::zone_word::{Meaning, Next, has_empty_label, is_class, seconds};

/// A text for `domain`, and what its `$INCLUDE`s start from.
pub(in crate::plugin) struct ZoneText {
    pub(in crate::plugin) text: Vec<u8>,
    /// By `$INCLUDE`.
    pub(in crate::plugin) include_ttls: Vec<Option<TtlInForce>>,
    /// What ends the text before the end of the file.
    pub(in crate::plugin) mistake: Option<TextMistake>,
}

/// A mistake that `domain` is not shown.
pub(in crate::plugin) struct TextMistake {
    /// From 1.
    pub(in crate::plugin) line: usize,
    pub(in crate::plugin) problem: String,
}

/// The TTL of records that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) enum TtlInForce {
    /// Of `$TTL`, until the next one.
    Directive(u32),
    /// Of the record before.
    Record(u32),
}

/// Rewrites a file. `ttl`, `origin`: those in force at the start; the origin in wire format.
pub(in crate::plugin) fn rewrite(bytes: &[u8], ttl: Option<TtlInForce>, origin: &[u8]) -> ZoneText {
    let mut scan = Scan::new(bytes.len(), ttl, origin);
    let mut rest = bytes;
    let mut next = Next::Owner;
    // Where the entry's data, and its first parenthesis, begin.
    let (mut data_at, mut open_at) = (0, 0);
    let mut depth = 0usize;
    while let [first, behind @ ..] = rest {
        let at = bytes.len() - rest.len();
        let len = match first {
            b'\n' => {
                if depth == 0 {
                    if !scan.end_entry(next) {
                        break;
                    }
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
                if depth == 0 {
                    open_at = at;
                }
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
                if matches!(next, Next::TtlClassOrType { .. }) {
                    data_at = at;
                }
                next = scan.word(&rest[..len], next);
                rest = &rest[len..];
                continue;
            }
        };
        scan.text.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        if *first == b'\n' {
            scan.end_escaped_lines();
            if depth == 0 {
                scan.entry_at = scan.text.len();
            }
        }
    }
    let unclosed_at = (depth > 0).then_some(open_at);
    scan.end(next, unclosed_at.is_some());
    let line_at = unclosed_at.unwrap_or(data_at);
    let line = 1 + bytes[..line_at].iter().filter(|byte| **byte == b'\n').count();
    let mistake = scan.problem.map(|problem| TextMistake { line, problem });
    ZoneText { text: scan.text, include_ttls: scan.ttls, mistake }
}

struct Scan {
    text: Vec<u8>,
    ttl: Option<TtlInForce>,
    ttls: Vec<Option<TtlInForce>>,
    /// Line feeds that have been escaped since the last one that ends a line.
    escaped_lines: usize,
    /// In force; wire format.
    origin: Vec<u8>,
    /// Whether the next name is that of `$ORIGIN`.
    sets_origin: bool,
    /// Where the entry begins in `text`.
    entry_at: usize,
    /// Where data of the type goes whose words `domain` does not read.
    data_at: usize,
    data: Vec<Vec<u8>>,
    problem: Option<String>,
}

impl Scan {
    fn new(len: usize, ttl: Option<TtlInForce>, origin: &[u8]) -> Self {
        Self {
            text: Vec::with_capacity(len + 16),
            ttl,
            ttls: vec![],
            escaped_lines: 0,
            origin: origin.to_vec(),
            sets_origin: false,
            entry_at: 0,
            data_at: 0,
            data: vec![],
            problem: None,
        }
    }

    /// Ends the file. An entry with a mistake is left out.
    fn end(&mut self, next: Next, is_unclosed: bool) {
        if is_unclosed {
            self.problem = Some("a parenthesis is not closed".to_owned());
        } else if self.problem.is_none() {
            self.end_entry(next);
        }
        if self.problem.is_some() {
            self.text.truncate(self.entry_at);
        }
    }

    /// Writes the data of a type whose text `domain` does not read. False if it is wrong.
    fn end_entry(&mut self, next: Next) -> bool {
        if let Next::Text { rtype, .. } = next {
            self.write_data(rtype);
        }
        self.end_escaped_lines();
        self.problem.is_none()
    }

    fn write_data(&mut self, rtype: Rtype) {
        let words = std::mem::take(&mut self.data);
        match zone_data::write(rtype, &words, &self.origin) {
            Ok(data) => {
                let mut digits = format!(" \\# {} ", data.len());
                data.iter().for_each(|byte| write!(digits, "{byte:02x}").expect("a String"));
                self.text.splice(self.data_at..self.data_at, digits.into_bytes());
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Keeps a word of data that `domain` does not read. False if it does.
    fn keep(&mut self, word: &[u8], next: Next) -> bool {
        let is_kept = matches!(next, Next::Text { .. }) && next.after(word) != Next::Other;
        if is_kept {
            let quoted =
                word.strip_prefix(b"\"").map(|word| word.strip_suffix(b"\"").unwrap_or(word));
            let text = quoted.unwrap_or(word).to_vec();
            self.escaped_lines += text.iter().filter(|byte| **byte == b'\n').count();
            self.data.push(text);
        }
        is_kept
    }

    /// Notes the name of `$ORIGIN`.
    fn note_origin(&mut self, word: &[u8], next: Next) {
        if next == Next::Origin && std::mem::take(&mut self.sets_origin) {
            self.origin = zone_data::name(word, &self.origin).unwrap_or_default();
        }
    }

    /// Writes a word without quotes, and returns what may come next.
    fn word(&mut self, word: &[u8], next: Next) -> Next {
        let meaning = next.meaning();
        if self.keep(word, next) {
            return next.after(word);
        }
        self.note_origin(word, next);
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
            // As in CoreDNS, what is no directive is a name.
            (Meaning::Owner, _) if word.starts_with(b"$") && !is_directive(word) => {
                &[b"\\", word].concat()
            }
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
        self.data_at = self.text.len();
        match next {
            Next::Owner if word.eq_ignore_ascii_case(b"$TTL") => Next::DefaultTtl,
            Next::Owner if word.eq_ignore_ascii_case(b"$ORIGIN") => {
                self.sets_origin = true;
                Next::Origin
            }
            Next::Owner if word.eq_ignore_ascii_case(b"$INCLUDE") => {
                self.ttls.push(self.ttl);
                Next::IncludedPath
            }
            Next::Owner if is_directive(word) => Next::Other,
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
            | Next::Text { .. }
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
        if self.keep(word, next) {
            return next.after(word);
        }
        let name = word.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        self.note_origin(name.unwrap_or(word), next);
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
        let is_in_quotes = next == Next::Owner && word.starts_with(b"\"$");
        if is_in_quotes { Next::Other } else { next.after(word) }
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

/// Whether the first word of a line is a directive.
fn is_directive(word: &[u8]) -> bool {
    let directives: [&[u8]; 4] = [b"$ORIGIN", b"$INCLUDE", b"$TTL", b"$GENERATE"];
    directives.iter().any(|directive| word.eq_ignore_ascii_case(directive))
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
mod tests;
