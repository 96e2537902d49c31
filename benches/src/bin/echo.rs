//! Servers that only set the QR bit and send the packet back: an upper bound for any server on one
//! core.
//!
//! `uring` and `mmsg` use ringdns's own backends, so the difference to ringdns is the cost of
//! answering. `bare` is plain recvmmsg and sendmmsg, and `tcp` does 64 KiB reads with one write per
//! read: they share no code with ringdns, so they show what its backends cost. `gro` receives and
//! returns runs of datagrams as one buffer: cheaper than any real server, for measuring generators.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use engine::client::ListenerId;
use engine::io::DatagramIo;
use engine::io::bell::Bell;
use engine::io::mmsg::Mmsg;
use engine::io::uring::Uring;
use engine::limits::SOCKET_BUFFER_LEN;
use engine::metrics::{Build, Metrics, ShardMetrics};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    recvmsg, sendmmsg, sendmsg, setsockopt, sockopt,
};
use rustix::event::epoll;

const BATCH: usize = 64;
/// Longer datagrams are cut; queries are shorter.
const PACKET_LEN_MAX: usize = 1536;
const READ_LEN: usize = 64 * 1024;
/// Position and bit of QR (RFC 1035, section 4.1.1).
const FLAGS_AT: usize = 2;
const QR: u8 = 0x80;

/// A server that only sets the QR bit.
#[derive(Parser)]
struct Flags {
    /// Listening address.
    address: SocketAddr,
    /// How packets are moved.
    #[arg(long, value_enum)]
    io: Io,
    /// Core to pin the server to.
    #[arg(long)]
    core: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Io {
    Uring,
    Mmsg,
    Bare,
    Gro,
    Tcp,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(id) = flags.core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        eprintln!("echo: cannot pin to core {id}: this process may not use it");
        return ExitCode::FAILURE;
    }
    let Err(error) = serve(&flags);
    eprintln!("echo: {}: {error}", flags.address);
    ExitCode::FAILURE
}

/// Returned only as an error.
type Never = std::convert::Infallible;

fn serve(flags: &Flags) -> io::Result<Never> {
    match flags.io {
        Io::Uring => datagrams(Uring::new, udp_socket(flags.address)?),
        Io::Mmsg => datagrams(Mmsg::new, udp_socket(flags.address)?),
        Io::Bare => {
            let socket = udp_socket(flags.address)?;
            socket.set_nonblocking(false)?;
            bare(&socket)
        }
        Io::Gro => {
            let socket = udp_socket(flags.address)?;
            socket.set_nonblocking(false)?;
            setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
            trains(&socket)
        }
        Io::Tcp => tcp(&TcpListener::bind(flags.address)?),
    }
}

/// Counters that nothing reads.
fn metrics() -> Arc<ShardMetrics> {
    let build = Build::default();
    Metrics::new(build, 1).shard(0)
}

/// Bound, non-blocking, with ringdns's buffer sizes; without SO_REUSEPORT, so that a leftover
/// server causes an error.
fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // The kernel grants what net.core allows.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER_LEN);
    let _ = setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER_LEN);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The loop of a shard, without the shard.
fn datagrams<I: DatagramIo>(
    new: fn(Rc<Bell>, Arc<ShardMetrics>) -> io::Result<I>,
    socket: UdpSocket,
) -> io::Result<Never> {
    // Nobody rings it.
    let (bell, _ringer) = Bell::new()?;
    let mut io = new(Rc::new(bell), metrics())?;
    io.open(ListenerId(0), socket)?;
    loop {
        io.wait()?;
        while let Some(datagram) = io.next() {
            let len = datagram.packet_len();
            if len > FLAGS_AT {
                io.message(&datagram)[FLAGS_AT] |= QR;
                io.send(datagram, len);
            } else {
                io.recycle(datagram);
            }
        }
    }
}

/// Batches in place, without copying.
fn bare(socket: &UdpSocket) -> io::Result<Never> {
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
            let wait = MsgFlags::MSG_WAITFORONE;
            let Ok(got) = recvmmsg(fd, &mut incoming, &mut slices, wait, None) else {
                continue;
            };
            for message in got {
                (len[count], from[count]) = (message.bytes, message.address);
                count += 1;
            }
        }
        for packet in bytes.chunks_exact_mut(PACKET_LEN_MAX).take(count) {
            packet[FLAGS_AT] |= QR;
        }
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|at| {
            let start = at * PACKET_LEN_MAX;
            [IoSlice::new(&bytes[start..start + len[at]])]
        });
        // Packets may be lost on a network too.
        let _ = sendmmsg(fd, &mut outgoing, &slices[..count], from, [], MsgFlags::empty());
    }
}

/// Datagrams of one length from one peer arrive as one buffer, and leave as one that the kernel
/// cuts again.
fn trains(socket: &UdpSocket) -> io::Result<Never> {
    let fd = socket.as_raw_fd();
    let mut bytes = vec![0u8; READ_LEN];
    let mut control = nix::cmsg_space!(i32);
    loop {
        let (len, segment_len, from) = {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let got =
                recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty());
            let Ok(got) = got else { continue };
            let segment_len = got.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::UdpGroSegments(len) => u16::try_from(len).ok(),
                _ => None,
            });
            (got.bytes, segment_len, got.address)
        };
        let segment_len = segment_len.unwrap_or(len as u16);
        for packet in bytes[..len].chunks_mut(usize::from(segment_len.max(1))) {
            if let Some(flags) = packet.get_mut(FLAGS_AT) {
                *flags |= QR;
            }
        }
        let control = [ControlMessage::UdpGsoSegments(&segment_len)];
        let control = if len > usize::from(segment_len) { &control[..] } else { &[] };
        // Packets may be lost on a network too.
        let _ =
            sendmsg(fd, &[IoSlice::new(&bytes[..len])], control, MsgFlags::empty(), from.as_ref());
    }
}

struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Bytes read but not yet answered.
    len: usize,
}

fn tcp(listener: &TcpListener) -> io::Result<Never> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let new_connection = epoll::EventData::new_u64(u64::MAX);
    epoll::add(&epoll, listener, new_connection, epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(BATCH);
    loop {
        events.clear();
        let _ = epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None);
        for event in &events {
            let token = event.data.u64();
            if token == u64::MAX {
                let Ok((stream, _)) = listener.accept() else { continue };
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let token = epoll::EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &stream, token, epoll::EventFlags::IN)?;
                connections.push(Some(Connection { stream, bytes: vec![0; READ_LEN], len: 0 }));
            } else if let Some(connection) = connections.get_mut(token as usize)
                && connection.as_mut().is_some_and(|connection| connection.answer().is_none())
            {
                *connection = None;
            }
        }
    }
}

impl Connection {
    /// Reads once and answers all complete frames with one write; `None` when the connection is
    /// over.
    fn answer(&mut self) -> Option<()> {
        let Self { stream, bytes, len } = self;
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
            if next <= end + 2 + FLAGS_AT {
                return None;
            }
            bytes[end + 2 + FLAGS_AT] |= QR;
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
}
