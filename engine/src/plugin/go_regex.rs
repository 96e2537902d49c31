//! Go's regular expressions, as CoreDNS has them, for every plugin with patterns.
//!
//! The `regex` crate shares Go's RE2 origins: leftmost-first matches in linear time. Here a pattern
//! is translated where the two languages differ, and refused where Go refuses it. Invariant: a
//! pattern that compiles finds what it finds in CoreDNS.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::Regex;

use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;
use crate::limits::COREFILE_REGEX_LEN_MAX;

/// A regular expression of a Corefile. Two are equal if they are spelled alike.
#[derive(Clone, Debug)]
pub struct GoRegex {
    text: Box<str>,
    regex: Regex,
}

/// Why a pattern does not compile.
#[derive(Debug)]
pub enum RegexFault {
    /// It has this many characters.
    TooLong(usize),
    /// What is wrong with it, in Go's words.
    Syntax(String),
}

impl GoRegex {
    /// # Errors
    /// It is too long, or not a regular expression of Go.
    pub fn new(text: &str) -> Result<Self, RegexFault> {
        let len = text.chars().count();
        if len > COREFILE_REGEX_LEN_MAX {
            return Err(RegexFault::TooLong(len));
        }
        let translated = translated(text).map_err(RegexFault::Syntax)?;
        let regex = Regex::new(&translated).map_err(|error| {
            // The last line has the reason; those before it draw the pattern.
            let drawn = error.to_string();
            let why = drawn.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            RegexFault::Syntax(format!("{why}: `{text}`"))
        })?;
        Ok(Self { text: text.into(), regex })
    }

    /// As the Corefile spells it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

impl PartialEq for GoRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for GoRegex {}

impl fmt::Display for GoRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl RegexFault {
    /// For plugins whose message is Go's own.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::TooLong(len) => {
                let message = format!("regex pattern too long: {len} > {COREFILE_REGEX_LEN_MAX}");
                Refusal::new(message, "too long")
            }
            Self::Syntax(why) => {
                let message = format!("error parsing regexp: {}", quoted(why));
                Refusal::new(message, "not a regular expression")
                    .help("quote it if it contains a space or a `#`")
            }
        }
    }
}

/// Go's bound for the counts of a repetition.
const REPEAT_COUNT_MAX: u32 = 1000;

/// The same pattern in the syntax of the `regex` crate.
fn translated(text: &str) -> Result<String, String> {
    let mut translation = Translation { rest: text.chars().peekable(), to: String::new() };
    match translation.run()? {
        0 => Ok(translation.to),
        1.. => Err(format!("missing closing ): `{text}`")),
        ..0 => Err(format!("unexpected ): `{text}`")),
    }
}

struct Translation<'t> {
    rest: Peekable<Chars<'t>>,
    to: String,
}

/// What an escape sequence stands for.
enum Escaped {
    Char(char),
    /// It is translated already; between brackets it adds to the class.
    Class(String),
}

/// What stands before the next operator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Operand,
    Repeat,
}

