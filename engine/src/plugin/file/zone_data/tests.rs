//! Data as text beside its wire format.

use domain::zonefile::inplace::Zonefile;

use super::*;

/// The data of `TYPE WORD…`, in hexadecimal digits.
fn check(text: &str, expected: Result<&str, &str>) {
    let (rtype, words) = text.split_once(' ').unwrap_or((text, ""));
    let words: Vec<Vec<u8>> = words.split_whitespace().map(|word| word.into()).collect();
    let data = write(rtype.parse().unwrap(), &words, b"\x04test\0");
    let data = data.map(|data| base16::encode_string(&data).to_ascii_lowercase());
    assert_eq!(data.as_deref().map_err(String::as_str), expected, "{text}");
}

#[test]
fn each_type_has_its_fields() {
    for (text, expected) in [
        ("AFSDB 1 a", "000101610474657374".to_owned() + "00"),
        ("X25 311061700956", "0c333131303631373030393536".to_owned()),
        ("ISDN 15 4", "0231350134".to_owned()),
        ("ISDN 15", "023135".to_owned()),
        ("RT 10 .", "000a00".to_owned()),
        ("KEY 256 3 5 AQ ID", "0100030501 02 03".replace(' ', "")),
        ("PX 10 a. b.", "000a016100016200".to_owned()),
        ("GPOS -32.6 116.8 10", "052d33322e36053131362e38023130".to_owned()),
        ("KX 1 @", "0001047465737400".to_owned()),
        ("CERT PGP 7 RSASHA256 AQID", "0003000708010203".to_owned()),
        ("CERT 65535 0 0 AQ ID", "ffff000000010203".to_owned()),
        ("DHCID AAIB", "000201".to_owned()),
        ("SMIMEA 3 1 1 01 23", "0301010123".to_owned()),
        ("NINFO a b", "01610162".to_owned()),
        ("TALINK a. b.", "016100016200".to_owned()),
        ("CSYNC 66 3 A NS AAAA", "00000042000300046000 0008".replace(' ', "")),
        ("SPF v=spf1\\032-all \\;", "0b763d73706631202d616c6c013b".to_owned()),
        ("UID 1", "00000001".to_owned()),
        ("NID 10 0014:4fff:ff20:EE64", "000a00144fffff20ee64".to_owned()),
        ("L32 10 10.1.2.0", "000a0a010200".to_owned()),
        ("L64 10 2001:0db8:1140:1000", "000a20010db811401000".to_owned()),
        ("LP 10 a.", "000a016100".to_owned()),
        ("EUI48 00-00-5e-00-53-2a", "00005e00532a".to_owned()),
        ("EUI64 00-00-5e-ef-10-00-00-2a", "00005eef1000002a".to_owned()),
        ("URI 10 1 ftp://x", "000a00016674703a2f2f78".to_owned()),
        ("DLV 1 8 2 ABCD", "00010802abcd".to_owned()),
        ("APL", String::new()),
        (
            "APL 1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8",
            "00011503c0a82000011c83c0a826000208 01ff".replace(' ', ""),
        ),
        // RFC 1876, section 3: with and without the optional fields.
        (
            "LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m",
            "000016138b3cf018810cbce0009895b8".to_owned(),
        ),
        ("LOC 42 N 71 W 10", "001216138903210070c3da8000989a68".to_owned()),
    ] {
        check(text, Ok(&expected));
    }
    // A string that is longer than 255 bytes is split.
    let long = "x".repeat(300);
    let expected = format!("ff{}2d{}", "78".repeat(255), "78".repeat(45));
    check(&format!("SPF {long}"), Ok(&expected));
}

#[test]
fn mistakes_name_the_word() {
    for (text, expected) in [
        ("AFSDB 65536 a", "bad AFSDB data: a number up to 65535 expected, and not `65536`"),
        ("AFSDB 1", "bad AFSDB data: a domain name is missing"),
        ("AFSDB 1 a..b", "bad AFSDB data: a domain name expected, and not `a..b`"),
        ("AFSDB 1 a b", "bad AFSDB data: nothing may follow it, and `b` does"),
        ("CERT X 0 0 AQID", "bad CERT data: the type of a certificate expected, and not `X`"),
        ("DHCID", "bad DHCID data: data in Base 64 is missing"),
        ("DHCID A", "bad DHCID data: data in Base 64 expected, and not `A`"),
        ("SPF \\25", "bad SPF data: a string expected, and not `\\25`"),
        (
            "EUI48 00-00-5e-00-53",
            "bad EUI48 data: an EUI, two hexadecimal digits at a time \
            expected, and not `00-00-5e-00-53`",
        ),
        (
            "APL 1:10.0.0.1/8",
            "bad APL data: `FAMILY:ADDRESS/LENGTH` expected, and not \
            `1:10.0.0.1/8`",
        ),
        (
            "LOC 91 N 4 E 0m",
            "bad LOC data: degrees, minutes and seconds, and N, S, E or W, \
            expected, and not `91`",
        ),
        (
            "LOC 90 1 N 4 E 0m",
            "bad LOC data: degrees, minutes and seconds, and N, S, E or W, \
            expected, and not `N`",
        ),
        ("LOC 9 N 4 E x", "bad LOC data: an altitude in metres expected, and not `x`"),
        (
            "HIP 2 00 AQID",
            "data of the type HIP cannot be written as text; write it in \
            hexadecimal digits, as `HIP \\# LENGTH HEX` (RFC 3597)",
        ),
    ] {
        check(text, Err(expected));
    }
}

#[test]
fn domain_reads_the_types_without_a_form() {
    for rtype in (0..=u16::MAX).map(Rtype::from_int) {
        if rtype.to_mnemonic().is_none() {
            continue;
        }
        let mut zonefile = Zonefile::from(format!("a. 1 IN {rtype} x\n").as_bytes());
        let problem = zonefile.next_entry().err().map(|error| error.to_string());
        let is_unknown = problem.is_some_and(|problem| problem.contains("concrete data"));
        assert_eq!(is_read_by_domain(rtype), !is_unknown, "{rtype}");
        let has_form = FORMS.iter().any(|(form_rtype, _)| *form_rtype == rtype);
        assert!(!(has_form && is_read_by_domain(rtype)), "{rtype}");
    }
}
