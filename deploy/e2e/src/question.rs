//! A question: a name and a type.

use std::fmt;

use domain::base::iana::Rtype;
use serde::{Deserialize, Deserializer};

/// A name as text with its final dot, in the letter case of the query, and a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct Question {
    pub name: String,
    #[serde(rename = "type", deserialize_with = "rtype_from_text")]
    pub rtype: Rtype,
}

impl Question {
    pub fn new(name: impl Into<String>, rtype: Rtype) -> Self {
        Self { name: name.into(), rtype }
    }

    /// The name in lower case, which determines the answer.
    pub fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    pub fn first_label(&self) -> String {
        self.key().split('.').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.rtype)
    }
}

fn rtype_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rtype, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("not a record type: {text}")))
}
