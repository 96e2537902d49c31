//! What the expressions of a template work with, and the data of a query that they can name.
//!
//! Invariant: `FIELDS` has a row for each field, and `TemplateFacts` a value for each row.

use std::cmp::Ordering;
use std::net::IpAddr;

use wire::header::RD;
use wire::name::Name;
use wire::query::Query;

use super::EvalError;
use crate::plugin::metadata::QueryLabels;

/// The value of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// What a map does not have; also `nil`.
    Missing,
    Flag(bool),
    /// Of any Go type: no value here is outside of 64 bits with or without a sign.
    Integer(i128),
    Text(String),
    List(Vec<Self>),
    /// Sorted by key, each once.
    Map(Vec<(String, Self)>),
    /// Only its fields can be used.
    Struct(DataStruct),
}

/// The structs that templates see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataStruct {
    /// The dot of the whole template.
    Query,
    /// `.Message`
    Message,
    /// `.Question`
    Question,
}

/// What is known about a value before any query comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Text,
    Number,
    Flag,
    Texts,
    /// `.Group`: any field of it may exist.
    Groups,
    Questions,
    Struct(DataStruct),
    /// Nothing.
    Unknown,
}

use DataStruct::{Message, Query as Data, Question};

/// The fields of structs, in Go's spelling.
pub(super) const FIELDS: [(DataStruct, &str, ValueKind); 24] = [
    (Data, "Zone", ValueKind::Text),
    (Data, "Name", ValueKind::Text),
    (Data, "Class", ValueKind::Text),
    (Data, "Type", ValueKind::Text),
    (Data, "Regex", ValueKind::Text),
    (Data, "Match", ValueKind::Texts),
    (Data, "Group", ValueKind::Groups),
    (Data, "Remote", ValueKind::Text),
    (Data, "Message", ValueKind::Struct(Message)),
    (Data, "Question", ValueKind::Struct(Question)),
    (Question, "Name", ValueKind::Text),
    (Question, "Qtype", ValueKind::Number),
    (Question, "Qclass", ValueKind::Number),
    (Message, "Id", ValueKind::Number),
    (Message, "Response", ValueKind::Flag),
    (Message, "Opcode", ValueKind::Number),
    (Message, "Authoritative", ValueKind::Flag),
    (Message, "Truncated", ValueKind::Flag),
    (Message, "RecursionDesired", ValueKind::Flag),
    (Message, "RecursionAvailable", ValueKind::Flag),
    (Message, "AuthenticatedData", ValueKind::Flag),
    (Message, "CheckingDisabled", ValueKind::Flag),
    (Message, "Rcode", ValueKind::Number),
    (Message, "Question", ValueKind::Questions),
];

/// The row of a field; `None` if the struct has none of this name.
pub(super) fn field_kind(of: DataStruct, name: &str) -> Option<ValueKind> {
    FIELDS.iter().find(|row| row.0 == of && row.1 == name).map(|row| row.2)
}

/// A query that matched, as templates see it.
#[derive(Clone, Copy)]
pub(crate) struct TemplateFacts<'q> {
    pub(crate) zone: &'q str,
    /// In lower case.
    pub(crate) name: &'q str,
    /// Empty if it has no mnemonic, like the type.
    pub(crate) class: &'q str,
    pub(crate) rtype: &'q str,
    pub(crate) regex: &'q str,
    /// The groups of the match: each with its name, if it has one. The first is the whole match.
    pub(crate) groups: &'q [(Option<&'q str>, &'q str)],
    pub(crate) peer: Option<IpAddr>,
    /// `None` before there is any.
    pub(crate) query: Option<&'q Query>,
    /// The name as the client spelled it.
    pub(crate) asked_name: &'q str,
    pub(crate) id: u16,
    /// The labels of `metadata`, and the name that they are computed from.
    pub(crate) labels: Option<(&'q QueryLabels, &'q Name)>,
}

