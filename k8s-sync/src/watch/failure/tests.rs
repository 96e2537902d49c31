//! Errors as they come from below, and the advice for each.

use futures::FutureExt;
use http::StatusCode;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{InvalidMessage, OtherError, PeerIncompatible};
use tower::{BoxError, ServiceExt};

use super::super::request::ForeignResponse;
use super::*;

/// Wraps errors of rustls as hyper-rustls does.
fn tls(error: rustls::Error) -> BoxError {
    io::Error::other(io::Error::new(ErrorKind::InvalidData, error)).into()
}

fn certificate(error: CertificateError) -> BoxError {
    tls(rustls::Error::InvalidCertificate(error))
}

fn alert(alert: AlertDescription) -> BoxError {
    tls(rustls::Error::AlertReceived(alert))
}

/// An error with this text and cause, as in hyper's connectors.
#[derive(Debug)]
struct Wrapped(&'static str, io::Error);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.1)
    }
}

fn wrapped(text: &'static str, kind: ErrorKind) -> BoxError {
    Wrapped(text, kind.into()).into()
}

/// `advice` is part of the next step.
#[track_caller]
fn check_diagnosis(error: ApiError, kind: Kind, failure: Failure, words: &str, advice: &str) {
    let diagnosis = Diagnosis::of(&error);
    assert_eq!(diagnosis.failure, failure, "{}", diagnosis.error);
    assert!(diagnosis.error.contains(words), "{}", diagnosis.error);
    let next_step = diagnosis.next_step(kind);
    assert!(next_step.contains(advice), "{}: {next_step}", diagnosis.error);
}

#[test]
fn requests_that_do_not_reach_the_server() {
    #[track_caller]
    fn check(error: impl Into<BoxError>, failure: Failure, words: &str, advice: &str) {
        let error = ApiError::from(kube::Error::Service(error.into()));
        check_diagnosis(error, Kind::Service, failure, words, advice);
    }
    let unreachable = Failure::Unreachable;
    let ca = "does the CA of the kubernetes block sign";
    let client = "accept the client certificate";
    check(certificate(CertificateError::UnknownIssuer), unreachable, "UnknownIssuer", ca);
    check(certificate(CertificateError::BadSignature), unreachable, "BadSignature", ca);
    check(certificate(CertificateError::BadSignature), unreachable, "", "are their keys RSA");
    let ca_as_leaf = io::Error::other("CaUsedAsEndEntity");
    let ca_as_leaf = CertificateError::Other(OtherError(std::sync::Arc::new(ca_as_leaf)));
    check(certificate(ca_as_leaf), unreachable, "CaUsedAsEndEntity", ca);
    let other_name = CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("api.example").unwrap(),
        presented: vec!["DnsName(\"other.example\")".to_owned()],
    };
    check(certificate(other_name), unreachable, "other.example", "tls-server-name");
    check(certificate(CertificateError::Expired), unreachable, "Expired", "clock");
    check(certificate(CertificateError::NotValidYet), unreachable, "", "clock");
    check(
        certificate(CertificateError::BadEncoding),
        unreachable,
        "",
        "replace the API server's certificate",
    );
    for refused in [
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::CertificateRequired,
        AlertDescription::CertificateExpired,
        AlertDescription::AccessDenied,
        AlertDescription::HandshakeFailure,
    ] {
        check(alert(refused), unreachable, "alert", client);
    }
    check(alert(AlertDescription::ProtocolVersion), unreachable, "", "TLS 1.2 or 1.3");
    check(alert(AlertDescription::UnrecognisedName), unreachable, "", "tls-server-name");
    let old = PeerIncompatible::ServerDoesNotSupportTls12Or13;
    check(tls(rustls::Error::PeerIncompatible(old)), unreachable, "", "TLS 1.2 or 1.3");
    let plain = InvalidMessage::InvalidContentType;
    check(tls(rustls::Error::InvalidMessage(plain)), unreachable, "", "write http://");

    let connect = "tcp connect error";
    check(wrapped(connect, ErrorKind::ConnectionRefused), unreachable, "", "is the port right?");
    check(wrapped(connect, ErrorKind::TimedOut), unreachable, "", "network policies");
    check(wrapped(connect, ErrorKind::HostUnreachable), unreachable, "", "route");
    check(wrapped(connect, ErrorKind::NetworkUnreachable), unreachable, "", "route");
    check(wrapped("dns error", ErrorKind::Other), unreachable, "", "is the name right");
    let tunnel = "tunnel error: failed to create underlying connection";
    check(wrapped(tunnel, ErrorKind::ConnectionRefused), unreachable, "tunnel", "proxy");
    check(wrapped("", ErrorKind::ConnectionReset), unreachable, "reset", "balancer");
    check(wrapped("", ErrorKind::UnexpectedEof), unreachable, "", "balancer");

    let setting = ConnectError {
        what: "token file t".to_owned(),
        cause: "empty".to_owned(),
        next_step: "write a token into it".into(),
    };
    check(setting, Failure::Unauthorized, "token file t: empty", "write a token into it");
    let service = tower::service_fn(|(): ()| std::future::ready(Ok::<_, BoxError>(())));
    // Without the worker task, as after a panic in it.
    let (mut client, _) = tower::buffer::Buffer::pair(service, 1);
    let dead = client.ready().now_or_never().unwrap().err().unwrap();
    check(dead, Failure::Unauthorized, "worker", "keeps trying");
}

