//! Schemas for kubeconform, from the API server's own description of its API: this machine may have
//! no internet, and these are of the same version.

use std::collections::BTreeMap;
use std::path::Path;

use kube::api::ListParams;
use kube::core::Request;
use serde_json::{Map, Value, json};

use crate::objects::Objects;

/// The pattern of the files' names, as kubeconform's `-schema-location` wants it.
pub const FILE: &str = "{{.ResourceKind}}{{.KindSuffix}}.json";

/// The beginning of a reference to a definition.
const REFERENCE: &str = "#/definitions/";

impl Objects {
    /// The API server's description of its API.
    #[must_use]
    pub fn openapi(&self) -> String {
        let openapi = Request::new("/openapi/v2").list(&ListParams::default()).expect("a request");
        let text = self.runtime.block_on(self.client.request_text(openapi));
        text.expect("a description of the API")
    }

    /// Writes a schema for each kind into `folder`; with them, unknown fields are mistakes.
    pub fn write_schemas(&self, folder: &Path) {
        let document: Value = serde_json::from_str(&self.openapi()).expect("JSON");
        let definitions = document["definitions"].as_object().expect("definitions");
        let strict: Map<String, Value> =
            definitions.iter().map(|(name, schema)| (name.clone(), strict(schema))).collect();
        let kinds: BTreeMap<String, &String> = definitions
            .iter()
            .flat_map(|(name, schema)| files(schema).map(move |file| (file, name)))
            .collect();
        for (file, name) in kinds {
            let mut needed = Map::new();
            collect(name, &strict, &mut needed);
            let schema = json!({ "$ref": format!("{REFERENCE}{name}"), "definitions": needed });
            std::fs::write(folder.join(file), schema.to_string()).expect("a schema");
        }
    }
}

/// Adds the definition `name` and those that it refers to.
fn collect(name: &str, all: &Map<String, Value>, needed: &mut Map<String, Value>) {
    if needed.contains_key(name) {
        return;
    }
    let schema = all.get(name).unwrap_or_else(|| panic!("no definition {name}"));
    needed.insert(name.to_owned(), schema.clone());
    let mut rest = vec![schema];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                if let Some(name) = reference.and_then(|text| text.strip_prefix(REFERENCE)) {
                    collect(name, all, needed);
                }
                rest.extend(fields.values());
            }
            Value::Array(values) => rest.extend(values),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// The names of the files for a definition: kind, group without its domain, version.
fn files(schema: &Value) -> impl Iterator<Item = String> {
    let kinds = schema["x-kubernetes-group-version-kind"].as_array().cloned().unwrap_or_default();
    kinds.into_iter().filter_map(|kind| {
        let word = |key: &str| kind[key].as_str().map(str::to_lowercase);
        let group = word("group")?;
        let group = group.split('.').next().unwrap_or_default();
        let prefix = if group.is_empty() { String::new() } else { format!("{group}-") };
        Some(format!("{}-{prefix}{}.json", word("kind")?, word("version")?))
    })
}

/// The schema with no other properties than those that it names.
fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: Map<String, Value> =
                fields.iter().map(|(key, value)| (key.clone(), strict(value))).collect();
            let names_fields = fields.get("properties").is_some_and(Value::is_object);
            if names_fields && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            // int-or-string is described as a string, which a number is too.
            if fields.get("format") == Some(&json!("int-or-string")) {
                fields.insert("type".to_owned(), json!(["string", "integer"]));
            }
            Value::Object(fields)
        }
        Value::Array(values) => Value::Array(values.iter().map(strict).collect()),
        other => other.clone(),
    }
}
