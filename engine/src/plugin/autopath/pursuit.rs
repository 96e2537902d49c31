//! One query whose names are looked up along a search path: messages in, the next name out.
//!
//! Invariant: the first name is the client's question. If no name exists, the client gets the
//! response to that one and goes on searching by itself.

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder};
use wire::edit;

use crate::limits::{PURSUIT_STEPS_MAX, SEARCH_DOMAINS_MAX};
use crate::metrics::answerer::Answerer;
use crate::plugin::exchange::CounterSlot;
use crate::plugin::pursuit::{Found, InsideQuestion, Scope, Step};

// A step for each domain, one for the name alone, one for the target of a changed CNAME, and one to
// respond.
const _: () = assert!(PURSUIT_STEPS_MAX >= SEARCH_DOMAINS_MAX + 3);

const ANSWERER: Answerer = Answerer::plugin("autopath");

#[derive(Debug)]
pub struct AutopathPursuit {
    /// In wire format, lower case; at least one.
    names: Box<[Box<[u8]>]>,
    qtype: u16,
    /// Counts answers that are found further down the path.
    successes: CounterSlot,
    /// How many names have been looked up.
    asked_count: usize,
    /// The response to the client's question.
    first: Box<[u8]>,
}

impl AutopathPursuit {
    /// `names`: those of the search path, the client's question first.
    pub(super) fn new(names: Box<[Box<[u8]>]>, qtype: u16, successes: CounterSlot) -> Self {
        Self { names, qtype, successes, asked_count: 0, first: Box::default() }
    }

    pub(in crate::plugin) fn next(&mut self, last: Option<Box<[u8]>>) -> Step {
        if let Some(last) = last {
            let message = Message::from_octets(&last[..]);
            let rcode = message.map_or(Rcode::SERVFAIL, |message| message.header().rcode());
            let is_first = self.asked_count == 1;
            match rcode {
                Rcode::NOERROR if is_first => return respond(last, None, None),
                Rcode::NOERROR => return self.found(last),
                Rcode::NXDOMAIN => {}
                _ if is_first => return respond(last, None, None),
                // As in CoreDNS, a failure ends the search.
                _ => {
                    let options = edit::option_data(&last).into();
                    let failure = Found::new(self.failure(rcode), ANSWERER);
                    return Step::Respond(Found { options, ..failure });
                }
            }
            if is_first {
                self.first = last;
            }
        }
        match self.names.get(self.asked_count) {
            Some(name) => {
                self.asked_count += 1;
                let (name, scope) = (name.clone(), Scope::Behind);
                Step::Ask(InsideQuestion { name, qtype: self.qtype, scope })
            }
            None => respond(std::mem::take(&mut self.first), None, None),
        }
    }

    /// A name further down the path exists: a CNAME leads there from the client's question.
    fn found(&self, message: Box<[u8]>) -> Step {
        let ttl_secs = first_ttl_secs(&message);
        respond(message, Some(ttl_secs), Some(self.successes))
    }

    /// An error without data, in response to the client's question.
    fn failure(&self, rcode: Rcode) -> Box<[u8]> {
        let first = Message::from_octets(&self.first[..]);
        let failure = first.map(|first| MessageBuilder::new_vec().start_error(&first, rcode));
        failure.map(|failure| failure.finish()).unwrap_or_default().into()
    }
}

fn respond(message: Box<[u8]>, cname_ttl_secs: Option<u32>, counts: Option<CounterSlot>) -> Step {
    Step::Respond(Found { cname_ttl_secs, counts, ..Found::new(message, ANSWERER) })
}

/// The TTL of the first record: of an answer, or of the SOA that denies one.
fn first_ttl_secs(message: &[u8]) -> u32 {
    let Ok(message) = Message::from_octets(message) else { return 0 };
    let answer = message.answer().ok().and_then(|mut records| records.next());
    let authority = || message.authority().ok().and_then(|mut records| records.next());
    let first = answer.or_else(authority).and_then(Result::ok);
    first.map_or(0, |record| record.ttl().as_secs())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use domain::base::iana::Class;
    use domain::base::{Name, Rtype, Ttl};
    use domain::rdata::A;

    use super::*;
    use crate::corefile::value::zone::Zone;

    /// A response with this code, and with addresses if it has a TTL.
    fn response(name: &str, rcode: Rcode, ttl_secs: Option<u32>) -> Box<[u8]> {
        let name: Name<Vec<u8>> = name.parse().unwrap();
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_qr(true);
        builder.header_mut().set_rcode(rcode);
        let mut builder = builder.question();
        builder.push((&name, Rtype::A)).unwrap();
        let mut builder = builder.answer();
        if let Some(ttl_secs) = ttl_secs {
            let address = A::new(Ipv4Addr::LOCALHOST);
            builder.push((&name, Class::IN, Ttl::from_secs(ttl_secs), address)).unwrap();
        }
        builder.finish().into()
    }

    /// The steps that follow these responses, as text.
    fn check(responses: &[(Rcode, Option<u32>)], expected: &[&str]) {
        let names = ["w.a", "w.b", "w"];
        let wires = names.map(|name| Zone::from_name(name).unwrap().wire.into());
        let mut pursuit = AutopathPursuit::new(Box::new(wires), 1, CounterSlot(0));
        let mut last = None;
        let mut steps = Vec::new();
        let mut responses = names.iter().zip(responses);
        loop {
            match pursuit.next(last.take()) {
                Step::Ask(question) => {
                    let name = Name::from_octets(&question.name[..]).unwrap().to_string();
                    let (asked, (rcode, ttl_secs)) = responses.next().expect("a response");
                    assert_eq!(name, *asked);
                    last = Some(response(&name, *rcode, *ttl_secs));
                    steps.push(name);
                }
                Step::Wait(_) => panic!("a search does not wait"),
                Step::Respond(found) => {
                    let message = Message::from_octets(&found.message[..]).unwrap();
                    let question = message.first_question().unwrap().qname().to_string();
                    let cname = found.cname_ttl_secs;
                    let rcode = message.header().rcode();
                    let is_counted = found.counts.is_some();
                    steps.push(format!("{question} {rcode} {cname:?} {is_counted}"));
                    break;
                }
            }
        }
        assert_eq!(steps, expected);
    }

    #[test]
    fn steps_of_a_search() {
        let no = (Rcode::NXDOMAIN, None);
        let (yes, empty) = ((Rcode::NOERROR, Some(60)), (Rcode::NOERROR, None));
        let failed = (Rcode::SERVFAIL, None);
        check(&[yes], &["w.a", "w.a NOERROR None false"]);
        check(&[empty], &["w.a", "w.a NOERROR None false"]);
        check(&[failed], &["w.a", "w.a SERVFAIL None false"]);
        check(&[no, yes], &["w.a", "w.b", "w.b NOERROR Some(60) true"]);
        check(&[no, empty], &["w.a", "w.b", "w.b NOERROR Some(0) true"]);
        check(&[no, no, yes], &["w.a", "w.b", "w", "w NOERROR Some(60) true"]);
        check(&[no, no, no], &["w.a", "w.b", "w", "w.a NXDOMAIN None false"]);
        // The client's question comes back with the error.
        check(&[no, failed], &["w.a", "w.b", "w.a SERVFAIL None false"]);
    }
}
