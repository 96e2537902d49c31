//! The objects of a list, read from its body as the pieces arrive.
//!
//! A list in protobuf is decoded object by object, so that it is never in memory as a whole. One in
//! JSON, which fakes and proxies send, is collected and then read. Bytes in, objects out.
//! Invariant: a list that breaks off is never complete.

use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::events::FRAME_LEN_MAX;
use super::pieces::Pieces;
use super::protobuf::{
    self, ENVELOPE_RAW, LIST_ITEM, LIST_METADATA, MAGIC, Malformed, ProtoListMetadata, ProtoObject,
    Wanted,
};
use super::request::{ApiBody, ApiError, Encoding};

/// A list in JSON is in memory as a whole. A million Services are less than this.
const JSON_LEN_MAX: usize = 1 << 30;

/// The length-delimited type of protobuf: the only one in the envelope of a list and in the list.
const LENGTH_DELIMITED: u64 = 2;

/// One page, or a list without pages.
pub(super) enum ListReader<T> {
    Protobuf(ProtoList),
    Json(Vec<u8>),
    /// A list of JSON that has been read to its end.
    Read(std::vec::IntoIter<T>, ProtoListMetadata),
}

impl<T: ProtoObject> ListReader<T> {
    pub(super) fn new(encoding: Encoding, wanted: Wanted) -> Self {
        match encoding {
            Encoding::Protobuf => Self::Protobuf(ProtoList { wanted, ..ProtoList::default() }),
            Encoding::Json => Self::Json(Vec::new()),
        }
    }

    /// The next piece of the body. All objects of the pieces before must have been read.
    ///
    /// # Errors
    /// The body is longer than any list.
    pub(super) fn push(&mut self, piece: Bytes) -> Result<(), ApiError> {
        match self {
            Self::Protobuf(list) => list.pieces.push(piece),
            Self::Json(body) if body.len() + piece.len() > JSON_LEN_MAX => {
                return Err(ApiError::Unreadable("a list of more than 1 GiB in JSON".into()));
            }
            Self::Json(body) => body.extend_from_slice(&piece),
            Self::Read(..) => debug_assert!(false, "a piece after the end of a list"),
        }
        Ok(())
    }

