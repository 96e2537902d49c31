//! The text of a manifest to raw objects: YAML (any number of documents) or JSON, single objects or Lists of them.
//!
//! Objects of other kinds are skipped. Text that is not well-formed, or that ends too early, is an error with its place; an
//! object that is well-formed but has fields of the wrong type is told by its place, and the others are not touched by it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::convert::Refusal;
use crate::object::ObjectKey;
use crate::raw::{self, Kind, Metadata};

/// One object of a manifest.
#[derive(Debug)]
pub(super) struct Document {
    /// Line and column where it begins; `None` in JSON.
    pub(super) place: Option<(u64, u64)>,
    pub(super) key: ObjectKey,
    pub(super) kind: Kind,
    pub(super) object: Result<Object, Refusal>,
}

#[derive(Debug)]
pub(super) enum Object {
    Namespace(raw::Namespace),
    Service(raw::Service),
    EndpointSlice(raw::EndpointSlice),
    Pod(raw::Pod),
}

/// Text that cannot be read. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextError {
    pub(super) place: Option<(u64, u64)>,
    pub(super) cause: String,
}

/// What one document or one item of a List turns out to be.
///
/// Made from its fields as soon as they are read: a large List is never held in memory field by field.
#[derive(Debug, Deserialize)]
#[serde(from = "Fields")]
enum Item {
    Object {
        kind: Kind,
        key: ObjectKey,
        object: Result<Object, Refusal>,
    },
    /// With the kind of its items, where it is a typed list.
    List {
        item_type: Option<(String, String)>,
        items: Vec<Spanned<Self>>,
    },
    /// Of a kind that answers do not depend on.
    Other,
    /// Without a kind: the items of a typed list have none of their own.
    Untyped(Box<Fields>),
}

/// The fields of an object of any kind. The kind decides what they mean, and may come last, so they are kept as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Metadata,
    spec: Value,
    status: Value,
    address_type: Value,
    endpoints: Value,
    ports: Value,
    items: Option<Vec<Spanned<Item>>>,
}

impl From<Fields> for Item {
    fn from(mut fields: Fields) -> Self {
        let Some(kind) = fields.kind.take() else { return Self::Untyped(Box::new(fields)) };
        let api_version = fields.api_version.take().unwrap_or_default();
        Self::of_type(&api_version, &kind, fields)
    }
}

impl Item {
    fn of_type(api_version: &str, kind: &str, mut fields: Fields) -> Self {
        if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), fields.items.take()) {
            let item_type =
                (!item_kind.is_empty()).then(|| (api_version.to_owned(), item_kind.to_owned()));
            return Self::List { item_type, items };
        }
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        match known.filter(|known| known.api_version() == api_version) {
            Some(kind) => {
                Self::Object { kind, key: fields.metadata.key(), object: typed(kind, fields) }
            }
            None => Self::Other,
        }
    }
}

/// `is_json`: the file's name says so.
pub(super) fn read(text: &str, is_json: bool) -> Result<Vec<Document>, TextError> {
    let items = if is_json {
        from_json(text)?
    } else if text.trim_start().starts_with('{') {
        // Flow YAML looks the same at first.
        from_json(text).or_else(|_| from_yaml(text))?
    } else {
        from_yaml(text)?
    };
    if items.is_empty() {
        // A file that is being written looks like this for a moment: not a cluster without objects.
        return Err(TextError { place: None, cause: "there is no document in it".to_owned() });
    }
    let mut documents = Vec::new();
    for item in items {
        flatten(item, None, &mut documents)?;
    }
    Ok(documents)
}

fn from_json(text: &str) -> Result<Vec<Spanned<Item>>, TextError> {
    let items = serde_json::Deserializer::from_str(text).into_iter();
    items.collect::<Result<_, serde_json::Error>>().map_err(|error| TextError {
        place: Some((error.line() as u64, error.column() as u64)),
        cause: without_place(error.to_string()),
    })
}

fn from_yaml(text: &str) -> Result<Vec<Spanned<Item>>, TextError> {
    // The operator's own files, read whole: the budgets against hostile YAML would only refuse large clusters.
    // Aliases have their own limits, which stay.
    let options = serde_saphyr::options! { budget: None, with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let place = error.location().map(|location| (location.line(), location.column()));
        TextError { place, cause: without_place(error.to_string()) }
    })
}

/// Both parsers say where once more at the end of their messages.
fn without_place(mut message: String) -> String {
    if let Some(at) = message.rfind(" at line ") {
        message.truncate(at);
    }
    message
}

/// Adds the objects of one document; Lists may hold Lists.
fn flatten(
    item: Spanned<Item>,
    item_type: Option<&(String, String)>,
    into: &mut Vec<Document>,
) -> Result<(), TextError> {
    let begins = item.referenced;
    let place = (begins.line() != 0).then(|| (begins.line(), begins.column()));
    let item = match (item.value, item_type) {
        (Item::Untyped(fields), Some((api_version, kind))) => {
            Item::of_type(api_version, kind, *fields)
        }
        (item, _) => item,
    };
    match item {
        Item::Object { kind, key, object } => into.push(Document { place, key, kind, object }),
        Item::List { item_type, items } => {
            for item in items {
                flatten(item, item_type.as_ref(), into)?;
            }
        }
        Item::Other => {}
        Item::Untyped(_) => {
            let cause = "an object without kind: is the text cut short?".to_owned();
            return Err(TextError { place, cause });
        }
    }
    Ok(())
}

fn typed(kind: Kind, fields: Fields) -> Result<Object, Refusal> {
    let metadata = fields.metadata;
    Ok(match kind {
        Kind::Namespace => Object::Namespace(raw::Namespace { metadata }),
        Kind::Service => {
            let spec = field::<Option<_>>("spec", fields.spec)?.unwrap_or_default();
            Object::Service(raw::Service { metadata, spec })
        }
        Kind::EndpointSlice => Object::EndpointSlice(raw::EndpointSlice {
            metadata,
            address_type: field("addressType", fields.address_type)?,
            endpoints: field("endpoints", fields.endpoints)?,
            ports: field("ports", fields.ports)?,
        }),
        Kind::Pod => {
            let status = field::<Option<_>>("status", fields.status)?.unwrap_or_default();
            Object::Pod(raw::Pod { metadata, status })
        }
    })
}

fn field<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::Shape(format!("{name}: {error}").into()))
}
