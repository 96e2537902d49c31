//! Texts of kubeconfigs that editors, scripts and accidents make.

use super::*;

#[test]
fn texts_of_windows() {
    let around = Around::new(&[]);
    let text = entries("server: 'http://a'", "").replace('\n', "\r\n");
    let units: Vec<u16> = text.encode_utf16().collect();
    let little = units.iter().flat_map(|unit| unit.to_le_bytes());
    let big = units.iter().flat_map(|unit| unit.to_be_bytes());
    let server = kubeconfig_file(&around, "", None);
    for bytes in [
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [0xff, 0xfe].into_iter().chain(little).collect(),
        [0xfe, 0xff].into_iter().chain(big).collect(),
    ] {
        around.write("kubeconfig", bytes);
        assert_eq!(around.load(&server), "http://a/ anonymous");
    }
    around.write("kubeconfig", b"\xff\xfe\x00\xd8");
    assert!(around.load(&server).contains("it is no text in UTF-8 or UTF-16"));
}

/// Cut anywhere, or with a byte that is another: it is read or refused, and that is all.
#[test]
fn damaged_texts() {
    let around =
        Around::new(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "10.0.0.0/8,[fd00::1]:1")]);
    let text = entries(
        "server: 'https://a:1/b', certificate-authority: CA, tls-server-name: c",
        "tokenFile: token, as: d, exec: {command: e, args: [f], env: [{name: g}]}",
    );
    let server = kubeconfig_file(&around, "", None);
    let mut read = 0;
    for at in 0..text.len() {
        let bytes = text.as_bytes();
        let other = [b'\0', b':', b'/', b'[', b'\'', b'\n', b'@', b'%', 0xff][at % 9];
        for damaged in [
            bytes[..at].to_vec(),
            [&bytes[..at], &bytes[at + 1..]].concat(),
            [&bytes[..at], &[other], &bytes[at + 1..]].concat(),
        ] {
            around.write("kubeconfig", damaged);
            read += usize::from(!around.load(&server).starts_with("error: "));
        }
    }
    assert!(read > 100, "{read} of {} texts: most names may change", 3 * text.len());
}

#[test]
fn an_error_shows_no_secret() {
    let around = Around::new(&[]);
    for text in ["users:\n- name: u\n  user: {token: hush\n  - x", "users: hush", "hush: {hush: [}"]
    {
        let found = around.load(&kubeconfig_file(&around, text, None));
        assert!(found.starts_with("error: ") && !found.contains("hush"), "{found}");
    }
}
