//! TLS towards upstreams: what `tls` and `tls_servername` say, made into a client configuration, and why a handshake failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
};

use super::settings::SettingsError;
use crate::forward::options::UpstreamTls;
use crate::trust;

/// Sessions are resumed, as rustls does by itself: all upstreams and shards of a `forward` line share one configuration.
///
/// # Errors
/// A file that cannot be read, or does not fit.
pub(super) fn client_config(tls: &UpstreamTls) -> Result<Arc<ClientConfig>, SettingsError> {
    // Named, since the process might have more than one.
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
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| SettingsError::file(key, &error))?;
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
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| SettingsError::file(path, &error))?;
    if certificates.is_empty() {
        return Err(SettingsError::file(path, &"it holds no certificate in PEM form"));
    }
    Ok(certificates)
}

fn system_authorities() -> Result<RootCertStore, SettingsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable_count, _) = roots.add_parsable_certificates(found.certs);
    if usable_count == 0 {
        let problems: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(SettingsError::NoSystemCertificates(problems.join("; ")));
    }
    Ok(roots)
}

/// What a failed handshake is due to, with the remedy where there is one.
pub(super) fn handshake_failure(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let remedy = match cause {
        Some(Error::InvalidCertificate(cause)) if trust::is_about_the_issuer(cause) => {
            ": nobody that `tls CA` names, or without it this system, has signed the upstream's certificate: name the file of \
             its authority there, or of the certificate itself"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => {
            ": name one that it is for, by `tls_servername` or behind the address: `tls://IP%NAME`"
        }
        Some(
            Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity
                | AlertDescription::ProtocolVersion,
            )
            | Error::PeerIncompatible(_),
        ) => {
            ": it shares no version or cipher suite with ringdns, which speaks TLS 1.3, and TLS 1.2 with ECDHE and AES-GCM or \
             ChaCha20-Poly1305 (no CBC, no RSA key exchange): enable one of these there"
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
    fn a_handshake_failure_has_its_remedy() {
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
        // What `openssl req -x509` makes, where it is not named itself.
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
