//! A script has one step per line, `SECOND VERB…: OUTCOME`. `ask` shows the client's answer: the
//! code and the TTL of the first record, with `refresh` if the upstream is to be asked again. The
//! other verbs are an upstream's response, or `failed`. After `learn SECOND` comes the response
//! that another shard got in that second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{MessageBuilder, Name as DomainName, Record, Ttl, rdata::UnknownRecordData};
use engine::cache::settings::CacheSettings;
use engine::cache::{Cache, CacheKey, CachedResponse, Filled, LookUp, Times};
use engine::config;
use engine::corefile::Surroundings;
use wire::name::Name;
use wire::query::{self, ClientPacket};
use wire::reply::{Envelope, MESSAGE_LEN_MAX};
use wire::response::{self, Asked, Response};

const A: u16 = 1;
pub(crate) const NAME: &str = "www.example.org";
/// When the signatures of the answers are validated.
pub(crate) const UNIX_SECS: u32 = 1_000_000;

/// The settings of a `cache` line in a block for `.`.
pub(crate) fn settings(cache: &str) -> CacheSettings {
    let surroundings = Surroundings::empty();
    let text = format!(". {{\n{cache}\n}}");
    let config = config::parse("Corefile", &text, &surroundings);
    let config = config.unwrap_or_else(|report| panic!("{cache}: {report:?}"));
    config.blocks[0].line::<CacheSettings>().cloned().expect("a cache")
}

pub(crate) fn wire_name(text: &str) -> Vec<u8> {
    text.parse::<DomainName<Vec<u8>>>().expect("a name").as_slice().to_ascii_lowercase()
}

pub(crate) fn key(name: &[u8]) -> CacheKey<'_> {
    CacheKey { name, qtype: A, qclass: 1, dnssec_ok: false, checking_disabled: false }
}

