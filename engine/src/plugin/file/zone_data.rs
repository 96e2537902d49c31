//! Record data as text, of the types that `domain` reads as hexadecimal digits only: words to wire
//! format.
//!
//! A word is as it is written, without quotes. A type is a row of `FORMS`, a list of fields; the
//! text of those without a row is rare or long. Invariant: names are whole and uncompressed.

use std::net::Ipv4Addr;

use domain::base::iana::{Rtype, SecurityAlgorithm};
use domain::base::name::UncertainName;
use domain::rdata::dnssec::RtypeBitmapBuilder;
use domain::utils::{base16, base64};
use wire::name::NAME_LEN_MAX;

use super::zone_place::{location, prefix};
use super::zone_word::has_empty_label;

/// What a word stands for, or all words that are left.
#[derive(Clone, Copy)]
enum DataField {
    /// A number of this many bytes.
    Number(usize),
    /// The type of a certificate: a number of 16 bits, or its name.
    CertificateType,
    /// The algorithm of a key: a number of eight bits, or its name.
    Algorithm,
    Name,
    /// One string (RFC 1035, section 3.3).
    String,
    /// The same, if there is another word.
    OptionalString,
    /// One string or more. As in CoreDNS, a longer one is split.
    Strings,
    /// A word of any length, without a length byte.
    Text,
    Ipv4,
    /// Hexadecimal numbers of this many digits with this sign in between.
    Groups {
        count: usize,
        digits: usize,
        sign: u8,
    },
    /// All words that are left.
    Base64,
    Hex,
    Types,
    Prefixes,
    Location,
}

use DataField::{
    Algorithm, Base64, CertificateType, Groups, Hex, Ipv4, Location, Name, Number, OptionalString,
    Prefixes, String as CharacterString, Strings, Text, Types,
};

const LOCATOR64: DataField = Groups { count: 4, digits: 4, sign: b':' };

/// The fields of each type, and where they are defined.
const FORMS: [(Rtype, &[DataField]); 31] = [
    (Rtype::AFSDB, &[Number(2), Name]), // RFC 1183, section 1
    (Rtype::X25, &[CharacterString]),   // RFC 1183, section 3.1
    (Rtype::ISDN, &[CharacterString, OptionalString]), // RFC 1183, section 3.2
    (Rtype::RT, &[Number(2), Name]),    // RFC 1183, section 3.3
    (Rtype::KEY, &[Number(2), Number(1), Algorithm, Base64]), // RFC 2535, section 7.1
    (Rtype::PX, &[Number(2), Name, Name]), // RFC 2163, section 4
    (Rtype::GPOS, &[CharacterString, CharacterString, CharacterString]), // RFC 1712, section 3
    (Rtype::LOC, &[Location]),          // RFC 1876, section 3
    (Rtype::KX, &[Number(2), Name]),    // RFC 2230, section 3
    (Rtype::CERT, &[CertificateType, Number(2), Algorithm, Base64]), // RFC 4398, section 2.2
    (Rtype::APL, &[Prefixes]),          // RFC 3123, section 5
    (Rtype::DHCID, &[Base64]),          // RFC 4701, section 3.2
    (Rtype::SMIMEA, &[Number(1), Number(1), Number(1), Hex]), // RFC 8162, section 2
    (Rtype::NINFO, &[Strings]),         // draft-reid-dnsext-zs
    (Rtype::RKEY, &[Number(2), Number(1), Algorithm, Base64]), // draft-reid-dnsext-rkey
    (Rtype::TALINK, &[Name, Name]),     // draft-wijngaards-dnsop-trust-history
    (Rtype::CSYNC, &[Number(4), Number(2), Types]), // RFC 7477, section 2.1
    (Rtype::SPF, &[Strings]),           // RFC 4408, section 3.1.1
    (Rtype::UID, &[Number(4)]),         // IANA
    (Rtype::GID, &[Number(4)]),         // IANA
    (Rtype::NID, &[Number(2), LOCATOR64]), // RFC 6742, section 2.1
    (Rtype::L32, &[Number(2), Ipv4]),   // RFC 6742, section 2.2
    (Rtype::L64, &[Number(2), LOCATOR64]), // RFC 6742, section 2.3
    (Rtype::LP, &[Number(2), Name]),    // RFC 6742, section 2.4
    (Rtype::EUI48, &[Groups { count: 6, digits: 2, sign: b'-' }]), // RFC 7043, section 3.2
    (Rtype::EUI64, &[Groups { count: 8, digits: 2, sign: b'-' }]), // RFC 7043, section 4.2
    (Rtype::URI, &[Number(2), Number(2), Text]), // RFC 7553, section 4
    (Rtype::AVC, &[Strings]),           // IANA
    (Rtype::RESINFO, &[Strings]),       // RFC 9606, section 4
    (Rtype::TA, &[Number(2), Algorithm, Number(1), Hex]), // as DS: RFC 4034, section 5.3
    (Rtype::DLV, &[Number(2), Algorithm, Number(1), Hex]), // RFC 4431, section 2
];

