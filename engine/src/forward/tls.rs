//! TLS to upstreams: the client configuration for `tls`, and messages about failed handshakes.
//!
//! Which name a certificate must be for is in `settings`. Invariant: an upstream is always
//! verified.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
};

use super::settings::SettingsError;
use crate::forward::options::UpstreamTls;
use crate::pem;
use crate::trust;

/// All upstreams and shards of a `forward` line share one configuration, and with it the sessions
/// that rustls resumes.
///
/// # Errors
/// A file that cannot be read, or a key that does not fit the certificate.
pub(super) fn client_config(tls: &UpstreamTls) -> Result<Arc<ClientConfig>, SettingsError> {
    // Explicit, since the process may contain more than one provider.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?;
    let builder = match &tls.authority {
        Some(path) => {
            let verifier = trust::verifier(certificates(path)?)
                .map_err(|error| SettingsError::file(path, &error))?;
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        None => builder.with_root_certificates(system_authorities()?),
    };
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key_der =
                pem::private_key(key).map_err(|error| SettingsError::file(key, &error))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| SettingsError::file(key, &error))?
        }
    };
    Ok(Arc::new(config))
}

/// The files that `client_config` reads.
pub(super) fn files(tls: &UpstreamTls) -> impl Iterator<Item = &PathBuf> {
    let client = tls.client.iter().flat_map(|(certificate, key)| [certificate, key]);
    client.chain(&tls.authority)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    pem::certificates(path).map_err(|error| SettingsError::file(path, &error))
}

fn system_authorities() -> Result<RootCertStore, SettingsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable_count, _) = roots.add_parsable_certificates(found.certs);
    if usable_count == 0 {
        let problems = found.errors.iter().map(ToString::to_string).collect();
        return Err(SettingsError::NoSystemCertificates(problems));
    }
    Ok(roots)
}

/// Why a handshake failed, with the remedy if there is one.
pub(super) fn handshake_failure(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let remedy = match cause {
        Some(Error::InvalidCertificate(cause)) if trust::is_about_the_issuer(cause) => {
            ": the upstream's certificate is signed by no CA of `tls CA`, or without it of this \
             system: name the file of its CA, or of the certificate itself, in `tls CA`"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => ": set a name that the certificate is for, with `tls_servername` or `tls://IP%NAME`",
        Some(
            Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity
                | AlertDescription::ProtocolVersion,
            )
            | Error::PeerIncompatible(_),
        ) => {
            ": the upstream shares no version or cipher suite with ringdns, which supports TLS \
             1.3, and TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305 (no CBC, no RSA key \
             exchange): enable one of these at the upstream"
        }
        Some(_) | None => "",
    };
    format!("{error}{remedy}")
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::{OtherError, PeerIncompatible};

    use super::*;

    #[test]
    fn messages_about_handshakes_name_the_remedy() {
        let check = |error: io::Error, expected: &str| {
            let shown = handshake_failure(&error);
            assert!(shown.starts_with(&error.to_string()) && shown.contains(expected), "{shown}");
        };
        let of = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        check(of(Error::AlertReceived(AlertDescription::HandshakeFailure)), "no CBC");
        check(of(Error::AlertReceived(AlertDescription::ProtocolVersion)), "TLS 1.2");
        let incompatible = PeerIncompatible::NoCipherSuitesInCommon;
        check(of(Error::PeerIncompatible(incompatible)), "no version or cipher suite");
        check(of(Error::InvalidCertificate(CertificateError::UnknownIssuer)), "`tls CA`");
        // A certificate by `openssl req -x509` that `tls CA` does not name.
        let own_authority = OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity));
        let own_authority = CertificateError::Other(own_authority);
        check(of(Error::InvalidCertificate(own_authority)), "or of the certificate itself");
        check(of(Error::InvalidCertificate(CertificateError::NotValidForName)), "tls://IP%NAME");
        let expired = of(Error::InvalidCertificate(CertificateError::Expired));
        assert_eq!(handshake_failure(&expired), expired.to_string());
        let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(handshake_failure(&closed), closed.to_string());
    }
}
