//! A relay in front of a real DNS server: it counts the questions, and passes the answers on late,
//! damaged, or not at all.

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

/// How long the server behind may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Connections to the server behind at a time: an eleventh that waits to be accepted by Knot, whose
/// backlog is ten, waits a second.
const CONNECTIONS_MAX: usize = 8;

/// Bytes of a message's header; the question follows.
const HEADER_LEN: usize = 12;

/// Bytes of an OPT record without options.
const OPT_LEN: usize = 11;

/// What becomes of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It is passed on as it is.
    Honest,
    /// It is passed on so much later.
    Late(Duration),
    /// It is lost, as is the question.
    Silent,
    /// Random bytes come instead.
    Noise,
    /// The last bytes are missing: the right id and question, and then nonsense.
    Clipped,
    /// It has another id.
    WrongId,
    /// It answers another name.
    WrongQuestion,
    /// Over UDP it has TC and no records; over TCP it is whole.
    Cut,
    /// Sixteen others come first, which guess the id.
    Spoofed,
    /// It brings addresses of a name that nobody asked for, in the answer and in the additional
    /// section. Its last record must be OPT.
    Stuffed,
    /// It has no records, and this response code.
    Rcode(u8),
}

/// A question that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub question: Question,
    pub id: u16,
    /// The port that it came from.
    pub port: u16,
    pub is_over_tcp: bool,
}

/// A running relay, over UDP and TCP. Its thread ends with the test's process.
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: SocketAddr,
    /// By zone, the latest first.
    manners: Mutex<Vec<(String, Manner)>>,
    asked: Mutex<Vec<Asked>>,
    connections: Semaphore,
}

