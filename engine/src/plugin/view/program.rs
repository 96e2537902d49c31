//! A checked expression, and its value for a query.
//!
//! Invariant: an evaluation neither allocates nor panics. Texts that it makes go into a buffer of
//! fixed size; if that is full, the expression has no value, as after any other error.

use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::Range;

use ipnet::IpNet;
use wire::name::Name;
use wire::query::Query;

use super::check::contains;
use crate::client::{Arrival, Transport};
use crate::plugin::log::format;
use crate::plugin::metadata::QueryLabels;
use crate::plugin::pattern::Pattern;

/// A part of a program.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    Fact(Fact),
    Not(Box<Self>),
    And(Box<[Self]>),
    Or(Box<[Self]>),
    /// Condition, then, else.
    Choice(Box<[Self; 3]>),
    Compare(Comparison, Box<[Self; 2]>),
    Test(TextTest, Box<[Self; 2]>),
    Compute(IntOperator, Box<[Self; 2]>),
    /// The second text is used by `Join` only.
    Change(TextOperator, Box<[Self; 2]>),
    /// The pattern, by index in the program.
    Matches(Box<Self>, usize),
    In(Box<Self>, Box<[Self]>),
    /// Value, lowest, highest.
    InRange(Box<[Self; 3]>),
    /// `None`: the text is not a network, so there is no value.
    InNetwork(Box<Self>, Option<IpNet>),
    InComputedNetwork(Box<[Self; 2]>),
    Label(Box<Self>),
    Len(Box<Self>),
    ToInt(Box<Self>),
}

/// What is known of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Type,
    Name,
    Class,
    Proto,
    Size,
    ClientIp,
    Port,
    Id,
    Opcode,
    DnssecOk,
    Bufsize,
    ServerIp,
    ServerPort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntOperator {
    Plus,
    Minus,
    Times,
    Modulo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextOperator {
    Join,
    Lower,
    Upper,
    Trim,
}

/// A query as views see it.
pub struct QueryFacts<'q> {
    pub arrival: &'q Arrival,
    pub query: &'q Query,
    /// The question's name, in lower case.
    pub name: &'q Name,
    pub id: u16,
    pub peer: Option<SocketAddr>,
    /// The address that it was sent to, as the Corefile has it.
    pub server: Option<SocketAddr>,
}

/// The buffer of texts. It grows only between queries.
#[derive(Debug, Default)]
pub struct TextBuffer(String);

impl TextBuffer {
    pub fn grow_to(&mut self, len_max: usize) {
        self.0.clear();
        self.0.reserve(len_max);
    }
}

impl Write for TextBuffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > self.0.capacity() {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The value of a part.
#[derive(Clone, Debug)]
enum PartValue<'p> {
    Bool(bool),
    Int(i64),
    Text(&'p str),
    /// A text in the buffer.
    Made(Range<usize>),
}

/// One evaluation.
pub(super) struct Evaluation<'e> {
    pub(super) facts: &'e QueryFacts<'e>,
    /// Of the program.
    pub(super) patterns: &'e [Pattern],
    pub(super) labels: Option<&'e QueryLabels>,
    pub(super) buffer: &'e mut TextBuffer,
}

