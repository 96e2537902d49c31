//! A server block's keys: scheme, zone and port; and that no two blocks answer for the same.

use std::collections::HashMap;

use super::bind::{Bind, ListenIp};
use super::lexer::Token;
use super::report::{Mistake, Refusal};
use super::source::Span;
use super::word::{nearest, quoted};
use super::zone::{self, Zone};
use super::{Context, ServerBlock};
use crate::limits::COREFILE_ZONES_MAX;

/// What a server block answers for: `dns://cluster.local:53`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub scheme: Scheme,
    pub zone: Zone,
    /// 0 lets the kernel choose.
    pub port: u16,
    /// The port stands in the Corefile; else it is the default one.
    pub names_port: bool,
}

/// How queries arrive. Only `Dns` is built; the others are mistakes until they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Dns,
    Tls,
    Quic,
    Grpc,
    Https3,
    Https,
}

impl Scheme {
    const ALL: [Self; 6] =
        [Self::Dns, Self::Tls, Self::Quic, Self::Grpc, Self::Https3, Self::Https];

    /// As it stands before `://`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Grpc => "grpc",
            Self::Https3 => "https3",
            Self::Https => "https",
        }
    }

    fn default_port(self, dns_port: u16) -> u16 {
        match self {
            Self::Dns => dns_port,
            Self::Tls | Self::Quic => 853,
            Self::Grpc | Self::Https3 | Self::Https => 443,
        }
    }
}

impl std::fmt::Display for Key {
    /// As CoreDNS prints it: `dns://cluster.local.:53`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.zone.text, self.port)
    }
}

/// Reads one key into the keys that it stands for: several where a CIDR has to be expanded, none
/// after a mistake.
pub(super) fn read(token: &Token, context: &mut Context<'_>) -> Vec<Key> {
    let parts = match split(&token.text) {
        Ok(parts) => parts,
        Err(refusal) => {
            context.refuse(token.span, refusal);
            return Vec::new();
        }
    };
    if parts.scheme != Scheme::Dns {
        let name = parts.scheme.name();
        let message = format!("'{name}://' is known but not built yet");
        let mistake = Mistake::error(token.span, message).label("not in this version of ringdns");
        context.report(
            mistake.help("this version answers over UDP and TCP: write the zone without a scheme"),
        );
    }
    let names_port = parts.port.is_some();
    let port =
        parts.port.unwrap_or_else(|| parts.scheme.default_port(context.surroundings.default_port));
    zones(parts.zone, token.span, context)
        .into_iter()
        .map(|zone| Key { scheme: parts.scheme, zone, port, names_port })
        .collect()
}

/// The zones that a word names, none after a mistake.
pub(super) fn zones(text: &str, span: Span, context: &mut Context<'_>) -> Vec<Zone> {
    if context.zone_count > COREFILE_ZONES_MAX {
        return Vec::new();
    }
    let zones = match zone::expand(text) {
        Ok(zones) => zones,
        Err(refusal) => {
            context.refuse(span, refusal);
            return Vec::new();
        }
    };
    context.zone_count += zones.len();
    if context.zone_count > COREFILE_ZONES_MAX {
        let message = format!("more than {COREFILE_ZONES_MAX} zones");
        context.report(Mistake::error(span, message).label("one too many"));
        return Vec::new();
    }
    zones
}

struct Parts<'t> {
    scheme: Scheme,
    /// Not yet known to be a name.
    zone: &'t str,
    port: Option<u16>,
}

fn split(text: &str) -> Result<Parts<'_>, Refusal> {
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::Dns, text),
        Some((name, rest)) => match Scheme::ALL.into_iter().find(|scheme| scheme.name() == name) {
            Some(scheme) => (scheme, rest),
            None => return Err(unknown_scheme(name)),
        },
    };
    // The last colon of an IPv6 CIDR stands before hexadecimal digits or the slash of its length.
    let Some((zone, port)) = rest.rsplit_once(':').filter(|(_, port)| !port.contains('/')) else {
        return Ok(Parts { scheme, zone: rest, port: None });
    };
    if port.is_empty() {
        let message = format!("expecting data after last colon: \"{}\"", quoted(rest));
        return Err(Refusal::new(message, "ends with a colon").help("a port follows the colon"));
    }
    match port.parse() {
        Ok(port) => Ok(Parts { scheme, zone, port: Some(port) }),
        Err(_) => Err(Refusal::new(format!("invalid port in '{}'", quoted(rest)), "not a port")
            .help("a port is a number from 0 to 65535 after the last colon")),
    }
}

