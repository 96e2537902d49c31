//! Words of a zone file: what each stands for, by the words before it in its entry.
//!
//! Not here: where a word ends, and what is written instead (`zone_text`). Invariant: types have
//! the names, and data the words, that `domain` knows; `zone_data` has the others.

use domain::base::iana::{Class, Rtype};

use super::zone_data::is_read_by_domain;

/// What the next word of an entry may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The owner, or a directive.
    Owner,
    /// The TTL, the class or the type.
    TtlClassOrType { has_ttl: bool },
    /// The time of `$TTL`.
    DefaultTtl,
    /// The path of `$INCLUDE`.
    IncludedPath,
    /// The name of `$ORIGIN` or `$INCLUDE`.
    Origin,
    /// Data of a record, by index.
    Data { rtype: Rtype, index: usize },
    /// Data of a type whose text `domain` does not read.
    Text { rtype: Rtype, is_first: bool },
    /// Anything else.
    Other,
}

/// What a word stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A name, or a directive. `domain` itself takes `@` for the origin here.
    Owner,
    /// A name for which `@` may stand.
    Name,
    /// A time, which may have units.
    Time,
    /// A string (RFC 1035, section 3.3) of any bytes. One that is longer is split.
    String {
        len_max: usize,
    },
    Other,
}

impl Next {
    pub(super) fn meaning(self) -> Meaning {
        match self {
            Self::Owner => Meaning::Owner,
            Self::Origin => Meaning::Name,
            Self::TtlClassOrType { .. } | Self::DefaultTtl => Meaning::Time,
            Self::Data { rtype, index } => meaning_in_data(rtype, index),
            Self::IncludedPath | Self::Text { .. } | Self::Other => Meaning::Other,
        }
    }

    /// What may follow a word that is neither a time nor a directive.
    pub(super) fn after(self, word: &[u8]) -> Self {
        match self {
            Self::Owner => Self::TtlClassOrType { has_ttl: false },
            Self::TtlClassOrType { .. } if is_class(word) => self,
            Self::TtlClassOrType { .. } => match rtype_of(word) {
                Some(rtype) if is_read_by_domain(rtype) => Self::Data { rtype, index: 0 },
                Some(rtype) => Self::Text { rtype, is_first: true },
                None => Self::Other,
            },
            // Then comes data in hexadecimal digits (RFC 3597, section 5).
            Self::Data { index: 0, .. } | Self::Text { is_first: true, .. } if word == br"\#" => {
                Self::Other
            }
            Self::Data { rtype, index } => Self::Data { rtype, index: index + 1 },
            Self::Text { rtype, .. } => Self::Text { rtype, is_first: false },
            Self::IncludedPath => Self::Origin,
            Self::DefaultTtl | Self::Origin | Self::Other => Self::Other,
        }
    }
}

/// What a word of a record's data stands for, of the types that `domain` knows by name.
fn meaning_in_data(rtype: Rtype, index: usize) -> Meaning {
    match (rtype, index) {
        (Rtype::CNAME | Rtype::DNAME | Rtype::NS | Rtype::NSEC | Rtype::PTR, 0)
        | (Rtype::MB | Rtype::MD | Rtype::MF | Rtype::MG | Rtype::MR, 0)
        | (Rtype::MINFO | Rtype::RP | Rtype::SOA, 0 | 1)
        | (Rtype::HTTPS | Rtype::MX | Rtype::SVCB, 1)
        | (Rtype::IPSECKEY | Rtype::SRV, 3)
        | (Rtype::NAPTR, 5)
        | (Rtype::RRSIG, 7) => Meaning::Name,
        (Rtype::SOA, 3..) => Meaning::Time,
        (Rtype::TXT, _) => Meaning::String { len_max: 255 },
        (Rtype::HINFO, _) | (Rtype::NAPTR, 2..=4) | (Rtype::CAA, 2) => {
            Meaning::String { len_max: usize::MAX }
        }
        _ => Meaning::Other,
    }
}

/// The type of this name, as `domain` reads it.
fn rtype_of(word: &[u8]) -> Option<Rtype> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// Whether a label before the end of a name is empty. `domain` refuses a dot in front of a name.
pub(super) fn has_empty_label(name: &[u8]) -> bool {
    let mut is_behind_dot = false;
    let mut rest = name;
    while let [first, behind @ ..] = rest {
        if *first == b'.' && is_behind_dot {
            return true;
        }
        is_behind_dot = *first == b'.';
        rest = if *first == b'\\' { behind.get(1..).unwrap_or_default() } else { behind };
    }
    false
}

/// Whether a word is a class. As to `domain`, `ANY` is a type.
pub(super) fn is_class(word: &[u8]) -> bool {
    let class = str::from_utf8(word).ok().and_then(|word| word.parse::<Class>().ok());
    class.is_some() && rtype_of(word).is_none()
}

/// The seconds of a time: digits, and units after them. `None` for any other word.
pub(super) fn seconds(word: &[u8]) -> Option<u32> {
    if !word.first()?.is_ascii_digit() {
        return None;
    }
    let (mut total, mut number) = (0u64, 0u64);
    for byte in word {
        let unit_secs = match byte.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit_secs)?)?;
        number = 0;
    }
    u32::try_from(total.checked_add(number)?).ok()
}
