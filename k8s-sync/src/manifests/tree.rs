//! Any YAML or JSON value, and the paths of duplicate keys in it.
//!
//! Like Kubernetes, `serde_json::Value` silently takes the last of two values. Here the duplicate
//! is reported as well.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

/// Number of paths to keep.
const DUPLICATES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    /// Paths below the value, such as `ports[0].name`.
    pub(super) duplicates: Vec<String>,
}

/// The key of a map. In YAML it need not be a string.
#[derive(Debug)]
pub(super) struct MapKey(pub(super) String);

impl Tree {
    fn of(value: impl Into<Value>) -> Self {
        Self { value: value.into(), duplicates: Vec::new() }
    }
}

/// Adds the duplicates of `child`, which is at `place`.
pub(super) fn add_duplicates(to: &mut Vec<String>, place: &str, child: Vec<String>) {
    let paths = child.into_iter().map(|path| match path.starts_with('[') {
        true => format!("{place}{path}"),
        false => format!("{place}.{path}"),
    });
    to.extend(paths.take(DUPLICATES_MAX.saturating_sub(to.len())));
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::of(Value::Null))
    }
    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::of(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        inner.deserialize_any(self)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        inner.deserialize_any(self)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::of(text))
    }
    fn visit_string<E: Error>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::of(text))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::of(value))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::of(number))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::of(number))
    }
    fn visit_i128<E: Error>(self, number: i128) -> Result<Tree, E> {
        self.visit_f64(number as f64)
    }
    fn visit_u128<E: Error>(self, number: u128) -> Result<Tree, E> {
        self.visit_f64(number as f64)
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::of(Number::from_f64(number).map_or(Value::Null, Value::Number)))
    }
    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::of(Value::Array(Vec::new())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let (mut values, mut duplicates) = (Vec::new(), Vec::new());
        while let Some(Tree { value, duplicates: below }) = list.next_element()? {
            if !below.is_empty() {
                add_duplicates(&mut duplicates, &format!("[{}]", values.len()), below);
            }
            values.push(value);
        }
        Ok(Tree { value: Value::Array(values), duplicates })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let (mut values, mut duplicates) = (Map::new(), Vec::new());
        while let Some(MapKey(key)) = map.next_key()? {
            let Tree { value, duplicates: below } = map.next_value()?;
            add_duplicates(&mut duplicates, &key, below);
            if values.contains_key(&key) && duplicates.len() < DUPLICATES_MAX {
                duplicates.push(key.clone());
            }
            values.insert(key, value);
        }
        Ok(Tree { value: Value::Object(values), duplicates })
    }
}

impl<'de> Deserialize<'de> for MapKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MapKeyVisitor)
    }
}

struct MapKeyVisitor;

impl<'de> Visitor<'de> for MapKeyVisitor {
    type Value = MapKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<MapKey, E> {
        Ok(MapKey(text.to_owned()))
    }
    fn visit_string<E: Error>(self, text: String) -> Result<MapKey, E> {
        Ok(MapKey(text))
    }
    fn visit_unit<E: Error>(self) -> Result<MapKey, E> {
        Ok(MapKey("null".to_owned()))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<MapKey, E> {
        Ok(MapKey(value.to_string()))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<MapKey, E> {
        Ok(MapKey(number.to_string()))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<MapKey, E> {
        Ok(MapKey(number.to_string()))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<MapKey, E> {
        Ok(MapKey(number.to_string()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MapKey, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(MapKey("[…]".to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MapKey, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(MapKey("{…}".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, value: &str, duplicates: &[&str]) {
        let tree: Tree = serde_json::from_str(json).expect("JSON");
        assert_eq!(
            (tree.value.to_string().as_str(), tree.duplicates),
            (value, duplicates.iter().map(|path| (*path).to_owned()).collect()),
            "{json}"
        );
    }

    #[test]
    fn the_last_of_two_keys_counts_and_is_reported() {
        check(r#"{"a":[1,-2,1.5,null,true,"x"]}"#, r#"{"a":[1,-2,1.5,null,true,"x"]}"#, &[]);
        check(r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#, &["a"]);
        check(
            r#"{"a":[{},{"b":{"c":1,"c":2}}],"a":[[{"d":1,"d":2}]]}"#,
            r#"{"a":[[{"d":2}]]}"#,
            &["a[1].b.c", "a[0][0].d", "a"],
        );
    }
}
