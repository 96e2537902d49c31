//! Parses the text of a manifest into raw objects: YAML (any number of documents) or JSON; single
//! objects, Lists, or arrays of objects.
//!
//! Text that is malformed or truncated is an error with its position. In well-formed text, an
//! invalid entry costs only itself: it is reported with its position and the rest is kept. Objects
//! of other kinds are skipped.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use super::tree::{MapKey, Tree, add_duplicates};
use crate::object::ObjectKey;
use crate::raw::field::{Field, Shape, shown};
use crate::raw::{
    Kind, RawEndpointSlice, RawEndpoints, RawMetadata, RawNamespace, RawPod, RawService,
};

/// The contents of one file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) documents: Vec<Document>,
    /// Entries that are not objects, with their position and description.
    pub(super) non_objects: Vec<(Position, String)>,
    /// Objects of the four kinds in an unsupported version, counted by kind and version.
    pub(super) unsupported: BTreeMap<String, u64>,
}

/// Line and column, counted from 1; `None` in JSON.
pub(super) type Position = Option<(u64, u64)>;

/// One object of a manifest.
#[derive(Debug)]
pub(super) struct Document {
    /// Where the object begins.
    pub(super) position: Position,
    pub(super) key: ObjectKey,
    pub(super) object: ManifestObject,
    /// Paths of duplicate keys.
    pub(super) duplicates: Vec<String>,
}

#[derive(Debug)]
pub(super) enum ManifestObject {
    Namespace(RawNamespace),
    Service(RawService),
    EndpointSlice(RawEndpointSlice),
    Endpoints(RawEndpoints),
    Pod(RawPod),
}

/// Text that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextError {
    pub(super) position: Position,
    pub(super) cause: String,
}

/// What one document, or one item of a List, turns out to be.
///
/// It is built as soon as its fields are read, so that a large List is never held in memory field
/// by field.
#[derive(Debug)]
enum Item {
    Null,
    /// Not a map; the text describes it.
    NotAMap(String),
    Object(Box<Document>),
    /// `item_type` is the version and kind of the items of a typed list.
    List {
        item_type: Option<(String, String)>,
        items: Vec<Spanned<Self>>,
    },
    /// One of the four kinds in an unsupported version.
    Unsupported(String),
    /// A kind that answers do not depend on.
    Other,
    /// No kind: items of a typed list have none of their own.
    Untyped(Box<Fields>),
}

/// The fields of an object of any kind. They are kept as they are because the kind, which decides
/// what they mean, may come last.
#[derive(Debug, Default)]
struct Fields {
    values: Map<String, Value>,
    duplicates: Vec<String>,
    items: Field<Vec<Spanned<Item>>>,
}

/// Fields to keep, besides `items`.
const KEPT: [&str; 9] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "status",
    "addressType",
    "endpoints",
    "ports",
    "subsets",
];

/// What an object is, judged by its version and kind.
#[derive(Debug, PartialEq, Eq)]
enum ObjectType {
    Known(Kind),
    Endpoints,
    Unsupported,
    Other,
}

impl ObjectType {
    fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        let object_type = match known {
            Some(known) if known.group() == group => Self::Known(known),
            // Without even a version, assume our group.
            Some(known) if api_version.is_empty() => Self::Known(known),
            // Only this kind's name is unique to its group. The others have namesakes elsewhere.
            Some(Kind::EndpointSlice) => Self::Unsupported,
            Some(Kind::Namespace | Kind::Service | Kind::Pod) => return Self::Other,
            None if kind == "Endpoints" && group.is_empty() => Self::Endpoints,
            None => return Self::Other,
        };
        // The fields that are read are the same in all versions of EndpointSlice.
        let is_supported = match object_type {
            Self::Known(Kind::EndpointSlice) => matches!(version, "v1" | "v1beta1" | "v1alpha1"),
            Self::Known(_) | Self::Endpoints => version == "v1",
            Self::Unsupported | Self::Other => false,
        };
        if is_supported { object_type } else { Self::Unsupported }
    }
}