#[test]
fn responses_that_are_none() {
    let check = |error: ApiError, failure: Failure, words: &str, advice: &str| {
        check_diagnosis(error, Kind::Service, failure, words, advice);
    };
    let silent = ApiError::Silent(Duration::from_secs(15));
    check(silent, Failure::Unreachable, "nothing for 15s", "buffer");
    let throttled = ApiError::Throttled {
        status: StatusCode::TOO_MANY_REQUESTS,
        retry_after: Duration::from_secs(7),
    };
    check(throttled, Failure::Throttled(Duration::from_secs(7)), "429", "keeps trying");
    let page = ApiError::Foreign(ForeignResponse::ContentType("text/html".to_owned()));
    check(page, Failure::Faulty, "text/html", "the URL of an API server");
    let unreadable = ApiError::Unreadable("expected value".to_owned());
    check(unreadable, Failure::Faulty, "expected value", "the URL of an API server");
}

fn server_failure(code: u16, message: &str) -> ApiError {
    ApiError::Status(ServerFailure { code, message: message.to_owned(), details: None })
}

#[test]
fn failed_probes() {
    let check = |code: u16, expected: Failure| {
        let error = server_failure(code, "no");
        assert_eq!(Diagnosis::of_probe(&error).failure, expected, "{code}");
    };
    for taken in [400, 404, 405, 422] {
        check(taken, Failure::Refused);
    }
    for away in [0, 500, 502, 503, 504] {
        check(away, Failure::Unreachable);
    }
    check(401, Failure::Unauthorized);
    check(403, Failure::Forbidden);
    check(410, Failure::Expired);
    check(429, Failure::Throttled(RETRY_AFTER_DEFAULT));
    let page = ApiError::Foreign(ForeignResponse::ContentType("text/html".to_owned()));
    let page = Diagnosis::of_probe(&page);
    assert_eq!(page.failure, Failure::Unreachable);
}

#[test]
fn errors_from_the_server() {
    #[track_caller]
    fn check(
        (code, message): (u16, &str),
        kind: Kind,
        failure: Failure,
        words: &str,
        advice: &str,
    ) {
        check_diagnosis(server_failure(code, message), kind, failure, words, advice);
    }
    let (refused, faulty) = (Failure::Refused, Failure::Faulty);
    let rule = "{apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"]";
    let slice = Kind::EndpointSlice;
    check((401, "Unauthorized"), slice, Failure::Unauthorized, "(HTTP 401)", "still valid?");
    check((403, "it is forbidden"), slice, Failure::Forbidden, "forbidden (HTTP 403)", rule);
    let anonymous = "services is forbidden: User \"system:anonymous\" cannot list";
    check((403, anonymous), slice, Failure::Forbidden, "anonymous", "set a token");
    let found = "could not find the requested resource";
    check((404, found), slice, refused, found, "use Kubernetes 1.21 or later");
    check((404, found), Kind::Service, refused, found, "the URL of an API server");
    check((410, "too old"), slice, Failure::Expired, "(HTTP 410)", "none");
    check((429, ""), slice, Failure::Throttled(RETRY_AFTER_DEFAULT), "HTTP 429", "none");
    check((500, "etcd"), slice, faulty, "etcd (HTTP 500)", "none");
    let invalid = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden";
    check((422, invalid), slice, refused, "resourceVersionMatch", "none");
    let away = Failure::Unreachable;
    check((502, "<html>\n<body>Bad\nGateway"), slice, away, "Bad Gateway (HTTP 502)", "behind");
    let too_large = "Timeout: Too large resource version: 7, current: 5";
    check((504, too_large), slice, Failure::Behind, too_large, "none");
    let http = "Client sent an HTTP request to an HTTPS server.";
    check((400, http), slice, refused, http, "write https://");
    // An event of unknown type arrives as a status without a code.
    check((0, ""), slice, faulty, "unreadable event", "none");
    check((0, "odd"), slice, faulty, "odd", "none");
    let long = "é".repeat(5000);
    check((503, &long), slice, away, "é … é", "behind");
    check((503, &long), slice, away, "(HTTP 503)", "behind");
}
