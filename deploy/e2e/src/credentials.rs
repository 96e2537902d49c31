//! What the API server needs to prove itself and to know its clients: a certificate authority, a
//! serving certificate for 127.0.0.1, one client's token, and the kubeconfig that names them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Files in one folder, made anew for each cluster.
pub struct Credentials {
    dir: PathBuf,
}

impl Credentials {
    pub fn create(dir: &Path) -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.distinguished_name.push(DnType::CommonName, "e2e authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");

        let server_key = KeyPair::generate().expect("a key");
        let mut server =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address as name");
        server.distinguished_name.push(DnType::CommonName, "e2e API server");
        let server_certificate =
            server.signed_by(&server_key, &Issuer::new(ca, ca_key)).expect("a certificate");

        let credentials = Self { dir: dir.to_owned() };
        let files = [
            (credentials.authority(), ca_certificate.pem()),
            (credentials.certificate(), server_certificate.pem()),
            (credentials.key(), server_key.serialize_pem()),
            (credentials.tokens(), "e2e-token,e2e,e2e,system:masters\n".to_owned()),
        ];
        for (path, text) in files {
            fs::write(path, text).expect("a file of the cluster");
        }
        credentials
    }

    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The serving certificate; it verifies service-account tokens too.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("server.crt")
    }

    /// The serving key; it signs service-account tokens too.
    pub fn key(&self) -> PathBuf {
        self.dir.join("server.key")
    }

    /// What `--token-auth-file` reads.
    pub fn tokens(&self) -> PathBuf {
        self.dir.join("tokens.csv")
    }

    /// Writes a kubeconfig for the API server at `port` of 127.0.0.1.
    pub fn write_kubeconfig(&self, port: u16) -> PathBuf {
        let path = self.dir.join(format!("kubeconfig.{port}"));
        let text = format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: e2e\n\
             contexts:\n\
             - name: e2e\n  context: {{cluster: e2e, user: e2e}}\n\
             clusters:\n\
             - name: e2e\n  cluster:\n    server: https://127.0.0.1:{port}\n    \
             certificate-authority: {authority}\n\
             users:\n\
             - name: e2e\n  user: {{token: e2e-token}}\n",
            authority = self.authority().display()
        );
        fs::write(&path, text).expect("a kubeconfig");
        path
    }
}
