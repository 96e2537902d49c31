//! The seed of the name hashes in every table.
//!
//! Invariant: there is one seed per process, so that a name has the same hash in all tables.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use wire::hash::HashSeed;

pub(super) static HASH_SEED: LazyLock<HashSeed> =
    LazyLock::new(|| HashSeed::new(RandomState::new().hash_one(0)));
