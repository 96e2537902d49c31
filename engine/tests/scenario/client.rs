//! A client: one query over UDP or TCP, and the response, if there is one.
//!
//! It checks what every response must satisfy: the id and the question are those of the query, and
//! a datagram is no longer than the client accepts.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::iana::{Class, OptionCode, Rtype};
use domain::base::opt::UnknownOptData;
use domain::base::{Message, MessageBuilder, Name};

use super::response::{Opt, Response};

/// How long a response may take. A server waits up to 5 s for its upstreams.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long a client waits for a response that is not expected: a local one takes a millisecond.
const SILENCE: Duration = Duration::from_millis(300);

/// What a client without EDNS accepts (RFC 1035, section 4.2.1), and the least that any does.
const UDP_LEN_MIN: u16 = 512;

/// What a client with `+do` accepts if it has no `+bufsize`.
const UDP_LEN: u16 = 1232;

/// A query with RD.
pub struct Query {
    pub name: Name<Vec<u8>>,
    pub rtype: Rtype,
    class: Class,
    /// The client's address.
    from: Ipv4Addr,
    is_tcp: bool,
    recursion_desired: bool,
    opt: Option<Opt>,
    asks_nsid: bool,
}

/// What came back.
pub enum Reply {
    /// A response, and its length in bytes.
    Response(Response, usize),
    Nothing,
}

impl Query {
    /// Parses `NAME TYPE [+…]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (Some(name), Some(rtype)) = (words.next(), words.next()) else {
            return Err("a name and a type are required".to_owned());
        };
        let mut query = Self {
            name: name.parse().map_err(|error| format!("{name}: {error}"))?,
            rtype: rtype.parse().map_err(|_| format!("not a type: {rtype}"))?,
            class: Class::IN,
            from: Ipv4Addr::LOCALHOST,
            is_tcp: false,
            recursion_desired: true,
            opt: None,
            asks_nsid: false,
        };
        for word in words {
            let opt = query.opt.unwrap_or(Opt { udp_len: UDP_LEN, dnssec_ok: false });
            match word.split_once('=') {
                None if word == "+tcp" => query.is_tcp = true,
                None if word == "+do" => query.opt = Some(Opt { dnssec_ok: true, ..opt }),
                None if word == "+norec" => query.recursion_desired = false,
                None if word == "+ch" => query.class = Class::CH,
                None if word == "+nsid" => {
                    query.opt = Some(opt);
                    query.asks_nsid = true;
                }
                Some(("+from", from)) => {
                    query.from = from.parse().map_err(|_| format!("not an address: {word}"))?;
                }
                Some(("+bufsize", len)) => {
                    let udp_len = len.parse().map_err(|_| format!("not a length: {word}"))?;
                    query.opt = Some(Opt { udp_len, ..opt });
                }
                _ => return Err(format!("unknown word '{word}'")),
            }
        }
        Ok(query)
    }

    /// Sends it once. `expects_nothing`: waits for a moment only.
    pub fn send(&self, server: SocketAddr, expects_nothing: bool) -> Result<Reply, String> {
        let query = self.message();
        let patience = if expects_nothing { SILENCE } else { PATIENCE };
        let sent = match self.is_tcp {
            true => over_tcp(server, &query, patience),
            false => self.over_udp(server, &query, patience),
        };
        let (message, port) = match sent {
            Ok(received) => received,
            Err(error) if expects_nothing && error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Reply::Nothing);
            }
            Err(error) => return Err(format!("no response: {error}")),
        };
        self.check(&query, &message)?;
        Ok(Reply::Response(Response::parse(&message, port)?, message.len()))
    }

    fn message(&self) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_random_id();
        builder.header_mut().set_rd(self.recursion_desired);
        let mut builder = builder.question();
        builder.push((&self.name, self.rtype, self.class)).expect("room for a question");
        let mut builder = builder.additional();
        if let Some(Opt { udp_len, dnssec_ok }) = self.opt {
            let set = builder.opt(|opt| {
                opt.set_udp_payload_size(udp_len);
                opt.set_dnssec_ok(dnssec_ok);
                if self.asks_nsid {
                    let data = UnknownOptData::new(OptionCode::NSID, []);
                    opt.push(&data.expect("no data is not too long"))?;
                }
                Ok(())
            });
            set.expect("room for OPT");
        }
        builder.finish()
    }

    fn check(&self, query: &[u8], response: &[u8]) -> Result<(), String> {
        let question_end = 12 + self.name.as_slice().len() + 4;
        let len_max = self.opt.map_or(UDP_LEN_MIN, |opt| opt.udp_len.max(UDP_LEN_MIN));
        let is_response = Message::from_slice(response).is_ok_and(|one| one.header().qr());
        if !is_response || response[..2] != query[..2] {
            return Err("not a response, or one with another id than the query".to_owned());
        }
        if response.get(12..question_end) != Some(&query[12..question_end]) {
            return Err("the question of the response is not the query's".to_owned());
        }
        if !self.is_tcp && response.len() > usize::from(len_max) {
            return Err(format!("{} bytes for a client that accepts {len_max}", response.len()));
        }
        Ok(())
    }

    /// The response, and the port that the query was sent from.
    fn over_udp(
        &self,
        server: SocketAddr,
        query: &[u8],
        patience: Duration,
    ) -> io::Result<(Vec<u8>, u16)> {
        let socket = UdpSocket::bind((self.from, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(query)?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let len = socket.recv(&mut buffer)?;
        buffer.truncate(len);
        Ok((buffer, socket.local_addr()?.port()))
    }
}

fn over_tcp(server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<(Vec<u8>, u16)> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&frame(query))?;
    Ok((read_frame(&mut stream)?, stream.local_addr()?.port()))
}

/// A message after its length (RFC 1035, section 4.2.2).
pub fn frame(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).expect("a message of a scenario");
    [&len.to_be_bytes(), message].concat()
}

pub fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Calls `probe` until it succeeds; returns its last failure after `limit`.
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        let failure = match probe() {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        if Instant::now() >= deadline {
            return Err(failure);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