/// An upstream's response to `name A`, in the words of a script.
pub(crate) fn response(name: &str, words: &[&str]) -> Arc<Response> {
    let number = |at: usize| words.get(at).map_or(0, |word| word.parse::<u32>().expect("a number"));
    let address = Some((A, vec![192, 0, 2, 1]));
    let signature = |end: u32, len| {
        let data = [&[0; 8][..], &end.to_be_bytes(), &[0; 8], &vec![0; len]].concat();
        Some((46, data))
    };
    let (rcode, answer, authority) = match words[0] {
        // "bare": without an OPT, which all other responses have.
        "success" | "cut" | "bare" => (Rcode::NOERROR, address, None),
        "long" => (Rcode::NOERROR, address, signature(u32::MAX, 9000)),
        // Signed until this second.
        "signed" => (Rcode::NOERROR, address, signature(number(2), 1)),
        "cname" => (Rcode::NOERROR, Some((5, wire_name("example.net"))), None),
        "gone" => (Rcode::NXDOMAIN, Some((5, wire_name("example.net"))), None),
        "nothing" => (Rcode::NOERROR, None, None),
        "delegation" => (Rcode::NOERROR, None, Some((2, wire_name("ns.example.net")))),
        "nodata" | "nxdomain" => {
            let rcode = if words[0] == "nodata" { Rcode::NOERROR } else { Rcode::NXDOMAIN };
            let soa = [&[0; 18][..], &number(2).to_be_bytes()].concat();
            (rcode, None, (words.len() > 1).then_some((6, soa)))
        }
        "servfail" => (Rcode::SERVFAIL, None, None),
        "notimp" => (Rcode::NOTIMP, None, None),
        "refused" => (Rcode::REFUSED, None, None),
        other => panic!("{other}"),
    };
    let owner: DomainName<Vec<u8>> = name.parse().expect("a name");
    let record = |(rtype, data): (u16, Vec<u8>)| {
        let data =
            UnknownRecordData::from_octets(Rtype::from_int(rtype), data).expect("short data");
        Record::new(owner.clone(), Class::IN, Ttl::from_secs(number(1)), data)
    };
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_qr(true);
    builder.header_mut().set_rcode(rcode);
    builder.header_mut().set_tc(words[0] == "cut");
    let mut builder = builder.question();
    builder.push((&owner, Rtype::A)).expect("room");
    let mut builder = builder.answer();
    answer.into_iter().for_each(|data| builder.push(record(data)).expect("room"));
    let mut builder = builder.authority();
    authority.into_iter().for_each(|data| builder.push(record(data)).expect("room"));
    let mut builder = builder.additional();
    if words[0] != "bare" {
        builder.opt(|_| Ok(())).expect("room");
    }
    let packet = builder.finish();
    let name = wire_name(name);
    let asked = Asked { id: 0, name: &name, qtype: A, qclass: 1, case_must_match: false };
    match response::read(&packet, &asked) {
        response::UpstreamPacket::Answer(response)
        | response::UpstreamPacket::Truncated(response) => response.into(),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The client's answer: the code, and the TTL of the first record, if any.
pub(crate) fn given(answer: CachedResponse<'_>) -> String {
    let mut builder = MessageBuilder::new_vec().question();
    builder.push((DomainName::<Vec<u8>>::root(), Rtype::A)).expect("room");
    let mut message = builder.finish();
    let ClientPacket::Query(query) = query::read(&message, &mut Name::default()) else {
        panic!("a query")
    };
    let envelope = Envelope { len_max: MESSAGE_LEN_MAX, rotation: 0 };
    message.resize(MESSAGE_LEN_MAX, 0);
    response::stamp(&query, answer.response, answer.ttl, None, None, envelope, &mut message);
    // After the header and the root's question: owner (a pointer), type, class, TTL.
    let has_record = message[6..12] != [0; 6];
    let ttl = u32::from_be_bytes(*message[17 + 6..].first_chunk().expect("four bytes"));
    let rcode = Rcode::masked_from_int(message[3]);
    if has_record { format!("{rcode} {ttl}") } else { rcode.to_string() }
}

pub(crate) fn shown(found: LookUp<'_>) -> String {
    match found {
        LookUp::Miss => "miss".to_owned(),
        LookUp::Verify { timeout: None } => "verify".to_owned(),
        LookUp::Verify { timeout: Some(timeout) } => format!("verify {timeout:?}"),
        LookUp::Hit { answer, refresh: false } => given(answer),
        LookUp::Hit { answer, refresh: true } => given(answer) + " refresh",
    }
}

pub(crate) fn play(cache: &str, script: &str) -> Cache {
    let began = Instant::now();
    let mut played = Cache::new(&settings(cache), 42);
    let name = wire_name(NAME);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (step, expected) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let words: Vec<&str> = step.split_whitespace().collect();
        let now = began + Duration::from_secs_f64(words[0].parse().expect("seconds"));
        let outcome = match words[1] {
            "ask" => shown(played.look_up(&key(&name), now)),
            "fallback" => {
                played.fallback(&key(&name), now, 1).map_or_else(|| "none".to_owned(), given)
            }
            "failed" => {
                played.failed(&key(&name), now);
                "-".to_owned()
            }
            "learn" => {
                let received = began + Duration::from_secs_f64(words[2].parse().expect("seconds"));
                let times = Times { received, now, unix_secs: UNIX_SECS };
                played.learn(&key(&name), &response(NAME, &words[3..]), times);
                "-".to_owned()
            }
            _ => {
                let response = response(NAME, &words[1..]);
                match played.fill(&key(&name), &response, Times::at_once(now, UNIX_SECS)) {
                    Filled::Kept(ttl) => {
                        format!("kept {}", given(CachedResponse { response: &response, ttl }))
                    }
                    Filled::Passed(ttl) => {
                        format!("passed {}", given(CachedResponse { response: &response, ttl }))
                    }
                    Filled::Inferior => "inferior".to_owned(),
                }
            }
        };
        assert_eq!(outcome, expected, "{cache}: {line}");
    }
    played
}
