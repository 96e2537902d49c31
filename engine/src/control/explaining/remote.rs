//! `/explain` of a running server: the request that `explain --server` sends, and what the server
//! reads from it.
//!
//! Invariant: a request is read with bounds on its parameters; what is unknown in it is an error.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

use anyhow::{Context as _, bail};
use engine::cli::{ExplainOptions, QuestionType, parse_bool, parse_qtype};
use engine::limits::{EXPLANATION_LEN_MAX, HTTP_CONNECTION_TIMEOUT};

const TYPE_A: u16 = 1;

/// What the server at this address says.
pub(super) fn explain(address: &str, options: &ExplainOptions) -> anyhow::Result<String> {
    let at = || format!("--server {address}");
    let resolved = address.to_socket_addrs().with_context(at)?.next().with_context(at)?;
    let http = || format!("{}: not the address of a `health`, `ready` or `prometheus`", at());
    let mut stream =
        TcpStream::connect_timeout(&resolved, HTTP_CONNECTION_TIMEOUT).with_context(http)?;
    stream.set_read_timeout(Some(HTTP_CONNECTION_TIMEOUT)).with_context(at)?;
    let query = written(options)?;
    let request = format!("GET /explain?{query} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(at)?;
    let mut response = String::new();
    stream.take(EXPLANATION_LEN_MAX).read_to_string(&mut response).with_context(at)?;
    let (head, body) = response.split_once("\r\n\r\n").with_context(|| {
        format!("{}, or no whole response within {HTTP_CONNECTION_TIMEOUT:?}", http())
    })?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("404") => bail!("{}: this server has no /explain; is it ringdns?", at()),
        _ => bail!("{}: {}", at(), body.trim_end()),
    }
}

/// The query of the URL.
fn written(options: &ExplainOptions) -> anyhow::Result<String> {
    let is_plain = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | '*')
    };
    let namespace = options.namespace.as_deref().unwrap_or_default();
    for text in [&options.name, namespace] {
        if !text.chars().all(is_plain) {
            bail!("'{text}' cannot be asked of a server: use letters, digits, '.', '-', '_', '*'");
        }
    }
    let mut query = format!("name={}&type={}", options.name, options.qtype.0);
    if let Some(from) = options.from {
        query += &format!("&from={from}");
    }
    if !namespace.is_empty() {
        query += &format!("&namespace={namespace}");
    }
    if let Some(port) = options.port {
        query += &format!("&port={port}");
    }
    if options.no_upstreams {
        query += "&no-upstreams";
    }
    if options.json {
        query += "&json";
    }
    Ok(query)
}

/// The options in the query of a URL.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(query: &str) -> anyhow::Result<ExplainOptions> {
    let mut options = ExplainOptions {
        name: String::new(),
        qtype: QuestionType(TYPE_A),
        from: None,
        namespace: None,
        conf: None,
        server: None,
        port: None,
        no_upstreams: false,
        json: false,
    };
    let mut keys_read = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let wrong = || format!("{key}={value}");
        // Only `no-upstreams` and `json` need no value.
        let flag = || match part.split_once('=') {
            None => Ok(true),
            Some((_, text)) => parse_bool(text).map_err(anyhow::Error::msg).with_context(wrong),
        };
        if keys_read.contains(&key) {
            bail!("{key}: a parameter can be given once");
        }
        match key {
            "name" => options.name = value.to_owned(),
            "type" => {
                options.qtype = match value.parse() {
                    Ok(number) => QuestionType(number),
                    Err(_) => parse_qtype(value).map_err(anyhow::Error::msg).with_context(wrong)?,
                }
            }
            "from" => options.from = Some(value.parse().with_context(wrong)?),
            "namespace" => options.namespace = Some(value.to_owned()),
            "port" => options.port = Some(value.parse().with_context(wrong)?),
            "no-upstreams" => options.no_upstreams = flag()?,
            "json" => options.json = flag()?,
            _ => bail!(
                "unknown parameter '{key}': there are name, type, from, namespace, port, \
                 no-upstreams and json"
            ),
        }
        // All are known, so there are few.
        keys_read.push(key);
    }
    if options.name.is_empty() {
        bail!("no name: write /explain?name=NAME");
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        for (query, expected) in [
            ("", Ok((false, false))),
            ("&no-upstreams&json", Ok((true, true))),
            ("&no-upstreams=true&json=1", Ok((true, true))),
            ("&no-upstreams=false&json=0", Ok((false, false))),
            ("&no-upstreams=", Err("no-upstreams=: expected true or false")),
            ("&json=no", Err("json=no: expected true or false")),
            ("&json&json=false", Err("json: a parameter can be given once")),
            ("&name=y", Err("name: a parameter can be given once")),
            ("&port=x", Err("port=x: invalid digit found in string")),
        ] {
            let options = read(&format!("name=x{query}"));
            let found = options.map(|options| (options.no_upstreams, options.json));
            let found = found.map_err(|error| format!("{error:#}"));
            assert_eq!(found, expected.map_err(str::to_owned), "{query}");
        }
    }
}
