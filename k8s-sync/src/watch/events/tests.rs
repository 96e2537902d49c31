//! Recordings of kube-apiserver 1.34.4: the same watches in protobuf (`.pb`) and JSON.

use super::*;
use crate::convert::raw_object::RawObject as _;
use crate::raw::{RawEndpointSlice, RawNamespace, RawPod, RawService};

/// Everything, as JSON has it.
const WANTED: Wanted = Wanted { endpoint_pod_names: true };

/// What every event of a watch that begins with all objects means, if it arrives in pieces of this
/// length.
fn read<T: ProtoObject>(encoding: Encoding, body: &[u8], piece_len: usize) -> Vec<String> {
    let mut reader = EventReader::new(encoding, WANTED);
    let mut shown = Vec::new();
    for piece in body.chunks(piece_len) {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(event) = reader.next::<T>().expect("an event") {
            shown.push(match event {
                WatchEvent::Applied(object) => of_object(*object),
                WatchEvent::Bookmark { .. } => "bookmark".to_owned(),
                WatchEvent::Deleted(_) | WatchEvent::Unknown => panic!("not in the recordings"),
            });
        }
    }
    // The number of bookmarks varies.
    shown.dedup_by(|next, last| next == "bookmark" && last == "bookmark");
    shown
}

/// Its key, its version, the label that matters, and the event that it becomes.
fn of_object<T: ProtoObject>(object: T) -> String {
    let metadata = object.metadata();
    let (key, version) = (metadata.key(), metadata.resource_version.clone());
    let service = metadata.label(crate::convert::SERVICE_NAME_LABEL).map(str::to_owned);
    let converted = match object.convert(&mut crate::fault::Faults::default()) {
        Ok(Some(object)) => format!("{:?}", T::event(crate::object::Change::Apply(object))),
        Ok(None) => "nothing".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    };
    format!("{key:?} {version:?} {service:?} {converted}")
}

/// Both encodings of a watch mean the same, however the bytes are split.
fn check<T: ProtoObject>(protobuf: &[u8], json: &[u8], objects: usize) {
    let expected = read::<T>(Encoding::Json, json, json.len());
    assert_eq!(expected.len(), objects + 1, "{:?} and the bookmark", T::KIND);
    assert_eq!(read::<T>(Encoding::Protobuf, protobuf, protobuf.len()), expected, "{:?}", T::KIND);
    for piece_len in 1..40 {
        assert_eq!(read::<T>(Encoding::Protobuf, protobuf, piece_len), expected, "{piece_len}");
        assert_eq!(read::<T>(Encoding::Json, json, piece_len), expected, "{piece_len}");
    }
}

#[test]
fn the_same_as_in_json() {
    macro_rules! recording {
        ($name:literal) => {
            include_bytes!(concat!("../recordings/", $name))
        };
    }
    let (protobuf, json) = (recording!("namespaces.watch.pb"), recording!("namespaces.watch.json"));
    check::<RawNamespace>(protobuf, json, 1);
    let (protobuf, json) = (recording!("services.watch.pb"), recording!("services.watch.json"));
    check::<RawService>(protobuf, json, 3);
    let (protobuf, json) =
        (recording!("endpointslices.watch.pb"), recording!("endpointslices.watch.json"));
    check::<RawEndpointSlice>(protobuf, json, 3);
    let (protobuf, json) = (recording!("pods.watch.pb"), recording!("pods.watch.json"));
    check::<RawPod>(protobuf, json, 3);
}

/// The result of reading these bytes as one piece: an error, or an event.
fn outcome(encoding: Encoding, bytes: &'static [u8]) -> String {
    let mut reader = EventReader::new(encoding, WANTED);
    reader.push(Bytes::from_static(bytes));
    match reader.next::<RawService>() {
        Ok(Some(WatchEvent::Unknown)) => "unknown".to_owned(),
        Ok(Some(_)) => "an event".to_owned(),
        Ok(None) => match reader.last::<RawService>() {
            Ok(Some(_)) => "an event at the end".to_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(ApiError::Status(failure)) => format!("{}: {}", failure.code, failure.message),
        Err(error) => error.to_string(),
    }
}

#[test]
fn failures_and_unreadable_events() {
    #[track_caller]
    fn check(encoding: Encoding, bytes: &'static [u8], expected: &str) {
        let outcome = outcome(encoding, bytes);
        assert!(outcome.starts_with(expected), "{expected}: {outcome}");
    }
    // As recorded, for a very old resource version.
    let expired =
        b"\0\0\0e\n\x05ERROR\x12\\\nZk8s\0\n\x0c\n\x02v1\x12\x06Status\x12B\n\x06\n\0\x12\
                  \0\x1a\0\x12\x07Failure\x1a#too old resource version: 1 \
                  (10950)\"\x07Expired0\x9a\x03\x1a\0\"\0";
    check(Encoding::Protobuf, expired, "410: too old resource version: 1 (10950)");
    // What cannot be read counts as expired: a list takes its place.
    let unreadable = "410: unreadable protobuf from the API server: ";
    for (bytes, cause) in [
        (b"{\"type\":\"ADDED\"".as_slice(), "frame of 2065855609 bytes"),
        (b"\0\0\0\x03abc", "failed to decode Protobuf message"),
        (b"\0\0\0\x06\n\x05ADDE", "a field that is longer than its message"),
        (b"\0\0\0\x07\n\x05ADDED", "object without the magic bytes k8s"),
        (b"\0\0\0\x0e\n\x04NEWS\x12\x06\n\x04k8s\0", "unknown event type \"NEWS\""),
    ] {
        check(Encoding::Protobuf, bytes, &format!("{unreadable}{cause}"));
    }
    check(Encoding::Json, b"{\"type\":\"HEARTBEAT\",\"object\":{}}\n", "unknown");
    check(Encoding::Json, b"{\"type\":\"ADDED\",\"object\":7}\n", "unknown");
    check(Encoding::Json, b"{\"type\":\"ERROR\",\"object\":{\"code\":500}}\n", "500: ");
    check(Encoding::Json, b"{\"kind\":\"Status\",\"code\":500}\n", "500: ");
    check(Encoding::Json, b"<html>\n", "unreadable response: expected value");
    check(Encoding::Json, b"{\"type\":\"ADDED\",\"object\":{}}", "an event at the end");
    check(Encoding::Json, b"{\"type\":\"ADDED\",\"obj", "nothing");
    // In the middle, an event would be lost.
    check(Encoding::Json, b"{\"type\":\"ADDED\",\"obj\n", "unreadable response: EOF");
    check(Encoding::Json, b"\n", "nothing");
    check(Encoding::Json, b" \r\n ", "nothing");
}

/// Any change to a recording yields events or an error, never a panic.
#[test]
fn changed_bytes() {
    let recording = include_bytes!("../recordings/endpointslices.watch.pb");
    for at in 0..recording.len() {
        for bit in [0, 3, 7] {
            let mut changed = recording.to_vec();
            changed[at] ^= 1 << bit;
            let mut reader = EventReader::new(Encoding::Protobuf, WANTED);
            reader.push(Bytes::from(changed));
            while let Ok(Some(event)) = reader.next::<RawEndpointSlice>() {
                if let WatchEvent::Applied(slice) = event {
                    let _ = slice.convert(&mut crate::fault::Faults::default());
                }
            }
        }
    }
}
