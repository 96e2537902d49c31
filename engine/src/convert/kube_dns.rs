//! Converts kube-dns's ConfigMap to a Corefile: `stubDomains`, `upstreamNameservers` and
//! `federations`, each a JSON text.
//!
//! Invariant: only valid names and addresses are written.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;

use super::config_map::{Data, line};
use super::{ConvertFailure, Converted, Note, without_place};
use crate::corefile::value::target;
use crate::corefile::value::target::Target;
use crate::corefile::value::zone::{self, Zone};
use crate::limits::UPSTREAMS_MAX;

/// The keys that kube-dns reads.
pub(super) const KEYS: [&str; 3] = ["stubDomains", "upstreamNameservers", "federations"];

/// The parsed ConfigMap.
#[derive(Debug, Default)]
struct KubeDnsSettings {
    /// Zones without the final dot, and their servers, at least one each.
    stubs: Vec<(String, Vec<String>)>,
    /// Empty: use those of /etc/resolv.conf.
    upstreams: Vec<String>,
}

pub(super) fn convert(data: &Data) -> Result<Converted, ConvertFailure> {
    let mut settings = KubeDnsSettings::default();
    let mut notes = vec![note(
        None,
        "the cluster's domain is not in the ConfigMap: if it is not cluster.local (see \
         `--domain` of kube-dns), change it in the line `kubernetes`",
    )];
    for (key, value) in data {
        let line = line(value);
        match key.as_str() {
            "stubDomains" => settings.stubs = stubs(value, &mut notes)?,
            "upstreamNameservers" => {
                settings.upstreams = json::<Vec<String>>(key, value)?.unwrap_or_default();
                check_servers(key, None, &settings.upstreams).map_err(|text| note(line, &text))?;
            }
            "federations" => {
                let federations: Option<BTreeMap<String, String>> = json(key, value)?;
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
    notes.sort_by_key(|note| note.line);
    Ok(Converted { corefile: corefile(&settings), notes, excerpts: Vec::new() })
}

fn note(line: Option<usize>, text: &str) -> Note {
    Note { line, text: text.to_owned() }
}

/// `None` for an empty value.
fn json<T: DeserializeOwned>(
    key: &str,
    value: &Spanned<String>,
) -> Result<Option<T>, ConvertFailure> {
    if value.value.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&value.value).map(Some).map_err(|error| {
        let (at_line, column) = (error.line(), error.column());
        let why = without_place(error.to_string());
        note(line(value), &format!("{key}: line {at_line}, column {column} of its value: {why}"))
    })
}

fn stubs(
    value: &Spanned<String>,
    notes: &mut Vec<Note>,
) -> Result<Vec<(String, Vec<String>)>, ConvertFailure> {
    const KEY: &str = "stubDomains";
    let line = line(value);
    let mut stubs: Vec<(String, Vec<String>)> = Vec::new();
    let domains: Option<BTreeMap<String, Vec<String>>> = json(KEY, value)?;
    for (domain, servers) in domains.unwrap_or_default() {
        let fail = |why: &str| Err(note(line, &format!("{KEY}: \"{domain}\": {why}")));
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
            notes.push(note(line, &format!("{KEY}: \"{domain}\" is left out: it has no server")));
            continue;
        }
        check_servers(KEY, Some(&domain), &servers).map_err(|text| note(line, &text))?;
        if name == CLUSTER_DOMAIN {
            let text = "takes over the names of the cluster's own Services";
            notes.push(note(line, &format!("{KEY}: \"{domain}\" {text}")));
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
        let is_plain = !server.contains("://") && !server.contains('#');
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
