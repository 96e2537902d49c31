//! A relay in front of a real DNS server: it counts queries, and passes responses on late, damaged,
//! or not at all.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::base::name::ToName;
use domain::base::{Message, Name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::port;
use crate::question::Question;
use crate::quirk::is_at_or_below;

/// How long the server behind it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Concurrent connections to the server behind it. Knot's backlog is ten; an eleventh connection
/// would wait a second to be accepted.
const CONNECTIONS_MAX: usize = 8;

/// Length of a message's header; the question follows.
const HEADER_LEN: usize = 12;

/// Length of an OPT record without options.
const OPT_LEN: usize = 11;

/// What the relay does with responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Passes them on unchanged.
    Honest,
    /// Passes them on after this delay.
    Late(Duration),
    /// Drops both the query and the response.
    Silent,
    /// Sends random bytes instead.
    Noise,
    /// Cuts off the last bytes: the right id and question, then garbage.
    Clipped,
    /// Changes the id.
    WrongId,
    /// Changes the name in the question.
    WrongQuestion,
    /// Over UDP sets TC and removes the records; over TCP passes on the whole response.
    Cut,
    /// Sends sixteen forged responses first, with guessed ids.
    Spoofed,
    /// Adds addresses of an unrelated name to the answer and additional sections. The response's
    /// last record must be OPT.
    Stuffed,
    /// Responds with no records and this response code.
    Rcode(u8),
}

/// A query that the relay received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedQuery {
    pub question: Question,
    pub id: u16,
    /// The source port.
    pub port: u16,
    pub is_over_tcp: bool,
}

/// A running relay over UDP and TCP. Its thread ends with the test's process.
pub struct Relay {
    address: SocketAddr,
    state: Arc<RelayState>,
}

struct RelayState {
    server: SocketAddr,
    /// By zone, the latest first.
    behaviours: Mutex<Vec<(String, Behaviour)>>,
    received: Mutex<Vec<ReceivedQuery>>,
    connections: Semaphore,
}

impl Relay {
    /// Starts it in front of `server`, passing everything on unchanged.
    pub fn start(server: SocketAddr) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, port::free()).into(), server)
    }

    /// Like [`start`](Self::start), at the given free address.
    pub fn start_at(address: SocketAddr, server: SocketAddr) -> Self {
        let state = Arc::new(RelayState {
            server,
            behaviours: Mutex::default(),
            received: Mutex::default(),
            connections: Semaphore::new(CONNECTIONS_MAX),
        });
        let udp = std::net::UdpSocket::bind(address).expect("a port that was free");
        let tcp = std::net::TcpListener::bind(address).expect("a port that was free");
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let serving = serve(udp, tcp, served);
            runtime.expect("a runtime").block_on(serving).expect("two sockets");
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, applies `behaviour` to queries at or below `zone`, in lower case with its final
    /// dot.
    pub fn behave(&self, zone: &str, behaviour: Behaviour) {
        lock(&self.state.behaviours).insert(0, (zone.to_owned(), behaviour));
    }

    /// The queries so far.
    pub fn queries(&self) -> Vec<ReceivedQuery> {
        lock(&self.state.received).clone()
    }

    /// How often a name, given in lower case, was queried.
    pub fn count(&self, name: &str) -> usize {
        lock(&self.state.received).iter().filter(|query| query.question.key() == name).count()
    }

    /// Forgets the queries so far.
    pub fn forget(&self) {
        lock(&self.state.received).clear();
    }
}

impl RelayState {
    fn record(&self, query: &[u8], from: SocketAddr, is_over_tcp: bool) -> Option<Question> {
        let message = Message::from_slice(query).ok()?;
        let question = message.sole_question().ok()?;
        let name = question.qname().fmt_with_dot().to_string();
        let question = Question::new(name, question.qtype());
        let id = message.header().id();
        let received =
            ReceivedQuery { question: question.clone(), id, port: from.port(), is_over_tcp };
        lock(&self.received).push(received);
        Some(question)
    }

    fn behaviour(&self, question: &Question) -> Behaviour {
        let name = question.key();
        let behaviours = lock(&self.behaviours);
        let found = behaviours.iter().find(|(zone, _)| zone == "." || is_at_or_below(&name, zone));
        found.map_or(Behaviour::Honest, |(_, behaviour)| *behaviour)
    }

    /// The messages to send to the client, in order.
    async fn responses(
        &self,
        query: &[u8],
        question: &Question,
        is_over_tcp: bool,
    ) -> Vec<Vec<u8>> {
        let behaviour = self.behaviour(question);
        if behaviour == Behaviour::Silent {
            return Vec::new();
        }
        let forwarded = async {
            if is_over_tcp {
                self.forward_over_tcp(query).await
            } else {
                self.forward_over_udp(query).await
            }
        };
        let Ok(Ok(response)) = timeout(LIMIT, forwarded).await else { return Vec::new() };
        if let Behaviour::Late(delay) = behaviour {
            sleep(delay).await;
        }
        apply(behaviour, response, is_over_tcp)
    }

