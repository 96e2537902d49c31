//! Reverse names, and the reverse zones of a network split as in CoreDNS: at octets for IPv4, at
//! nibbles for IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of `address`'s PTR record, with its final dot.
pub fn name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => zone_v4(&address.octets()),
        IpAddr::V6(address) => zone_v6(&nibbles(address)),
    }
}

/// The address whose labels `name` has, exactly.
pub fn address(reverse_name: &str) -> Option<IpAddr> {
    let labels = reverse_name.strip_suffix(".ip6.arpa.").map(|labels| labels.split('.').rev());
    let address: IpAddr = match labels {
        Some(nibbles) => {
            let nibbles: Vec<&str> = nibbles.collect();
            let groups: Vec<String> = nibbles.chunks(4).map(<[&str]>::concat).collect();
            groups.join(":").parse().ok()?
        }
        None => {
            let octets = reverse_name.strip_suffix(".in-addr.arpa.")?.split('.').rev();
            octets.collect::<Vec<_>>().join(".").parse().ok()?
        }
    };
    (name(address) == reverse_name).then_some(address)
}

/// The zones of a Corefile word, with final dots: a network may give several.
pub fn zones(word: &str) -> Vec<String> {
    let Some((address, prefix_len)) = word.split_once('/') else {
        return vec![format!("{}.", word.trim_end_matches('.'))];
    };
    let prefix_len: usize = prefix_len.parse().expect("a prefix length");
    match address.parse().expect("a network") {
        IpAddr::V4(address) => {
            let octets = prefix_len.div_ceil(8);
            let count = 1_u32 << (octets * 8 - prefix_len);
            let first = u32::from(address) >> (32 - octets * 8);
            (0..count)
                .map(|index| {
                    let shifted = (first + index) << (32 - octets * 8);
                    zone_v4(&Ipv4Addr::from(shifted).octets()[..octets])
                })
                .collect()
        }
        IpAddr::V6(address) => {
            assert!(prefix_len.is_multiple_of(4), "networks of the tests end at nibbles: {word}");
            vec![zone_v6(&nibbles(address)[..prefix_len / 4])]
        }
    }
}

fn zone_v4(octets: &[u8]) -> String {
    let labels: String = octets.iter().rev().map(|octet| format!("{octet}.")).collect();
    format!("{labels}in-addr.arpa.")
}

fn zone_v6(nibbles: &[u8]) -> String {
    let labels: String = nibbles.iter().rev().map(|nibble| format!("{nibble:x}.")).collect();
    format!("{labels}ip6.arpa.")
}

fn nibbles(address: Ipv6Addr) -> Vec<u8> {
    address.octets().iter().flat_map(|octet| [octet >> 4, octet & 15]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_zones() {
        assert_eq!(name("10.96.0.1".parse().unwrap()), "1.0.96.10.in-addr.arpa.");
        assert!(name("fd00::1".parse().unwrap()).ends_with("0.0.0.0.d.f.ip6.arpa."));
        for text in ["10.96.0.1", "fd00::1", "::ffff:10.96.0.1"] {
            let parsed = text.parse().unwrap();
            assert_eq!(address(&name(parsed)), Some(parsed), "{text}");
            assert_eq!(address(&format!("0.{}", name(parsed))), None, "{text}");
            assert_eq!(address(&name(parsed)[2..]), None, "{text}");
        }
        assert_eq!(zones("cluster.local"), ["cluster.local."]);
        assert_eq!(zones("10.96.0.0/16"), ["96.10.in-addr.arpa."]);
        assert_eq!(zones("10.96.0.0/15"), ["96.10.in-addr.arpa.", "97.10.in-addr.arpa."]);
        assert_eq!(zones("10.128.0.0/9").len(), 128);
        assert_eq!(zones("10.128.0.0/9")[127], "255.10.in-addr.arpa.");
        assert_eq!(zones("fd00::/8"), ["d.f.ip6.arpa."]);
    }
}
