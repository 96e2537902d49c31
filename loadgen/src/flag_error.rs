//! The errors in the flags, and their messages.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagError {
    DnsperfOnly { flag: &'static str, instead: &'static str },
    Server { host: String, reason: String },
    OutOfRange { flag: &'static str, range: &'static str },
    FewerClientsThanThreads,
    FewerOutstandingThanThreads,
    NoQueries,
    NoServers,
    ManifestsNeeded,
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DnsperfOnly { flag, instead } => {
                write!(f, "{flag} is a dnsperf flag that loadgen does not support: {instead}")
            }
            Self::Server { host, reason } => write!(f, "-s {host}: {reason}"),
            Self::OutOfRange { flag, range } => write!(f, "{flag} must be {range}"),
            Self::FewerClientsThanThreads => {
                write!(f, "-c must not be below -T: each thread needs its own socket")
            }
            Self::FewerOutstandingThanThreads => {
                write!(f, "-q must not be below -T: each thread needs room for one query")
            }
            Self::NoServers => {
                write!(
                    f,
                    "nothing to compare: name two servers, A=HOST:PORT B=HOST:PORT, or use \
                     --against coredns"
                )
            }
            Self::ManifestsNeeded => write!(
                f,
                "--against needs the cluster to serve, for example --from deploy/example/cluster"
            ),
            Self::NoQueries => write!(
                f,
                "no queries: give a query file with -d, or a cluster's manifests with --from"
            ),
        }
    }
}

impl std::error::Error for FlagError {}
