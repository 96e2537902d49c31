//! What two answers to one question do not agree on, by the rules of the recording's `check.py`.

use crate::answer::{Answer, Record};

/// Each field that differs, with both values.
pub fn differences(want: &Answer, got: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let mut field = |name: &str, equal: bool, want: String, got: String| {
        if !equal {
            found.push(format!("{name}: want {want} got {got}"));
        }
    };
    field("rcode", want.rcode == got.rcode, want.rcode.clone(), got.rcode.clone());
    for (name, want, got) in [
        ("answer", &want.answer, &got.answer),
        ("authority", &want.authority, &got.authority),
        ("additional", &want.additional, &got.additional),
    ] {
        let (want, got) = (without_serial(want), without_serial(got));
        field(name, want == got, text(&want), text(&got));
    }
    for (name, want, got) in [
        ("aa", Some(want.aa), Some(got.aa)),
        ("udp_tc", Some(want.udp_tc), Some(got.udp_tc)),
        ("qname_kept", want.qname_kept, got.qname_kept),
    ] {
        field(name, want == got, format!("{want:?}"), format!("{got:?}"));
    }
    found
}

/// The SOA's serial is each server's own.
fn without_serial(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    for Record(_, rtype, _, data) in &mut records {
        if rtype == "SOA" {
            let mut words: Vec<&str> = data.split(' ').collect();
            words.remove(2);
            *data = words.join(" ");
        }
    }
    records
}

fn text(records: &[Record]) -> String {
    let one = |Record(owner, rtype, ttl, data): &Record| format!("{owner} {ttl} {rtype} {data}");
    let all: Vec<String> = records.iter().map(one).collect();
    format!("[{}]", all.join("; "))
}
