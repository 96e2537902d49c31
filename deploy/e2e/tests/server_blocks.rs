//! Server blocks, stub domains and external ExternalNames: CoreDNS 1.15.0 and ringdns run the same
//! Corefile beside one API server and in front of the same three Knots, and every field of every
//! response is compared. Every difference must have a name in `e2e::rule`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::answer::Record;
use e2e::ask::{Transport, ask_as};
use e2e::cluster::Cluster;
use e2e::comparison::reply_differences;
use e2e::corefile::Corefile;
use e2e::knot::Knot;
use e2e::port;
use e2e::query::{Edns, Query, Reply};
use e2e::question::Question;
use e2e::quirk::is_at_or_below;
use e2e::rule::OutsideRule;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::{Tools, Upstreams};
use serde_json::{Value, json};

/// How many differences a failing test shows.
const SHOWN: usize = 25;

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(7);

/// Names that all upstreams know: the root zone.
const WORLD: &str = "@ 300 SOA a.root. nstld. 1 1800 900 604800 60
@ 300 NS a.root.
a.root. 300 A 127.0.0.1
www.test. 300 A 192.0.2.1
www.test. 300 A 192.0.2.2
www.test. 300 AAAA 2001:db8::1
v6.test. 300 AAAA 2001:db8::2
chain.test. 300 CNAME link.test.
link.test. 200 CNAME www.test.
dangling.test. 300 CNAME nothing.test.
mail.test. 300 MX 10 www.test.
_http._tcp.test. 300 SRV 0 0 80 www.test.
text.test. 300 TXT \"some text\" \"and more\"
*.wild.test. 300 A 192.0.2.3
host.stub.example. 300 A 192.0.2.99
cut.test. 300 NS ns.cut.test.
ns.cut.test. 300 A 192.0.2.4
5.2.0.192.in-addr.arpa. 300 PTR host.test.
www.only.example. 300 A 192.0.2.6
www.refused.example. 300 A 192.0.2.7
";

const STUB: &str = "@ 300 SOA ns hostmaster 1 3600 600 86400 300
@ 300 NS ns
ns 300 A 127.0.0.1
@ 300 MX 10 host
host 300 A 10.1.0.1
host.deep 300 A 10.1.0.99
alias 300 CNAME host
out 300 CNAME www.test.
";

const DEEP: &str = "@ 300 SOA ns hostmaster 1 3600 600 86400 300
@ 300 NS ns
ns 300 A 127.0.0.1
host 300 A 10.2.0.1
";

/// Blocks of the first port; the upstream of each serves only its zone.
const BLOCKS: [&str; 3] = [".", "stub.example.", "deep.stub.example."];

const EXTERNAL_NAMES: [(&str, &str); 8] = [
    ("ext-www", "www.test."),
    ("ext-v6", "v6.test."),
    ("ext-chain", "chain.test."),
    ("ext-dangling", "dangling.test."),
    ("ext-nothing", "nothing.test."),
    ("ext-stub", "host.stub.example."),
    ("ext-deep", "host.deep.stub.example."),
    ("ext-refused", "www.refused.example."),
];

const NAMES: [&str; 31] = [
    ".",
    "test.",
    "www.test.",
    "v6.test.",
    "chain.test.",
    "dangling.test.",
    "mail.test.",
    "_http._tcp.test.",
    "text.test.",
    "large.test.",
    "a.wild.test.",
    "nothing.test.",
    "x.www.test.",
    "cut.test.",
    "x.cut.test.",
    "5.2.0.192.in-addr.arpa.",
    "6.2.0.192.in-addr.arpa.",
    "stub.example.",
    "host.stub.example.",
    "alias.stub.example.",
    "out.stub.example.",
    "nothing.stub.example.",
    "notstub.example.",
    "deep.stub.example.",
    "host.deep.stub.example.",
    "nothing.deep.stub.example.",
    "only.example.",
    "www.only.example.",
    "www.refused.example.",
    "example.",
    "kubernetes.default.svc.cluster.local.",
];

