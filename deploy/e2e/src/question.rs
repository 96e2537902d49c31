//! One question: a name and a type.

use std::fmt;

use domain::base::iana::Rtype;
use serde::{Deserialize, Deserializer};

/// A name as text, in the case in which it is asked, with its last dot; and a type.
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

    /// The name in lower case: what decides the answer.
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
    text.parse().map_err(|_| serde::de::Error::custom(format!("no record type: {text}")))
}
