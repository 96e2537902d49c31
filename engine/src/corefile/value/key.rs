//! The keys of a server block: scheme, zone and port. The syntax of a zone is `zone`'s.
//!
//! Invariant: a `Key` has a valid zone.

use std::collections::HashSet;

use super::zone::{self, Oddity, Zone};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::word::quoted;
use crate::limits::COREFILE_ZONES_MAX;

/// What a server block serves: `dns://cluster.local:53`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub scheme: Scheme,
    pub zone: Zone,
    /// 0 lets the kernel choose.
    pub port: u16,
    /// The Corefile names the port; otherwise it is the default one.
    pub names_port: bool,
}

/// How queries arrive. `Dns`, `Tls` and `Https` are built; the others are mistakes until they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    #[default]
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

    /// As written before `://`.
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

/// Reads one key. The result is several keys for a CIDR that has to be expanded, none after a
/// mistake.
pub(crate) fn read(token: &Token, context: &mut Context<'_>) -> Vec<Key> {
    let parts = match split(&token.text) {
        Ok(parts) => parts,
        Err(refusal) => {
            context.refuse(token.span, refusal);
            return Vec::new();
        }
    };
    if !matches!(parts.scheme, Scheme::Dns | Scheme::Tls | Scheme::Https) {
        let name = parts.scheme.name();
        let message = format!("'{name}://' is known but not built yet");
        let mistake = Mistake::error(token.span, message).label("not in this version of ringdns");
        context.report(mistake.help(
            "this version serves UDP and TCP, TLS, and HTTPS: write no scheme, `tls://` or \
             `https://`",
        ));
    }
    let names_port = parts.port.is_some();
    let port =
        parts.port.unwrap_or_else(|| parts.scheme.default_port(context.surroundings.default_port));
    let zones = match zone::expand(parts.zone) {
        Ok(zones) => zones,
        Err(refusal) => {
            let refusal = match parts {
                KeyParts { zone: "", port: Some(port), .. } => {
                    refusal.help(format!("for every name on this port write `.:{port}`"))
                }
                KeyParts { .. } => refusal,
            };
            context.refuse(token.span, refusal);
            return Vec::new();
        }
    };
    if let Some(Oddity { label, help }) = zone::oddity(parts.zone) {
        let help = match parts.zone.parse::<u16>() {
            Ok(number) => format!("for every name on port {number} write `.:{number}`"),
            Err(_) => help,
        };
        warn_of_name(token.span, parts.zone, label, help, context);
    }
    bounded(zones, token.span, context)
        .into_iter()
        .map(|zone| Key { scheme: parts.scheme, zone, port, names_port })
        .collect()
}

/// The zones that an argument names. As in CoreDNS, an argument that is not a domain name is
/// ignored; ringdns warns about it.
pub(crate) fn zones(text: &str, span: Span, context: &mut Context<'_>) -> Vec<Zone> {
    required_zones(text, span, context).unwrap_or_else(|refusal| {
        let help = refusal.help.unwrap_or_else(|| "correct it, or delete it".to_owned());
        let mistake = Mistake::warning(span, refusal.message).label("ignored");
        context.report(mistake.help(help));
        Vec::new()
    })
}

/// The zones that an argument names, if it is certainly meant as a zone. Nothing is reported.
pub(crate) fn certain_zones(text: &str) -> Option<Vec<Zone>> {
    let KeyParts { zone, .. } = split(text).ok()?;
    if zone::oddity(zone).is_some() {
        return None;
    }
    zone::expand(zone).ok()
}

/// The zones that a plugin's arguments name, each once; without arguments, the zones of its block.
pub(crate) fn zones_or_keys(args: &[Token], keys: &[Key], context: &mut Context<'_>) -> Vec<Zone> {
    let mut zones: Vec<Zone> = match args {
        [] => keys.iter().map(|key| key.zone.clone()).collect(),
        args => args.iter().flat_map(|arg| zones(&arg.text, arg.span, context)).collect(),
    };
    let mut seen = HashSet::new();
    zones.retain(|zone| seen.insert(zone.clone()));
    zones
}

