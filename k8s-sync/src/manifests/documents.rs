//! The text of a manifest to raw objects: YAML (any number of documents) or JSON, single objects, Lists or lists of them.
//!
//! Text that is not well-formed, or that ends too early, is an error with its place. In text that is well-formed an odd
//! object costs itself: it is told by its place, and the others are not touched by it. Objects of other kinds are skipped.

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

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) documents: Vec<Document>,
    /// What stands where an object should, by its place.
    pub(super) odd: Vec<(Position, String)>,
    /// How many objects of our kinds are of a version that is not read, by kind and version.
    pub(super) unread: BTreeMap<String, u64>,
}

/// Line and column from 1; `None` in JSON.
pub(super) type Position = Option<(u64, u64)>;

/// One object of a manifest.
#[derive(Debug)]
pub(super) struct Document {
    /// Where it begins.
    pub(super) place: Position,
    pub(super) key: ObjectKey,
    pub(super) object: ManifestObject,
    /// Paths of keys that stand there twice.
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

/// Text that cannot be read. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextError {
    pub(super) place: Position,
    pub(super) cause: String,
}

/// What one document or one item of a List turns out to be.
///
/// Made from its fields as soon as they are read: a large List is never held in memory field by field.
#[derive(Debug)]
enum Item {
    Null,
    /// No map: what it is, in words.
    NoMap(String),
    Object(Box<Document>),
    /// With version and kind of its items, where it is a typed list.
    List {
        item_type: Option<(String, String)>,
        items: Vec<Spanned<Self>>,
    },
    /// One of our kinds in a version that is not read.
    Unread(String),
    /// Of a kind that answers do not depend on.
    Other,
    /// Without a kind: the items of a typed list have none of their own.
    Untyped(Box<Fields>),
}

/// The fields of an object of any kind. The kind decides what they mean, and may come last, so they are kept as they are.
#[derive(Debug, Default)]
struct Fields {
    values: Map<String, Value>,
    duplicates: Vec<String>,
    items: Field<Vec<Spanned<Item>>>,
}

/// Fields that are kept; `items` beside them.
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

/// What an object is, by its version and kind.
#[derive(Debug, PartialEq, Eq)]
enum ObjectType {
    Known(Kind),
    Endpoints,
    Unread,
    Other,
}

impl ObjectType {
    fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        let found = match known {
            Some(known) if known.group() == group => Self::Known(known),
            // Not even a version: it may be of our group.
            Some(known) if api_version.is_empty() => Self::Known(known),
            // No other group has such; of the rest each has a namesake somewhere.
            Some(Kind::EndpointSlice) => Self::Unread,
            Some(Kind::Namespace | Kind::Service | Kind::Pod) => return Self::Other,
            None if kind == "Endpoints" && group.is_empty() => Self::Endpoints,
            None => return Self::Other,
        };
        // The fields that are read have been the same in all versions of EndpointSlice.
        let is_read = match found {
            Self::Known(Kind::EndpointSlice) => matches!(version, "v1" | "v1beta1" | "v1alpha1"),
            Self::Known(_) | Self::Endpoints => version == "v1",
            Self::Unread | Self::Other => false,
        };
        if is_read { found } else { Self::Unread }
    }
}

impl Fields {
    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(Value::as_str)
    }

    /// Both are known, and it is neither a list nor one of ours.
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
                Field::Odd(found) => {
                    return Item::NoMap(format!("a {kind} whose items are {found}"));
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
            ObjectType::Unread if api_version.is_empty() => {
                return Item::Unread(format!("{kind} without apiVersion"));
            }
            ObjectType::Unread => return Item::Unread(format!("{kind} {api_version}")),
            ObjectType::Other => return Item::Other,
        };
        let key = object.metadata().key();
        Item::Object(Box::new(Document { place: None, key, object, duplicates }))
    }
}

/// Fields of any type are read, so there is nothing that could fail.
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

