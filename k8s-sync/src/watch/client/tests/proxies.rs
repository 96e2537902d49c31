//! Go's rules for proxies: which proxy is used, and which servers need none.

use super::*;

#[test]
fn proxies() {
    #[track_caller]
    fn check(variables: &[(&'static str, &str)], cluster: &str, expected: &str) {
        let surroundings = Surroundings::new(variables);
        let text = entries(cluster, "");
        let found = surroundings.load(&kubeconfig_file(&surroundings, &text, None));
        let found = match found.split_once("proxy=") {
            Some((_, proxy)) => proxy,
            None if found.starts_with("error: ") => &found,
            None => "none",
        };
        assert!(found.starts_with(expected), "{found}, {variables:?}");
    }
    let api = "server: 'https://api.example:6443'";
    let at = |url: &'static str| [("HTTPS_PROXY", url)];
    let proxy = "http://p:3128";
    check(&[], api, "none");
    check(&at(proxy), api, proxy);
    check(&[("https_proxy", proxy)], api, proxy);
    check(&[("HTTPS_PROXY", ""), ("https_proxy", proxy)], api, proxy);
    check(&[("HTTPS_PROXY", proxy), ("https_proxy", "http://q")], api, proxy);
    check(&[("HTTP_PROXY", proxy)], api, "none");
    check(&[("HTTP_PROXY", proxy)], "server: 'http://api.example'", proxy);
    check(&[("HTTPS_PROXY", proxy)], "server: 'http://api.example'", "none");
    check(&at("p:3128"), api, proxy);
    check(&at("https://p"), api, "https://p");
    check(&at("http://me:pw@p:3128"), api, proxy);
    check(&at("socks5://p:1080"), api, "socks5://p:1080");
    check(
        &at("ftp://p"),
        api,
        "error: kubeconfig FOLDER/kubeconfig: HTTPS_PROXY ftp://p: not a usable proxy",
    );
    // This machine is never reached through a proxy unless the kubeconfig says so; NO_PROXY does
    // not apply there.
    for own in ["localhost:6443", "127.0.0.1:6443", "127.9.9.9", "[::1]:6443"] {
        check(&at(proxy), &format!("server: 'https://{own}'"), "none");
        let named = format!("server: 'https://{own}', proxy-url: 'http://q:1'");
        check(&[("NO_PROXY", "*")], &named, "http://q:1");
    }
    check(&at(proxy), &format!("{api}, proxy-url: 'http://q:1'"), "http://q:1");
    check(&at(proxy), &format!("{api}, proxy-url: ''"), proxy);
    check(
        &[],
        &format!("{api}, proxy-url: 'ftp://q'"),
        "error: kubeconfig FOLDER/kubeconfig: proxy-url ftp://q",
    );
    check(
        &at("http://me:secret@"),
        api,
        "error: kubeconfig FOLDER/kubeconfig: HTTPS_PROXY http://: not a usable proxy",
    );
}

#[test]
fn a_proxy_is_asked_for_a_port() {
    let check = |server: &str, expected: &str| {
        check_entries(&format!("server: '{server}', proxy-url: 'http://p:1'"), "", expected);
    };
    check("http://a", "http://a:80/ anonymous proxy=http://p:1");
    check("http://a/b", "http://a:80/b anonymous proxy=http://p:1");
    check("http://[fd00::1]", "http://[fd00::1]:80/ anonymous proxy=http://p:1");
    check("https://a", "https://a:443/ trusts=machine anonymous proxy=http://p:1");
    check("https://a:6443", "https://a:6443/ trusts=machine anonymous proxy=http://p:1");
}

#[test]
fn no_proxy() {
    #[track_caller]
    fn check(entry: &str, host: &str, is_direct: bool) {
        for name in ["NO_PROXY", "no_proxy"] {
            for list in [entry.to_owned(), format!("a.invalid, {entry} ,,b.invalid")] {
                let surroundings = Surroundings::new(&[("HTTPS_PROXY", "http://p"), (name, &list)]);
                let text = entries(&format!("server: 'https://{host}'"), "");
                let found = surroundings.load(&kubeconfig_file(&surroundings, &text, None));
                assert_eq!(!found.contains("proxy="), is_direct, "{list} {host}: {found}");
            }
        }
    }
    check("*", "api.example", true);
    check("example", "api.example", true);
    check(".example", "api.example", true);
    check("*.example", "api.example", true);
    check("EXAMPLE", "Api.Example", true);
    check("api.example", "api.example", true);
    check(".api.example", "api.example", false);
    check("*.api.example", "api.example", false);
    check("i.example", "api.example", false);
    check("api.example:6443", "api.example:6443", true);
    check("api.example:443", "api.example", true);
    check("api.example:6443", "api.example", false);
    check(".example:1", "api.example:1", true);
    check(":6443", "api.example:6443", false);
    check("10.0.0.0/8", "10.96.0.1", true);
    check("10.0.0.0/8", "11.96.0.1", false);
    check("10.96.0.1", "10.96.0.1:6443", true);
    check("10.96.0.1:6443", "10.96.0.1:6443", true);
    check("10.96.0.1:6443", "10.96.0.1", false);
    check("10.96.0.", "10.96.0.1", false);
    check("10.0.0.0/8", "api.example", false);
    check("fd00::/8", "[fd00::1]:6443", true);
    check("fd00::1", "[fd00::1]:6443", true);
    check("[fd00::1]:6443", "[fd00::1]:6443", true);
    check("[fd00::1]:6443", "[fd00::1]", false);
}
