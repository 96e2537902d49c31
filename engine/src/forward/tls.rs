//! TLS towards upstreams: what `tls` and `tls_servername` say, made into a client configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::settings::SettingsError;
use crate::corefile::UpstreamTls;

/// Sessions are resumed, as rustls does by itself: all upstreams and shards of a `forward` line share one configuration.
///
/// # Errors
/// A file that cannot be read, or does not fit.
pub(super) fn client_config(tls: &UpstreamTls) -> Result<Arc<ClientConfig>, SettingsError> {
    let roots = match &tls.authority {
        Some(path) => authority(path)?,
        None => system_authorities()?,
    };
    // Named, since the process might have more than one.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?
        .with_root_certificates(roots);
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

fn authority(path: &Path) -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| SettingsError::file(path, &error))?;
    }
    Ok(roots)
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
