//! A question as the caches and the upstreams know it, owned.
//!
//! The cache's borrowed form of it is `cache::CacheKey`. Invariant: two equal questions may share a
//! cache entry and an upstream response.

use wire::header::CLASS_IN;

/// A question, and the flags that change its response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnedQuestion {
    /// Wire format, lower case, uncompressed: 1 to 255 bytes, root label included.
    pub name: Box<[u8]>,
    pub qtype: u16,
    pub qclass: u16,
    /// DO
    pub dnssec_ok: bool,
    /// CD
    pub checking_disabled: bool,
}

impl OwnedQuestion {
    /// Of class IN, without DO and CD. `name`: as in the field.
    #[must_use]
    pub fn new(name: &[u8], qtype: u16) -> Self {
        Self {
            name: name.into(),
            qtype,
            qclass: CLASS_IN,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }
}
