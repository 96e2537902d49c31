//! Parsed label selectors. The API server gets the text; manifests are matched here.

use std::collections::BTreeMap;

/// `labels` or `namespace_labels`, as text and parsed. Both forms select the same objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// For the API server, which parses it itself.
    pub text: String,
    /// All of them must hold. Without requirements, everything matches.
    pub requirements: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
}

/// The operators of Kubernetes, with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    Exists,
    DoesNotExist,
    /// Also `=`.
    In(Vec<String>),
    /// Also `!=`. Holds if the label is missing.
    NotIn(Vec<String>),
}

impl Selector {
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}
