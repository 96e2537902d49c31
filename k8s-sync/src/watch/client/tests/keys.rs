//! Client keys that real clusters use: those that aws-lc-rs supports, and the errors for the
//! others.

use super::access::{Identity, Tls};
use super::*;

#[test]
fn keys_of_clients() {
    #[track_caller]
    fn check(pem: &str, expected: Result<(), &str>) {
        let identity = Identity::parse(pem.as_bytes(), pem.as_bytes());
        let identity = Some(identity.expect("a certificate and a key"));
        let tls = Tls { trust: Trust::Anyone, identity, ..Tls::default() };
        match (tls::config(Some(tls), |_| unreachable!("anyone is trusted")), expected) {
            (Ok(_), Ok(())) => {}
            (Err(fault), Err(part)) => {
                assert!(fault.cause.contains(part), "{fault:?}");
                assert!(fault.next_step.is_some_and(|step| step.contains("P-521")), "{fault:?}");
            }
            (found, _) => panic!("{:?}", found.map(drop)),
        }
    }
    // Follows `EC PARAMETERS`, as `openssl ecparam -genkey` writes it.
    check(include_str!("keys/p521.pem"), Ok(()));
    check(include_str!("keys/rsa8192.pem"), Ok(()));
    check(include_str!("keys/rsa-e3.pem"), Ok(()));
    check(include_str!("keys/ed25519.pem"), Ok(()));
    let cannot = "cannot use the client certificate";
    check(include_str!("keys/rsa1024.pem"), Err(cannot));
    check(include_str!("keys/rsa3prime.pem"), Err(cannot));
    let certificate = include_str!("keys/p521.pem").split_once("-----BEGIN EC PARA").unwrap().0;
    let other_key = include_str!("keys/ed25519.pem").split_once("-----BEGIN PRIVATE").unwrap().1;
    let mixed = format!("{certificate}-----BEGIN PRIVATE{other_key}");
    check_mixed(&mixed);
}

#[track_caller]
fn check_mixed(pem: &str) {
    let identity = Identity::parse(pem.as_bytes(), pem.as_bytes()).ok();
    let tls = Tls { trust: Trust::Anyone, identity, ..Tls::default() };
    let fault = tls::config(Some(tls), |_| unreachable!("anyone is trusted")).unwrap_err();
    assert_eq!(fault.cause, "client-key does not match client-certificate");
}

#[test]
fn an_encrypted_key() {
    let certificate = include_str!("keys/ed25519.pem");
    let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let fault = Identity::parse(certificate.as_bytes(), key.as_bytes()).err().unwrap();
    assert!(fault.cause.starts_with("client-key is encrypted: `openssl pkey"), "{fault:?}");
}
