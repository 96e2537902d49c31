//! The server's own request to its `/health`, once per second: how long the control plane takes to
//! respond.
//!
//! CoreDNS exports the same. A control plane that is busy or starved shows here before the
//! kubelet's probe fails. Invariant: only a change between success and failure is logged.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::limits::HEALTH_POLL_TIMEOUT;
use crate::metrics::Metrics;

const PERIOD: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ringdns\r\n\r\n";
const EXPECTED: &[u8] = b"HTTP/1.1 200 ";

/// Polls until it is aborted. Logs when polling starts to fail and when it works again.
pub(super) async fn poll(listener: SocketAddr, metrics: Arc<Metrics>) {
    let address = reachable(listener);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_answered = true;
    loop {
        ticks.tick().await;
        let begin = Instant::now();
        let outcome = match timeout(HEALTH_POLL_TIMEOUT, request(address)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        metrics.health_polled(begin.elapsed(), outcome.is_ok());
        match &outcome {
            Err(error) if was_answered => tracing::warn!(
                "plugin/health: Local health request to \"http://{address}/health\" failed: {error}"
            ),
            Ok(()) if !was_answered => {
                tracing::info!("plugin/health: Local health requests succeed again");
            }
            Ok(()) | Err(_) => {}
        }
        was_answered = outcome.is_ok();
    }
}

/// The loopback address, if the listener has all addresses.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        // Without IPv6 addresses the wildcard still takes IPv4.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

async fn request(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut start = [0; EXPECTED.len()];
    stream.read_exact(&mut start).await?;
    if start == EXPECTED { Ok(()) } else { Err(io::Error::other("it is not 200 OK")) }
}
