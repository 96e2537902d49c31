//! Asking one question, over UDP without EDNS or over TCP.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::{MessageBuilder, Name};

use crate::answer::Answer;
use crate::question::Question;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How a question goes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    /// UDP, and TCP again where the answer was cut: what a resolver does.
    UdpThenTcp,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens, or nothing came in time.
    Io(io::Error),
    /// Something came that is no DNS message.
    Malformed(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "no answer: {error}"),
            Self::Malformed(what) => write!(f, "malformed answer: {what}"),
        }
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks `server` one question.
pub fn ask(
    server: SocketAddr,
    question: &Question,
    transport: Transport,
) -> Result<Answer, AskError> {
    match transport {
        Transport::Udp => over_udp(server, question, LIMIT),
        Transport::Tcp => over_tcp(server, question),
        Transport::UdpThenTcp => {
            let answer = over_udp(server, question, LIMIT)?;
            if answer.udp_tc {
                Ok(Answer { udp_tc: true, ..over_tcp(server, question)? })
            } else {
                Ok(answer)
            }
        }
    }
}

/// Asks over UDP and waits `limit` for the answer.
pub fn over_udp(
    server: SocketAddr,
    question: &Question,
    limit: Duration,
) -> Result<Answer, AskError> {
    let (id, query) = query(question);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    socket.send(&query)?;
    let end = Instant::now() + limit;
    let mut buffer = [0; 65_535];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(AskError::Io(ErrorKind::TimedOut.into()));
        }
        socket.set_read_timeout(Some(left))?;
        let len = socket.recv(&mut buffer)?;
        // An answer to an older question that gave up: not ours.
        if buffer[..len].starts_with(&id.to_be_bytes()) {
            let answer = parse(&buffer[..len], question)?;
            return Ok(Answer { udp_tc: answer.tc, ..answer });
        }
    }
}

fn over_tcp(server: SocketAddr, question: &Question) -> Result<Answer, AskError> {
    let (id, query) = query(question);
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    let len = u16::try_from(query.len()).expect("a query of one question");
    stream.write_all(&[&len.to_be_bytes()[..], &query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    if !message.starts_with(&id.to_be_bytes()) {
        return Err(AskError::Malformed("another id than asked with".to_owned()));
    }
    parse(&message, question)
}

fn parse(message: &[u8], question: &Question) -> Result<Answer, AskError> {
    Answer::parse(message, question).map_err(|error| AskError::Malformed(error.to_string()))
}

/// A query with recursion desired and without EDNS, and its random id.
fn query(question: &Question) -> (u16, Vec<u8>) {
    let name: Name<Vec<u8>> = question.name.parse().expect("a name that can be asked");
    let mut builder = MessageBuilder::new_vec().question();
    builder.header_mut().set_random_id();
    builder.header_mut().set_rd(true);
    builder.push((name, question.rtype)).expect("room for one question");
    (builder.header().id(), builder.finish())
}
