//! A response that is written again has the question and the names that it was given, and nothing
//! else is different; other bytes do no harm.

mod upstream;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use upstream::{message, name, shown, uncompressed};
use wire::edit;
use wire::rename::{self, Part};
use wire::text::{NameText, PlainName};

const ROOM: usize = 65535;

/// Replaces the end of a name.
fn replace_end(name: &mut PlainName, from: &str, to: &str) {
    let mut text = NameText::default();
    text.set_name(name.bytes());
    let text = String::from_utf8(text.bytes().to_vec()).unwrap();
    let Some(rest) = text.strip_suffix(from) else { return };
    let mut changed = NameText::default();
    changed.push(rest.as_bytes());
    changed.push(to.as_bytes());
    let mut plain = PlainName::default();
    assert!(changed.read_into(&mut plain), "{rest}{to}");
    name.clone_from(&plain);
}

/// The message with this question, names that end in `old.` changed, and TTLs one higher.
fn renamed(source: &[u8], question: &str, new: &str, room: usize) -> Option<Vec<u8>> {
    let question = [name(question).as_slice(), &[0, 1, 0, 1]].concat();
    let mut out = vec![0xAA; room];
    let len = rename::write(source, &question, &mut out, |part| match part {
        Part::Owner(name) | Part::Value(name) => replace_end(name, "old.", &format!("{new}.")),
        Part::TtlSecs(ttl_secs) => *ttl_secs += 1,
    })?;
    out.truncate(len);
    Some(out)
}

/// The same change to the text of a message.
fn renamed_text(text: &str, question: &str, new: &str) -> String {
    let (_, rest) = text.split_once(" A |").unwrap();
    let mut sections = rest.split(" |");
    let head = sections.next().unwrap();
    let sections = sections.map(|section| {
        let records = section.split("; ").map(|record| {
            let words = record.split(' ').enumerate().map(|(index, word)| match word {
                _ if word.ends_with("old") => {
                    format!("{}{new}", word.strip_suffix("old").unwrap())
                }
                _ if index == usize::from(record.starts_with(' ')) + 1 => {
                    (word.parse::<u32>().unwrap() + 1).to_string()
                }
                _ => word.to_owned(),
            });
            words.collect::<Vec<_>>().join(" ")
        });
        records.collect::<Vec<_>>().join("; ")
    });
    let sections: Vec<String> = sections.collect();
    format!("{question} A |{head} |{}", sections.join(" |")).trim_end().to_owned()
}

fn check(text: &str, question: &str, new: &str) {
    for source in [message(text), uncompressed(text)] {
        let before = shown(&source);
        assert_eq!(before, text.trim_end());
        let after = renamed(&source, question, new, ROOM).unwrap();
        // The case of a name is that of its first occurrence.
        let expected = renamed_text(&before, question, new).to_lowercase();
        assert_eq!(shown(&after).to_lowercase(), expected);
        if question.len() + new.len() < 20 {
            assert!(after.len() <= uncompressed(text).len() + 64, "it is compressed");
        }
    }
}

#[test]
fn names_change() {
    check(
        "www.old A | NOERROR rd ra | www.old 60 CNAME web.old; web.old 20 A 192.0.2.1; web.old 20 \
         A 192.0.2.2 | old 600 NS ns1.old; old 600 NS ns.other | ns1.old 900 A 192.0.2.53; \
         ns1.old 900 AAAA 2001:db8::53",
        "WWW.example.org",
        "example.org",
    );
    check(
        "a.old A | NOERROR aa | a.old 5 SRV 0 0 80 b.old; a.old 5 MX 10 m.old; a.old 5 PTR p.old; \
         a.old 5 DNAME d.old; a.old 5 TXT text | old 5 SOA ns.old mail.other 1 2 3 4 5 | b.old 5 A \
         192.0.2.1",
        "b",
        "c.d.e.f.g.h.i.j.k.l.m.n.o.p",
    );
    // Only the first name of an SOA is a value, and an HTTPS target is none.
    let soa = "a.old A | NOERROR | | old 5 SOA ns.old mail.old 1 2 3 4 5; old 5 HTTPS 1 h.old |";
    let after = renamed(&message(soa), "a", "new", ROOM).unwrap();
    assert_eq!(
        shown(&after),
        "a A | NOERROR |  | new 6 SOA ns.new mail.old 1 2 3 4 5; new 6 HTTPS 1 h.old |"
    );
    check(". A | NOERROR | . 5 NS a.old |  |", ".", "b");
    check("a.old A | NXDOMAIN ra |  |  |", "a.b.c", "b");
}

