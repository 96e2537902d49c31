//! The format of a line of the query log: text and placeholders.
//!
//! Invariant: any text is a format. What is not a placeholder is printed as it is, as in CoreDNS.

use std::fmt::{self, Write};
use std::net::IpAddr;

use domain::base::Rtype;
use domain::base::iana::Class;
use wire::header::{AA, AD, CD, QR, RA, RD, Rcode, TC};
use wire::name::Name;

use super::query::LoggedQuery;
use crate::client::Transport;

/// The default.
const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} \
                      {>bufsize}\" {rcode} {>rflags} {rsize} {duration}";

/// Printed for what is not known.
const EMPTY: &str = "-";

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFormat {
    parts: Vec<FormatPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum FormatPart {
    Text(String),
    Value(Placeholder),
    /// `{/NAME}`: a label of `metadata`.
    Label(String),
}

/// The placeholders; `PLACEHOLDERS` has their spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Type,
    Name,
    Class,
    Proto,
    Size,
    Remote,
    Port,
    Local,
    Id,
    Opcode,
    Do,
    Bufsize,
    Rcode,
    Rsize,
    Duration,
    Rflags,
}

const PLACEHOLDERS: &[(&str, Placeholder)] = &[
    ("{type}", Placeholder::Type),
    ("{name}", Placeholder::Name),
    ("{class}", Placeholder::Class),
    ("{proto}", Placeholder::Proto),
    ("{size}", Placeholder::Size),
    ("{remote}", Placeholder::Remote),
    ("{port}", Placeholder::Port),
    ("{local}", Placeholder::Local),
    ("{>id}", Placeholder::Id),
    ("{>opcode}", Placeholder::Opcode),
    ("{>do}", Placeholder::Do),
    ("{>bufsize}", Placeholder::Bufsize),
    ("{rcode}", Placeholder::Rcode),
    ("{rsize}", Placeholder::Rsize),
    ("{duration}", Placeholder::Duration),
    ("{>rflags}", Placeholder::Rflags),
];

/// The header's flags, in the order in which CoreDNS prints them.
const FLAGS: [(u16, &str); 8] = [
    (QR, "qr"),
    (AA, "aa"),
    (TC, "tc"),
    (RD, "rd"),
    (RA, "ra"),
    (0x0040, "z"),
    (AD, "ad"),
    (CD, "cd"),
];

impl Default for LineFormat {
    fn default() -> Self {
        Self::parse(COMMON)
    }
}

impl LineFormat {
    /// Reads a format. `{common}` and `{combined}` stand for the usual ones.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.replace("{common}", COMMON);
        let text = text.replace("{combined}", &format!("{COMMON} \"{{>opcode}}\""));
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some(close) = rest.find('}') {
            let (head, behind) = rest.split_at(close + 1);
            rest = behind;
            // The innermost brace: `{ {name}` has one placeholder.
            let (before, braced) = head.split_at(head.rfind('{').unwrap_or(0));
            let known = PLACEHOLDERS.iter().find(|(spelling, _)| *spelling == braced);
            let label = braced.strip_prefix("{/").and_then(|rest| rest.strip_suffix('}'));
            let part = match (known, label) {
                (Some((_, placeholder)), _) => FormatPart::Value(*placeholder),
                (None, Some(label)) => FormatPart::Label(label.to_owned()),
                (None, None) => {
                    parts.push(FormatPart::Text(head.to_owned()));
                    continue;
                }
            };
            parts.push(FormatPart::Text(before.to_owned()));
            parts.push(part);
        }
        parts.push(FormatPart::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, FormatPart::Text(text) if text.is_empty()));
        Self { parts }
    }

    /// Appends the line of a query, without a newline. `local`: the address of its listener.
    pub fn write(&self, query: &LoggedQuery, local: Option<IpAddr>, line: &mut String) {
        for part in &self.parts {
            match part {
                FormatPart::Text(text) => line.push_str(text),
                FormatPart::Label(label) => write_metadata(label, query, line),
                FormatPart::Value(placeholder) => {
                    // Writing to memory cannot fail.
                    let _ = placeholder.write(query, local, line);
                }
            }
        }
    }
}

