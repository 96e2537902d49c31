//! A server that only flips the QR bit: what the kernel lets any server do at most, on one core.
//!
//! `cargo run --release -p loadgen --example echo -- udp|tcp 127.0.0.1:5300 [CORE]`
#![forbid(unsafe_code)]

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use rustix::event::epoll;

const BATCH: usize = 64;
const PACKET_LEN_MAX: usize = 2112;
const READ_LEN: usize = 64 * 1024;

fn main() {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_else(|| "udp".to_owned());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:5300".to_owned());
    if let Some(core) = args.next().and_then(|core| core.parse().ok()) {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
    }
    match mode.as_str() {
        "tcp" => tcp(&address),
        "udp" => udp(&address),
        _ => eprintln!("usage: echo udp|tcp ADDRESS:PORT [CORE]"),
    }
}

fn udp(address: &str) {
    let socket = UdpSocket::bind(address).expect("the port is free");
    let fd = socket.as_raw_fd();
    let headers = || MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let (mut incoming, mut outgoing) = (headers(), headers());
    let mut bytes = vec![0u8; BATCH * PACKET_LEN_MAX];
    loop {
        let (mut len, mut from) = ([0; BATCH], [None; BATCH]);
        let mut count = 0;
        {
            let mut chunks = bytes.chunks_exact_mut(PACKET_LEN_MAX);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
                [IoSliceMut::new(chunks.next().expect("a chunk for each"))]
            });
            let Ok(got) = recvmmsg(fd, &mut incoming, &mut slices, MsgFlags::MSG_WAITFORONE, None)
            else {
                continue;
            };
            for message in got {
                (len[count], from[count]) = (message.bytes, message.address);
                count += 1;
            }
        }
        for packet in bytes.chunks_exact_mut(PACKET_LEN_MAX).take(count) {
            packet[2] |= 0x80;
        }
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|at| {
            let start = at * PACKET_LEN_MAX;
            [IoSlice::new(&bytes[start..start + len[at]])]
        });
        let _ = sendmmsg(fd, &mut outgoing, &slices[..count], from, [], MsgFlags::empty());
    }
}

fn tcp(address: &str) {
    let listener = TcpListener::bind(address).expect("the port is free");
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll is there");
    let listener_token = epoll::EventData::new_u64(u64::MAX);
    epoll::add(&epoll, &listener, listener_token, epoll::EventFlags::IN)
        .expect("a new socket can be watched");
    let mut connections: Vec<Option<(TcpStream, Vec<u8>, usize)>> = Vec::new();
    let mut events = Vec::with_capacity(BATCH);
    loop {
        events.clear();
        let _ = epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None);
        for event in &events {
            let token = event.data.u64();
            if token == u64::MAX {
                let Ok((stream, _)) = listener.accept() else { continue };
                let token = epoll::EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &stream, token, epoll::EventFlags::IN)
                    .expect("a new socket can be watched");
                connections.push(Some((stream, vec![0; READ_LEN], 0)));
            } else if let Some(connection) = connections.get_mut(token as usize)
                && connection.as_mut().is_some_and(|connection| answer(connection).is_none())
            {
                *connection = None;
            }
        }
    }
}

/// Reads once and answers every whole frame with one write; `None` when the connection is over.
fn answer((stream, bytes, len): &mut (TcpStream, Vec<u8>, usize)) -> Option<()> {
    match stream.read(&mut bytes[*len..]) {
        Ok(0) => return None,
        Ok(read) => *len += read,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
        Err(_) => return None,
    }
    let mut end = 0;
    while let Some(frame) = bytes[end..*len].first_chunk::<2>() {
        let next = end + 2 + usize::from(u16::from_be_bytes(*frame));
        if next > *len {
            break;
        }
        bytes[end + 4] |= 0x80;
        end = next;
    }
    let mut written = 0;
    while written < end {
        match stream.write(&bytes[written..end]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return None,
        }
    }
    bytes.copy_within(end..*len, 0);
    *len -= end;
    Some(())
}