const RTYPES: [Rtype; 11] = [
    Rtype::A,
    Rtype::AAAA,
    Rtype::CNAME,
    Rtype::MX,
    Rtype::TXT,
    Rtype::NS,
    Rtype::SOA,
    Rtype::SRV,
    Rtype::PTR,
    Rtype::DS,
    Rtype::ANY,
];

/// Below the cluster's zone.
const DEFAULT: &str = "default.svc.cluster.local.";

#[test]
fn server_blocks_respond_like_corednss() {
    let Some(tools) = Tools::find("server_blocks") else { return };
    let Some(programs) = Upstreams::find("server_blocks") else { return };
    let cluster = Cluster::start(&tools);
    for (name, target) in EXTERNAL_NAMES {
        cluster.objects().create(&external_name(name, target.trim_end_matches('.')));
    }
    let large = (0..40).map(|index| format!("large.test. 300 TXT \"{index:050}\"\n"));
    let world = WORLD.to_owned() + &large.collect::<String>();
    let records = [&world, STUB, DEEP];
    let knots: [Knot; 3] =
        std::array::from_fn(|index| Knot::start(&programs.knotd, BLOCKS[index], records[index]));
    let upstreams = knots.each_ref().map(Knot::address);
    let [theirs, ours] = [Kind::CoreDns, Kind::subject()].map(|kind| {
        let second = port::free();
        let corefile = corefile(upstreams, second).with_kubeconfig(&cluster.kubeconfig());
        let server = Server::start(kind, &corefile, Some(&tools));
        let second = SocketAddr::from((Ipv4Addr::LOCALHOST, second));
        // Both ports, and values that must live as long as the servers.
        ([server.address(), second], server)
    });
    let mut report = Report::default();
    for (port, addresses) in theirs.0.into_iter().zip(ours.0).enumerate() {
        for question in &questions() {
            for (variant, query, transport) in variants(question) {
                let what = format!("port {port}, {question}, {variant}");
                let ask = |address, query: &Query| {
                    let reply = ask_as(address, query, transport, PATIENCE);
                    reply.unwrap_or_else(|error| panic!("{what}: {error}"))
                };
                let replies = [ask(addresses.0, &query), ask(addresses.1, &query)];
                let of_theirs = |question| ask(addresses.0, &Query { question, ..query.clone() });
                report.add(&what, &query, &replies, &of_theirs);
            }
        }
    }
    let Report { equal, by_rule, refused, wrong } = report;
    say(&format!(
        "server_blocks, {:?}: {equal} of {} answers equal CoreDNS's in every field, of which \
         {refused} are REFUSED; differences by rule {by_rule:?}; without a rule {}",
        ours.1.kind(),
        equal + by_rule.values().sum::<usize>() + wrong.len(),
        wrong.len()
    ));
    let shown = wrong.len().min(SHOWN);
    assert!(wrong.is_empty(), "the first {shown}:\n{}", wrong[..shown].join("\n"));
    assert!(refused > 100, "some questions must be for names without a block");
}

fn questions() -> Vec<Question> {
    let all = NAMES.iter().flat_map(|name| RTYPES.map(|rtype| Question::new(*name, rtype)));
    // `differential` covers other types of an ExternalName.
    let external = EXTERNAL_NAMES.iter().flat_map(|(name, _)| {
        [Rtype::A, Rtype::AAAA].map(|rtype| Question::new(format!("{name}.{DEFAULT}"), rtype))
    });
    all.chain(external).collect()
}

fn corefile([world, stub, deep]: [SocketAddr; 3], second: u16) -> Corefile {
    Corefile::new(format!(
        ".:5353 {{
    bind 127.0.0.1
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        manifests -
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    forward . {world} {{
        except refused.example
    }}
}}
stub.example:5353 {{
    bind 127.0.0.1
    forward . {stub}
}}
deep.stub.example:5353 {{
    bind 127.0.0.1
    forward . {deep}
}}
refused.example:5353 {{
    bind 127.0.0.1
}}
only.example:{second} stub.example:{second} {{
    bind 127.0.0.1
    forward only.example {world}
    forward deep.stub.example {deep}
    forward . {stub}
}}
"
    ))
}

