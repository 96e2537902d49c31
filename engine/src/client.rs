//! Who sent a query, and how: transport, address family, listener. The ground floor of the engine: it
//! imports nothing above it.

use wire::query::Query;
use wire::reply::{Envelope, MESSAGE_LEN_MAX, UDP_LEN_MAX};

/// How a query arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// The limits of a response to this query. `rotation`: see `Envelope`.
    #[inline]
    #[must_use]
    pub fn envelope(self, query: &Query, rotation: usize) -> Envelope {
        let len_max = match self {
            Self::Udp => Envelope::udp_len_max(query.edns, UDP_LEN_MAX),
            Self::Tcp => MESSAGE_LEN_MAX,
        };
        Envelope { len_max, rotation }
    }
}

/// The client's address family: CoreDNS's label `family` is 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A socket of the shard, by index. An address keeps its id across reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub usize);
