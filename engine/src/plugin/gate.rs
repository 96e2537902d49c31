//! Gates: plugins that decide about a query before any source of answers is asked.

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
    /// The next stage has it.
    Pass,
    /// The response is written.
    Answer(Stamped, Answerer),
}

impl Gate {
    /// Decides about the query, which begins `message`.
    pub fn pass(&self, exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
        match self {
            Self::Any => any::pass(exchange, message),
        }
    }

    /// Whether the fast path may skip it, with the reason: no query that it decides about is answered there.
    #[must_use]
    pub const fn is_harmless_at_a_glance(&self) -> bool {
        match self {
            // The fast path leaves type ANY to the full one.
            Self::Any => true,
        }
    }
}