/// What `kubectl cluster-info dump` puts between the objects where it is not told to write a folder.
const LOGS: &str = "==== START logs for container ";

/// `is_json`: the file's name says so.
pub(super) fn read(text: &str, is_json: bool) -> Result<Contents, TextError> {
    let items = if is_json {
        from_json(text)
    } else if text.trim_start().starts_with(['{', '[']) {
        // Flow YAML looks the same at first.
        from_json(text).or_else(|_| from_yaml(text))
    } else {
        from_yaml(text)
    };
    let mut items = items.map_err(|error| match text.contains(LOGS) {
        true => TextError {
            cause: "it is a dump with logs among the objects: `kubectl cluster-info dump --output-directory=FOLDER` keeps them apart".to_owned(),
            ..error
        },
        false => error,
    })?;
    items.retain(|item| !matches!(item.value, Item::Null));
    let mut contents = Contents::default();
    let Some(last) = items.pop() else {
        let cause = "there is no document in it".to_owned();
        // A file that is being written is empty for a moment: not a cluster without objects. One of comments is not.
        if text.trim().is_empty() {
            return Err(TextError { place: None, cause });
        }
        contents.odd.push((None, cause));
        return Ok(contents);
    };
    check_end(&last)?;
    for item in items.into_iter().chain([last]) {
        flatten(item, None, &mut contents);
    }
    Ok(contents)
}

/// Whether the last document is all there. What comes before it is, however odd.
fn check_end(last: &Spanned<Item>) -> Result<(), TextError> {
    let cause = match &last.value {
        Item::NoMap(found) => format!(
            "it holds {found} where an object should be: a manifest is what `kubectl get … -o yaml` prints"
        ),
        Item::Untyped(fields) if fields.values.contains_key("apiVersion") => {
            "an object without kind: is the text cut short?".to_owned()
        }
        Item::Null
        | Item::Object(_)
        | Item::List { .. }
        | Item::Unread(_)
        | Item::Other
        | Item::Untyped(_) => return Ok(()),
    };
    Err(TextError { place: place_of(last), cause })
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
    // Aliases have their own limits, which stay. What is odd is found in `Tree` and in `convert`.
    let options = serde_saphyr::options! {
        budget: None,
        with_snippet: false,
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
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

fn place_of(item: &Spanned<Item>) -> Position {
    let begins = item.referenced;
    (begins.line() != 0).then(|| (begins.line(), begins.column()))
}

/// Adds the objects of one document; Lists may hold Lists.
fn flatten(item: Spanned<Item>, item_type: Option<&(String, String)>, into: &mut Contents) {
    let place = place_of(&item);
    let item = match (item.value, item_type) {
        (Item::Untyped(fields), Some((api_version, kind))) => {
            fields.into_item_of(api_version, kind)
        }
        (item, _) => item,
    };
    match item {
        Item::Object(document) => into.documents.push(Document { place, ..*document }),
        Item::List { item_type, items } => {
            for item in items {
                flatten(item, item_type.as_ref(), into);
            }
        }
        Item::Other => {}
        Item::Unread(what) => *into.unread.entry(what).or_default() += 1,
        Item::Untyped(_) => into.odd.push((place, "an object without kind".to_owned())),
        Item::NoMap(found) => into.odd.push((place, format!("{found} where an object should be"))),
        Item::Null => into.odd.push((place, "null where an object should be".to_owned())),
    }
}

impl Shape for Vec<Spanned<Item>> {
    const WANTED: &'static str = "a list";

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
        Ok(Item::NoMap(shown(text)))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Item, E> {
        Ok(Item::NoMap(value.to_string()))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Item, E> {
        Ok(Item::NoMap(number.to_string()))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Item, E> {
        Ok(Item::NoMap(number.to_string()))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Item, E> {
        Ok(Item::NoMap(number.to_string()))
    }
    /// As what `kubectl get … -o json | jq .items` prints.
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