    async fn forward_over_udp(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(self.server).await?;
        socket.send(query).await?;
        let mut answer = vec![0; 65_535];
        let len = socket.recv(&mut answer).await?;
        answer.truncate(len);
        Ok(answer)
    }

    async fn forward_over_tcp(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let _permit = self.connections.acquire().await.map_err(io::Error::other)?;
        let mut stream = TcpStream::connect(self.server).await?;
        stream.write_all(&framed(query)).await?;
        read_message(&mut stream).await
    }
}

fn apply(behaviour: Behaviour, mut response: Vec<u8>, is_over_tcp: bool) -> Vec<Vec<u8>> {
    match behaviour {
        Behaviour::Honest | Behaviour::Late(_) => {}
        Behaviour::Silent => return Vec::new(),
        Behaviour::Noise => {
            let len = fastrand::usize(HEADER_LEN..200);
            return vec![std::iter::repeat_with(|| fastrand::u8(..)).take(len).collect()];
        }
        Behaviour::Clipped => response.truncate(response.len() - 3),
        Behaviour::WrongId => response[1] ^= 0x55,
        Behaviour::WrongQuestion => response[HEADER_LEN + 1] ^= 0x01,
        Behaviour::Cut if is_over_tcp => {}
        Behaviour::Cut => {
            let mut cut = without_records(&response);
            cut[2] |= 0x02;
            return vec![cut];
        }
        Behaviour::Spoofed => {
            let guess = |id: u8| {
                let mut guess = response.clone();
                guess[1] ^= id;
                guess
            };
            return (1..=16).map(guess).chain([response.clone()]).collect();
        }
        Behaviour::Stuffed => {
            let opt = response.split_off(response.len() - OPT_LEN);
            // victim.example. 300 IN A 192.0.2.66
            let name = b"\x06victim\x07example\x00";
            let foreign = [&name[..], b"\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x42"].concat();
            let stuffed = [&response[..], &foreign, &opt, &foreign].concat();
            response = stuffed;
            // ANCOUNT and ARCOUNT.
            response[7] += 1;
            response[11] += 1;
        }
        Behaviour::Rcode(rcode) => {
            // A server with EDNS uses it in errors too (RFC 6891, section 6.1.1).
            let has_opt =
                Message::from_slice(&response).is_ok_and(|message| message.opt().is_some());
            let mut error = without_records(&response);
            error[3] = error[3] & 0xF0 | rcode;
            if has_opt {
                error.extend(&response[response.len() - OPT_LEN..]);
                error[11] = 1;
            }
            return vec![error];
        }
    }
    vec![response]
}

/// Header and question alone.
fn without_records(response: &[u8]) -> Vec<u8> {
    let message = Message::from_slice(response).expect("a response of a real server");
    let question = message.sole_question().expect("its question");
    let name: Name<Vec<u8>> = question.qname().to_name();
    let mut kept = response[..HEADER_LEN + name.as_slice().len() + 4].to_vec();
    kept[6..HEADER_LEN].fill(0);
    kept
}

async fn serve(
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    state: Arc<RelayState>,
) -> io::Result<()> {
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let (udp, tcp) = (Arc::new(UdpSocket::from_std(udp)?), TcpListener::from_std(tcp)?);
    tokio::spawn(serve_streams(tcp, Arc::clone(&state)));
    let mut buffer = [0; 4096];
    loop {
        let (len, client) = udp.recv_from(&mut buffer).await?;
        let query = buffer[..len].to_vec();
        let Some(question) = state.record(&query, client, false) else { continue };
        let (udp, state) = (Arc::clone(&udp), Arc::clone(&state));
        tokio::spawn(async move {
            for response in state.responses(&query, &question, false).await {
                // A client that is gone does not matter.
                let _ = udp.send_to(&response, client).await;
            }
        });
    }
}

async fn serve_streams(tcp: TcpListener, state: Arc<RelayState>) {
    while let Ok((stream, client)) = tcp.accept().await {
        tokio::spawn(serve_stream(stream, client, Arc::clone(&state)));
    }
}

/// Responses on one connection may be out of order, as a resolver's may (RFC 7766, section 7).
async fn serve_stream(stream: TcpStream, client: SocketAddr, state: Arc<RelayState>) {
    let (mut reader, mut writer) = stream.into_split();
    let (responses, mut outbox) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(response) = outbox.recv().await {
            if writer.write_all(&framed(&response)).await.is_err() {
                return;
            }
        }
    });
    while let Ok(query) = read_message(&mut reader).await {
        let Some(question) = state.record(&query, client, true) else { return };
        let (responses, state) = (responses.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            for response in state.responses(&query, &question, true).await {
                let _ = responses.send(response);
            }
        });
    }
}

async fn read_message(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).expect("a message");
    [&len.to_be_bytes()[..], message].concat()
}

/// The protected data is always consistent, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
