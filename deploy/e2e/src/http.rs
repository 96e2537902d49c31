//! One GET of a health page or of the metrics.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The status code of `path` at `address`.
pub fn status(address: SocketAddr, path: &str) -> io::Result<u16> {
    get(address, path).map(|(code, _)| code)
}

/// The status code and the body of `path` at `address`.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    // HTTP/1.0: the body is not chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let code = reply.split(' ').nth(1).and_then(|code| code.parse().ok());
    match (code, reply.split_once("\r\n\r\n")) {
        (Some(code), Some((_, body))) => Ok((code, body.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, reply)),
    }
}

/// The sum of a metric's samples whose line contains each of `labels`; 0 if there are none yet.
pub fn metric(address: SocketAddr, name: &str, labels: &[&str]) -> f64 {
    let (_, text) = get(address, "/metrics").expect("/metrics");
    let samples = text.lines().filter(|line| {
        let behind = line.strip_prefix(name);
        behind.is_some_and(|behind| behind.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
