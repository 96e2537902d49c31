//! kube's errors, sorted twice: by what the recovery does about them, and by what an operator can.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use super::client::{ConnectError, chain};
use super::layer::{ForeignResponse, SilentServer, Throttled};
use super::recovery::Failure;
use crate::raw::Kind;

/// Where a 429 names no time.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// Of a server's words: a proxy's page would fill the log.
const WORDS_LEN_MAX: usize = 300;

/// What went wrong, for the log and /ready.
pub(super) struct Diagnosis {
    pub(super) failure: Failure,
    pub(super) error: String,
    cause: Cause,
}

/// What is wrong, as far as an operator has to look in different places for it.
#[derive(Debug, PartialEq, Eq)]
enum Cause {
    /// On this side, with what to do about it.
    Setting(Cow<'static, str>),
    Handshake(Handshake),
    /// What is there speaks TLS, and was asked without.
    OnlyTls,
    Proxy,
    NoAddress,
    PortClosed,
    NoRoute,
    TimedOut,
    /// Connected, and asked in vain.
    Silent,
    Cut,
    Unauthorized,
    Forbidden,
    /// 403, for a request without credentials.
    Anonymous,
    NotFound,
    /// 502, 503, 504: of what stands before the API server.
    Gateway,
    /// It can be read by no client of an API server.
    NoApiServer,
    /// The server's own, or a passing one.
    Other,
}

/// What is wrong with the certificates of both sides, or with how they speak.
#[derive(Debug, PartialEq, Eq)]
enum Handshake {
    /// The server's certificate is of somebody else's authority.
    UnknownAuthority,
    /// … is signed by another key than its authority's, or has a key that is not supported.
    BadSignature,
    /// … is for other names.
    OtherName,
    /// … is too old or too new.
    OutOfTime,
    /// … is wrong in another way.
    BadCertificate,
    /// The server does not take our certificate, or misses one.
    CertificateRefused,
    /// No version or algorithm of TLS that both know; some servers say so where they miss a
    /// certificate.
    NoCommonTls,
    /// What is there speaks no TLS.
    NoTls,
}

impl Diagnosis {
    pub(super) fn of(error: &watcher::Error) -> Self {
        let (failure, cause) = sort(error);
        Self { failure, error: shortened(&words(error)), cause }
    }

    /// Of a probe, which compares nothing where the server does not take the question: only a 4xx says so. Any other answer is
    /// none, as of a server whose etcd is away.
    pub(super) fn of_probe(error: &watcher::Error) -> Self {
        let trouble = Self::of(error);
        match (trouble.failure, error) {
            (Failure::Refused, watcher::Error::InitialListFailed(kube::Error::Api(status)))
                if (400..500).contains(&status.code) =>
            {
                trouble
            }
            (Failure::Refused, _) => Self { failure: Failure::Unreachable, ..trouble },
            (
                Failure::Unreachable
                | Failure::Unauthorized
                | Failure::Forbidden
                | Failure::Expired
                | Failure::Throttled(_),
                _,
            ) => trouble,
        }
    }

    /// What is told in our words, and needs nobody.
    pub(super) fn new(failure: Failure, error: &str) -> Self {
        Self { failure, error: error.to_owned(), cause: Cause::Other }
    }

    /// A list that takes too long.
    pub(super) fn endless_list() -> Self {
        Self::new(Failure::Refused, "the list has begun but does not come to its end")
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
                "does the proxy (proxy-url, else HTTPS_PROXY) let CONNECT through to it? NO_PROXY \
                 excepts a server"
            }
            Self::NoAddress => {
                "is the name right, and can it be resolved here without ringdns? An address needs \
                 no DNS, nor does `dnsPolicy: Default` need the cluster's"
            }
            Self::PortClosed => "is the API server up, and is the port right?",
            Self::NoRoute => "is the address right, and does this machine have a route to it?",
            Self::TimedOut => {
                "is the API server up, and do network policies and firewalls let this pod reach it?"
            }
            Self::Silent => {
                "none if it passes; else, does a proxy before the API server hold back what is \
                 streamed, or has the server too much to do?"
            }
            Self::Cut => {
                "none if it passes; else, does a balancer or proxy before the API server close \
                 connections?"
            }
            Self::Unauthorized => {
                "is the token or client certificate of the kubernetes block still valid?"
            }
            Self::Anonymous => {
                "set a token or client certificate: the API server was asked without (over plain \
                 http none is sent)"
            }
            Self::NotFound if kind == Kind::EndpointSlice => {
                "this API server has no discovery.k8s.io/v1; Kubernetes 1.21 and later have, and \
                 `noendpoints` does without"
            }
            Self::NotFound => "is that the URL of an API server, with its path if it has one?",
            Self::Gateway => {
                "is the API server up behind what answers here? It is tried again until it works"
            }
            Self::NoApiServer => {
                "is that the URL of an API server? Something else seems to answer there"
            }
            Self::Other => "none: it is tried again until it works",
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
                "ask for one of the names in the API server's certificate, or set tls-server-name \
                 in the kubeconfig"
            }
            Self::OutOfTime => {
                "renew the API server's certificate; if it is valid, set the clock of this machine"
            }
            Self::BadCertificate => {
                "have the API server's certificate made anew: `openssl s_client -connect \
                 HOST:PORT` shows it"
            }
            Self::CertificateRefused => {
                "does the API server (or what stands before it) accept the client certificate of \
                 the kubernetes block?"
            }
            Self::NoCommonTls => {
                "does the API server (or what stands before it) accept the client certificate, \
                 and speak TLS 1.2 or 1.3?"
            }
            Self::NoTls => {
                "is that the API server's TLS port? If it speaks plain http, write http:// before \
                 it"
            }
        }
    }
}

