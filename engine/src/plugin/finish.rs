//! Finishes: plugins that change a finished response before it leaves.

use wire::query::Edns;

use super::bufsize::BufSize;
use crate::client::Arrival;

/// A finish of a block. They run in the reverse of CoreDNS's order, as there: the last plugin sees a response
/// first.
#[derive(Clone, Debug)]
pub enum Finish {
    BufSize(BufSize),
}

impl Finish {
    /// Changes the response of `len` bytes in `message` and returns its new length. `edns`: the query's.
    pub fn run(
        &self,
        edns: Option<Edns>,
        arrival: &Arrival,
        message: &mut [u8],
        len: usize,
    ) -> usize {
        match self {
            Self::BufSize(bufsize) => bufsize.finish(edns, arrival, message, len),
        }
    }

    /// Whether the fast path may skip it, with the reason.
    #[must_use]
    pub const fn is_harmless_at_a_glance(&self) -> bool {
        match self {
            // Every response of the block may be cut.
            Self::BufSize(_) => false,
        }
    }
}