impl Translation<'_> {
    /// Returns how many groups are open at the end. Negative: one is closed that is not open.
    fn run(&mut self) -> Result<isize, String> {
        let mut depth = 0;
        let mut before = Before::Nothing;
        while let Some(next) = self.rest.next() {
            before = match next {
                '*' | '+' | '?' => self.repeated(before, next.to_string())?,
                '{' => match self.repeat()? {
                    Some(counts) => self.repeated(before, counts)?,
                    // Go reads a brace that begins no repetition as itself.
                    None => {
                        self.to.push_str(r"\{");
                        Before::Operand
                    }
                },
                '|' => {
                    self.to.push(next);
                    Before::Nothing
                }
                '(' => {
                    depth += isize::from(self.group()?);
                    Before::Nothing
                }
                ')' if depth == 0 => return Ok(-1),
                _ => {
                    match next {
                        '\\' => self.escape()?,
                        '[' => self.class()?,
                        ')' => {
                            depth -= 1;
                            self.to.push(next);
                        }
                        _ => self.to.push(next),
                    }
                    Before::Operand
                }
            };
        }
        Ok(depth)
    }

    fn repeated(&mut self, before: Before, operator: String) -> Result<Before, String> {
        match before {
            Before::Nothing => {
                return Err(format!("missing argument to repetition operator: `{operator}`"));
            }
            Before::Repeat => {
                return Err(format!("invalid nested repetition operator: `{operator}`"));
            }
            Before::Operand => self.to.push_str(&operator),
        }
        self.to.extend(self.rest.next_if_eq(&'?'));
        Ok(Before::Repeat)
    }

    fn literal(&mut self, c: char) {
        self.to.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    /// After a backslash, outside of brackets.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('Q') => {
                self.rest.next();
                self.quotation();
                return Ok(());
            }
            Some('A' | 'z') => {
                self.to.push('\\');
                self.to.extend(self.rest.next());
                return Ok(());
            }
            // In Go, a word consists of ASCII.
            Some(at_word @ ('b' | 'B')) => {
                self.to.push_str(&format!(r"(?-u:\{at_word})"));
                self.rest.next();
                return Ok(());
            }
            Some(_) | None => {}
        }
        match self.escaped()? {
            Escaped::Char(c) => self.literal(c),
            Escaped::Class(class) => self.to.push_str(&class),
        }
        Ok(())
    }

    /// `\Q…\E`: text that stands for itself. Without `\E` it ends with the pattern.
    fn quotation(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
        }
    }

    /// After a backslash, anywhere.
    fn escaped(&mut self) -> Result<Escaped, String> {
        let Some(c) = self.rest.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let class = |class: &str| Ok(Escaped::Class(class.to_owned()));
        match c {
            // In Go, these classes consist of ASCII, and a vertical tab is no space.
            'd' => class("[0-9]"),
            'D' => class("[^0-9]"),
            'w' => class("[0-9A-Za-z_]"),
            'W' => class("[^0-9A-Za-z_]"),
            's' => class(r"[\t\n\f\r ]"),
            'S' => class(r"[^\t\n\f\r ]"),
            'p' | 'P' => self.property(c == 'P').map(Escaped::Class),
            'a' => Ok(Escaped::Char('\x07')),
            'f' => Ok(Escaped::Char('\x0C')),
            'n' => Ok(Escaped::Char('\n')),
            'r' => Ok(Escaped::Char('\r')),
            't' => Ok(Escaped::Char('\t')),
            'v' => Ok(Escaped::Char('\x0B')),
            'x' => self.hexadecimal().map(Escaped::Char),
            '0'..='7' => self.octal(c).map(Escaped::Char),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(Escaped::Char(c)),
            _ => Err(format!(r"invalid escape sequence: `\{c}`")),
        }
    }

    /// `\pN`, `\p{Greek}`, `\p{^Greek}`.
    fn property(&mut self, mut is_negated: bool) -> Result<String, String> {
        let fault = || "invalid character class range".to_owned();
        let mut name = String::new();
        match self.rest.next().ok_or_else(fault)? {
            '{' => {
                is_negated ^= self.rest.next_if_eq(&'^').is_some();
                loop {
                    match self.rest.next().ok_or_else(fault)? {
                        '}' => break,
                        c => name.push(c),
                    }
                }
            }
            c => name.push(c),
        }
        Ok(format!(r"\{}{{{name}}}", if is_negated { 'P' } else { 'p' }))
    }

    /// `\x7F`, `\x{10FFFF}`.
    fn hexadecimal(&mut self) -> Result<char, String> {
        let mut digits = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            while let Some(digit) = self.rest.next_if(char::is_ascii_hexdigit) {
                digits.push(digit);
            }
            let is_closed = self.rest.next_if_eq(&'}').is_some();
            if !is_closed {
                digits.clear();
            }
        } else {
            digits.extend(self.rest.next_if(char::is_ascii_hexdigit));
            match self.rest.next_if(char::is_ascii_hexdigit) {
                Some(digit) => digits.push(digit),
                None => digits.clear(),
            }
        }
        let code = u32::from_str_radix(&digits, 16).ok();
        code.and_then(char::from_u32).ok_or_else(|| r"invalid escape sequence: `\x`".to_owned())
    }

    /// `\0`, `\012`. Another single digit would refer to a group, which RE2 lacks.
    fn octal(&mut self, first: char) -> Result<char, String> {
        let is_octal = |c: &char| matches!(c, '0'..='7');
        let mut code = first as u32 - '0' as u32;
        if first != '0' && !self.rest.peek().is_some_and(is_octal) {
            return Err(format!(r"invalid escape sequence: `\{first}`"));
        }
        for _ in 0..2 {
            let Some(digit) = self.rest.next_if(is_octal) else { break };
            code = code * 8 + (digit as u32 - '0' as u32);
        }
        char::from_u32(code).ok_or_else(|| "invalid escape sequence".to_owned())
    }

    /// After an opening parenthesis. Whether it opens a group: `(?i)` does not.
    fn group(&mut self) -> Result<bool, String> {
        self.to.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(true);
        }
        self.to.push('?');
        let mut seen = "(?".to_owned();
        loop {
            let next = self.rest.next();
            seen.extend(next);
            self.to.extend(next);
            match next {
                Some('i' | 'm' | 's' | 'U' | '-') => {}
                Some(')') => return Ok(false),
                Some(':') => return Ok(true),
                Some('P') if self.rest.peek() == Some(&'<') => {}
                Some('<') => {
                    self.group_name()?;
                    return Ok(true);
                }
                Some(_) | None => {
                    return Err(format!("invalid or unsupported Perl syntax: `{seen}`"));
                }
            }
        }
    }

    fn group_name(&mut self) -> Result<(), String> {
        loop {
            match self.rest.next() {
                Some('>') => break,
                Some(c) if c == '_' || c.is_ascii_alphanumeric() => self.to.push(c),
                Some(_) | None => return Err(format!("invalid named capture: `{}`", self.to)),
            }
        }
        self.to.push('>');
        Ok(())
    }

    /// After an opening brace: the counts `{2}`, `{2,}` or `{2,5}`, if it is a repetition.
    fn repeat(&mut self) -> Result<Option<String>, String> {
        let mut ahead = self.rest.clone();
        let Some(min) = count(&mut ahead) else { return Ok(None) };
        let mut max = Some(min);
        let mut counts = format!("{{{min}");
        if ahead.next_if_eq(&',').is_some() {
            max = count(&mut ahead);
            counts.push(',');
            counts.extend(max.map(|max| max.to_string()));
        }
        if ahead.next() != Some('}') {
            return Ok(None);
        }
        counts.push('}');
        if min > REPEAT_COUNT_MAX || max.is_some_and(|max| max > REPEAT_COUNT_MAX || max < min) {
            return Err(format!("invalid repeat count: `{counts}`"));
        }
        self.rest = ahead;
        Ok(Some(counts))
    }

    /// After an opening bracket. Go has no classes in classes and no operators between them, so
    /// what the crate would read as such is escaped.
    fn class(&mut self) -> Result<(), String> {
        let rest: String = self.rest.clone().collect();
        let unclosed = || format!("missing closing ]: `[{rest}`");
        self.to.push('[');
        self.to.extend(self.rest.next_if_eq(&'^'));
        let mut is_first = true;
        loop {
            let c = self.rest.next().ok_or_else(unclosed)?;
            let low = match c {
                ']' if !is_first => break,
                '[' if self.posix_class()? => {
                    is_first = false;
                    continue;
                }
                '\\' => match self.escaped()? {
                    Escaped::Char(c) => c,
                    Escaped::Class(class) => {
                        self.to.push_str(&class);
                        is_first = false;
                        continue;
                    }
                },
                _ => c,
            };
            is_first = false;
            self.literal(low);
            self.range_end(low)?;
        }
        self.to.push(']');
        Ok(())
    }

    /// The rest of `a-z`, if `low` begins a range.
    fn range_end(&mut self, low: char) -> Result<(), String> {
        let mut ahead = self.rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
        if !is_range {
            return Ok(());
        }
        self.rest.next();
        let high = match self.rest.next() {
            Some('\\') => match self.escaped()? {
                Escaped::Char(c) => c,
                Escaped::Class(_) => return Err("invalid character class range".to_owned()),
            },
            Some(c) => c,
            None => return Ok(()),
        };
        if high < low {
            return Err(format!("invalid character class range: `{low}-{high}`"));
        }
        self.to.push('-');
        self.literal(high);
        Ok(())
    }

    /// `[:alpha:]` between brackets, after its first bracket. Whether it is one.
    fn posix_class(&mut self) -> Result<bool, String> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some(':') {
            return Ok(false);
        }
        let inner: String = ahead.clone().collect();
        let Some((name, _)) = inner.split_once(":]") else { return Ok(false) };
        if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("invalid character class range: `[:{name}:]`"));
        }
        self.to.push_str(&format!("[:{name}:]"));
        self.rest.nth(name.chars().count() + 2);
        Ok(true)
    }
}

