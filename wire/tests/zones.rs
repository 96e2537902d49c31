//! Zones of zone files: whole responses against a model that reads the records one by one (RFC
//! 1034, section 4.3.2; RFC 4592; RFC 6672; RFC 4035, section 3.1).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use domain::base::{Message, ParsedName, Rtype};
use domain::rdata::AllRecordData;
use proptest::collection::vec;
use proptest::prelude::*;
use wire::compile::{TableBuilder, TableOptions, ZoneRecord, ZoneRecords};
use wire::hash::HashSeed;
use wire::name::Name;
use wire::query::{self, ClientPacket};
use wire::reply::{self, Envelope, MESSAGE_LEN_MAX};
use wire::table::{Found, Table};

/// Labels, leftmost first. The root is empty.
type Labels = Vec<&'static str>;

const LABELS: [&str; 4] = ["a", "b", "*", "longer-label"];
const ZONE: &str = "z";
const TTL: u32 = 60;

/// A record whose data is at most one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    owner: Labels,
    rtype: u16,
    /// The target, the previous label of an SOA, or nothing.
    target: Labels,
    /// Of an RRSIG.
    covered: u16,
}

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const MX: u16 = 15;
const TXT: u16 = 16;
const DNAME: u16 = 39;
const DS: u16 = 43;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const ANY: u16 = 255;

fn wire(labels: &[&str]) -> Vec<u8> {
    let mut name = Vec::new();
    for label in labels {
        name.push(label.len() as u8);
        name.extend(label.bytes());
    }
    name.push(0);
    name
}

impl Row {
    fn rdata(&self) -> Vec<u8> {
        let target = wire(&self.target);
        match self.rtype {
            A => vec![192, 0, 2, 1],
            NS | CNAME | DNAME => target,
            MX => [&[0, 10][..], &target].concat(),
            SOA => [target.clone(), target, vec![0; 20]].concat(),
            DS => [&[0, 1, 8, 2][..], &[7; 32]].concat(),
            RRSIG => {
                let covered = self.covered.to_be_bytes();
                [&covered[..], &[13, 1, 0, 0, 0, 60], &[0; 10], &wire(&[ZONE]), &[9; 200]].concat()
            }
            NSEC => [target, vec![0, 1, 0x40]].concat(),
            _ => vec![1, b'x'],
        }
    }

    /// As `shown_message` shows it.
    fn shown(&self) -> String {
        let kind =
            if self.rtype == RRSIG { format!("RRSIG {}", self.covered) } else { String::new() };
        format!("{} {} {kind}{:?}", self.owner.join("."), self.rtype, self.rdata())
    }

    fn has_owner(&self, labels: &[&'static str]) -> bool {
        self.owner == labels
    }
}

/// A response: code, AA, and the records of each section, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    rcode: u16,
    aa: bool,
    sections: [Vec<String>; 3],
}

impl Shown {
    /// The records that must not be missing without TC.
    fn needed(&self) -> Vec<&String> {
        let [answer, authority, additional] = &self.sections;
        let is_proof = |row: &&String| {
            let rtype = row.split(' ').nth(1).unwrap_or_default();
            rtype == NSEC.to_string() || row.contains(&format!(" RRSIG {NSEC}["))
        };
        if !answer.is_empty() {
            return answer.iter().chain(authority.iter().filter(is_proof)).collect();
        }
        authority.iter().chain(additional).collect()
    }
}

/// A zone as a list of records, and the naive way to answer from it.
struct Model {
    rows: Vec<Row>,
    /// The owners that nothing hides.
    visible: BTreeSet<Labels>,
    is_signed: bool,
}