impl Fields {
    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(Value::as_str)
    }

    /// Whether version and kind are known and name neither a list nor one of the four kinds.
    fn is_foreign(&self) -> bool {
        let Some((api_version, kind)) = self.text("apiVersion").zip(self.text("kind")) else {
            return false;
        };
        !kind.ends_with("List") && ObjectType::of(api_version, kind) == ObjectType::Other
    }

    fn into_item(self) -> Item {
        let Some(kind) = self.text("kind").map(str::to_owned) else {
            return Item::Untyped(Box::new(self));
        };
        let api_version = self.text("apiVersion").unwrap_or_default().to_owned();
        self.into_item_of(&api_version, &kind)
    }

    fn into_item_of(self, api_version: &str, kind: &str) -> Item {
        let Self { values, duplicates, items } = self;
        if let Some(item_kind) = kind.strip_suffix("List") {
            let item_type =
                (!item_kind.is_empty()).then(|| (api_version.to_owned(), item_kind.to_owned()));
            match items {
                Field::Is(items) => return Item::List { item_type, items },
                Field::WrongType(found) => {
                    return Item::NotAMap(format!("a {kind} whose items are {found}"));
                }
                Field::Absent => return Item::Other,
            }
        }
        let object = match ObjectType::of(api_version, kind) {
            ObjectType::Known(Kind::Namespace) => ManifestObject::Namespace(typed(values)),
            ObjectType::Known(Kind::Service) => ManifestObject::Service(typed(values)),
            ObjectType::Known(Kind::EndpointSlice) => ManifestObject::EndpointSlice(typed(values)),
            ObjectType::Known(Kind::Pod) => ManifestObject::Pod(typed(values)),
            ObjectType::Endpoints => ManifestObject::Endpoints(typed(values)),
            ObjectType::Unsupported if api_version.is_empty() => {
                return Item::Unsupported(format!("{kind} without apiVersion"));
            }
            ObjectType::Unsupported => return Item::Unsupported(format!("{kind} {api_version}")),
            ObjectType::Other => return Item::Other,
        };
        let key = object.metadata().key();
        Item::Object(Box::new(Document { position: None, key, object, duplicates }))
    }
}

/// Cannot fail: `Field` accepts a value of any type.
fn typed<T: DeserializeOwned + Default>(values: Map<String, Value>) -> T {
    serde_json::from_value(Value::Object(values)).unwrap_or_default()
}

impl ManifestObject {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) => "Namespace",
            Self::Service(_) => "Service",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Endpoints(_) => "Endpoints",
            Self::Pod(_) => "Pod",
        }
    }

    pub(super) const fn metadata(&self) -> &RawMetadata {
        match self {
            Self::Namespace(raw) => &raw.metadata,
            Self::Service(raw) => &raw.metadata,
            Self::EndpointSlice(raw) => &raw.metadata,
            Self::Endpoints(raw) => &raw.metadata,
            Self::Pod(raw) => &raw.metadata,
        }
    }
}

/// `kubectl cluster-info dump` writes this between the objects unless it writes to a folder.
const LOGS: &str = "==== START logs for container ";

/// `is_json`: whether the file name has a JSON extension.
pub(super) fn read(text: &str, is_json: bool) -> Result<Contents, TextError> {
    let items = if is_json {
        from_json(text)
    } else if text.trim_start().starts_with(['{', '[']) {
        // Flow-style YAML begins like JSON.
        from_json(text).or_else(|_| from_yaml(text))
    } else {
        from_yaml(text)
    };
    let mut items = items.map_err(|error| match text.contains(LOGS) {
        true => TextError {
            cause: "the file is a dump with container logs between the objects: `kubectl \
                    cluster-info dump --output-directory=FOLDER` writes them to separate files"
                .to_owned(),
            ..error
        },
        false => error,
    })?;
    items.retain(|item| !matches!(item.value, Item::Null));
    let mut contents = Contents::default();
    let Some(last) = items.pop() else {
        let cause = "the file contains no YAML or JSON document".to_owned();
        // A file that is being written is empty for a moment, which must not look like a cluster
        // without objects. A file of comments is not being written.
        if text.trim().is_empty() {
            return Err(TextError { position: None, cause });
        }
        contents.non_objects.push((None, cause));
        return Ok(contents);
    };
    check_end(&last)?;
    for item in items.into_iter().chain([last]) {
        flatten(item, None, &mut contents);
    }
    Ok(contents)
}

