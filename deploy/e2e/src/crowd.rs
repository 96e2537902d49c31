//! Many clients that send queries at about the same time, each from its own port.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::answer::Answer;
use crate::query::Query;
use crate::question::Question;

/// Pause between two polls of all sockets, and between bursts of queries: larger bursts could
/// overflow a socket buffer of the kernel's default size.
const PAUSE: Duration = Duration::from_millis(1);
const CLIENTS_PER_PAUSE: usize = 8;

/// Sends all queries over UDP and waits up to `limit` for the responses. For each question: the
/// response and how long it took, or `None`.
pub fn ask_at_once(
    server: SocketAddr,
    questions: &[Question],
    limit: Duration,
) -> Vec<Option<(Answer, Duration)>> {
    raise_open_files();
    let clients: Vec<UdpSocket> = questions.iter().map(|_| client(server)).collect();
    let messages: Vec<_> =
        questions.iter().map(|question| Query::plain(question.clone()).message()).collect();
    let began = Instant::now();
    for (index, (client, (_, message))) in clients.iter().zip(&messages).enumerate() {
        client.send(message).expect("room for a datagram");
        if index % CLIENTS_PER_PAUSE == CLIENTS_PER_PAUSE - 1 {
            std::thread::sleep(PAUSE);
        }
    }
    let mut answers = vec![None; questions.len()];
    let mut buffer = [0; 65_535];
    while answers.iter().any(Option::is_none) && began.elapsed() < limit {
        for (index, client) in clients.iter().enumerate() {
            let len = match client.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{}: {error}", questions[index]),
            };
            assert!(buffer[..len].starts_with(&messages[index].0.to_be_bytes()), "its own id");
            let answer = Answer::parse(&buffer[..len], &questions[index]);
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", questions[index]));
            let again = answers[index].replace((answer, began.elapsed()));
            assert!(again.is_none(), "{} was answered twice", questions[index]);
        }
        std::thread::sleep(PAUSE);
    }
    answers
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.connect(server).expect("an address");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

/// Raises the limit on open files as far as allowed: a thousand clients need more than a shell's
/// default.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).expect("a limit that the kernel allows");
}
