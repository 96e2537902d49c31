//! `rewrite`: changes queries before the other plugins see them, and their responses.
//!
//! Here are the settings. `read` makes them from the words of a Corefile, `rules` applies them to
//! queries, `response` to responses. Invariant: all `rewrite` lines of a block are one list of
//! rules, in the order of the Corefile.

mod cname;
mod edns;
mod matcher;
mod read;
mod replacement;
mod response;
mod rules;

use std::future::ready;
use std::sync::Arc;

use super::Plugin;
use super::draft::{BlockDraft, LoadContext, Loading};
use super::finish::Finish;
use super::gate::Gate;
use super::go_regex::GoRegex;
use super::metadata::QueryLabels;
use cname::CnameRule;
use edns::EdnsRule;
use replacement::Replacement;

pub use cname::CnamePursuit;
pub use edns::Ends;
pub(crate) use read::{USAGE, read};
pub use rules::Rules;

/// The `rewrite` lines of a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    pub rules: Vec<Rule>,
}

/// `[continue|stop] FIELD …`
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What happens after it has matched [stop].
    pub mode: Mode,
    pub field: Field,
}

/// Whether the rules after one that matched are tried too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Continue,
    Stop,
}

/// What a rule changes, and when.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    Name(NameRule),
    Type {
        from: u16,
        to: u16,
    },
    Class {
        from: u16,
        to: u16,
    },
    /// TTLs in responses about these names become at least `min_secs` and at most `max_secs`.
    Ttl {
        names: NameMatch,
        min_secs: u32,
        max_secs: u32,
    },
    Cname(CnameRule),
    Edns(EdnsRule),
    /// The response code, 0 to 23.
    Rcode {
        names: NameMatch,
        from: u16,
        to: u16,
    },
}

/// `name`: another question is asked, and the names in the response change back.
#[derive(Clone, Debug, PartialEq)]
pub struct NameRule {
    pub from: NameMatch,
    pub to: Replacement,
    /// `answer auto`
    pub is_auto: bool,
    /// `answer name` and `answer value`, in their order.
    pub answers: Vec<AnswerRule>,
}

/// Which names a rule matches. The text of a name is compared, in lower case and with a dot at its
/// end.
#[derive(Clone, Debug, PartialEq)]
pub enum NameMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(GoRegex),
}

/// `answer name FROM TO`, `answer value FROM TO`: names in the response become others.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerRule {
    pub part: AnswerPart,
    pub from: GoRegex,
    pub to: Replacement,
}

/// The name of a record that an answer rule changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    Owner,
    /// The name in the data, such as a CNAME's target.
    Value,
}

impl Plugin for Rewrite {
    fn name(&self) -> &'static str {
        "rewrite"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let labels = QueryLabels::of(context.block);
        let rules = Arc::new(Rules::new(self, labels, block));
        block.gates.push(Gate::Rewrite(Arc::clone(&rules)));
        block.finishes.push(Finish::Rewrite(rules));
        Box::pin(ready(Ok(())))
    }
}
