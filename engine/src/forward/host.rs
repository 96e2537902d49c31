//! Host names of upstreams in the Corefile, resolved to addresses. Control plane only.
//!
//! Invariant: the system's resolver is asked only where no `resolver` is configured.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::Rtype;
use domain::base::{Message, Name};
use domain::rdata::{A, Aaaa};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout, timeout_at};
use wire::reply::MESSAGE_LEN_MAX;
use wire::response::{UpstreamPacket, read};

use super::UpstreamQuestion;
use super::query::{Query, QueryForm};
use super::udp::{self, Route};
use crate::client::Transport;
use crate::limits::FORWARD_TIMEOUT;
use crate::question::OwnedQuestion;

/// Time for one query to a configured resolver.
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses of a host, without duplicates. Queries the system's resolver if `resolvers` is
/// empty, else each of these until one answers.
///
/// # Errors
/// Why there are none, for an error message.
pub(super) async fn look_up(host: &str, resolvers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
    if resolvers.is_empty() {
        return match timeout(FORWARD_TIMEOUT, lookup_host((host, 0))).await {
            Ok(Ok(found)) => unique(found.map(|address| address.ip())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the system's resolver does not respond".into()),
        };
    }
    let Ok(name) = host.parse::<Name<Vec<u8>>>() else {
        return Err("not a domain name".into());
    };
    let mut problem = String::new();
    for resolver in resolvers {
        match ask_both(&name, *resolver).await {
            Ok(found) => return Ok(found),
            Err(next) => problem = format!("{resolver}: {next}"),
        }
    }
    Err(problem)
}

async fn ask_both(name: &Name<Vec<u8>>, resolver: SocketAddr) -> Result<Vec<IpAddr>, String> {
    let (v4, v6) = tokio::join!(ask(name, Rtype::A, resolver), ask(name, Rtype::AAAA, resolver));
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => unique(v4.into_iter().chain(v6)),
        // The addresses of one family are enough.
        (Ok(found), Err(problem)) | (Err(problem), Ok(found)) => {
            if found.is_empty() {
                Err(problem)
            } else {
                unique(found)
            }
        }
        (Err(problem), Err(_)) => Err(problem),
    }
}

fn unique(found: impl IntoIterator<Item = IpAddr>) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("no address".into()) } else { Ok(addresses) }
}

async fn ask(
    name: &Name<Vec<u8>>,
    rtype: Rtype,
    resolver: SocketAddr,
) -> Result<Vec<IpAddr>, String> {
    let question = UpstreamQuestion {
        question: Arc::new(OwnedQuestion::new(name.as_slice(), rtype.to_int())),
        recursion_desired: true,
        transport: Transport::Udp,
        options: None,
    };
    // Without an OPT, which some servers do not support. An upstream has few addresses anyway.
    let query = Query::new(&question, QueryForm { randomize_case: false, has_edns: false });
    let until = Instant::now() + RESOLVER_TIMEOUT;
    let io_error = |error: std::io::Error| error.to_string();
    let socket = udp::open(Route { to: resolver, from: None }).map_err(io_error)?;
    socket.send(query.message()).await.map_err(io_error)?;
    let mut packet = vec![0; MESSAGE_LEN_MAX];
    loop {
        let received = timeout_at(until, socket.recv(&mut packet)).await;
        let len = received.map_err(|_| "no response in time".to_owned())?.map_err(io_error)?;
        match read(&packet[..len], &query.asked()) {
            UpstreamPacket::Foreign => {}
            // What fits into a truncated response is enough.
            UpstreamPacket::Answer(_) | UpstreamPacket::Truncated(_) => {
                return addresses(&packet[..len]);
            }
            UpstreamPacket::Malformed => return Err("malformed response".into()),
        }
    }
}

/// The address records of a response, whatever their owner: it may be the end of a CNAME chain, and
/// `read` has checked that the response answers the query.
fn addresses(packet: &[u8]) -> Result<Vec<IpAddr>, String> {
    let message = Message::from_octets(packet).map_err(|error| error.to_string())?;
    let answer = message.answer().map_err(|error| error.to_string())?;
    let v4 = answer.limit_to_in::<A>().flatten().map(|record| IpAddr::V4(record.data().addr()));
    let v6 = answer.limit_to_in::<Aaaa>().flatten().map(|record| IpAddr::V6(record.data().addr()));
    Ok(v4.chain(v6).collect())
}
