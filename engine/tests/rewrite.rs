//! `rewrite` through a running shard: what scenarios cannot see or say. Options of queries to
//! upstreams, codes beyond four bits, limits, and error lines.

mod rig;
mod upstream;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::base::Message;
use domain::base::iana::Rcode;
use engine::fleet::Backend;
use rig::query::query;
use rig::{PATIENCE, Rig};
use upstream::{Manner, Upstream};
use wire::edit;

fn start(lines: &str) -> Rig {
    Rig::start_with(Backend::Mmsg, (Ipv4Addr::LOCALHOST, 0).into(), lines)
}

/// A query with an OPT that has these options.
fn query_with(name: &str, options: &[u8]) -> Vec<u8> {
    let mut packet = query(name, 1);
    packet[11] = 1;
    packet.extend([0, 0, 41, 4, 0xD0, 0, 0, 0, 0]);
    packet.extend((options.len() as u16).to_be_bytes());
    packet.extend(options);
    packet
}

/// The options that the upstream gets.
fn check_options(lines: &str, packet: &[u8], expected: &[(u16, &[u8])]) {
    let upstream = Upstream::start(60, Manner::Answers);
    let rig = start(&format!("{lines}\nforward . {}", upstream.address));
    let answer = rig.ask_udp(packet, PATIENCE).expect("an answer");
    assert_eq!(edit::options(&answer).count(), 0, "{lines}: a response has none");
    let seen = upstream.seen();
    let options = edit::options(&seen[0].message);
    let options: Vec<(u16, &[u8])> = options.map(|option| (option.code, option.data)).collect();
    assert_eq!(options, expected, "{lines}");
    rig.fleet.stop(PATIENCE);
}

#[test]
fn upstreams_get_options() {
    let plain = query("a.test", 1);
    let set = "rewrite continue edns0 local set 0xffee abcd";
    check_options("", &plain, &[]);
    check_options(set, &plain, &[(0xFFEE, b"abcd")]);
    check_options(
        &format!("{set}\nrewrite edns0 local set 0xffee 0x00ff revert"),
        &plain,
        &[(0xFFEE, &[0, 0xFF])],
    );
    check_options(
        &format!("{set}\nrewrite edns0 local replace 0xffee x"),
        &plain,
        &[(0xFFEE, b"x")],
    );
    check_options(&format!("{set}\nrewrite edns0 local unset 0xffee"), &plain, &[]);
    // There is nothing to replace, so the rule does not match, and the next one is tried.
    check_options(
        "rewrite edns0 local replace 0xffee x\nrewrite edns0 local append 0xffef y",
        &plain,
        &[(0xFFEF, b"y")],
    );
    // The client's own options are not passed on, but replaced.
    let own = query_with("a.test", &[0xFF, 0xEE, 0, 1, 7, 0xFF, 0xF0, 0, 0]);
    check_options("rewrite edns0 local replace 0xffee x", &own, &[(0xFFEE, b"x")]);
    check_options("rewrite edns0 local append 0xfff0 {qtype}", &own, &[]);
    check_options("rewrite edns0 nsid set", &plain, &[(3, b"")]);
    check_options("rewrite edns0 subnet set 24 56", &plain, &[(8, &[0, 1, 24, 0, 127, 0, 0])]);
    check_options("rewrite edns0 local set 1 {client_ip}", &plain, &[(1, &[127, 0, 0, 1])]);
    check_options("rewrite edns0 local set 1 {protocol}", &plain, &[(1, b"udp")]);
    check_options("rewrite edns0 local set 1 {some/label}", &plain, &[]);
    // A variable has the question as the rules before have left it.
    let renaming = "rewrite continue edns0 local set 1 {qname}\nrewrite continue name suffix .test \
                    .example\nrewrite continue type A AAAA\nrewrite continue edns0 local set 2 \
                    {qname}\nrewrite edns0 local set 3 {qtype}";
    check_options(renaming, &plain, &[(1, b"a.test."), (2, b"a.example."), (3, &[0, 28])]);
}

