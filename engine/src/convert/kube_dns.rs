//! The settings in kube-dns's ConfigMap, `stubDomains`, `upstreamNameservers` and `federations`,
//! each a JSON text; and a Corefile of them.
//!
//! Invariant: only valid names and addresses are written.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::config_map::{Data, line};
use super::{ConvertFailure, Converted, Note, without_place};
use crate::corefile::value::target;
use crate::corefile::value::target::Target;
use crate::corefile::value::zone::{self, Zone};
use crate::limits::UPSTREAMS_MAX;

/// The keys that kube-dns reads.
pub(crate) const KEYS: [&str; 3] = ["stubDomains", "upstreamNameservers", "federations"];

/// The parsed ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeDnsSettings {
    /// Zones without the final dot, in order, and their servers, at least one each.
    pub stubs: Vec<(String, Vec<String>)>,
    /// Empty: use those of /etc/resolv.conf.
    pub upstreams: Vec<String>,
}

/// A key of the ConfigMap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KubeDnsEntry<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
    /// For notes.
    pub(crate) line: Option<usize>,
}

pub(super) fn convert(data: &Data) -> Result<Converted, ConvertFailure> {
    let mut notes = vec![note(
        None,
        "the cluster's domain is not in the ConfigMap: if it is not cluster.local (see \
         `--domain` of kube-dns), change it in the line `kubernetes`",
    )];
    let entries = data.iter().map(|(key, value)| KubeDnsEntry {
        key,
        value: &value.value,
        line: line(value),
    });
    let settings = read(entries, &mut notes)?;
    notes.sort_by_key(|note| note.line);
    Ok(Converted { corefile: corefile(&settings), notes, excerpts: Vec::new() })
}

/// Reads all keys. Adds notes about what is left out.
///
/// # Errors
/// What is invalid.
pub(crate) fn read<'a>(
    entries: impl Iterator<Item = KubeDnsEntry<'a>>,
    notes: &mut Vec<Note>,
) -> Result<KubeDnsSettings, ConvertFailure> {
    let mut settings = KubeDnsSettings::default();
    for entry in entries {
        let KubeDnsEntry { key, line, .. } = entry;
        match key {
            "stubDomains" => settings.stubs = stubs(entry, notes)?,
            "upstreamNameservers" => {
                settings.upstreams = json::<Vec<String>>(entry)?.unwrap_or_default();
                check_servers(key, None, &settings.upstreams).map_err(|text| note(line, &text))?;
            }
            "federations" => {
                let federations: Option<BTreeMap<String, String>> = json(entry)?;
                for (name, domain) in federations.unwrap_or_default() {
                    let text = format!(
                        "{key}: `{name}` ({domain}) is left out: Kubernetes no longer has this \
                         kind of federation, and neither CoreDNS since 1.7 nor ringdns serves \
                         its names"
                    );
                    notes.push(note(line, &text));
                }
            }
            other => {
                let text = format!("{other}: is left out: kube-dns has no such setting");
                notes.push(note(line, &text));
            }
        }
    }
    Ok(settings)
}

fn note(line: Option<usize>, text: &str) -> Note {
    Note { line, text: text.to_owned() }
}

/// `None` for an empty value.
fn json<T: DeserializeOwned>(entry: KubeDnsEntry<'_>) -> Result<Option<T>, ConvertFailure> {
    let KubeDnsEntry { key, value, line } = entry;
    if value.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(value).map(Some).map_err(|error| {
        let (at_line, column) = (error.line(), error.column());
        let why = without_place(error.to_string());
        note(line, &format!("{key}: line {at_line}, column {column} of its value: {why}"))
    })
}

fn stubs(
    entry: KubeDnsEntry<'_>,
    notes: &mut Vec<Note>,
) -> Result<Vec<(String, Vec<String>)>, ConvertFailure> {
    let KubeDnsEntry { key, line, .. } = entry;
    let mut stubs: Vec<(String, Vec<String>)> = Vec::new();
    let domains: Option<BTreeMap<String, Vec<String>>> = json(entry)?;
    for (domain, servers) in domains.unwrap_or_default() {
        let fail = |why: &str| Err(note(line, &format!("{key}: \"{domain}\": {why}")));
        let zone = match zone::expand(&domain).as_deref() {
            Ok([zone]) if !domain.contains('#') && zone::oddity(&domain).is_none() => zone.clone(),
            Ok(_) | Err(_) => return fail("not a domain name"),
        };
        if zone == Zone::root() {
            return fail("put the servers of all other names into `upstreamNameservers`");
        }
        let name = zone.text.strip_suffix('.').unwrap_or(&zone.text).to_owned();
        if stubs.iter().any(|(other, _)| *other == name) {
            return fail("listed twice: upper case and a final dot make no difference");
        }
        if servers.is_empty() {
            notes.push(note(line, &format!("{key}: \"{domain}\" is left out: it has no server")));
            continue;
        }
        check_servers(key, Some(&domain), &servers).map_err(|text| note(line, &text))?;
        if name == CLUSTER_DOMAIN {
            let text = "takes over the names of the cluster's own Services";
            notes.push(note(line, &format!("{key}: \"{domain}\" {text}")));
        }
        stubs.push((name, servers));
    }
    Ok(stubs)
}

/// Checks that all are IP addresses or hosts, with or without a port: kube-dns accepted nothing
/// else.
fn check_servers(key: &str, domain: Option<&str>, servers: &[String]) -> Result<(), String> {
    let place = domain.map_or_else(|| key.to_owned(), |domain| format!("{key}: \"{domain}\""));
    if servers.len() > UPSTREAMS_MAX {
        return Err(format!("{place}: {} servers are more than {UPSTREAMS_MAX}", servers.len()));
    }
    for server in servers {
        let is_special = |c: char| c.is_whitespace() || matches!(c, '#' | '{' | '}' | '"');
        let is_plain = !server.contains("://") && !server.contains(is_special);
        let read = target::read(server);
        let (Ok(Target::Dns(_) | Target::LinkLocal { .. } | Target::Host { .. }), true) =
            (read, is_plain)
        else {
            return Err(format!(
                "{place}: \"{server}\" is not an IP address or host, with or without a port"
            ));
        };
    }
    Ok(())
}

const CLUSTER_DOMAIN: &str = "cluster.local";

fn corefile(settings: &KubeDnsSettings) -> String {
    let upstreams = match settings.upstreams.as_slice() {
        [] => "/etc/resolv.conf".to_owned(),
        servers => servers.join(" "),
    };
    let mut text = format!(
        "\
.:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
    forward . {upstreams} {{
        max_concurrent 1000
    }}
    cache 30
    loop
    reload
    loadbalance
}}
"
    );
    for (zone, servers) in &settings.stubs {
        let servers = servers.join(" ");
        text += &format!(
            "
{zone}:53 {{
    errors
    cache 30
    loop
    forward . {servers} {{
        max_concurrent 1000
    }}
}}
"
        );
    }
    text
}
