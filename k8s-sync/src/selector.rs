//! Label selectors, parsed already: the API server gets their text, manifests are matched here.

use std::collections::BTreeMap;

/// What `labels` and `namespace_labels` ask for, twice: neither says more than the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// For the API server, which parses it itself.
    pub text: String,
    /// All of them must hold; none selects everything.
    pub requirements: Vec<Requirement>,
}

/// What one label must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
}

/// Kubernetes's operators, with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    Exists,
    DoesNotExist,
    /// `=` too.
    In(Vec<String>),
    /// `!=` too. Holds where there is no such label.
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
