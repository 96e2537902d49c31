//! Certificates and keys from files in PEM format.
//!
//! Invariant: no more of a file is read than the bound, because a device has no end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::{Error, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::limits::PEM_FILE_LEN_MAX;

/// All certificates of a file.
///
/// # Errors
/// It cannot be read, or has none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("it has no certificate in PEM format".to_owned());
    }
    Ok(certificates)
}

/// The first private key of a file.
///
/// # Errors
/// It cannot be read, or has none.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        File::open(path)?.take(PEM_FILE_LEN_MAX + 1).read_to_end(bytes)
    };
    read(&mut bytes).map_err(|error| Error::Io(error).to_string())?;
    if bytes.len() as u64 > PEM_FILE_LEN_MAX {
        return Err(format!("it is longer than {PEM_FILE_LEN_MAX} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_an_end_is_refused() {
        let expected = format!("it is longer than {PEM_FILE_LEN_MAX} bytes");
        assert_eq!(certificates(Path::new("/dev/zero")), Err(expected.clone()));
        assert_eq!(private_key(Path::new("/dev/zero")).err(), Some(expected));
    }
}