/// Checks that the last document is complete. Earlier documents are, whatever they contain.
fn check_end(last: &Spanned<Item>) -> Result<(), TextError> {
    let cause = match &last.value {
        Item::NotAMap(found) => format!(
            "found {found} instead of an object: a manifest is what `kubectl get … -o yaml` prints"
        ),
        Item::Untyped(fields) if fields.values.contains_key("apiVersion") => {
            "object without a kind: is the file truncated?".to_owned()
        }
        Item::Null
        | Item::Object(_)
        | Item::List { .. }
        | Item::Unsupported(_)
        | Item::Other
        | Item::Untyped(_) => return Ok(()),
    };
    Err(TextError { position: position_of(last), cause })
}

fn from_json(text: &str) -> Result<Vec<Spanned<Item>>, TextError> {
    let items = serde_json::Deserializer::from_str(text).into_iter();
    items.collect::<Result<_, serde_json::Error>>().map_err(|error| TextError {
        position: Some((error.line() as u64, error.column() as u64)),
        cause: without_position(error.to_string()),
    })
}

fn from_yaml(text: &str) -> Result<Vec<Spanned<Item>>, TextError> {
    // These are the operator's own files, read whole: budgets against hostile YAML would only
    // reject large clusters. The limits on aliases stay. `Tree` and `convert` find what is invalid.
    let options = serde_saphyr::options! {
        budget: None,
        with_snippet: false,
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let position = error.location().map(|location| (location.line(), location.column()));
        TextError { position, cause: without_position(error.to_string()) }
    })
}

/// Both parsers repeat the position at the end of their messages.
fn without_position(mut message: String) -> String {
    if let Some(at) = message.rfind(" at line ") {
        message.truncate(at);
    }
    message
}

fn position_of(item: &Spanned<Item>) -> Position {
    let begins = item.referenced;
    (begins.line() != 0).then(|| (begins.line(), begins.column()))
}

/// Adds the objects of one document. Lists may contain Lists.
fn flatten(item: Spanned<Item>, item_type: Option<&(String, String)>, into: &mut Contents) {
    let position = position_of(&item);
    let item = match (item.value, item_type) {
        (Item::Untyped(fields), Some((api_version, kind))) => {
            fields.into_item_of(api_version, kind)
        }
        (item, _) => item,
    };
    match item {
        Item::Object(document) => into.documents.push(Document { position, ..*document }),
        Item::List { item_type, items } => {
            for item in items {
                flatten(item, item_type.as_ref(), into);
            }
        }
        Item::Other => {}
        Item::Unsupported(what) => *into.unsupported.entry(what).or_default() += 1,
        Item::Untyped(_) => into.non_objects.push((position, "object without a kind".to_owned())),
        Item::NotAMap(found) => {
            into.non_objects.push((position, format!("{found} instead of an object")))
        }
        Item::Null => into.non_objects.push((position, "null instead of an object".to_owned())),
    }
}

impl Shape for Vec<Spanned<Item>> {
    const EXPECTED: &'static str = "a list";

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Self::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Some(items))
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_unit<E: Error>(self) -> Result<Item, E> {
        Ok(Item::Null)
    }
    fn visit_none<E: Error>(self) -> Result<Item, E> {
        Ok(Item::Null)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::NotAMap(shown(text)))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Item, E> {
        Ok(Item::NotAMap(value.to_string()))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Item, E> {
        Ok(Item::NotAMap(number.to_string()))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Item, E> {
        Ok(Item::NotAMap(number.to_string()))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Item, E> {
        Ok(Item::NotAMap(number.to_string()))
    }
    /// Accepts the output of `kubectl get … -o json | jq .items`.
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Item, A::Error> {
        let items = Shape::from_list(list)?.unwrap_or_default();
        Ok(Item::List { item_type: None, items })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut fields = Fields::default();
        while let Some(MapKey(key)) = map.next_key()? {
            if key == "items" {
                fields.items = map.next_value()?;
            } else if !KEPT.contains(&key.as_str()) || fields.is_foreign() {
                map.next_value::<IgnoredAny>()?;
            } else {
                let Tree { value, duplicates } = map.next_value()?;
                add_duplicates(&mut fields.duplicates, &key, duplicates);
                if fields.values.contains_key(&key) {
                    fields.duplicates.push(key.clone());
                }
                fields.values.insert(key, value);
            }
        }
        Ok(fields.into_item())
    }
}
