//! Selects the proxy of the API server: `proxy-url`, else the environment by the rules of Go's
//! httpproxy.

use std::net::IpAddr;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use ipnet::IpNet;

use super::access::Environment;
use super::{SettingError, url};

/// Variables for http, for https, and for exceptions. The first that is not empty counts.
pub(super) const VARIABLES: [[&str; 2]; 3] =
    [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"], ["NO_PROXY", "no_proxy"]];

pub(super) struct Proxy {
    pub(super) url: Uri,
    pub(super) way: ProxyProtocol,
}

/// How the proxy opens a connection.
pub(super) enum ProxyProtocol {
    /// CONNECT, over TLS if the URL is https.
    Tunnel(Option<HeaderValue>),
    /// Version 5.
    Socks(Option<(String, String)>),
}

impl Proxy {
    /// `name`: the setting that the text comes from.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, SettingError> {
        let failed = || SettingError {
            cause: format!("{name} {}: not a usable proxy", url::shown(text)),
            next_step: Some("write it like http://proxy.example:3128; https and socks5 also work"),
        };
        // This also parses user and password.
        let matcher = Matcher::builder().https(text.trim()).build();
        let found =
            matcher.intercept(&Uri::from_static("https://any.invalid")).ok_or_else(failed)?;
        let url = found.uri().clone();
        let way = match url.scheme_str() {
            Some("http" | "https") => ProxyProtocol::Tunnel(found.basic_auth().cloned()),
            Some("socks5" | "socks5h") if url.port().is_some() => {
                let auth = found.raw_auth();
                ProxyProtocol::Socks(
                    auth.map(|(name, password)| (name.to_owned(), password.to_owned())),
                )
            }
            _ => return Err(failed()),
        };
        Ok(Self { url, way })
    }

    /// Without user and password.
    pub(super) fn shown(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }
}

/// The proxy that the environment sets for `url`, unless NO_PROXY matches.
pub(super) fn of_environment(
    url: &Uri,
    environment: &Environment,
) -> Result<Option<Proxy>, SettingError> {
    let [http, https, no_proxy] = VARIABLES;
    let names = if url.scheme() == Some(&Scheme::HTTP) { http } else { https };
    let Some(proxy) = environment.variable(&names) else { return Ok(None) };
    if is_direct(url, environment.variable(&no_proxy).unwrap_or_default()) {
        return Ok(None);
    }
    Proxy::parse(names[0], proxy).map(Some)
}

/// Whether a URL needs no proxy: it is this machine, or `no_proxy` lists it.
fn is_direct(url: &Uri, no_proxy: &str) -> bool {
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let default_port = if url.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    let port = url.port_u16().unwrap_or(default_port).to_string();
    let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    no_proxy.split(',').any(|entry| covers(&entry.trim().to_ascii_lowercase(), host, ip, &port))
}

/// An entry is `*`, a network, or an address or name with an optional port. A name also covers the
/// names below it; one that begins with a dot or `*.` covers only those.
fn covers(entry: &str, host: &str, ip: Option<IpAddr>, port: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return ip.is_some_and(|ip| network.contains(&ip));
    }
    let without_brackets =
        |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (name, its_port) = match entry.rsplit_once(':') {
        // An IPv6 address contains colons, but has a port only after brackets.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (without_brackets(name), port)
        }
        Some(_) | None => (without_brackets(entry), ""),
    };
    if name.is_empty() || !(its_port.is_empty() || its_port == port) {
        return false;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return ip == Some(address.to_canonical());
    }
    let below = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&name);
    match below.strip_prefix('.') {
        Some(_) => host.ends_with(below),
        None => host == below || host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.')),
    }
}
