//! Kubeconfig texts as editors, scripts and accidents produce them.

use super::*;

#[test]
fn encodings_of_windows() {
    let surroundings = Surroundings::new(&[]);
    let text = entries("server: 'http://a'", "").replace('\n', "\r\n");
    let units: Vec<u16> = text.encode_utf16().collect();
    let little = units.iter().flat_map(|unit| unit.to_le_bytes());
    let big = units.iter().flat_map(|unit| unit.to_be_bytes());
    let server = kubeconfig_file(&surroundings, "", None);
    for bytes in [
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [0xff, 0xfe].into_iter().chain(little).collect(),
        [0xfe, 0xff].into_iter().chain(big).collect(),
    ] {
        surroundings.write("kubeconfig", bytes);
        assert_eq!(surroundings.load(&server), "http://a/ anonymous");
    }
    surroundings.write("kubeconfig", b"\xff\xfe\x00\xd8");
    assert!(surroundings.load(&server).contains("the file is not UTF-8 or UTF-16 text"));
}

/// Truncates the text anywhere and changes single bytes. It is read or rejected, and never panics.
#[test]
fn damaged_texts() {
    let surroundings =
        Surroundings::new(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "10.0.0.0/8,[fd00::1]:1")]);
    let text = entries(
        "server: 'https://a:1/b', certificate-authority: CA, tls-server-name: c",
        "tokenFile: token, as: d, exec: {command: e, args: [f], env: [{name: g}]}",
    );
    let server = kubeconfig_file(&surroundings, "", None);
    let mut read = 0;
    for at in 0..text.len() {
        let bytes = text.as_bytes();
        let other = [b'\0', b':', b'/', b'[', b'\'', b'\n', b'@', b'%', 0xff][at % 9];
        for damaged in [
            bytes[..at].to_vec(),
            [&bytes[..at], &bytes[at + 1..]].concat(),
            [&bytes[..at], &[other], &bytes[at + 1..]].concat(),
        ] {
            surroundings.write("kubeconfig", damaged);
            read += usize::from(!surroundings.load(&server).starts_with("error: "));
        }
    }
    assert!(read > 100, "{read} of {} texts: most names may change", 3 * text.len());
}

#[test]
fn an_error_shows_no_secret() {
    let surroundings = Surroundings::new(&[]);
    for text in ["users:\n- name: u\n  user: {token: hush\n  - x", "users: hush", "hush: {hush: [}"]
    {
        let found = surroundings.load(&kubeconfig_file(&surroundings, text, None));
        assert!(found.starts_with("error: ") && !found.contains("hush"), "{found}");
    }
}