fn unknown_scheme(name: &str) -> Refusal {
    let refusal = Refusal::new(format!("unknown scheme '{}://'", quoted(name)), "no such scheme");
    match nearest(name, Scheme::ALL.map(Scheme::name)) {
        Some(meant) => refusal.help(format!("did you mean `{meant}://`?")),
        None => refusal.help("a zone needs no scheme"),
    }
}

/// Notes every key that another block, or the same, already answers for on the same addresses. A
/// block without `bind` has every address.
pub(super) fn check_overlaps(blocks: &[(ServerBlock, Vec<Span>)], context: &mut Context<'_>) {
    let mut served: HashMap<(Scheme, &Zone, u16), Served<'_>> = HashMap::new();
    for (block, spans) in blocks {
        for (key, span) in block.keys.iter().zip(spans) {
            let served = served.entry((key.scheme, &key.zone, key.port)).or_default();
            match served.clash(&block.bind) {
                Some(clash) => context.mistakes.push_error(|| overlap(key, *span, &clash)),
                None if block.bind.is_empty() => served.everywhere = Some(*span),
                None => served.on.extend(block.bind.iter().map(|bind| (&bind.address, *span))),
            }
            served.first =
                served.first.or_else(|| block.bind.first().map(|bind| (&bind.address, *span)));
        }
    }
}

/// Where one key was seen before.
#[derive(Default)]
struct Served<'b> {
    /// Without `bind`.
    everywhere: Option<Span>,
    on: HashMap<&'b ListenIp, Span>,
    /// The first of `on`.
    first: Option<(&'b ListenIp, Span)>,
}

struct Clash<'b> {
    /// `None`: every address.
    address: Option<&'b ListenIp>,
    other_address: Option<&'b ListenIp>,
    other: Span,
}

impl<'b> Served<'b> {
    fn clash(&self, bind: &'b [Bind]) -> Option<Clash<'b>> {
        if let Some(other) = self.everywhere {
            return Some(Clash {
                address: bind.first().map(|bind| &bind.address),
                other_address: None,
                other,
            });
        }
        if bind.is_empty() {
            let (address, other) = self.first?;
            return Some(Clash { address: None, other_address: Some(address), other });
        }
        bind.iter().find_map(|Bind { address, .. }| {
            let other = *self.on.get(address)?;
            Some(Clash { address: Some(address), other_address: Some(address), other })
        })
    }
}

fn overlap(key: &Key, span: Span, clash: &Clash<'_>) -> Mistake {
    let named = |address: Option<&ListenIp>| match address {
        Some(address) => format!("{key} on {}", address.ip),
        None => key.to_string(),
    };
    let this = named(clash.address);
    if clash.address == clash.other_address {
        return Mistake::error(span, format!("cannot serve {this} - it is already defined"))
            .label("defined again here")
            .also(clash.other, "first defined here");
    }
    let other = named(clash.other_address);
    Mistake::error(
        span,
        format!("cannot serve {this} - zone overlap listener capacity with {other}"),
    )
    .label("one of the two has no `bind` and so every address")
    .also(clash.other, "already served here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |text: &str, expected: Option<(Scheme, &str, Option<u16>)>| {
            let parts = split(text).ok().map(|p| (p.scheme, p.zone, p.port));
            assert_eq!(parts, expected, "{text}");
        };
        check(".:53", Some((Scheme::Dns, ".", Some(53))));
        check("example.org", Some((Scheme::Dns, "example.org", None)));
        check("dns://.:1053", Some((Scheme::Dns, ".", Some(1053))));
        check("https3://a", Some((Scheme::Https3, "a", None)));
        check("2001:db8::/32", Some((Scheme::Dns, "2001:db8::/32", None)));
        check("2001:db8::/32:53", Some((Scheme::Dns, "2001:db8::/32", Some(53))));
        check("10.0.0.0/8:53", Some((Scheme::Dns, "10.0.0.0/8", Some(53))));
        check("a:", None);
        check("a:65536", None);
        check("a:http", None);
        check("DNS://a", None);
    }
}
