//! Finishes: plugins that change a complete response before it is sent. Their rules are in the
//! plugins' own files.

use wire::query::Edns;

use super::bufsize::BufSize;
use crate::client::Arrival;

/// A finish of a block. Finishes run in the reverse of CoreDNS's order, as in CoreDNS: the last
/// plugin sees a response first.
#[derive(Clone, Debug)]
pub enum Finish {
    BufSize(BufSize),
}

impl Finish {
    /// Changes the response, which is the first `len` bytes of `message`, and returns its new
    /// length. `edns` is the query's.
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
    pub const fn allows_fast_path(&self) -> bool {
        match self {
            // Any response of the block may be truncated.
            Self::BufSize(_) => false,
        }
    }
}