const POSIX_CLASSES: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// A decimal number; one with a leading zero is none in Go. A huge one is out of every bound.
fn count(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let first = rest.next_if(char::is_ascii_digit)?;
    let mut number = first.to_digit(10)?;
    if first == '0' && rest.peek().is_some_and(char::is_ascii_digit) {
        return None;
    }
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        number = number.saturating_mul(10).saturating_add(digit.to_digit(10)?);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first match of the pattern in the text; `Err` for a pattern that is refused.
    fn check(pattern: &str, text: &str, expected: Result<Option<&str>, &str>) {
        let found = GoRegex::new(pattern).map(|regex| {
            let found = regex.regex().find(text.as_bytes());
            found.map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned())
        });
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{pattern}"),
            (Err(fault), Err(expected)) => {
                assert_eq!(fault.refusal().message, expected, "{pattern}");
            }
            (found, expected) => panic!("{pattern}: {found:?}, not {expected:?}"),
        }
    }

    fn finds(pattern: &str, text: &str, expected: &str) {
        check(pattern, text, Ok(Some(expected)));
    }

    fn lacks(pattern: &str, text: &str) {
        check(pattern, text, Ok(None));
    }

    // Each row was compared with Go's `regexp`.
    #[test]
    fn what_differs_is_translated() {
        finds(r"\Qa.b*\E+", "xa.b**", "a.b**");
        finds(r"\Qa.b", "a.b", "a.b");
        lacks(r"\Qa.b\E", "axb");
        finds(r"\d+", "٣42", "42");
        finds(r"\w+", "éa_1", "a_1");
        finds(r"\W", "éa", "é");
        finds(r"\bb", "éb", "b");
        lacks(r"\s", "\u{b}");
        finds(r"\pL+", "1éa", "éa");
        finds(r"\p{^Greek}+", "αa", "a");
        finds(r"\P{^Greek}+", "αa", "α");
        finds(r"a{,2}", "a{,2}", "a{,2}");
        finds(r"{a}.{foo}", "{a}.{foo}", "{a}.{foo}");
        finds(r"a{02}", "a{02}", "a{02}");
        finds(r"\b{start}", "{start}a{start}", "{start}");
        finds(r"\<a\>", "<a>", "<a>");
        finds(r"[[a]+", "[a[", "[a[");
        finds(r"[a&&b]+", "&a&b", "&a&b");
        finds(r"[+--]+", "x+,-.", "+,-");
        finds(r"[]a]+", "]a", "]a");
        finds(r"[^]a]+", "]xa", "x");
        finds(r"[\d.-]+", "a1.2-3", "1.2-3");
        finds(r"[\Da]+", "1xa2", "xa");
        finds(r"[[:alpha:]-]+", "1a-b", "a-b");
        finds(r"[[:^alpha:]]+", "a12b", "12");
        finds(r"[[:alpha]+", ":[x", ":[");
        finds(r"[a-c-e]+", "xb-e", "b-e");
        finds(r"\101\x42\x{43}\012", "ABC\n", "ABC\n");
        finds(r"(?i)abc", "xABC", "ABC");
        finds(r"(?P<a_1>b)(?<c>d)(?s-i:.)", "bd\n", "bd\n");
        finds(r"(?U)a+", "aaa", "a");
        finds(r"a{2,3}?", "aaa", "aa");
        finds(r"\_\-\#\ \%\&", "_-# %&", "_-# %&");
        lacks(r"^a$", "a\n");
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let refuses = |pattern: &str, why: &str| {
            check(pattern, "", Err(&format!("error parsing regexp: {why}")));
        };
        refuses("(x", "missing closing ): `(x`");
        refuses("x)(", "unexpected ): `x)(`");
        refuses("[a", "missing closing ]: `[a`");
        refuses("*a", "missing argument to repetition operator: `*`");
        refuses("x|{1}", "missing argument to repetition operator: `{1}`");
        refuses("a**", "invalid nested repetition operator: `*`");
        refuses("a{2}{3}", "invalid nested repetition operator: `{3}`");
        refuses("a{1001}", "invalid repeat count: `{1001}`");
        refuses("a{3,2}", "invalid repeat count: `{3,2}`");
        refuses("(?x)a", "invalid or unsupported Perl syntax: `(?x`");
        refuses("(?u)a", "invalid or unsupported Perl syntax: `(?u`");
        refuses("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
        refuses("(?P=a)", "invalid or unsupported Perl syntax: `(?P`");
        refuses("(?", "invalid or unsupported Perl syntax: `(?`");
        refuses("(?<=a)", "invalid named capture: `(?<`");
        refuses(r"(a)\1", r"invalid escape sequence: `\1`");
        refuses(r"\Z", r"invalid escape sequence: `\Z`");
        refuses(r"\b{start}\h", r"invalid escape sequence: `\h`");
        refuses(r"\x4", r"invalid escape sequence: `\x`");
        refuses(r"\pX", r"Unicode property not found: `\pX`");
        refuses("[[:foo:]]", "invalid character class range: `[:foo:]`");
        refuses("[b-a]", "invalid character class range: `b-a`");
        refuses(r"a\", "trailing backslash at end of expression: ``");
        let long = "x".repeat(10_001);
        check(&long, "", Err("regex pattern too long: 10001 > 10000"));
    }
}
