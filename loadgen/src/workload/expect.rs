//! `--verify`: the answers to expect. Lines of `NAME TYPE RCODE [ADDRESS…]`, so that the same file
//! can serve as query file.
//!
//! Expectations are read before the run; `is_met_by` compares without allocating. Invariant:
//! addresses are sorted and unique.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use domain::base::{Message, Rtype};
use domain::rdata::{A, Aaaa};

use super::query_file;
use crate::rcode::RCODE_NAMES;

/// Most addresses of one expectation: each has one bit while a response is compared.
const ADDRESS_COUNT_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Valid: 0..=15.
    pub rcode: u8,
    pub addresses: Vec<IpAddr>,
}

/// All expectations, with an index by name (lower case, without the final dot) and type.
#[derive(Debug, Default)]
pub struct Expectations {
    pub list: Vec<Expectation>,
    by_question: HashMap<(String, Rtype), u32>,
}

#[derive(Debug)]
pub enum ExpectError {
    Read { path: String, error: io::Error },
    Line { path: String, line: usize, reason: String },
}

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(f, "cannot read the expectations {path}: {error}"),
            Self::Line { path, line, reason } => {
                write!(
                    f,
                    "{path}:{line}: {reason}; write NAME TYPE RCODE and the addresses, like \
                     a.example A NOERROR 10.0.0.1"
                )
            }
        }
    }
}

impl std::error::Error for ExpectError {}

impl Expectations {
    pub fn read(path: &Path) -> Result<Self, ExpectError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| ExpectError::Read { path: name.clone(), error })?;
        Self::parse(&text).map_err(|(line, reason)| ExpectError::Line { path: name, line, reason })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut all = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            let fail = |reason| (index + 1, reason);
            let question = query_file::question(line).map_err(fail)?;
            let expectation = expectation(line.split_ascii_whitespace().skip(2)).map_err(fail)?;
            all.by_question
                .insert((key(&question.name.to_string()), question.rtype), all.list.len() as u32);
            all.list.push(expectation);
        }
        Ok(all)
    }

    /// Index into `list`.
    pub fn index(&self, name: &str, rtype: Rtype) -> Option<u32> {
        self.by_question.get(&(key(name), rtype)).copied()
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn expectation<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Expectation, String> {
    let rcode = words.next().ok_or("the rcode is missing")?;
    let rcode = RCODE_NAMES
        .iter()
        .position(|name| name.eq_ignore_ascii_case(rcode))
        .ok_or_else(|| format!("'{rcode}' is not an rcode"))? as u8;
    let mut addresses = words
        .map(|word| word.parse().map_err(|_| format!("'{word}' is not an address")))
        .collect::<Result<Vec<IpAddr>, _>>()?;
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.len() > ADDRESS_COUNT_MAX {
        return Err(format!("more than {ADDRESS_COUNT_MAX} addresses"));
    }
    Ok(Expectation { rcode, addresses })
}

impl Expectation {
    /// Whether a response is as expected. For a truncated one, only the rcode is compared.
    pub fn is_met_by(&self, packet: &[u8]) -> bool {
        let Ok(message) = Message::from_slice(packet) else { return false };
        if message.header().rcode().to_int() != self.rcode {
            return false;
        }
        if message.header().tc() {
            return true;
        }
        let Ok(answer) = message.answer() else { return false };
        let mut seen = 0u128;
        for record in answer {
            let Ok(record) = record else { return false };
            let address = match record.rtype() {
                Rtype::A => {
                    record.to_record::<A>().ok().flatten().map(|a| IpAddr::V4(a.data().addr()))
                }
                Rtype::AAAA => {
                    record.to_record::<Aaaa>().ok().flatten().map(|a| IpAddr::V6(a.data().addr()))
                }
                _ => continue,
            };
            let Some(Ok(at)) = address.map(|address| self.addresses.binary_search(&address)) else {
                return false;
            };
            seen |= 1 << at;
        }
        seen.count_ones() as usize == self.addresses.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::base::iana::Rcode;
    use domain::base::{MessageBuilder, Name, Ttl};

    fn response(rcode: Rcode, tc: bool, addresses: &[&str]) -> Vec<u8> {
        let name: Name<Vec<u8>> = "a.example".parse().unwrap();
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_rcode(rcode);
        builder.header_mut().set_tc(tc);
        let mut builder = builder.question();
        builder.push((&name, Rtype::A)).unwrap();
        let mut builder = builder.answer();
        for address in addresses {
            match address.parse().unwrap() {
                IpAddr::V4(v4) => builder.push((&name, Ttl::from_secs(5), A::new(v4))).unwrap(),
                IpAddr::V6(v6) => builder.push((&name, Ttl::from_secs(5), Aaaa::new(v6))).unwrap(),
            }
        }
        builder.finish()
    }

    #[test]
    fn responses_are_compared_with_expectations() {
        let file = "# c\na.example A NOERROR 10.0.0.2 10.0.0.1\ngone.example A NXDOMAIN\n";
        let all = Expectations::parse(file).unwrap();
        let get = |name, rtype| all.index(name, rtype).map(|index| &all.list[index as usize]);
        let there = get("A.Example.", Rtype::A).unwrap();
        let gone = get("gone.example", Rtype::A).unwrap();
        assert_eq!(get("a.example", Rtype::AAAA), None);
        let rows: &[(&Expectation, Vec<u8>, bool)] = &[
            (there, response(Rcode::NOERROR, false, &["10.0.0.1", "10.0.0.2"]), true),
            (there, response(Rcode::NOERROR, false, &["10.0.0.1"]), false),
            (there, response(Rcode::NOERROR, false, &["10.0.0.1", "10.0.0.3"]), false),
            (there, response(Rcode::NOERROR, false, &["10.0.0.1", "10.0.0.2", "::1"]), false),
            (there, response(Rcode::NOERROR, true, &[]), true),
            (there, response(Rcode::SERVFAIL, false, &[]), false),
            (gone, response(Rcode::NXDOMAIN, false, &[]), true),
            (gone, response(Rcode::NOERROR, false, &[]), false),
            (
                there,
                response(Rcode::NOERROR, false, &["10.0.0.1", "10.0.0.2"])[..40].to_vec(),
                false,
            ),
        ];
        for (index, (expectation, packet, expected)) in rows.iter().enumerate() {
            assert_eq!(expectation.is_met_by(packet), *expected, "row {index}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (text, part) in [
            ("a.b A", "rcode is missing"),
            ("a.b A WHAT", "'WHAT' is not an rcode"),
            ("a.b A NOERROR 10.0.0", "'10.0.0' is not an address"),
            ("a.b", "type is missing"),
        ] {
            let (line, reason) = Expectations::parse(&format!("\n{text}")).unwrap_err();
            assert!(line == 2 && reason.contains(part), "{text}: {line}: {reason}");
        }
    }
}
