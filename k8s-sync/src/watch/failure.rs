//! Classifies errors twice: by what the recovery does, and by what an operator can do.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use super::client::{ConnectError, chain};
use super::recovery::Failure;
use super::request::{ApiError, ServerFailure};
use crate::raw::Kind;

/// What an API server says if its cache has not reached the version that was asked for.
const TOO_LARGE: &str = "Too large resource version";
/// For a 429 without Retry-After.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// Bytes to keep of a server's message. The page of a proxy would fill the log.
const WORDS_LEN_MAX: usize = 300;

/// A failure, explained for the log and /ready.
pub(super) struct Diagnosis {
    pub(super) failure: Failure,
    pub(super) error: String,
    cause: Cause,
}

/// The cause: one variant for each place where an operator has to look.
#[derive(Debug, PartialEq, Eq)]
enum Cause {
    /// A local setting. The text says what to do.
    Setting(Cow<'static, str>),
    Handshake(Handshake),
    /// The server requires TLS, and the request was plain http.
    OnlyTls,
    Proxy,
    NoAddress,
    PortClosed,
    NoRoute,
    TimedOut,
    /// Connected, but no response.
    Silent,
    Cut,
    Unauthorized,
    Forbidden,
    /// 403 for a request without credentials.
    Anonymous,
    NotFound,
    /// 502, 503, 504: from a gateway in front of the API server.
    Gateway,
    /// Not the response of any API server.
    NoApiServer,
    /// An error inside the server, or a temporary one.
    Other,
}

/// What is wrong with the certificates or the protocol of the handshake.
#[derive(Debug, PartialEq, Eq)]
enum Handshake {
    /// The server's certificate is signed by another authority.
    UnknownAuthority,
    /// It is signed by another key than its authority's, or its key is not supported.
    BadSignature,
    /// It is for other names.
    OtherName,
    /// It has expired, or is not valid yet.
    OutOfTime,
    /// It is invalid in another way.
    BadCertificate,
    /// The server rejects our certificate, or requires one.
    CertificateRefused,
    /// No common TLS version or algorithm. Some servers report this when they require a
    /// certificate.
    NoCommonTls,
    /// The server does not use TLS.
    NoTls,
}

impl Diagnosis {
    pub(super) fn of(error: &ApiError) -> Self {
        let (failure, cause) = sort(error);
        Self { failure, error: shortened(&chain(error)), cause }
    }

    /// Diagnoses a failed probe. A faulty response does not mean that the server rejects probes,
    /// for example if etcd is unavailable.
    pub(super) fn of_probe(error: &ApiError) -> Self {
        let diagnosis = Self::of(error);
        match diagnosis.failure {
            Failure::Faulty => Self { failure: Failure::Unreachable, ..diagnosis },
            Failure::Unreachable
            | Failure::Unauthorized
            | Failure::Forbidden
            | Failure::Expired
            | Failure::Behind
            | Failure::Throttled(_)
            | Failure::Refused => diagnosis,
        }
    }

    /// A failure in our own words, with no specific advice.
    pub(super) fn new(failure: Failure, error: &str) -> Self {
        Self { failure, error: error.to_owned(), cause: Cause::Other }
    }

    /// A list that takes too long.
    pub(super) fn endless_list() -> Self {
        Self::new(Failure::Refused, "the list began but does not complete")
    }

    /// What an operator can do about it.
    pub(super) fn next_step(&self, kind: Kind) -> String {
        self.cause.next_step(kind).into_owned()
    }
}

impl Cause {
    fn next_step(&self, kind: Kind) -> Cow<'static, str> {
        let text = match self {
            Self::Setting(next_step) => return next_step.clone(),
            Self::Handshake(handshake) => handshake.next_step(),
            Self::Forbidden => return missing_rule(kind).into(),
            Self::OnlyTls => "write https:// before the server's address",
            Self::Proxy => {
                "does the proxy (proxy-url, else HTTPS_PROXY) allow CONNECT to the server? \
                 NO_PROXY \
                 exempts a server"
            }
            Self::NoAddress => {
                "is the name right, and does it resolve here without ringdns? Use an IP address, \
                 or \
                 set `dnsPolicy: Default` so that the pod does not use the cluster's DNS"
            }
            Self::PortClosed => "is the API server up, and is the port right?",
            Self::NoRoute => "is the address right, and does this machine have a route to it?",
            Self::TimedOut => {
                "is the API server up, and do network policies and firewalls let this pod reach it?"
            }
            Self::Silent => {
                "none if it recovers; otherwise, does a proxy in front of the API server buffer \
                 streams, or is the server overloaded?"
            }
            Self::Cut => {
                "none if it recovers; otherwise, does a balancer or proxy in front of the API \
                 server close connections?"
            }
            Self::Unauthorized => {
                "is the token or client certificate of the kubernetes block still valid?"
            }
            Self::Anonymous => {
                "set a token or client certificate: the request had none (over plain http none is \
                 sent)"
            }
            Self::NotFound if kind == Kind::EndpointSlice => {
                "this API server lacks discovery.k8s.io/v1: use Kubernetes 1.21 or later, or set \
                 `noendpoints`"
            }
            Self::NotFound => "is that the URL of an API server, with its path if it has one?",
            Self::Gateway => "is the API server behind this gateway up? ringdns keeps trying",
            Self::NoApiServer => {
                "is that the URL of an API server? Something else seems to respond there"
            }
            Self::Other => "none: ringdns keeps trying",
        };
        text.into()
    }
}

