//! The events of a watch, read from its body as the pieces arrive: frames of protobuf or lines of
//! JSON.
//!
//! Nothing is decided here, and nothing waits: bytes in, events out. Invariant: after an error
//! nothing more is read.

use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::pieces::Pieces;
use super::protobuf::{self, Malformed, ProtoObject, Wanted};
use super::request::{ApiError, Encoding, ServerFailure};

/// etcd limits objects to 1.5 MB, so a longer frame is invalid.
pub(super) const FRAME_LEN_MAX: usize = 16 << 20;

#[derive(Debug)]
pub(super) enum WatchEvent<T> {
    /// An object as it is now.
    Applied(Box<T>),
    /// An object as it was last.
    Deleted(Box<T>),
    Bookmark {
        resource_version: String,
    },
    /// An event of unknown type, or with an object that cannot be one.
    Unknown,
}

/// Reads the events of one body.
#[derive(Debug)]
pub(super) struct EventReader {
    encoding: Encoding,
    wanted: Wanted,
    pieces: Pieces,
    /// Of the frame whose length has been read.
    frame_len: Option<usize>,
}

impl EventReader {
    pub(super) fn new(encoding: Encoding, wanted: Wanted) -> Self {
        Self { encoding, wanted, pieces: Pieces::default(), frame_len: None }
    }

    /// The next piece of the body. All events of the pieces before must have been read.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.pieces.push(piece);
    }

    /// The next event. `None` until the next piece.
    ///
    /// # Errors
    /// The server reports a failure, or the body cannot be read any further.
    pub(super) fn next<T: ProtoObject>(&mut self) -> Result<Option<WatchEvent<T>>, ApiError> {
        match self.encoding {
            Encoding::Protobuf => self.next_frame(),
            Encoding::Json => loop {
                let Some(line) = self.pieces.take_line() else {
                    return match self.pieces.begun_len() {
                        0..=FRAME_LEN_MAX => Ok(None),
                        _ => Err(ApiError::Unreadable("a line of more than 16 MiB".into())),
                    };
                };
                if !line.trim_ascii().is_empty() {
                    return of_line(&line).map(Some);
                }
            },
        }
    }

    /// The last event of a body that has ended: servers may leave out the end of the last line. If
    /// the line has broken off, there is none, and the next watch has the event.
    ///
    /// # Errors
    /// As `next`.
    pub(super) fn last<T: ProtoObject>(&mut self) -> Result<Option<WatchEvent<T>>, ApiError> {
        match self.encoding {
            Encoding::Protobuf => Ok(None),
            Encoding::Json => {
                let rest = self.pieces.take_rest();
                let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&rest);
                let is_cut = parsed.is_err_and(|error| error.classify() == Category::Eof);
                if is_cut { Ok(None) } else { of_line(&rest).map(Some) }
            }
        }
    }

    /// A frame is a length of four bytes and an event.
    fn next_frame<T: ProtoObject>(&mut self) -> Result<Option<WatchEvent<T>>, ApiError> {
        let frame_len = match self.frame_len {
            Some(frame_len) => frame_len,
            None => {
                let Some(length) = self.pieces.take(size_of::<u32>()) else { return Ok(None) };
                let length = length.first_chunk().copied().unwrap_or_default();
                let frame_len = u32::from_be_bytes(length) as usize;
                if frame_len > FRAME_LEN_MAX {
                    return Err(broken(&format!("frame of {frame_len} bytes")));
                }
                *self.frame_len.insert(frame_len)
            }
        };
        let Some(frame) = self.pieces.take(frame_len) else { return Ok(None) };
        self.frame_len = None;
        of_frame(&frame, self.wanted).map(Some)
    }
}

/// A list takes the place of what cannot be read, as after an expired version.
fn broken(cause: &str) -> ApiError {
    let message = format!("unreadable protobuf from the API server: {cause}");
    ApiError::Status(ServerFailure { code: 410, message, details: None })
}

fn of_frame<T: ProtoObject>(frame: &[u8], wanted: Wanted) -> Result<WatchEvent<T>, ApiError> {
    let broken = |Malformed(cause)| broken(&cause);
    let (what, object) = protobuf::watch_event(frame).map_err(broken)?;
    match what {
        "ADDED" | "MODIFIED" => T::decode(object, wanted).map(Box::new).map(WatchEvent::Applied),
        "DELETED" => T::decode(object, wanted).map(Box::new).map(WatchEvent::Deleted),
        "BOOKMARK" => protobuf::bookmark(object)
            .map(|resource_version| WatchEvent::Bookmark { resource_version }),
        "ERROR" => {
            return Err(ApiError::Status(protobuf::failure(object).map_err(broken)?));
        }
        other => Err(Malformed(format!("unknown event type {other:?}"))),
    }
    .map_err(broken)
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
#[serde(bound = "T: DeserializeOwned")]
enum JsonEvent<T> {
    Added(T),
    Modified(T),
    Deleted(T),
    Bookmark(JsonBookmark),
    Error(ServerFailure),
}

#[derive(Deserialize)]
struct JsonBookmark {
    metadata: JsonBookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonBookmarkMetadata {
    resource_version: String,
}

fn of_line<T: ProtoObject>(line: &[u8]) -> Result<WatchEvent<T>, ApiError> {
    let error = match serde_json::from_slice(line) {
        Ok(JsonEvent::Added(object) | JsonEvent::Modified(object)) => {
            return Ok(WatchEvent::Applied(Box::new(object)));
        }
        Ok(JsonEvent::Deleted(object)) => return Ok(WatchEvent::Deleted(Box::new(object))),
        Ok(JsonEvent::Bookmark(JsonBookmark { metadata })) => {
            return Ok(WatchEvent::Bookmark { resource_version: metadata.resource_version });
        }
        Ok(JsonEvent::Error(failure)) => return Err(ApiError::Status(failure)),
        Err(error) => error,
    };
    match serde_json::from_slice::<ServerFailure>(line) {
        // A failure that is not wrapped in an event.
        Ok(failure) if failure.code != 0 || !failure.message.is_empty() => {
            Err(ApiError::Status(failure))
        }
        Ok(_) => Ok(WatchEvent::Unknown),
        Err(_) => Err(ApiError::Unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