impl Evaluation<'_> {
    /// Whether the program is true. Anything else is false, an error too.
    pub(super) fn is_true(&mut self, whole: &Part) -> bool {
        self.buffer.0.clear();
        self.bool(whole) == Some(true)
    }

    fn bool(&mut self, part: &Part) -> Option<bool> {
        match self.value(part)? {
            PartValue::Bool(bool) => Some(bool),
            PartValue::Int(_) | PartValue::Text(_) | PartValue::Made(_) => None,
        }
    }

    fn int(&mut self, part: &Part) -> Option<i64> {
        match self.value(part)? {
            PartValue::Int(int) => Some(int),
            PartValue::Bool(_) | PartValue::Text(_) | PartValue::Made(_) => None,
        }
    }

    fn made<'p>(
        &mut self,
        write: impl FnOnce(&mut TextBuffer) -> std::fmt::Result,
    ) -> Option<PartValue<'p>> {
        let start = self.buffer.0.len();
        write(self.buffer).ok()?;
        Some(PartValue::Made(start..self.buffer.0.len()))
    }

    fn text<'v>(&'v self, value: &'v PartValue<'_>) -> Option<&'v str> {
        match value {
            PartValue::Text(text) => Some(text),
            PartValue::Made(range) => self.buffer.0.get(range.clone()),
            PartValue::Bool(_) | PartValue::Int(_) => None,
        }
    }

    fn value<'p>(&mut self, part: &'p Part) -> Option<PartValue<'p>> {
        let value = match part {
            Part::Bool(bool) => PartValue::Bool(*bool),
            Part::Int(int) => PartValue::Int(*int),
            Part::Text(text) => PartValue::Text(text),
            Part::Fact(fact) => self.fact(*fact)?,
            Part::Not(inner) => PartValue::Bool(!self.bool(inner)?),
            Part::And(parts) => PartValue::Bool(!self.has(parts, false)?),
            Part::Or(parts) => PartValue::Bool(self.has(parts, true)?),
            Part::Choice(parts) => {
                let [condition, then, or_else] = &**parts;
                let chosen = if self.bool(condition)? { then } else { or_else };
                self.value(chosen)?
            }
            Part::Compare(order, parts) => {
                let [left, right] = &**parts;
                let (left, right) = (self.value(left)?, self.value(right)?);
                PartValue::Bool(self.compare(*order, &left, &right)?)
            }
            Part::Test(test, parts) => PartValue::Bool(self.test(*test, parts)?),
            Part::Compute(operator, parts) => PartValue::Int(self.compute(*operator, parts)?),
            Part::Change(operator, parts) => self.change(*operator, parts)?,
            Part::Matches(text, index) => {
                let text = self.value(text)?;
                let pattern = self.patterns.get(*index)?;
                PartValue::Bool(pattern.matches(self.text(&text)?.as_bytes()))
            }
            Part::In(value, items) => {
                let value = self.value(value)?;
                PartValue::Bool(self.is_in(&value, items)?)
            }
            Part::InRange(parts) => {
                let [value, low, high] = &**parts;
                let (value, low, high) = (self.int(value)?, self.int(low)?, self.int(high)?);
                PartValue::Bool((low..=high).contains(&value))
            }
            Part::InNetwork(address, network) => {
                let address = self.value(address)?;
                PartValue::Bool(contains(network.as_ref()?, self.text(&address)?)?)
            }
            Part::InComputedNetwork(parts) => {
                let [address, network] = &**parts;
                let (address, network) = (self.value(address)?, self.value(network)?);
                let network: IpNet = self.text(&network)?.parse().ok()?;
                PartValue::Bool(contains(&network, self.text(&address)?)?)
            }
            Part::Label(label) => self.label(label)?,
            Part::Len(text) => {
                let text = self.value(text)?;
                PartValue::Int(self.text(&text)?.chars().count() as i64)
            }
            Part::ToInt(text) => {
                let text = self.value(text)?;
                PartValue::Int(self.text(&text)?.parse().ok()?)
            }
        };
        Some(value)
    }

    fn test(&mut self, test: TextTest, [text, searched]: &[Part; 2]) -> Option<bool> {
        let (text, searched) = (self.value(text)?, self.value(searched)?);
        let (text, searched) = (self.text(&text)?, self.text(&searched)?);
        Some(match test {
            TextTest::Contains => text.contains(searched),
            TextTest::StartsWith => text.starts_with(searched),
            TextTest::EndsWith => text.ends_with(searched),
        })
    }

    fn compute(&mut self, operator: IntOperator, [left, right]: &[Part; 2]) -> Option<i64> {
        let (left, right) = (self.int(left)?, self.int(right)?);
        match operator {
            IntOperator::Plus => Some(left.wrapping_add(right)),
            IntOperator::Minus => Some(left.wrapping_sub(right)),
            IntOperator::Times => Some(left.wrapping_mul(right)),
            IntOperator::Modulo => left.checked_rem(right),
        }
    }

    /// Whether one of the parts has this value. Those after it are not evaluated.
    fn has(&mut self, parts: &[Part], wanted: bool) -> Option<bool> {
        for part in parts {
            if self.bool(part)? == wanted {
                return Some(true);
            }
        }
        Some(false)
    }

    fn compare(
        &self,
        order: Comparison,
        left: &PartValue<'_>,
        right: &PartValue<'_>,
    ) -> Option<bool> {
        let ordering = match (left, right) {
            (PartValue::Int(left), PartValue::Int(right)) => left.cmp(right),
            (PartValue::Bool(left), PartValue::Bool(right)) => left.cmp(right),
            (left, right) => self.text(left)?.cmp(self.text(right)?),
        };
        Some(match order {
            Comparison::Equal => ordering.is_eq(),
            Comparison::Unequal => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        })
    }

    fn is_in(&mut self, value: &PartValue<'_>, items: &[Part]) -> Option<bool> {
        for item in items {
            let item = self.value(item)?;
            if self.compare(Comparison::Equal, value, &item)? {
                return Some(true);
            }
        }
        Some(false)
    }

    fn change<'p>(
        &mut self,
        operator: TextOperator,
        parts: &'p [Part; 2],
    ) -> Option<PartValue<'p>> {
        let [first, second] = parts;
        let first = self.value(first)?;
        match operator {
            TextOperator::Join => {
                let second = self.value(second)?;
                let start = self.buffer.0.len();
                self.copy(&first, |character| character)?;
                self.copy(&second, |character| character)?;
                Some(PartValue::Made(start..self.buffer.0.len()))
            }
            TextOperator::Lower => self.copy(&first, |character| character.to_ascii_lowercase()),
            TextOperator::Upper => self.copy(&first, |character| character.to_ascii_uppercase()),
            TextOperator::Trim => match first {
                PartValue::Text(text) => Some(PartValue::Text(text.trim())),
                PartValue::Made(range) => {
                    let text = self.buffer.0.get(range.clone())?;
                    let start = range.start + text.len() - text.trim_start().len();
                    Some(PartValue::Made(start..start + text.trim().len()))
                }
                PartValue::Bool(_) | PartValue::Int(_) => None,
            },
        }
    }

    /// Appends a text to the buffer, character by character.
    fn copy<'p>(
        &mut self,
        value: &PartValue<'_>,
        change: impl Fn(char) -> char,
    ) -> Option<PartValue<'p>> {
        let start = self.buffer.0.len();
        let mut at = 0;
        while let Some(character) = self.text(value)?.get(at..)?.chars().next() {
            at += character.len_utf8();
            self.buffer.write_char(change(character)).ok()?;
        }
        Some(PartValue::Made(start..self.buffer.0.len()))
    }

    /// Empty if there is no such label.
    fn label<'p>(&mut self, label: &Part) -> Option<PartValue<'p>> {
        let label = self.value(label)?;
        let (labels, name) = (self.labels, self.facts.name);
        let start = self.buffer.0.len();
        let label = match &label {
            PartValue::Text(text) => *text,
            // The name of the label is in the buffer, to which its value goes.
            PartValue::Made(_) | PartValue::Bool(_) | PartValue::Int(_) => return None,
        };
        if let Some(labels) = labels {
            labels.write(label, name, self.buffer).ok()?;
        }
        Some(PartValue::Made(start..self.buffer.0.len()))
    }

    fn fact<'p>(&mut self, fact: Fact) -> Option<PartValue<'p>> {
        let QueryFacts { arrival, query, name, id, peer, server } = *self.facts;
        let int = |number: usize| Some(PartValue::Int(number as i64));
        match fact {
            Fact::Type => self.made(|buffer| format::write_type(query.qtype, buffer)),
            Fact::Class => self.made(|buffer| format::write_class(query.qclass, buffer)),
            Fact::Name => self.made(|buffer| format::write_name(name, buffer)),
            Fact::Proto => Some(PartValue::Text(format::proto(arrival.transport))),
            Fact::Size => int(arrival.len),
            Fact::Id => int(id.into()),
            // A query with another opcode reaches no view.
            Fact::Opcode => int(0),
            Fact::DnssecOk => Some(PartValue::Bool(query.dnssec_ok())),
            Fact::Bufsize => int(match arrival.transport {
                Transport::Tcp => u16::MAX.into(),
                Transport::Udp => {
                    let announced = query.edns.map_or(0, |edns| edns.udp_len);
                    announced.max(wire::query::UDP_LEN_MIN).into()
                }
            }),
            Fact::ClientIp => {
                let ip = peer?.ip();
                self.made(|buffer| write!(buffer, "{ip}"))
            }
            Fact::Port => {
                let port = peer?.port();
                self.made(|buffer| write!(buffer, "{port}"))
            }
            Fact::ServerIp => {
                let ip = server?.ip();
                self.made(|buffer| write!(buffer, "{ip}"))
            }
            Fact::ServerPort => {
                let port = server?.port();
                self.made(|buffer| write!(buffer, "{port}"))
            }
        }
    }
}