/// Names of certificate types (RFC 4398, section 2.1).
const CERTIFICATE_TYPES: [(&[u8], u16); 10] = [
    (b"PKIX", 1),
    (b"SPKI", 2),
    (b"PGP", 3),
    (b"IPKIX", 4),
    (b"ISPKI", 5),
    (b"IPGP", 6),
    (b"ACPKIX", 7),
    (b"IACPKIX", 8),
    (b"URI", 253),
    (b"OID", 254),
];

/// The types whose text `domain` reads.
const READ_BY_DOMAIN: [Rtype; 35] = [
    Rtype::A,
    Rtype::NS,
    Rtype::MD,
    Rtype::MF,
    Rtype::CNAME,
    Rtype::SOA,
    Rtype::MB,
    Rtype::MG,
    Rtype::MR,
    Rtype::PTR,
    Rtype::HINFO,
    Rtype::MINFO,
    Rtype::MX,
    Rtype::TXT,
    Rtype::RP,
    Rtype::AAAA,
    Rtype::SRV,
    Rtype::NAPTR,
    Rtype::DNAME,
    Rtype::DS,
    Rtype::SSHFP,
    Rtype::IPSECKEY,
    Rtype::RRSIG,
    Rtype::NSEC,
    Rtype::DNSKEY,
    Rtype::NSEC3,
    Rtype::NSEC3PARAM,
    Rtype::TLSA,
    Rtype::CDS,
    Rtype::CDNSKEY,
    Rtype::OPENPGPKEY,
    Rtype::ZONEMD,
    Rtype::SVCB,
    Rtype::HTTPS,
    Rtype::CAA,
];

/// Whether `domain` reads the text of this type's data.
pub(super) fn is_read_by_domain(rtype: Rtype) -> bool {
    READ_BY_DOMAIN.contains(&rtype)
}

/// Writes the data of a record. `origin`: wire format.
///
/// # Errors
/// What is wrong, in words that follow the place.
pub(super) fn write(rtype: Rtype, words: &[Vec<u8>], origin: &[u8]) -> Result<Vec<u8>, String> {
    let Some((_, fields)) = FORMS.iter().find(|(form_rtype, _)| *form_rtype == rtype) else {
        return Err(format!(
            "data of the type {rtype} cannot be written as text; write it in hexadecimal digits, \
             as `{rtype} \\# LENGTH HEX` (RFC 3597)"
        ));
    };
    let mut data = Vec::new();
    let mut rest = words;
    for field in *fields {
        field.write(&mut rest, origin, &mut data).map_err(|expected| {
            let found = rest.first().map_or_else(
                || "is missing".to_owned(),
                |word| format!("expected, and not `{}`", String::from_utf8_lossy(word)),
            );
            format!("bad {rtype} data: {expected} {found}")
        })?;
    }
    match rest.first() {
        Some(word) => {
            let word = String::from_utf8_lossy(word);
            Err(format!("bad {rtype} data: nothing may follow it, and `{word}` does"))
        }
        None => Ok(data),
    }
}

impl DataField {
    /// Writes the field, and drops its words from the front. Otherwise returns what was expected.
    fn write(
        self,
        words: &mut &[Vec<u8>],
        origin: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        if matches!(self, Self::Location) {
            return location(words, data);
        }
        *words = self.write_words(words, origin, data).ok_or_else(|| self.expected())?;
        Ok(())
    }

