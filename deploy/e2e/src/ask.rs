//! Sends one query over UDP, TCP or HTTP and waits for the response.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::answer::Answer;
use crate::query::{Query, Reply};
use crate::question::Question;

/// How long a response may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How a query is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    /// UDP, then TCP if the response was truncated: what a resolver does.
    UdpThenTcp,
    /// DNS over HTTPS without TLS (RFC 8484), by POST over HTTP/1.1.
    Http,
}

/// Why there is no usable response.
#[derive(Debug)]
pub enum AskError {
    /// Nothing listens, or no response came in time.
    Io(io::Error),
    /// The response is not a DNS message.
    Malformed(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "no response: {error}"),
            Self::Malformed(what) => write!(f, "malformed response: {what}"),
        }
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Sends `server` one query, as a stub resolver does.
pub fn ask(
    server: SocketAddr,
    question: &Question,
    transport: Transport,
) -> Result<Answer, AskError> {
    ask_as(server, &Query::plain(question.clone()), transport, LIMIT).map(|reply| reply.answer)
}

/// Sends one query over UDP, as a stub resolver does, and waits up to `limit` for the response.
pub fn over_udp(
    server: SocketAddr,
    question: &Question,
    limit: Duration,
) -> Result<Answer, AskError> {
    ask_as(server, &Query::plain(question.clone()), Transport::Udp, limit).map(|reply| reply.answer)
}

/// Sends `query` and waits up to `limit` for the response; twice that if TCP follows UDP.
pub fn ask_as(
    server: SocketAddr,
    query: &Query,
    transport: Transport,
    limit: Duration,
) -> Result<Reply, AskError> {
    match transport {
        Transport::Udp => exchange_over_udp(server, query, limit),
        Transport::Tcp => exchange_over_tcp(server, query, limit),
        Transport::UdpThenTcp => {
            let reply = exchange_over_udp(server, query, limit)?;
            if !reply.answer.tc {
                return Ok(reply);
            }
            let whole = exchange_over_tcp(server, query, limit)?;
            Ok(Reply { answer: Answer { udp_tc: true, ..whole.answer }, ..whole })
        }
        Transport::Http => exchange_over_http(server, query, limit),
    }
}

fn exchange_over_udp(
    server: SocketAddr,
    query: &Query,
    limit: Duration,
) -> Result<Reply, AskError> {
    let (id, message) = query.message();
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(&message)?;
    let end = Instant::now() + limit;
    let mut buffer = [0; 65_535];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(AskError::Io(ErrorKind::TimedOut.into()));
        }
        socket.set_read_timeout(Some(left))?;
        let len = socket.recv(&mut buffer)?;
        // A response to an older query that timed out is skipped.
        if is_response(&buffer[..len], id) {
            return parse(&buffer[..len], &query.question);
        }
    }
}

fn exchange_over_tcp(
    server: SocketAddr,
    query: &Query,
    limit: Duration,
) -> Result<Reply, AskError> {
    let (id, message) = query.message();
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    let len = u16::try_from(message.len()).expect("a query of one question");
    stream.write_all(&[&len.to_be_bytes()[..], &message].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    parse_whole(&message, id, query)
}

fn exchange_over_http(
    server: SocketAddr,
    query: &Query,
    limit: Duration,
) -> Result<Reply, AskError> {
    let (id, message) = query.message();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchange = async { tokio::time::timeout(limit, post(server, message)).await };
    let message =
        runtime.block_on(exchange).map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
    parse_whole(&message, id, query)
}

/// The body of the response to a POST of this body.
async fn post(server: SocketAddr, body: Vec<u8>) -> io::Result<Bytes> {
    let stream = TokioIo::new(tokio::net::TcpStream::connect(server).await?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::post("/dns-query")
        .header(HOST, server.to_string())
        .header(CONTENT_TYPE, "application/dns-message")
        .body(Full::<Bytes>::from(body))
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    if response.status() != StatusCode::OK {
        return Err(io::Error::other(response.status().to_string()));
    }
    Ok(response.into_body().collect().await.map_err(io::Error::other)?.to_bytes())
}

/// The response of a transport that truncates none.
fn parse_whole(message: &[u8], id: u16, query: &Query) -> Result<Reply, AskError> {
    if !is_response(message, id) {
        let what = "not a response, or the id differs from the query's";
        return Err(AskError::Malformed(what.to_owned()));
    }
    let reply = parse(message, &query.question)?;
    Ok(Reply { answer: Answer { udp_tc: false, ..reply.answer }, ..reply })
}

fn is_response(message: &[u8], id: u16) -> bool {
    message.starts_with(&id.to_be_bytes()) && message.get(2).is_some_and(|flags| flags & 0x80 != 0)
}

fn parse(message: &[u8], question: &Question) -> Result<Reply, AskError> {
    Reply::parse(message, question).map_err(|error| AskError::Malformed(error.to_string()))
}
