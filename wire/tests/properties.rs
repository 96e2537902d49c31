//! Every packet has an outcome, and a table finds exactly the names that it stores.

use std::collections::BTreeMap;

use domain::base::{Message, Question};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::header::CLASS_IN;
use wire::name::Name;
use wire::pod::PodMode;
use wire::query::{self, ClientPacket};
use wire::reply::{self, Envelope, MESSAGE_LEN_MAX};
use wire::table::Found;

/// Packets, many of them almost queries.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (any::<[u8; 4]>(), vec(0..3u8, 8), vec(any::<u8>(), 0..80)).prop_map(
        |(start, counts, rest)| {
            let mut packet = start.to_vec();
            packet[2] &= 0x07;
            packet.extend(
                counts.iter().enumerate().map(|(at, count)| if at % 2 == 0 { 0 } else { *count }),
            );
            packet[5] = 1;
            packet.extend(rest);
            packet
        },
    );
    let label = vec(prop_oneof![9 => b'-'..=b'z', 1 => any::<u8>(), 1 => Just(0)], 1..20);
    let query = (vec(label, 0..9), any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(
        |(labels, qtype, behind)| {
            let mut packet = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in &labels {
                packet.push(label.len() as u8);
                packet.extend(label);
            }
            packet.extend([0, 0, qtype, 0, 1]);
            packet.extend(behind);
            packet
        },
    );
    prop_oneof![vec(any::<u8>(), 0..600), nearly, query]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_presumed_name_that_is_whole_is_right(packet in packets()) {
        let (mut presumed_name, mut name) = (Name::default(), Name::default());
        let presumed = query::presume(&packet, &mut presumed_name);
        let reading = query::read(&packet, &mut name);
        if let Some(query) = presumed && presumed_name.is_whole() {
            prop_assert_eq!(ClientPacket::Query(query), reading);
            prop_assert_eq!(presumed_name.bytes(), name.bytes());
            prop_assert_eq!(query::read_again(&packet, &mut presumed_name), reading);
        } else if packet.len() >= 12 + 16
            && let ClientPacket::Query(query) = reading
            && query.qclass == CLASS_IN
        {
            let (labels, _root) = name.bytes().split_at(query.name_len - 1);
            prop_assert!(labels.contains(&0), "only a zero byte in a label hides a name's end");
        }
    }

    #[test]
    fn any_packet_has_an_outcome(packet in packets()) {
        let mut name = Name::default();
        let table = TableBuilder::new(
            TableOptions::kubernetes(vec![vec![0]], PodMode::Insecure, 5), HashSeed::new(1),
        ).publish(1);
        let mut out = packet.clone();
        out.resize(MESSAGE_LEN_MAX, 0);
        match query::read(&packet, &mut name) {
            ClientPacket::Query(query) => {
                // `domain` reads the same question.
                let message = Message::from_octets(packet.as_slice()).unwrap();
                let question: Question<_> = message.sole_question().unwrap();
                prop_assert_eq!(question.qtype().to_int(), query.qtype);
                let found = table.look_up(&name, query.qtype);
                let envelope = Envelope { len_max: 512, rotation: 3 };
                let stamped = reply::stamp(&query, &table, &found, envelope, &mut out);
                let answer = Message::from_octets(&out[..stamped.len]).unwrap();
                prop_assert!(answer.header().qr());
                prop_assert_eq!(answer.header().id(), message.header().id());
            }
            ClientPacket::Reject(reject) => {
                let stamped = reply::stamp_reject(&reject, &mut out);
                prop_assert!(stamped.len <= packet.len().max(12), "an error is no amplifier");
                prop_assert_eq!(&out[..2], &packet[..2]);
            }
            ClientPacket::Ignore => prop_assert!(packet.len() < 12 || packet[2] & 0x80 != 0),
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_table_finds_what_it_stores(
        names in btree_map("[a-z]{1,8}(\\.[a-z0-9-]{1,9}){0,3}", any::<[u8; 4]>(), 1..200),
        removed in vec(any::<prop::sample::Index>(), 0..50),
    ) {
        let wire_name = |text: &str| {
            let mut bytes = vec![];
            for label in text.split('.') {
                bytes.push(label.len() as u8);
                bytes.extend(label.as_bytes());
            }
            bytes.extend(b"\x01z\0");
            bytes
        };
        let options = TableOptions::kubernetes(vec![b"\x01z\0".to_vec()], PodMode::Disabled, 5);
        let mut builder = TableBuilder::new(options, HashSeed::new(99));
        builder.set_synced();
        let mut writer = EntryWriter::new();
        let mut hashes = BTreeMap::new();
        for (text, address) in &names {
            let owner = wire_name(text);
            writer.begin(&owner);
            writer.answer(1);
            writer.record(Section::Answer, &owner, 1, 5, address);
            hashes.insert(text.clone(), builder.insert(writer.finish()));
        }
        let mut expected = names.clone();
        builder.publish(1);
        for index in removed {
            let text = index.get(&names.keys().collect::<Vec<_>>()).to_string();
            builder.remove(hashes[&text]);
            expected.remove(&text);
        }
        let table = builder.publish(2);
        prop_assert_eq!(builder.name_count(), expected.len());
        let mut name = Name::default();
        for text in names.keys() {
            name.read(&wire_name(text)).unwrap();
            match (table.look_up(&name, 1), expected.get(text)) {
                (Found::Answer(answer), Some(address)) => {
                    prop_assert!(answer.body.ends_with(address));
                }
                (Found::NxDomain(_), None) => {}
                (found, expected) => prop_assert!(false, "{text}: {found:?}, not {expected:?}"),
            }
        }
    }
}
