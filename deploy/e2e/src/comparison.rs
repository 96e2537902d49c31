//! The fields in which two responses to one query differ, by the rules of the recording's
//! `check.py`.

use crate::answer::{Answer, Record};
use crate::query::Reply;

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

/// Like [`differences`], plus the other fields of a reply.
pub fn reply_differences(want: &Reply, got: &Reply) -> Vec<String> {
    let mut found = differences(&want.answer, &got.answer);
    let facts = |reply: &Reply| {
        [
            ("tc", reply.answer.tc.to_string()),
            ("ra", reply.answer.ra.to_string()),
            ("rd", reply.recursion_desired.to_string()),
            ("cd", reply.checking_disabled.to_string()),
            ("ad", reply.authentic_data.to_string()),
            ("edns", format!("{:?}", reply.edns)),
        ]
    };
    for ((name, want), (_, got)) in facts(want).into_iter().zip(facts(got)) {
        if want != got {
            found.push(format!("{name}: want {want} got {got}"));
        }
    }
    found
}

/// Each server has its own SOA serial.
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
