//! What the query log reports of a response: a vector, compressed and not, and arbitrary bytes.

use domain::base::iana::{Class, Rtype};
use domain::base::message_builder::TreeCompressor;
use domain::base::wire::Composer;
use domain::base::{MessageBuilder, Name, Ttl};
use domain::rdata::{A, Cname, Mx, Ns, Soa, Srv};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::summary::Summary;

fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().expect("a name")
}

/// A response with compressible names in owners and in data. `has_opt`: in front of the last
/// record.
fn response<T: Composer>(target: T, has_opt: bool) -> T {
    let builder = MessageBuilder::from_target(target).ok().expect("room");
    let mut builder = builder.question();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_qr(true);
    builder.push((name("www.example.org"), Rtype::MX)).expect("room");
    let (www, host, zone) =
        (name("www.example.org"), name("host.example.org"), name("example.org"));
    let ttl = Ttl::from_secs(30);
    let mut builder = builder.answer();
    builder.push((&www, Class::IN, ttl, Cname::new(host.clone()))).expect("room");
    builder.push((&host, Class::IN, ttl, Mx::new(5, www.clone()))).expect("room");
    builder.push((&host, Class::IN, ttl, Srv::new(1, 2, 3, www.clone()))).expect("room");
    let mut builder = builder.authority();
    builder.push((&zone, Class::IN, ttl, Ns::new(host.clone()))).expect("room");
    let soa = Soa::new(host.clone(), www, 1.into(), ttl, ttl, ttl, ttl);
    builder.push((&zone, Class::IN, ttl, soa)).expect("room");
    let mut builder = builder.additional();
    if has_opt {
        builder.opt(|opt| opt.padding(7)).expect("room");
    }
    builder.push((&host, Class::IN, ttl, A::from_octets(1, 2, 3, 4))).expect("room");
    builder.finish()
}

#[test]
fn compression_and_opt_do_not_count() {
    let plain = response(Vec::new(), false);
    let expected = Summary {
        id: 0x1234,
        flags: 0x8000,
        qtype: 15,
        qclass: 1,
        answer_count: 3,
        soa_count: 1,
        ns_count: 1,
        uncompressed_len: plain.len(),
    };
    assert_eq!(Summary::of(&plain), expected);
    for has_opt in [false, true] {
        let compressed = response(TreeCompressor::new(Vec::new()), has_opt).into_target();
        assert_ne!(compressed.len(), plain.len());
        assert_eq!(Summary::of(&compressed), expected, "{has_opt}");
        assert_eq!(Summary::of(&response(Vec::new(), has_opt)), expected, "{has_opt}");
    }
}

#[test]
fn responses_without_a_question() {
    let header = [0x12, 0x34, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let expected =
        Summary { id: 0x1234, flags: 0x8001, uncompressed_len: 12, ..Summary::default() };
    assert_eq!(Summary::of(&header), expected);
    assert_eq!(Summary::of(&[]), Summary::default());
}

/// Labels and pointers that lead to one another.
#[test]
fn pointers_in_circles() {
    for circle in [&b"\xc0\x0c"[..], b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xc0"] {
        let mut message = vec![0x12, 0x34, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        message.extend(circle);
        message.extend([0, 1, 0, 1, 0, 0, 0, 30, 0, 0]);
        assert_eq!(Summary::of(&message).uncompressed_len, message.len());
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200), counts in vec(0u8..4, 4)) {
        let mut message = bytes;
        for (index, count) in counts.iter().enumerate() {
            if let Some(field) = message.get_mut(4 + 2 * index..6 + 2 * index) {
                field.copy_from_slice(&[0, *count]);
            }
        }
        let summary = Summary::of(&message);
        // A name has 255 bytes at most.
        prop_assert!(summary.uncompressed_len <= message.len() + 12 * 3 * 255);
    }
}
