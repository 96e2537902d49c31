//! Why a query to upstreams failed, as the `errors` log says it: in CoreDNS's words, which
//! operators grep for.
//!
//! Invariant: the cause comes last, since `consolidate` patterns in Corefiles end in `i/o timeout$`
//! and the like.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use wire::header::Rcode;

/// Why a question got no response from upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardFailure {
    /// As many queries are in flight as `max_concurrent`, or our own bound for a shard, allows.
    TooMany { max: usize },
    /// Every upstream is down or loops, and none may be tried.
    NoneHealthy,
    /// The last upstream that was tried failed.
    Exchange(ExchangeFailure),
}

/// A failed exchange with one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeFailure {
    pub protocol: UpstreamProtocol,
    /// Our address, if a socket was bound.
    pub from: Option<SocketAddr>,
    pub to: SocketAddr,
    pub cause: FailureCause,
}

/// The protocol of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    Udp,
    Tcp,
    Tls,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// No connection in time.
    ConnectTimeout,
    /// The kernel's error for a new socket: `strerror`'s words in lower case, like Go's.
    Connect(String),
    /// rustls's error for the upstream's handshake or certificate.
    Handshake(String),
    /// No response in time.
    ReadTimeout,
    /// The kernel's error; over UDP what ICMP reported.
    Read(String),
    Write(String),
    /// The upstream closed the connection.
    Closed,
    /// The response cannot be parsed.
    Malformed,
    /// Over TCP: the response is for another query.
    Foreign,
}

impl FailureCause {
    pub(super) fn connect(error: &io::Error) -> Self {
        Self::Connect(words(error))
    }

    pub(super) fn read(error: &io::Error) -> Self {
        Self::Read(words(error))
    }

    pub(super) fn write(error: &io::Error) -> Self {
        Self::Write(words(error))
    }
}

fn words(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl ForwardFailure {
    /// The response code that the client gets.
    #[must_use]
    pub fn rcode(&self) -> Rcode {
        match self {
            Self::TooMany { .. } => Rcode::Refused,
            Self::NoneHealthy | Self::Exchange(_) => Rcode::ServFail,
        }
    }
}

impl fmt::Display for ForwardFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { max } => {
                write!(formatter, "concurrent queries exceeded maximum {max}")
            }
            Self::NoneHealthy => write!(formatter, "no healthy proxies"),
            Self::Exchange(failure) => write!(formatter, "{failure}"),
        }
    }
}

impl fmt::Display for ExchangeFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, from, to, cause } = self;
        let network = match protocol {
            UpstreamProtocol::Udp => "udp",
            UpstreamProtocol::Tcp | UpstreamProtocol::Tls => "tcp",
        };
        let path = match from {
            Some(from) => format!("{from}->{to}"),
            None => to.to_string(),
        };
        match cause {
            FailureCause::ConnectTimeout => write!(formatter, "dial {network} {to}: i/o timeout"),
            FailureCause::Connect(words) => {
                write!(formatter, "dial {network} {to}: connect: {words}")
            }
            FailureCause::Handshake(error) => write!(formatter, "{to}: tls: {error}"),
            FailureCause::ReadTimeout => write!(formatter, "read {network} {path}: i/o timeout"),
            FailureCause::Read(words) => write!(formatter, "read {network} {path}: read: {words}"),
            FailureCause::Write(words) => {
                write!(formatter, "write {network} {path}: write: {words}")
            }
            FailureCause::Closed => write!(formatter, "read {network} {path}: EOF"),
            FailureCause::Malformed => write!(formatter, "{network} {path}: malformed answer"),
            FailureCause::Foreign => {
                write!(formatter, "{network} {path}: answer to another question")
            }
        }
    }
}

impl std::error::Error for ForwardFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: UpstreamProtocol, from: Option<&str>, cause: FailureCause, expected: &str) {
        let from = from.map(|from| from.parse().unwrap());
        let to = "10.0.0.1:53".parse().unwrap();
        let failure = ForwardFailure::Exchange(ExchangeFailure { protocol, from, to, cause });
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.rcode(), Rcode::ServFail);
    }

    #[test]
    fn messages_match_patterns_written_for_coredns() {
        let from = Some("10.0.0.9:4711");
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        check(
            UpstreamProtocol::Udp,
            from,
            FailureCause::ReadTimeout,
            "read udp 10.0.0.9:4711->10.0.0.1:53: i/o timeout",
        );
        check(
            UpstreamProtocol::Udp,
            from,
            FailureCause::read(&refused),
            "read udp 10.0.0.9:4711->10.0.0.1:53: read: connection refused",
        );
        check(
            UpstreamProtocol::Tls,
            None,
            FailureCause::ConnectTimeout,
            "dial tcp 10.0.0.1:53: i/o timeout",
        );
        check(
            UpstreamProtocol::Tcp,
            None,
            FailureCause::connect(&refused),
            "dial tcp 10.0.0.1:53: connect: connection refused",
        );
        let too_many = ForwardFailure::TooMany { max: 7 };
        assert_eq!(too_many.to_string(), "concurrent queries exceeded maximum 7");
        assert_eq!(too_many.rcode(), Rcode::Refused);
        assert_eq!(ForwardFailure::NoneHealthy.to_string(), "no healthy proxies");
    }
}
