//! The address of the API server: a URL, or a host with a port.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::SettingError;

/// Without a scheme, the address is https if TLS is configured, else http. Query and fragment are
/// dropped, because requests have their own.
pub(super) fn parse(text: &str, is_tls: bool) -> Result<Uri, SettingError> {
    let text = text.trim();
    let failed = |cause: &str| {
        let next_step = "write the server like https://10.0.0.1:6443";
        SettingError {
            cause: format!("server {}: {cause}", shown(text)),
            next_step: Some(next_step),
        }
    };
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::HTTPS, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::HTTP, rest),
        Some(_) => return Err(failed("neither http nor https")),
        None if is_tls => (Scheme::HTTPS, text),
        None => (Scheme::HTTP, text),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(failed("user and password belong in the kubeconfig's user"));
    }
    let authority: Authority = authority.parse().map_err(|_| failed("missing or invalid host"))?;
    let is_bracketed = authority.host().starts_with('[');
    if authority.host().is_empty() || (authority.host().contains(':') && !is_bracketed) {
        return Err(failed("missing host, or an IPv6 address without brackets"));
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if !matches!(port, "" | ":") && authority.port_u16().is_none() {
        return Err(failed("invalid port"));
    }
    let path: PathAndQuery = match path.trim_end_matches('/') {
        "" => PathAndQuery::from_static("/"),
        path => path.parse().map_err(|_| failed("invalid path"))?,
    };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    uri.map_err(|error| failed(&error.to_string()))
}

/// Adds the default port of the scheme if the URL has none.
pub(super) fn with_port(url: Uri) -> Uri {
    let port = if url.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    let (None, Some(host)) = (url.port_u16(), url.host()) else { return url };
    let authority = Authority::try_from(format!("{host}:{port}"));
    let mut parts = url.clone().into_parts();
    parts.authority = authority.ok();
    Uri::from_parts(parts).unwrap_or(url)
}

/// The text without user and password.
pub(super) fn shown(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        (_, None) => text.to_owned(),
    }
}