    /// Whether the body is a list, as far as it has arrived. Reads no object.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn has_begun(&mut self) -> Result<bool, ApiError> {
        match self {
            Self::Protobuf(list) => list.begin::<T>().map_err(unreadable),
            Self::Json(_) => Ok(false),
            Self::Read(..) => Ok(true),
        }
    }

    /// The next object. `None` until the next piece.
    ///
    /// # Errors
    /// The body is not a list of such objects.
    pub(super) fn next(&mut self) -> Result<Option<T>, ApiError> {
        match self {
            Self::Protobuf(list) => list.next().map_err(unreadable),
            Self::Json(_) => Ok(None),
            Self::Read(objects, _) => Ok(objects.next()),
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// It is incomplete, or not a list.
    pub(super) fn end(&mut self) -> Result<(), ApiError> {
        let list: JsonList<T> = match self {
            Self::Protobuf(list) if list.is_complete() => return Ok(()),
            Self::Protobuf(_) => return Err(ApiError::Transport("the list ended early".into())),
            Self::Json(body) => serde_json::from_slice(body)
                .map_err(|error| ApiError::Unreadable(error.to_string()))?,
            Self::Read(..) => return Ok(()),
        };
        let metadata = ProtoListMetadata {
            resource_version: list.metadata.resource_version,
            continue_token: list.metadata.r#continue,
        };
        *self = Self::Read(list.items.into_iter(), metadata);
        Ok(())
    }

    /// `metadata` of a list that has been read to its end.
    pub(super) fn into_metadata(self) -> ProtoListMetadata {
        match self {
            Self::Protobuf(list) => list.metadata,
            Self::Json(_) => ProtoListMetadata::default(),
            Self::Read(_, metadata) => metadata,
        }
    }
}

/// Passes each object of a list to `each`, and returns what the list says about itself.
///
/// # Errors
/// The body is no list of such objects, or broke off.
pub(super) async fn read_all<T: ProtoObject>(
    mut body: ApiBody<'_>,
    mut each: impl FnMut(T),
) -> Result<ProtoListMetadata, ApiError> {
    let mut list = ListReader::new(body.encoding, Wanted::default());
    while let Some(piece) = body.piece().await? {
        list.push(piece)?;
        while let Some(object) = list.next()? {
            each(object);
        }
    }
    list.end()?;
    // Those of JSON come now.
    while let Some(object) = list.next()? {
        each(object);
    }
    Ok(list.into_metadata())
}

fn unreadable(Malformed(cause): Malformed) -> ApiError {
    ApiError::Unreadable(format!("protobuf of a list: {cause}"))
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct JsonList<T> {
    #[serde(default)]
    metadata: JsonListMetadata,
    #[serde(deserialize_with = "null_as_empty")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonListMetadata {
    resource_version: String,
    r#continue: String,
}

/// A list without objects, as some servers write it.
fn null_as_empty<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The magic bytes, then the envelope: a message whose second field is the list. Both consist of
/// length-delimited fields only.
#[derive(Debug, Default)]
pub(super) struct ProtoList {
    wanted: Wanted,
    pieces: Pieces,
    at: NextUnit,
    /// Bytes of the list that have not been read. `None` before the list.
    left: Option<u64>,
    /// The field being read belongs to the list, not to its envelope.
    is_inside: bool,
    metadata: ProtoListMetadata,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum NextUnit {
    #[default]
    Magic,
    Key,
    Length {
        tag: u32,
    },
    Value {
        tag: u32,
        len: usize,
    },
}

/// What has been read.
enum ReadUnit<T> {
    Object(T),
    /// Something else.
    Other,
    /// Nothing until the next piece.
    Incomplete,
}

impl ProtoList {
    fn is_complete(&self) -> bool {
        self.left == Some(0) && matches!(self.at, NextUnit::Key) && self.pieces.is_empty()
    }

    /// Reads up to the list. False if more is needed for it.
    fn begin<T: ProtoObject>(&mut self) -> Result<bool, Malformed> {
        while self.left.is_none() {
            if matches!(self.read::<T>()?, ReadUnit::Incomplete) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next<T: ProtoObject>(&mut self) -> Result<Option<T>, Malformed> {
        loop {
            match self.read()? {
                ReadUnit::Incomplete => return Ok(None),
                ReadUnit::Object(object) => return Ok(Some(object)),
                ReadUnit::Other => {}
            }
        }
    }

    fn read<T: ProtoObject>(&mut self) -> Result<ReadUnit<T>, Malformed> {
        match self.at {
            NextUnit::Magic => {
                let Some(magic) = self.pieces.take(MAGIC.len()) else {
                    return Ok(ReadUnit::Incomplete);
                };
                if magic != MAGIC {
                    return Err("object without the magic bytes k8s".into());
                }
                self.at = NextUnit::Key;
            }
            NextUnit::Key => {
                self.is_inside = self.left.is_some_and(|left| left > 0);
                let Some(key) = self.pieces.take_varint()? else {
                    return Ok(ReadUnit::Incomplete);
                };
                self.count(key.len)?;
                let tag = u32::try_from(key.value >> 3).map_err(|_| "a field without a tag")?;
                if key.value & 7 != LENGTH_DELIMITED {
                    return Err("a field of another type than expected".into());
                }
                self.at = NextUnit::Length { tag };
            }
            NextUnit::Length { tag } => {
                let Some(len) = self.pieces.take_varint()? else {
                    return Ok(ReadUnit::Incomplete);
                };
                self.count(len.len)?;
                if !self.is_inside && tag == ENVELOPE_RAW && self.left.is_none() {
                    self.left = Some(len.value);
                    self.at = NextUnit::Key;
                    return Ok(ReadUnit::Other);
                }
                self.count(len.value)?;
                let len = usize::try_from(len.value).ok().filter(|len| *len <= FRAME_LEN_MAX);
                let len = len.ok_or("a field of more than 16 MiB")?;
                self.at = NextUnit::Value { tag, len };
            }
            NextUnit::Value { tag, len } => {
                let Some(value) = self.pieces.take(len) else { return Ok(ReadUnit::Incomplete) };
                self.at = NextUnit::Key;
                match (self.is_inside, tag) {
                    (true, LIST_METADATA) => self.metadata = protobuf::list_metadata(&value)?,
                    (true, LIST_ITEM) => {
                        return T::decode(&value, self.wanted).map(ReadUnit::Object);
                    }
                    (_, _) => {}
                }
            }
        }
        Ok(ReadUnit::Other)
    }

    /// These bytes of the list have been read, or will be next.
    fn count(&mut self, len: u64) -> Result<(), Malformed> {
        if self.is_inside {
            let left = self.left.and_then(|left| left.checked_sub(len));
            self.left = Some(left.ok_or("a field that is longer than its list")?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