/// The server's own words where it has said something, else the chain of causes.
fn words(error: &watcher::Error) -> String {
    let of_status = |status: &Status| match (status.message.trim(), status.code) {
        ("", 0) => "the watch gave an event that cannot be read".to_owned(),
        ("", code) => format!("HTTP {code}"),
        (message, 0) => message.to_owned(),
        (message, code) => format!("{message} (HTTP {code})"),
    };
    match error {
        watcher::Error::WatchError(status) => of_status(status),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => of_status(status),
            kube::Error::Service(error) => chain(&**error),
            other => chain(other),
        },
        watcher::Error::NoResourceVersion => chain(error),
    }
}

/// In one line.
fn shortened(words: &str) -> String {
    let mut line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > WORDS_LEN_MAX {
        // The end has the status.
        let (head, tail) = (WORDS_LEN_MAX * 2 / 3, line.len() - WORDS_LEN_MAX / 3);
        let (head, tail) = (line.floor_char_boundary(head), line.ceil_char_boundary(tail));
        line.replace_range(head..tail, " … ");
    }
    line
}

/// The rule that the ClusterRole lacks, ready to be pasted.
fn missing_rule(kind: Kind) -> String {
    let (group, plural) = (kind.group(), kind.plural());
    format!(
        "add to the ClusterRole: {{apiGroups: [\"{group}\"], resources: [\"{plural}\"], verbs: \
         [\"list\", \"watch\"]}}"
    )
}

fn sort(error: &watcher::Error) -> (Failure, Cause) {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => sort_client(error),
        watcher::Error::WatchError(status) => sort_status(status),
        watcher::Error::NoResourceVersion => (Failure::Refused, Cause::NoApiServer),
    }
}

fn sort_client(error: &kube::Error) -> (Failure, Cause) {
    match error {
        kube::Error::Api(status) => sort_status(status),
        kube::Error::Service(error) => sort_service(&**error),
        kube::Error::HyperError(error) => sort_service(error),
        kube::Error::ReadEvents(error) => sort_service(error),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            (Failure::Refused, Cause::NoApiServer)
        }
        // Errors of requests that are never made here.
        _ => (Failure::Refused, Cause::Other),
    }
}

/// What happened below kube, from the outermost error to the innermost.
fn sort_service(error: &(dyn Error + 'static)) -> (Failure, Cause) {
    let mut next = Some(error);
    let mut found = Cause::Cut;
    while let Some(error) = next {
        if let Some(throttled) = error.downcast_ref::<Throttled>() {
            return (Failure::Throttled(throttled.retry_after), Cause::Other);
        }
        if error.is::<SilentServer>() {
            return (Failure::Unreachable, Cause::Silent);
        }
        if error.is::<ForeignResponse>() {
            return (Failure::Refused, Cause::NoApiServer);
        }
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return (Failure::Unauthorized, Cause::Setting(error.next_step.clone()));
        }
        if error.is::<tower::buffer::error::Closed>() {
            // A panic has ended it: only a new client helps, which is what credentials that are
            // refused get.
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
        // An io::Error passes over what it holds, to that one's source.
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
        // Of others it is told by what they hold.
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
        // Its authority is found, but in the place of a server's certificate.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            Handshake::UnknownAuthority
        }
        _ => Handshake::BadCertificate,
    }
}

fn sort_status(status: &Status) -> (Failure, Cause) {
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
        502..=504 => (Failure::Refused, Cause::Gateway),
        _ => (Failure::Refused, Cause::Other),
    }
}

#[cfg(test)]
mod tests;
