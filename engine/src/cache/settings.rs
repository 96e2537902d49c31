//! The settings of one `cache` line; `plugin/cache.rs` reads them.

use std::time::Duration;

use crate::corefile::value::zone::Zone;

/// One `cache` line; defaults in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSettings {
    /// The zones whose answers are kept [the block's keys].
    pub zones: Vec<Zone>,
    /// Answers with data [9984 entries, 5 s to 3600 s].
    pub success: Share,
    /// NXDOMAIN and NODATA [9984 entries, 5 s to 1800 s].
    pub denial: Share,
    /// How long a SERVFAIL is kept; zero: not at all; at most five minutes [5 s].
    pub servfail: Duration,
    pub prefetch: Option<Prefetch>,
    pub serve_stale: Option<ServeStale>,
    /// `disable success`: zones whose answers are not kept.
    pub disable_success: Vec<Zone>,
    /// `disable denial`
    pub disable_denial: Vec<Zone>,
    /// Answers keep the TTL that they came with.
    pub keepttl: bool,
}

/// A kind of answers in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Entries of all shards together hold copies of the same answers: the bound is each shard's. At
    /// least 1024.
    pub capacity: usize,
    pub ttl_max: Duration,
    pub ttl_min: Duration,
}

/// `prefetch AMOUNT [DURATION [PERCENTAGE]]`: popular answers are asked for again before they
/// expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Hits that make an answer popular; at least 1.
    pub amount: u32,
    /// With no longer gap than this between them [1 m].
    pub within: Duration,
    /// When so much of its TTL is left, 10 to 90 [10].
    pub percentage: u8,
}

/// `serve_stale [DURATION [MODE]]`; defaults in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeStale {
    /// For so long after they expired [1 h].
    pub keep: Duration,
    pub mode: Stale,
    /// `serve_stale_policy prefer_positive`
    pub prefers_positive: bool,
}

/// When a stale answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// At once; a fresh one is asked for meanwhile.
    Immediate {
        /// TTL of the stale answer, whole seconds [0].
        ttl: Duration,
        /// After a failure, how long until the upstream is asked again [each time].
        recheck: Option<Duration>,
    },
    /// When the upstream has failed to give a fresh one.
    Verify {
        /// How long that is waited for [no longer than the upstream is].
        timeout: Option<Duration>,
        /// TTL of the stale answer, whole seconds [0].
        ttl: Duration,
        /// After a failure, how long until the upstream is asked again; meanwhile the stale answer is
        /// given at once [each time].
        recheck: Option<Duration>,
    },
}

impl Default for CacheSettings {
    /// CoreDNS's defaults; no zones.
    fn default() -> Self {
        let share = |ttl_max_secs| Share {
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