/// The results of all questions.
#[derive(Default)]
struct Report {
    equal: usize,
    /// Part of the equal ones.
    refused: usize,
    by_rule: BTreeMap<OutsideRule, usize>,
    wrong: Vec<String>,
}

impl Report {
    /// `replies`: CoreDNS's and ours. `of_theirs` sends CoreDNS another query in the same way.
    fn add(
        &mut self,
        what: &str,
        query: &Query,
        [theirs, ours]: &[Reply; 2],
        of_theirs: &dyn Fn(Question) -> Reply,
    ) {
        let mut found = reply_differences(theirs, ours);
        if found.is_empty() {
            self.equal += 1;
            self.refused += usize::from(ours.answer.rcode == "REFUSED");
            return;
        }
        if ours.checking_disabled == query.checking_disabled {
            found.retain(|field| !field.starts_with("cd:"));
        }
        let named = |names: &[&str]| {
            found.iter().all(|field| names.iter().any(|name| field.starts_with(*name)))
        };
        let question = &query.question;
        let target = EXTERNAL_NAMES.iter().find_map(|(name, target)| {
            (question.key() == format!("{name}.{DEFAULT}")).then_some(*target)
        });
        let rule = if found.is_empty() {
            Some(OutsideRule::CheckingDisabled)
        } else if question.key() == "large.test." && theirs.answer.tc && ours.answer.tc {
            Some(OutsideRule::CutAnswer)
        } else if question.rtype == Rtype::DS && named(&["authority:"]) {
            let zone = ours.answer.authority.first().map(Record::owner);
            (zone == Some(zone_with_ds(&question.key()))).then_some(OutsideRule::ParentForDs)
        } else if let Some(target) = target {
            let targets = of_theirs(Question::new(target, question.rtype)).answer;
            let is_targets = ours.answer.rcode == targets.rcode
                && ours.answer.authority == targets.authority
                && theirs.answer.rcode == "NOERROR"
                && named(&["rcode:", "authority:"]);
            is_targets.then_some(OutsideRule::TargetsCode)
        } else {
            None
        };
        match rule {
            Some(rule) => *self.by_rule.entry(rule).or_default() += 1,
            None => self.wrong.push(format!("{what}: want is CoreDNS's: {}", found.join("; "))),
        }
    }
}

/// The zone that holds a name's DS: the longest zone that the name is below.
fn zone_with_ds(name: &str) -> &'static str {
    let above = BLOCKS
        .iter()
        .filter(|zone| **zone != name && (**zone == "." || is_at_or_below(name, zone)));
    above.max_by_key(|zone| zone.len()).copied().unwrap_or(".")
}

fn variants(question: &Question) -> [(&'static str, Query, Transport); 7] {
    let plain = Query::plain(question.clone());
    let mixed = Question { name: mixed_case(&question.name), ..question.clone() };
    let edns = |dnssec_ok| Some(Edns { udp_len: 1232, dnssec_ok });
    let with_do = Query { edns: edns(true), authentic_data: true, ..plain.clone() };
    [
        ("plain", plain.clone(), Transport::Udp),
        ("in mixed case", Query::plain(mixed), Transport::Udp),
        ("with EDNS", Query { edns: edns(false), ..plain.clone() }, Transport::Udp),
        ("with DO and AD", with_do, Transport::Udp),
        ("with CD", Query { checking_disabled: true, ..plain.clone() }, Transport::Udp),
        ("without RD", Query { recursion_desired: false, ..plain.clone() }, Transport::Udp),
        ("over TCP", plain, Transport::Tcp),
    ]
}

fn mixed_case(name: &str) -> String {
    let every_other = |(at, letter): (usize, char)| {
        if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter }
    };
    name.chars().enumerate().map(every_other).collect()
}

fn external_name(name: &str, target: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "type": "ExternalName", "externalName": target },
    })
}
