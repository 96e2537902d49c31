//! The API server's credentials: a certificate authority, a serving certificate for 127.0.0.1, one
//! client's token and another's certificate, and a kubeconfig with the token.

use std::fs;
use std::path::{Path, PathBuf};

use crate::authority::{Authority, Identity};

/// The token of `write_kubeconfig`.
const TOKENS: &str = "e2e-token,e2e,e2e,system:masters\n";

/// Files in one folder, created for each cluster.
pub struct Credentials {
    dir: PathBuf,
    client: Identity,
}

impl Credentials {
    pub fn create(dir: &Path) -> Self {
        let authority = Authority::new("e2e authority");
        let server = authority.issue_server("e2e API server");
        let credentials = Self { dir: dir.to_owned(), client: authority.issue_client("e2e") };
        let files = [
            (credentials.authority(), authority.certificate().to_owned()),
            (credentials.certificate(), server.certificate),
            (credentials.key(), server.key),
            (credentials.tokens(), TOKENS.to_owned()),
        ];
        for (path, text) in files {
            fs::write(path, text).expect("a file of the cluster");
        }
        credentials
    }

    /// The authority that signs the certificates of the API server and of its clients.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A client that the API server identifies by its certificate.
    pub fn client(&self) -> &Identity {
        &self.client
    }

    /// The serving certificate; it also verifies service-account tokens.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("server.crt")
    }

    /// The serving key; it also signs service-account tokens.
    pub fn key(&self) -> PathBuf {
        self.dir.join("server.key")
    }

    /// The file for `--token-auth-file`.
    pub fn tokens(&self) -> PathBuf {
        self.dir.join("tokens.csv")
    }

    /// From the API server's next start on, this token is accepted beside the kubeconfig's, and no
    /// other one.
    pub fn accept_token(&self, token: &str) {
        let text = format!("{TOKENS}{token},other,other,system:masters\n");
        fs::write(self.tokens(), text).expect("a file of the cluster");
    }

    /// Writes a kubeconfig for the API server at `port` of 127.0.0.1.
    pub fn write_kubeconfig(&self, port: u16) -> PathBuf {
        let path = self.dir.join(format!("kubeconfig.{port}"));
        let text = kubeconfig(port, &self.authority(), "{token: e2e-token}");
        fs::write(&path, text).expect("a kubeconfig");
        path
    }
}

/// A kubeconfig for a server at `port` of 127.0.0.1; `user` is a YAML mapping.
pub fn kubeconfig(port: u16, authority: &Path, user: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: e2e\n\
         contexts:\n\
         - name: e2e\n  context: {{cluster: e2e, user: e2e}}\n\
         clusters:\n\
         - name: e2e\n  cluster:\n    server: https://127.0.0.1:{port}\n    \
         certificate-authority: {authority}\n\
         users:\n\
         - name: e2e\n  user: {user}\n",
        authority = authority.display()
    )
}
