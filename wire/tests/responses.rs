//! Upstreams' packets, well-meant and hostile: which are answers, what of them is kept, and how it is sent on.

use domain::base::iana::{Rcode, Rtype};
use domain::base::{MessageBuilder, Name, Ttl};
use domain::rdata::{A, Cname};
use wire::response::{self, Asked, Kind, Reading};

fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().unwrap()
}

/// An answer to `www.example.org A` with the id 7: a CNAME and an address.
fn packet() -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(7);
    builder.header_mut().set_qr(true);
    let mut builder = builder.question();
    builder.push((name("www.example.org"), Rtype::A)).unwrap();
    let mut builder = builder.answer();
    let (alias, ttl) = (name("web.example.org"), Ttl::from_secs(60));
    builder.push((name("www.example.org"), ttl, Cname::new(alias.clone()))).unwrap();
    builder.push((alias, Ttl::from_secs(20), A::from_octets(192, 0, 2, 1))).unwrap();
    builder.finish()
}

const ASKED: Asked<'_> = Asked {
    id: 7,
    name: b"\x03www\x07example\x03org\0",
    qtype: 1,
    qclass: 1,
    case_must_match: true,
};

#[test]
fn an_answer_is_to_the_question() {
    let asked_otherwise = [
        Asked { id: 8, ..ASKED },
        Asked { name: b"\x03www\x07example\x03com\0", ..ASKED },
        Asked { name: b"\x03wwW\x07example\x03org\0", ..ASKED },
        Asked { name: b"\0", ..ASKED },
        Asked { qtype: 28, ..ASKED },
        Asked { qclass: 3, ..ASKED },
    ];
    for asked in asked_otherwise {
        assert_eq!(response::read(&packet(), &asked), Reading::Foreign, "{asked:?}");
    }
    let any_case = Asked { name: b"\x03wWw\x07example\x03org\0", case_must_match: false, ..ASKED };
    for asked in [ASKED, any_case] {
        let Reading::Answer(response) = response::read(&packet(), &asked) else {
            panic!("{asked:?}")
        };
        assert_eq!(response.kind, Kind::Success);
        assert_eq!(response.ttl_secs_min, Some(20));
        assert_eq!(response.answer_count(), 2);
    }
    for (byte, bits) in [(2, 0x80), (2, 0x78), (5, 3)] {
        let mut packet = packet();
        packet[byte] ^= bits;
        assert_eq!(response::read(&packet, &ASKED), Reading::Foreign, "byte {byte}");
    }
}

#[test]
fn an_error_may_come_without_the_question() {
    let bare = |rcode: Rcode| {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(7);
        builder.header_mut().set_qr(true);
        builder.header_mut().set_rcode(rcode);
        builder.finish()
    };
    let asked = Asked { case_must_match: false, ..ASKED };
    for rcode in [Rcode::FORMERR, Rcode::SERVFAIL, Rcode::NOTIMP, Rcode::REFUSED] {
        let Reading::Answer(response) = response::read(&bare(rcode), &asked) else {
            panic!("{rcode}")
        };
        assert_eq!((response.kind, response.rcode), (Kind::Failure, u16::from(rcode.to_int())));
        assert_eq!(response::read(&bare(rcode), &ASKED), Reading::Foreign);
    }
    for rcode in [Rcode::NOERROR, Rcode::NXDOMAIN] {
        assert_eq!(response::read(&bare(rcode), &asked), Reading::Foreign, "{rcode}");
    }
}