impl Placeholder {
    fn write(self, query: &LoggedQuery, local: Option<IpAddr>, line: &mut String) -> fmt::Result {
        let response = &query.response;
        match self {
            Self::Type => write_type(response.qtype, line),
            Self::Class => write_class(response.qclass, line),
            Self::Name => write_name(&query.name, line),
            Self::Proto => line.write_str(proto(query.transport)),
            Self::Size => write!(line, "{}", query.query_len),
            Self::Remote => write_address(query.peer.map(|peer| peer.ip()), line),
            Self::Port => write!(line, "{}", query.peer.map_or(0, |peer| peer.port())),
            Self::Local => write_address(local, line),
            Self::Id => write!(line, "{}", response.id),
            Self::Opcode => write!(line, "{}", query.opcode()),
            Self::Do => write!(line, "{}", query.dnssec_ok()),
            Self::Bufsize => write!(line, "{}", query.udp_len()),
            Self::Rcode => {
                line.push_str(rcode(query).unwrap_or(EMPTY));
                Ok(())
            }
            Self::Rsize => write!(line, "{}", response.uncompressed_len),
            Self::Duration => write!(line, "{}s", query.duration().as_secs_f64()),
            Self::Rflags if query.rcode().is_none() => line.write_str(EMPTY),
            Self::Rflags => {
                let set = FLAGS.iter().filter(|(bit, _)| response.flags & bit != 0);
                for (index, (_, name)) in set.enumerate() {
                    line.push_str(if index == 0 { "" } else { "," });
                    line.push_str(name);
                }
                Ok(())
            }
        }
    }
}

/// Appends the value of a label; a dash if the query has no such label.
fn write_metadata(label: &str, query: &LoggedQuery, line: &mut String) {
    // As in CoreDNS, those of `log` do not depend on the zones of `metadata`.
    match (&query.log.labels, label) {
        (Some(_), "log/type") => line.push_str(query.kind.name()),
        (Some(_), "log/class") => line.push_str(query.kind.class().name()),
        (Some(labels), _) if labels.write(label, &query.name, line) == Ok(true) => {}
        (Some(_) | None, _) => line.push_str(EMPTY),
    }
}

/// The protocol's name.
#[must_use]
pub const fn proto(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

/// The mnemonic of the response's code; `None` without a response.
#[must_use]
pub fn rcode(query: &LoggedQuery) -> Option<&'static str> {
    query.rcode().map(|rcode| Rcode::for_client(rcode).mnemonic())
}

/// Appends the name of a type, as CoreDNS spells it.
///
/// # Errors
/// `out` is full.
pub fn write_type(qtype: u16, out: &mut impl Write) -> fmt::Result {
    match qtype {
        0 => out.write_str("None"),
        23 => out.write_str("NSAP-PTR"),
        u16::MAX => out.write_str("Reserved"),
        // `domain` has names for these.
        11 | 22 | 38 | 40 | 66..=68 | 259 | 262..=264 => write!(out, "TYPE{qtype}"),
        _ => match Rtype::from_int(qtype).to_mnemonic_str() {
            Some(mnemonic) => out.write_str(mnemonic),
            None => write!(out, "TYPE{qtype}"),
        },
    }
}

/// Appends the name of a class.
///
/// # Errors
/// `out` is full.
pub fn write_class(qclass: u16, out: &mut impl Write) -> fmt::Result {
    write!(out, "{}", Class::from_int(qclass))
}

/// An IPv6 address stands in brackets.
fn write_address(address: Option<IpAddr>, line: &mut String) -> fmt::Result {
    match address {
        Some(IpAddr::V4(address)) => write!(line, "{address}"),
        Some(IpAddr::V6(address)) => write!(line, "[{address}]"),
        None => line.write_str(EMPTY),
    }
}

