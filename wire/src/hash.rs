//! The hash by which tables find names.
//!
//! Invariant: tables made with one `HashSeed` give a name one hash, so a name is hashed once
//! however many of them are asked. A process draws one seed and makes all its tables with it.

use core::hash::{BuildHasher as _, Hasher as _};

use rapidhash::fast::SeedableState;
use rapidhash::v3::RapidSecrets;

use crate::name::Block;

/// What makes hashes unpredictable: without it, those who name a cluster's objects could pile them
/// up in one segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSeed(RapidSecrets);

/// The 64-bit hash of a name: 8 bytes where the name would be 45. Look-ups compare names; only
/// removal and the pointers of `reverse` trust the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameHash(pub(crate) u64);

impl HashSeed {
    /// `random`: drawn once per process from a source that others cannot predict.
    #[must_use]
    pub const fn new(random: u64) -> Self {
        Self(RapidSecrets::seed(random))
    }

    /// A hash of any bytes, to find out whether they have changed.
    #[must_use]
    pub fn fingerprint(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SeedableState::custom(self.0.seed, &self.0.secrets).build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    #[inline(always)]
    pub(crate) fn hash(&self, name: &[Block]) -> u64 {
        let mut hasher = SeedableState::custom(self.0.seed, &self.0.secrets).build_hasher();
        for block in name {
            hasher.write_u128(u128::from_le_bytes(*block));
        }
        hasher.finish()
    }
}

/// Keeps the seed out of logs.
impl core::fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashSeed")
    }
}
