//! Converts a ConfigMap with additions to the Corefile that a cluster ships: server blocks in
//! `*.server`, directives of the cluster's own block in `*.override` and `*.include`. The result is
//! the same ConfigMap with each of these texts converted.
//!
//! Invariant: nothing of the ConfigMap is lost, whatever its keys are.

use serde::Serialize;
use serde_json::Value;
use serde_saphyr::LitString;

use super::config_map::{Data, line, note};
use super::{ConvertFailure, Converted, Excerpt};

/// Where a text of the ConfigMap belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextPart {
    /// In the Corefile: whole server blocks.
    Corefile,
    /// In a server block: directives.
    Block,
}

impl TextPart {
    /// By the suffix of the key, which is that of the files that shipped Corefiles import.
    pub(crate) fn of(key: &str) -> Option<Self> {
        match key.rsplit_once('.')?.1 {
            "server" => Some(Self::Corefile),
            "override" | "include" => Some(Self::Block),
            _ => None,
        }
    }
}

/// Wraps the directives of a block into a whole Corefile.
const BLOCK: (&str, &str) = (". { ", "\n}\n");

/// `whole`: the ConfigMap with all its fields.
pub(super) fn convert(data: &Data, mut whole: Value) -> Result<Converted, ConvertFailure> {
    let mut converted = Converted::default();
    for (key, value) in data {
        let at = line(value);
        let about = |text: &str| note(at, format!("{key}: {text}"));
        let Some(part) = TextPart::of(key) else {
            let text = "is left as it is: no shipped Corefile imports a file of this name";
            converted.notes.push(about(text));
            continue;
        };
        let (before, after) = match part {
            TextPart::Corefile => ("", ""),
            TextPart::Block => BLOCK,
        };
        let corefile = format!("{before}{}{after}", value.value);
        let of_key = super::corefile(&corefile).map_err(|failure| {
            let place = failure.line.map_or_else(String::new, |line| format!("line {line}: "));
            about(&format!("{place}{}", failure.text))
        })?;
        for one in &of_key.notes {
            let place = one.line.map_or_else(String::new, |line| format!("line {line}: "));
            converted.notes.push(about(&format!("{place}{}", one.text)));
        }
        let text = of_key.corefile.strip_prefix(before);
        let text = text.and_then(|text| text.strip_suffix(after)).unwrap_or(&value.value);
        if let Some(slot) = whole.get_mut("data").and_then(|data| data.get_mut(key)) {
            *slot = Value::String(text.to_owned());
        }
        converted.excerpts.push(Excerpt { name: key.clone(), corefile: of_key.corefile });
    }
    converted.notes.push(note(
        None,
        "it stays a ConfigMap: the Corefile that imports its keys is in another one, `coredns`"
            .to_owned(),
    ));
    converted.corefile = shown(whole);
    Ok(converted)
}

/// A ConfigMap with its texts as literal blocks, for readers.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
    data: std::collections::BTreeMap<String, LitString>,
}

fn shown(mut whole: Value) -> String {
    let json = serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n";
    let Some(mut rest) = whole.as_object_mut().map(std::mem::take) else { return json };
    let data = rest.remove("data");
    let texts = data.as_ref().and_then(Value::as_object).into_iter().flatten();
    let data = texts
        .filter_map(|(key, text)| Some((key.clone(), LitString(text.as_str()?.to_owned()))))
        .collect();
    let yaml = serde_saphyr::to_string(&Shown { rest, data }).unwrap_or_default();
    // JSON is YAML too: use it for texts that literal blocks cannot express.
    let reads_the_same =
        serde_saphyr::from_str::<Value>(&yaml).ok() == serde_json::from_str::<Value>(&json).ok();
    if reads_the_same { yaml } else { json }
}
