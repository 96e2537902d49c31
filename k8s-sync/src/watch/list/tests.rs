//! A recorded page of kube-apiserver 1.34.4, whole and damaged.

use super::*;
use crate::raw::RawService;

const RECORDING: &[u8] = include_bytes!("../recordings/services.list.pb");

/// The names in a list that arrives in pieces of this length, and its version and token.
fn read(
    encoding: Encoding,
    body: &[u8],
    piece_len: usize,
) -> Result<(Vec<String>, String, String), ApiError> {
    let mut list = ListReader::<RawService>::new(encoding, Wanted::default());
    let mut names = Vec::new();
    let mut note = |service: RawService| names.extend(service.metadata.name.good());
    for piece in body.chunks(piece_len) {
        list.push(Bytes::copy_from_slice(piece))?;
        while let Some(service) = list.next()? {
            note(service);
        }
    }
    list.end()?;
    while let Some(service) = list.next()? {
        note(service);
    }
    let metadata = list.into_metadata();
    Ok((names, metadata.resource_version, metadata.continue_token))
}

#[test]
fn a_page_of_a_list() {
    for piece_len in (1..40).chain([RECORDING.len()]) {
        let (names, version, token) = read(Encoding::Protobuf, RECORDING, piece_len).expect("list");
        assert_eq!(names, ["dual", "external"]);
        assert!(version.len() > 3 && token.len() > 20, "{version} {token}");
    }
    let json = br#"{"metadata":{"resourceVersion":"7","continue":"x"},
        "items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#;
    let (names, version, token) = read(Encoding::Json, json, 10).expect("a list");
    assert_eq!((names.concat(), &*version, &*token), ("ab".to_owned(), "7", "x"));
}

#[test]
fn what_is_no_list_or_breaks_off() {
    #[track_caller]
    fn check(encoding: Encoding, body: &[u8], expected: &str) {
        let error = read(encoding, body, 7).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    check(Encoding::Protobuf, b"{\"items\":[]}", "object without the magic bytes k8s");
    check(Encoding::Protobuf, b"k8s\0\x08\x01", "a field of another type");
    check(Encoding::Protobuf, b"k8s\0\x12\x03\x0a\x07", "a field that is longer than its list");
    check(Encoding::Protobuf, b"k8s\0\x0a\xff\xff\xff\xff\x0f", "a field of more than 16 MiB");
    for len in 0..RECORDING.len() - 4 {
        check(Encoding::Protobuf, &RECORDING[..len], "the list ended early");
    }
    check(Encoding::Json, b"{\"metadata\":{}", "EOF");
    check(Encoding::Json, b"{\"kind\":\"Status\"}", "missing field `items`");
}

#[test]
fn a_list_of_json_has_an_end() {
    // The system gives these bytes no memory.
    let mut list = ListReader::<RawService>::Json(vec![0; JSON_LEN_MAX - 2]);
    let error = list.push(Bytes::from_static(b"{}}")).expect_err("too long").to_string();
    assert!(error.contains("more than 1 GiB"), "{error}");
}

/// Any change to a recording yields objects or an error, never a panic.
#[test]
fn changed_bytes() {
    for at in 0..RECORDING.len() {
        for bit in [0, 3, 7] {
            let mut changed = RECORDING.to_vec();
            changed[at] ^= 1 << bit;
            let _ = read(Encoding::Protobuf, &changed, 100);
        }
    }
}
