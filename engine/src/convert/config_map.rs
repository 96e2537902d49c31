//! Reads a ConfigMap, or a List with one, and determines its kind: CoreDNS's, kube-dns's, or a
//! managed cluster's additions to a Corefile.
//!
//! Invariant: any other object is an error that names what it is; nothing is guessed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;

use super::{ConvertFailure, Converted, Note, custom, kube_dns, without_place};

/// Texts by key.
pub(super) type Data = BTreeMap<String, Spanned<String>>;

#[derive(Debug, Deserialize)]
pub(super) struct ConfigMap {
    #[serde(default)]
    metadata: Metadata,
    /// `None` if nothing is configured.
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

/// The fields that every object of the API has.
#[derive(Debug, Deserialize)]
struct Object {
    kind: Option<String>,
    /// Only in a List.
    #[serde(default)]
    items: Option<Vec<serde_json::Value>>,
}

/// The component that a ConfigMap configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// It has a Corefile.
    CoreDns,
    /// The users' additions to the Corefile that a managed cluster ships: `coredns-custom` of AKS,
    /// k3s, RKE2, LKE.
    Custom,
    KubeDns,
}

pub(super) fn convert(text: &str) -> Result<Converted, ConvertFailure> {
    let object: Object = match parse(text) {
        Ok(object) => object,
        Err(failure) => match documents(text) {
            Some(items) => Object { kind: Some("List".to_owned()), items: Some(items) },
            None => return Err(failure),
        },
    };
    match (object.kind.as_deref(), object.items) {
        (Some("ConfigMap"), _) => one(&parse(text)?, || parse(text)),
        (Some(kind), Some(items)) if kind.ends_with("List") => of_list(items),
        (kind, _) => {
            let kind = kind.unwrap_or("document without a kind");
            Err(note(None, format!("this is a {kind}, not a ConfigMap: {TRY}")))
        }
    }
}

const TRY: &str = "try `kubectl get configmap coredns -n kube-system -o yaml`, or `kube-dns` or \
     `coredns-custom` instead of `coredns`";

fn one(
    map: &ConfigMap,
    whole: impl FnOnce() -> Result<serde_json::Value, ConvertFailure>,
) -> Result<Converted, ConvertFailure> {
    let none = Data::new();
    let data = map.data.as_ref().unwrap_or(&none);
    match owner(map) {
        Some(Owner::CoreDns) => of_core_dns(data),
        Some(Owner::Custom) => custom::convert(data, whole()?),
        Some(Owner::KubeDns) => kube_dns::convert(data),
        None => Err(note(None, format!("this is {}, {NEITHER}: {TRY}", shown(map)))),
    }
}

const NEITHER: &str = "which is neither CoreDNS's (it has no `Corefile`, `*.server`, \
     `*.override` or `*.include`) nor kube-dns's (no `stubDomains`, `upstreamNameservers` or \
     `federations`)";

/// Converts the only item of a List that is a ConfigMap of CoreDNS or kube-dns.
fn of_list(items: Vec<serde_json::Value>) -> Result<Converted, ConvertFailure> {
    let is_config_map = |item: &serde_json::Value| {
        // Items of a ConfigMapList have no kind if an API server wrote it.
        item.get("kind").is_none_or(|kind| kind == "ConfigMap")
    };
    let of_use = |item: serde_json::Value| {
        let map: ConfigMap = serde_json::from_value(item.clone()).ok()?;
        owner(&map).map(|_| (map, item))
    };
    let count = items.len();
    let maps: Vec<_> = items.into_iter().filter(is_config_map).filter_map(of_use).collect();
    match maps.as_slice() {
        [] => Err(note(
            None,
            format!(
                "none of the {count} objects of this List is a ConfigMap of CoreDNS or kube-dns: \
                 {TRY}"
            ),
        )),
        [(map, item)] => {
            let mut converted = one(map, || Ok(item.clone()))?;
            if count > 1 {
                let text =
                    format!("of the {count} objects of this List only {} is converted", shown(map));
                converted.notes.insert(0, note(None, text));
            }
            Ok(converted)
        }
        several => {
            let names: Vec<_> = several.iter().map(|(map, _)| map.metadata.name.as_str()).collect();
            Err(note(
                None,
                format!(
                    "this List has {} ConfigMaps to convert, {}: convert one at a time: \
                     `kubectl get configmap NAME -n kube-system -o yaml | ringdns convert -`",
                    names.len(),
                    names.join(", ")
                ),
            ))
        }
    }
}

fn owner(map: &ConfigMap) -> Option<Owner> {
    let mut keys = map.data.iter().flat_map(BTreeMap::keys);
    if map.data.as_ref().is_some_and(|data| data.contains_key("Corefile")) {
        return Some(Owner::CoreDns);
    }
    if keys.clone().any(|key| custom::TextPart::of(key).is_some())
        || map.metadata.name == "coredns-custom"
    {
        return Some(Owner::Custom);
    }
    if keys.any(|key| kube_dns::KEYS.contains(&key.as_str())) || map.metadata.name == "kube-dns" {
        return Some(Owner::KubeDns);
    }
    None
}

fn shown(map: &ConfigMap) -> String {
    let Metadata { name, namespace } = &map.metadata;
    let keys: Vec<_> = map.data.iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let keys = match keys.as_slice() {
        [] => "without data".to_owned(),
        keys => format!("with {}", keys.join(", ")),
    };
    let name = match (namespace.as_str(), name.as_str()) {
        (_, "") => String::new(),
        ("", name) => format!(" {name}"),
        (namespace, name) => format!(" {namespace}/{name}"),
    };
    format!("the ConfigMap{name} {keys}")
}

/// Converts a ConfigMap with a Corefile.
fn of_core_dns(data: &Data) -> Result<Converted, ConvertFailure> {
    let Some(corefile) = data.get("Corefile") else { return Ok(Converted::default()) };
    let mut converted = super::corefile(&corefile.value)?;
    if !converted.notes.is_empty() {
        let text = "line numbers below count from this line, that of `Corefile`".to_owned();
        converted.notes.insert(0, note(line(corefile), text));
    }
    for (key, value) in data.iter().filter(|(key, _)| *key != "Corefile") {
        let text =
            format!("{key}: is left out: it is a separate file, which the Corefile may import");
        converted.notes.push(note(line(value), text));
    }
    Ok(converted)
}

/// The documents of a text with more than one.
fn documents(text: &str) -> Option<Vec<serde_json::Value>> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).ok()?;
    (documents.len() > 1).then_some(documents)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConvertFailure> {
    let from_yaml = || {
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
            note(line, without_place(error.to_string()))
        })
    };
    if !text.trim_start().starts_with('{') {
        return from_yaml();
    }
    serde_json::from_str(text).or_else(|error: serde_json::Error| {
        // It may be YAML in flow style.
        from_yaml().map_err(|_| note(Some(error.line()), without_place(error.to_string())))
    })
}

pub(super) fn note(line: Option<usize>, text: String) -> Note {
    Note { line, text }
}

/// The line of a value in YAML; the JSON parser does not report it.
pub(super) fn line(value: &Spanned<String>) -> Option<usize> {
    usize::try_from(value.referenced.line()).ok().filter(|line| *line > 0)
}