#[test]
fn addresses_cost_two_bytes_per_owner() {
    let records: Vec<String> = (0..50).map(|host| format!("a.old 5 A 192.0.2.{host}")).collect();
    let source = message(&format!("a.old A | NOERROR | {} | |", records.join("; ")));
    let after = renamed(&source, "a.b", "b", ROOM).unwrap();
    assert_eq!(after.len(), 12 + 9 + 50 * 16);
}

#[test]
fn what_does_not_fit_is_left_out() {
    let text = "a.old A | NOERROR | a.old 5 A 192.0.2.1; a.old 5 A 192.0.2.2 | | old 5 A 192.0.2.3";
    let source = message(text);
    let whole = renamed(&source, "a.b", "b", ROOM).unwrap();
    for room in 0..whole.len() {
        let Some(cut) = renamed(&source, "a.b", "b", room) else {
            assert!(room < 12 + 9);
            continue;
        };
        assert!(cut.len() <= room);
        let kept = shown(&cut);
        let count = kept.matches(" 6 A ").count();
        assert!(kept.contains("NOERROR tc") && count < 3, "{room}: {kept}");
        let mut expected = whole.clone();
        expected.truncate(edit::cut_to(&mut expected.clone(), room));
        assert_eq!(cut.len(), expected.len(), "{room}");
    }
}

#[test]
fn ttls_change_in_place() {
    let text = "a.old A | NOERROR | a.old 5 A 192.0.2.1 | old 7 NS old | old 9 A 192.0.2.3";
    let mut changed = message(text);
    rename::set_ttls(&mut changed, |ttl_secs| *ttl_secs = (*ttl_secs).max(7));
    assert_eq!(shown(&changed), text.replace(" 5 ", " 7 "));
}

/// Records as `upstream::message` reads them.
fn records() -> impl Strategy<Value = String> {
    const ROWS: &[&str] = &[
        "www.old # A 192.0.2.1",
        "#.old 9 A 192.0.2.2",
        "www.old 9 MX # mail.old",
        "x.y.#.old 9 CNAME z.y.#.old",
        "y.old 9 NS x.y.old",
        "other.example # TXT text-#",
        "old 1 PTR #.other.example",
        "www.old 9 SRV 1 2 3 srv.#.old",
    ];
    vec((select(ROWS), 1..9_999u32), 0..40).prop_map(|rows| {
        let rows = rows.into_iter().map(|(row, number)| row.replace('#', &number.to_string()));
        let mut rows: Vec<String> = rows.collect();
        rows.dedup();
        rows.join("; ")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn all_names_change(
        answers in records(),
        authorities in records(),
        additionals in records(),
        question in select(&["www.new", "WwW.neW", "a.b.c.d.e.f.other.example", "new"][..]),
        new in select(&["new", "a.much.longer.name.that.does.not.end.here.example", "x"][..]),
    ) {
        let text =
            format!("www.old A | NOERROR ra | {answers} | {authorities} | {additionals}");
        check(&text, question, new);
    }

    #[test]
    fn any_bytes_are_renamed(
        source in vec(prop_oneof![4 => 0..3u8, 1 => select(&[12u8, 0xC0][..]), 1 => any::<u8>()],
            0..200),
        room in 0..300usize,
    ) {
        let mut bytes = source.clone();
        rename::set_ttls(&mut bytes, |ttl_secs| *ttl_secs = 7);
        prop_assert_eq!(edit::rcode(&bytes), edit::rcode(&bytes));
        edit::set_rcode(&mut bytes, 3);
        if let Some(renamed) = renamed(&source, "a.b", "new", room) {
            prop_assert!(renamed.len() <= room);
        }
    }
}
