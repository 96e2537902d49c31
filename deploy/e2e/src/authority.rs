//! Certificate authorities and the certificates that they issue.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, created anew for each test.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server at 127.0.0.1.
    pub fn issue_server(&self, name: &str) -> Identity {
        self.issue(name, vec!["127.0.0.1".to_owned()])
    }

    /// A certificate for a server with these names and addresses.
    pub fn issue_for(&self, name: &str, names: Vec<String>) -> Identity {
        self.issue(name, names)
    }

    /// A certificate for a client, which the API server identifies by this name.
    pub fn issue_client(&self, name: &str) -> Identity {
        self.issue(name, Vec::new())
    }

    fn issue(&self, name: &str, addresses: Vec<String>) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(addresses).expect("addresses as names");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