/// Appends a name with a final dot.
///
/// # Errors
/// `out` is full.
pub fn write_name(name: &Name, out: &mut impl Write) -> fmt::Result {
    let mut rest = name.bytes();
    if rest == b"\0" {
        return out.write_char('.');
    }
    while let Some((label_len, behind)) = rest.split_first()
        && *label_len > 0
        && let Some((label, next)) = behind.split_at_checked(usize::from(*label_len))
    {
        write_label(label, out)?;
        out.write_char('.')?;
        rest = next;
    }
    Ok(())
}

/// Appends a label, escaped as CoreDNS does it.
///
/// # Errors
/// `out` is full.
pub fn write_label(label: &[u8], out: &mut impl Write) -> fmt::Result {
    for byte in label {
        match byte {
            b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                out.write_char('\\')?;
                out.write_char(char::from(*byte))?;
            }
            0x21..=0x7E => out.write_char(char::from(*byte))?,
            _ => write!(out, "\\{byte:03}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a format: texts as they are, values as `<Value>`, labels as `</label>`.
    fn check(format: &str, expected: &str) {
        let LineFormat { parts } = LineFormat::parse(format);
        let part = |part: &FormatPart| match part {
            FormatPart::Text(text) => text.clone(),
            FormatPart::Value(placeholder) => format!("<{placeholder:?}>"),
            FormatPart::Label(label) => format!("</{label}>"),
        };
        assert_eq!(parts.iter().map(part).collect::<String>(), expected, "{format}");
    }

    #[test]
    fn formats() {
        check("", "");
        check("query", "query");
        check("{name}{type}", "<Name><Type>");
        check("a {name} b", "a <Name> b");
        check("{ {name} }", "{ <Name> }");
        check("{{name}}", "{<Name>}");
        check("} {name", "} {name");
        check("{Name} {}", "{Name} {}");
        check("{/a/b} {/} {/a", "</a/b> </> {/a");
        check(
            "{common}",
            "<Remote>:<Port> - <Id> \"<Type> <Class> <Name> <Proto> <Size> <Do> \
                           <Bufsize>\" <Rcode> <Rflags> <Rsize> <Duration>",
        );
        check(
            "{>do} {combined}",
            &format!("<Do> {}", {
                let LineFormat { parts } = LineFormat::parse("{common}");
                assert_eq!(LineFormat::default().parts, parts);
                "<Remote>:<Port> - <Id> \"<Type> <Class> <Name> <Proto> <Size> <Do> <Bufsize>\" \
             <Rcode> <Rflags> <Rsize> <Duration> \"<Opcode>\""
            }),
        );
        for (spelling, placeholder) in PLACEHOLDERS {
            check(spelling, &format!("<{placeholder:?}>"));
        }
    }

    #[test]
    fn names_are_escaped() {
        for (wire, text) in [
            (&b"\0"[..], "."),
            (b"\x03www\x04test\0", "www.test."),
            (b"\x05a.b c\x01\\\0", "a\\.b\\ c.\\\\."),
            (b"\x04\x00\x1f\x7f\xff\0", "\\000\\031\\127\\255."),
            (b"\x07'@;()\"_\0", "\\'\\@\\;\\(\\)\\\"_."),
        ] {
            let mut line = String::new();
            write_name(&Name::from_wire(wire).expect("a name"), &mut line).expect("memory");
            assert_eq!(line, text);
        }
    }

    #[test]
    fn types_are_spelled_as_in_coredns() {
        for (qtype, text) in [
            (0, "None"),
            (1, "A"),
            (11, "TYPE11"),
            (23, "NSAP-PTR"),
            (65, "HTTPS"),
            (255, "ANY"),
            (4711, "TYPE4711"),
            (65535, "Reserved"),
        ] {
            let mut line = String::new();
            write_type(qtype, &mut line).expect("memory");
            assert_eq!(line, text);
        }
    }
}
