//! Certificates of TLS upstreams, and the file that `tls` names to trust them. No socket is opened
//! here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SignatureAlgorithm, date_time_ymd,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::{ALL_VERSIONS, ServerConfig};

/// Whose certificate is in the file that `tls` names, and how the server's is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authority's, which signed the server's.
    Authority,
    /// The server's own, self-signed with CA:TRUE as `openssl req -x509` does.
    SelfSignedAuthority,
    /// The server's own, self-signed with CA:FALSE.
    SelfSigned,
    /// The server's own, signed by an unknown authority.
    Pinned,
}

/// A server's certificate, its key, and the certificate to trust.
pub struct Identity {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
    pub authority: String,
    /// Without TLS 1.3.
    pub is_old: bool,
}

impl Identity {
    pub fn new(names: &[&str]) -> Self {
        Self::with(names, Trust::Authority, &rcgen::PKCS_ECDSA_P256_SHA256, 4096)
    }

    pub fn with(
        names: &[&str],
        trust: Trust,
        algorithm: &'static SignatureAlgorithm,
        last_year: i32,
    ) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(last_year, 1, 1);
        let (certificate, authority) = match trust {
            Trust::Authority | Trust::Pinned => {
                let authority_key = KeyPair::generate_for(algorithm).unwrap();
                let mut authority = CertificateParams::new(Vec::new()).unwrap();
                authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                let pem = authority.self_signed(&authority_key).unwrap().pem();
                let issuer = Issuer::new(authority, authority_key);
                (params.signed_by(&key, &issuer).unwrap(), Some(pem))
            }
            Trust::SelfSignedAuthority => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                (params.self_signed(&key).unwrap(), None)
            }
            Trust::SelfSigned => (params.self_signed(&key).unwrap(), None),
        };
        let itself = certificate.pem();
        let authority = authority.filter(|_| trust == Trust::Authority).unwrap_or(itself);
        Self { certificate, key, authority, is_old: false }
    }

    /// The file for `tls`.
    pub fn write_authority(&self, folder: &Path) -> PathBuf {
        let path = folder.join("ca.pem");
        std::fs::write(&path, &self.authority).unwrap();
        path
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[_] = if self.is_old { &[&TLS12] } else { ALL_VERSIONS };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
