//! The bounds of reading a Corefile. Each is far above what a ConfigMap (1 MiB) can hold with
//! sense, and low enough that a hostile or mistaken file ends in an error, not in a full memory.

/// Imports followed in one Corefile, snippets and files together: CoreDNS's bound.
pub(super) const IMPORT_COUNT_MAX: usize = 10_000;

/// Words read, counting an imported file or snippet each time that it is imported: 1 MiB of
/// one-letter words is half of this.
pub(super) const TOKEN_COUNT_MAX: usize = 1 << 20;

/// Bytes of one file: four times what a ConfigMap can hold.
pub(super) const FILE_LEN_MAX: u64 = 4 << 20;

/// Braces within braces. CoreDNS's plugins need three.
pub(super) const NESTING_MAX: usize = 16;

/// Zones after CIDRs have been expanded: 512 times the most that one CIDR gives (an IPv4 /1, /9,
/// /17 or /25: 128).
pub(super) const ZONE_COUNT_MAX: usize = 512 * 128;

/// Addresses of one block's `bind`: far more than a machine has, but for those of a Service proxy's
/// dummy interface.
pub(super) const BIND_COUNT_MAX: usize = 4096;

/// Mistakes, and as many warnings, that are kept; further ones are counted.
pub(super) const MISTAKE_COUNT_MAX: usize = 50;

/// Longest line that is shown with its mistake underlined; a longer one fills the screen instead of
/// helping.
pub(super) const EXCERPT_COLUMN_MAX: usize = 400;

/// Most characters of a word that a message repeats.
pub(super) const QUOTED_LEN_MAX: usize = 80;
