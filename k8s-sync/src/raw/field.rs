//! A field of an object as it was found: absent, of the type that Kubernetes gives it, or of another.
//!
//! Invariant: reading a field cannot fail, whatever well-formed text stands there. So what is odd in one costs that field, not
//! the list that the object stands in.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Characters of a value that are shown.
const SHOWN_CHARS_MAX: usize = 80;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Not there, or null.
    #[default]
    Absent,
    Is(T),
    /// Of another type: what stands there, in words.
    Odd(Box<str>),
}

/// What a field should be. Each method takes one of the types that JSON and YAML have; `None`: it is another one.
pub trait Shape: Sized {
    /// In words: "a string".
    const WANTED: &'static str;

    fn from_text(_: &str) -> Option<Self> {
        None
    }
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_integer(_: i64) -> Option<Self> {
        None
    }
    /// # Errors
    /// Text that is not well-formed.
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    /// # Errors
    /// Text that is not well-formed.
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl<T> Field<T> {
    /// What is there, if it is what it should be.
    pub fn good(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Odd(_) => None,
        }
    }

    #[must_use]
    pub const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Odd(_) => None,
        }
    }
}

/// For fields of which it does not matter what else stands there.
///
/// # Errors
/// Text that is not well-formed.
pub(super) fn good<'de, D: Deserializer<'de>, T: Shape>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Field::deserialize(from)?.good())
}

/// As `good`, with the type's default where it is not there.
///
/// # Errors
/// Text that is not well-formed.
pub(super) fn good_or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Shape + Default,
{
    Ok(good(from)?.unwrap_or_default())
}

impl<'de, T: Shape> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<T: Shape> FieldVisitor<T> {
    fn found(good: Option<T>, odd: impl FnOnce() -> String) -> Field<T> {
        good.map_or_else(|| Field::Odd(odd().into()), Field::Is)
    }
}

impl<'de, T: Shape> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_unit<E: Error>(self) -> Result<Field<T>, E> {
        Ok(Field::Absent)
    }
    fn visit_none<E: Error>(self) -> Result<Field<T>, E> {
        Ok(Field::Absent)
    }
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Field<T>, D::Error> {
        inner.deserialize_any(self)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Field<T>, D::Error> {
        inner.deserialize_any(self)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Field<T>, E> {
        Ok(Self::found(T::from_text(text), || shown(text)))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Field<T>, E> {
        Ok(Self::found(T::from_bool(value), || value.to_string()))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Field<T>, E> {
        Ok(Self::found(T::from_integer(number), || number.to_string()))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Field<T>, E> {
        let good = i64::try_from(number).ok().and_then(T::from_integer);
        Ok(Self::found(good, || number.to_string()))
    }
    fn visit_i128<E: Error>(self, number: i128) -> Result<Field<T>, E> {
        Ok(Field::Odd(number.to_string().into()))
    }
    fn visit_u128<E: Error>(self, number: u128) -> Result<Field<T>, E> {
        Ok(Field::Odd(number.to_string().into()))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Field<T>, E> {
        Ok(Field::Odd(number.to_string().into()))
    }
    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Field<T>, E> {
        Ok(Field::Odd("bytes".into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Field<T>, A::Error> {
        Ok(Self::found(T::from_list(list)?, || "a list".to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field<T>, A::Error> {
        Ok(Self::found(T::from_map(map)?, || "a map".to_owned()))
    }
}

/// Text in quotes, cut where it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{:?}… ({} bytes)", &text[..at], text.len()),
        None => format!("{text:?}"),
    }
}

impl Shape for String {
    const WANTED: &'static str = "a string";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    /// YAML takes a name of digits for a number where nobody has put it in quotes.
    fn from_integer(number: i64) -> Option<Self> {
        Some(number.to_string())
    }
}

impl Shape for bool {
    const WANTED: &'static str = "true or false";

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
    /// The words of YAML 1.1, which Kubernetes reads, are text to YAML 1.2.
    fn from_text(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" => Some(true),
            "false" | "no" | "n" | "off" => Some(false),
            _ => None,
        }
    }
}

impl Shape for i64 {
    const WANTED: &'static str = "a whole number";

    fn from_integer(number: i64) -> Option<Self> {
        Some(number)
    }
}

impl<T: Shape> Shape for Vec<Field<T>> {
    const WANTED: &'static str = "a list";

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut all = Self::new();
        while let Some(element) = list.next_element()? {
            all.push(element);
        }
        Ok(Some(all))
    }
}

impl<T: Shape> Shape for BTreeMap<String, Field<T>> {
    const WANTED: &'static str = "a map";

    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut all = Self::new();
        while let Some((key, value)) = map.next_entry()? {
            all.insert(key, value);
        }
        Ok(Some(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Shape + fmt::Debug>(json: &str, expected: &str) {
        let field: Field<T> = serde_json::from_str(json).expect("JSON");
        assert_eq!(format!("{field:?}"), expected, "{json}");
    }

    #[test]
    fn whatever_stands_there() {
        check::<String>("\"a\"", "Is(\"a\")");
        check::<String>("null", "Absent");
        check::<String>("7", "Is(\"7\")");
        check::<String>("true", "Odd(\"true\")");
        check::<String>("1.5", "Odd(\"1.5\")");
        check::<String>("[1,[2,{\"a\":3}]]", "Odd(\"a list\")");
        check::<String>("{\"a\":{\"b\":[]}}", "Odd(\"a map\")");
        check::<i64>("-7", "Is(-7)");
        check::<i64>("\"7\"", r#"Odd("\"7\"")"#);
        check::<i64>("18446744073709551615", "Odd(\"18446744073709551615\")");
        check::<i64>("1e3", "Odd(\"1000\")");
        check::<bool>("false", "Is(false)");
        check::<bool>("\"No\"", "Is(false)");
        check::<bool>("\"never\"", r#"Odd("\"never\"")"#);
        check::<Vec<Field<i64>>>("[1,null,\"x\"]", r#"Is([Is(1), Absent, Odd("\"x\"")])"#);
        check::<Vec<Field<i64>>>("{}", "Odd(\"a map\")");
        let long = format!("{:?}", "ä".repeat(81));
        let field: Field<i64> = serde_json::from_str(&long).expect("JSON");
        assert_eq!(field, Field::Odd(format!("\"{}\"… (162 bytes)", "ä".repeat(80)).into()));
    }
}
