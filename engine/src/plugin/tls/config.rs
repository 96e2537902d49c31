//! The TLS configuration of listeners: certificates, keys and authorities from files, and the
//! verifier of clients.
//!
//! Invariant: a configuration is complete; the files are not read again for a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};

use super::{ClientAuth, Tls};
use crate::corefile::value::key::Scheme;
use crate::{pem, trust};

/// The protocols that clients name in their handshakes, as registered with IANA. RFC 7858 leaves
/// open whether they do.
const OF_DOT: &[&[u8]] = &[b"dot"];
const OF_HTTPS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// What a listener's handshakes need. All shards share it, and with it the sessions that are
/// resumed.
#[derive(Debug)]
pub struct ServerTls {
    dot: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
    /// The files that it was made from.
    pub files: Vec<PathBuf>,
}

impl ServerTls {
    /// Reads the files of a `tls` line.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub(super) fn load(tls: &Tls) -> Result<Self, String> {
        let of_cert = |path: &Path, problem: String| {
            format!("could not load TLS cert: {}: {problem}", path.display())
        };
        let chain = pem::certificates(&tls.certificate)
            .map_err(|error| of_cert(&tls.certificate, error))?;
        let key = pem::private_key(&tls.key).map_err(|error| of_cert(&tls.key, error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match verifier(tls, &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key);
        let config = config.map_err(|error| of_cert(&tls.key, error.to_string()))?;
        let speaking = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let files = [&tls.certificate, &tls.key].into_iter().chain(&tls.authority);
        Ok(Self {
            dot: speaking(OF_DOT),
            https: speaking(OF_HTTPS),
            files: files.cloned().collect(),
        })
    }

    /// What handshakes at an address of this scheme need.
    #[must_use]
    pub fn config(&self, scheme: Scheme) -> &Arc<ServerConfig> {
        if scheme == Scheme::Https { &self.https } else { &self.dot }
    }
}

/// Of clients' certificates; `None` if none is asked for.
fn verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let unverified = |is_required| -> Arc<dyn ClientCertVerifier> {
        Arc::new(UnverifiedClient { is_required, provider: Arc::clone(provider) })
    };
    let is_required = match tls.client_auth {
        ClientAuth::NoCert => return Ok(None),
        ClientAuth::Request => return Ok(Some(unverified(false))),
        ClientAuth::Require => return Ok(Some(unverified(true))),
        ClientAuth::VerifyIfGiven => false,
        ClientAuth::RequireAndVerify => true,
    };
    let verifier = match &tls.authority {
        Some(path) => pem::certificates(path)
            .and_then(|authorities| {
                let verifier = trust::client_verifier(authorities, is_required);
                verifier.map_err(|error| error.to_string())
            })
            .map_err(|problem| format!("error reading {}: {problem}", path.display())),
        None => {
            let authorities = rustls_native_certs::load_native_certs().certs;
            trust::client_verifier(authorities, is_required).map_err(|error| error.to_string())
        }
    };
    verifier.map(Some)
}

/// A client whose certificate may be anything, as long as the client has its key.
#[derive(Debug)]
struct UnverifiedClient {
    is_required: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for UnverifiedClient {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
