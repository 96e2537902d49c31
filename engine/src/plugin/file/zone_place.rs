//! Places and prefixes in a zone file: the data of LOC (RFC 1876) and APL records (RFC 3123).
//!
//! Not here: the words of a record (`zone_text`), other types (`zone_data`). Invariant: numbers
//! are exact, to the thousandth of a second and the centimetre.

use std::net::IpAddr;

/// Writes `D [M [S]] {N|S} D [M [S]] {E|W} ALTITUDE [SIZE [HORIZONTAL [VERTICAL]]]` (RFC 1876,
/// section 3), and drops its words. Otherwise returns what was expected.
pub(super) fn location(words: &mut &[Vec<u8>], data: &mut Vec<u8>) -> Result<(), &'static str> {
    const DEGREES: &str = "degrees, minutes and seconds, and N, S, E or W,";
    let latitude = angle(words, 90, *b"NS").ok_or(DEGREES)?;
    let longitude = angle(words, 180, *b"EW").ok_or(DEGREES)?;
    let altitude = words.first().and_then(|word| {
        // In centimetres above a point 100 km below the ground.
        u32::try_from(decimal(metres(word), 2)?.checked_add(10_000_000)?).ok()
    });
    let altitude = altitude.ok_or("an altitude in metres")?;
    *words = words.get(1..).unwrap_or_default();
    // The defaults are 1 m, 10 km and 10 m.
    let mut sizes = [0x12, 0x16, 0x13];
    for size in &mut sizes {
        let Some((word, behind)) = words.split_first() else { break };
        *size = size_of(word).ok_or("a size in metres")?;
        *words = behind;
    }
    data.push(0);
    data.extend_from_slice(&sizes);
    for field in [latitude, longitude, altitude] {
        data.extend_from_slice(&field.to_be_bytes());
    }
    Ok(())
}

/// Thousandths of a second of arc, from 2^31 on. `ends`: the directions up and down.
fn angle(words: &mut &[Vec<u8>], degrees_max: i64, [up, down]: [u8; 2]) -> Option<u32> {
    let mut total = 0;
    // Degrees and minutes are whole.
    for (unit, places, below) in [(3_600_000, 0, degrees_max + 1), (60_000, 0, 60), (1, 3, 60_000)]
    {
        let (word, behind) = words.split_first()?;
        if unit < 3_600_000 && is_direction(word, up, down) {
            break;
        }
        let number = decimal(word, places).filter(|number| (0..below).contains(number))?;
        total += number * unit;
        *words = behind;
    }
    let (word, behind) = words.split_first().filter(|(word, _)| is_direction(word, up, down))?;
    if total > degrees_max * 3_600_000 {
        return None;
    }
    let is_up = word.eq_ignore_ascii_case(&[up]);
    *words = behind;
    u32::try_from((1 << 31) + if is_up { total } else { -total }).ok()
}

fn is_direction(word: &[u8], up: u8, down: u8) -> bool {
    [up, down].iter().any(|direction| word.eq_ignore_ascii_case(&[*direction]))
}

/// A number of metres without its unit.
fn metres(word: &[u8]) -> &[u8] {
    word.strip_suffix(b"m").or_else(|| word.strip_suffix(b"M")).unwrap_or(word)
}

/// Metres as a digit and a power of ten, in centimetres.
fn size_of(word: &[u8]) -> Option<u8> {
    let mut left = decimal(metres(word), 2).filter(|size| (0..=9_000_000_000).contains(size))?;
    let mut power = 0;
    while left >= 10 {
        left /= 10;
        power += 1;
    }
    Some((left as u8) << 4 | power)
}

/// A decimal number times a power of ten. More `places` than that are cut off.
fn decimal(word: &[u8], places: usize) -> Option<i64> {
    let (sign, digits) = match word {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    let is_number = !(whole.is_empty() && fraction.is_empty())
        && whole.len() <= 10
        && whole.iter().chain(fraction).all(u8::is_ascii_digit)
        && (places > 0 || whole.len() == digits.len());
    if !is_number {
        return None;
    }
    let fraction = fraction.iter().chain(std::iter::repeat(&b'0')).take(places);
    let total = whole
        .iter()
        .chain(fraction)
        .fold(0, |total: i64, digit| total * 10 + i64::from(digit - b'0'));
    Some(sign * total)
}

/// Writes `[!]FAMILY:ADDRESS/LENGTH` (RFC 3123, section 5).
pub(super) fn prefix(word: &[u8], data: &mut Vec<u8>) -> Option<()> {
    let (negation, word) = match word {
        [b'!', word @ ..] => (0x80, word),
        word => (0, word),
    };
    let (family, prefix) = str::from_utf8(word).ok()?.split_once(':')?;
    let (address, len) = prefix.split_once('/')?;
    let len: u8 = len.parse().ok()?;
    let (family, octets) = match (family, address.parse().ok()?) {
        ("1", IpAddr::V4(address)) => (1u16, address.octets().to_vec()),
        ("2", IpAddr::V6(address)) => (2, address.octets().to_vec()),
        _ => return None,
    };
    let is_outside = |(index, octet): (usize, &u8)| {
        let kept_bits = usize::from(len).saturating_sub(8 * index).min(8);
        octet & (0xFFu16 >> kept_bits) as u8 != 0
    };
    if usize::from(len) > 8 * octets.len() || octets.iter().enumerate().any(is_outside) {
        return None;
    }
    // Zeros at the end are left out (RFC 3123, section 4).
    let kept_len = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    data.extend_from_slice(&family.to_be_bytes());
    data.extend_from_slice(&[len, negation | kept_len as u8]);
    data.extend_from_slice(octets.get(..kept_len)?);
    Some(())
}
