//! Translates the API server's protobuf responses into JSON that kube reads, reduced to the needed
//! fields.
//!
//! A watch in protobuf costs the server half as much as one in JSON, and CoreDNS uses it too.
//! Servers that respond in JSON anyway (fakes, proxies) also work: this module is only used for
//! protobuf responses. Bytes in, bytes out: no socket, no clock.

use prost::bytes::{Buf, Bytes, BytesMut};
use prost::{DecodeError, Message};

use super::protobuf::{
    ProtoBookmark, ProtoEnvelope, ProtoList, ProtoStatus, ProtoWatchEvent, object_to_json, write,
};
use crate::raw::Kind;

pub(super) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The accepted formats, best first.
pub(super) const ACCEPT: &str = "application/vnd.kubernetes.protobuf;stream=watch,\
    application/vnd.kubernetes.protobuf,application/json";

/// The first bytes of every object and list.
const MAGIC: &[u8] = b"k8s\0";
/// etcd limits objects to 1.5 MB, so a longer frame is invalid.
const FRAME_LEN_MAX: usize = 16 << 20;

/// The body of a watch: frames of a four-byte length and an event, split anywhere, to lines of
/// JSON.
pub(super) struct WatchBody {
    kind: Kind,
    pending: BytesMut,
    is_broken: bool,
}

impl WatchBody {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, pending: BytesMut::new(), is_broken: false }
    }

    /// Returns the events that this piece completes.
    ///
    /// An unreadable event ends the watch with an event that makes the client list again. Nothing
    /// follows it.
    pub(super) fn push(&mut self, piece: &[u8]) -> Bytes {
        let mut lines = Vec::new();
        if self.is_broken {
            return Bytes::new();
        }
        self.pending.extend_from_slice(piece);
        while let Some(length) = self.pending.first_chunk::<4>() {
            let frame_len = u32::from_be_bytes(*length) as usize;
            if frame_len <= FRAME_LEN_MAX && self.pending.len() < 4 + frame_len {
                break;
            }
            let event = if frame_len <= FRAME_LEN_MAX {
                self.pending.advance(4);
                event_to_json(self.kind, self.pending.split_to(frame_len).freeze(), &mut lines)
            } else {
                Err(format!("frame of {frame_len} bytes"))
            };
            if let Err(cause) = event {
                self.is_broken = true;
                let message = format!("unreadable protobuf from the API server: {cause}");
                // 410 makes clients list again.
                let status =
                    serde_json::json!({"code": 410, "reason": "Expired", "message": message});
                let event = serde_json::json!({"type": "ERROR", "object": status});
                lines.extend_from_slice(format!("{event}\n").as_bytes());
                break;
            }
        }
        Bytes::from(lines)
    }
}

fn event_to_json(kind: Kind, frame: Bytes, lines: &mut Vec<u8>) -> Result<(), String> {
    let words = |error: DecodeError| error.to_string();
    let event = ProtoWatchEvent::decode(frame).map_err(words)?;
    let object = open(event.object.map(|object| object.raw).unwrap_or_default())?;
    let line_at = lines.len();
    lines.extend_from_slice(br#"{"type":""#);
    lines.extend_from_slice(event.r#type.as_bytes());
    lines.extend_from_slice(br#"","object":"#);
    let written = match event.r#type.as_str() {
        "ADDED" | "MODIFIED" | "DELETED" => object_to_json(kind, object, lines).map_err(words),
        "BOOKMARK" => ProtoBookmark::decode(object).map_err(words).map(|bookmark| {
            lines.extend_from_slice(br#"{"apiVersion":"","kind":"","metadata":"#);
            write(&bookmark.metadata, lines);
            lines.push(b'}');
        }),
        "ERROR" => ProtoStatus::decode(object).map_err(words).map(|status| write(&status, lines)),
        other => Err(format!("unknown event type {other:?}")),
    };
    match written {
        Ok(()) => lines.extend_from_slice(b"}\n"),
        Err(_) => lines.truncate(line_at),
    }
    written
}

/// Translates the body of a list.
///
/// # Errors
/// What cannot be read.
pub(super) fn list_to_json(kind: Kind, body: Bytes) -> Result<Bytes, String> {
    let words = |error: DecodeError| error.to_string();
    let list = ProtoList::decode(open(body)?).map_err(words)?;
    let mut json = br#"{"apiVersion":"v1","kind":"List","metadata":"#.to_vec();
    write(&list.metadata.unwrap_or_default(), &mut json);
    json.extend_from_slice(br#","items":["#);
    for (index, item) in list.items.into_iter().enumerate() {
        if index != 0 {
            json.push(b',');
        }
        object_to_json(kind, item, &mut json).map_err(words)?;
    }
    json.extend_from_slice(b"]}");
    Ok(Bytes::from(json))
}

/// Translates the body of an error. `code` is the HTTP status, used if the body has none.
pub(super) fn status_to_json(code: u16, body: Bytes) -> Bytes {
    let status = open(body).ok().and_then(|status| ProtoStatus::decode(status).ok());
    let mut status = status.unwrap_or_default();
    if status.code == 0 {
        status.code = u32::from(code);
    }
    let mut json = Vec::new();
    write(&status, &mut json);
    Bytes::from(json)
}

/// The content of the envelope that wraps every object.
fn open(mut object: Bytes) -> Result<Bytes, String> {
    if !object.starts_with(MAGIC) {
        return Err("object without the magic bytes k8s".to_owned());
    }
    object.advance(MAGIC.len());
    Ok(ProtoEnvelope::decode(object).map_err(|error| error.to_string())?.raw)
}

#[cfg(test)]
mod tests;
