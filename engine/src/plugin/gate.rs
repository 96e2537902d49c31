//! Gates: plugins that answer a query themselves, drop it, change its question, or pass it on.
//! Their rules are in the plugins' own files.
//!
//! Invariant: a gate that passes a query on, or pursues, has written no response over it.

use std::net::SocketAddr;
use std::sync::Arc;

use wire::header::CLASS_IN;
use wire::name::Name;
use wire::reply::Stamped;

use super::acl::AccessRules;
use super::any;
use super::autopath::AutopathGate;
use super::chaos::ChaosAnswers;
use super::dns64::Dns64Gate;
use super::erratic::Faults;
use super::exchange::Exchange;
use super::header::FlagChange;
use super::local::LocalNames;
use super::pattern::Pattern;
use super::pursuit::Pursuit;
use super::rewrite::Rules;
use super::template::rule::TemplateRule;
use super::whoami;
use crate::corefile::value::zone::Zone;
use crate::metrics::answerer::Answerer;

/// A gate of a block, in CoreDNS's order.
#[derive(Clone, Debug)]
pub enum Gate {
    Local(LocalNames),
    Dns64(Dns64Gate),
    Any,
    Chaos(Arc<ChaosAnswers>),
    Rewrite(Arc<Rules>),
    Autopath(AutopathGate),
    Acl(AccessRules),
    Header(FlagChange),
    Template(Arc<TemplateRule>),
    Erratic(Arc<Faults>),
    Whoami,
}

/// A question that CNAMEs lead to, of class IN.
#[derive(Clone, Copy)]
pub struct CnameTarget<'t> {
    pub name: &'t Name,
    /// The name as text.
    pub text: &'t [u8],
    pub qtype: u16,
    /// Those of the gate's block; `None` if they are not at hand.
    pub patterns: Option<&'t [Pattern]>,
}

/// What a gate does with a query.
pub enum Passage {
    /// The next one continues, maybe with another question: see `Exchange::ask_instead`.
    Pass,
    /// The response has been written.
    Answer(Stamped, Answerer),
    /// There is no response.
    Drop,
    /// The response needs look-ups in this server, or comes later.
    Pursue(Box<Pursuit>),
    /// The response is SERVFAIL, and `errors` logs it with the reason that is in the trail. For an
    /// error that is not logged, use `Answer` with `stamp_reject`.
    Fail,
}

impl Gate {
    /// Decides about the query at the beginning of `message`.
    pub fn pass(&self, exchange: &mut Exchange<'_>, message: &mut [u8]) -> Passage {
        if exchange.query.qclass != CLASS_IN && !self.knows_classes() {
            return Passage::Pass;
        }
        match self {
            Self::Local(local) => local.pass(exchange, message),
            Self::Dns64(dns64) => dns64.pass(exchange),
            Self::Any => any::pass(exchange, message),
            Self::Autopath(autopath) => autopath.pass(exchange),
            Self::Chaos(answers) => answers.pass(exchange, message),
            Self::Acl(rules) => rules.pass(exchange, message),
            Self::Header(change) => change.pass(exchange),
            Self::Erratic(faults) => faults.pass(exchange, message),
            Self::Whoami => whoami::pass(exchange, message),
            Self::Template(rule) => rule.pass(exchange, message),
            Self::Rewrite(rules) => rules.pass(exchange, message),
        }
    }

