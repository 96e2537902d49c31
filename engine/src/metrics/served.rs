//! Facts for the status page: what is served, and what has changed.
//!
//! The control plane writes them; no metric family is made of them.

use std::net::SocketAddr;
use std::time::SystemTime;

/// A server block of the running Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its keys, such as `.:53` or `tls://example.org.:853`.
    pub keys: Vec<String>,
    /// In the order in which they are called.
    pub plugins: Vec<&'static str>,
    /// `FILE:LINE` of its first key.
    pub place: String,
}

/// A socket that queries arrive at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerFacts {
    pub address: SocketAddr,
    /// Such as `UDP and TCP`.
    pub transports: &'static str,
}

/// An upstream of the running Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFacts {
    pub address: SocketAddr,
    pub is_tls: bool,
    /// The file or the host name that the address comes from.
    pub origin: Option<String>,
}

/// Something that an operator may ask about later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeFacts {
    pub at: SystemTime,
    pub kind: ChangeKind,
    pub text: String,
}

/// What a change means for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Wanted: a new Corefile, a table that has been read.
    News,
    /// A problem has begun.
    Problem,
    /// A problem is over.
    Solved,
}
