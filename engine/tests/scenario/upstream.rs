//! The upstream of a scenario: it responds as the file says, over UDP and TCP, and REFUSED to
//! every question that the file does not mention.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name, ToName as _};

use super::client::{Query, frame, read_frame};
use super::response::Response;

type Script = Arc<Mutex<BTreeMap<(Name<Vec<u8>>, Rtype), Response>>>;

/// A running upstream. Its threads end with the test's process.
pub struct ScriptedUpstream {
    pub address: SocketAddr,
    script: Script,
}

impl ScriptedUpstream {
    pub fn start() -> Self {
        let (udp, tcp) = bind();
        let address = udp.local_addr().expect("a bound socket");
        let script = Script::default();
        let of_udp = Arc::clone(&script);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, client)) = udp.recv_from(&mut buffer) {
                if let Some(response) = respond(&of_udp, &buffer[..len]) {
                    let _ = udp.send_to(&response, client);
                }
            }
        });
        let of_tcp = Arc::clone(&script);
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let script = Arc::clone(&of_tcp);
                std::thread::spawn(move || serve_stream(stream, &script));
            }
        });
        Self { address, script }
    }

    /// Responds like this to the question from now on.
    pub fn set(&self, question: &Query, response: &Response) {
        let key = (question.name.clone(), question.rtype);
        self.script.lock().expect("no thread panics").insert(key, response.clone());
    }
}

/// Both sockets at one port that the kernel assigns.
fn bind() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("a bound socket")) {
            return (udp, tcp);
        }
    }
}

fn serve_stream(mut stream: TcpStream, script: &Script) {
    while let Ok(query) = read_frame(&mut stream) {
        let Some(response) = respond(script, &query) else { return };
        if stream.write_all(&frame(&response)).is_err() {
            return;
        }
    }
}

/// `None`: it is not a query with one question.
fn respond(script: &Script, query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_slice(query).ok()?;
    let question = query.sole_question().ok()?;
    let key = (question.qname().to_name(), question.qtype());
    let found = script.lock().expect("no thread panics").get(&key).cloned();
    let (rcode, flags, [answer, authority, additional]) = match found {
        Some(Response { rcode, flags, sections, .. }) => (rcode, flags, sections),
        None => (Rcode::REFUSED, 0x8000, Default::default()),
    };
    let mut builder = MessageBuilder::new_vec().question();
    builder.push(question).ok()?;
    let mut builder = builder.answer();
    answer.iter().try_for_each(|record| builder.push(record)).ok()?;
    let mut builder = builder.authority();
    authority.iter().try_for_each(|record| builder.push(record)).ok()?;
    let mut builder = builder.additional();
    additional.iter().try_for_each(|record| builder.push(record)).ok()?;
    if query.opt().is_some() {
        builder.opt(|_| Ok(())).ok()?;
    }
    let mut message = builder.finish();
    message[..2].copy_from_slice(&query.as_slice()[..2]);
    // RD is the query's; all other flags are the script's.
    let rd = u16::from(query.header().rd()) << 8;
    let flags = flags | rd | u16::from(rcode.to_int());
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    Some(message)
}