impl TemplateFacts<'_> {
    /// Of no query.
    pub(crate) const NONE: Self = Self {
        zone: "",
        name: "",
        class: "",
        rtype: "",
        regex: "",
        groups: &[],
        peer: None,
        query: None,
        asked_name: "",
        id: 0,
        labels: None,
    };

    /// The value of a label of `metadata`; empty if there is none.
    pub(super) fn label(&self, label: &str) -> String {
        let mut text = String::new();
        if let Some((labels, name)) = self.labels {
            // A `String` is never full.
            let _ = labels.write(label, name, &mut text);
        }
        text
    }

    /// The value of a field; `None` if the struct has none of this name.
    pub(super) fn field(&self, of: DataStruct, name: &str) -> Option<Value> {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let number = |number: u16| Some(Value::Integer(number.into()));
        match (of, name) {
            (Data, "Zone") => text(self.zone),
            (Data, "Name") => text(self.name),
            (Data, "Class") => text(self.class),
            (Data, "Type") => text(self.rtype),
            (Data, "Regex") => text(self.regex),
            (Data, "Match") => {
                let texts = self.groups.iter().map(|group| Value::Text(group.1.to_owned()));
                Some(Value::List(texts.collect()))
            }
            (Data, "Group") => Some(self.group_map()),
            (Data, "Remote") => Some(Value::Text(
                self.peer.map_or_else(String::new, |ip| ip.to_canonical().to_string()),
            )),
            (Data, "Message") => Some(Value::Struct(Message)),
            (Data, "Question") => Some(Value::Struct(Question)),
            (Question, "Name") => text(self.asked_name),
            (Question, "Qtype") => number(self.query.map_or(0, |query| query.qtype)),
            (Question, "Qclass") => number(self.query.map_or(0, |query| query.qclass)),
            (Message, "Id") => number(self.id),
            // What every query has that is answered.
            (Message, "Opcode" | "Rcode") => number(0),
            (
                Message,
                "Response" | "Authoritative" | "Truncated" | "RecursionAvailable"
                | "AuthenticatedData",
            ) => Some(Value::Flag(false)),
            (Message, "RecursionDesired") => {
                Some(Value::Flag(self.query.is_some_and(|query| query.kept_flags & RD != 0)))
            }
            (Message, "CheckingDisabled") => {
                Some(Value::Flag(self.query.is_some_and(Query::checking_disabled)))
            }
            (Message, "Question") => Some(Value::List(vec![Value::Struct(Question)])),
            (Data | Question | Message, _) => None,
        }
    }

    /// By number and by name. Of groups with one name, the last counts.
    fn group_map(&self) -> Value {
        let mut map = std::collections::BTreeMap::new();
        for (index, (_, text)) in self.groups.iter().enumerate() {
            map.insert(index.to_string(), Value::Text((*text).to_owned()));
        }
        for (name, text) in self.groups {
            if let Some(name) = name {
                map.insert((*name).to_owned(), Value::Text((*text).to_owned()));
            }
        }
        Value::Map(map.into_iter().collect())
    }
}

impl Value {
    /// As Go's templates decide an `if`.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Flag(flag) => *flag,
            Self::Integer(number) => *number != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Struct(_) => true,
        }
    }

    /// Bytes that it takes, more or less.
    pub(super) fn len_hint(&self) -> usize {
        match self {
            Self::Missing | Self::Flag(_) | Self::Integer(_) | Self::Struct(_) => 1,
            Self::Text(text) => text.len(),
            Self::List(list) => list.iter().map(Self::len_hint).sum(),
            Self::Map(map) => map.iter().map(|(key, value)| key.len() + value.len_hint()).sum(),
        }
    }

    /// What a map has under a key.
    pub(super) fn get(map: &[(String, Self)], key: &str) -> Option<Self> {
        map.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
    }

    /// Its order by another one, as `lt` and its like define it.
    pub(super) fn order(&self, other: &Self) -> Result<Ordering, EvalError> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Ok(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Ok(one.cmp(other)),
            (
                Self::Missing
                | Self::Flag(_)
                | Self::Integer(_)
                | Self::Text(_)
                | Self::List(_)
                | Self::Map(_)
                | Self::Struct(_),
                _,
            ) => Err(EvalError("incompatible types for comparison")),
        }
    }

    /// Whether `eq` finds them equal.
    pub(super) fn equals(&self, other: &Self) -> Result<bool, EvalError> {
        match (self, other) {
            (Self::Missing, _) | (_, Self::Missing) => Ok(self == other),
            (Self::Flag(one), Self::Flag(other)) => Ok(one == other),
            (
                Self::Flag(_)
                | Self::Integer(_)
                | Self::Text(_)
                | Self::List(_)
                | Self::Map(_)
                | Self::Struct(_),
                _,
            ) => self.order(other).map(Ordering::is_eq),
        }
    }

    /// Go's name of its type, for messages of `printf`.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing => "<nil>",
            Self::Flag(_) => "bool",
            Self::Integer(_) => "int",
            Self::Text(_) => "string",
            Self::List(_) => "[]string",
            Self::Map(_) => "map[string]string",
            Self::Struct(_) => "struct",
        }
    }
}