/// The zones that an argument names, where a zone is required.
pub(crate) fn required_zones(
    text: &str,
    span: Span,
    context: &mut Context<'_>,
) -> Result<Vec<Zone>, Refusal> {
    let KeyParts { zone, .. } = split(text)?;
    let zones = zone::expand(zone)?;
    if zone.len() < text.len() {
        let message = format!("only the zone of '{}' is used: {}", quoted(text), quoted(zone));
        let mistake = Mistake::warning(span, message).label("expected a zone, not an address");
        context.report(mistake.help(format!("write `{}`", quoted(zone))));
    }
    if let Some(Oddity { label, help }) = zone::oddity(zone) {
        let help = match context.plugin {
            Some("cache") if label.starts_with("looks like a duration") => {
                "the TTL of `cache` is a number of seconds without a unit, such as `cache 30`"
                    .to_owned()
            }
            Some("forward") if label == "looks like an address" => {
                "zones come first, then upstreams: `forward . 192.0.2.1`".to_owned()
            }
            _ => help,
        };
        warn_of_name(span, zone, label, help, context);
    }
    Ok(bounded(zones, span, context))
}

/// Warns about a name that is valid but was probably not meant as a zone.
fn warn_of_name(
    span: Span,
    name: &str,
    label: &'static str,
    help: String,
    context: &mut Context<'_>,
) {
    let message = format!("'{}' is read as the name of a zone", quoted(name));
    context.report(Mistake::warning(span, message).label(label).help(help));
}

/// The zones, or none if the Corefile has too many.
fn bounded(zones: Vec<Zone>, span: Span, context: &mut Context<'_>) -> Vec<Zone> {
    let is_told = context.zone_count > COREFILE_ZONES_MAX;
    context.zone_count += zones.len();
    if context.zone_count <= COREFILE_ZONES_MAX {
        return zones;
    }
    if !is_told {
        let message = format!("more than {COREFILE_ZONES_MAX} zones");
        context.report(Mistake::error(span, message).label("one too many"));
    }
    Vec::new()
}

struct KeyParts<'t> {
    scheme: Scheme,
    /// Not validated as a name yet.
    zone: &'t str,
    port: Option<u16>,
}

/// As in CoreDNS, what is not a scheme or a number belongs to the zone's name.
fn split(text: &str) -> Result<KeyParts<'_>, Refusal> {
    let (scheme, rest) = text
        .split_once("://")
        .and_then(|(name, rest)| {
            Some((Scheme::ALL.into_iter().find(|scheme| scheme.name() == name)?, rest))
        })
        .unwrap_or((Scheme::Dns, text));
    let Some((zone, port)) = rest.rsplit_once(':') else {
        return Ok(KeyParts { scheme, zone: rest, port: None });
    };
    if port.is_empty() {
        let message = format!("expecting data after last colon: \"{}\"", quoted(rest));
        return Err(Refusal::new(message, "ends with a colon").help("a port follows the colon"));
    }
    match (port.parse(), port.parse::<i64>()) {
        (Ok(port), _) => Ok(KeyParts { scheme, zone, port: Some(port) }),
        (Err(_), Ok(_)) => {
            Err(Refusal::new(format!("invalid port in '{}'", quoted(rest)), "not a port")
                .help("a port is a number from 0 to 65535 after the last colon"))
        }
        (Err(_), Err(_)) => Ok(KeyParts { scheme, zone: rest, port: None }),
    }
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
        check("a:http", Some((Scheme::Dns, "a:http", None)));
        check("a:53{", Some((Scheme::Dns, "a:53{", None)));
        check("DNS://a", Some((Scheme::Dns, "DNS://a", None)));
        check("a:-1", None);
    }
}
