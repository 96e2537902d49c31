//! Gates: plugins that decide about a query before any source of answers. Their rules are in the
//! plugins' own files.
//!
//! Invariant: a gate either writes the response or passes the query on.

use wire::reply::Stamped;

use super::any;
use crate::client::Exchange;
use crate::metrics::answerer::Answerer;

/// A gate of a block, in CoreDNS's order.
#[derive(Clone, Debug)]
pub enum Gate {
    Any,
}

/// What a gate does with a query.
pub enum Passage {
    /// The next stage continues.
    Pass,
    /// The response has been written.
    Answer(Stamped, Answerer),
}

impl Gate {
    /// Decides about the query at the beginning of `message`.
    pub fn pass(&self, exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
        match self {
            Self::Any => any::pass(exchange, message),
        }
    }

    /// Whether it reads the client's address.
    #[must_use]
    pub const fn reads_peer(&self) -> bool {
        match self {
            Self::Any => false,
        }
    }

    /// Whether the fast path may skip it, with the reason: the fast path answers none of its
    /// queries.
    #[must_use]
    pub const fn allows_fast_path(&self) -> bool {
        match self {
            // The fast path leaves type ANY to the full path.
            Self::Any => true,
        }
    }
}