impl Handshake {
    fn next_step(&self) -> &'static str {
        match self {
            Self::UnknownAuthority => {
                "does the CA of the kubernetes block sign the API server's certificate?"
            }
            Self::BadSignature => {
                "does the CA of the kubernetes block sign the API server's certificate, and are \
                 their keys RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519?"
            }
            Self::OtherName => {
                "use one of the names in the API server's certificate, or set tls-server-name \
                 in the kubeconfig"
            }
            Self::OutOfTime => {
                "renew the API server's certificate; if it is valid, correct this machine's clock"
            }
            Self::BadCertificate => {
                "replace the API server's certificate: `openssl s_client -connect HOST:PORT` shows \
                 it"
            }
            Self::CertificateRefused => {
                "does the API server (or a proxy in front of it) accept the client certificate of \
                 the kubernetes block?"
            }
            Self::NoCommonTls => {
                "does the API server (or a proxy in front of it) accept the client certificate, \
                 and speak TLS 1.2 or 1.3?"
            }
            Self::NoTls => {
                "is that the API server's TLS port? If it serves plain http, write http:// before \
                 it"
            }
        }
    }
}

/// Shortens the message to one line of bounded length.
fn shortened(words: &str) -> String {
    let mut line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > WORDS_LEN_MAX {
        // The end contains the HTTP status.
        let (head, tail) = (WORDS_LEN_MAX * 2 / 3, line.len() - WORDS_LEN_MAX / 3);
        let (head, tail) = (line.floor_char_boundary(head), line.ceil_char_boundary(tail));
        line.replace_range(head..tail, " … ");
    }
    line
}

/// The rule that the ClusterRole lacks, ready to paste.
fn missing_rule(kind: Kind) -> String {
    let (group, plural) = (kind.group(), kind.plural());
    format!(
        "add to the ClusterRole: {{apiGroups: [\"{group}\"], resources: [\"{plural}\"], verbs: \
         [\"list\", \"watch\"]}}"
    )
}

fn sort(error: &ApiError) -> (Failure, Cause) {
    match error {
        ApiError::Transport(error) => sort_transport(&**error),
        ApiError::Silent(_) => (Failure::Unreachable, Cause::Silent),
        ApiError::Foreign(_) | ApiError::Unreadable(_) => (Failure::Faulty, Cause::NoApiServer),
        ApiError::Throttled { retry_after, .. } => (Failure::Throttled(*retry_after), Cause::Other),
        ApiError::Status(failure) => sort_status(failure),
    }
}

/// Classifies errors below kube, from the outermost to the innermost.
fn sort_transport(error: &(dyn Error + 'static)) -> (Failure, Cause) {
    let mut next = Some(error);
    let mut found = Cause::Cut;
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return (Failure::Unauthorized, Cause::Setting(error.next_step.clone()));
        }
        if error.is::<tower::buffer::error::Closed>() {
            // The worker has panicked. Only a new client helps, as for rejected credentials.
            return (Failure::Unauthorized, Cause::Other);
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return (Failure::Unreachable, Cause::Handshake(sort_tls(error)));
        }
        let text = error.to_string();
        if text.starts_with("tunnel error") || text.starts_with("SOCKS error") {
            return (Failure::Unreachable, Cause::Proxy);
        }
        if text == "dns error" {
            return (Failure::Unreachable, Cause::NoAddress);
        }
        let io = error.downcast_ref::<io::Error>();
        if let Some(cause) = io.and_then(sort_io) {
            found = cause;
        }
        // `io::Error::source` skips the error it contains, so look at that one first.
        next = match io.and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    (Failure::Unreachable, found)
}

fn sort_io(error: &io::Error) -> Option<Cause> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Cause::PortClosed),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some(Cause::NoRoute),
        ErrorKind::TimedOut => Some(Cause::TimedOut),
        // Other kinds are classified by the error inside.
        _ => None,
    }
}

fn sort_tls(error: &rustls::Error) -> Handshake {
    match error {
        rustls::Error::InvalidCertificate(cause) => sort_certificate(cause),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired => Handshake::CertificateRefused,
            AlertDescription::UnrecognisedName => Handshake::OtherName,
            _ => Handshake::NoCommonTls,
        },
        rustls::Error::PeerIncompatible(_) => Handshake::NoCommonTls,
        rustls::Error::InvalidMessage(_) => Handshake::NoTls,
        _ => Handshake::NoCommonTls,
    }
}

fn sort_certificate(cause: &CertificateError) -> Handshake {
    match cause {
        CertificateError::UnknownIssuer => Handshake::UnknownAuthority,
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            Handshake::BadSignature
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Handshake::OtherName
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Handshake::OutOfTime,
        // The server presents its authority's certificate as its own.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            Handshake::UnknownAuthority
        }
        _ => Handshake::BadCertificate,
    }
}

fn sort_status(status: &ServerFailure) -> (Failure, Cause) {
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    match status.code {
        401 => (Failure::Unauthorized, Cause::Unauthorized),
        403 if status.message.contains("system:anonymous") => {
            (Failure::Forbidden, Cause::Anonymous)
        }
        403 => (Failure::Forbidden, Cause::Forbidden),
        404 => (Failure::Refused, Cause::NotFound),
        410 => (Failure::Expired, Cause::Other),
        429 if retry_after == 0 => (Failure::Throttled(RETRY_AFTER_DEFAULT), Cause::Other),
        429 | 503 if retry_after != 0 => {
            (Failure::Throttled(Duration::from_secs(u64::from(retry_after))), Cause::Other)
        }
        400 if status.message.contains("HTTPS server") => (Failure::Refused, Cause::OnlyTls),
        504 if status.message.contains(TOO_LARGE) => (Failure::Behind, Cause::Other),
        502..=504 => (Failure::Unreachable, Cause::Gateway),
        400..500 => (Failure::Refused, Cause::Other),
        _ => (Failure::Faulty, Cause::Other),
    }
}

#[cfg(test)]
mod tests;
