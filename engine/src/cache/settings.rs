//! The settings of one `cache` line. The plugin parses them. Invariant: plain data.

use std::time::Duration;

use crate::corefile::value::zone::Zone;

/// One `cache` line; defaults in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSettings {
    /// The zones whose responses are cached [the block's keys].
    pub zones: Vec<Zone>,
    /// Responses with data [9984 entries, 5 s to 3600 s].
    pub success: EntryLimits,
    /// NXDOMAIN and NODATA [9984 entries, 5 s to 1800 s].
    pub denial: EntryLimits,
    /// How long a SERVFAIL is cached, at most five minutes; zero: not at all [5 s].
    pub servfail: Duration,
    pub prefetch: Option<Prefetch>,
    pub serve_stale: Option<ServeStale>,
    /// `disable success`: zones whose responses with data are not cached.
    pub disable_success: Vec<Zone>,
    /// `disable denial`: zones whose denials are not cached.
    pub disable_denial: Vec<Zone>,
    /// Cached responses keep their original TTL, stale ones if `serve_stale` sets none.
    pub keepttl: bool,
}

/// The limits of one type of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLimits {
    /// Entries per shard, since shards cache the same responses. At least 1024.
    pub capacity: usize,
    pub ttl_max: Duration,
    pub ttl_min: Duration,
}

/// `prefetch AMOUNT [DURATION [PERCENTAGE]]`: popular entries are refreshed before they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Hits that make an entry popular; at least 1.
    pub amount: u32,
    /// The longest gap between these hits [1 m].
    pub within: Duration,
    /// The part of the lifetime that is left when the refresh starts, 10 to 90 [10].
    pub percentage: u8,
}

/// `serve_stale [DURATION [MODE]]`; defaults in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeStale {
    /// How long after its expiry an entry may be served [1 h].
    pub keep: Duration,
    pub mode: Stale,
    /// `serve_stale_policy prefer_positive`
    pub prefers_positive: bool,
}

/// When a stale entry is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Immediately, while it is refreshed.
    Immediate {
        /// TTL of the stale response, whole seconds; zero: none of its own [0].
        ttl: Duration,
        /// After a failure, how long until the next refresh; zero: with each query [`servfail`].
        recheck: Option<Duration>,
    },
    /// After the refresh has failed.
    Verify {
        /// The longest time to wait for the refresh [as long as upstreams are waited for].
        timeout: Option<Duration>,
        /// TTL of the stale response, whole seconds; zero: none of its own [0].
        ttl: Duration,
        /// After a failure, how long until the next refresh; zero: with each query. Meanwhile the
        /// stale response is served immediately [`servfail`].
        recheck: Option<Duration>,
    },
}

impl Default for CacheSettings {
    /// CoreDNS's defaults; no zones.
    fn default() -> Self {
        let share = |ttl_max_secs| EntryLimits {
            capacity: 9984,
            ttl_max: Duration::from_secs(ttl_max_secs),
            ttl_min: Duration::from_secs(5),
        };
        Self {
            zones: Vec::new(),
            success: share(3600),
            denial: share(1800),
            servfail: Duration::from_secs(5),
            prefetch: None,
            serve_stale: None,
            disable_success: Vec::new(),
            disable_denial: Vec::new(),
            keepttl: false,
        }
    }
}