impl Model {
    fn of(&self, name: &[&'static str], rtype: u16) -> Vec<Row> {
        self.rows.iter().filter(|row| row.has_owner(name) && row.rtype == rtype).cloned().collect()
    }

    fn has(&self, name: &[&'static str], rtype: u16) -> bool {
        !self.of(name, rtype).is_empty()
    }

    /// Records with their signatures.
    fn set(&self, name: &[&'static str], rtype: u16, dnssec_ok: bool) -> Vec<Row> {
        let mut set = self.of(name, rtype);
        let signatures = self.of(name, RRSIG).into_iter().filter(|row| row.covered == rtype);
        set.extend(signatures.filter(|_| dnssec_ok && rtype != RRSIG));
        set
    }

    fn is_cut(&self, name: &[&'static str]) -> bool {
        self.has(name, NS) && name != [ZONE] && name.first() != Some(&"*")
    }

    /// The delegation, or else the DNAME, nearest to the apex that hides names below it.
    fn hides(&self, name: &[&'static str]) -> Option<Labels> {
        let above = (0..name.len()).rev().map(|index| &name[index..]);
        let above = above.filter(|above| above.ends_with(&[ZONE]) && above.len() < name.len());
        above
            .into_iter()
            .find(|above| self.is_cut(above) || self.has(above, DNAME))
            .map(<[_]>::to_vec)
    }

    fn exists(&self, name: &[&'static str]) -> bool {
        self.visible.iter().any(|owner| owner.ends_with(name))
    }

    fn closest(&self, name: &[&'static str]) -> Labels {
        let index = (0..name.len()).find(|index| self.exists(&name[*index..]));
        name[index.expect("the apex exists")..].to_vec()
    }

    fn addresses(&self, targets: &[Row], below: &[&'static str], dnssec_ok: bool) -> Vec<Row> {
        let targets: BTreeSet<_> = targets.iter().map(|row| row.target.clone()).collect();
        let targets = targets.into_iter().filter(|target| target.ends_with(below));
        targets.flat_map(|target| self.set(&target, A, dnssec_ok)).collect()
    }

    fn denial(&self, rcode: u16, names: &[Labels], dnssec_ok: bool) -> Shown {
        let mut authority = self.set(&[ZONE], SOA, dnssec_ok);
        let proofs: BTreeSet<Labels> =
            names.iter().filter_map(|name| self.at_or_before(name)).collect();
        for owner in proofs.iter().filter(|_| dnssec_ok) {
            authority.extend(self.set(owner, NSEC, true));
        }
        shown(rcode, true, [vec![], authority, vec![]])
    }

    fn at_or_before(&self, name: &[&'static str]) -> Option<Labels> {
        let owners = self.rows.iter().filter(|row| row.rtype == NSEC).map(|row| row.owner.clone());
        owners
            .filter(|owner| canonical(owner, name) != Ordering::Greater)
            .max_by(|a, b| canonical(a, b))
    }

    fn answer(&self, name: &Labels, qtype: u16, dnssec_ok: bool) -> Shown {
        if let Some(above) = self.hides(name) {
            return match self.is_cut(&above) {
                true => self.referral(&above, dnssec_ok),
                false => self.substituted(name, &above, dnssec_ok),
            };
        }
        if self.is_cut(name) && qtype != DS {
            return self.referral(name, dnssec_ok);
        }
        if self.exists(name) {
            let names = [name.clone()];
            return match self.found(name, name, qtype, dnssec_ok) {
                Some(found) => found,
                None => self.denial(0, &names, dnssec_ok),
            };
        }
        let closest = self.closest(name);
        let wildcard = [vec!["*"], closest].concat();
        let names = [name.clone(), wildcard.clone()];
        if !self.exists(&wildcard) {
            return self.denial(3, &names, dnssec_ok);
        }
        let is_alias = self.has(&wildcard, CNAME) && !self.has(&wildcard, DNAME) && qtype != CNAME;
        match self.found(&wildcard, name, qtype, dnssec_ok) {
            Some(mut found) if dnssec_ok && !is_alias => {
                let owner = self.at_or_before(name);
                let proof = owner.map(|owner| self.set(&owner, NSEC, true)).unwrap_or_default();
                found.sections[1].extend(proof.iter().map(Row::shown));
                found.sections[1].sort();
                found
            }
            Some(found) => found,
            None => self.denial(0, &names, dnssec_ok),
        }
    }

    /// What a name has for a type, owned by the name that was asked for.
    fn found(&self, at: &Labels, asked: &Labels, qtype: u16, dnssec_ok: bool) -> Option<Shown> {
        let is_apex = *at == [ZONE];
        let is_alias = self.has(at, CNAME) && !self.has(at, DNAME) && !self.is_cut(at);
        let is_own =
            qtype == CNAME || (is_apex && matches!(qtype, SOA | NS) && self.has(at, qtype));
        if is_alias && !is_own {
            return Some(shown(0, true, [self.chain(at, asked, dnssec_ok), vec![], vec![]]));
        }
        let set = self.of(at, qtype);
        if set.is_empty() {
            return None;
        }
        let mut answer = self.set(at, qtype, dnssec_ok);
        answer.iter_mut().for_each(|row| row.owner.clone_from(asked));
        let is_ns = is_apex && qtype == NS;
        let authority = if is_ns { vec![] } else { self.set(&[ZONE], NS, dnssec_ok) };
        let additional = match qtype {
            MX => self.addresses(&set, &[ZONE], dnssec_ok),
            NS if is_ns => self.addresses(&set, &[ZONE], dnssec_ok),
            _ => vec![],
        };
        Some(shown(0, true, [answer, authority, additional]))
    }

    fn chain(&self, at: &Labels, asked: &Labels, dnssec_ok: bool) -> Vec<Row> {
        let (mut at, mut owner) = (at.clone(), asked.clone());
        let (mut chain, mut seen) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let set = self.set(&at, CNAME, dnssec_ok);
            let Some(cname) = set.first().cloned() else { break };
            chain.extend(set.into_iter().map(|row| Row { owner: owner.clone(), ..row }));
            // What is stored begins with the name that has the CNAME.
            seen.push(if seen.is_empty() { at.clone() } else { owner });
            owner = cname.target;
            if !owner.ends_with(&[ZONE]) || seen.contains(&owner) || self.hides(&owner).is_some() {
                break;
            }
            at = match self.exists(&owner) {
                true if self.is_cut(&owner) => break,
                true => owner.clone(),
                false => [vec!["*"], self.closest(&owner)].concat(),
            };
            if self.has(&at, DNAME) {
                break;
            }
        }
        chain
    }

    fn referral(&self, at: &[&'static str], dnssec_ok: bool) -> Shown {
        let servers = self.of(at, NS);
        let additional = self.addresses(&servers, at, dnssec_ok);
        let mut authority = servers;
        if dnssec_ok {
            let rtype = if self.has(at, DS) { DS } else { NSEC };
            authority.extend(self.set(at, rtype, true));
        }
        shown(0, false, [vec![], authority, additional])
    }

    fn substituted(&self, name: &Labels, at: &[&'static str], dnssec_ok: bool) -> Shown {
        let mut answer = self.set(at, DNAME, dnssec_ok);
        let kept = &name[..name.len() - at.len()];
        let target = [kept, &answer[0].target].concat();
        answer.push(Row { owner: name.clone(), rtype: CNAME, target, covered: 0 });
        shown(0, true, [answer, vec![], vec![]])
    }

    fn records(&self) -> ZoneRecords {
        let records = self.rows.iter().map(|row| ZoneRecord {
            owner: wire(&row.owner).into(),
            rtype: row.rtype,
            ttl_secs: TTL,
            rdata: row.rdata().into(),
        });
        ZoneRecords::new(&wire(&[ZONE]), records).expect("there is an SOA")
    }
}

/// RFC 4034, section 6.1.
fn canonical(one: &[&str], other: &[&str]) -> Ordering {
    one.iter().rev().cmp(other.iter().rev())
}

fn shown(rcode: u16, aa: bool, sections: [Vec<Row>; 3]) -> Shown {
    let sections = sections.map(|rows| {
        let mut rows: Vec<String> = rows.iter().map(Row::shown).collect();
        rows.sort();
        rows
    });
    Shown { rcode, aa, sections }
}

/// The response as a client reads it.
fn shown_message(bytes: &[u8]) -> Shown {
    let message = Message::from_octets(bytes).expect("a message");
    let header = message.header();
    let (_, answer, authority, additional) = message.sections().expect("whole sections");
    let sections = [answer, authority, additional].map(|section| {
        let mut rows: Vec<String> = section
            .map(|record| record.expect("a whole record"))
            .filter(|record| record.rtype() != Rtype::OPT)
            .map(|record| {
                assert_eq!(record.ttl().as_secs(), TTL);
                let mut data = Vec::new();
                let parsed =
                    record.to_record::<AllRecordData<&[u8], ParsedName<&[u8]>>>().unwrap().unwrap();
                domain::base::rdata::ComposeRecordData::compose_rdata(parsed.data(), &mut data)
                    .unwrap();
                let rtype = record.rtype().to_int();
                let covered = match parsed.data() {
                    AllRecordData::Rrsig(rrsig) => {
                        format!("RRSIG {}", rrsig.type_covered().to_int())
                    }
                    _ => String::new(),
                };
                format!("{} {rtype} {covered}{data:?}", record.owner())
            })
            .collect();
        rows.sort();
        rows
    });
    Shown { rcode: header.rcode().to_int().into(), aa: header.aa(), sections }
}

fn table(zones: &[ZoneRecords]) -> std::sync::Arc<Table> {
    let names = zones.iter().map(|zone| zone.origin().to_vec()).collect();
    let mut builder = TableBuilder::new(TableOptions::zones(names), HashSeed::new(3));
    for zone in zones {
        builder.insert_zone(zone);
    }
    builder.publish(0)
}

fn question(name: &[&str], qtype: u16, dnssec_ok: bool) -> Vec<u8> {
    let mut packet = vec![7, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend(wire(name));
    packet.extend(qtype.to_be_bytes());
    packet.extend([0, 1, 0, 0, 41, 0x10, 0, 0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    packet
}

fn respond(table: &Table, packet: &[u8], len_max: usize) -> Vec<u8> {
    let mut name = Name::default();
    let ClientPacket::Query(query) = query::read(packet, &mut name) else { panic!("{packet:?}") };
    let found = table.look_up_from(table.stored(table.hash(&name), &name), &name, query.wanted(0));
    let mut message = packet.to_vec();
    message.resize(MESSAGE_LEN_MAX, 0);
    let envelope = Envelope { len_max, rotation: 0 };
    let stamped = reply::stamp(&query, table, &found, envelope, &mut message);
    message.truncate(stamped.len);
    if let (Some(stored), Found::Answer(answer)) = (table.stored(table.hash(&name), &name), found)
        && let Some(at_a_glance) = stored.answer(query.qtype)
    {
        assert_eq!(at_a_glance.body, answer.body, "the fast path has the same");
        assert!(stored.no_data().is_none(), "the fast path does not deny");
    }
    message
}

fn names() -> impl Strategy<Value = Labels> {
    vec(prop::sample::select(&LABELS[..]), 0..5).prop_map(|mut labels| {
        labels.push(ZONE);
        labels
    })
}

fn targets() -> impl Strategy<Value = Labels> {
    prop_oneof![6 => names(), 1 => Just(vec!["elsewhere"])]
}

fn zones() -> impl Strategy<Value = Model> {
    let rtype = prop::sample::select(&[A, A, A, TXT, MX, NS, CNAME, CNAME, DNAME, DS][..]);
    let row = (names(), rtype, targets()).prop_map(|(owner, rtype, target)| {
        let has_target = matches!(rtype, MX | NS | CNAME | DNAME);
        Row { owner, rtype, target: if has_target { target } else { vec![] }, covered: 0 }
    });
    (vec(row, 0..14), any::<bool>()).prop_map(|(rows, is_signed)| {
        let mut kept: Vec<Row> = Vec::new();
        let soa = Row { owner: vec![ZONE], rtype: SOA, target: vec![ZONE], covered: 0 };
        for row in [vec![soa], rows].concat() {
            let is_single = matches!(row.rtype, CNAME | DNAME)
                && kept.iter().any(|one| one.owner == row.owner && one.rtype == row.rtype);
            if !is_single && !kept.contains(&row) {
                kept.push(row);
            }
        }
        let mut model = Model { rows: kept, visible: BTreeSet::new(), is_signed };
        let owners = model.rows.iter().map(|row| row.owner.clone());
        model.visible = owners.filter(|owner| model.hides(owner).is_none()).collect();
        model.sign();
        model
    })
}

impl Model {
    /// Adds NSEC records and signatures, as a signer does.
    fn sign(&mut self) {
        if !self.is_signed {
            return;
        }
        let mut owners: Vec<Labels> = self.visible.iter().cloned().collect();
        owners.sort_by(|one, other| canonical(one, other));
        for (index, owner) in owners.iter().enumerate() {
            let target = owners[(index + 1) % owners.len()].clone();
            self.rows.push(Row { owner: owner.clone(), rtype: NSEC, target, covered: 0 });
        }
        for row in self.rows.clone() {
            let is_signed = (matches!(row.rtype, DS | NSEC) || !self.is_cut(&row.owner))
                && owners.contains(&row.owner);
            let signature =
                Row { owner: row.owner, rtype: RRSIG, target: vec![], covered: row.rtype };
            if is_signed && !self.rows.contains(&signature) {
                self.rows.push(signature);
            }
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for row in self.rows.iter().filter(|row| !matches!(row.rtype, RRSIG)) {
            write!(f, "\n{} {} {}", row.owner.join("."), row.rtype, row.target.join("."))?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_name_in_any_zone(
        model in zones(),
        asked in vec((names(), prop::sample::select(
            &[A, NS, CNAME, SOA, MX, TXT, DNAME, DS, RRSIG, NSEC, ANY, 0, 0xFFFF][..]
        )), 20),
    ) {
        let table = table(&[model.records()]);
        for (name, qtype) in asked {
            for dnssec_ok in [false, true] {
                let packet = question(&name, qtype, dnssec_ok);
                let response = respond(&table, &packet, MESSAGE_LEN_MAX);
                prop_assert_eq!(
                    shown_message(&response), model.answer(&name, qtype, dnssec_ok),
                    "{} {} DO={} in {:?}", name.join("."), qtype, dnssec_ok, model
                );
            }
        }
    }

    #[test]
    fn a_response_that_is_too_long_is_cut(
        model in zones(), name in names(), qtype in prop::sample::select(&[A, MX, NS][..]),
        len_max in 512..1200usize,
    ) {
        let table = table(&[model.records()]);
        let packet = question(&name, qtype, true);
        let whole = respond(&table, &packet, MESSAGE_LEN_MAX);
        let cut = respond(&table, &packet, len_max);
        prop_assert!(cut.len() <= len_max);
        let (whole, shown) = (shown_message(&whole), shown_message(&cut));
        for (of_whole, of_cut) in whole.sections.iter().zip(&shown.sections) {
            prop_assert!(of_cut.iter().all(|row| of_whole.contains(row)));
        }
        prop_assert_eq!(whole.needed() == shown.needed(), cut[2] & 2 == 0, "TC");
        // Extra RRsets are whole, signatures included.
        if cut[2] & 2 == 0 {
            let owner_and_type = |row: &String| {
                let words: Vec<&str> = row.split(' ').collect();
                let covered = words.get(3).and_then(|word| word.split('[').next());
                let rtype = covered.filter(|_| words[2] == "RRSIG").unwrap_or(words[1]);
                (words[0].to_owned(), rtype.to_owned())
            };
            for (of_whole, of_cut) in whole.sections.iter().zip(&shown.sections) {
                let sets: BTreeSet<_> = of_cut.iter().map(owner_and_type).collect();
                let kept = of_whole.iter().filter(|row| sets.contains(&owner_and_type(row)));
                prop_assert!(kept.eq(of_cut));
            }
        }
    }
}
