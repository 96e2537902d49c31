//! The bytes of lists, watch events and failures, in protobuf or JSON.

use std::sync::Arc;

use hyper::header::HeaderValue;
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::object::{Resource, enveloped, typed_json};
use super::schema::{
    Failure, ListMetadata, Metadata, OnlyMetadata, RawExtension, TypeMeta, WatchFrame,
};
use super::store::{Stored, StoredEvent};

/// The fields `items` of a list and `raw` of an envelope: number 2, with a length.
const SECOND_TAG: u8 = 0x12;

/// A list is sent in pieces of about this size, so that a client reads while others are made.
const PIECE_LEN: usize = 64 * 1_024;

/// What the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    is_protobuf: bool,
    /// PartialObjectMetadata in place of the objects.
    only_metadata: bool,
}

impl Format {
    pub(super) fn of_accept(accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        Self {
            is_protobuf: accept.contains("application/vnd.kubernetes.protobuf"),
            only_metadata: accept.contains("as=PartialObjectMetadata"),
        }
    }

    pub(super) fn is_of_metadata(self) -> bool {
        self.only_metadata
    }

    pub(super) fn content_type(self, is_watch: bool) -> &'static str {
        match (self.is_protobuf, is_watch) {
            (true, true) => "application/vnd.kubernetes.protobuf;stream=watch",
            (true, false) => "application/vnd.kubernetes.protobuf",
            (false, _) => "application/json",
        }
    }

    /// A list of these objects, in pieces that are made one by one.
    pub(super) fn list(
        self,
        resource: Resource,
        metadata: &ListMetadata,
        items: Vec<Arc<Stored>>,
    ) -> Box<dyn Iterator<Item = Bytes> + Send> {
        let (api_version, kind) = self.type_meta(resource);
        let kind = format!("{kind}List");
        if !self.is_protobuf {
            let items = items.iter().map(|item| item.object.to_json(self.only_metadata));
            let items: Vec<Bytes> = items.collect();
            let items = items.join(&b","[..]);
            let metadata = serde_json::to_vec(metadata).expect("strings");
            let head = format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}","metadata":"#);
            let list = [head.as_bytes(), &metadata, br#","items":["#, &items, b"]}"].concat();
            return Box::new(std::iter::once(list.into()));
        }
        let item_len = |item: &Bytes| 1 + encoded_len_varint(item.len() as u64) + item.len();
        let items: Vec<Bytes> = items.iter().map(|item| self.raw(item)).collect();
        let items_len: usize = items.iter().map(item_len).sum();
        let mut begun = Vec::new();
        prost::encoding::message::encode(1, metadata, &mut begun);
        let raw_len = begun.len() + items_len;
        let type_meta = TypeMeta { api_version: api_version.to_owned(), kind };
        let mut piece = b"k8s\0".to_vec();
        prost::encoding::message::encode(1, &type_meta, &mut piece);
        piece.push(SECOND_TAG);
        encode_varint(raw_len as u64, &mut piece);
        piece.extend(begun);
        let mut items = items.into_iter();
        Box::new(std::iter::from_fn(move || {
            while piece.len() < PIECE_LEN
                && let Some(item) = items.next()
            {
                piece.push(SECOND_TAG);
                encode_varint(item.len() as u64, &mut piece);
                piece.extend_from_slice(&item);
            }
            let piece = std::mem::take(&mut piece);
            (!piece.is_empty()).then(|| piece.into())
        }))
    }

    /// Appends an event of a watch.
    pub(super) fn push_event(self, event: &StoredEvent, out: &mut Vec<u8>) {
        let (kind, stored) = (event.kind.name(), &event.stored);
        let (api_version, name) = self.type_meta(stored.object.resource());
        if self.is_protobuf {
            push_frame(kind, enveloped(api_version, name, &self.raw(stored)), out);
        } else {
            push_line(kind, &stored.object.to_json(self.only_metadata), out);
        }
    }

    /// Appends a bookmark.
    pub(super) fn push_bookmark(self, resource: Resource, version: u64, out: &mut Vec<u8>) {
        let (api_version, kind) = self.type_meta(resource);
        let metadata = Metadata { resource_version: version.to_string(), ..Metadata::default() };
        let bookmark = OnlyMetadata { metadata };
        if self.is_protobuf {
            push_frame("BOOKMARK", enveloped(api_version, kind, &bookmark.encode_to_vec()), out);
        } else {
            push_line("BOOKMARK", &typed_json(api_version, kind, &bookmark), out);
        }
    }

    /// Appends an error, which ends a watch.
    pub(super) fn push_error(self, failure: &Failure, out: &mut Vec<u8>) {
        let body = self.failure(failure);
        if self.is_protobuf {
            push_frame("ERROR", body.to_vec(), out);
        } else {
            push_line("ERROR", &body, out);
        }
    }

    /// The body of an error.
    pub(super) fn failure(self, failure: &Failure) -> Bytes {
        if self.is_protobuf {
            enveloped("v1", "Status", &failure.encode_to_vec()).into()
        } else {
            typed_json("v1", "Status", failure)
        }
    }

    fn type_meta(self, resource: Resource) -> (&'static str, &'static str) {
        match self.only_metadata {
            true => ("meta.k8s.io/v1", "PartialObjectMetadata"),
            false => resource.type_meta(),
        }
    }

    fn raw(self, stored: &Stored) -> Bytes {
        match self.only_metadata {
            true => stored.object.to_protobuf(true),
            false => stored.protobuf.clone(),
        }
    }
}

fn push_frame(kind: &str, raw: Vec<u8>, out: &mut Vec<u8>) {
    let frame = WatchFrame { r#type: kind.to_owned(), object: RawExtension { raw } };
    let len = u32::try_from(frame.encoded_len()).expect("an event");
    out.extend_from_slice(&len.to_be_bytes());
    frame.encode(out).expect("a Vec takes all");
}

fn push_line(kind: &str, object: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#"{{"type":"{kind}","object":"#).as_bytes());
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

pub(super) fn failure(code: i32, reason: &str, message: &str) -> Failure {
    Failure {
        status: "Failure".to_owned(),
        message: message.to_owned(),
        reason: reason.to_owned(),
        code,
    }
}

/// As a real API server says it.
pub(super) fn too_large(version: &str) -> Failure {
    failure(504, "Timeout", &format!("Timeout: Too large resource version: {version}"))
}

pub(super) fn gone() -> Failure {
    failure(410, "Expired", "too old resource version")
}
