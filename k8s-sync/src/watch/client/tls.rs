//! The rustls configuration for the API server.

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

/// Makes a verifier that trusts these certificates and all that they have signed.
pub type Verifier =
    fn(Vec<CertificateDer<'static>>) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError>;

/// `None` means plain http, which needs no handshake.
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
            format!("certificate-authority contains no valid certificate: {error}")
        })?,
        Trust::System => system_verifier(verifier)?,
        Trust::Anyone => Arc::new(TrustAnyone(provider)),
    };
    let config = builder.dangerous().with_custom_certificate_verifier(trusted);
    let Some(identity) = tls.identity else { return Ok(config.with_no_client_auth()) };
    config.with_client_auth_cert(identity.certificates, identity.key).map_err(|error| {
        let cause = match error {
            Error::InconsistentKeys(_) => "client-key does not match client-certificate".to_owned(),
            error => format!("cannot use the client certificate: {error}"),
        };
        let next_step = "use a key of RSA (2048 to 8192 bits), P-256, P-384, P-521 or Ed25519";
        SettingError { cause, next_step: Some(next_step) }
    })
}

/// The CAs that Go and OpenSSL find, including SSL_CERT_FILE and SSL_CERT_DIR.
fn system_verifier(verifier: Verifier) -> Result<Arc<dyn ServerCertVerifier>, SettingError> {
    let found = rustls_native_certs::load_native_certs();
    verifier(found.certs).map_err(|_| {
        let errors = found.errors.iter().map(|error| format!(" ({error})")).collect::<String>();
        SettingError {
            cause: format!(
                "no CA is configured, and this machine has no certificates of its own{errors}"
            ),
            next_step: Some("set certificate-authority, or install ca-certificates in the image"),
        }
    })
}

/// `insecure-skip-tls-verify`: accepts every certificate whose key the server holds.
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
