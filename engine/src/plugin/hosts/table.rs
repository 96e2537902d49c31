//! Turns the entries of a `hosts` block into a table of A, AAAA and PTR records.
//!
//! No file is read here, and nothing is handed to a shard. Invariant: only names whose records have
//! changed are written, so that generations share all other segments.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::{HashSeed, NameHash};
use wire::header::{TYPE_A, TYPE_AAAA, TYPE_PTR};
use wire::reply::MESSAGE_LEN_MAX;
use wire::reverse::ReverseName;
use wire::table::Table;

use super::HostsSettings;
use super::file::HostEntry;

/// More records than a response can hold: each has 12 bytes before its data.
const RECORD_COUNT_MAX: usize = MESSAGE_LEN_MAX / 12;

/// The newest generation of a `hosts` block's answers, from which the next one is made.
pub struct HostsTable {
    builder: TableBuilder,
    writer: EntryWriter,
    ttl_secs: u32,
    has_reverse: bool,
    /// The names of the newest generation, sorted.
    published: Vec<PublishedName>,
    fingerprints: RandomState,
    generation: u64,
}

/// A name in the table: the fingerprint of its whole entry, and the hash that removes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PublishedName {
    fingerprint: u64,
    name: NameHash,
}

/// One record: of a host's name, or of a reverse name.
struct HostRecord<'e> {
    owner: Cow<'e, [u8]>,
    rtype: u16,
    rdata: HostData<'e>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum HostData<'e> {
    Address(IpAddr),
    Name(&'e [u8]),
}

impl HostsTable {
    /// A table that has no generation yet. `seed`: the process's.
    #[must_use]
    pub fn new(settings: &HostsSettings, seed: HashSeed) -> Self {
        let zones = settings.zones.iter().map(|zone| zone.wire.clone()).collect();
        let options = TableOptions::hosts(zones, settings.falls_through_everywhere);
        let mut builder = TableBuilder::new(options, seed);
        builder.set_synced();
        Self {
            builder,
            writer: EntryWriter::new(),
            ttl_secs: settings.ttl_secs,
            has_reverse: !settings.no_reverse,
            published: Vec::new(),
            fingerprints: RandomState::new(),
            generation: 0,
        }
    }

    /// The next generation, or `None` if it equals the one before. The first call always returns
    /// one.
    ///
    /// The addresses of a name, and the names of an address, are in the order of the entries. A
    /// repeated record counts once (RFC 2181, section 5).
    pub fn update<'e>(
        &mut self,
        entries: impl IntoIterator<Item = &'e HostEntry>,
    ) -> Option<Arc<Table>> {
        let records = records(entries, self.has_reverse);
        let (mut now, mut written) = (Vec::new(), Vec::new());
        for records in records.chunk_by(|one, next| one.owner == next.owner) {
            let entry = write(&mut self.writer, records, self.ttl_secs);
            let fingerprint = self.fingerprints.hash_one(entry);
            let known = self.published.binary_search_by_key(&fingerprint, |one| one.fingerprint);
            now.push(match known {
                Ok(index) => self.published[index],
                Err(_) => {
                    let name = self.builder.insert(entry);
                    written.push(name);
                    PublishedName { fingerprint, name }
                }
            });
        }
        now.sort_unstable();
        written.sort_unstable();
        let mut change_count = written.len();
        for gone in self.published.iter().filter(|one| now.binary_search(one).is_err()) {
            if written.binary_search(&gone.name).is_err() {
                self.builder.remove(gone.name);
                change_count += 1;
            }
        }
        self.published = now;
        if change_count == 0 && self.generation > 0 {
            return None;
        }
        self.generation += 1;
        // There is no SOA, so no serial either.
        Some(self.builder.publish(0))
    }

    /// Names in the newest generation, reverse names among them.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.builder.name_count()
    }
}

/// The records, sorted by owner and type; within these, they keep the order of the entries.
fn records<'e>(
    entries: impl IntoIterator<Item = &'e HostEntry>,
    has_reverse: bool,
) -> Vec<HostRecord<'e>> {
    let mut records = Vec::new();
    for entry in entries {
        let HostEntry { address, name } = entry;
        let rtype = if address.is_ipv4() { TYPE_A } else { TYPE_AAAA };
        let rdata = HostData::Address(*address);
        records.push(HostRecord { owner: Cow::Borrowed(name), rtype, rdata });
        if has_reverse && !entry.is_wildcard() {
            let owner = Cow::Owned(ReverseName::new(*address).as_slice().to_vec());
            let rdata = HostData::Name(name);
            records.push(HostRecord { owner, rtype: TYPE_PTR, rdata });
        }
    }
    // A stable sort keeps the order of the entries.
    records.sort_by(|one, other| (&one.owner, one.rtype).cmp(&(&other.owner, other.rtype)));
    records
}

