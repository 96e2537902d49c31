//! Answers of the API server in protobuf, turned into the answers in JSON that kube reads, but slim.
//!
//! For the server a watch in protobuf is half the work of one in JSON, and CoreDNS asks for it too. A server that answers in
//! JSON all the same (a fake one, a proxy) is understood as well: this is only used where an answer says protobuf.
//! Bytes in, bytes out: no socket, no clock.

use prost::bytes::{Buf, Bytes, BytesMut};
use prost::{DecodeError, Message};

use super::protobuf::{
    ProtoBookmark, ProtoEnvelope, ProtoList, ProtoStatus, ProtoWatchEvent, object_to_json, write,
};
use crate::raw::Kind;

pub(super) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What is asked for, best first.
pub(super) const ACCEPT: &str = "application/vnd.kubernetes.protobuf;stream=watch,\
    application/vnd.kubernetes.protobuf,application/json";

/// Begins every object and list.
const MAGIC: &[u8] = b"k8s\0";
/// Objects are at most 1.5 MB in etcd: a frame that claims more than this is none.
const FRAME_LEN_MAX: usize = 16 << 20;

/// A watch's body: frames of a four-byte length and an event, cut anywhere, to lines of JSON.
pub(super) struct WatchBody {
    kind: Kind,
    pending: BytesMut,
    is_broken: bool,
}

impl WatchBody {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, pending: BytesMut::new(), is_broken: false }
    }

    /// The events that are complete with this piece.
    ///
    /// What cannot be read ends the watch with an event that has it begun anew; nothing more comes after that.
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
                Err(format!("a frame of {frame_len} bytes"))
            };
            if let Err(cause) = event {
                self.is_broken = true;
                let message = format!("unreadable protobuf from the API server: {cause}");
                // 410 is what has a client list anew.
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
        other => Err(format!("an event of type {other:?}")),
    };
    match written {
        Ok(()) => lines.extend_from_slice(b"}\n"),
        Err(_) => lines.truncate(line_at),
    }
    written
}

/// A list's body.
///
/// # Errors
/// What cannot be read, in words.
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

/// An error's body. `code`: that of HTTP, which counts where the body says none.
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

/// What is inside the envelope that every object comes in.
fn open(mut object: Bytes) -> Result<Bytes, String> {
    if !object.starts_with(MAGIC) {
        return Err("an object that does not begin like one".to_owned());
    }
    object.advance(MAGIC.len());
    Ok(ProtoEnvelope::decode(object).map_err(|error| error.to_string())?.raw)
}

#[cfg(test)]
mod tests;
