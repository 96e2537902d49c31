//! The server behind `forward`: it serves `conformance/upstream.zone` as the root zone over UDP and
//! TCP, like the recording's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use domain::base::iana::{Rcode, Rtype};
use domain::base::name::ToName;
use domain::base::{Message, MessageBuilder, Name, Serial, Ttl};
use domain::rdata::{A, Aaaa, AllRecordData, Cname, Mx, Ns, Ptr, Soa, Txt};

use crate::expected;
use crate::port;

type ZoneData = AllRecordData<Vec<u8>, Name<Vec<u8>>>;

/// A running upstream. Its two threads end with the test's process.
pub struct Upstream {
    address: SocketAddr,
}

/// The records of the root zone: lower-case names with their final dot.
pub struct Zone {
    records: BTreeMap<(String, Rtype), Vec<(Ttl, ZoneData)>>,
    /// Every existing name, including those without records of their own.
    names: BTreeSet<String>,
}

impl Upstream {
    pub fn start() -> Self {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, port::free()).into();
        let udp = UdpSocket::bind(address).expect("a port that was free");
        let tcp = TcpListener::bind(address).expect("a port that was free");
        let zone = std::sync::Arc::new(Zone::read());
        let of_udp = zone.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, client)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = of_udp.answer(&buffer[..len]) {
                    let _ = udp.send_to(&answer, client);
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let zone = zone.clone();
                std::thread::spawn(move || zone.serve_stream(stream));
            }
        });
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Zone {
    fn read() -> Self {
        let text = std::fs::read_to_string(expected::folder().join("upstream.zone"));
        Self::parse(&text.expect("upstream.zone"))
    }

    /// Reads lines `OWNER TYPE DATA`; the zone has an SOA.
    pub fn parse(text: &str) -> Self {
        let mut zone = Self { records: BTreeMap::new(), names: BTreeSet::new() };
        for line in text.lines().filter(|line| !line.starts_with('$')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let owner = if words[0] == "@" { "." } else { words[0] };
            let (rtype, data) = data(&words[1..]);
            let of_owner = zone.records.entry((owner.to_owned(), rtype)).or_default();
            of_owner.push((Ttl::from_secs(300), data));
            zone.names.insert(owner.to_owned());
            let above = owner.match_indices('.').map(|(index, _)| &owner[index + 1..]);
            zone.names.extend(above.filter(|name| !name.is_empty()).map(str::to_owned));
        }
        zone
    }

    fn serve_stream(&self, mut stream: std::net::TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
        loop {
            let mut len = [0; 2];
            if stream.read_exact(&mut len).is_err() {
                return;
            }
            let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
            if stream.read_exact(&mut query).is_err() {
                return;
            }
            let Some(answer) = self.answer(&query) else { return };
            let len = u16::try_from(answer.len()).expect("a short answer");
            if stream.write_all(&[&len.to_be_bytes()[..], &answer].concat()).is_err() {
                return;
            }
        }
    }

    /// The response to a query; `None` if it is not one.
    pub fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_slice(query).ok()?;
        let edns = query.opt();
        let question = query.sole_question().ok()?;
        let name = question.qname().fmt_with_dot().to_string().to_ascii_lowercase();
        let rcode = if self.names.contains(&name) { Rcode::NOERROR } else { Rcode::NXDOMAIN };
        let mut answer = MessageBuilder::new_vec().start_answer(query, rcode).ok()?;
        answer.header_mut().set_aa(true);
        let found = self.records.get(&(name.clone(), question.qtype()));
        for (ttl, data) in found.into_iter().flatten() {
            answer.push((question.qname(), *ttl, data)).ok()?;
        }
        let alias = self.records.get(&(name, Rtype::CNAME)).filter(|_| found.is_none());
        let mut is_negative = found.is_none();
        for (ttl, data) in alias.into_iter().flatten() {
            answer.push((question.qname(), *ttl, data)).ok()?;
            let ZoneData::Cname(cname) = data else { continue };
            let target = cname.cname().fmt_with_dot().to_string();
            for (ttl, data) in self.records.get(&(target, question.qtype())).into_iter().flatten() {
                is_negative = false;
                answer.push((cname.cname(), *ttl, data)).ok()?;
            }
        }
        let mut authority = answer.authority();
        if is_negative {
            let soa = &self.records[&(".".to_owned(), Rtype::SOA)][0].1;
            authority.push((Name::root_vec(), Ttl::from_secs(60), soa)).ok()?;
        }
        let mut additional = authority.additional();
        if let Some(edns) = edns {
            let set = additional.opt(|opt| {
                opt.set_udp_payload_size(1232);
                opt.set_dnssec_ok(edns.dnssec_ok());
                Ok(())
            });
            set.ok()?;
        }
        Some(additional.finish())
    }
}

/// Type and data from the words of a zone-file line; supports the types of `upstream.zone`.
fn data(words: &[&str]) -> (Rtype, ZoneData) {
    let name = |index: usize| Name::<Vec<u8>>::from_str(words[index]).expect("a name");
    let number = |index: usize| words[index].parse::<u32>().expect("a number");
    let ttl = |index: usize| Ttl::from_secs(number(index));
    let data = match words[0] {
        "A" => A::new(words[1].parse().expect("an address")).into(),
        "AAAA" => Aaaa::new(words[1].parse().expect("an address")).into(),
        "CNAME" => Cname::new(name(1)).into(),
        "MX" => Mx::new(u16::try_from(number(1)).expect("a preference"), name(2)).into(),
        "NS" => Ns::new(name(1)).into(),
        "PTR" => Ptr::new(name(1)).into(),
        "SOA" => {
            let serial = Serial(number(3));
            Soa::new(name(1), name(2), serial, ttl(4), ttl(5), ttl(6), ttl(7)).into()
        }
        "TXT" => Txt::<Vec<u8>>::build_from_slice(words[1].as_bytes()).expect("a text").into(),
        other => panic!("upstream.zone has a type that is not read here: {other}"),
    };
    (words[0].parse().expect("a type"), data)
}