/// The entry of one owner. Records that do not fit into a response are left out.
fn write<'w>(writer: &'w mut EntryWriter, records: &[HostRecord<'_>], ttl_secs: u32) -> &'w [u8] {
    let Some(HostRecord { owner, .. }) = records.first() else { unreachable!("a chunk is empty") };
    writer.begin(owner);
    for records in records.chunk_by(|one, next| one.rtype == next.rtype) {
        let mut seen = HashSet::new();
        for HostRecord { rtype, rdata, .. } in records {
            if seen.is_empty() {
                writer.answer(*rtype);
            }
            if !seen.insert(*rdata) {
                continue;
            }
            if seen.len() > RECORD_COUNT_MAX {
                break;
            }
            let mut record = |rdata| writer.record(Section::Answer, owner, *rtype, ttl_secs, rdata);
            match rdata {
                HostData::Address(IpAddr::V4(address)) => record(&address.octets()),
                HostData::Address(IpAddr::V6(address)) => record(&address.octets()),
                HostData::Name(name) => record(name),
            }
        }
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::name::Name;
    use wire::table::Found;

    use super::super::file;
    use super::*;
    use crate::corefile::value::zone::Zone;

    fn zone(text: &str) -> Zone {
        Zone::from_name(text).unwrap()
    }

    fn settings(no_reverse: bool) -> HostsSettings {
        HostsSettings {
            file: "/etc/hosts".into(),
            zones: vec![zone("lan"), zone("test")],
            inline: Vec::new(),
            ttl_secs: 60,
            no_reverse,
            reload: Duration::ZERO,
            falls_through_everywhere: true,
        }
    }

    fn table(no_reverse: bool) -> HostsTable {
        HostsTable::new(&settings(no_reverse), HashSeed::new(3))
    }

    fn entries(text: &str) -> Vec<HostEntry> {
        file::read(text.as_bytes(), &Zone::set(&settings(false).zones)).unwrap()
    }

    /// The data of the records that answer, or what there is instead.
    fn answer(table: &Table, name: &str, qtype: u16) -> String {
        let name = Name::from_wire(&zone(name).wire).unwrap();
        let body = match table.look_up(&name, qtype) {
            Found::Answer(answer) => answer.body,
            Found::NoData(_) => return "no data".to_owned(),
            Found::Unlisted => return "unlisted".to_owned(),
            Found::Outside => return "outside".to_owned(),
            Found::Alias(_)
            | Found::Pod(_)
            | Found::Endpoint(_)
            | Found::Pointer(_)
            | Found::Soa(_)
            | Found::NxDomain(_)
            | Found::Unsynced(_) => unreachable!("of a cluster"),
            Found::Expanded(..) | Found::Denied(_) | Found::Referral(_) | Found::Unloaded => {
                unreachable!("of a zone file")
            }
        };
        let mut rest = body;
        let mut shown = Vec::new();
        while !rest.is_empty() {
            let [0xC0, 12, t0, t1, 0, 1, 0, 0, 0, ttl, len0, len1, behind @ ..] = rest else {
                panic!("{rest:?}")
            };
            assert_eq!((u16::from_be_bytes([*t0, *t1]), *ttl), (qtype, 60));
            let (data, others) = behind.split_at(usize::from(u16::from_be_bytes([*len0, *len1])));
            shown.push(match qtype {
                TYPE_A => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
                TYPE_AAAA => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
                _ => data.escape_ascii().to_string(),
            });
            rest = others;
        }
        shown.join(" ")
    }

    fn check(table: &Table, rows: &[(&str, u16, &str)]) {
        for (name, qtype, expected) in rows {
            assert_eq!(answer(table, name, *qtype), *expected, "{name} {qtype}");
        }
    }

    const SIX: &str = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.f.ip6.arpa";

    #[test]
    fn records() {
        let file = "10.0.0.2 db.lan other.lan\nfe00::1 db.lan\n10.0.0.1 db.lan x.example\n\
                    10.0.0.2 db.lan\n10.0.0.9 *.lan\n::ffff:10.0.0.1 mapped.test\n\
                    10.0.0.3 4.3.2.1.test";
        let table = table(false).update(&entries(file)).unwrap();
        check(
            &table,
            &[
                ("db.lan", TYPE_A, "10.0.0.2 10.0.0.1"),
                ("db.lan", TYPE_AAAA, "fe00::1"),
                ("other.lan", TYPE_A, "10.0.0.2"),
                ("other.lan", TYPE_AAAA, "no data"),
                ("any.lan", TYPE_A, "10.0.0.9"),
                ("mapped.test", TYPE_A, "10.0.0.1"),
                ("x.example", TYPE_A, "outside"),
                ("x.test", TYPE_A, "unlisted"),
                ("2.0.0.10.in-addr.arpa", TYPE_PTR, r"\x02db\x03lan\x00 \x05other\x03lan\x00"),
                ("1.0.0.10.in-addr.arpa", TYPE_PTR, r"\x02db\x03lan\x00 \x06mapped\x04test\x00"),
                ("3.0.0.10.in-addr.arpa", TYPE_PTR, r"\x014\x013\x012\x011\x04test\x00"),
                // A wildcard has no PTR record.
                ("9.0.0.10.in-addr.arpa", TYPE_PTR, "outside"),
            ],
        );
        let reverse = SIX.replacen("0.e.f", "0.0.e.f", 1);
        check(&table, &[(&reverse, TYPE_PTR, r"\x02db\x03lan\x00")]);
    }

    #[test]
    fn no_reverse_has_no_ptr_records() {
        let table = table(true).update(&entries("10.0.0.1 db.lan")).unwrap();
        check(
            &table,
            &[("db.lan", TYPE_A, "10.0.0.1"), ("1.0.0.10.in-addr.arpa", TYPE_PTR, "outside")],
        );
    }

    #[test]
    fn a_name_that_is_a_reverse_name_too_has_both() {
        let mut settings = settings(false);
        settings.zones.push(zone("in-addr.arpa"));
        let zones = Zone::set(&settings.zones);
        let file = b"10.0.0.1 db.lan\n10.0.0.2 1.0.0.10.in-addr.arpa";
        let entries = file::read(file, &zones).unwrap();
        let table = HostsTable::new(&settings, HashSeed::new(3)).update(&entries).unwrap();
        check(
            &table,
            &[
                ("1.0.0.10.in-addr.arpa", TYPE_A, "10.0.0.2"),
                ("1.0.0.10.in-addr.arpa", TYPE_PTR, r"\x02db\x03lan\x00"),
            ],
        );
    }

    #[test]
    fn a_generation_is_made_only_of_what_has_changed() {
        let mut hosts = table(false);
        assert!(hosts.update(&[]).is_some(), "the first one is always made");
        assert!(hosts.update(&[]).is_none());
        let first = hosts.update(&entries("10.0.0.1 a.lan b.lan")).unwrap();
        assert_eq!((first.generation(), hosts.name_count()), (2, 3));
        // The same entries in other lines.
        assert!(hosts.update(&entries("10.0.0.1 a.lan\n10.0.0.1 b.lan # same\n")).is_none());
        let second = hosts.update(&entries("10.0.0.2 a.lan c.lan")).unwrap();
        check(
            &second,
            &[
                ("a.lan", TYPE_A, "10.0.0.2"),
                ("b.lan", TYPE_A, "unlisted"),
                ("c.lan", TYPE_A, "10.0.0.2"),
                ("1.0.0.10.in-addr.arpa", TYPE_PTR, "outside"),
            ],
        );
        assert_eq!((second.generation(), hosts.name_count()), (3, 3));
        check(&first, &[("a.lan", TYPE_A, "10.0.0.1")]);
        let third = hosts.update(&[]).unwrap();
        assert_eq!((third.generation(), hosts.name_count()), (4, 0));
    }

    #[test]
    fn a_response_holds_as_many_records_as_fit() {
        let mut file: String = (0..20_000).map(|host| format!("0.0.0.0 h{host}.lan\n")).collect();
        for host in 0..6_000 {
            file += &format!("10.0.{}.{} many.lan\n", host >> 8, host & 0xFF);
        }
        let mut hosts = table(false);
        let table = hosts.update(&entries(&file)).unwrap();
        assert_eq!(hosts.name_count(), 20_000 + 1 + 6_001);
        check(&table, &[("h19999.lan", TYPE_A, "0.0.0.0")]);
        let names = answer(&table, "0.0.0.0.in-addr.arpa", TYPE_PTR);
        assert!((2_000..RECORD_COUNT_MAX).contains(&names.split(' ').count()));
        // Each response has one of the parts, which are of the same size.
        let addresses = answer(&table, "many.lan", TYPE_A);
        assert_eq!(addresses.split(' ').count(), RECORD_COUNT_MAX.div_ceil(2));
        assert!(hosts.update(&entries(&file)).is_none());
    }
}