    /// Writes any field but a `Location`. Returns the words behind it.
    fn write_words<'w>(
        self,
        words: &'w [Vec<u8>],
        origin: &[u8],
        data: &mut Vec<u8>,
    ) -> Option<&'w [Vec<u8>]> {
        let Some((word, behind)) = words.split_first() else {
            let may_lack = matches!(self, Self::OptionalString | Self::Types | Self::Prefixes);
            return may_lack.then_some(words);
        };
        match self {
            Self::Number(len) => data.extend(number(word, len)?),
            Self::CertificateType => {
                let named = CERTIFICATE_TYPES.iter().find(|(name, _)| *name == word);
                let value = named.map(|(_, value)| value.to_be_bytes().to_vec());
                data.extend(value.or_else(|| number(word, 2))?);
            }
            Self::Algorithm => {
                let named = SecurityAlgorithm::from_mnemonic(word);
                let value = named.map(|algorithm| vec![algorithm.to_int()]);
                data.extend(value.or_else(|| number(word, 1))?);
            }
            Self::Name => data.extend(name(word, origin)?),
            Self::String | Self::OptionalString => string(&unescaped(word)?, data)?,
            Self::Text => data.extend(unescaped(word)?),
            Self::Ipv4 => {
                let address: Ipv4Addr = str::from_utf8(word).ok()?.parse().ok()?;
                data.extend(address.octets());
            }
            Self::Groups { count, digits, sign } => {
                let groups: Vec<&[u8]> = word.split(|byte| *byte == sign).collect();
                let is_whole = |group: &&[u8]| group.len() == digits;
                let are_whole = groups.len() == count && groups.iter().all(is_whole);
                data.extend(hexadecimal(&groups.concat()).filter(|_| are_whole)?);
            }
            Self::Base64 => {
                let text = words.concat();
                data.extend(base64::decode::<Vec<u8>>(str::from_utf8(&text).ok()?).ok()?);
            }
            Self::Hex => data.extend(hexadecimal(&words.concat())?),
            Self::Strings => words.iter().try_for_each(|word| strings(word, data))?,
            Self::Types => data.extend(types(words)?),
            Self::Prefixes => words.iter().try_for_each(|word| prefix(word, data))?,
            Self::Location => return None,
        }
        let takes_all =
            matches!(self, Self::Base64 | Self::Hex | Self::Strings | Self::Types | Self::Prefixes);
        Some(if takes_all { &[] } else { behind })
    }

    /// For messages: what a word of the field is.
    const fn expected(self) -> &'static str {
        match self {
            Self::Number(1) => "a number up to 255",
            Self::Number(2) => "a number up to 65535",
            Self::Number(_) => "a number up to 4294967295",
            Self::CertificateType => "the type of a certificate",
            Self::Algorithm => "the algorithm of a key",
            Self::Name => "a domain name",
            Self::String | Self::OptionalString => "a string of up to 255 bytes",
            Self::Strings | Self::Text => "a string",
            Self::Ipv4 => "an IPv4 address",
            Self::Groups { sign: b':', .. } => "four times four hexadecimal digits",
            Self::Groups { .. } => "an EUI, two hexadecimal digits at a time",
            Self::Base64 => "data in Base 64",
            Self::Hex => "data in hexadecimal digits",
            Self::Types => "the name of a type",
            Self::Prefixes => "`FAMILY:ADDRESS/LENGTH`",
            Self::Location => "a place",
        }
    }
}

/// A decimal number of this many bytes.
fn number(word: &[u8], len: usize) -> Option<Vec<u8>> {
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(word).ok()?.parse().ok()?;
    let bytes = number.to_be_bytes();
    let (zeros, bytes) = bytes.split_at(bytes.len() - len);
    zeros.iter().all(|byte| *byte == 0).then(|| bytes.to_vec())
}

/// A name as a file has it, in wire format.
pub(super) fn name(word: &[u8], origin: &[u8]) -> Option<Vec<u8>> {
    match word {
        b"" | b"@" => return Some(origin.to_vec()),
        b"." => return Some(vec![0]),
        _ => {}
    }
    if has_empty_label(word) {
        return None;
    }
    let name: UncertainName<Vec<u8>> = str::from_utf8(word).ok()?.parse().ok()?;
    let name = match name {
        UncertainName::Absolute(name) => name.as_slice().to_vec(),
        UncertainName::Relative(name) => [name.as_slice(), origin].concat(),
    };
    (name.len() <= NAME_LEN_MAX).then_some(name)
}

/// Writes a string with its length.
fn string(bytes: &[u8], data: &mut Vec<u8>) -> Option<()> {
    data.push(u8::try_from(bytes.len()).ok()?);
    data.extend_from_slice(bytes);
    Some(())
}

/// Writes a string, or as many as a longer one becomes.
fn strings(word: &[u8], data: &mut Vec<u8>) -> Option<()> {
    let bytes = unescaped(word)?;
    if bytes.is_empty() {
        data.push(0);
    }
    bytes.chunks(255).try_for_each(|chunk| string(chunk, data))
}

fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    base16::decode_vec(str::from_utf8(digits).ok()?).ok()
}

/// The names of types as a bitmap (RFC 4034, section 4.1.2).
fn types(words: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut types = RtypeBitmapBuilder::new_vec();
    for word in words {
        let rtype = str::from_utf8(word).ok()?.parse().ok()?;
        let Ok(()) = types.add(rtype);
    }
    Some(types.finalize().as_slice().to_vec())
}

/// The bytes of a word with escapes (RFC 1035, section 5.1).
fn unescaped(word: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, behind) {
            (b'\\', [b'0'..=b'9', ..]) => {
                let (digits, after) = behind.split_at_checked(3)?;
                bytes.push(*number(digits, 1)?.first()?);
                rest = after;
            }
            (b'\\', [escaped, after @ ..]) => {
                bytes.push(*escaped);
                rest = after;
            }
            (b'\\', []) => return None,
            _ => bytes.push(*first),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
