//! Recordings of kube-apiserver 1.34.4: the same watches in protobuf (`.pb`) and JSON, a page of a
//! list, and a 403.

use kube::core::WatchEvent;
use serde::Deserialize;

use super::*;
use crate::convert::raw_object::RawObject;
use crate::raw::{RawEndpointSlice, RawNamespace, RawPod, RawService};
use crate::watch::resource::Watched;

/// What every event of a streaming list means, in either encoding.
fn read<T: RawObject>(json: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(json).expect("UTF-8").lines();
    let events = lines.map(|line| serde_json::from_str(line).expect("kube reads it"));
    let shown = events.map(|event: WatchEvent<Watched<T>>| match event {
        WatchEvent::Added(object) => {
            let version = kube::ResourceExt::resource_version(&object);
            let key = object.raw.metadata().key();
            let labels = object.raw.metadata().labels.clone();
            format!("{key:?} {version:?} {labels:?} {}", shown(object.raw))
        }
        WatchEvent::Bookmark(bookmark) => {
            let is_end = bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end");
            format!("bookmark {is_end}")
        }
        WatchEvent::Modified(_) | WatchEvent::Deleted(_) | WatchEvent::Error(_) => {
            panic!("not in the recordings")
        }
    });
    // The number of bookmarks after the list varies.
    let mut shown: Vec<String> = shown.collect();
    shown.dedup_by(|next, _| next == "bookmark false");
    shown
}

/// The event of the object, in `Debug` format.
fn shown<T: RawObject>(raw: T) -> String {
    match raw.convert(&mut crate::fault::Faults::default()) {
        Ok(Some(object)) => format!("{:?}", T::event(crate::object::Change::Apply(object))),
        Ok(None) => "nothing".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

/// Both encodings of a watch mean the same, however the bytes are split.
fn check<T: RawObject>(protobuf: &[u8], json: &[u8], objects: usize) {
    let expected = read::<T>(json);
    assert_eq!(expected.len(), objects + 1, "{:?} and the bookmark", T::KIND);
    let whole = WatchBody::new(T::KIND).push(protobuf);
    assert_eq!(read::<T>(&whole), expected, "{:?}", T::KIND);
    for piece_len in 1..40 {
        let mut body = WatchBody::new(T::KIND);
        let pieces = protobuf.chunks(piece_len).map(|piece| body.push(piece));
        assert_eq!(pieces.collect::<Vec<_>>().concat(), whole, "{piece_len}");
    }
}

#[test]
fn the_same_as_in_json() {
    let (protobuf, json) =
        (include_bytes!("namespaces.watch.pb"), include_bytes!("namespaces.watch.json"));
    check::<RawNamespace>(protobuf, json, 1);
    let (protobuf, json) =
        (include_bytes!("services.watch.pb"), include_bytes!("services.watch.json"));
    check::<RawService>(protobuf, json, 3);
    let (protobuf, json) =
        (include_bytes!("endpointslices.watch.pb"), include_bytes!("endpointslices.watch.json"));
    check::<RawEndpointSlice>(protobuf, json, 3);
    let (protobuf, json) = (include_bytes!("pods.watch.pb"), include_bytes!("pods.watch.json"));
    check::<RawPod>(protobuf, json, 3);
}

#[test]
fn a_page_of_a_list() {
    #[derive(Deserialize)]
    struct List {
        metadata: kube::api::ListMeta,
        items: Vec<RawService>,
    }
    let json = list_to_json(Kind::Service, Bytes::from_static(include_bytes!("services.list.pb")));
    let list: List = serde_json::from_slice(&json.expect("a list")).expect("JSON");
    assert!(list.metadata.resource_version.is_some_and(|version| version.len() > 3));
    assert!(list.metadata.continue_.is_some_and(|token| token.len() > 20));
    let names: Vec<_> =
        list.items.into_iter().filter_map(|service| service.metadata.name.good()).collect();
    assert_eq!(names, ["dual", "external"]);
    let error =
        list_to_json(Kind::Service, Bytes::from_static(b"{}")).expect_err("JSON is no protobuf");
    assert_eq!(error, "object without the magic bytes k8s");
}

#[test]
fn errors() {
    let check = |code: u16, body: &'static [u8], expected: (u16, &str, u32)| {
        let json = status_to_json(code, Bytes::from_static(body));
        let status: kube::core::Status = serde_json::from_slice(&json).expect("JSON");
        let retry_after = status.details.map_or(0, |details| details.retry_after_seconds);
        assert_eq!((status.code, status.message.as_str(), retry_after), expected);
    };
    let forbidden = include_bytes!("forbidden.pb");
    let message = "services is forbidden: User \"low\" cannot list resource \"services\" in API \
                   group \"\" at the cluster scope";
    check(403, forbidden, (403, message, 0));
    check(502, b"<html>", (502, "", 0));
    check(429, b"k8s\0\x12\x04\x2a\x02\x28\x07", (429, "", 7));
}

#[test]
fn errors_in_a_watch() {
    // As recorded, for a very old resource version.
    let event = b"\0\0\0e\n\x05ERROR\x12\\\nZk8s\0\n\x0c\n\x02v1\x12\x06Status\x12B\n\x06\n\0\x12\
                  \0\x1a\0\x12\x07Failure\x1a#too old resource version: 1 \
                  (10950)\"\x07Expired0\x9a\x03\x1a\0\"\0";
    let line = WatchBody::new(Kind::Pod).push(event);
    let expected = concat!(
        r#"{"type":"ERROR","object":{"message":"too old resource version: 1 (10950)","#,
        r#""reason":"Expired","code":410}}"#,
    );
    assert_eq!(line, format!("{expected}\n"));
}

#[test]
fn unreadable_frames_restart_the_watch() {
    let check = |bytes: &[u8], cause: &str| {
        let mut body = WatchBody::new(Kind::Service);
        let line = String::from_utf8(body.push(bytes).to_vec()).expect("UTF-8");
        assert!(line.contains(r#""type":"ERROR""#) && line.contains(r#""code":410"#), "{line}");
        assert!(line.contains(cause), "{line} should name {cause}");
        assert!(body.push(include_bytes!("services.watch.pb")).is_empty(), "nothing comes after");
    };
    check(b"{\"type\":\"ADDED\"", "frame of 2065855609 bytes");
    check(b"\0\0\0\x03abc", "unreadable protobuf");
    check(b"\0\0\0\x07\n\x05ADDED", "object without the magic bytes k8s");
    check(b"\0\0\0\x0e\n\x04NEWS\x12\x06\n\x04k8s\0", "unknown event type \\\"NEWS\\\"");
}

/// Any change to a recording yields lines that kube can read or an error, never a panic.
#[test]
fn changed_bytes() {
    let recording = include_bytes!("endpointslices.watch.pb");
    for at in 0..recording.len() {
        for bit in [0, 3, 7] {
            let mut changed = recording.to_vec();
            changed[at] ^= 1 << bit;
            let json = WatchBody::new(Kind::EndpointSlice).push(&changed);
            for line in std::str::from_utf8(&json).expect("UTF-8").lines() {
                serde_json::from_str::<serde_json::Value>(line).expect("JSON");
            }
        }
    }
}