    /// Its directive.
    #[must_use]
    pub const fn plugin(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Dns64(_) => "dns64",
            Self::Any => "any",
            Self::Chaos(_) => "chaos",
            Self::Rewrite(_) => "rewrite",
            Self::Autopath(_) => "autopath",
            Self::Acl(_) => "acl",
            Self::Header(_) => "header",
            Self::Template(_) => "template",
            Self::Erratic(_) => "erratic",
            Self::Whoami => "whoami",
        }
    }

    /// The rules of `rewrite`.
    #[must_use]
    pub const fn rewrite(&self) -> Option<&Arc<Rules>> {
        match self {
            Self::Rewrite(rules) => Some(rules),
            Self::Local(_)
            | Self::Dns64(_)
            | Self::Any
            | Self::Autopath(_)
            | Self::Chaos(_)
            | Self::Acl(_)
            | Self::Header(_)
            | Self::Erratic(_)
            | Self::Whoami
            | Self::Template(_) => None,
        }
    }

    /// Whether a client may have the records of a name that CNAMEs lead to. `peer`: the client's
    /// address, if it is known.
    #[must_use]
    pub fn allows_target(&self, name: &Name, qtype: u16, peer: Option<SocketAddr>) -> bool {
        match self {
            Self::Acl(rules) => peer.is_some_and(|peer| rules.allows(name, qtype, peer.ip())),
            Self::Local(_)
            | Self::Dns64(_)
            | Self::Any
            | Self::Autopath(_)
            | Self::Chaos(_)
            | Self::Header(_)
            | Self::Erratic(_)
            | Self::Whoami
            | Self::Template(_)
            | Self::Rewrite(_) => true,
        }
    }

    /// Whether it may answer or change a query for the target of CNAMEs.
    #[must_use]
    pub fn takes(&self, target: CnameTarget<'_>) -> bool {
        match self {
            Self::Local(local) => local.takes(target.name),
            Self::Rewrite(rules) => rules.changes(target),
            Self::Template(rule) => rule.takes(target),
            // It sees the whole answer.
            Self::Dns64(_) => false,
            // `allows_target` has asked it.
            Self::Acl(_) => false,
            Self::Any
            | Self::Autopath(_)
            | Self::Chaos(_)
            | Self::Header(_)
            | Self::Erratic(_)
            | Self::Whoami => false,
        }
    }

    /// Whether it sees queries of classes other than IN.
    const fn knows_classes(&self) -> bool {
        match self {
            Self::Dns64(_)
            | Self::Any
            | Self::Autopath(_)
            | Self::Local(_)
            | Self::Erratic(_)
            | Self::Whoami
            | Self::Header(_) => false,
            Self::Chaos(_) | Self::Acl(_) | Self::Template(_) | Self::Rewrite(_) => true,
        }
    }

    /// Whether it reads the client's address, or may start a pursuit, which keeps the address for
    /// the gates that see its look-ups.
    #[must_use]
    pub fn reads_peer(&self) -> bool {
        match self {
            Self::Dns64(_) | Self::Autopath(_) | Self::Whoami | Self::Acl(_) => true,
            Self::Any | Self::Local(_) | Self::Chaos(_) | Self::Header(_) | Self::Erratic(_) => {
                false
            }
            Self::Rewrite(rules) => rules.reads_peer(),
            Self::Template(rule) => rule.reads_peer(),
        }
    }

    /// Whether the fast path may skip it, with the reason: the fast path answers none of its
    /// queries. `zones`: those of the tables that the fast path answers from.
    #[must_use]
    pub fn allows_fast_path(&self, zones: &[Zone]) -> bool {
        match self {
            // A table's answer to AAAA is looked at.
            Self::Dns64(_) => false,
            // The fast path leaves type ANY to the full path.
            Self::Any => true,
            // A name that a table stores is not searched for further.
            Self::Autopath(_) => true,
            // It leaves classes other than IN to the full path.
            Self::Chaos(_) => true,
            // They are asked after the tables.
            Self::Erratic(_) | Self::Whoami => true,
            // It decides about every query.
            Self::Acl(_) => false,
            // The RD of a response is the query's.
            Self::Header(_) => false,
            // A table may store localhost, or a name that begins with it.
            Self::Local(_) => false,
            // It lets names outside of its own zones pass.
            Self::Template(rule) => !rule.meets(zones),
            // Its rules are about names outside of the tables, or about other queries.
            Self::Rewrite(rules) => !rules.meets(zones),
        }
    }
}
