//! Look-ups in a table without an apex: a list of hosts, which answers as CoreDNS's `hosts` does.
//!
//! A host is a name with addresses in a zone of the list; reverse names need no zone. Invariant:
//! the list never says that a name does not exist. The caller decides what happens to a name that
//! it lacks.

use crate::apex::Apex;
use crate::header::{TYPE_A, TYPE_AAAA, TYPE_PTR};
use crate::name::Name;
use crate::segment::Entry;

use super::{Found, Stored, Table, Wanted};

impl Table {
    /// Looks up a name in a list. `stored`: the entry under exactly this name.
    pub(super) fn look_up_host<'t>(
        &'t self,
        stored: Option<Stored<'t>>,
        name: &Name,
        wanted: Wanted,
    ) -> Found<'t> {
        let Wanted { qtype, rotation, .. } = wanted;
        let entry = stored.map(|Stored(entry)| entry);
        let entry = match entry {
            Some(entry) if qtype == TYPE_PTR || entry.is_host() => Some(entry),
            Some(_) | None => self.find_wildcard(name).or(entry),
        };
        if let Some(answer) = entry.and_then(|entry| entry.answer_in_turn(qtype, rotation)) {
            return Found::Answer(answer);
        }
        // CoreDNS passes on every question for a PTR record that it has no answer to, whatever its
        // `fallthrough` says.
        if qtype == TYPE_PTR {
            return Found::Outside;
        }
        let Some(zone) = self.zones.find(name) else { return Found::Outside };
        match entry.filter(|entry| entry.is_host()) {
            Some(_) => Found::NoData(Apex { name_offset: zone.name_offset }),
            None => Found::Unlisted,
        }
    }
}

impl Entry<'_> {
    /// Whether the name has addresses, of either family. A reverse name has none.
    fn is_host(self) -> bool {
        self.answer(TYPE_A).is_some() || self.answer(TYPE_AAAA).is_some()
    }
}
