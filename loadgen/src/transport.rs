//! The transports of queries: UDP, TCP, or both.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub const ALL: [Self; Self::COUNT] = [Self::Udp, Self::Tcp];
    pub const COUNT: usize = 2;

    /// Index into arrays kept by transport, in the order of `ALL`.
    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// Which transports the queries use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    One(Transport),
    /// Valid: above 0 and below 1.
    Both {
        tcp_share: f64,
    },
}

impl Mode {
    pub fn includes(self, transport: Transport) -> bool {
        match self {
            Self::One(one) => one == transport,
            Self::Both { .. } => true,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => f.write_str(one.name()),
            Self::Both { tcp_share } => write!(f, "UDP and TCP ({} % TCP)", tcp_share * 100.0),
        }
    }
}
