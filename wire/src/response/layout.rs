//! The layout of each type's data: where it contains names.
//!
//! Invariant: the data of a type that is not listed here has no compressed names, so it may be
//! copied as it is (RFC 3597, section 4).

use super::name::Compression;
use crate::header::{TYPE_A, TYPE_AAAA, TYPE_SOA, TYPE_SRV};

pub(crate) const TYPE_NAPTR: u16 = 35;
pub(crate) const TYPE_DNAME: u16 = 39;

/// The parts of a type's data: bytes, names, bytes.
pub(crate) struct Layout {
    pub(crate) head_len: usize,
    pub(crate) name_count: usize,
    /// Bytes after the names; `None`: any number.
    pub(crate) tail_len: Option<usize>,
    /// How names are compressed in the copy.
    pub(crate) compression: Compression,
}

impl Layout {
    /// Only names in the types of RFC 1035 are written compressed. Those of some later types are
    /// read compressed, because some servers send them so (RFC 3597, section 4; RFC 2782; RFC 6672,
    /// section 2.5). `None` if the data is too short.
    pub(crate) fn of(rtype: u16, rdata: &[u8]) -> Option<Self> {
        let (head_len, name_count, tail_len, is_compressed) = match rtype {
            TYPE_A => (4, 0, Some(0), false),
            TYPE_AAAA => (16, 0, Some(0), false),
            // NS, MD, MF, CNAME, MB, MG, MR, PTR
            2..=5 | 7..=9 | 12 => (0, 1, Some(0), true),
            TYPE_SOA => (0, 2, Some(20), true),
            // MINFO, MX
            14 => (0, 2, Some(0), true),
            15 => (2, 1, Some(0), true),
            // RP; AFSDB, RT, KX; PX; NXT
            17 => (0, 2, Some(0), false),
            18 | 21 | 36 => (2, 1, Some(0), false),
            26 => (2, 2, Some(0), false),
            30 => (0, 1, None, false),
            TYPE_SRV => (6, 1, Some(0), false),
            TYPE_NAPTR => (naptr_head_len(rdata)?, 1, Some(0), false),
            TYPE_DNAME => (0, 1, Some(0), false),
            // SVCB, HTTPS
            64 | 65 => (2, 1, None, false),
            _ => (0, 0, None, false),
        };
        let compression = if is_compressed { Compression::AsSource } else { Compression::Off };
        Some(Self { head_len, name_count, tail_len, compression })
    }
}

/// Order, preference and three character-strings (RFC 3403, section 4.1).
fn naptr_head_len(rdata: &[u8]) -> Option<usize> {
    (0..3).try_fold(4, |at, _| Some(at + 1 + usize::from(*rdata.get(at)?)))
}