impl Relay {
    /// Honest, in front of `server`.
    pub fn start(server: SocketAddr) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, port::free()).into(), server)
    }

    /// As [`start`](Self::start), at an address that is free.
    pub fn start_at(address: SocketAddr, server: SocketAddr) -> Self {
        let state = Arc::new(State {
            server,
            manners: Mutex::default(),
            asked: Mutex::default(),
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

    /// From now on questions at or below `zone`, in lower case with its last dot, are treated so.
    pub fn behave(&self, zone: &str, manner: Manner) {
        lock(&self.state.manners).insert(0, (zone.to_owned(), manner));
    }

    /// The questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state.asked).clone()
    }

    /// How often a name was asked for; it is given in lower case.
    pub fn count(&self, name: &str) -> usize {
        lock(&self.state.asked).iter().filter(|asked| asked.question.key() == name).count()
    }

    /// Forgets the questions so far.
    pub fn forget(&self) {
        lock(&self.state.asked).clear();
    }
}

impl State {
    fn note(&self, query: &[u8], from: SocketAddr, is_over_tcp: bool) -> Option<Question> {
        let message = Message::from_slice(query).ok()?;
        let question = message.sole_question().ok()?;
        let name = question.qname().fmt_with_dot().to_string();
        let question = Question::new(name, question.qtype());
        let id = message.header().id();
        let asked = Asked { question: question.clone(), id, port: from.port(), is_over_tcp };
        lock(&self.asked).push(asked);
        Some(question)
    }

    fn manner(&self, question: &Question) -> Manner {
        let name = question.key();
        let manners = lock(&self.manners);
        let found = manners.iter().find(|(zone, _)| zone == "." || is_at_or_below(&name, zone));
        found.map_or(Manner::Honest, |(_, manner)| *manner)
    }

    /// What the client is sent, in this order.
    async fn answers(&self, query: &[u8], question: &Question, is_over_tcp: bool) -> Vec<Vec<u8>> {
        let manner = self.manner(question);
        if manner == Manner::Silent {
            return Vec::new();
        }
        let asking = async {
            if is_over_tcp {
                self.ask_over_tcp(query).await
            } else {
                self.ask_over_udp(query).await
            }
        };
        let Ok(Ok(answer)) = timeout(LIMIT, asking).await else { return Vec::new() };
        if let Manner::Late(delay) = manner {
            sleep(delay).await;
        }
        treat(manner, answer, is_over_tcp)
    }

    async fn ask_over_udp(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(self.server).await?;
        socket.send(query).await?;
        let mut answer = vec![0; 65_535];
        let len = socket.recv(&mut answer).await?;
        answer.truncate(len);
        Ok(answer)
    }

    async fn ask_over_tcp(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let _permit = self.connections.acquire().await.map_err(io::Error::other)?;
        let mut stream = TcpStream::connect(self.server).await?;
        stream.write_all(&framed(query)).await?;
        read_message(&mut stream).await
    }
}

fn treat(manner: Manner, mut answer: Vec<u8>, is_over_tcp: bool) -> Vec<Vec<u8>> {
    match manner {
        Manner::Honest | Manner::Late(_) => {}
        Manner::Silent => return Vec::new(),
        Manner::Noise => {
            let len = fastrand::usize(HEADER_LEN..200);
            return vec![std::iter::repeat_with(|| fastrand::u8(..)).take(len).collect()];
        }
        Manner::Clipped => answer.truncate(answer.len() - 3),
        Manner::WrongId => answer[1] ^= 0x55,
        Manner::WrongQuestion => answer[HEADER_LEN + 1] ^= 0x01,
        Manner::Cut if is_over_tcp => {}
        Manner::Cut => {
            let mut cut = without_records(&answer);
            cut[2] |= 0x02;
            return vec![cut];
        }
        Manner::Spoofed => {
            let guess = |id: u8| {
                let mut guess = answer.clone();
                guess[1] ^= id;
                guess
            };
            return (1..=16).map(guess).chain([answer.clone()]).collect();
        }
        Manner::Stuffed => {
            let opt = answer.split_off(answer.len() - OPT_LEN);
            // victim.example. 300 IN A 192.0.2.66
            let name = b"\x06victim\x07example\x00";
            let foreign = [&name[..], b"\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x42"].concat();
            let stuffed = [&answer[..], &foreign, &opt, &foreign].concat();
            answer = stuffed;
            // ANCOUNT and ARCOUNT.
            answer[7] += 1;
            answer[11] += 1;
        }
        Manner::Rcode(rcode) => {
            // A server that knows EDNS says so in its errors, too (RFC 6891, section 6.1.1).
            let has_opt = Message::from_slice(&answer).is_ok_and(|message| message.opt().is_some());
            let mut error = without_records(&answer);
            error[3] = error[3] & 0xF0 | rcode;
            if has_opt {
                error.extend(&answer[answer.len() - OPT_LEN..]);
                error[11] = 1;
            }
            return vec![error];
        }
    }
    vec![answer]
}

/// Header and question alone.
fn without_records(answer: &[u8]) -> Vec<u8> {
    let message = Message::from_slice(answer).expect("an answer of a real server");
    let question = message.sole_question().expect("its question");
    let name: Name<Vec<u8>> = question.qname().to_name();
    let mut kept = answer[..HEADER_LEN + name.as_slice().len() + 4].to_vec();
    kept[6..HEADER_LEN].fill(0);
    kept
}

async fn serve(
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    state: Arc<State>,
) -> io::Result<()> {
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let (udp, tcp) = (Arc::new(UdpSocket::from_std(udp)?), TcpListener::from_std(tcp)?);
    tokio::spawn(serve_streams(tcp, Arc::clone(&state)));
    let mut buffer = [0; 4096];
    loop {
        let (len, client) = udp.recv_from(&mut buffer).await?;
        let query = buffer[..len].to_vec();
        let Some(question) = state.note(&query, client, false) else { continue };
        let (udp, state) = (Arc::clone(&udp), Arc::clone(&state));
        tokio::spawn(async move {
            for answer in state.answers(&query, &question, false).await {
                // A client that is gone is no concern of the relay's.
                let _ = udp.send_to(&answer, client).await;
            }
        });
    }
}

async fn serve_streams(tcp: TcpListener, state: Arc<State>) {
    while let Ok((stream, client)) = tcp.accept().await {
        tokio::spawn(serve_stream(stream, client, Arc::clone(&state)));
    }
}

/// Questions of one connection overtake each other, as a resolver's may (RFC 7766, section 7).
async fn serve_stream(stream: TcpStream, client: SocketAddr, state: Arc<State>) {
    let (mut reader, mut writer) = stream.into_split();
    let (answers, mut outbox) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(answer) = outbox.recv().await {
            if writer.write_all(&framed(&answer)).await.is_err() {
                return;
            }
        }
    });
    while let Ok(query) = read_message(&mut reader).await {
        let Some(question) = state.note(&query, client, true) else { return };
        let (answers, state) = (answers.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            for answer in state.answers(&query, &question, true).await {
                let _ = answers.send(answer);
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

/// What it guards is whole at every moment, so a panic elsewhere is no reason to panic here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
