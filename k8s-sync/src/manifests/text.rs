//! Decodes the bytes of a file into the text of a manifest: gzip-compressed or not, in any encoding
//! that shells write.
//!
//! Bytes in, text out. Errors say what to do.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

/// Upper bound for a decompressed file. 500,000 endpoints take a tenth of it.
const DECOMPRESSED_LEN_MAX: u64 = 2 << 30;

/// Signatures of files that are not text: offset, bytes, and what the file is.
const NOT_TEXT: [(usize, &[u8], &str); 7] = [
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x28\xB5\x2F\xFD", "compressed with zstd"),
    (0, b"\xFD7zXZ\0", "compressed with xz"),
    (0, b"BZh", "compressed with bzip2"),
    (257, b"ustar", "a tar archive"),
    (0, b"\xFF\xFE\0\0", "UTF-32"),
    (0, b"\0\0\xFE\xFF", "UTF-32"),
];

/// # Errors
/// Why the bytes are not text.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let bytes = if bytes.starts_with(b"\x1F\x8B") { decompress(&bytes)? } else { bytes };
    for (offset, magic, what) in NOT_TEXT {
        if bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return Err(format!(
                "the file is {what}: a manifest is YAML or JSON in UTF-8 or UTF-16, with or \
                 without gzip compression"
            ));
        }
    }
    match bytes.as_slice() {
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest.to_vec()),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // No byte order mark: the first character of a manifest is ASCII.
        [first, 0, ..] if *first != 0 => utf16(&bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(&bytes, u16::from_be_bytes),
        _ => utf8(bytes),
    }
}

fn decompress(compressed: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let decompressed =
        MultiGzDecoder::new(compressed).take(DECOMPRESSED_LEN_MAX).read_to_end(&mut bytes);
    decompressed.map_err(|error| format!("cannot decompress the gzip file: {error}"))?;
    if bytes.len() as u64 == DECOMPRESSED_LEN_MAX {
        return Err(format!(
            "the file decompresses to {DECOMPRESSED_LEN_MAX} bytes or more: split it"
        ));
    }
    Ok(bytes)
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let error = error.utf8_error();
        format!("{error}: save the file as UTF-8, or as UTF-16 with a byte order mark")
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return Err("the file is UTF-16 with an odd number of bytes: is it truncated?".to_owned());
    }
    let units = pairs.iter().map(|pair| unit(*pair));
    char::decode_utf16(units)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the file is invalid UTF-16: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<&str, &str>) {
        let text = decode(bytes.to_vec());
        match (&text, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected, "{bytes:?}"),
            (Err(cause), Err(expected)) => assert!(cause.contains(expected), "{cause}"),
            _ => panic!("{text:?}, not {expected:?}"),
        }
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn encodings() {
        let text = "kind: Näme 🦀\r\n";
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        check(text.as_bytes(), Ok(text));
        check(&[b"\xEF\xBB\xBF", text.as_bytes()].concat(), Ok(text));
        check(&[b"\xFF\xFE", little.as_slice()].concat(), Ok(text));
        check(&[b"\xFE\xFF", big.as_slice()].concat(), Ok(text));
        check(&little, Ok(text));
        check(&big, Ok(text));
        check(&compressed(text.as_bytes()), Ok(text));
        check(&compressed(&[b"\xFF\xFE", little.as_slice()].concat()), Ok(text));
        check(&[compressed(b"a: 1\n"), compressed(b"b: 2\n")].concat(), Ok("a: 1\nb: 2\n"));
        check(b"", Ok(""));
        check(b"\xFF\xFE", Ok(""));
    }

    #[test]
    fn files_that_are_not_text() {
        check(b"PK\x03\x04....", Err("the file is a zip archive"));
        let tar = [&[b'a'; 257][..], b"ustar\x0000"].concat();
        check(&compressed(&tar), Err("the file is a tar archive"));
        check(b"\x28\xB5\x2F\xFD", Err("compressed with zstd"));
        check(&compressed(b"a: 1\n")[..12], Err("cannot decompress"));
        let invalid = "invalid utf-8 sequence of 1 bytes from index 3: save the file as UTF-8";
        check(b"a: \xFFz", Err(invalid));
        check(b"\xFF\xFEa", Err("truncated"));
        check(b"\xFF\xFE\x00\xD8a\0", Err("invalid UTF-16: "));
    }
}
