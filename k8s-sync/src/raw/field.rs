//! A field of an object as found: absent, of the expected type, or of the wrong type.
//!
//! Invariant: reading a field cannot fail if the text is well-formed. So an invalid field costs
//! only itself, not the list that contains the object.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Characters of a value to show.
const SHOWN_CHARS_MAX: usize = 80;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Missing or null.
    #[default]
    Absent,
    Is(T),
    /// Of the wrong type; the text describes the value.
    WrongType(Box<str>),
}

/// The expected type of a field. Each method accepts one of the types of JSON and YAML and returns
/// `None` if the type does not fit.
pub trait Shape: Sized {
    /// For messages, such as "a string".
    const EXPECTED: &'static str;

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
    /// Malformed text.
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    /// # Errors
    /// Malformed text.
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl<T> Field<T> {
    /// The value, if it has the expected type.
    pub fn good(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::WrongType(_) => None,
        }
    }

    #[must_use]
    pub const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::WrongType(_) => None,
        }
    }
}

/// For fields whose invalid values need no report.
///
/// # Errors
/// Malformed text.
pub(super) fn good<'de, D: Deserializer<'de>, T: Shape>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Field::deserialize(from)?.good())
}

/// Like `good`, with a default for a missing value.
///
/// # Errors
/// Malformed text.
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
        good.map_or_else(|| Field::WrongType(odd().into()), Field::Is)
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
        Ok(Field::WrongType(number.to_string().into()))
    }
    fn visit_u128<E: Error>(self, number: u128) -> Result<Field<T>, E> {
        Ok(Field::WrongType(number.to_string().into()))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Field<T>, E> {
        Ok(Field::WrongType(number.to_string().into()))
    }
    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Field<T>, E> {
        Ok(Field::WrongType("bytes".into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Field<T>, A::Error> {
        Ok(Self::found(T::from_list(list)?, || "a list".to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field<T>, A::Error> {
        Ok(Self::found(T::from_map(map)?, || "a map".to_owned()))
    }
}

/// The text in quotes, shortened if it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{:?}… ({} bytes)", &text[..at], text.len()),
        None => format!("{text:?}"),
    }
}

impl Shape for String {
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    /// YAML reads an unquoted name of digits as a number.
    fn from_integer(number: i64) -> Option<Self> {
        Some(number.to_string())
    }
}

impl Shape for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
    /// Kubernetes reads YAML 1.1, where these words are booleans. In YAML 1.2 they are strings.
    fn from_text(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" => Some(true),
            "false" | "no" | "n" | "off" => Some(false),
            _ => None,
        }
    }
}

impl Shape for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_integer(number: i64) -> Option<Self> {
        Some(number)
    }
}

impl<T: Shape> Shape for Vec<Field<T>> {
    const EXPECTED: &'static str = "a list";

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut all = Self::new();
        while let Some(element) = list.next_element()? {
            all.push(element);
        }
        Ok(Some(all))
    }
}

/// A map.
impl<T: Shape> Shape for Vec<(Cow<'static, str>, Field<T>)> {
    const EXPECTED: &'static str = "a map";

    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut all = Self::new();
        while let Some((key, value)) = map.next_entry()? {
            all.push((key, value));
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
    fn fields_of_any_type() {
        check::<String>("\"a\"", "Is(\"a\")");
        check::<String>("null", "Absent");
        check::<String>("7", "Is(\"7\")");
        check::<String>("true", "WrongType(\"true\")");
        check::<String>("1.5", "WrongType(\"1.5\")");
        check::<String>("[1,[2,{\"a\":3}]]", "WrongType(\"a list\")");
        check::<String>("{\"a\":{\"b\":[]}}", "WrongType(\"a map\")");
        check::<i64>("-7", "Is(-7)");
        check::<i64>("\"7\"", r#"WrongType("\"7\"")"#);
        check::<i64>("18446744073709551615", "WrongType(\"18446744073709551615\")");
        check::<i64>("1e3", "WrongType(\"1000\")");
        check::<bool>("false", "Is(false)");
        check::<bool>("\"No\"", "Is(false)");
        check::<bool>("\"never\"", r#"WrongType("\"never\"")"#);
        check::<Vec<Field<i64>>>("[1,null,\"x\"]", r#"Is([Is(1), Absent, WrongType("\"x\"")])"#);
        check::<Vec<Field<i64>>>("{}", "WrongType(\"a map\")");
        let long = format!("{:?}", "ä".repeat(81));
        let field: Field<i64> = serde_json::from_str(&long).expect("JSON");
        assert_eq!(field, Field::WrongType(format!("\"{}\"… (162 bytes)", "ä".repeat(80)).into()));
    }
}