/// EDNS options: code and data.
type Options<'o> = &'o [(u16, &'o [u8])];

/// What the upstream gets first for one query: each name, and the options with it.
fn check_look_ups(lines: &str, manner: Manner, expected: &[(&str, Options<'_>)]) {
    let upstream = Upstream::start(60, manner);
    let rig = start(&format!("{lines}\nforward . {}", upstream.address));
    rig.ask_udp(&query("a.one.test", 1), PATIENCE).expect("an answer");
    let seen = upstream.seen();
    let look_ups = seen.iter().map(|seen| {
        let message = Message::from_octets(&seen.message[..]).expect("a query");
        let name = message.sole_question().expect("a question").qname().to_string();
        let options = edit::options(&seen.message).map(|option| (option.code, option.data));
        (name, options.collect::<Vec<_>>())
    });
    let expected = expected.iter().map(|(name, options)| ((*name).to_owned(), options.to_vec()));
    assert!(look_ups.take(expected.len()).eq(expected), "{lines}: {seen:?}");
    rig.fleet.stop(PATIENCE);
}

/// A rule applies again to the target of a CNAME, as in CoreDNS.
#[test]
fn look_ups_of_pursuits_have_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, "search one.test two.test\n").expect("a file");
    let rules =
        "rewrite continue edns0 local set 1 {qname}\nrewrite continue edns0 local append 2 x";
    let own: Options<'_> = &[(1, b"a.one.test."), (2, b"x")];
    let autopath = format!("{rules}\nautopath {}", file.display());
    let names = [("a.one.test", own), ("a.two.test", own), ("a", own)];
    check_look_ups(&autopath, Manner::Says(Rcode::NXDOMAIN), &names);
    let cname = format!("{rules}\nrewrite cname from.test to.test");
    let again: Options<'_> = &[(1, b"to.test."), (2, b"x"), (2, b"x")];
    let names = [("a.one.test", own), ("to.test", again)];
    check_look_ups(&cname, Manner::LeadsOn("from.test"), &names);
}

/// The rules see the client's own options, and so does the response: also if a reload overtakes the
/// query, which is then answered anew.
#[test]
fn pursuits_keep_the_options_of_the_client() {
    let upstream = Upstream::start(60, Manner::Slow(Duration::from_millis(150)));
    let lines = format!(
        "nsid me\nlog . {{size}}\ndns64 {{\nallow_ipv4\n}}\n\
         rewrite continue name longer.test b.test\n\
         rewrite edns0 local replace 0xffee x\nforward . {}",
        upstream.address
    );
    let rig = start(&lines);
    let mut packet = query_with("longer.test", &[0xFF, 0xEE, 0, 1, 7, 0, 3, 0, 0]);
    packet[26] = 28;
    for is_reloaded in [false, true] {
        let socket = rig.udp();
        let seen_before = upstream.seen().len();
        socket.send(&packet).expect("a query");
        let plan = Arc::new(rig::plan(&lines, &rig.metrics));
        if is_reloaded {
            let began = Instant::now();
            while upstream.seen().len() == seen_before {
                assert!(began.elapsed() < PATIENCE, "the upstream sees no query");
                std::thread::yield_now();
            }
            rig.fleet.set_plan(&plan);
        }
        let mut answer = [0; 1232];
        let len = socket.recv(&mut answer).expect("an answer");
        let answer = &answer[..len];
        let message = Message::from_octets(answer).expect("a message");
        assert_eq!(message.header_counts().ancount(), 1, "an address that dns64 made");
        let options: Vec<_> = edit::options(answer).map(|option| option.code).collect();
        assert_eq!(options, [3], "{is_reloaded}");
        for seen in &upstream.seen()[seen_before..] {
            let options: Vec<_> = edit::options(&seen.message).map(|option| option.data).collect();
            assert_eq!(options, [b"x"], "{is_reloaded}: {seen:?}");
        }
        let look_ups = upstream.seen().len() - seen_before;
        assert_eq!(look_ups, if is_reloaded { 3 } else { 2 });
        let logged = rig.queries.recv_timeout(PATIENCE).expect("a logged query");
        assert_eq!(logged.query_len, packet.len(), "{is_reloaded}");
    }
    rig.fleet.stop(PATIENCE);
}

#[test]
fn codes_beyond_four_bits_need_an_opt() {
    let rig = start("rewrite rcode web.default.svc.cluster.local NOERROR BADCOOKIE");
    let name = "web.default.svc.cluster.local";
    let rcode = |packet: &[u8]| edit::rcode(&rig.ask_udp(packet, PATIENCE).expect("an answer"));
    assert_eq!(rcode(&query_with(name, &[])), 23);
    // Without EDNS it is SERVFAIL.
    assert_eq!(rcode(&query(name, 1)), 2);
    rig.fleet.stop(PATIENCE);
}

/// The code, and the number of answers.
fn outcome(rig: &Rig, name: &str) -> (String, u16) {
    let answer = rig.ask_udp(&query(name, 1), PATIENCE).expect("an answer");
    let message = Message::from_octets(answer.as_slice()).expect("a message");
    let asked = message.sole_question().expect("a question").qname().to_string();
    assert_eq!(asked, name, "the client's question");
    (message.header().rcode().to_string(), message.header_counts().ancount())
}

#[test]
fn many_rules() {
    let exact =
        |index: usize| format!("rewrite name n{index}.cluster.local web.default.svc.cluster.local");
    let lines: Vec<String> = (0..2_000).map(exact).collect();
    let rig = start(&lines.join("\n"));
    for index in [0, 7, 1_999] {
        assert_eq!(outcome(&rig, &format!("n{index}.cluster.local")), ("NOERROR".to_owned(), 1));
    }
    rig.fleet.stop(PATIENCE);
}

#[test]
fn failures_are_logged() {
    let lines = ["rewrite name regex ^twice\\.(.*)$ {1}..".to_owned()]
        .into_iter()
        .chain((0..33).map(|_| "rewrite continue ttl many.cluster.local 5".to_owned()))
        .collect::<Vec<_>>();
    let rig = start(&lines.join("\n"));
    for (name, message) in [
        ("twice.cluster.local", "invalid name after rewrite: cluster.local..."),
        ("many.cluster.local", "more than 32 rules of rewrite match"),
    ] {
        assert_eq!(outcome(&rig, name), ("SERVFAIL".to_owned(), 0));
        let report = rig.errors.recv_timeout(PATIENCE).expect("an error line");
        assert_eq!(report.message.as_deref(), Some(message));
        assert_eq!(report.name.bytes(), rig::query::wire_name(name));
    }
    rig.fleet.stop(PATIENCE);
}

/// A response that is longer under the client's name is cut for the client.
#[test]
fn longer_names_are_cut() {
    let long = "a-name-that-is-much-longer-than-the-one-that-is-asked-instead.cluster.local";
    let rig = start(&format!("rewrite name {long} big.default.svc.cluster.local"));
    let answer = rig.ask_udp(&query(long, 33), PATIENCE).expect("an answer");
    assert!(answer.len() <= 512);
    let answer = rig.ask_udp(&query(long, 1), PATIENCE).expect("an answer");
    let message = Message::from_octets(answer.as_slice()).expect("a message");
    assert!(message.header().tc() && answer.len() <= 512 && answer.len() > 480);
    let whole = rig.ask_tcp(&query(long, 1), PATIENCE).expect("an answer");
    let message = Message::from_octets(whole.as_slice()).expect("a message");
    assert_eq!((message.header().tc(), message.header_counts().ancount()), (false, 60));
    rig.fleet.stop(PATIENCE);
}
