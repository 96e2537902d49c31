//! What a connection reads from and writes to: a TCP stream as it is, or TLS over one (RFC 7858).
//!
//! Invariant: nothing here waits, except `readable` and `writable`.

use std::io::{self, Read as _, Write as _};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;

use crate::limits::{TLS_READS_MAX, TLS_UNSENT_LEN_MAX};

/// The bytes of one client.
pub(super) trait ClientStream {
    /// Waits until there may be something to read.
    async fn readable(&self) -> io::Result<()>;

    /// Waits until something can be written.
    async fn writable(&self) -> io::Result<()>;

    /// Reads what is there. 0: the peer sends no more.
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what finds room, and returns how much.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether written bytes are still here, and need another `try_write`.
    fn has_unsent(&self) -> bool;
}

impl ClientStream for TcpStream {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    async fn writable(&self) -> io::Result<()> {
        Self::writable(self).await
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_all(self, buffer)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn has_unsent(&self) -> bool {
        false
    }
}

/// Reads what is there. If that is less than fits, the socket is empty, and `readable` waits for
/// more: with `try_read`, a second read would have to find that out.
fn read_all(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    let read = stream.try_io(Interest::READABLE, || {
        len = rustix::io::read(stream, &mut *buffer)?;
        let is_empty = 0 < len && len < buffer.len();
        if is_empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match read {
        Err(error) if len == 0 => Err(error),
        Ok(()) | Err(_) => Ok(len),
    }
}

/// A TLS session after its handshake.
pub(super) struct TlsStream {
    stream: TcpStream,
    session: ServerConnection,
    /// The session may hold bytes that were decrypted and not read, or its end, for which no socket
    /// wakes.
    may_hold_bytes: bool,
    /// The peer has said that no more follows.
    has_ended: bool,
}

impl TlsStream {
    pub(super) fn new(stream: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(TLS_UNSENT_LEN_MAX));
        // The client's first query may have come with the end of its handshake.
        Self { stream, session, may_hold_bytes: true, has_ended: false }
    }

    /// Sends encrypted bytes.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut Ciphertext(&self.stream))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

impl ClientStream for TlsStream {
    async fn readable(&self) -> io::Result<()> {
        if self.may_hold_bytes {
            return Ok(());
        }
        self.stream.readable().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.may_hold_bytes = false;
        for _ in 0..TLS_READS_MAX {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many clients close the connection without an end of the session.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => {
                    let is_full = read.as_ref().is_ok_and(|len| *len == buffer.len());
                    self.may_hold_bytes = is_full || self.has_ended;
                    return read;
                }
            }
            self.session.read_tls(&mut Ciphertext(&self.stream))?;
            match self.session.process_new_packets() {
                Ok(state) => self.has_ended |= state.peer_has_closed(),
                Err(error) => {
                    // The alert says why; whether it arrives makes no difference.
                    let _ = self.send();
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        // Others have a turn. The last read may have decrypted a query and emptied the socket.
        self.may_hold_bytes = true;
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?;
        let taken = self.session.writer().write(bytes)?;
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(taken),
        }
    }

    fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }
}

impl Drop for TlsStream {
    /// Says that no more follows, if there is room for it.
    fn drop(&mut self) {
        self.session.send_close_notify();
        let _ = self.send();
    }
}

/// The socket, as the session uses it.
struct Ciphertext<'s>(&'s TcpStream);

impl io::Read for Ciphertext<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_all(self.0, buffer)
    }
}

impl io::Write for Ciphertext<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
