//! rustls's settings for the API server.

use std::sync::Arc;

use tokio_rustls::rustls::client::VerifierBuilderError;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::SettingError;
use super::access::{Tls, Trust};

/// Makes a verifier that trusts these certificates, and whatever they have signed.
pub type Verifier =
    fn(Vec<CertificateDer<'static>>) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError>;

/// `None`: plain http, which never comes to a handshake.
pub(super) fn config(tls: Option<Tls>, verifier: Verifier) -> Result<ClientConfig, SettingError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    };
    let trusted = match tls.trust {
        Trust::Given(certificates) => verifier(certificates).map_err(|error| {
            format!("certificate-authority holds no certificate that can be read: {error}")
        })?,
        Trust::System => of_the_machine(verifier)?,
        Trust::Anyone => Arc::new(TrustAnyone(provider)),
    };
    let config = builder.dangerous().with_custom_certificate_verifier(trusted);
    let Some(identity) = tls.identity else { return Ok(config.with_no_client_auth()) };
    config.with_client_auth_cert(identity.certificates, identity.key).map_err(|error| {
        let cause = match error {
            Error::InconsistentKeys(_) => {
                "client-key does not belong to client-certificate".to_owned()
            }
            error => format!("the client certificate cannot be used: {error}"),
        };
        let next_step = "keys of RSA (2048 to 8192 bits), P-256, P-384, P-521 and Ed25519 work";
        SettingError { cause, next_step: Some(next_step) }
    })
}

/// The same that Go and OpenSSL find, SSL_CERT_FILE and SSL_CERT_DIR included.
fn of_the_machine(verifier: Verifier) -> Result<Arc<dyn ServerCertVerifier>, SettingError> {
    let found = rustls_native_certs::load_native_certs();
    verifier(found.certs).map_err(|_| {
        let errors = found.errors.iter().map(|error| format!(" ({error})")).collect::<String>();
        SettingError {
            cause: format!("no CA is set, and this machine has no certificates of its own{errors}"),
            next_step: Some("set certificate-authority, or install ca-certificates in the image"),
        }
    })
}

/// `insecure-skip-tls-verify`: whoever holds the key of the certificate that he shows.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
