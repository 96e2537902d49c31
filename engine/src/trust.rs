//! Which certificates of a TLS server or client are trusted: those signed by a CA of the operator,
//! and the operator's CA certificates themselves.
//!
//! Go accepts a certificate that is itself in the pool of CAs: one from `openssl req -x509`
//! (CA:TRUE), or a pinned leaf of an unknown CA. webpki rejects both.
//! Invariant: the validity period, and the name of a server, are always checked.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{
    VerifierBuilderError, WebPkiServerVerifier, verify_server_name,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

/// A verifier of servers that trusts certificates signed by `certificates`, and `certificates`
/// themselves. It skips those that it cannot parse, as Go does.
///
/// # Errors
/// It can parse none of them.
pub fn verifier(
    certificates: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError> {
    let (roots, provider) = (roots(&certificates), provider());
    let by_ca = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
    Ok(Arc::new(Verifier { by_ca, pinned: certificates }))
}

/// The same for clients, which may do without a certificate unless `is_required`.
///
/// # Errors
/// It can parse none of the certificates.
pub(crate) fn client_verifier(
    certificates: Vec<CertificateDer<'static>>,
    is_required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let (roots, provider) = (roots(&certificates), provider());
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    Ok(Arc::new(Verifier { by_ca: builder.build()?, pinned: certificates }))
}

fn roots(certificates: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    Arc::new(roots)
}

/// Explicit, since the process may contain more than one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// `V` verifies those that a CA signed.
#[derive(Debug)]
struct Verifier<V: ?Sized> {
    by_ca: Arc<V>,
    pinned: Vec<CertificateDer<'static>>,
}

impl<V: ?Sized> Verifier<V> {
    /// Whether a certificate that no CA signed is trusted all the same.
    fn trusts(&self, certificate: &CertificateDer<'_>, problem: &Error) -> bool {
        let Error::InvalidCertificate(cause) = problem else { return false };
        is_about_the_issuer(cause) && self.pinned.contains(certificate)
    }
}

impl ServerCertVerifier for Verifier<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.by_ca.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            Err(problem) if self.trusts(end_entity, &problem) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Verifier<dyn ClientCertVerifier> {
    fn client_auth_mandatory(&self) -> bool {
        self.by_ca.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_ca.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.by_ca.verify_client_cert(end_entity, intermediates, now) {
            Err(problem) if self.trusts(end_entity, &problem) => {
                Ok(ClientCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

/// Whether only the issuer is wrong. webpki checks the validity period first, so that is known to
/// be right here; a test below ensures it.
pub(crate) fn is_about_the_issuer(cause: &CertificateError) -> bool {
    match cause {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        CertificateError::Other(other) => {
            let cause = other.0.downcast_ref::<webpki::Error>();
            cause.is_some_and(|cause| *cause == webpki::Error::CaUsedAsEndEntity)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    const NAME: &str = "dns.example.org";
    /// 2026-01-01
    const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));

    /// Valid from the first day of one year to the first day of another.
    fn params(years: (i32, i32), is_authority: bool) -> CertificateParams {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    fn self_signed(years: (i32, i32), is_authority: bool) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        params(years, is_authority).self_signed(&key).unwrap().into()
    }

    /// A leaf, and the authority that has signed it.
    fn signed(years: (i32, i32)) -> (CertificateDer<'static>, CertificateDer<'static>) {
        let (authority_key, leaf_key) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut authority = params((2020, 2040), true);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let authority_der = authority.self_signed(&authority_key).unwrap().into();
        let issuer = Issuer::new(authority, authority_key);
        let leaf = params(years, false).signed_by(&leaf_key, &issuer).unwrap().into();
        (leaf, authority_der)
    }

    #[test]
    fn signed_and_pinned_certificates_are_trusted_if_name_and_validity_match() {
        let (now, past, future) = ((2025, 2030), (2020, 2025), (2027, 2030));
        let (leaf, authority) = signed(now);
        let authority_itself = self_signed(now, true);
        let check = |shown: &CertificateDer<'static>, pinned: &[_], name, expected: bool| {
            let verifier = verifier(pinned.to_vec()).unwrap();
            let server_name = ServerName::try_from(name).unwrap();
            let verdict = verifier.verify_server_cert(shown, &[], &server_name, &[], NOW);
            assert_eq!(verdict.is_ok(), expected, "{verdict:?}");
            // A client has no name.
            let verifier = client_verifier(pinned.to_vec(), true).unwrap();
            let verdict = verifier.verify_client_cert(shown, &[], NOW);
            assert_eq!(verdict.is_ok(), expected || name != NAME, "{verdict:?}");
        };
        check(&leaf, std::slice::from_ref(&authority), NAME, true);
        // Pinned: a leaf of an unknown CA, a CA's own certificate, and a self-signed one without
        // CA:TRUE.
        check(&leaf, std::slice::from_ref(&leaf), NAME, true);
        check(&leaf, &[authority_itself.clone(), leaf.clone()], NAME, true);
        check(&authority_itself, std::slice::from_ref(&authority_itself), NAME, true);
        let own = self_signed(now, false);
        check(&own, std::slice::from_ref(&own), NAME, true);
        // Neither pinned nor signed by a pinned one; or another certificate with the same subject.
        check(&leaf, std::slice::from_ref(&authority_itself), NAME, false);
        check(&own, std::slice::from_ref(&authority_itself), NAME, false);
        check(&self_signed(now, true), std::slice::from_ref(&authority_itself), NAME, false);
        for years in [past, future] {
            for other in [signed(years).0, self_signed(years, true), self_signed(years, false)] {
                check(&other, std::slice::from_ref(&other), NAME, false);
            }
        }
        for other in [&leaf, &authority_itself, &own] {
            check(other, std::slice::from_ref(other), "dns.example.com", false);
        }
    }

    #[test]
    fn certificates_that_cannot_be_parsed_are_skipped() {
        let noise = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert!(verifier(vec![noise.clone(), self_signed((2025, 2030), true)]).is_ok());
        assert!(
            client_verifier(vec![noise.clone(), self_signed((2025, 2030), true)], true).is_ok()
        );
        for unusable in [vec![noise], Vec::new()] {
            assert!(verifier(unusable.clone()).is_err());
            assert!(client_verifier(unusable, true).is_err());
        }
    }
}
